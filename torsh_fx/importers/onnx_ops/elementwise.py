"""Element-wise arithmetic, comparison, activations, casts."""

from __future__ import annotations

import math

from xdsl.ir import Attribute, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.activation import (
    CeluOp,
    EluOp,
    GeluOp,
    HardSigmoidOp,
    LeakyReluOp,
    PReluOp,
    SeluOp,
    ShrinkOp,
    SiluOp,
    SoftplusOp,
)
from torsh_dialect.ops.bits import BitcastOp
from torsh_dialect.ops.elementwise import (
    AddOp,
    DivOp,
    FmodOp,
    PowOp,
    RemainderOp,
    TruncDivOp,
)
from torsh_dialect.ops.logic import ShiftLeftOp, ShiftRightOp
from torsh_dialect.ops.rounding import IsInfOp
from torsh_dialect.ops.select import CastOp, ClampOp, MaximumOp, MinimumOp
from torsh_dialect.ops.special import ErfOp
from torsh_dialect.ops.spelling import NumberOfOp, StringOfOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter


@converter("Div")
def div(n: Node) -> SSAValue:
    """Integers divide towards zero (C)."""
    whole = n.kind() in ("int", "uint")
    return n(TruncDivOp if whole else DivOp, *n.operands(2))


@converter("Mod")
def mod(n: Node) -> SSAValue:
    """`fmod = 1` has the sign of the dividend, else of the divisor."""
    return n(FmodOp if n.int("fmod", 0) else RemainderOp, n.input(0), n.input(1))


@converter("Pow")
def power(n: Node) -> SSAValue:
    """The exponent may have another type; the result has the base's."""
    base, exponent = n.operands(2)
    if element_type(base) == element_type(exponent):
        return n(PowOp, base, exponent)
    row, other = dtype_of(element_type(base)), dtype_of(element_type(exponent))
    if row.kind == "float" and row.bits >= other.bits:
        return n(PowOp, base, n.c.cast(exponent, row.element))
    wide = dtypes.f64
    return n.c.cast(n(PowOp, n.c.cast(base, wide), n.c.cast(exponent, wide)), row.element)


def _folded(n: Node, cls: type[TensorOp]) -> SSAValue:
    values = n.inputs
    result = values[0]
    for value in values[1:]:
        result = n(cls, result, value)
    return result


@converter("Sum")
def total(n: Node) -> SSAValue:
    return _folded(n, AddOp)


@converter("Max")
def maximum(n: Node) -> SSAValue:
    return _folded(n, MaximumOp)


@converter("Min")
def minimum(n: Node) -> SSAValue:
    return _folded(n, MinimumOp)


@converter("Mean")
def mean(n: Node) -> SSAValue:
    return n.c.div(_folded(n, AddOp), len(n.inputs))


