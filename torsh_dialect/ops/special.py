"""Special functions, element-wise: error and gamma functions and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, IntegerAttr
from xdsl.irdl import prop_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, int_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dtypes import Element, is_float
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Binary, Unary
from torsh_dialect.ops import special_reference as ref
from torsh_dialect.ops.half import rounded_once, where
from torsh_dialect.scalar import Scalar, V


def require_real(element: Element) -> Element:
    """Refuse an element type that is no real float type.

    Raises:
        ShapeError: It is another.
    """
    if not is_float(element):
        raise ShapeError(f"{element} is no real float type; insert torsh.cast")
    return element


class Special(Unary):
    """A function of one real float with a name in the maths library; the reference is in f64."""

    FUNCTION: ClassVar[str]
    REFERENCE: ClassVar[Callable[[Any], Any]]

    def result_element(self, *elements: Element) -> Element:
        return require_real(elements[0])

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (type(self).REFERENCE(args[0].astype(np.float64)),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.math(self.FUNCTION, x[0])


@op
class ErfOp(Special):
    """The error function 2 / sqrt(pi) * integral of exp(-t^2) over 0..x.

    %r = torsh.erf %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.erf"
    FUNCTION: ClassVar = "erf"
    REFERENCE: ClassVar = staticmethod(ref.erf)
    SPELLED: ClassVar = Spelled(torch=("aten.erf.default",), onnx=("Erf",), tensorflow=("Erf",))


@op
class ErfcOp(Special):
    """1 - erf(x) without loss for large x.

    %r = torsh.erfc %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.erfc"
    FUNCTION: ClassVar = "erfc"
    REFERENCE: ClassVar = staticmethod(ref.erfc)
    SPELLED: ClassVar = Spelled(torch=("aten.erfc.default",), tensorflow=("Erfc",))


@op
class ErfInvOp(Special):
    """The inverse of erf: infinite at -1 and 1, NaN outside.

    %r = torsh.erfinv %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.erfinv"
    FUNCTION: ClassVar = "erfinv"
    REFERENCE: ClassVar = staticmethod(ref.erfinv)
    SPELLED: ClassVar = Spelled(torch=("aten.erfinv.default",), tensorflow=("Erfinv",))


@op
class NdtrIOp(Special):
    """The quantile function of the standard normal distribution.

    %r = torsh.ndtri %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.ndtri"
    FUNCTION: ClassVar = "ndtri"
    REFERENCE: ClassVar = staticmethod(ref.ndtri)
    SPELLED: ClassVar = Spelled(torch=("aten.special_ndtri.default",), tensorflow=("Ndtri",))


@op
class LgammaOp(Special):
    """log|gamma(x)|.

    %r = torsh.lgamma %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.lgamma"
    FUNCTION: ClassVar = "lgamma"
    REFERENCE: ClassVar = staticmethod(ref.lgamma)
    SPELLED: ClassVar = Spelled(torch=("aten.lgamma.default",), tensorflow=("Lgamma",))


@op
class GammaOp(Special):
    """The gamma function; NaN at negative whole numbers.

    %r = torsh.gamma %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.gamma"
    FUNCTION: ClassVar = "tgamma"
    REFERENCE: ClassVar = staticmethod(ref.gamma)


@op
class DigammaOp(Special):
    """The derivative of log gamma; NaN at negative whole numbers, -inf at +0.

    %r = torsh.digamma %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.digamma"
    FUNCTION: ClassVar = "digamma"
    REFERENCE: ClassVar = staticmethod(ref.digamma)
    SPELLED: ClassVar = Spelled(torch=("aten.digamma.default",), tensorflow=("Digamma",))


@op
class ErfcxOp(Special):
    """exp(x^2) * erfc(x) without overflow.

    %r = torsh.erfcx %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.erfcx"
    FUNCTION: ClassVar = "erfcx"
    REFERENCE: ClassVar = staticmethod(ref.erfcx)
    SPELLED: ClassVar = Spelled(torch=("aten.special_erfcx.default",))


@op
class LogNdtrOp(Special):
    """The logarithm of the distribution function of the standard normal distribution.

    %r = torsh.log_ndtr %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.log_ndtr"
    REFERENCE: ClassVar = staticmethod(ref.log_ndtr)
    SPELLED: ClassVar = Spelled(torch=("aten.special_log_ndtr.default",))

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        half, root = s.const(0.5, element), s.const(math.sqrt(0.5), element)
        scaled = s.mul(s.neg(x[0]), root)
        tail = s.sub(s.math("log", s.mul(half, s.math("erfcx", scaled))), s.mul(scaled, scaled))
        bulk = s.math("log1p", s.neg(s.mul(half, s.math("erfc", s.mul(x[0], root)))))
        return s.select(s.lt(x[0], s.const(-1, element)), tail, bulk)


