"""Histograms: counts or sums of weights of the elements between edges.

Bins are half open, but the last one holds its upper edge too; elements outside and NaN count
nowhere (aten/native/Histogram.cpp of torch 2.13).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, product
from torsh_dialect.ops.reduce import CountNonzeroOp
from torsh_dialect.ops.scatter import ScatterElementsOp
from torsh_dialect.ops.sort import SearchSortedOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts
from torsh_fx.importers.torch_ops.create import progression


@converts("histc")
def _histc(c: NodeBuilder, x: SSAValue, bins: int = 100, min: Any = 0, max: Any = 0) -> SSAValue:
    flat = c.reshape(x, [product(dims_of(x))])
    low, high = c.tensor(min, element_type(x)), c.tensor(max, element_type(x))
    if min == max:
        low, high = c.min(flat, [0]), c.max(flat, [0])
        same = c.eq(low, high)
        low, high = c.where(same, c.sub(low, 1), low), c.where(same, c.add(high, 1), high)
    place = c.floor(c.div(c.mul(c.sub(flat, low), float(bins)), c.sub(high, low)))
    place = c.minimum(place, float(bins - 1))
    inside = c.both(c.ge(flat, low), c.le(flat, high))
    slot = c.where(inside, c.cast(place, dtypes.i64), c.like(-1, c.cast(place, dtypes.i64)))
    steps = c.iota(bins)
    hits = c.eq(c.unsqueeze(slot, 0), c.unsqueeze(steps, 1))
    return c.finished(c.b(CountNonzeroOp, hits, axes=[1]))


def _points(c: NodeBuilder, x: SSAValue) -> SSAValue:
    """All elements of `[..., d]` as points `[n, d]`."""
    *outer, columns = dims_of(x)
    return c.reshape(x, [product(outer), columns])


def _ends(
    c: NodeBuilder, points: SSAValue, column: int, limits: Sequence[float] | None
) -> tuple[SSAValue, SSAValue]:
    """The outer edges of a column: as given, else its extrema; 0 and 1 for no elements.

    Equal ones are moved apart by 1.
    """
    element = element_type(points)
    if limits is not None:
        low, high = (c.tensor(v, element) for v in limits[2 * column : 2 * column + 2])
    elif dims_of(points)[0] == 0:
        low, high = c.tensor(0.0, element), c.tensor(1.0, element)
    else:
        values = c.cut(points, 1, column, 1)
        low, high = c.min(values, [0, 1]), c.max(values, [0, 1])
    same = c.eq(low, high)
    return c.where(same, c.sub(low, 0.5), low), c.where(same, c.add(high, 0.5), high)


def _edges(
    c: NodeBuilder, points: SSAValue, bins: Sequence[int], limits: Sequence[float] | None
) -> list[SSAValue]:
    return [
        progression(c, *_ends(c, points, column, limits), count + 1)
        for column, count in enumerate(bins)
    ]


def _counted(
    c: NodeBuilder,
    points: SSAValue,
    edges: Sequence[SSAValue],
    weight: SSAValue | None,
    density: bool,
) -> SSAValue:
    """The histogram of points by the edges of each of their columns."""
    element, (total, _) = element_type(points), dims_of(points)
    counts: list[Dim] = [dims_of(row)[0] - 1 for row in edges]
    slot = c.full(0, [total], dtypes.i64)
    inside = c.full(True, [total], dtypes.i1)
    for column, (row, count) in enumerate(zip(edges, counts, strict=True)):
        values = c.squeeze(c.cut(points, 1, column, 1), 1)
        first, last = c.cut(row, 0, 0, 1), c.cut(row, 0, count, 1)
        inside = c.both(inside, c.both(c.ge(values, first), c.le(values, last)))
        place = c.sub(c.b(SearchSortedOp, row, values, right=True), 1)
        place = c.minimum(place, c.dim(count - 1))
        slot = c.add(c.mul(slot, c.dim(count)), place)
    share = c.full(1, [total], element) if weight is None else c.cast(weight, element)
    share = c.reshape(share, [total])
    nothing = c.full(0, [product(counts)], element)
    hist = c.b(
        ScatterElementsOp,
        nothing,
        c.where(inside, slot, c.like(0, slot)),
        c.where(inside, share, c.like(0, share)),
        axis=0,
        reduction="add",
    )
    hist = c.reshape(hist, counts)
    return _densities(c, hist, edges) if density else hist


def _densities(c: NodeBuilder, hist: SSAValue, edges: Sequence[SSAValue]) -> SSAValue:
    """Shares of the total, for each unit of the columns' ranges."""
    hist = c.div(hist, c.sum(hist, list(range(rank_of(hist)))))
    for column, row in enumerate(edges):
        count = dims_of(row)[0] - 1
        width = c.sub(c.cut(row, 0, 1, count), c.cut(row, 0, 0, count))
        others = [n for n in range(len(edges)) if n != column]
        hist = c.div(hist, c.unsqueeze(width, *others))
    return hist


@converts("histogram.bin_ct", "histogram.bins_tensor")
def _histogram(
    c: NodeBuilder,
    x: SSAValue,
    bins: Any,
    *,
    range: Sequence[float] | None = None,
    weight: SSAValue | None = None,
    density: bool = False,
) -> tuple[SSAValue, SSAValue]:
    points = c.reshape(x, [product(dims_of(x)), 1])
    edges = _edges(c, points, [bins], range) if isinstance(bins, int) else [bins]
    return _counted(c, points, edges, weight, density), edges[0]


@converts("_histogramdd_bin_edges")
def _histogramdd_edges(
    c: NodeBuilder,
    x: SSAValue,
    bins: Sequence[int],
    *,
    range: Sequence[float] | None = None,
    weight: SSAValue | None = None,
    density: bool = False,
) -> list[SSAValue]:
    return _edges(c, _points(c, x), bins, range)


@converts("_histogramdd_from_bin_cts", "_histogramdd_from_bin_tensors")
def _histogramdd(
    c: NodeBuilder,
    x: SSAValue,
    bins: Sequence[Any],
    *,
    range: Sequence[float] | None = None,
    weight: SSAValue | None = None,
    density: bool = False,
) -> SSAValue:
    points = _points(c, x)
    counts = [count for count in bins if isinstance(count, int)]
    edges = _edges(c, points, counts, range) if counts else list(bins)
    return _counted(c, points, edges, weight, density)
