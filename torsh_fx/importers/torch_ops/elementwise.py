"""Element-wise ops: one to one by the ops' own `SPELLED` names, and those that need rearranging."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND as KIND
from torch._prims_common import elementwise_dtypes  # pyright: ignore[reportUnknownVariableType]
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.declare import OPS
from torsh_dialect.dtypes import Element, is_complex, is_integer
from torsh_dialect.kinds import Elementwise, TensorOp
from torsh_dialect.ops import activation as act
from torsh_dialect.ops import (
    elementwise,
    logic,
    maths,
    rounding,
    select,
    special,
)
from torsh_dialect.ops.complex import ComplexAbsOp
from torsh_dialect.types import element_type, rank_of
from torsh_fx.importers.torch_ops.base import CONVERTERS, NodeBuilder, Scalar, converts
from torsh_fx.importers.torch_types import element_of

INEXACT = (
    maths.MathFunction,
    maths.MathFunction2,
    special.Special,
    special.SpecialOfTwo,
    act.Activation,
    elementwise.DivOp,
    elementwise.ReciprocalOp,
    rounding.CopySignOp,
    maths.SqrtOp,
)
"""Ops that torch computes in the default float type where operands are integers."""


def promoted(c: NodeBuilder, *arguments: Any, inexact: bool = False) -> Element:
    """The element type in which torch computes an op of these arguments of the node."""
    kind = KIND.INT_TO_FLOAT if inexact else KIND.DEFAULT
    metas = [a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in arguments]
    metas = [
        m
        for m in metas
        if isinstance(
            m, torch.Tensor | int | float | bool | complex | torch.SymInt | torch.SymFloat
        )
    ]
    metas = [
        0 if isinstance(m, torch.SymInt) else 0.0 if isinstance(m, torch.SymFloat) else m
        for m in metas
    ]
    _, result = elementwise_dtypes(*metas, type_promotion_kind=kind)
    return element_of(result)


def operands(c: NodeBuilder, values: list[Scalar], *, inexact: bool = False) -> list[SSAValue]:
    """Values as tensors of the one element type that torch promotes the node's arguments to."""
    element = promoted(c, *c.node.args[: len(values)], inexact=inexact)
    return [c.tensor(v, element) for v in values]


def one_to_one(cls: type[TensorOp]) -> Callable[..., SSAValue]:
    """The converter of an element-wise op whose operands are those of the torch op."""
    inexact = issubclass(cls, INEXACT)

    def convert(c: NodeBuilder, *values: Scalar, **rest: Any) -> SSAValue:
        for name in ("dtype", "out", "alpha"):
            if rest.get(name) not in (None, 1):
                raise c.refuse(f"{name} = {rest[name]!r}")
        return c.finished(c.b(cls, *operands(c, list(values), inexact=inexact)))

    return convert


for _cls in OPS:
    if issubclass(_cls, Elementwise):
        for _name in _cls.SPELLED.torch:
            CONVERTERS.setdefault(_name, one_to_one(_cls))


HALVES = (dtypes.f16, dtypes.bf16)


def _scaled(cls: type[TensorOp]) -> Callable[..., SSAValue]:
    """Products and quotients of half-precision tensors with one number, which stays in f32.

    As of `mul_kernel` and `div_true_kernel` of aten/native/cpu/BinaryOpsKernel.cpp; other kernels
    round the number first. It may be either factor, but of a quotient only the divisor.
    """
    divides = cls is elementwise.DivOp
    plain = one_to_one(cls)

    def convert(c: NodeBuilder, a: Scalar, b: Scalar, **rest: Any) -> SSAValue:
        element = promoted(c, *c.node.args[:2], inexact=divides)
        if element in HALVES and any(_loses(v, element) for v in ([b] if divides else [a, b])):
            return c.finished(c.b(cls, c.tensor(a, dtypes.f32), c.tensor(b, dtypes.f32)))
        return plain(c, a, b, **rest)

    return convert


def _loses(value: Scalar, element: Element) -> bool:
    """Whether a number, or a scalar tensor of another type, would be rounded to `element`."""
    if isinstance(value, SSAValue):
        return rank_of(value) == 0 and element_type(value) != element
    if not isinstance(value, int | float):
        return False
    storage = dtypes.dtype_of(element).numpy
    return float(np.asarray(value, np.float64).astype(storage)) != value


