"""What PT2E writes: quantisation, its inverse, and choosing scales, as `quantized_decomposed`.

Arithmetic follows torch's own definitions: quantisation multiplies by 1 / scale, and rounds
before the zero point is added (per tensor and channel) or behind it (per token and group).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dtypes import dtype_of, is_float
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.quant import DequantizeLinearOp, MatMulIntegerOp
from torsh_dialect.ops.select import CastOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts
from torsh_fx.importers.torch_types import element_of

Parameter = SSAValue | float


def _scalar(c: NodeBuilder, value: Parameter, element: dtypes.Element) -> SSAValue:
    """A number, or a tensor of one element, as a scalar."""
    return c.tensor(c.reshape(value, ()) if isinstance(value, SSAValue) else value, element)


def is_zero(c: NodeBuilder, value: Parameter | None) -> bool:
    """Whether a zero point is known to be 0 everywhere: structure of the model, no weight."""
    if value is None or not isinstance(value, SSAValue):
        return not value
    owner = value.owner
    return isinstance(owner, WeightOp) and not np.any(c.graph.shared.ctx.weights[owner.id.data])


def _spread(c: NodeBuilder, value: SSAValue, rank: int, axis: int) -> SSAValue:
    """One value for each index of an axis, so that it broadcasts."""
    return c.reshape(value, [dims_of(value)[0] if n == axis else 1 for n in range(rank)])


def _clamped(c: NodeBuilder, y: SSAValue, low: int, high: int, dtype: Any) -> SSAValue:
    y = c.minimum(c.maximum(y, float(low)), float(high))
    return c.b(CastOp, y, to=element_of(dtype))


@converts(
    "quantized_decomposed.quantize_per_tensor",
    "quantized_decomposed.quantize_per_tensor.tensor",
)
def _quantize(
    c: NodeBuilder, x: SSAValue, scale: Parameter, zero: Parameter, low: int, high: int, dtype: Any
) -> SSAValue:
    """The reciprocal is a Python float, as torch computes it."""
    inverse = (
        c.div(c.tensor(1.0, dtypes.f64), _scalar(c, scale, dtypes.f64))
        if isinstance(scale, SSAValue)
        else c.tensor(1.0 / scale, dtypes.f64)
    )
    y = c.round(c.mul(c.cast(x, dtypes.f32), c.cast(inverse, dtypes.f32)))
    y = y if is_zero(c, zero) else c.add(y, _scalar(c, zero, dtypes.f32))
    return _clamped(c, y, low, high, dtype)


@converts("quantized_decomposed.quantize_per_channel")
def _quantize_channels(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue, axis: int, low: int, high: int,
    dtype: Any,
) -> SSAValue:  # fmt: skip
    rank, working = rank_of(x), element_type(scale)
    inverse = _spread(c, c.div(c.like(1.0, scale), scale), rank, axis % rank)
    y = c.round(c.mul(c.cast(x, working), inverse))
    if not is_zero(c, zero):
        y = c.add(y, c.cast(_spread(c, zero, rank, axis % rank), working))
    return _clamped(c, y, low, high, dtype)


@converts(
    "quantized_decomposed.dequantize_per_tensor",
    "quantized_decomposed.dequantize_per_tensor.tensor",
)
def _dequantize(
    c: NodeBuilder, x: SSAValue, scale: Parameter, zero: Parameter, low: int, high: int,
    dtype: Any, *, out_dtype: Any = None,
) -> SSAValue:  # fmt: skip
    point = None
    if not is_zero(c, zero):
        point = _scalar(c, zero, element_type(x))
    to = dtypes.f32 if out_dtype is None else element_of(out_dtype)
    return c.b(DequantizeLinearOp, x, _scalar(c, scale, dtypes.f32), point, to=to)


@converts("quantized_decomposed.dequantize_per_channel")
def _dequantize_channels(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue | None, axis: int, low: int,
    high: int, dtype: Any, *, out_dtype: Any = None,
) -> SSAValue:  # fmt: skip
    axis, to = axis % rank_of(x), dtypes.f32 if out_dtype is None else element_of(out_dtype)
    if zero is not None and is_float(element_type(zero)):  # of `per_channel_affine_float_qparams`
        rank, working = rank_of(x), element_type(zero)
        y = c.sub(c.cast(x, working), _spread(c, zero, rank, axis))
        y = c.mul(y, c.cast(_spread(c, scale, rank, axis), working))
        return c.cast(y, to)
    point = None if zero is None or is_zero(c, zero) else c.cast(zero, element_type(x))
    return c.b(DequantizeLinearOp, x, scale, point, axis=axis, to=to)


@converts("quantized_decomposed.choose_qparams.tensor")
def _choose(
    c: NodeBuilder, x: SSAValue, low: int, high: int, epsilon: float, dtype: Any
) -> tuple[SSAValue, SSAValue]:
    x, axes = c.cast(x, dtypes.f32), range(rank_of(x))
    least, most = c.minimum(c.min(x, axes), 0.0), c.maximum(c.max(x, axes), 0.0)
    scale = c.maximum(c.div(c.sub(most, least), float(high - low)), epsilon)
    zero = c.sub(c.like(float(low), scale), c.round(c.div(least, scale)))
    return _parameters(c, scale, c.minimum(c.maximum(zero, float(low)), float(high)))


@converts("quantized_decomposed.choose_qparams_symmetric.tensor")
def _choose_symmetric(
    c: NodeBuilder, x: SSAValue, low: int, high: int, epsilon: float, dtype: Any
) -> tuple[SSAValue, SSAValue]:
    x = c.cast(x, dtypes.f32)
    most = c.maximum(c.max(c.abs(x), range(rank_of(x))), 0.0)
    scale = c.maximum(c.div(most, (high - low) / 2), epsilon)
    middle = 128.0 if dtype_of(element_of(dtype)).kind == "uint" else 0.0
    return _parameters(c, scale, c.like(middle, scale))


def _parameters(c: NodeBuilder, scale: SSAValue, zero: SSAValue) -> tuple[SSAValue, SSAValue]:
    """One scale and zero point as the tensors that torch gives: [1] of f64 and i64."""
    scale, zero = c.cast(scale, dtypes.f64), c.b(CastOp, zero, to=dtypes.i64)
    return c.reshape(scale, (1,)), c.reshape(zero, (1,))


@converts("quantized_decomposed.choose_qparams_per_token")
def _choose_tokens(c: NodeBuilder, x: SSAValue, dtype: Any) -> tuple[SSAValue, SSAValue]:
    """In the types that torch declares; it computes, and gives, those of x."""
    most = c.max(c.abs(x), [rank_of(x) - 1], keep=True)
    most = c.cast(most, dtypes.f32) if element_type(x) == dtypes.f16 else most
    scale = c.div(c.maximum(most, 1e-5), 127.0)
    return c.cast(scale, dtypes.f64), c.b(CastOp, c.sub(scale, scale), to=dtypes.i64)


@converts(
    "quantized_decomposed.choose_qparams_per_token_asymmetric",
    "quantized_decomposed._choose_qparams_per_token_asymmetric_impl",
)
def _choose_tokens_asymmetric(c: NodeBuilder, x: SSAValue, dtype: Any) -> tuple[SSAValue, SSAValue]:
    """As XNNPACK does: the end of the range that rounds better decides the zero point."""
    low, high, last = -128.0, 127.0, [rank_of(x) - 1]
    least = c.minimum(c.min(x, last, keep=True), 0.0)
    most = c.maximum(c.max(x, last, keep=True), 0.0)
    scale = c.maximum(c.div(c.sub(most, least), high - low), float(np.finfo(np.float32).eps))
    below, above = c.div(least, scale), c.div(most, scale)
    errors = c.add(c.add(below, low), c.add(above, high))
    zero = c.where(
        c.gt(errors, 0.0), c.sub(c.like(low, below), below), c.sub(c.like(high, above), above)
    )
    zero = c.round(c.minimum(c.maximum(zero, low), high))
    return c.cast(scale, dtypes.f64), c.b(CastOp, zero, to=dtypes.i64)


@converts("quantized_decomposed.quantize_per_token")
def _quantize_tokens(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue, low: int, high: int, dtype: Any
) -> SSAValue:
    return _rounded_last(c, x, scale, zero, (low, high), dtype)


def _rounded_last(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue, ends: tuple[int, int], dtype: Any
) -> SSAValue:
    """round(x * (1 / scale) + zero), in the wider of the operands' types."""
    working = max((element_type(x), element_type(scale)), key=lambda e: dtype_of(e).bits)
    inverse = c.cast(c.div(c.like(1.0, scale), scale), working)
    y = c.add(c.mul(c.cast(x, working), inverse), c.cast(zero, working))
    return _clamped(c, c.round(y), *ends, dtype)


