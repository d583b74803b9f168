"""Arithmetic on unevaluated sums of two f64 ("double-double", about 106 bits).

Products are split by Veltkamp's constant instead of using FMA, so that the same bits come out
of targets without one (T. J. Dekker, "A floating-point technique for extending the available
precision", 1971). Operands of products must be below 2^996.
"""

from dataclasses import dataclass
from typing import Generic

from lowering.math.num import Num
from lowering.math.prim import V

SPLIT = 134217729.0
"""2^27 + 1."""


@dataclass(frozen=True, eq=False, slots=True)
class Pair(Generic[V]):
    """The value `hi + lo` with `|lo|` at most half an ulp of `hi`."""

    hi: Num[V]
    lo: Num[V]

    def plus(self, other: "Pair[V]") -> "Pair[V]":
        """The sum, to about 2^-104 when it does not cancel."""
        total = two_sum(self.hi, other.hi)
        return quick_sum(total.hi, total.lo + (self.lo + other.lo))

    def times(self, other: "Pair[V]") -> "Pair[V]":
        """The product, to about 2^-102."""
        product = two_product(self.hi, other.hi)
        return quick_sum(product.hi, product.lo + (self.hi * other.lo + self.lo * other.hi))

    def scaled(self, factor: float) -> "Pair[V]":
        """The product with a power of two."""
        return Pair(self.hi * factor, self.lo * factor)

    def negated(self) -> "Pair[V]":
        """The value with the other sign."""
        return Pair(-self.hi, -self.lo)


def quick_sum(a: Num[V], b: Num[V]) -> Pair[V]:
    """`a + b` exactly, given `|a| >= |b|`."""
    hi = a + b
    return Pair(hi, b - (hi - a))


def two_sum(a: Num[V], b: Num[V]) -> Pair[V]:
    """`a + b` exactly."""
    hi = a + b
    part = hi - a
    return Pair(hi, (a - (hi - part)) + (b - part))


def _halves(x: Num[V]) -> tuple[Num[V], Num[V]]:
    big = x * SPLIT
    hi = big - (big - x)
    return hi, x - hi


def two_product(a: Num[V], b: Num[V]) -> Pair[V]:
    """`a * b` exactly."""
    product = a * b
    a_hi, a_lo = _halves(a)
    b_hi, b_lo = _halves(b)
    error = ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo
    return Pair(product, error)


def quotient(a: Pair[V], b: Pair[V]) -> Pair[V]:
    """`a / b`, to about 2^-100."""
    first = a.hi / b.hi
    product = two_product(first, b.hi)
    rest = (((a.hi - product.hi) - product.lo) + a.lo) - first * b.lo
    return quick_sum(first, rest / b.hi)


def exact(x: Num[V], lo: float = 0.0) -> Pair[V]:
    """A pair from one value and a constant low part."""
    return Pair(x, x.of(lo))
