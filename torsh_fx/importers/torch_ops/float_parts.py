"""Rounding, exponents, neighbours and the values that are no numbers."""

from __future__ import annotations

import math

import torch
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dtypes import is_complex, is_float
from torsh_dialect.ops import compare, logic, maths, rounding
from torsh_dialect.ops.bits import BitcastOp
from torsh_dialect.types import dims_of, element_type
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts


@converts("isnan")
def _isnan(c: NodeBuilder, x: SSAValue) -> SSAValue:
    if not is_float(element_type(x)) and not is_complex(element_type(x)):
        return c.full(False, dims_of(x), dtypes.i1)
    return c.b(compare.NotEqualOp, x, x)


@converts("isinf")
def _isinf(c: NodeBuilder, x: SSAValue) -> SSAValue:
    if not is_float(element_type(x)):
        return c.full(False, dims_of(x), dtypes.i1)
    return c.b(rounding.IsInfOp, x)


@converts("floor", "ceil", "trunc", "round", "fix")
def _rounded(c: NodeBuilder, x: SSAValue) -> SSAValue:
    table = {"floor": rounding.FloorOp, "ceil": rounding.CeilOp, "round": rounding.RoundOp}
    name = str(c.node.target).split(".")[1]
    return c.b(table.get(name, rounding.TruncOp), x) if is_float(element_type(x)) else x


@converts("round.decimals")
def _round_decimals(c: NodeBuilder, x: SSAValue, decimals: int = 0) -> SSAValue:
    scale = 10.0 ** abs(decimals)
    if decimals < 0:
        return c.mul(c.round(c.div(x, scale)), scale)
    return c.div(c.round(c.mul(x, scale)), scale)


@converts("heaviside")
def _heaviside(c: NodeBuilder, x: SSAValue, values: SSAValue) -> SSAValue:
    element = c.out_element()
    x, values = c.tensor(x, element), c.tensor(values, element)
    step = c.cast(c.gt(x, 0), element)
    step = c.where(c.b(compare.NotEqualOp, x, x), c.like(0, x), step)
    return c.where(c.eq(x, 0), values, step)


@converts("nan_to_num")
def _nan_to_num(
    c: NodeBuilder,
    x: SSAValue,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> SSAValue:
    element = element_type(x)
    if not is_float(element):
        return x
    limits = torch.finfo(c.meta().dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    y = c.where(c.b(compare.NotEqualOp, x, x), c.like(nan or 0.0, x), x)
    y = c.where(c.eq(x, math.inf), c.like(high, x), y)
    return c.where(c.eq(x, -math.inf), c.like(low, x), y)


@converts("ldexp.Tensor")
def _ldexp(c: NodeBuilder, x: Scalar, exponent: Scalar) -> SSAValue:
    element = c.out_element()
    return c.mul(c.tensor(x, element), c.b(maths.Exp2Op, c.tensor(exponent, element)))


@converts("nextafter")
def _nextafter(c: NodeBuilder, a: SSAValue, b: SSAValue) -> SSAValue:
    """Of half precision by the bits, which ascend with the magnitude."""
    element = c.out_element()
    a, b = c.cast(a, element), c.cast(b, element)
    if element not in (dtypes.f16, dtypes.bf16):
        return c.b(rounding.NextAfterOp, a, b)
    bits = c.b(BitcastOp, a, to=dtypes.i16)
    away = c.b(logic.LogicalXorOp, c.lt(a, b), c.lt(a, 0))
    stepped = c.where(away, c.add(bits, 1), c.sub(bits, 1))
    least = c.where(c.gt(b, 0), c.tensor(1, dtypes.i16), c.tensor(0x8001, dtypes.i16))
    y = c.b(BitcastOp, c.where(c.eq(a, 0), least, stepped), to=element)
    broken = c.either(c.b(compare.NotEqualOp, a, a), c.b(compare.NotEqualOp, b, b))
    return c.where(broken, c.add(a, b), c.where(c.eq(a, b), b, y))


@converts("frexp.Tensor")
def _frexp(c: NodeBuilder, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    wide = c.wide(x)
    size = c.abs(wide)
    usual = c.both(c.lt(size, math.inf), c.gt(size, 0))
    safe = c.where(usual, size, c.like(1, size))
    exponent = c.add(c.floor(c.b(maths.Log2Op, safe)), 1)
    for _ in range(2):
        mantissa = _scaled(c, safe, exponent)
        up = c.cast(c.ge(mantissa, 1.0), element_type(wide))
        down = c.cast(c.lt(mantissa, 0.5), element_type(wide))
        exponent = c.sub(c.add(exponent, up), down)
    mantissa = _scaled(c, safe, exponent)
    signed = c.b(rounding.CopySignOp, mantissa, wide)
    zero = c.like(0, wide)
    exponent = c.where(usual, exponent, zero)
    return c.narrow(c.where(usual, signed, wide), x), c.cast(exponent, dtypes.i32)


def _scaled(c: NodeBuilder, x: SSAValue, exponent: SSAValue) -> SSAValue:
    """X * 2^-exponent in two steps, so that neither overflows."""
    half = c.floor(c.mul(exponent, 0.5))
    first = c.mul(x, c.b(maths.Exp2Op, c.neg(half)))
    return c.mul(first, c.b(maths.Exp2Op, c.sub(half, exponent)))
