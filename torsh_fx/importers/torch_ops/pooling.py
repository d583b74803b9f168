"""Pooling."""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect.dims import product
from torsh_dialect.ops import pool
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
    size = [int(str(o)) for o in c.out_dims(None if averages else 0)[-rank:]]
    if averages and size == [1] * rank:
        y = c.mean(x, list(range(rank_of(x) - rank, rank_of(x))), keep=True)
        return c.squeeze(y, 0) if lacking else y
    if averages:
        y = c.b(pool.AdaptiveAvgPoolOp, x, output=size)
        return c.squeeze(y, 0) if lacking else y
    pair = c.b.all(pool.AdaptiveMaxPoolOp, x, output=size)
    return [c.squeeze(v, 0) if lacking else v for v in pair]


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
