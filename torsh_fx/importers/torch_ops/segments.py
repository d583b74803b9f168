"""Runs of equal elements, segments of rows, and positions in a fixed number of places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, Expr, product
from torsh_dialect.ops import datadependent, scatter, sort
from torsh_dialect.ops.compare import NotEqualOp
from torsh_dialect.ops.reduce import AnyOp
from torsh_dialect.ops.scan import CumSumOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts
from torsh_fx.importers.torch_ops.symbolic import bind_extent


@converts("unique_consecutive", "unique_dim_consecutive")
def _unique_consecutive(c: NodeBuilder, x: SSAValue, *rest: Any) -> list[SSAValue | None]:
    """Runs of equal elements; along one axis, of slices, where ATen gives all three results."""
    along = "unique_dim" in str(c.node.target)
    dim = rest[0] if along else (rest[2] if len(rest) > 2 else None)
    flat = c.reshape(x, [product(dims_of(x))]) if dim is None else x
    axis = c.axis(dim or 0, rank_of(flat))
    empty = c.full(0, [0], dtypes.i64)
    if c.out_dims(0)[axis] == 0:
        return [flat, c.full(0, c.out_dims(1), dtypes.i64), empty]
    total, starts = dims_of(flat)[axis], _run_starts(c, flat, axis)
    places = c.b(datadependent.NonzeroOp, starts, count=str(c.out_dims(0)[axis]))
    places = c.squeeze(places, 1)
    count = dims_of(places)[0]
    ends = c.concat([c.cut(places, 0, 1, count - 1), c.reshape(c.dim(total), [1])], 0)
    numbers = c.sub(c.b(CumSumOp, c.cast(starts, dtypes.i64), axis=0), 1)
    found = [numbers, c.sub(ends, places)]
    if dim is None:
        asked = [*rest[:2], False, False]
        found = [c.reshape(numbers, dims_of(x)) if asked[0] else empty, *found[1:]]
        found = [found[0], found[1] if asked[1] else empty]
    return [c.take(flat, places, axis), *found]


def _run_starts(c: NodeBuilder, x: SSAValue, axis: int) -> SSAValue:
    """Which slices along an axis differ from the one before; the first does."""
    total, others = dims_of(x)[axis], [n for n in range(rank_of(x)) if n != axis]
    before = c.concat([c.cut(x, axis, 0, 1), c.cut(x, axis, 0, total - 1)], axis)
    changed = c.b(NotEqualOp, x, before)
    changed = c.b(AnyOp, changed, axes=others) if others else changed
    return c.either(changed, c.eq(c.iota(total), 0))


@converts("repeat_interleave.Tensor")
def _repeated_places(
    c: NodeBuilder, repeats: SSAValue, *, output_size: int | None = None
) -> SSAValue:
    """Each place as often as its entry says."""
    counts = c.cast(repeats, dtypes.i64)
    (count,) = c.out_dims()
    if isinstance(count, Expr) and output_size is None:
        bind_extent(c, c.sum(counts, [0]), count)
    ends = c.b(CumSumOp, counts, axis=0)
    return c.finished(c.b(sort.SearchSortedOp, ends, c.iota(count), right=True))


@converts("nonzero_static")
def _nonzero_static(c: NodeBuilder, x: SSAValue, *, size: int, fill_value: int = -1) -> SSAValue:
    dims, total = dims_of(x), product(dims_of(x))
    hit = c.cast(c.cast(c.reshape(x, [total]), dtypes.i1), dtypes.i64)
    place = c.sub(c.b(CumSumOp, hit, axis=0), 1)
    kept = c.both(c.eq(hit, 1), c.lt(place, size))
    target = c.where(kept, place, c.like(size, place))
    start = c.full(-1, [size + 1], dtypes.i64)
    flat = c.b(scatter.ScatterElementsOp, start, target, c.iota(total), axis=0, reduction="none")
    flat = c.slice(flat, 0, 0, size)
    columns: list[SSAValue] = []
    for n, extent in enumerate(dims):
        inner = c.dim(product(dims[n + 1 :]))
        column = c.remainder(c.floordiv(flat, inner), c.dim(extent))
        column = c.where(c.lt(flat, 0), c.like(fill_value, flat), column)
        columns.append(c.unsqueeze(column, 1))
    return c.concat(columns, 1) if columns else c.full(0, [size, 0], dtypes.i64)


START = {"sum": 0.0, "mean": 0.0, "max": -math.inf, "min": math.inf, "prod": 1.0}
FOLD = {"sum": "add", "mean": "add", "max": "max", "min": "min", "prod": "mul"}


@converts("segment_reduce")
def _segment_reduce(
    c: NodeBuilder,
    x: SSAValue,
    reduce: str,
    *,
    lengths: SSAValue | None = None,
    indices: Any = None,
    offsets: SSAValue | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: Scalar | None = None,
) -> SSAValue:
    given = lengths if offsets is None else offsets
    if given is None:
        raise c.refuse("segments by indices")
    axis, element = axis % rank_of(x), element_type(x)
    outer, rows, inner = dims_of(x)[:axis], dims_of(x)[axis], dims_of(x)[axis + 1 :]
    segment, count = _segments(c, c.cast(given, dtypes.i64), rows, offsets is not None)
    slots = product(outer) * (count + 1)
    first = c.tensor(START[reduce] if initial is None else initial, element)

    def folded(start: Scalar, values: SSAValue, rest: Sequence[Dim]) -> SSAValue:
        """Rows added up, the last of the slots being for those outside of all segments."""
        start = c.full(start, [slots, *rest], element)
        y = c.b(scatter.ScatterNdOp, start, segment, values, reduction=FOLD[reduce])
        y = c.reshape(y, [product(outer), count + 1, *rest])
        return c.reshape(c.slice(y, 1, 0, count), [*outer, count, *rest])

    y = folded(first, c.reshape(x, [product(outer) * rows, *inner]), inner)
    if reduce != "mean":
        return y
    size = folded(0.0, c.full(1.0, [product(outer) * rows], element), [])
    size = c.reshape(size, [*outer, count, *[1] * len(inner)])
    mean = c.div(y, size)
    return mean if initial is None else c.where(c.eq(size, 0.0), first, mean)


def _segments(c: NodeBuilder, given: SSAValue, rows: Dim, bounds: bool) -> tuple[SSAValue, Dim]:
    """The slot of each row [n, 1], and how many segments there are along the axis.

    Args:
        c: The builder.
        given: Lengths [..., segments], or with `bounds` the offsets [..., segments + 1].
        rows: The extent of the axis.
        bounds: Whether `given` is offsets.
    """
    *outer, last = dims_of(given)
    batch, count = product(outer), last - 1 if bounds else last
    flat = c.reshape(given, [batch, last])
    if not bounds:
        total = c.b(CumSumOp, flat, axis=1)
        flat = c.concat([c.full(0, [batch, 1], dtypes.i64), total], 1)
    places = c.broadcast(c.unsqueeze(c.iota(rows), 0), [batch, rows])
    segment = c.sub(c.b(sort.SearchSortedOp, flat, places, right=True), 1)
    segment = c.where(c.lt(segment, 0), c.dim(count), segment)
    base = c.mul(c.unsqueeze(c.iota(batch), 1), c.dim(count + 1))
    return c.reshape(c.add(segment, base), [batch * rows, 1]), count
