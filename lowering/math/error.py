"""The error function, its complement and inverses, the normal distribution, GELU."""

from lowering.math import tables
from lowering.math.doubled import two_product
from lowering.math.exponential import exp
from lowering.math.logarithm import log, log1p
from lowering.math.num import Num, horner, where
from lowering.math.prim import V

SQRT1_2 = 0.7071067811865476
SQRT1_2_RELATIVE_LO = -6.835808656661923e-17
"""What SQRT1_2 lacks, relative to it."""
INV_SQRT_PI = 0.5641895835477563
SQRT2 = 1.4142135623730951


def erf(x: Num[V]) -> Num[V]:
    """`2 / sqrt(pi)` times the integral of `exp(-t^2)` from 0 to x."""
    magnitude = x.abs()
    square = magnitude * magnitude
    if x.kind == "f64":
        small = horner(square, tables.ERF_F64).fma(magnitude, magnitude)
        large = 1.0 - _erfc_positive(magnitude)
        return where(magnitude < 1.0, small, large).copysign(x)
    small = horner(square, tables.ERF_F32).fma(magnitude, magnitude)
    limited = where(magnitude > 4.0, 4.0, magnitude)
    large = 1.0 - exp(limited * horner(limited, tables.LOG_ERFC_F32))
    return where(magnitude < 0.927734375, small, large).copysign(x)


def _erfc_positive(x: Num[V], rest: Num[V] | float = 0.0) -> Num[V]:
    """The complement erfc of f64 `x + rest >= 0`: `exp(-x^2)` times a polynomial over `1 + 2x`."""
    limited = where(x > 28.0, 28.0, x)
    t = (limited - 4.0) / (limited + 4.0)
    scaled = horner(t, tables.ERFCX) / (limited * 2.0 + 1.0)
    square = two_product(limited, limited)
    gauss = exp(-square.hi)
    # exp(-hi) is subnormal near the end: multiply by what square.lo adds first.
    return gauss * (scaled - scaled * (square.lo + limited * rest * 2.0))


def erfc(x: Num[V]) -> Num[V]:
    """`1 - erf(x)` without cancellation, of f64."""
    magnitude = x.abs()
    positive = _erfc_positive(magnitude)
    small = 1.0 - erf_small(x)
    result = where(x < 0.0, 2.0 - positive, positive)
    return where(x.is_nan(), x, where(magnitude < 0.25, small, result))


def erfcx(x: Num[V]) -> Num[V]:
    """`exp(x^2) erfc(x)`, of f64."""
    magnitude = x.abs()
    limited = where(magnitude > 1e7, 1e7, magnitude)
    t = (limited - 4.0) / (limited + 4.0)
    positive = horner(t, tables.ERFCX) / (limited * 2.0 + 1.0)
    positive = where(magnitude > 1e7, INV_SQRT_PI / magnitude, positive)
    below = where(magnitude > 30.0, 30.0, magnitude)
    square = two_product(below, below)
    gauss = exp(square.hi)
    negative = gauss * (square.lo + 1.0) * 2.0 - positive
    return where(x.is_nan(), x, where(x < 0.0, negative, positive))


def erf_small(x: Num[V]) -> Num[V]:
    """The function erf of f64 for `|x| <= 1`."""
    return horner(x * x, tables.ERF_F64).fma(x, x)


def _erfinv_of(x: Num[V], w: Num[V]) -> Num[V]:
    """The inverse of erf, given `w = -log(1 - x^2)`.

    (M. Giles, "Approximating the erfinv function", 2011.)
    """
    root = w.sqrt()
    central = horner(w - 3.125, tables.ERFINV_CENTRAL)
    middle = horner(root - 3.25, tables.ERFINV_MIDDLE)
    tail = horner(root - 5.0, tables.ERFINV_TAIL)
    return x * where(w < 6.25, central, where(root < 4.0, middle, tail))


def erfinv(x: Num[V]) -> Num[V]:
    """The inverse of erf, of f64; infinite at -1 and 1, NaN beyond."""
    magnitude = x.abs()
    near_zero = -log1p(-(x * x))
    far = -log((1.0 - magnitude) * (1.0 + magnitude))
    result = _erfinv_of(x, where(magnitude < 0.5, near_zero, far))
    edge = x.of(float("inf")).copysign(x)
    result = where(magnitude.equals(1.0), edge, result)
    return where(magnitude > 1.0, float("nan"), result)


def _ndtri_tail(p: Num[V]) -> Num[V]:
    """`-ndtri(p)` of f64 for small `p > 0`."""
    s = (log(p) * -2.0).sqrt()
    near = horner(s - 2.75, tables.NDTRI_NEAR)
    middle = horner(s - 7.0, tables.NDTRI_MIDDLE)
    far = horner(s - 14.0, tables.NDTRI_FAR)
    last = horner(s - 29.0, tables.NDTRI_LAST)
    return s - where(s < 4.0, near, where(s < 10.0, middle, where(s < 19.0, far, last)))


def ndtri(p: Num[V]) -> Num[V]:
    """The quantile of the standard normal distribution, of f64."""
    centred = p - 0.5
    y = centred * 2.0
    central = _erfinv_of(y, -log1p(-(y * y))) * SQRT2
    upper = p > 0.5
    tail = _ndtri_tail(where(upper, 1.0 - p, p))
    result = where(centred.abs() < 0.25, central, where(upper, tail, -tail))
    result = where(p.equals(0.0), float("-inf"), where(p.equals(1.0), float("inf"), result))
    return where((p < 0.0) | (p > 1.0), float("nan"), result)


def ndtr(x: Num[V]) -> Num[V]:
    """The standard normal distribution function, of f64."""
    magnitude = x.abs()
    # erfc amplifies the rounding of x / sqrt 2 by x^2: keep what it loses.
    argument = two_product(where(magnitude > 60.0, 60.0, magnitude), x.of(SQRT1_2))
    tail = _erfc_positive(argument.hi, argument.lo + argument.hi * SQRT1_2_RELATIVE_LO) * 0.5
    small = erf_small(x * SQRT1_2).fma(0.5, 0.5)
    result = where(magnitude < 0.5, small, where(x > 0.0, 1.0 - tail, tail))
    return where(x.is_nan(), x, result)


def gelu(x: Num[V]) -> Num[V]:
    """`x / 2 (1 + erf(x / sqrt 2))`; -0 at minus infinity."""
    half = x * 0.5
    result = half.fma(erf(x * SQRT1_2), half)
    return where(x.equals(float("-inf")), x.of(-0.0), result)
