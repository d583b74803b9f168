"""Writing into views, as functionalisation leaves it: the tensor with a part replaced."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, product
from torsh_dialect.ops import scatter
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts
from torsh_fx.importers.torch_ops.movement import place_of, slice_span


@converts("slice_scatter")
def _slice_scatter(
    c: NodeBuilder,
    x: SSAValue,
    source: SSAValue,
    dim: int = 0,
    start: Dim | None = None,
    end: Dim | None = None,
    step: Dim = 1,
) -> SSAValue:
    axis = dim % rank_of(x)
    first, size = slice_span(c, dims_of(x)[axis], start, end, step)
    source = c.cast(source, element_type(x))
    if step == 1:
        return _between(c, x, source, axis, first)
    places = c.add(c.mul(c.iota(size), c.tensor(step, dtypes.i64)), c.tensor(first, dtypes.i64))
    return _put(c, x, source, axis, places)


@converts("select_scatter")
def _select_scatter(
    c: NodeBuilder, x: SSAValue, source: SSAValue, dim: int, index: Dim
) -> SSAValue:
    axis = dim % rank_of(x)
    row = c.unsqueeze(c.cast(source, element_type(x)), axis)
    return _between(c, x, row, axis, place_of(c, index, dims_of(x)[axis]))


def _between(c: NodeBuilder, x: SSAValue, part: SSAValue, axis: int, first: Dim) -> SSAValue:
    """X with `part` in place of what lies at `first` along an axis."""
    extent, behind = dims_of(x)[axis], first + dims_of(part)[axis]
    parts = [c.cut(x, axis, 0, first), part, c.cut(x, axis, behind, extent - behind)]
    return c.concat([p for p in parts if dims_of(p)[axis] != 0] or [x], axis)


@converts("diagonal_scatter")
def _diagonal_scatter(
    c: NodeBuilder, x: SSAValue, source: SSAValue, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> SSAValue:
    first, second = dim1 % rank_of(x), dim2 % rank_of(x)
    length = dims_of(source)[-1]
    step = c.iota(length)
    rest = [n for n in range(rank_of(x)) if n not in (first, second)]
    moved = c.transpose(x, [first, second, *rest])
    updates = c.transpose(source, [rank_of(source) - 1, *range(rank_of(source) - 1)])
    y = c.b(
        scatter.IndexPutOp,
        moved,
        [c.add(step, max(-offset, 0)), c.add(step, max(offset, 0))],
        c.cast(updates, element_type(x)),
        axes=[0, 1],
        reduction="none",
    )
    back = [[first, second, *rest].index(n) for n in range(rank_of(x))]
    return c.transpose(y, back)


def _put(c: NodeBuilder, x: SSAValue, source: SSAValue, axis: int, places: SSAValue) -> SSAValue:
    return c.b(scatter.IndexPutOp, x, [places], source, axes=[axis], reduction="none")


@converts("as_strided_scatter")
def _as_strided_scatter(
    c: NodeBuilder,
    x: SSAValue,
    source: SSAValue,
    size: Sequence[Dim],
    stride: Sequence[int],
    offset: Dim | None = None,
) -> SSAValue:
    places = c.tensor(offset or 0, dtypes.i64)
    for n, (extent, step) in enumerate(zip(size, stride, strict=True)):
        along = c.per_channel(c.mul(c.iota(extent), step), len(size), n)
        places = c.add(places, along)
    flat = c.reshape(x, [product(dims_of(x))])
    count = product(size)
    places = c.reshape(c.broadcast(places, size), [count])
    y = c.b(
        scatter.IndexPutOp,
        flat,
        [places],
        c.reshape(c.cast(source, element_type(x)), [count]),
        axes=[0],
        reduction="none",
    )
    return c.reshape(y, dims_of(x))
