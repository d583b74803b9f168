"""Functions of complex numbers as formulas over their real and imaginary parts.

Branch cuts and signs of zero as of W. Kahan, "Branch cuts for complex elementary functions"
(1987); quotients by R. L. Smith, "Algorithm 116: complex division" (1962).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from xdsl.ir import Attribute, SSAValue

from torsh_dialect.errors import UnsupportedError

Pair = tuple[SSAValue, SSAValue]


class Real(Protocol):
    """What the formulas need of a builder."""

    def const(self, value: float | bool, dtype: Attribute) -> SSAValue: ...
    def add(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def sub(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def mul(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def div(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def neg(self, a: SSAValue) -> SSAValue: ...
    def abs(self, a: SSAValue) -> SSAValue: ...
    def max(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def eq(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def lt(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def ge(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def gt(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def and_(self, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def select(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue: ...
    def sqrt(self, a: SSAValue) -> SSAValue: ...
    def math(self, name: str, *operands: SSAValue) -> SSAValue: ...


class ComplexMath:
    """Formulas on pairs of real values, written with a builder."""

    def __init__(self, s: Real):
        self.s = s

    def like(self, value: float, x: SSAValue) -> SSAValue:
        return self.s.const(value, x.type)

    def scaled(self, z: Pair, by: float) -> Pair:
        """`z` times a real constant."""
        factor = self.like(by, z[0])
        return self.s.mul(z[0], factor), self.s.mul(z[1], factor)

    def pair(self, condition: SSAValue, a: Pair, b: Pair) -> Pair:
        """`a` where the condition holds, else `b`."""
        return self.s.select(condition, a[0], b[0]), self.s.select(condition, a[1], b[1])

    # -- arithmetic

    def add(self, a: Pair, b: Pair) -> Pair:
        return self.s.add(a[0], b[0]), self.s.add(a[1], b[1])

    def sub(self, a: Pair, b: Pair) -> Pair:
        return self.s.sub(a[0], b[0]), self.s.sub(a[1], b[1])

    def mul(self, a: Pair, b: Pair) -> Pair:
        s = self.s
        real = s.sub(s.mul(a[0], b[0]), s.mul(a[1], b[1]))
        return real, s.add(s.mul(a[0], b[1]), s.mul(a[1], b[0]))

    def div(self, a: Pair, b: Pair) -> Pair:
        """By Smith's method: the larger part of the divisor is divided out first."""
        s, (c, d) = self.s, b
        wide = s.ge(s.abs(c), s.abs(d))
        large, small = s.select(wide, c, d), s.select(wide, d, c)
        ratio = s.div(small, large)
        whole = s.add(large, s.mul(small, ratio))
        first, second = s.select(wide, a[0], a[1]), s.select(wide, a[1], a[0])
        real = s.div(s.add(first, s.mul(second, ratio)), whole)
        other = s.div(s.sub(second, s.mul(first, ratio)), whole)
        zero = self.like(0.0, c)
        none = s.and_(s.eq(c, zero), s.eq(d, zero))
        quotient = (real, s.select(wide, other, s.neg(other)))
        return self.pair(none, (s.div(a[0], s.abs(c)), s.div(a[1], s.abs(c))), quotient)

    def modulus(self, z: Pair) -> SSAValue:
        return self.s.math("hypot", *z)

    def angle(self, z: Pair) -> SSAValue:
        return self.s.math("atan2", z[1], z[0])

    # -- powers

    def sqrt(self, z: Pair) -> Pair:
        s, (x, y) = self.s, z
        half = self.like(0.5, x)
        size = s.add(s.mul(s.abs(x), half), s.mul(self.modulus(z), half))
        root = s.sqrt(size)
        zero = self.like(0.0, x)
        other = s.select(s.eq(root, zero), zero, s.div(s.mul(s.abs(y), half), root))
        real, imaginary = self.pair(s.ge(x, zero), (root, other), (other, root))
        return real, s.math("copysign", imaginary, y)

    def exp(self, z: Pair) -> Pair:
        s, size = self.s, self.s.math("exp", z[0])
        zero = self.like(0.0, size)
        imaginary = s.mul(size, s.math("sin", z[1]))
        return s.mul(size, s.math("cos", z[1])), s.select(s.eq(z[1], zero), z[1], imaginary)

    def log(self, z: Pair) -> Pair:
        """Near the unit circle by log1p(|z|^2 - 1), without cancellation."""
        s, one = self.s, self.like(1.0, z[0])
        x, y = s.abs(z[0]), s.abs(z[1])
        larger = s.max(x, y)
        smaller = s.select(s.lt(x, y), x, y)
        excess = s.add(s.mul(s.sub(larger, one), s.add(larger, one)), s.mul(smaller, smaller))
        near = s.mul(s.math("log1p", excess), self.like(0.5, x))
        close = s.and_(s.gt(larger, self.like(0.5, x)), s.lt(larger, self.like(2.0, x)))
        return s.select(close, near, s.math("log", self.modulus(z))), self.angle(z)

    def log1p(self, z: Pair) -> Pair:
        s, (x, y) = self.s, z
        excess = s.add(s.mul(x, s.add(x, self.like(2.0, x))), s.mul(y, y))
        far, angle = self.log((s.add(x, self.like(1.0, x)), y))
        near = s.mul(s.math("log1p", excess), self.like(0.5, x))
        return s.select(s.lt(self.modulus(z), self.like(0.5, x)), near, far), angle

    def expm1(self, z: Pair) -> Pair:
        s, (x, y) = self.s, z
        half = s.math("sin", s.mul(y, self.like(0.5, y)))
        size = s.mul(s.math("expm1", x), s.math("cos", y))
        real = s.sub(size, s.mul(self.like(2.0, x), s.mul(half, half)))
        return real, s.mul(s.math("exp", x), s.math("sin", y))

    def pow(self, a: Pair, b: Pair) -> Pair:
        """exp(b log a); 0 to any power but 0 is 0."""
        s = self.s
        zero, one = self.like(0.0, a[0]), self.like(1.0, a[0])
        power = self.exp(self.mul(b, self.log(a)))
        flat = s.and_(s.eq(a[0], zero), s.eq(a[1], zero))
        unit = s.and_(s.eq(b[0], zero), s.eq(b[1], zero))
        return self.pair(unit, (one, zero), self.pair(flat, (zero, zero), power))

    # -- trigonometric and hyperbolic

    def sinh(self, z: Pair) -> Pair:
        s, (x, y) = self.s, z
        real = s.mul(s.math("sinh", x), s.math("cos", y))
        return real, s.mul(s.math("cosh", x), s.math("sin", y))

    def cosh(self, z: Pair) -> Pair:
        s, (x, y) = self.s, z
        real = s.mul(s.math("cosh", x), s.math("cos", y))
        return real, s.mul(s.math("sinh", x), s.math("sin", y))

    def tanh(self, z: Pair) -> Pair:
        s, (x, y) = self.s, z
        one = self.like(1.0, x)
        tangent, sine = s.math("tan", y), s.math("sinh", x)
        beta = s.add(one, s.mul(tangent, tangent))
        whole = s.add(one, s.mul(beta, s.mul(sine, sine)))
        rho = s.sqrt(s.add(one, s.mul(sine, sine)))
        plain = (s.div(s.mul(s.mul(beta, rho), sine), whole), s.div(tangent, whole))
        decay = s.math("exp", s.mul(s.abs(x), self.like(-2.0, x)))
        turn = s.mul(s.math("sin", y), s.math("cos", y))
        flat = (s.math("copysign", one, x), s.mul(s.mul(self.like(4.0, x), turn), decay))
        return self.pair(s.gt(s.abs(x), self.like(20.0, x)), flat, plain)

    def turned(self, function: Callable[[Pair], Pair], z: Pair) -> Pair:
        """-i * f(i z): sin, tan and atan from sinh, tanh and atanh."""
        real, imaginary = function((self.s.neg(z[1]), z[0]))
        return imaginary, self.s.neg(real)

    def sin(self, z: Pair) -> Pair:
        return self.turned(self.sinh, z)

    def cos(self, z: Pair) -> Pair:
        return self.cosh((self.s.neg(z[1]), z[0]))

    def tan(self, z: Pair) -> Pair:
        return self.turned(self.tanh, z)

    def _roots(self, z: Pair) -> tuple[Pair, Pair]:
        """The square roots of 1 - z and 1 + z."""
        s, one = self.s, self.like(1.0, z[0])
        less = self.sqrt((s.sub(one, z[0]), s.neg(z[1])))
        return less, self.sqrt((s.add(one, z[0]), z[1]))

    def asin(self, z: Pair) -> Pair:
        s, (less, more) = self.s, self._roots(z)
        below = s.sub(s.mul(less[0], more[0]), s.mul(less[1], more[1]))
        across = s.sub(s.mul(less[0], more[1]), s.mul(less[1], more[0]))
        return s.math("atan2", z[0], below), s.math("asinh", across)

    def acos(self, z: Pair) -> Pair:
        s, (less, more) = self.s, self._roots(z)
        across = s.sub(s.mul(more[0], less[1]), s.mul(more[1], less[0]))
        real = s.mul(self.like(2.0, z[0]), s.math("atan2", less[0], more[0]))
        return real, s.math("asinh", across)

    def asinh(self, z: Pair) -> Pair:
        return self.turned(self.asin, z)

    def acosh(self, z: Pair) -> Pair:
        s, one = self.s, self.like(1.0, z[0])
        less = self.sqrt((s.sub(z[0], one), z[1]))
        more = self.sqrt((s.add(z[0], one), z[1]))
        along = s.add(s.mul(less[0], more[0]), s.mul(less[1], more[1]))
        imaginary = s.mul(self.like(2.0, z[0]), s.math("atan2", less[1], more[0]))
        return s.math("asinh", along), imaginary

    def atanh(self, z: Pair) -> Pair:
        s, (x, y) = self.s, z
        one = self.like(1.0, x)
        size = s.abs(x)
        less, more = s.sub(one, size), s.add(one, size)
        distance = s.add(s.mul(less, less), s.mul(y, y))
        real = s.math("log1p", s.div(s.mul(self.like(4.0, x), size), distance))
        real = s.math("copysign", real, x)
        below = s.sub(s.mul(less, more), s.mul(y, y))
        imaginary = s.math("atan2", s.mul(self.like(2.0, x), y), below)
        return s.mul(real, self.like(0.25, x)), s.mul(imaginary, self.like(0.5, x))

    def atan(self, z: Pair) -> Pair:
        return self.turned(self.atanh, z)

    # -- by name

    def call(self, name: str, *z: Pair) -> Pair:
        """The function `name`.

        Raises:
            UnsupportedError: It has no complex form here.
        """
        if name == "pow":
            return self.pow(*z)
        if name in SCALED:
            inner, before, after = SCALED[name]
            return self.scaled(getattr(self, inner)(self.scaled(z[0], before)), after)
        if name == "rsqrt":
            one = self.like(1.0, z[0][0])
            return self.div((one, self.like(0.0, one)), self.sqrt(z[0]))
        if name == "sigmoid":
            one, zero = self.like(1.0, z[0][0]), self.like(0.0, z[0][0])
            decay = self.exp((self.s.neg(z[0][0]), self.s.neg(z[0][1])))
            return self.div((one, zero), (self.s.add(one, decay[0]), decay[1]))
        if name not in FUNCTIONS:
            raise UnsupportedError(f"{name} is not defined for complex numbers; take parts first")
        return getattr(self, name)(z[0])


SCALED = {
    "exp2": ("exp", math.log(2), 1.0),
    "log2": ("log", 1.0, 1 / math.log(2)),
    "log10": ("log", 1.0, 1 / math.log(10)),
}
"""Functions that are others of a multiple, and multiplied: (function, before, after)."""

FUNCTIONS = (
    *("sqrt", "exp", "log", "log1p", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
    *("asin", "acos", "atan", "asinh", "acosh", "atanh"),
)
"""Functions of one complex number that are methods of their name."""
