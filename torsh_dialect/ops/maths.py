"""Element-wise functions of the maths library: exponentials, logarithms, trigonometry, roots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dtypes import Element, is_complex, is_float
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Binary, Unary
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.scalar import Scalar, V


def require_inexact(element: Element) -> Element:
    """Refuse an element type that is no float or complex type.

    Raises:
        ShapeError: It is an integer, bool or string.
    """
    if not is_float(element) and not is_complex(element):
        raise ShapeError(f"{element} is no float type; insert torsh.cast")
    return element


LN2 = math.log(2)


class MathFunction(Unary):
    """A function of one number with a C name; of floats (and complex numbers where numpy can)."""

    FUNCTION: ClassVar[str]
    NUMPY: ClassVar[Callable[..., Any]]

    def result_element(self, *elements: Element) -> Element:
        return require_inexact(elements[0])

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (type(self).NUMPY(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.math(self.FUNCTION, x[0])


class MathFunction2(Binary):
    """A function of two floats with a C name."""

    FUNCTION: ClassVar[str]
    NUMPY: ClassVar[Callable[..., Any]]

    def result_element(self, *elements: Element) -> Element:
        return require_inexact(super().result_element(*elements))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (type(self).NUMPY(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.math(self.FUNCTION, x[0], x[1])


@op
class ExpOp(MathFunction):
    """e to the power x.

    %r = torsh.exp %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.exp"
    FUNCTION: ClassVar = "exp"
    NUMPY: ClassVar = np.exp
    SPELLED: ClassVar = Spelled(torch=("aten.exp.default",), onnx=("Exp",), tensorflow=("Exp",))


@op
class Exp2Op(MathFunction):
    """2 to the power x.

    %r = torsh.exp2 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.exp2"
    FUNCTION: ClassVar = "exp2"
    NUMPY: ClassVar = np.exp2
    SPELLED: ClassVar = Spelled(torch=("aten.exp2.default",))


@op
class Expm1Op(MathFunction):
    """exp(x) - 1 without loss near 0.

    %r = torsh.expm1 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.expm1"
    FUNCTION: ClassVar = "expm1"
    NUMPY: ClassVar = np.expm1
    SPELLED: ClassVar = Spelled(torch=("aten.expm1.default",), tensorflow=("Expm1",))


@op
class LogOp(MathFunction):
    """The natural logarithm; NaN below 0, -inf at 0.

    %r = torsh.log %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.log"
    FUNCTION: ClassVar = "log"
    NUMPY: ClassVar = np.log
    SPELLED: ClassVar = Spelled(torch=("aten.log.default",), onnx=("Log",), tensorflow=("Log",))


@op
class Log2Op(MathFunction):
    """The logarithm to base 2.

    %r = torsh.log2 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.log2"
    FUNCTION: ClassVar = "log2"
    NUMPY: ClassVar = np.log2
    SPELLED: ClassVar = Spelled(torch=("aten.log2.default",))


@op
class Log10Op(MathFunction):
    """The logarithm to base 10.

    %r = torsh.log10 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.log10"
    FUNCTION: ClassVar = "log10"
    NUMPY: ClassVar = np.log10
    SPELLED: ClassVar = Spelled(torch=("aten.log10.default",))


@op
class Log1pOp(MathFunction):
    """log(1 + x) without loss near 0.

    %r = torsh.log1p %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.log1p"
    FUNCTION: ClassVar = "log1p"
    NUMPY: ClassVar = np.log1p
    SPELLED: ClassVar = Spelled(torch=("aten.log1p.default",), tensorflow=("Log1p",))


@op
class SinOp(MathFunction):
    """The sine of x radians.

    %r = torsh.sin %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.sin"
    FUNCTION: ClassVar = "sin"
    NUMPY: ClassVar = np.sin
    SPELLED: ClassVar = Spelled(torch=("aten.sin.default",), onnx=("Sin",), tensorflow=("Sin",))


@op
class CosOp(MathFunction):
    """The cosine of x radians.

    %r = torsh.cos %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.cos"
    FUNCTION: ClassVar = "cos"
    NUMPY: ClassVar = np.cos
    SPELLED: ClassVar = Spelled(torch=("aten.cos.default",), onnx=("Cos",), tensorflow=("Cos",))