@op
class EntrOp(Special):
    """-x * log(x): 0 at 0, -inf below.

    %r = torsh.entr %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.entr"
    REFERENCE: ClassVar = staticmethod(ref.entr)
    SPELLED: ClassVar = Spelled(torch=("aten.special_entr.default",))

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        zero = s.const(0, element)
        value = s.neg(s.mul(x[0], s.math("log", x[0])))
        value = s.select(s.eq(x[0], zero), zero, value)
        return s.select(s.lt(x[0], zero), s.const(-math.inf, element), value)


class SpecialOfTwo(Binary):
    """A function of two real floats."""

    def result_element(self, *elements: Element) -> Element:
        return require_real(super().result_element(*elements))


@op
class XLogYOp(SpecialOfTwo):
    """a * log(b): 0 where a is 0 and b is not NaN.

    %r = torsh.xlogy %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.xlogy"
    SPELLED: ClassVar = Spelled(
        torch=("aten.xlogy.Tensor", "aten.xlogy.Scalar_Self", "aten.xlogy.Scalar_Other")
    )

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        a, b = args
        return (where(np.isnan(b), np.nan, where(a == 0, 0, a * np.log(b))),)

    def body(self, s: Scalar[V], *x: V) -> V:
        zero = s.const(0, s.dtype(x[0]))
        value = s.select(s.eq(x[0], zero), zero, s.mul(x[0], s.math("log", x[1])))
        return s.select(s.ne(x[1], x[1]), x[1], value)


@op
class XLog1PYOp(SpecialOfTwo):
    """a * log(1 + b): 0 where a is 0 and b is not NaN.

    %r = torsh.xlog1py %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.xlog1py"
    SPELLED: ClassVar = Spelled(
        torch=(
            "aten.special_xlog1py.default",
            "aten.special_xlog1py.self_scalar",
            "aten.special_xlog1py.other_scalar",
        )
    )

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        a, b = args
        return (where(np.isnan(b), np.nan, where(a == 0, 0, a * np.log1p(b))),)

    def body(self, s: Scalar[V], *x: V) -> V:
        zero = s.const(0, s.dtype(x[0]))
        value = s.select(s.eq(x[0], zero), zero, s.mul(x[0], s.math("log1p", x[1])))
        return s.select(s.ne(x[1], x[1]), x[1], value)


@op
class ZetaOp(SpecialOfTwo):
    """The Hurwitz zeta function of a and b: the sum over k of (b + k)^-a.

    %r = torsh.zeta %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.zeta"
    SPELLED: ClassVar = Spelled(
        torch=(
            "aten.special_zeta.default",
            "aten.special_zeta.self_scalar",
            "aten.special_zeta.other_scalar",
        )
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (ref.zeta(args[0], args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.math("zeta", x[0], x[1])


@op
class PolygammaOp(Special):
    """The n-th derivative of digamma.

    C1: n is not negative.

    %r = torsh.polygamma %x {n = 1 : i64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.polygamma"
    n = prop_def(IntegerAttr[I64])

    def result_element(self, *elements: Element) -> Element:
        if int_of(self.n) < 0:
            raise ShapeError(f"C1: n = {int_of(self.n)}")
        return super().result_element(*elements)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (ref.polygamma(int_of(self.n), args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        n, element = int_of(self.n), s.dtype(x[0])
        if n == 0:
            return s.math("digamma", x[0])
        wide = s.cast(x[0], dtypes.f64)
        zero, one = s.const(0.0, dtypes.f64), s.const(1.0, dtypes.f64)
        negative = s.lt(wide, zero)
        mirrored = s.select(negative, s.sub(one, wide), wide)
        factor = math.factorial(n) * (1.0 if n % 2 else -1.0)
        sum_of_powers = s.math("zeta", s.const(n + 1, dtypes.f64), mirrored)
        value = s.mul(s.const(factor, dtypes.f64), sum_of_powers)
        sign = s.const(-1.0 if n % 2 else 1.0, dtypes.f64)
        reflected = s.sub(s.mul(sign, value), _derivative_of_cotangent(s, n, wide))
        pole = s.and_(negative, s.eq(wide, s.floor(wide)))
        infinite = s.const(math.copysign(math.inf, factor), dtypes.f64)
        reflected = s.select(pole, infinite, reflected)
        return s.cast(s.select(negative, reflected, value), element)


def _derivative_of_cotangent(s: Scalar[V], n: int, x: V) -> V:
    """The n-th derivative of cot(pi x), times pi (DLMF 5.15.6); any value at integers.

    It is pi^(n+1) P_n(cot(pi x)) with P_0(c) = c and P_(k+1)(c) = -(1 + c^2) P_k'(c).
    """
    coefficients = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        padded = zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)
        coefficients = [-a - b for a, b in padded]
    angle = s.mul(s.const(math.pi, dtypes.f64), s.sub(x, s.round(x)))
    cotangent = s.div(s.math("cos", angle), s.math("sin", angle))
    value = s.const(0.0, dtypes.f64)
    for coefficient in reversed(coefficients):
        scaled = s.const(coefficient * math.pi ** (n + 1), dtypes.f64)
        value = s.add(s.mul(value, cotangent), scaled)
    return value


@op
class IGammaOp(SpecialOfTwo):
    """The regularised lower incomplete gamma function P(a, b).

    %r = torsh.igamma %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.igamma"
    SPELLED: ClassVar = Spelled(torch=("aten.igamma.default",), tensorflow=("Igamma",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (ref.igamma(args[0], args[1], upper=False),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.math("igamma", x[0], x[1])


@op
class IGammacOp(SpecialOfTwo):
    """The regularised upper incomplete gamma function Q(a, b) = 1 - P(a, b).

    %r = torsh.igammac %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.igammac"
    SPELLED: ClassVar = Spelled(torch=("aten.igammac.default",), tensorflow=("Igammac",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (ref.igamma(args[0], args[1], upper=True),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.math("igammac", x[0], x[1])
