"""Runs of equal elements, segments of rows, and positions in a fixed number of places."""

from __future__ import annotations

import math
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import product
from torsh_dialect.ops import datadependent, scatter, sort
from torsh_dialect.ops.compare import NotEqualOp
from torsh_dialect.ops.scan import CumSumOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts


@converts("unique_consecutive")
def _unique_consecutive(
    c: NodeBuilder,
    x: SSAValue,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> list[SSAValue | None]:
    if dim is not None and rank_of(x) != 1:
        raise c.refuse("unique_consecutive along one axis of several")
    total = product(dims_of(x))
    flat, name = c.reshape(x, [total]), str(c.out_dims(0)[0])
    before = c.concat([c.cut(flat, 0, 0, 1), c.cut(flat, 0, 0, total - 1)], 0)
    starts = c.either(c.b(NotEqualOp, flat, before), c.eq(c.iota(total), 0))
    values = c.b(datadependent.MaskedSelectOp, flat, starts, count=name)
    numbers = c.sub(c.b(CumSumOp, c.cast(starts, dtypes.i64), axis=0), 1)
    places = c.b(datadependent.NonzeroOp, starts, count=name)
    places = c.squeeze(places, 1)
    count = dims_of(places)[0]
    ends = c.concat([c.cut(places, 0, 1, count - 1), c.reshape(c.dim(total), [1])], 0)
    inverse = c.reshape(numbers, dims_of(x)) if return_inverse else None
    counts = c.sub(ends, places) if return_counts else None
    empty = c.full(0, [0], dtypes.i64)
    return [values, inverse or empty, counts or empty]


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
    if given is None or rank_of(given) != 1 or axis != 0:
        raise c.refuse("segments along another axis than the first")
    rows, rest = dims_of(x)[0], dims_of(x)[1:]
    if offsets is None:
        ends = c.b(CumSumOp, c.cast(given, dtypes.i64), axis=0)
    else:
        ends = c.slice(c.cast(given, dtypes.i64), 0, 1, dims_of(given)[0] - 1)
    count = dims_of(ends)[0]
    segment = c.b(sort.SearchSortedOp, ends, c.iota(rows), right=True)
    first = c.tensor(START[reduce] if initial is None else initial, element_type(x))
    start = c.full(first, [count, *rest], element_type(x))
    place = c.reshape(segment, [rows, 1])
    y = c.b(scatter.ScatterNdOp, start, place, x, reduction=FOLD[reduce])
    if reduce != "mean":
        return y
    ones = c.full(1.0, [rows], element_type(x))
    size = c.b(
        scatter.ScatterNdOp, c.full(0.0, [count], element_type(x)), place, ones, reduction="add"
    )
    mean = c.div(y, c.reshape(size, [count, *[1] * len(rest)]))
    if initial is None:
        return mean
    empty = c.eq(c.reshape(size, [count, *[1] * len(rest)]), 0.0)
    return c.where(empty, first, mean)