@op
class TanOp(MathFunction):
    """The tangent of x radians.

    %r = torsh.tan %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.tan"
    FUNCTION: ClassVar = "tan"
    NUMPY: ClassVar = np.tan
    SPELLED: ClassVar = Spelled(torch=("aten.tan.default",), onnx=("Tan",), tensorflow=("Tan",))


@op
class AsinOp(MathFunction):
    """The angle in -pi/2..pi/2 whose sine is x; NaN outside -1..1.

    %r = torsh.asin %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.asin"
    FUNCTION: ClassVar = "asin"
    NUMPY: ClassVar = np.arcsin
    SPELLED: ClassVar = Spelled(torch=("aten.asin.default",), onnx=("Asin",), tensorflow=("Asin",))


@op
class AcosOp(MathFunction):
    """The angle in 0..pi whose cosine is x; NaN outside -1..1.

    %r = torsh.acos %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.acos"
    FUNCTION: ClassVar = "acos"
    NUMPY: ClassVar = np.arccos
    SPELLED: ClassVar = Spelled(torch=("aten.acos.default",), onnx=("Acos",), tensorflow=("Acos",))


@op
class AtanOp(MathFunction):
    """The angle in -pi/2..pi/2 whose tangent is x.

    %r = torsh.atan %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.atan"
    FUNCTION: ClassVar = "atan"
    NUMPY: ClassVar = np.arctan
    SPELLED: ClassVar = Spelled(torch=("aten.atan.default",), onnx=("Atan",), tensorflow=("Atan",))


@op
class SinhOp(MathFunction):
    """The hyperbolic sine.

    %r = torsh.sinh %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.sinh"
    FUNCTION: ClassVar = "sinh"
    NUMPY: ClassVar = np.sinh
    SPELLED: ClassVar = Spelled(torch=("aten.sinh.default",), onnx=("Sinh",), tensorflow=("Sinh",))


@op
class CoshOp(MathFunction):
    """The hyperbolic cosine.

    %r = torsh.cosh %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.cosh"
    FUNCTION: ClassVar = "cosh"
    NUMPY: ClassVar = np.cosh
    SPELLED: ClassVar = Spelled(torch=("aten.cosh.default",), onnx=("Cosh",), tensorflow=("Cosh",))


@op
class TanhOp(MathFunction):
    """The hyperbolic tangent.

    %r = torsh.tanh %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.tanh"
    FUNCTION: ClassVar = "tanh"
    NUMPY: ClassVar = np.tanh
    SPELLED: ClassVar = Spelled(torch=("aten.tanh.default",), onnx=("Tanh",), tensorflow=("Tanh",))


@op
class AsinhOp(MathFunction):
    """The inverse hyperbolic sine.

    %r = torsh.asinh %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.asinh"
    FUNCTION: ClassVar = "asinh"
    NUMPY: ClassVar = np.arcsinh
    SPELLED: ClassVar = Spelled(
        torch=("aten.asinh.default",), onnx=("Asinh",), tensorflow=("Asinh",)
    )


@op
class AcoshOp(MathFunction):
    """The inverse hyperbolic cosine; NaN below 1.

    %r = torsh.acosh %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.acosh"
    FUNCTION: ClassVar = "acosh"
    NUMPY: ClassVar = np.arccosh
    SPELLED: ClassVar = Spelled(
        torch=("aten.acosh.default",), onnx=("Acosh",), tensorflow=("Acosh",)
    )


@op
class AtanhOp(MathFunction):
    """The inverse hyperbolic tangent; NaN outside -1..1.

    %r = torsh.atanh %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.atanh"
    FUNCTION: ClassVar = "atanh"
    NUMPY: ClassVar = np.arctanh
    SPELLED: ClassVar = Spelled(
        torch=("aten.atanh.default",), onnx=("Atanh",), tensorflow=("Atanh",)
    )


