"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect.dims import Dim, product
from torsh_dialect.ops import pool
from torsh_dialect.ops.elementwise import FloorDivOp
from torsh_dialect.ops.reduce import lowest
from torsh_dialect.ops.scatter import ScatterElementsOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts, spatial, used


def _pool_rank(c: NodeBuilder) -> int:
    return next(int(ch) for ch in str(c.node.target) if ch.isdigit())


def _batched(c: NodeBuilder, x: SSAValue, rank: int) -> tuple[SSAValue, bool]:
    lacking = rank_of(x) == rank + 1
    return (c.unsqueeze(x, 0) if lacking else x), lacking


@converts(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "max_pool1d_with_indices",
)
def _max_pool(
    c: NodeBuilder,
    x: SSAValue,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    rank = _pool_rank(c)
    x, lacking = _batched(c, x, rank)
    window = spatial(kernel, rank)
    options: dict[str, Any] = {
        "kernel": window,
        "strides": spatial(stride, rank) if stride else window,
        "pads": spatial(padding, rank) * 2,
        "dilations": spatial(dilation, rank),
        "ceil_mode": ceil_mode or None,
    }
    with_indices = "indices" in str(c.node.target)
    if with_indices and used(c, 1):
        pair = c.b.all(pool.MaxPoolIndicesOp, x, **options)
        return [c.squeeze(v, 0) if lacking else v for v in pair]
    y = c.b(pool.MaxPoolOp, x, **options)
    y = c.squeeze(y, 0) if lacking else y
    return (y, None) if with_indices else y


@converts("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(
    c: NodeBuilder,
    x: SSAValue,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> SSAValue:
    rank = _pool_rank(c)
    x, lacking = _batched(c, x, rank)
    window = spatial(kernel, rank)
    y = c.b(
        pool.AvgPoolOp,
        x,
        kernel=window,
        strides=spatial(stride, rank) if stride else window,
        pads=spatial(padding, rank) * 2,
        ceil_mode=ceil_mode or None,
        include_pad=count_include_pad or None,
        divisor=divisor_override,
    )
    return c.squeeze(y, 0) if lacking else y


@converts(
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
)
def _adaptive(c: NodeBuilder, x: SSAValue, output: Any) -> Any:
    rank = _pool_rank(c)
    x, lacking = _batched(c, x, rank)
    averages = "avg" in str(c.node.target)
    bins = c.out_dims(None if averages else 0)[-rank:]
    if not all(isinstance(n, int) for n in bins):
        found = [c.squeeze(v, 0) if lacking else v for v in _symbolic_bins(c, x, bins, averages)]
        return found[0] if averages else found
    size = [int(str(n)) for n in bins]
    if averages and size == [1] * rank:
        y = c.mean(x, list(range(rank_of(x) - rank, rank_of(x))), keep=True)
        return c.squeeze(y, 0) if lacking else y
    if averages:
        y = c.b(pool.AdaptiveAvgPoolOp, x, output=size)
        return c.squeeze(y, 0) if lacking else y
    pair = c.b.all(pool.AdaptiveMaxPoolOp, x, output=size)
    return [c.squeeze(v, 0) if lacking else v for v in pair]


def _symbolic_bins(
    c: NodeBuilder, x: SSAValue, output: Sequence[Dim], averages: bool
) -> list[SSAValue]:
    """Adaptive pooling with symbolic numbers of bins, axis by axis: values, and places of maxima.

    Bins of one axis after the other are the bins of all: a mean of means of as many elements each,
    and the first of the largest in row-major order.
    """
    first, place = rank_of(x) - len(output), None
    y = c.wide(x) if averages else x
    for axis in reversed(range(first, rank_of(x))):
        extent, bins = dims_of(x)[axis], output[axis - first]
        if extent == bins and averages:
            continue
        starts, ends = _bin_ends(c, extent, bins, rank_of(x) - axis)
        taps = c.per_channel(c.iota(extent), rank_of(x) - axis, 0)
        inside = c.both(c.le(starts, taps), c.lt(taps, ends))
        apart = c.unsqueeze(y, axis)  # [..., bins, extent, ...]
        if averages:
            total = c.sum(c.where(inside, apart, c.like(0, y)), [axis + 1])
            y = c.div(total, c.cast_like(c.squeeze(c.sub(ends, starts), 1), y))
            continue
        least = c.like(lowest(element_type(y)), y)
        apart = c.where(inside, apart, least)
        at = c.squeeze(c.argmax(apart, axis + 1), axis + 1)
        top = c.max(apart, [axis + 1])
        at = c.where(c.eq(top, least), c.squeeze(starts, 1), at)  # none outside of the bin
        stride = c.dim(product(dims_of(x)[axis + 1 :]))
        place = at if place is None else c.add(c.mul(at, stride), c.take_along(place, at, axis))
        y = top
    return [c.narrow(y, x) if averages else y, *([] if place is None else [place])]


def _bin_ends(c: NodeBuilder, extent: Dim, bins: Dim, rank: int) -> tuple[SSAValue, SSAValue]:
    """The first position of each adaptive bin and that behind its last, along axis 0 of `rank` + 1.

    Bin i of m over n elements is [i * n // m, ceil((i + 1) * n / m)).
    """
    n, m, i = c.dim(extent), c.dim(bins), c.iota(bins)
    starts = c.b(FloorDivOp, c.mul(i, n), m)
    ends = c.b(FloorDivOp, c.add(c.mul(c.add(i, 1), n), c.sub(m, 1)), m)
    return c.per_channel(starts, rank + 1, 0), c.per_channel(ends, rank + 1, 0)


@converts("max_unpool2d", "max_unpool3d")
def _max_unpool(
    c: NodeBuilder, x: SSAValue, indices: SSAValue, output: Any, *rest: Any
) -> SSAValue:
    rank = _pool_rank(c)
    x, lacking = _batched(c, x, rank)
    indices, _ = _batched(c, indices, rank)
    y = c.b(pool.MaxUnpoolOp, x, indices, output=spatial(output, rank))
    return c.squeeze(y, 0) if lacking else y


@converts("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def _max_pool_backward(
    c: NodeBuilder, y: SSAValue, x: SSAValue, *rest: Any, **options: Any
) -> SSAValue:
    """Each element of `y` added where its maximum stood: a scatter, whose last operand is where."""
    rank, indices = _pool_rank(c), [*rest, *options.values()][-1]
    dims = dims_of(x)
    outer = list(dims[:-rank])

    def flat(v: SSAValue) -> SSAValue:
        return c.reshape(v, [*outer, product(dims_of(v)[-rank:])])

    start = c.full(0, [*outer, product(dims[-rank:])], element_type(x))
    found = c.b(ScatterElementsOp, start, flat(indices), flat(y), axis=len(outer), reduction="add")
    return c.reshape(found, dims)
