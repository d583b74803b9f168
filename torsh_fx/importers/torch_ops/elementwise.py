"""Element-wise ops: one to one by the ops' own `SPELLED` names, and those that need rearranging."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND as KIND
from torch._prims_common import elementwise_dtypes  # pyright: ignore[reportUnknownVariableType]
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.declare import OPS
from torsh_dialect.dims import floordiv
from torsh_dialect.dtypes import Element, is_complex, is_float, is_integer
from torsh_dialect.kinds import Elementwise, TensorOp
from torsh_dialect.ops import activation as act
from torsh_dialect.ops import (
    compare,
    elementwise,
    logic,
    maths,
    rounding,
    select,
    special,
    storage,
)
from torsh_dialect.ops.bessel import AiryOp
from torsh_dialect.ops.bits import BitcastOp
from torsh_dialect.ops.complex import ComplexAbsOp
from torsh_dialect.types import device_of, dims_of, element_type, rank_of
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
    element = c.out_element()
    x, a, b = (c.tensor(v, element) for v in (x, a, b))
    scaled = a if value == 1 else c.mul(a, c.tensor(value, element))
    divides = "addcdiv" in str(c.node.target)
    return c.add(x, c.div(scaled, b) if divides else c.mul(scaled, b))


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


@converts("square")
def _square(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.finished(c.b(elementwise.SquareOp, c.finished(x)))


@converts("relu", "relu6")
def _relu(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.b(act.Relu6Op if "relu6" in str(c.node.target) else act.ReluOp, x)


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


@converts("hardtanh")
def _hardtanh(c: NodeBuilder, x: SSAValue, min_val: float = -1, max_val: float = 1) -> SSAValue:
    return c.b(select.ClampOp, x, c.like(min_val, x), c.like(max_val, x))


@converts("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(c: NodeBuilder, condition: SSAValue, a: Scalar, b: Scalar) -> SSAValue:
    element = c.out_element()
    chosen = condition if element_type(condition) == dtypes.i1 else c.cast(condition, dtypes.i1)
    return c.where(chosen, c.tensor(a, element), c.tensor(b, element))


@converts("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(c: NodeBuilder, x: SSAValue, mask: SSAValue, value: Scalar) -> SSAValue:
    y = c.where(mask, c.tensor(value, element_type(x)), x)
    return y


@converts(
    "_to_copy", "to.dtype", "to.dtype_layout", "prims.convert_element_type", "type_as", "_to_copy"
)
def _to(c: NodeBuilder, x: SSAValue, *rest: Any, **options: Any) -> SSAValue:
    device = c.graph.shared.device(c.node.meta["val"])
    if device is None or device == device_of(x):
        return c.finished(x)
    return c.b(storage.ToDeviceOp, c.finished(x), device=device)


@converts(
    "clone",
    "contiguous",
    "detach",
    "detach_",
    "alias",
    "lift_fresh_copy",
    "lift_fresh",
    "dropout",
    "native_dropout",
    "positive",
    "resolve_conj",
    "resolve_neg",
    "feature_dropout",
    "_assert_tensor",
    "alias_copy",
    "detach_copy",
    "rrelu.inference",
)
def _same(c: NodeBuilder, x: SSAValue, *rest: Any, **options: Any) -> Any:
    name = str(c.node.target)
    if "native_dropout" in name:
        if rest and rest[-1]:
            raise c.refuse("dropout in training mode draws random numbers; call model.eval()")
        return x, c.full(True, dims_of(x), dtypes.i1)
    if "dropout" in name and len(rest) > 1 and rest[1] and rest[0]:
        raise c.refuse("dropout in training mode draws random numbers; call model.eval()")
    return x


@converts("gelu")
def _gelu(c: NodeBuilder, x: SSAValue, approximate: str = "none") -> SSAValue:
    return c.b(act.GeluOp, x, approximate=approximate)


@converts("leaky_relu")
def _leaky_relu(c: NodeBuilder, x: SSAValue, negative_slope: float = 0.01) -> SSAValue:
    return c.b(act.LeakyReluOp, x, alpha=float(negative_slope))


@converts("prelu", "_prelu_kernel")
def _prelu(c: NodeBuilder, x: SSAValue, weight: SSAValue) -> SSAValue:
    if "kernel" not in str(c.node.target) and rank_of(weight) == 1 and rank_of(x) > 1:
        weight = c.per_channel(weight, rank_of(x))
    return c.b(act.PReluOp, x, weight)


@converts("elu")
def _elu(
    c: NodeBuilder, x: SSAValue, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> SSAValue:
    if input_scale != 1:
        return c.where(
            c.gt(x, 0),
            c.mul(x, scale),
            c.mul(c.b(maths.Expm1Op, c.mul(x, input_scale)), float(alpha) * scale),
        )
    if scale != 1:
        return c.b(act.SeluOp, x, alpha=float(alpha), gamma=float(scale))
    return c.b(act.EluOp, x, alpha=float(alpha))


@converts("selu")
def _selu(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.b(act.SeluOp, x, alpha=1.6732632423543772, gamma=1.0507009873554805)


@converts("celu")
def _celu(c: NodeBuilder, x: SSAValue, alpha: float = 1.0) -> SSAValue:
    return c.b(act.CeluOp, x, alpha=float(alpha))


@converts("softplus")
def _softplus(c: NodeBuilder, x: SSAValue, beta: float = 1, threshold: float = 20) -> SSAValue:
    return c.b(act.SoftplusOp, x, beta=float(beta), threshold=float(threshold))


@converts("hardsigmoid")
def _hardsigmoid(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.b(act.HardSigmoidOp, x, alpha=1 / 6, beta=0.5)


@converts("threshold")
def _threshold(c: NodeBuilder, x: SSAValue, threshold: float, value: float) -> SSAValue:
    return c.b(act.ThresholdOp, x, threshold=float(threshold), value=float(value))


@converts("hardshrink", "softshrink")
def _shrink(c: NodeBuilder, x: SSAValue, lambd: float = 0.5) -> SSAValue:
    soft = "softshrink" in str(c.node.target)
    if soft:
        return c.b(act.ShrinkOp, x, lambd=float(lambd), bias=float(lambd))
    inside = c.both(c.ge(x, -lambd), c.le(x, lambd))
    return c.where(inside, c.like(0, x), x)


@converts("log_sigmoid", "log_sigmoid_forward")
def _log_sigmoid(c: NodeBuilder, x: SSAValue) -> Any:
    y = c.b(act.LogSigmoidOp, x)
    return (y, c.exp(c.neg(c.abs(x)))) if "forward" in str(c.node.target) else y


@converts("glu")
def _glu(c: NodeBuilder, x: SSAValue, dim: int = -1) -> SSAValue:
    axis = dim % rank_of(x)
    size = floordiv(dims_of(x)[axis], 2)
    return c.mul(c.cut(x, axis, 0, size), c.sigmoid(c.cut(x, axis, size, size)))


@converts("logit")
def _logit(c: NodeBuilder, x: SSAValue, eps: float | None = None) -> SSAValue:
    x = c.finished(x)
    if eps is not None:
        x = c.b(select.ClampOp, x, c.like(eps, x), c.like(1 - eps, x))
    return c.log(c.div(x, c.sub(c.like(1, x), x)))


@converts("polygamma")
def _polygamma(c: NodeBuilder, n: int, x: SSAValue) -> SSAValue:
    return c.b(special.PolygammaOp, c.finished(x), n=n)


@converts("mvlgamma")
def _mvlgamma(c: NodeBuilder, x: SSAValue, p: int) -> SSAValue:
    x = c.finished(x)
    total = c.like(p * (p - 1) / 4 * math.log(math.pi), x)
    for j in range(p):
        total = c.add(total, c.b(special.LgammaOp, c.sub(x, j / 2)))
    return total


@converts("special_airy_ai")
def _airy_ai(c: NodeBuilder, x: SSAValue) -> SSAValue:
    """NaN at infinities, where torch has no limit."""
    x = c.finished(x)
    return c.where(c.b(rounding.IsInfOp, x), c.like(math.nan, x), c.b(AiryOp, x))


@converts("special_ndtr")
def _ndtr(c: NodeBuilder, x: SSAValue) -> SSAValue:
    x = c.finished(x)
    return c.mul(c.b(special.ErfcOp, c.mul(x, -math.sqrt(0.5))), 0.5)


@converts("deg2rad")
def _deg2rad(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.mul(c.finished(x), math.pi / 180)


@converts("rad2deg")
def _rad2deg(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.mul(c.finished(x), 180 / math.pi)


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


@converts("lerp.Scalar", "lerp.Tensor")
def _lerp(c: NodeBuilder, a: SSAValue, b: SSAValue, weight: Scalar) -> SSAValue:
    return c.b(select.LerpOp, a, b, c.tensor(weight, element_type(a)))


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


@converts("nextafter")
def _nextafter(c: NodeBuilder, a: SSAValue, b: SSAValue) -> SSAValue:
    """Of half precision by the bits, which ascend with the magnitude."""
    element = c.out_element()
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
