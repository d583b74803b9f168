"""Bessel functions of order 0 and 1, of f64.

Up to 8 by polynomials, beyond by Hankel's asymptotic form (Abramowitz and Stegun 9.2.5). J and Y
are accurate relative to `sqrt(2 / (pi x))`, not in relative terms next to their zeros.
"""

from collections.abc import Sequence

from lowering.math import tables
from lowering.math.exponential import exp
from lowering.math.logarithm import log
from lowering.math.num import Num, horner, where
from lowering.math.prim import V
from lowering.math.trigonometric import cos, sin

TWO_OVER_PI = 0.6366197723675814
INV_SQRT_PI = 0.5641895835477563
LIMIT = 8.0


def _hankel(
    x: Num[V], order: int, p_table: Sequence[float], q_table: Sequence[float]
) -> tuple[Num[V], Num[V]]:
    """J and Y of `x >= 8`."""
    safe = where(x < LIMIT, LIMIT, x)
    inverse = LIMIT / safe
    w = inverse * inverse
    p, q = horner(w, p_table), horner(w, q_table) / safe
    # sqrt(2 / (pi x)) sin and cos of x - pi/4 are (sin x -+ cos x) / sqrt(pi x).
    s, c = sin(safe), cos(safe)
    cosine, sine = (c + s, s - c) if order == 0 else (s - c, -(s + c))
    factor = INV_SQRT_PI / safe.sqrt()
    j, y = factor * (p * cosine - q * sine), factor * (p * sine + q * cosine)
    infinite = x.equals(float("inf"))
    return where(infinite, 0.0, j), where(infinite, 0.0, y)


def _even(x: Num[V], near: Sequence[float], middle: Sequence[float]) -> Num[V]:
    """A function of `x^2` for `|x| < 8` in two pieces."""
    z = x * x
    return where(z < 9.0, horner(z, near), horner(z - 36.0, middle))


def j0(x: Num[V]) -> Num[V]:
    """Bessel function of the first kind, order 0."""
    magnitude = x.abs()
    far, _ = _hankel(magnitude, 0, tables.P0, tables.Q0)
    near = _even(x, tables.J0_NEAR, tables.J0_MIDDLE)
    return where(magnitude < LIMIT, near, where(x.is_nan(), x, far))


def j1(x: Num[V]) -> Num[V]:
    """Bessel function of the first kind, order 1."""
    magnitude = x.abs()
    far, _ = _hankel(magnitude, 1, tables.P1, tables.Q1)
    near = x * _even(x, tables.J1_NEAR, tables.J1_MIDDLE)
    far = where(x.is_negative(), -far, far)
    return where(magnitude < LIMIT, near, where(x.is_nan(), x, far))


def _second_kind(x: Num[V], result: Num[V]) -> Num[V]:
    result = where(x.equals(0.0), float("-inf"), where(x < 0.0, float("nan"), result))
    return where(x.is_nan(), x, result)


def y0(x: Num[V]) -> Num[V]:
    """Bessel function of the second kind, order 0; NaN below 0."""
    _, far = _hankel(x, 0, tables.P0, tables.Q0)
    first = _even(x, tables.J0_NEAR, tables.J0_MIDDLE)
    near = (log(x) * TWO_OVER_PI).fma(first, _even(x, tables.Y0_NEAR, tables.Y0_MIDDLE))
    return _second_kind(x, where(x < LIMIT, near, far))


def y1(x: Num[V]) -> Num[V]:
    """Bessel function of the second kind, order 1; NaN below 0."""
    _, far = _hankel(x, 1, tables.P1, tables.Q1)
    first = x * _even(x, tables.J1_NEAR, tables.J1_MIDDLE)
    singular = log(x) * first - 1.0 / x
    near = singular * TWO_OVER_PI + x * _even(x, tables.Y1_NEAR, tables.Y1_MIDDLE)
    return _second_kind(x, where(x < LIMIT, near, far))


def _far(x: Num[V], table: Sequence[float]) -> Num[V]:
    """`exp(-x) I(x)` for `x >= 8`."""
    safe = where(x < LIMIT, LIMIT, x)
    return horner(16.0 / safe - 1.0, table) / safe.sqrt()