@converts("quantized_decomposed.dequantize_per_token")
def _dequantize_tokens(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue, low: int, high: int,
    dtype: Any, output_dtype: Any = None,
) -> SSAValue:  # fmt: skip
    """A token's elements are one block of its last axis."""
    depth = dims_of(x)[-1]
    point = None if is_zero(c, zero) else c.b(CastOp, zero, to=element_type(x))
    to = dtypes.f32 if output_dtype is None else element_of(output_dtype)
    if not isinstance(depth, int):
        raise c.refuse("tokens of a dynamic extent")
    return c.b(
        DequantizeLinearOp, x, scale, point, axis=rank_of(x) - 1, block_size=depth, to=to
    )  # fmt: skip


@converts("quantized_decomposed.quantize_per_channel_group")
def _quantize_groups(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue, low: int, high: int, dtype: Any,
    group_size: int = 128,
) -> SSAValue:  # fmt: skip
    size = _group_size(x, scale, group_size)
    dims = [int(str(d)) for d in dims_of(x)]
    split = (math.prod(dims) // size, size)
    columns = [c.reshape(v, (split[0], 1)) for v in (scale, zero)]
    y = _rounded_last(c, c.reshape(x, split), columns[0], columns[1], (low, high), dtype)
    return c.reshape(y, dims)


@converts("quantized_decomposed.dequantize_per_channel_group")
def _dequantize_groups(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue | None, low: int, high: int,
    dtype: Any, group_size: int = 128, output_dtype: Any = None,
) -> SSAValue:  # fmt: skip
    size = _group_size(x, scale, group_size)
    rows, depth = (int(str(d)) for d in dims_of(x))
    blocks = (rows, depth // size)
    point = None
    if zero is not None and not is_zero(c, zero):
        if is_float(element_type(zero)):
            raise c.refuse("zero points that are no integers")
        point = c.reshape(c.cast(zero, element_type(x)), blocks)
    to = dtypes.f32 if output_dtype is None else element_of(output_dtype)
    return c.b(
        DequantizeLinearOp, x, c.reshape(scale, blocks), point, axis=1, block_size=size, to=to
    )  # fmt: skip


def _group_size(x: SSAValue, scale: SSAValue, size: int) -> int:
    """Elements of a group; all of a row where there is one scale for it."""
    depth = int(str(dims_of(x)[-1]))
    return depth if size > depth and dims_of(scale)[-1] == 1 else size


@converts("_int_mm")
def _integer_product(c: NodeBuilder, a: SSAValue, b: SSAValue) -> SSAValue:
    """The product of matrices of bytes in i32."""
    return c.b(MatMulIntegerOp, a, b, None, None)
