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


def _variable(x: Num[V]) -> Num[V]:
    """`x^2 / 32 - 1`, the variable of the polynomials up to 8."""
    return x * x * (1 / 32) - 1.0


def j0(x: Num[V]) -> Num[V]:
    """Bessel function of the first kind, order 0."""
    magnitude = x.abs()
    far, _ = _hankel(magnitude, 0, tables.P0, tables.Q0)
    near = horner(_variable(x), tables.J0)
    return where(magnitude < LIMIT, near, where(x.is_nan(), x, far))


def j1(x: Num[V]) -> Num[V]:
    """Bessel function of the first kind, order 1."""
    magnitude = x.abs()
    far, _ = _hankel(magnitude, 1, tables.P1, tables.Q1)
    near = x * horner(_variable(x), tables.J1)
    far = where(x.is_negative(), -far, far)
    return where(magnitude < LIMIT, near, where(x.is_nan(), x, far))


def _second_kind(x: Num[V], result: Num[V]) -> Num[V]:
    result = where(x.equals(0.0), float("-inf"), where(x < 0.0, float("nan"), result))
    return where(x.is_nan(), x, result)


def y0(x: Num[V]) -> Num[V]:
    """Bessel function of the second kind, order 0; NaN below 0."""
    _, far = _hankel(x, 0, tables.P0, tables.Q0)
    t = _variable(x)
    near = (log(x) * TWO_OVER_PI).fma(horner(t, tables.J0), horner(t, tables.Y0))
    return _second_kind(x, where(x < LIMIT, near, far))


def y1(x: Num[V]) -> Num[V]:
    """Bessel function of the second kind, order 1; NaN below 0."""
    _, far = _hankel(x, 1, tables.P1, tables.Q1)
    t = _variable(x)
    singular = log(x) * (x * horner(t, tables.J1)) - 1.0 / x
    near = singular * TWO_OVER_PI + x * horner(t, tables.Y1)
    return _second_kind(x, where(x < LIMIT, near, far))


def _modified(x: Num[V], near: Sequence[float], far: Sequence[float]) -> Num[V]:
    """`exp(-x) I(x)`, for `x >= 0`; the near part of order 1 still lacks a factor x."""
    close = horner(x * 0.25 - 1.0, near)
    safe = where(x < LIMIT, LIMIT, x)
    return where(x < LIMIT, close, horner(16.0 / safe - 1.0, far) / safe.sqrt())


def i0e(x: Num[V]) -> Num[V]:
    """`exp(-|x|)` times the modified Bessel function of order 0."""
    return where(x.is_nan(), x, _modified(x.abs(), tables.I0_NEAR, tables.I0_FAR))


def i1e(x: Num[V]) -> Num[V]:
    """`exp(-|x|)` times the modified Bessel function of order 1."""
    a = x.abs()
    value = _modified(a, tables.I1_NEAR, tables.I1_FAR)
    return where(x.is_nan(), x, where(a < LIMIT, x * value, value.copysign(x)))


def _unscale(x: Num[V], scaled: Num[V]) -> Num[V]:
    """`scaled * exp(|x|)` where exp alone would overflow first."""
    half = exp(x.abs() * 0.5)
    result = scaled * half * half
    infinite = x.abs().equals(float("inf"))
    return where(infinite, x.of(float("inf")).copysign(scaled), result)


def i0(x: Num[V]) -> Num[V]:
    """Modified Bessel function of the first kind, order 0."""
    return _unscale(x, i0e(x))


def i1(x: Num[V]) -> Num[V]:
    """Modified Bessel function of the first kind, order 1."""
    return _unscale(x, i1e(x))
