"""Element-wise arithmetic: sums, products, quotients, powers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from torsh_dialect import dims, dtypes
from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dtypes import dtype_of, is_complex, is_float, is_integer
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Binary, Contents, Unary
from torsh_dialect.ops.half import rounded_once, where
from torsh_dialect.ops.known import mapped1, mapped2
from torsh_dialect.scalar import Scalar, V


@op
class AddOp(Binary):
    """a + b; integers wrap; of bools, whether one is set.

    %r = torsh.add %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.add"
    SPELLED: ClassVar = Spelled(
        torch=("aten.add.Tensor", "aten.add.Scalar"), onnx=("Add",), tensorflow=("Add", "AddV2")
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.add(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        if s.dtype(x[0]) == dtypes.i1:
            return s.or_(x[0], x[1])
        return s.add(x[0], x[1])

    def contents(self) -> Contents | None:
        return mapped2(self, lambda a, b: a + b)


@op
class SubOp(Binary):
    """a - b; integers wrap.

    %r = torsh.sub %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.sub"
    SPELLED: ClassVar = Spelled(
        torch=("aten.sub.Tensor", "aten.sub.Scalar"), onnx=("Sub",), tensorflow=("Sub",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.subtract(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.sub(x[0], x[1])

    def contents(self) -> Contents | None:
        return mapped2(self, lambda a, b: a - b)


@op
class MulOp(Binary):
    """a * b; integers wrap; of bools, whether both are set.

    %r = torsh.mul %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.mul"
    SPELLED: ClassVar = Spelled(
        torch=("aten.mul.Tensor", "aten.mul.Scalar"), onnx=("Mul",), tensorflow=("Mul",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.multiply(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        if s.dtype(x[0]) == dtypes.i1:
            return s.and_(x[0], x[1])
        return s.mul(x[0], x[1])

    def contents(self) -> Contents | None:
        return mapped2(self, lambda a, b: a * b)


@op
class DivOp(Binary):
    """The quotient a / b of real or complex numbers.

    C1: the element type is a float or complex type; integers use `torsh.floordiv` or
    `torsh.truncdiv`.

    %r = torsh.div %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.div"
    SPELLED: ClassVar = Spelled(
        torch=("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor"),
        tensorflow=("RealDiv",),
    )

    def result_element(self, *elements: dtypes.Element) -> dtypes.Element:
        element = super().result_element(*elements)
        if not is_float(element) and not is_complex(element):
            raise ShapeError(f"C1: {element} has no true division; use floordiv or truncdiv")
        return element

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.divide(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.div(x[0], x[1])


@op
class TruncDivOp(Binary):
    """a / b rounded towards zero; integers by 0 give 0, and the one overflow wraps.

    %r = torsh.truncdiv %a, %b : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.truncdiv"
    SPELLED: ClassVar = Spelled(tensorflow=("TruncateDiv",))

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        a, b = args
        if a.dtype.kind == "f":
            return (np.trunc(np.divide(a, b)),)
        quotient = np.floor_divide(a, b)
        short = (np.remainder(a, b) != 0) & ((a < 0) != (b < 0))
        return (where(b == 0, 0, quotient + short),)

    def body(self, s: Scalar[V], *x: V) -> V:
        quotient = s.div(x[0], x[1])
        return s.trunc(quotient) if is_float(s.dtype(x[0])) else quotient

    def contents(self) -> Contents | None:
        return mapped2(self, _whole_quotient)


def _whole_quotient(a: dims.Dim, b: dims.Dim) -> dims.Dim:
    """Rounded towards zero; extents are not negative, so that is rounded down."""
    if isinstance(a, int) and isinstance(b, int):
        return (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1) if b else 0
    return dims.floordiv(a, b)


@op
class FloorDivOp(Binary):
    """a / b rounded down; integers by 0 give 0. Floats as Python's `//`: exact fmod first.

    %r = torsh.floordiv %a, %b : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.floordiv"
    SPELLED: ClassVar = Spelled(
        torch=("aten.floor_divide.default", "aten.floor_divide.Scalar"), tensorflow=("FloorDiv",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.floor_divide(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        a, b = x
        zero = s.const(0, s.dtype(a))
        one = s.const(1, s.dtype(a))
        rest = s.rem(a, b)
        against = s.and_(s.ne(rest, zero), s.xor(s.lt(rest, zero), s.lt(b, zero)))
        if not is_float(s.dtype(a)):
            quotient = s.div(a, b)
            down = s.select(against, s.sub(quotient, one), quotient)
            return s.select(s.eq(b, zero), zero, down)
        exact = s.div(s.sub(a, rest), b)
        exact = s.select(against, s.sub(exact, one), exact)
        down = s.floor(exact)
        half = s.gt(s.sub(exact, down), s.const(0.5, s.dtype(a)))
        down = s.select(half, s.add(down, one), down)
        plain = s.div(a, b)
        down = s.select(s.eq(exact, zero), s.mul(zero, plain), down)
        return s.select(s.eq(b, zero), plain, down)

    def contents(self) -> Contents | None:
        return mapped2(self, lambda a, b: dims.floordiv(a, b) if b != 0 else 0)


@op
class RemainderOp(Binary):
    """What `torsh.floordiv` leaves: has the sign of b; integers by 0 give 0.

    %r = torsh.remainder %a, %b : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    """

    name = "torsh.remainder"
    SPELLED: ClassVar = Spelled(
        torch=("aten.remainder.Tensor", "aten.remainder.Scalar", "aten.remainder.Scalar_Tensor"),
        tensorflow=("FloorMod",),
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.remainder(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        a, b = x
        zero = s.const(0, s.dtype(a))
        rest = s.rem(a, b)
        against = s.and_(s.ne(rest, zero), s.xor(s.lt(rest, zero), s.lt(b, zero)))
        rest = s.select(against, s.add(rest, b), rest)
        return rest if is_float(s.dtype(a)) else s.select(s.eq(b, zero), zero, rest)

    def contents(self) -> Contents | None:
        return mapped2(self, lambda a, b: dims.modulo(a, b) if b != 0 else 0)


@op
class FmodOp(Binary):
    """What the quotient rounded towards zero leaves: has the sign of a; integers by 0 give 0.

    %r = torsh.fmod %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.fmod"
    SPELLED: ClassVar = Spelled(
        torch=("aten.fmod.Tensor", "aten.fmod.Scalar"), tensorflow=("TruncateMod",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.fmod(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        rest = s.rem(x[0], x[1])
        if is_float(s.dtype(x[0])):
            return rest
        zero = s.const(0, s.dtype(x[0]))
        return s.select(s.eq(x[1], zero), zero, rest)


@op
class PowOp(Binary):
    """a to the power b. Integers wrap; to a negative power they give 0, or +-1 for a = +-1.

    C1: the elements are no bools.

    %r = torsh.pow %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.pow"
    SPELLED: ClassVar = Spelled(
        torch=("aten.pow.Tensor_Tensor", "aten.pow.Tensor_Scalar", "aten.pow.Scalar"),
        tensorflow=("Pow",),
    )

    def result_element(self, *elements: dtypes.Element) -> dtypes.Element:
        if elements[0] == dtypes.i1:
            raise ShapeError("C1: bools have no powers; insert torsh.cast")
        return super().result_element(*elements)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        a, b = np.broadcast_arrays(*args)
        if a.dtype.kind in "fc":
            return (np.power(a, b),)
        positive = np.power(a, where(b < 0, 0, b).astype(b.dtype))
        odd = where(b % 2 == 0, np.ones_like(a), a)
        inverse = where(np.abs(a.astype(np.float64)) == 1, odd, 0)
        return (where(b < 0, inverse, positive),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        if not is_integer(element):
            return s.math("pow", x[0], x[1])
        a, b = x
        zero, one = s.const(0, element), s.const(1, element)
        result, base = one, a
        for bit in range(dtype_of(element).bits - (dtype_of(element).kind == "int")):
            is_set = s.ne(s.and_(s.shr(b, s.const(bit, element)), one), zero)
            result = s.select(is_set, s.mul(result, base), result)
            base = s.mul(base, base)
        if dtype_of(element).kind == "uint":
            return result
        odd = s.select(s.eq(s.and_(b, one), zero), one, a)
        unit = s.eq(s.mul(a, a), one)
        unit = s.and_(unit, s.and_(s.le(a, one), s.ge(a, s.const(-1, element))))
        return s.select(s.lt(b, zero), s.select(unit, odd, zero), result)


@op
class NegOp(Unary):
    """-x; integers wrap.

    %r = torsh.neg %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.neg"
    SPELLED: ClassVar = Spelled(torch=("aten.neg.default",), onnx=("Neg",), tensorflow=("Neg",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.negative(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.neg(x[0])

    def contents(self) -> Contents | None:
        return mapped1(self, lambda x: -x)


@op
class AbsOp(Unary):
    """The magnitude of real x (of complex numbers: `torsh.complex_abs`); integers wrap.

    %r = torsh.abs %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.abs"
    SPELLED: ClassVar = Spelled(torch=("aten.abs.default",), onnx=("Abs",), tensorflow=("Abs",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.abs(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.abs(x[0])


@op
class SignOp(Unary):
    """-1, 0 or 1 as x is below, equal to or above 0; NaN stays NaN.

    %r = torsh.sign %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.sign"
    SPELLED: ClassVar = Spelled(onnx=("Sign",), tensorflow=("Sign",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.sign(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        zero = s.const(0, element)
        positive = s.cast(s.gt(x[0], zero), element)
        if dtype_of(element).kind == "uint":
            return positive
        sign = s.sub(positive, s.cast(s.lt(x[0], zero), element))
        return s.select(s.ne(x[0], x[0]), x[0], sign)


@op
class SquareOp(Unary):
    """x * x.

    %r = torsh.square %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.square"
    SPELLED: ClassVar = Spelled(torch=("aten.square.default",), tensorflow=("Square",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.square(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.mul(x[0], x[0])


@op
class ReciprocalOp(Unary):
    """1 / x.

    %r = torsh.reciprocal %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.reciprocal"
    SPELLED: ClassVar = Spelled(
        torch=("aten.reciprocal.default",), onnx=("Reciprocal",), tensorflow=("Reciprocal", "Inv")
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.divide(np.ones_like(args[0]), args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.div(s.const(1, s.dtype(x[0])), x[0])
