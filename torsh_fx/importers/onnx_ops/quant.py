"""Quantised operators: QDQ, QOperator and dynamic quantisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import Attribute, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dtypes import dtype_of, f32
from torsh_dialect.ops.quant import (
    ConvIntegerOp,
    DequantizeLinearOp,
    DynamicQuantizeLinearOp,
    MatMulIntegerOp,
    QuantizeLinearOp,
    saturated,
)
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.node import MS, Node, converter
from torsh_fx.importers.onnx_ops.products import weights, window


def _grouping(n: Node, scale: SSAValue, x: SSAValue) -> dict[str, int | None]:
    """Axis and block size, where the scale is not one for the whole tensor."""
    block = n.int("block_size", 0)
    if not block and all(d == 1 for d in dims_of(scale)):
        return {"axis": None, "block_size": None}
    axis, rank = n.int("axis", 1), rank_of(x)
    return {"axis": axis % rank if rank else axis, "block_size": block or None}


def zero_point(n: Node, index: int) -> SSAValue | None:
    """An optional zero point; one that is known to be 0 everywhere is as good as missing.

    Zero points say how a product is computed, so they are structure, not weights: known ones of
    one value are constants.
    """
    value = n.optional(index)
    known = None if value is None else n.array(value)
    if value is None or known is None or not known.size or np.any(known != known.reshape(-1)[0]):
        return value
    return n.constant(known.reshape(-1)[0]) if known.reshape(-1)[0] != 0 else None


@converter("QuantizeLinear")
@converter("QuantizeLinear", domain=MS)
def quantize(n: Node) -> SSAValue:
    """The result's type is the zero point's, or `output_dtype`, or uint8."""
    x, scale, zero = n.input(0), n.input(1), n.optional(2)
    to: Attribute = dtypes.ui8
    if zero is not None:
        to = element_type(zero)
    elif n.int("output_dtype", 0):
        to = n.element(n.int("output_dtype"))
    precision = n.element(n.int("precision")) if n.int("precision", 0) else None
    if element_type(x) == dtypes.i32:
        x = n.c.cast(x, f32)
    elif precision is None and n.kind(1) == n.kind() == "float":
        own, given = (dtype_of(element_type(v)).bits for v in (x, scale))
        precision = element_type(scale) if given > own else None
    return n(
        QuantizeLinearOp, x, scale, zero, to=to, precision=precision,
        saturate=bool(n.int("saturate", 1)), **_grouping(n, scale, x),
    )  # fmt: skip


def _spread_zero(n: Node, index: int, scale: SSAValue) -> SSAValue | None:
    """The zero point of a dequantisation, shaped like its scale."""
    zero = zero_point(n, index)
    if zero is None or rank_of(zero) == rank_of(scale):
        return zero
    return n.c.broadcast(n.scalar(zero) if dims_of(zero) == (1,) else zero, dims_of(scale))


@converter("DequantizeLinear")
@converter("DequantizeLinear", domain=MS)
def dequantize(n: Node) -> SSAValue:
    x, scale = n.input(0), n.input(1)
    to = n.element(n.int("output_dtype")) if n.int("output_dtype", 0) else None
    return n(
        DequantizeLinearOp, x, scale, _spread_zero(n, 2, scale), to=to, **_grouping(n, scale, x)
    )


@converter("DynamicQuantizeLinear")
def dynamic_quantize(n: Node) -> Sequence[SSAValue]:
    return n.all(DynamicQuantizeLinearOp, n.input(0))


@converter("MatMulInteger")
def matmul_integer(n: Node) -> SSAValue:
    return n(MatMulIntegerOp, n.input(0), n.input(1), zero_point(n, 2), zero_point(n, 3))


@converter("ConvInteger")
def conv_integer(n: Node) -> SSAValue:
    operands = (n.input(0), weights(n), zero_point(n, 2), zero_point(n, 3))
    return n(ConvIntegerOp, *operands, groups=n.int("group", 1), **window(n, n.rank() - 2))


def _requantized(n: Node, total: SSAValue, factor: SSAValue, zero: SSAValue) -> SSAValue:
    """saturate(round(total * factor) + zero) in the zero point's type, as QuantizeLinear does."""
    c, known = n.c, n.array(zero)
    y = c.round(c.mul(c.cast_like(total, factor), factor))
    if known is None:
        y = c.add(y, c.cast_like(zero, factor))
    elif np.any(known):
        y = c.add(y, n.constant(known.reshape(-1)[0], element_type(factor)))
    return saturated(c, y, dtype_of(element_type(zero)))