for _name in ("Tensor", "Scalar"):
    CONVERTERS[f"aten.mul.{_name}"] = _scaled(elementwise.MulOp)
    CONVERTERS[f"aten.div.{_name}"] = _scaled(elementwise.DivOp)


def _with_alpha(cls: type[TensorOp], swap: bool = False) -> Callable[..., SSAValue]:
    def convert(c: NodeBuilder, a: Scalar, b: Scalar, alpha: Scalar = 1) -> SSAValue:
        element = promoted(c, *c.node.args[:2])
        left, right = c.tensor(a, element), c.tensor(b, element)
        if swap:
            left, right = right, left
            a, b = b, a
        if alpha != 1:
            right = c.mul(right, c.tensor(alpha, element))
        return c.finished(c.b(cls, left, right))

    return convert


for _name in ("Tensor", "Scalar"):
    CONVERTERS[f"aten.add.{_name}"] = _with_alpha(elementwise.AddOp)
    CONVERTERS[f"aten.sub.{_name}"] = _with_alpha(elementwise.SubOp)


def _reversed_sub(c: NodeBuilder, a: Scalar, b: Scalar, alpha: Scalar = 1) -> SSAValue:
    element = promoted(c, *c.node.args[:2])
    left, right = c.tensor(b, element), c.tensor(a, element)
    right = right if alpha == 1 else c.mul(right, c.tensor(alpha, element))
    return c.finished(c.sub(left, right))


CONVERTERS["aten.rsub.Tensor"] = CONVERTERS["aten.rsub.Scalar"] = _reversed_sub


@converts("div.Tensor_mode", "div.Scalar_mode")
def _div_mode(c: NodeBuilder, a: Scalar, b: Scalar, rounding_mode: str | None = None) -> SSAValue:
    if rounding_mode is None:
        return c.finished(c.b(elementwise.DivOp, *operands(c, [a, b], inexact=True)))
    cls = elementwise.TruncDivOp if rounding_mode == "trunc" else elementwise.FloorDivOp
    return c.finished(c.b(cls, *operands(c, [a, b])))


@converts("addcmul", "addcdiv")
def _addc(c: NodeBuilder, x: Scalar, a: Scalar, b: Scalar, value: Scalar = 1) -> SSAValue:
    element = dtypes.f32 if c.out_element() in HALVES else c.out_element()
    x, a, b = (c.tensor(v, element) for v in (x, a, b))
    scaled = a if value == 1 else c.mul(a, c.tensor(value, element))
    divides = "addcdiv" in str(c.node.target)
    return c.finished(c.add(x, c.div(scaled, b) if divides else c.mul(scaled, b)))


@converts("abs")
def _abs(c: NodeBuilder, x: SSAValue) -> SSAValue:
    if is_complex(element_type(x)):
        return c.b(ComplexAbsOp, x)
    return x if element_type(x) == dtypes.i1 else c.abs(x)


@converts("sign", "sgn")
def sign_of(c: NodeBuilder, x: SSAValue) -> SSAValue:
    """-1, 0 or 1 (0 for NaN); of complex numbers, the direction."""
    element = element_type(x)
    if element == dtypes.i1:
        return x
    if is_complex(element):
        size = c.cast(c.b(ComplexAbsOp, x), element)
        return c.where(c.eq(size, 0), c.like(0, x), c.div(x, size))
    above = c.cast(c.gt(x, 0), element)
    return c.sub(above, c.cast(c.lt(x, 0), element)) if _signed(element) else above


def _signed(element: Element) -> bool:
    return dtypes.dtype_of(element).kind != "uint"


