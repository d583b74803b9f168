"""The Airy function Ai, of f64.

By polynomials from -4.5 to 2; beyond, by the asymptotic forms (Abramowitz and Stegun 10.4.59 and
10.4.60) with polynomials in the reciprocal of `zeta = 2/3 |x|^(3/2)`. Where it oscillates it is
accurate relative to its envelope, not in relative terms next to its zeros.
"""

from lowering.math import tables
from lowering.math.doubled import Pair, exact, quotient, two_product
from lowering.math.num import Num, horner, where
from lowering.math.power import exp_pair
from lowering.math.prim import V
from lowering.math.trigonometric import cos, sin

BELOW, ABOVE = -4.5, 2.0
INV_SQRT_PI = 0.5641895835477563
SQRT_HALF = 0.7071067811865476


def airy_ai(x: Num[V]) -> Num[V]:
    """Ai(x); 0 at both infinities."""
    low, high = horner(x + 2.875, tables.AIRY_BELOW), horner(x - 0.375, tables.AIRY_ABOVE)
    middle = where(x < -1.25, low, high)
    near = (x > BELOW) & (x < ABOVE)
    size = where(near, ABOVE, x.abs())
    root = size.sqrt()
    zeta = _zeta(where(size > 1e200, 1e200, size))
    scale = INV_SQRT_PI / root.sqrt()
    above = _decaying(zeta.hi) * exp_pair(zeta.negated()) * (scale * 0.5)
    far = where(x < 0.0, _waving(zeta) * scale, above)
    far = where(x.abs().equals(float("inf")), 0.0, far)
    return where(x.is_nan(), x, where(near, middle, far))


def _zeta(x: Num[V]) -> Pair[V]:
    """`2/3 x^(3/2)`, to more digits than f64 has: a phase, and an exponent."""
    root = x.sqrt()
    square = two_product(root, root)
    rest = ((x - square.hi) - square.lo) / (root + root)
    return quotient(exact(x + x).times(Pair(root, rest)), exact(x.of(3.0)))


def _decaying(zeta: Num[V]) -> Num[V]:
    """`2 sqrt(pi) x^(1/4) exp(zeta) Ai(x)` for `x >= 2`."""
    w = 1.0 / zeta
    return where(
        w < 1 / 6, horner(w - 1 / 12, tables.AIRY_FAR), horner(w - 0.35, tables.AIRY_MIDDLE)
    )


def _waving(zeta: Pair[V]) -> Num[V]:
    """`sqrt(pi) x^(1/4) Ai(-x)` for `x >= 4.5`."""
    limited = where(zeta.hi < 6.3, 6.3, zeta.hi)
    w = 1.0 / (limited * limited)
    p, q = horner(w, tables.AIRY_P), horner(w, tables.AIRY_Q) / limited
    sine, cosine = sin(zeta.hi), cos(zeta.hi)
    s, c = sine + cosine * zeta.lo, cosine - sine * zeta.lo
    # sin and cos of zeta + pi/4 are (sin +- cos) / sqrt(2).
    return (p * (s + c) - q * (c - s)) * SQRT_HALF
