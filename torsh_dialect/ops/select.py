"""Choosing between numbers: where, minimum, maximum, clamp, interpolation; and casts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import BoolAttr, StringAttr
from xdsl.ir import Attribute
from xdsl.irdl import AttrSizedOperandSegments, operand_def, opt_operand_def, opt_prop_def, prop_def

from torsh_dialect import dims, dtypes
from torsh_dialect.attributes import Array, bool_of, str_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dtypes import DType, Element, dtype_of
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Binary, Contents, Elementwise, Unary
from torsh_dialect.ops.half import rounded_once, where, widened
from torsh_dialect.ops.known import mapped1, mapped2
from torsh_dialect.ops.maths import require_inexact
from torsh_dialect.scalar import Scalar, V


def same_element(what: str, *elements: Element) -> Element:
    """The one element type of several operands.

    Raises:
        ShapeError: They differ.
    """
    if len(set(elements)) != 1:
        names = ", ".join(str(e) for e in elements)
        raise ShapeError(f"{what} have element types {names}; insert torsh.cast")
    return elements[0]


@op
class WhereOp(Elementwise):
    """a where the condition holds, else b.

    C1: the condition is bool. C2: a and b have one element type.

    %r = torsh.where %c, %a, %b : (tensor<3xi1>, tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.where"
    condition = operand_def()
    a = operand_def()
    b = operand_def()
    SPELLED: ClassVar = Spelled(
        torch=("aten.where.self",), onnx=("Where",), tensorflow=("SelectV2",)
    )

    def result_element(self, *elements: Element) -> Element:
        if elements[0] != dtypes.i1:
            raise ShapeError(f"C1: the condition is {elements[0]}, not bool")
        return same_element("C2: a and b", *elements[1:])

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (where(args[0], args[1], args[2]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.select(x[0], x[1], x[2])


@op
class MinimumOp(Binary):
    """The smaller of a and b; NaN if one is.

    %r = torsh.minimum %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.minimum"
    SPELLED: ClassVar = Spelled(torch=("aten.minimum.default",), tensorflow=("Minimum",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.minimum(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return (s.and_ if s.dtype(x[0]) == dtypes.i1 else s.min)(x[0], x[1])

    def contents(self) -> Contents | None:
        return mapped2(self, dims.minimum)


@op
class MaximumOp(Binary):
    """The larger of a and b; NaN if one is.

    %r = torsh.maximum %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.maximum"
    SPELLED: ClassVar = Spelled(torch=("aten.maximum.default",), tensorflow=("Maximum",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.maximum(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return (s.or_ if s.dtype(x[0]) == dtypes.i1 else s.max)(x[0], x[1])

    def contents(self) -> Contents | None:
        return mapped2(self, dims.maximum)


@op
class FminOp(Binary):
    """The smaller of a and b; the other one where one is NaN.

    %r = torsh.fmin %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.fmin"
    SPELLED: ClassVar = Spelled(torch=("aten.fmin.default",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.fmin(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        a, b = x
        return s.select(s.ne(a, a), b, s.select(s.ne(b, b), a, s.min(a, b)))


@op
class FmaxOp(Binary):
    """The larger of a and b; the other one where one is NaN.

    %r = torsh.fmax %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.fmax"
    SPELLED: ClassVar = Spelled(torch=("aten.fmax.default",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.fmax(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        a, b = x
        return s.select(s.ne(a, a), b, s.select(s.ne(b, b), a, s.max(a, b)))


@op
class ClampOp(Elementwise):
    """x, but not below `low` and then not above `high`; either may be missing; NaN spreads.

    C1: all operands have one element type.

    %r = torsh.clamp %x, %low {operandSegmentSizes = array<i32: 1, 1, 0>}
        : (tensor<3xf32>, tensor<f32>) -> tensor<3xf32>
    """

    name = "torsh.clamp"
    x = operand_def()
    low = opt_operand_def()
    high = opt_operand_def()
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def result_element(self, *elements: Element) -> Element:
        return same_element("C1: operands", *elements)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        result: Any
        result, *limits = args
        if self.low is not None:
            result = np.maximum(result, limits.pop(0))
        if self.high is not None:
            result = np.minimum(result, limits.pop(0))
        return (result,)

    def body(self, s: Scalar[V], *x: V) -> V:
        result, *limits = x
        if self.low is not None:
            result = s.max(result, limits.pop(0))
        return s.min(result, limits.pop(0)) if self.high is not None else result


@op
class LerpOp(Elementwise):
    """a + weight * (b - a), computed from the nearer end.

    C1: all operands have one float type.

    %r = torsh.lerp %a, %b, %w : (tensor<3xf32>, tensor<3xf32>, tensor<f32>) -> tensor<3xf32>
    """

    name = "torsh.lerp"
    a = operand_def()
    b = operand_def()
    weight = operand_def()
    SPELLED: ClassVar = Spelled(torch=("aten.lerp.Tensor", "aten.lerp.Scalar"))

    def result_element(self, *elements: Element) -> Element:
        return require_inexact(same_element("C1: operands", *elements))

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        a, b, weight = args
        far = b - (b - a) * (np.ones_like(weight) - weight)
        return (where(np.abs(weight) < 0.5, a + weight * (b - a), far),)

    def body(self, s: Scalar[V], *x: V) -> V:
        a, b, weight = x
        span = s.sub(b, a)
        near = s.add(a, s.mul(weight, span))
        far = s.sub(b, s.mul(span, s.sub(s.const(1, s.dtype(a)), weight)))
        return s.select(s.lt(s.abs(weight), s.const(0.5, s.dtype(a))), near, far)


def _scale(s: Scalar[V], x: V, rounding: str) -> V:
    """The power of two (as f32) near |x|: 2^-127 at least; NaN for NaN and infinities."""
    bits = s.bitcast(s.abs(x), dtypes.i32)
    normal, subnormal = {
        "up": (0x7FFFFF, 0x3FFFFF),
        "down": (0, 0),
        "nearest": (0x400000, 0x200000),
    }[rounding]
    small = s.lt(bits, s.const(0x800000, dtypes.i32))  # 2^-127, the least, is no normal number
    step = s.select(small, s.const(subnormal, dtypes.i32), s.const(normal, dtypes.i32))
    raised = s.add(bits, step)
    exponent = s.and_(raised, s.const(0x7F800000, dtypes.i32))
    least, most = s.const(0x400000, dtypes.i32), s.const(0x7F000000, dtypes.i32)
    power = s.bitcast(s.min(s.max(exponent, least), most), dtypes.f32)
    finite = s.lt(s.abs(x), s.const(float("inf"), dtypes.f32))
    return s.select(finite, power, s.const(float("nan"), dtypes.f32))


LARGEST = {"f8e4m3fn": 448.0, "f8e4m3fnuz": 240.0, "f8e5m2": 57344.0, "f8e5m2fnuz": 57344.0}
"""The largest finite value of the fp8 types (OCP OFP8 specification)."""

WITHOUT_NAN = {"f6e2m3fn": 7.5, "f6e3m2fn": 28.0, "f4e2m1fn": 6.0}
"""The largest value of the types without NaN and infinities (OCP MX specification 1.0, 5.3)."""


@op
class CastOp(Unary):
    """x as another element type.

    To bool: whether x differs from 0. Float to integer: towards zero, saturating, NaN gives 0.
    Integer to integer: wraps. Complex to real: the real part. To f16, bf16 and fp8: rounded from
    f32 (f64 and integers go through f32), ties to even; with `saturate`, values beyond the
    largest fp8 value become that value. To f8e8m0fnu: the next power of two by `rounding`
    (`up`, the default; `down`; `nearest`), 2^-127 at least; infinities give NaN. To fp6 and fp4:
    NaN gives the largest value (6 in f4e2m1fn, as the ONNX specification says).

    %r = torsh.cast %x {to = i32} : (tensor<3xf32>) -> tensor<3xi32>
    """

    name = "torsh.cast"
    to = prop_def(Attribute)
    saturate = opt_prop_def(BoolAttr)
    rounding = opt_prop_def(StringAttr)

    def result_element(self, *elements: Element) -> Element:
        dtype_of(self.to)
        return self.to

    def evaluate(self, *args: Array) -> Sequence[Array]:
        mode = "up" if self.rounding is None else str_of(self.rounding)
        with np.errstate(all="ignore"):
            value = cast(args[0], dtype_of(self.to), bool_of(self.saturate), mode)
            return (np.asarray(value),)

    def body(self, s: Scalar[V], *x: V) -> V:
        source, to = s.dtype(x[0]), dtype_of(self.to)
        if to.kind == "bool":
            return s.ne(x[0], s.const(0, source))
        if to.kind != "float" or to.bits > 16:
            return x[0] if source == self.to else s.cast(x[0], self.to)
        value = x[0] if source == dtypes.f32 else s.cast(x[0], dtypes.f32)
        if to.name == "f8e8m0fnu":
            return _scale(s, value, "up" if self.rounding is None else str_of(self.rounding))
        if not bool_of(self.saturate) or to.name not in LARGEST:
            return value
        top = s.const(LARGEST[to.name], dtypes.f32)
        return s.max(s.min(value, top), s.neg(top))

    def contents(self) -> Contents | None:
        return mapped1(self, lambda x: x) if dtype_of(self.to).kind in ("int", "uint") else None


def cast(array: Array, to: DType, saturate: bool, rounding: str) -> Array:
    """The value of `torsh.cast` in numpy."""
    value: Any = widened(array)
    if to.kind == "bool":
        return value != 0
    if value.dtype.kind == "c" and to.kind != "complex":
        value = value.real
    if to.kind in ("int", "uint") and value.dtype.kind == "f":
        return _whole(value, to)
    if to.kind != "float" or to.bits > 16:
        return value.astype(to.numpy)
    value = value.astype(np.float32)
    if to.name in WITHOUT_NAN:
        value = where(np.isnan(value), np.float32(WITHOUT_NAN[to.name]), value)
    if to.name == "f8e8m0fnu":
        return _power_of_two(value, rounding).astype(to.numpy)
    if saturate and to.name in LARGEST:
        value = np.clip(value, -LARGEST[to.name], LARGEST[to.name])
    return value.astype(to.numpy)


def _whole(value: Any, to: DType) -> Array:
    bits = to.bits - (to.kind == "int")
    low, high = (-(2**bits) if to.kind == "int" else 0), 2**bits
    inside = (value > low - 1) & (value < high)
    whole = np.trunc(where(inside, value, 0))
    limit = where(value >= high, high - 1, where(value <= low - 1, low, 0))
    exact = limit.astype(np.uint64 if to.kind == "uint" else np.int64)
    return where(inside, whole.astype(exact.dtype), exact).astype(to.numpy)


def _power_of_two(value: Any, rounding: str) -> Any:
    parts: Any = np.frexp(np.abs(value))
    mantissa, exponent = parts
    if rounding == "up":
        exponent = where(mantissa > 0.5, exponent, exponent - 1)
    elif rounding == "down":
        exponent = exponent - 1
    else:
        exponent = where(mantissa >= 0.75, exponent, exponent - 1)
    exponent = where(value == 0, -127, exponent)
    scale = np.ldexp(np.float32(1), np.clip(exponent, -127, 127))
    return where(np.isfinite(value), scale, np.float32(np.nan))