@converts("square")
def _square(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.finished(c.b(elementwise.SquareOp, c.finished(x)))


@converts("clamp", "clamp.Tensor", "clip", "clip.Tensor")
def _clamp(
    c: NodeBuilder, x: Scalar, min: Scalar | None = None, max: Scalar | None = None
) -> SSAValue:
    element = c.out_element()
    low, high = (None if v is None else c.tensor(v, element) for v in (min, max))
    return c.b(select.ClampOp, c.tensor(x, element), low, high)


@converts("clamp_min", "clamp_min.Tensor")
def _clamp_min(c: NodeBuilder, x: Scalar, low: Scalar) -> SSAValue:
    element = c.out_element()
    return c.maximum(c.tensor(x, element), c.tensor(low, element))


@converts("clamp_max", "clamp_max.Tensor")
def _clamp_max(c: NodeBuilder, x: Scalar, high: Scalar) -> SSAValue:
    element = c.out_element()
    return c.minimum(c.tensor(x, element), c.tensor(high, element))


@converts("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(c: NodeBuilder, condition: SSAValue, a: Scalar, b: Scalar) -> SSAValue:
    element = c.out_element()
    chosen = condition if element_type(condition) == dtypes.i1 else c.cast(condition, dtypes.i1)
    return c.where(chosen, c.tensor(a, element), c.tensor(b, element))


@converts("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(c: NodeBuilder, x: SSAValue, mask: SSAValue, value: Scalar) -> SSAValue:
    y = c.where(mask, c.tensor(value, element_type(x)), x)
    return y


@converts("lerp.Scalar", "lerp.Tensor")
def _lerp(c: NodeBuilder, a: SSAValue, b: SSAValue, weight: Scalar) -> SSAValue:
    if element_type(a) in HALVES:
        a, b = c.cast(a, dtypes.f32), c.cast(b, dtypes.f32)
    share, rise = c.tensor(weight, element_type(a)), c.sub(b, a)
    if not is_complex(element_type(a)):
        return c.finished(c.b(select.LerpOp, a, b, share))
    near = c.lt(c.b(ComplexAbsOp, share), 0.5)
    far = c.sub(b, c.mul(rise, c.sub(c.like(1, share), share)))
    return c.where(near, c.add(a, c.mul(share, rise)), far)


@converts("gcd", "lcm")
def _gcd(c: NodeBuilder, a: SSAValue, b: SSAValue) -> SSAValue:
    """Euclid's algorithm, as often as the largest values need (Lamé: 1.45 times the bits)."""
    element = c.out_element()
    x, y = c.abs(c.tensor(a, element)), c.abs(c.tensor(b, element))
    first, second = x, y
    for _ in range(math.ceil(1.4405 * dtypes.dtype_of(element).bits)):
        done = c.eq(y, 0)
        rest = c.remainder(x, c.where(done, c.like(1, y), y))
        x, y = c.where(done, x, y), c.where(done, y, rest)
    if "gcd" in str(c.node.target):
        return x
    divisor = c.where(c.eq(x, 0), c.like(1, x), x)
    return c.abs(c.mul(c.floordiv(first, divisor), second))


@converts(
    "pow.Tensor_Scalar",
    "pow.Scalar",
    "pow.Tensor_Tensor",
    "float_power.Tensor_Tensor",
    "float_power.Tensor_Scalar",
    "float_power.Scalar",
)
def _pow(c: NodeBuilder, a: Scalar, b: Scalar) -> SSAValue:
    element = c.out_element()
    x = c.tensor(a, element)
    if isinstance(b, int | float) and not isinstance(b, bool) and b in (0.5, 1, 2, 3, -1, -0.5):
        return _small_power(c, x, b)
    return c.pow(x, c.tensor(b, element))


def _small_power(c: NodeBuilder, x: SSAValue, power: float) -> SSAValue:
    """The powers that torch computes by multiplication, root or division."""
    if is_integer(element_type(x)) and power not in (1, 2, 3):
        return c.pow(x, c.tensor(power, element_type(x)))
    if power == 1:
        return x
    if power in (2, 3):
        square = c.b(elementwise.SquareOp, x)
        return square if power == 2 else c.mul(square, x)
    if power == -1:
        return c.b(elementwise.ReciprocalOp, x)
    return c.sqrt(x) if power == 0.5 else c.b(maths.RsqrtOp, x)


@converts("bitwise_not", "logical_not")
def _not(c: NodeBuilder, x: SSAValue) -> SSAValue:
    cls = logic.LogicalNotOp if "logical" in str(c.node.target) else logic.BitwiseNotOp
    return c.b(cls, x)
