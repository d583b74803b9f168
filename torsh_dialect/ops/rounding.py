"""Rounding to whole numbers, and taking floats apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dtypes import Element, dtype_of, is_float
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Binary, Unary
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.ops.maths import require_inexact
from torsh_dialect.scalar import Scalar, V


@op
class FloorOp(Unary):
    """The largest whole number not above x; an integer is its own.

    %r = torsh.floor %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.floor"
    SPELLED: ClassVar = Spelled(
        torch=("aten.floor.default",), onnx=("Floor",), tensorflow=("Floor",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.floor(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.floor(x[0]) if is_float(s.dtype(x[0])) else x[0]


@op
class CeilOp(Unary):
    """The smallest whole number not below x; an integer is its own.

    %r = torsh.ceil %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.ceil"
    SPELLED: ClassVar = Spelled(torch=("aten.ceil.default",), onnx=("Ceil",), tensorflow=("Ceil",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.ceil(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.ceil(x[0]) if is_float(s.dtype(x[0])) else x[0]


@op
class TruncOp(Unary):
    """x without its fraction; an integer is its own.

    %r = torsh.trunc %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.trunc"
    SPELLED: ClassVar = Spelled(torch=("aten.trunc.default",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.trunc(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.trunc(x[0]) if is_float(s.dtype(x[0])) else x[0]


@op
class RoundOp(Unary):
    """The nearest whole number, the even one of two; an integer is its own.

    %r = torsh.round %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.round"
    SPELLED: ClassVar = Spelled(
        torch=("aten.round.default",), onnx=("Round",), tensorflow=("Round", "Rint")
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.rint(args[0]) if args[0].dtype.kind == "f" else args[0],)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.round(x[0]) if is_float(s.dtype(x[0])) else x[0]


@op
class FracOp(Unary):
    """x minus its whole part: has the sign of x.

    %r = torsh.frac %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.frac"
    SPELLED: ClassVar = Spelled(torch=("aten.frac.default",))

    def result_element(self, *elements: Element) -> Element:
        return require_inexact(elements[0])

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        return (args[0] - np.trunc(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.sub(x[0], s.trunc(x[0]))


class FloatTest(Unary):
    """A property of a float, as a bool."""

    def result_element(self, *elements: Element) -> Element:
        require_inexact(elements[0])
        return dtypes.i1


@op
class IsNanOp(FloatTest):
    """Whether x is not a number.

    %r = torsh.isnan %x : (tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.isnan"
    SPELLED: ClassVar = Spelled(
        torch=("aten.isnan.default",), onnx=("IsNaN",), tensorflow=("IsNan",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.isnan(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.ne(x[0], x[0])


@op
class IsInfOp(FloatTest):
    """Whether x is an infinity.

    %r = torsh.isinf %x : (tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.isinf"
    SPELLED: ClassVar = Spelled(torch=("aten.isinf.default",), tensorflow=("IsInf",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.isinf(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.eq(s.abs(x[0]), s.const(float("inf"), s.dtype(x[0])))


@op
class IsFiniteOp(FloatTest):
    """Whether x is neither an infinity nor NaN.

    %r = torsh.isfinite %x : (tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.isfinite"
    SPELLED: ClassVar = Spelled(tensorflow=("IsFinite",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.isfinite(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.lt(s.abs(x[0]), s.const(float("inf"), s.dtype(x[0])))


def sign_bit(s: Scalar[V], x: V) -> V:
    """Whether the sign bit of a float is set, also of -0 and NaN."""
    bits = dtypes.i64 if s.dtype(x) == dtypes.f64 else dtypes.i32
    return s.lt(s.bitcast(x, bits), s.const(0, bits))


@op
class SignBitOp(Unary):
    """Whether x has its sign set: below 0, and for floats also -0 and negative NaN.

    %r = torsh.signbit %x : (tensor<3xf32>) -> tensor<3xi1>
    """

    name = "torsh.signbit"
    SPELLED: ClassVar = Spelled(torch=("aten.signbit.default",))

    def result_element(self, *elements: Element) -> Element:
        return dtypes.i1

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x = args[0]
        return (np.signbit(x) if x.dtype.kind == "f" else x < 0,)

    def body(self, s: Scalar[V], *x: V) -> V:
        if is_float(s.dtype(x[0])):
            return sign_bit(s, x[0])
        if dtype_of(s.dtype(x[0])).kind != "int":
            return s.const(False, dtypes.i1)
        return s.lt(x[0], s.const(0, s.dtype(x[0])))


@op
class CopySignOp(Binary):
    """The magnitude of a with the sign of b.

    C1: the elements are floats.

    %r = torsh.copysign %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.copysign"
    SPELLED: ClassVar = Spelled(torch=("aten.copysign.Tensor", "aten.copysign.Scalar"))

    def result_element(self, *elements: Element) -> Element:
        if not is_float(elements[0]):
            raise ShapeError(f"C1: {elements[0]} is no float type; insert torsh.cast")
        return super().result_element(*elements)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.copysign(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        magnitude = s.abs(x[0])
        return s.select(sign_bit(s, x[1]), s.neg(magnitude), magnitude)


@op
class NextAfterOp(Binary):
    """The neighbour of a in the direction of b: a itself where they are equal.

    C1: the element type is f32 or f64, whose neighbours a body can name.

    %r = torsh.nextafter %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.nextafter"
    SPELLED: ClassVar = Spelled(torch=("aten.nextafter.default",))

    def result_element(self, *elements: Element) -> Element:
        element = super().result_element(*elements)
        if element not in (dtypes.f32, dtypes.f64):
            raise ShapeError(f"C1: {element} is neither f32 nor f64")
        return element

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.nextafter(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        a, b = x
        element = s.dtype(a)
        bits = dtypes.i64 if element == dtypes.f64 else dtypes.i32
        zero, one = s.const(0, element), s.const(1, bits)
        pattern = s.bitcast(a, bits)
        away = s.xor(s.lt(a, b), s.lt(a, zero))
        stepped = s.select(away, s.add(pattern, one), s.sub(pattern, one))
        tiny = s.bitcast(one, element)
        from_zero = s.select(s.gt(b, zero), tiny, s.neg(tiny))
        moved = s.select(s.eq(a, zero), from_zero, s.bitcast(stepped, element))
        moved = s.select(s.eq(a, b), b, moved)
        unordered = s.or_(s.ne(a, a), s.ne(b, b))
        return s.select(unordered, s.add(a, b), moved)
