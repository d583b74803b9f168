"""The gamma function and its family: lgamma, digamma, zeta, polygamma. All of f64.

Around 2 by polynomials, elsewhere by recurrence or Stirling's series, below 0 by reflection.
"""

from collections.abc import Callable

from lowering.math import tables
from lowering.math.doubled import Pair, exact, two_sum
from lowering.math.logarithm import log, log1p
from lowering.math.num import Num, horner, rarely, where
from lowering.math.power import exp_pair, log_pair, pow
from lowering.math.prim import V
from lowering.math.trigonometric import sin_pi, tan_pi

PI = 3.141592653589793
LOG_PI = 1.1447298858494002
LOG_SQRT_2PI = 0.9189385332046728
LOG_SQRT_2PI_LO = -3.878294158067242e-17
DIGAMMA_ROOT = 1.4616321449683622
DIGAMMA_ROOT_LO = 9.549995429965697e-17
BERNOULLI_OVER_FACTORIAL = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
    1 / 74724249600, -3617 / 10670622842880000, 43867 / 5109094217170944000,
    -174611 / 802857662698291200000,
)  # fmt: skip
"""B_2j / (2j)! for the Euler-Maclaurin formula."""
SERIES_START = 8.5
"""From here on Stirling's series is accurate."""


def _steps_down(x: Num[V], visit: Callable[[Num[V]], None]) -> Num[V]:
    """Lower `x < SERIES_START` into [1.5, 2.5] by ones, visiting `x - 1`, `x - 2`, ...

    Lanes that are done visit 1.
    """
    for _ in range(7):
        going = x > 2.5
        x = where(going, x - 1.0, x)
        visit(where(going, x, 1.0))
    return x


def _lgamma_positive(x: Num[V]) -> Num[V]:
    """Log of gamma for `x > 0`."""
    product = x.of(1.0)

    def multiply(factor: Num[V]) -> None:
        nonlocal product
        product = product * factor

    tiny, low = x < 0.5, x < 1.5
    e = where(tiny, x, where(low, x - 1.0, _steps_down(x, multiply) - 2.0))
    around = e * horner(e, tables.LGAMMA_2)
    # gamma(2 + e) = (1 + e) gamma(1 + e), and once more below 1/2.
    small = where(tiny, around - log1p(e) - log(x), around - log1p(e))
    middle = where(low, small, around + where(x > 2.5, log(product), 0.0))
    inverse = 1.0 / x
    series = horner(inverse * inverse, tables.STIRLING) * inverse
    large = (x - 0.5) * (log(x) - 1.0) + (LOG_SQRT_2PI - 0.5 + series)
    large = where(x > 1e17, x * (log(x) - 1.0), large)
    return where(x < SERIES_START, middle, large)


def lgamma(x: Num[V]) -> Num[V]:
    """Log of the magnitude of gamma; infinite at 0 and at negative integers."""
    magnitude = x.abs()
    positive = _lgamma_positive(magnitude)
    sine = sin_pi(x).abs()
    reflected = LOG_PI - log(sine * magnitude) - positive
    reflected = where(magnitude < 1e-17, -log(magnitude), reflected)
    result = where(x < 0.0, reflected, positive)
    pole = x.equals(0.0) | ((x < 0.0) & x.unary("floor").equals(x))
    return where(pole | magnitude.equals(float("inf")), float("inf"), result)


def _gamma_positive(x: Num[V]) -> Num[V]:
    """Gamma for `x >= 1/2`, infinite above 171.6."""
    product = x.of(1.0)

    def multiply(factor: Num[V]) -> None:
        nonlocal product
        product = product * factor

    reduced = _steps_down(x, multiply)
    low = reduced < 1.5
    e = where(low, reduced - 1.0, reduced - 2.0)
    small = product / horner(e, tables.RGAMMA_2)
    small = where(low, small / reduced, small)
    return where(x < SERIES_START, small, exp_pair(log_gamma_pair(_limited(x))))


def log_gamma_pair(x: Num[V]) -> Pair[V]:
    """`(x - 1/2) log x - x + log sqrt(2 pi) + series`, from `SERIES_START` on."""
    limited = where(x < SERIES_START, SERIES_START, x)
    inverse = 1.0 / limited
    series = horner(inverse * inverse, tables.STIRLING) * inverse
    power = log_pair(limited).times(exact(limited - 0.5))
    constant = two_sum(-limited, limited.of(LOG_SQRT_2PI))
    rest = two_sum(constant.hi, series + LOG_SQRT_2PI_LO)
    return power.plus(Pair(rest.hi, rest.lo + constant.lo))


def _limited(x: Num[V]) -> Num[V]:
    """`x` up to where gamma and its reciprocal have long left the range of f64."""
    return where(x > 190.0, 190.0, x)


