"""Element-wise logic on truth values, and on the bits of integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dtypes import Element, dtype_of
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Binary, Unary
from torsh_dialect.ops.half import rounded_once, where
from torsh_dialect.scalar import Scalar, V
from torsh_dialect.types import element_type


def require_bits(element: Element) -> Element:
    """Refuse an element type that is neither integer nor bool.

    Raises:
        ShapeError: It is a float, complex or string type.
    """
    if dtype_of(element).kind not in ("int", "uint", "bool"):
        raise ShapeError(f"{element} has no bits to work on; integers and bools have")
    return element


class Logical(Binary):
    """Of the truth of two numbers (whether they differ from 0), a bool."""

    def result_element(self, *elements: Element) -> Element:
        super().result_element(*elements)
        return dtypes.i1


class Bitwise(Binary):
    """Of the bits of two integers or bools."""

    def result_element(self, *elements: Element) -> Element:
        return require_bits(super().result_element(*elements))


def truth(s: Scalar[V], x: V) -> V:
    """Whether x differs from 0."""
    return x if s.dtype(x) == dtypes.i1 else s.ne(x, s.const(0, s.dtype(x)))


@op
class LogicalAndOp(Logical):
    """Whether both a and b differ from 0.

    %r = torsh.logical_and %a, %b : (tensor<3xi1>, tensor<3xi1>) -> tensor<3xi1>
    """

    name = "torsh.logical_and"
    SPELLED: ClassVar = Spelled(
        torch=("aten.logical_and.default",), onnx=("And",), tensorflow=("LogicalAnd",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.logical_and(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.and_(truth(s, x[0]), truth(s, x[1]))


@op
class LogicalOrOp(Logical):
    """Whether a or b differs from 0.

    %r = torsh.logical_or %a, %b : (tensor<3xi1>, tensor<3xi1>) -> tensor<3xi1>
    """

    name = "torsh.logical_or"
    SPELLED: ClassVar = Spelled(
        torch=("aten.logical_or.default",), onnx=("Or",), tensorflow=("LogicalOr",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.logical_or(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.or_(truth(s, x[0]), truth(s, x[1]))


@op
class LogicalXorOp(Logical):
    """Whether exactly one of a and b differs from 0.

    %r = torsh.logical_xor %a, %b : (tensor<3xi1>, tensor<3xi1>) -> tensor<3xi1>
    """

    name = "torsh.logical_xor"
    SPELLED: ClassVar = Spelled(torch=("aten.logical_xor.default",), onnx=("Xor",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.logical_xor(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.xor(truth(s, x[0]), truth(s, x[1]))


@op
class LogicalNotOp(Unary):
    """Whether x is 0.

    %r = torsh.logical_not %x : (tensor<3xi1>) -> tensor<3xi1>
    """

    name = "torsh.logical_not"
    SPELLED: ClassVar = Spelled(
        torch=("aten.logical_not.default",), onnx=("Not",), tensorflow=("LogicalNot",)
    )

    def result_element(self, *elements: Element) -> Element:
        return dtypes.i1

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.logical_not(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.not_(truth(s, x[0]))


@op
class BitwiseAndOp(Bitwise):
    """The bits that are set in both a and b.

    %r = torsh.bitwise_and %a, %b : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.bitwise_and"
    SPELLED: ClassVar = Spelled(
        torch=(
            "aten.bitwise_and.Tensor",
            "aten.bitwise_and.Scalar",
            "aten.bitwise_and.Scalar_Tensor",
        ),
        onnx=("BitwiseAnd",),
        tensorflow=("BitwiseAnd",),
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.bitwise_and(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.and_(x[0], x[1])


@op
class BitwiseOrOp(Bitwise):
    """The bits that are set in a or b.

    %r = torsh.bitwise_or %a, %b : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.bitwise_or"
    SPELLED: ClassVar = Spelled(
        torch=(
            "aten.bitwise_or.Tensor",
            "aten.bitwise_or.Scalar",
            "aten.bitwise_or.Scalar_Tensor",
        ),
        onnx=("BitwiseOr",),
        tensorflow=("BitwiseOr",),
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.bitwise_or(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.or_(x[0], x[1])


@op
class BitwiseXorOp(Bitwise):
    """The bits that are set in exactly one of a and b.

    %r = torsh.bitwise_xor %a, %b : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.bitwise_xor"
    SPELLED: ClassVar = Spelled(
        torch=(
            "aten.bitwise_xor.Tensor",
            "aten.bitwise_xor.Scalar",
            "aten.bitwise_xor.Scalar_Tensor",
        ),
        onnx=("BitwiseXor",),
        tensorflow=("BitwiseXor",),
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.bitwise_xor(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.xor(x[0], x[1])


@op
class BitwiseNotOp(Unary):
    """The complement of the bits of an integer, or of a bool.

    %r = torsh.bitwise_not %x : (tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.bitwise_not"
    SPELLED: ClassVar = Spelled(
        torch=("aten.bitwise_not.default",), onnx=("BitwiseNot",), tensorflow=("Invert",)
    )

    def result_element(self, *elements: Element) -> Element:
        return require_bits(elements[0])

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.invert(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.not_(x[0])


@op
class ShiftLeftOp(Bitwise):
    """The bits of a moved up by b places; 0 where b is negative or not below the width.

    %r = torsh.shift_left %a, %b : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.shift_left"
    SPELLED: ClassVar = Spelled(
        torch=(
            "aten.bitwise_left_shift.Tensor",
            "aten.bitwise_left_shift.Tensor_Scalar",
            "aten.bitwise_left_shift.Scalar_Tensor",
            "aten.__lshift__.Scalar",
            "aten.__lshift__.Tensor",
        ),
        tensorflow=("LeftShift",),
    )

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        a, b = args
        inside = (b >= 0) & (b < dtype_of(element_type(self.a)).bits)
        return (where(inside, np.left_shift(a, where(inside, b, 0)), 0).astype(a.dtype),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        shifted = s.shl(x[0], x[1])
        if dtype_of(element).kind == "uint":
            return shifted
        zero = s.const(0, element)
        return s.select(s.lt(x[1], zero), zero, shifted)


@op
class ShiftRightOp(Bitwise):
    """The bits of a moved down by b places, with copies of the sign for signed integers.

    Where b is negative or not below the width: 0, or -1 for negative a.

    %r = torsh.shift_right %a, %b : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.shift_right"
    SPELLED: ClassVar = Spelled(
        torch=(
            "aten.bitwise_right_shift.Tensor",
            "aten.bitwise_right_shift.Tensor_Scalar",
            "aten.bitwise_right_shift.Scalar_Tensor",
            "aten.__rshift__.Scalar",
            "aten.__rshift__.Tensor",
        ),
        tensorflow=("RightShift",),
    )

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        a, b = args
        inside = (b >= 0) & (b < dtype_of(element_type(self.a)).bits)
        beyond = where(a < 0, -1, 0).astype(a.dtype)
        return (where(inside, np.right_shift(a, where(inside, b, 0)), beyond),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        shifted = s.shr(x[0], x[1])
        if dtype_of(element).kind == "uint":
            return shifted
        zero = s.const(0, element)
        beyond = s.select(s.lt(x[0], zero), s.const(-1, element), zero)
        return s.select(s.lt(x[1], zero), beyond, shifted)


@op
class PopulationCountOp(Unary):
    """How many bits of an integer are set.

    %r = torsh.population_count %x : (tensor<3xui8>) -> tensor<3xui8>
    """

    name = "torsh.population_count"

    def result_element(self, *elements: Element) -> Element:
        return require_bits(elements[0])

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        bits = dtype_of(element_type(self.x)).bits
        return (np.sum([(args[0] >> n) & 1 for n in range(bits)], axis=0),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        one = s.const(1, element)
        total = s.and_(x[0], one)
        for bit in range(1, dtype_of(element).bits):
            total = s.add(total, s.and_(s.shr(x[0], s.const(bit, element)), one))
        return total