@converter("BitShift")
def shift(n: Node) -> SSAValue:
    direction = n.str("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise NotSupported(f"direction is {direction!r}", "use LEFT or RIGHT")
    return n(ShiftLeftOp if direction == "LEFT" else ShiftRightOp, n.input(0), n.input(1))


@converter("Erf")
def erf(n: Node) -> SSAValue:
    """Integers are allowed; their results are those of floats, without fractions."""
    (x,) = n.operands(1)
    return (
        n(ErfOp, x) if n.kind() == "float" else n.c.cast_like(n(ErfOp, n.c.cast(x, dtypes.f64)), x)
    )


@converter("Identity")
def identity(n: Node) -> SSAValue:
    return n.input(0)


# -- activations


@converter("LeakyRelu")
def leaky_relu(n: Node) -> SSAValue:
    return n(LeakyReluOp, n.input(0), alpha=n.float("alpha", 0.01))


@converter("PRelu")
def prelu(n: Node) -> SSAValue:
    """Before opset 7 a slope of more than one element was one for each channel."""
    x, slope = n.input(0), n.c.cast_like(n.input(1), n.input(0))
    if n.version < 7 and rank_of(slope) == 1 and dims_of(slope)[0] != 1 and n.rank() > 1:
        slope = n.c.per_channel(slope, n.rank())
    return n(PReluOp, x, slope)


@converter("Elu")
def elu(n: Node) -> SSAValue:
    return n(EluOp, n.input(0), alpha=n.float("alpha", 1.0))


@converter("Selu")
def selu(n: Node) -> SSAValue:
    alpha, gamma = 1.67326319217681884765625, 1.05070102214813232421875
    return n(SeluOp, n.input(0), alpha=n.float("alpha", alpha), gamma=n.float("gamma", gamma))


@converter("Celu")
def celu(n: Node) -> SSAValue:
    return n(CeluOp, n.input(0), alpha=n.float("alpha", 1.0))


@converter("HardSigmoid")
def hard_sigmoid(n: Node) -> SSAValue:
    alpha, beta = n.float("alpha", 0.2), n.float("beta", 0.5)
    return n(HardSigmoidOp, n.input(0), alpha=alpha, beta=beta)


@converter("Softplus")
def softplus(n: Node) -> SSAValue:
    return n(SoftplusOp, n.input(0), beta=1.0, threshold=math.inf)


@converter("Gelu")
def gelu(n: Node) -> SSAValue:
    return n(GeluOp, n.input(0), approximate=n.str("approximate", "none"))


@converter("Gelu", domain=MS)
def ms_gelu(n: Node) -> SSAValue:
    return n(GeluOp, n.input(0), approximate="none")


@converter("FastGelu", domain=MS)
def fast_gelu(n: Node) -> SSAValue:
    """GELU by tanh, of x plus an optional bias."""
    bias = n.optional(1)
    x = n.input(0) if bias is None else n.c.add(n.input(0), bias)
    return n(GeluOp, x, approximate="tanh")


@converter("BiasGelu", domain=MS)
def bias_gelu(n: Node) -> SSAValue:
    return n(GeluOp, n.c.add(n.input(0), n.input(1)), approximate="none")


@converter("QuickGelu", domain=MS)
def quick_gelu(n: Node) -> SSAValue:
    return n(SiluOp, n.input(0), alpha=n.float("alpha", 1.702))


@converter("Swish")
def swish(n: Node) -> SSAValue:
    return n(SiluOp, n.input(0), alpha=n.float("alpha", 1.0))


@converter("Shrink")
def shrink(n: Node) -> SSAValue:
    x = n.input(0)
    if n.kind() != "float":
        y = n(ShrinkOp, n.c.cast(x, dtypes.f32), **_shrink(n))
        return n.c.cast_like(y, x)
    return n(ShrinkOp, x, **_shrink(n))


def _shrink(n: Node) -> dict[str, float]:
    return {"lambd": n.float("lambd", 0.5), "bias": n.float("bias", 0.0)}


@converter("ThresholdedRelu")
def thresholded_relu(n: Node) -> SSAValue:
    x = n.input(0)
    return n.c.where(n.c.gt(x, n.float("alpha", 1.0)), x, n.c.like(0, x))


@converter("Clip")
def clip(n: Node) -> SSAValue:
    """Bounds are inputs since opset 11, attributes before."""
    x = n.input(0)
    if n.version >= 11:
        low, high = (None if v is None else n.scalar(v) for v in (n.optional(1), n.optional(2)))
    else:
        low = n.c.like(n.float("min"), x) if n.has("min") else None
        high = n.c.like(n.float("max"), x) if n.has("max") else None
    return x if low is None and high is None else n(ClampOp, x, low, high)


@converter("IsInf")
def is_inf(n: Node) -> SSAValue:
    """Either sign can be left out."""
    x = n.input(0)
    negative, positive = n.int("detect_negative", 1), n.int("detect_positive", 1)
    if negative and positive:
        return n(IsInfOp, x)
    if not negative and not positive:
        return n.c.broadcast(n.constant(False, dtypes.i1), n.dims())
    return n.c.eq(x, math.inf if positive else -math.inf)


# -- casts


def _cast(n: Node, x: SSAValue, element: Attribute) -> SSAValue:
    row, source = dtype_of(element), dtype_of(element_type(x))
    if "string" in (row.kind, source.kind) and row != source:
        return _cast_string(n, x, element)
    if row.name == "f8e8m0fnu":
        return n(CastOp, x, to=element, rounding=n.str("round_mode", "up"))
    if row.bits < 8 and row.kind in ("int", "uint") and source.kind == "float":
        x = n.c.cast(x, dtypes.i32)  # the low bits of the integer part, as ONNX's helpers pack it
    saturate = row.bits == 8 and row.kind == "float" and bool(n.int("saturate", 1))
    return n.c.cast(x, element, saturate=saturate)


def _cast_string(n: Node, x: SSAValue, element: Attribute) -> SSAValue:
    """From or to strings; types without strings of their own go through f32 or i64."""
    row = dtype_of(element)
    if row.kind == "string":
        return n(StringOfOp, x)
    if row.kind == "complex":
        raise NotSupported("casts from strings to complex numbers", "convert outside the model")
    if row.bits >= 16 or row.name in ("bool", "i8", "ui8"):
        return n(NumberOfOp, x, to=element)
    return _cast(n, n(NumberOfOp, x, to=dtypes.f32 if row.kind == "float" else dtypes.i64), element)


@converter("Cast")
def cast(n: Node) -> SSAValue:
    to = n.attribute("to")
    if isinstance(to, bytes):  # opset 1 to 5 spell the type
        from onnx import TensorProto

        to = TensorProto.DataType.Value(to.decode())
    return _cast(n, n.input(0), n.element(int(to)))


@converter("CastLike")
def cast_like(n: Node) -> SSAValue:
    return _cast(n, n.input(0), element_type(n.input(1)))


@converter("BitCast")
def bitcast(n: Node) -> SSAValue:
    return n(BitcastOp, n.input(0), to=n.element(n.int("to")))