def gamma(x: Num[V]) -> Num[V]:
    """The gamma function (C's tgamma): NaN at negative integers, infinite at 0."""
    magnitude = x.abs()
    near = magnitude < 0.5
    positive = _gamma_positive(where(near, magnitude + 1.0, magnitude))
    positive = where(near, positive / magnitude, positive)
    # gamma(-a) = -pi / (a sin(pi a) gamma(a)), where gamma(a) overflows before the result vanishes.
    factor = PI / (magnitude * -sin_pi(magnitude))
    half = exp_pair(log_gamma_pair(_limited(magnitude)).scaled(-0.5))
    reflected = where(magnitude < SERIES_START, factor / positive, factor * half * half)
    result = where(x < 0.0, reflected, positive)
    result = where(magnitude < 1e-9, 1.0 / x - 0.5772156649015329, result)
    pole = (x < 0.0) & x.unary("floor").equals(x)
    result = where(pole, float("nan"), result)
    return where(x.equals(float("inf")), x, result)


def _digamma_positive(x: Num[V]) -> Num[V]:
    """Digamma for `x > 0`."""
    total = x.of(0.0)

    low = x < 1.0
    reduced = where(low, x + 1.0, x)
    for _ in range(7):
        going = (reduced > 2.0) & (x < SERIES_START)
        reduced = where(going, reduced - 1.0, reduced)
        total = where(going, total + 1.0 / reduced, total)
    distance = (reduced - DIGAMMA_ROOT) - DIGAMMA_ROOT_LO
    distance = where(low, ((x - (DIGAMMA_ROOT - 1.0)) - DIGAMMA_ROOT_LO), distance)
    near = distance * horner(reduced - 1.5, tables.DIGAMMA_15)
    middle = where(low, near - 1.0 / x, near + total)
    inverse = 1.0 / x
    w = inverse * inverse
    large = log(x) - (inverse * 0.5 + w * horner(w, tables.DIGAMMA_TAIL))
    return where(x < SERIES_START, middle, large)


def digamma(x: Num[V]) -> Num[V]:
    """The derivative of lgamma; infinite at 0 (against its sign), NaN at negative integers."""
    negative, magnitude = x < 0.0, x.abs()
    positive = _digamma_positive(magnitude)
    reflected = positive + (1.0 / magnitude + PI / tan_pi(magnitude))
    result = where(negative, reflected, positive)
    result = where((x.abs() < 1e-9), -1.0 / x - 0.5772156649015329, result)
    pole = negative & x.unary("floor").equals(x)
    result = where(pole, float("nan"), result)
    return where(x.equals(float("inf")), x, result)


def zeta(s: Num[V], q: Num[V]) -> Num[V]:
    """Hurwitz' zeta: the sum of `(q + k)^-s`; NaN for q < 0 unless s is whole.

    Below 0 the terms are those of two sums of positive bases: up to |q|, and from 1 + q - floor(q).
    """
    below = (q < 0.0) & q.unary("floor").differs(q)
    whole = s.unary("floor").equals(s)

    def reflected() -> list[Num[V]]:
        fraction = q - q.unary("floor")
        left = where(below, 1.0 - fraction, 1.0)
        half = s * 0.5
        sign = where(half.unary("floor").equals(half), s.of(1.0), -1.0)
        beyond = where(below, 1.0 - q, 2.0)
        behind = _zeta_positive(s, left) - _zeta_positive(s, beyond)
        return [_zeta_positive(s, where(below, fraction, 1.0)) + sign * behind]

    usual = _zeta_positive(s, where(q > 0.0, q, 1.0))
    (total,) = rarely(below & whole, [usual], reflected)
    total = where(below & ~whole, float("nan"), total)
    pole = (q <= 0.0) & q.unary("floor").equals(q)
    total = where(s.is_nan() | q.is_nan(), float("nan"), total)
    total = where(pole, float("inf"), total)
    return where(s < 1.0, float("nan"), where(s.equals(1.0), float("inf"), total))


def _zeta_positive(s: Num[V], q: Num[V]) -> Num[V]:
    """`zeta` for `q > 0`, by Euler and Maclaurin after 10 terms."""
    total, base = s.of(0.0), q
    for _ in range(10):
        total = total + pow(base, -s)
        base = base + 1.0
    rest = pow(base, 1.0 - s)
    power = rest / base
    total = total + (rest / (s - 1.0) + power * 0.5)
    factor, term = s, power / base
    inverse = 1.0 / (base * base)
    for j, coefficient in enumerate(BERNOULLI_OVER_FACTORIAL):
        total = total + where(term.equals(0.0), 0.0, factor * term * coefficient)
        factor = factor * (s + (2.0 * j + 1.0)) * (s + (2.0 * j + 2.0))
        term = term * inverse
    return where(q.equals(float("inf")), 0.0, total)


def polygamma(n: Num[V], x: Num[V]) -> Num[V]:
    """The derivative number `n >= 1` of digamma: `(-1)^(n+1) n! zeta(n + 1, x)`."""
    half = n * 0.5
    sign = where(half.unary("trunc").equals(half), n.of(-1.0), 1.0)
    value = sign * gamma(n + 1.0) * zeta(n + 1.0, x)
    return where(n.equals(0.0), digamma(x), value)