@op
class CbrtOp(MathFunction):
    """The real cube root.

    %r = torsh.cbrt %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.cbrt"
    FUNCTION: ClassVar = "cbrt"
    NUMPY: ClassVar = np.cbrt


@op
class SqrtOp(MathFunction):
    """The square root, correctly rounded; NaN below 0.

    %r = torsh.sqrt %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.sqrt"
    NUMPY: ClassVar = np.sqrt
    SPELLED: ClassVar = Spelled(torch=("aten.sqrt.default",), onnx=("Sqrt",), tensorflow=("Sqrt",))

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.sqrt(x[0])


@op
class RsqrtOp(MathFunction):
    """1 / sqrt(x), both correctly rounded.

    %r = torsh.rsqrt %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.rsqrt"
    SPELLED: ClassVar = Spelled(torch=("aten.rsqrt.default",), tensorflow=("Rsqrt",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.reciprocal(np.sqrt(args[0])),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.div(s.const(1, s.dtype(x[0])), s.sqrt(x[0]))


@op
class Atan2Op(MathFunction2):
    """The angle in -pi..pi of the point with ordinate a and abscissa b.

    %r = torsh.atan2 %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.atan2"
    FUNCTION: ClassVar = "atan2"
    NUMPY: ClassVar = np.arctan2
    SPELLED: ClassVar = Spelled(torch=("aten.atan2.default",), tensorflow=("Atan2",))


@op
class HypotOp(MathFunction2):
    """sqrt(a^2 + b^2) without overflow on the way.

    %r = torsh.hypot %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.hypot"
    FUNCTION: ClassVar = "hypot"
    NUMPY: ClassVar = np.hypot
    SPELLED: ClassVar = Spelled(torch=("aten.hypot.default",))


@op
class LogAddExpOp(MathFunction2):
    """log(exp(a) + exp(b)) without overflow on the way.

    %r = torsh.logaddexp %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.logaddexp"
    NUMPY: ClassVar = np.logaddexp
    SPELLED: ClassVar = Spelled(torch=("aten.logaddexp.default",))

    def body(self, s: Scalar[V], *x: V) -> V:
        a, b = x
        top = s.max(a, b)
        gap = s.neg(s.abs(s.sub(a, b)))
        soft = s.add(top, s.math("log1p", s.math("exp", gap)))
        return s.select(s.eq(a, b), s.add(a, s.const(LN2, s.dtype(a))), soft)


@op
class LogAddExp2Op(MathFunction2):
    """log2(2^a + 2^b) without overflow on the way.

    %r = torsh.logaddexp2 %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.logaddexp2"
    NUMPY: ClassVar = np.logaddexp2
    SPELLED: ClassVar = Spelled(torch=("aten.logaddexp2.default",))

    def body(self, s: Scalar[V], *x: V) -> V:
        a, b = x
        top = s.max(a, b)
        gap = s.neg(s.abs(s.sub(a, b)))
        tail = s.math("log1p", s.math("exp2", gap))
        soft = s.add(top, s.mul(tail, s.const(1 / LN2, s.dtype(a))))
        return s.select(s.eq(a, b), s.add(a, s.const(1, s.dtype(a))), soft)


@op
class SincOp(MathFunction):
    """sin(pi x) / (pi x), 1 at 0.

    %r = torsh.sinc %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.sinc"
    NUMPY: ClassVar = np.sinc
    SPELLED: ClassVar = Spelled(torch=("aten.sinc.default", "aten.special_sinc.default"))

    def body(self, s: Scalar[V], *x: V) -> V:
        one = s.const(1, s.dtype(x[0]))
        zero = s.const(0, s.dtype(x[0]))
        angle = s.mul(x[0], s.const(math.pi, s.dtype(x[0])))
        return s.select(s.eq(x[0], zero), one, s.div(s.math("sin", angle), angle))