@converter("QLinearMatMul")
def qlinear_matmul(n: Node) -> SSAValue:
    a, a_scale, _, b, b_scale, _, y_scale, y_zero = (n.input(i) for i in range(8))
    total, c = n(MatMulIntegerOp, a, b, zero_point(n, 2), zero_point(n, 5)), n.c
    a_scale, b_scale, y_scale = (c.cast(s, f32) for s in (a_scale, b_scale, y_scale))
    if rank_of(a_scale) == 1 and dims_of(a_scale)[0] != 1:
        a_scale = c.reshape(a_scale, (dims_of(a_scale)[0], 1))
    return _requantized(n, total, c.div(c.mul(a_scale, b_scale), y_scale), y_zero)


@converter("QLinearConv")
def qlinear_conv(n: Node) -> SSAValue:
    return qlinear_convolution(n, n.input(0))


def qlinear_convolution(n: Node, x: SSAValue) -> SSAValue:
    """The node's result for x [batch, channels, ...] in place of its first input."""
    x_scale, _, w, w_scale, _, y_scale, y_zero = (
        weights(n, i) if i == 3 else n.input(i) for i in range(1, 8)
    )
    c, bias = n.c, n.optional(8)
    more = window(n, rank_of(x) - 2)
    zeros = zero_point(n, 2), zero_point(n, 5)
    total = n(ConvIntegerOp, x, w, *zeros, groups=n.int("group", 1), **more)
    if bias is not None:
        total = c.add(total, c.per_channel(bias, rank_of(total)))
    factor = c.div(c.mul(n.scalar(x_scale), w_scale), n.scalar(y_scale))
    single = all(d == 1 for d in dims_of(factor))
    factor = c.reshape(factor, ()) if single else c.per_channel(factor, rank_of(total))
    return _requantized(n, total, factor, n.scalar(y_zero))


@converter("MatMulIntegerToFloat", domain=MS)
def matmul_integer_to_float(n: Node) -> SSAValue:
    """(a - a_zero) @ (b - b_zero) * a_scale * b_scale + bias."""
    c = n.c
    total = n(MatMulIntegerOp, n.input(0), n.input(1), zero_point(n, 4), zero_point(n, 5))
    y = c.mul(c.cast(total, f32), c.mul(n.input(2), n.input(3)))
    return y if n.optional(6) is None else c.add(y, n.input(6))


@converter("DynamicQuantizeMatMul", domain=MS)
def dynamic_quantize_matmul(n: Node) -> SSAValue:
    """A float matrix, quantised by its range, times an 8-bit one."""
    c = n.c
    a, scale, zero = n.all(DynamicQuantizeLinearOp, n.input(0))
    total = n(MatMulIntegerOp, a, n.input(1), zero, zero_point(n, 3))
    y = c.mul(c.cast(total, f32), c.mul(scale, n.input(2)))
    return y if n.optional(4) is None else c.add(y, n.input(4))


def _binary(n: Node, *, product: bool) -> SSAValue:
    c = n.c
    a, b = (
        n(DequantizeLinearOp, n.input(i), n.scalar(n.input(i + 1)), _zero(n, i + 2)) for i in (0, 3)
    )
    y = c.mul(a, b) if product else c.add(a, b)
    to = element_type(n.input(0))
    return n(QuantizeLinearOp, y, n.scalar(n.input(6)), _zero(n, 7), to=to)


def _zero(n: Node, index: int) -> SSAValue | None:
    value = n.optional(index)
    return None if value is None else n.scalar(value)


@converter("QLinearAdd", domain=MS)
def qlinear_add(n: Node) -> SSAValue:
    return _binary(n, product=False)


@converter("QLinearMul", domain=MS)
def qlinear_mul(n: Node) -> SSAValue:
    return _binary(n, product=True)