def _near(x: Num[V], table: Sequence[float]) -> Num[V]:
    """`I0(x)` or `I1(x) / x` for `|x| < 8`, a sum of positive terms."""
    limited = where(x > LIMIT, LIMIT, x)
    return horner(limited * limited, table)


def i0e(x: Num[V]) -> Num[V]:
    """`exp(-|x|)` times the modified Bessel function of order 0."""
    a = x.abs()
    near = _near(a, tables.I0_NEAR) * exp(-a)
    return where(x.is_nan(), x, where(a < LIMIT, near, _far(a, tables.I0_FAR)))


def i1e(x: Num[V]) -> Num[V]:
    """`exp(-|x|)` times the modified Bessel function of order 1."""
    a = x.abs()
    near = x * (_near(a, tables.I1_NEAR) * exp(-a))
    far = _far(a, tables.I1_FAR).copysign(x)
    return where(x.is_nan(), x, where(a < LIMIT, near, far))


def _unscale(a: Num[V], scaled: Num[V]) -> Num[V]:
    """`scaled * exp(a)` where exp alone would overflow first."""
    half = exp(a * 0.5)
    return where(a.equals(float("inf")), a, scaled * half * half)


def i0(x: Num[V]) -> Num[V]:
    """Modified Bessel function of the first kind, order 0."""
    a = x.abs()
    far = _unscale(a, _far(a, tables.I0_FAR))
    return where(x.is_nan(), x, where(a < LIMIT, _near(a, tables.I0_NEAR), far))


def i1(x: Num[V]) -> Num[V]:
    """Modified Bessel function of the first kind, order 1."""
    a = x.abs()
    far = _unscale(a, _far(a, tables.I1_FAR)).copysign(x)
    return where(x.is_nan(), x, where(a < LIMIT, x * _near(a, tables.I1_NEAR), far))


def _k_scaled(x: Num[V], middle: Sequence[float], far: Sequence[float]) -> Num[V]:
    """`exp(x) K(x)` for `x >= 1`."""
    safe = where(x < 1.0, 1.0, x)
    w = 1.0 / safe
    value = where(safe < 3.0, horner(w - 2 / 3, middle), horner(w - 1 / 6, far))
    return value / safe.sqrt()


def _k_edges(x: Num[V], result: Num[V]) -> Num[V]:
    result = where(x.equals(0.0), float("inf"), where(x < 0.0, float("nan"), result))
    result = where(x.equals(float("inf")), 0.0, result)
    return where(x.is_nan(), x, result)


def _k0_near(x: Num[V]) -> Num[V]:
    z = x * x
    return horner(z, tables.K0_NEAR) - log(x) * horner(z, tables.I0_NEAR)


def _k1_near(x: Num[V]) -> Num[V]:
    z = x * x
    return 1.0 / x + x * (horner(z, tables.K1_NEAR) + log(x) * horner(z, tables.I1_NEAR))


def k0(x: Num[V]) -> Num[V]:
    """Modified Bessel function of the second kind, order 0; NaN below 0."""
    far = _k_scaled(x, tables.K0_MIDDLE, tables.K0_FAR) * exp(-x)
    return _k_edges(x, where(x < 1.0, _k0_near(x), far))


def k1(x: Num[V]) -> Num[V]:
    """Modified Bessel function of the second kind, order 1; NaN below 0."""
    far = _k_scaled(x, tables.K1_MIDDLE, tables.K1_FAR) * exp(-x)
    return _k_edges(x, where(x < 1.0, _k1_near(x), far))


def k0e(x: Num[V]) -> Num[V]:
    """`exp(x) K0(x)`."""
    far = _k_scaled(x, tables.K0_MIDDLE, tables.K0_FAR)
    return _k_edges(x, where(x < 1.0, _k0_near(x) * exp(x), far))


def k1e(x: Num[V]) -> Num[V]:
    """`exp(x) K1(x)`."""
    far = _k_scaled(x, tables.K1_MIDDLE, tables.K1_FAR)
    return _k_edges(x, where(x < 1.0, _k1_near(x) * exp(x), far))
