"""Float64 references of special functions in plain numpy, each by a method of its own.

Formulas: NIST Digital Library of Mathematical Functions (dlmf.nist.gov), section given each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from torsh_dialect.ops.half import where


def each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A scalar function over arrays, in f64."""
    return np.vectorize(function, otypes=[np.float64])


erf = each(math.erf)
erfc = each(math.erfc)


def _lgamma(x: float) -> float:
    if math.isnan(x):
        return x
    if math.isinf(x) or (x <= 0 and x == math.floor(x)):
        return math.inf
    return math.lgamma(x)


lgamma = each(_lgamma)


def _gamma(x: float) -> float:
    if x == 0:
        return math.copysign(math.inf, x)
    if x == -math.inf or (x < 0 and x == math.floor(x)):
        return math.nan
    try:
        return math.gamma(x)
    except OverflowError:
        return math.inf


gamma = each(_gamma)


def erfinv(y: Any) -> Any:
    """The inverse of erf by Newton's method from the tail estimate of DLMF 7.17.2-7.17.3."""
    y = np.asarray(y, np.float64)
    inside = np.abs(y) < 1
    t = where(inside, y, 0.0)
    log = np.log1p(-t * t)
    a = 2 / (math.pi * 0.147) + log / 2
    x = np.copysign(np.sqrt(np.sqrt(a * a - log / 0.147) - a), t)
    for _ in range(6):
        upper = erfc(np.abs(x)) - (1 - np.abs(t))
        x = x + np.sign(t) * upper * math.sqrt(math.pi) / 2 * np.exp(x * x)
    edge = where(np.abs(y) == 1, np.copysign(np.inf, y), np.nan)
    return where(inside, where(t == 0, t, x), edge)


def ndtri(p: Any) -> Any:
    """The quantile of the normal distribution, by Newton's method on log probabilities."""
    p = np.asarray(p, np.float64)
    inside = (p > 0) & (p < 1)
    q = where(inside, np.minimum(p, 1 - p), 0.5)
    x = where(q < 0.3, -np.sqrt(np.maximum(-2 * np.log(q), 0)), (q - 0.5) * 2.5)
    for _ in range(60):
        value = 0.5 * erfc(-x / math.sqrt(2))
        density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        x = x - np.log(value / q) * value / density
    edge = where(p == 0, -np.inf, where(p == 1, np.inf, np.nan))
    return where(inside, where(p > 0.5, -x, x), edge)


def digamma(x: Any) -> Any:
    """DLMF 5.5.2 and 5.5.4 to bring x above 10, then the series 5.11.2."""
    x = np.asarray(x, np.float64)
    reflected = x < 0
    z = where(reflected, 1 - x, x)
    shift = np.zeros_like(z)
    for _ in range(10):
        low = z < 10
        shift = shift - where(low, 1 / where(low, z, 1.0), 0.0)
        z = where(low, z + 1, z)
    series = np.log(z) - 1 / (2 * z)
    for k, b in enumerate((1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6), 1):
        series = series - b / (2 * k * z ** (2 * k))
    turn = np.remainder(x, 1.0)
    value = series + shift - where(reflected, math.pi / np.tan(math.pi * turn), 0.0)
    value = where(reflected & (turn == 0), np.nan, value)
    value = where(x == -np.inf, np.nan, where(x == np.inf, np.inf, value))
    return where(x == 0, -np.copysign(np.inf, x), value)


def zeta(s: Any, q: Any) -> Any:
    """Hurwitz zeta for s > 1 by Euler-Maclaurin summation (DLMF 25.11.5 and 25.11.43).

    It starts where q + k >= 12, but for q under -5000, where the sum has no precision.
    """
    s, q = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(q, np.float64))
    lowest = float(np.min(q[np.isfinite(q)], initial=0.0))
    count = 12 + math.ceil(min(-lowest, 5000.0))
    total = np.zeros(s.shape)
    for k in range(count):
        total = total + (q + k) ** -s
    a = q + count
    total = total + a ** (1 - s) / (s - 1) - 0.5 * a**-s
    factor = s * a ** (-s - 1)
    total = total + a**-s
    numbers = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
    for k, b in enumerate(numbers, 1):
        total = total + b / math.factorial(2 * k) * factor
        factor = factor * (s + 2 * k - 1) * (s + 2 * k) / (a * a)
    whole = q == np.floor(q)
    total = where((q <= 0) & whole, np.inf, where((q <= 0) & (s != np.floor(s)), np.nan, total))
    return where(s < 1, np.nan, where(s == 1, np.inf, total))


def polygamma(n: int, x: Any) -> Any:
    """DLMF 25.11.12: (-1)^(n+1) n! zeta(n + 1, x)."""
    if n == 0:
        return digamma(x)
    sign = 1.0 if n % 2 else -1.0
    return sign * math.gamma(n + 1.0) * zeta(n + 1.0, x)


def _periodic(x: Any, integrand: Callable[[Any, Any], Any]) -> Any:
    """The mean of a smooth periodic integrand over its period, by the trapezoidal rule."""
    flat = np.asarray(x, np.float64).reshape(-1, 1)
    finite = np.abs(flat[np.isfinite(flat)])
    count = 64 + 2 * math.ceil(min(float(finite.max(initial=0.0)), 2e4))
    angle = (np.arange(count) + 0.5) * (2 * math.pi / count)
    return np.mean(integrand(flat, angle), axis=1).reshape(np.shape(x))


def bessel_i(n: int, x: Any, scaled: bool) -> Any:
    """DLMF 10.32.3: the mean of exp(x cos t) cos(n t); `scaled` times exp(-|x|)."""
    x = np.asarray(x, np.float64)
    small = np.clip(np.abs(x), 0, 1e4)
    soft = _periodic(small, lambda v, t: np.exp(v * (np.cos(t) - 1)) * np.cos(n * t))
    tail = 1 / np.sqrt(2 * math.pi * np.maximum(np.abs(x), 1))
    value = where(np.abs(x) > 1e4, tail, soft)
    value = value if scaled else value * np.exp(np.abs(x))
    value = value * np.sign(x) if n % 2 else value
    return where(np.isnan(x), np.nan, value)


def bessel_j(n: int, x: Any) -> Any:
    """DLMF 10.9.2: the mean of cos(n t - x sin t)."""
    x = np.asarray(x, np.float64)
    value = _periodic(where(np.isfinite(x), x, 0.0), lambda v, t: np.cos(n * t - v * np.sin(t)))
    return where(np.isfinite(x), value, where(np.isnan(x), np.nan, 0.0))


@lru_cache
def _nodes(count: int) -> Any:
    return np.polynomial.legendre.leggauss(count)


def _gauss(x: Any, lower: float, upper: float, integrand: Callable[[Any, Any], Any]) -> Any:
    points, weights = _nodes(40)
    at = 0.5 * (upper - lower) * points + 0.5 * (upper + lower)
    values = integrand(np.asarray(x, np.float64).reshape(-1, 1), at) * weights
    return (np.sum(values, axis=1) * 0.5 * (upper - lower)).reshape(np.shape(x))


def bessel_y(n: int, x: Any) -> Any:
    """DLMF 10.9.7, for n of 0 and 1; the second integral in the variable u = exp(-t)."""
    x = np.asarray(x, np.float64)
    inside = np.isfinite(x) & (x > 0)
    v = where(inside, x, 1.0)

    def turning(a: Any, t: Any) -> Any:
        return np.sin(a * np.sin(t) - n * t)

    turns = np.linspace(0, math.pi, 17)
    wave: Any = sum(_gauss(v, a, b, turning) for a, b in pairwise(turns)) / math.pi
    sign = (-1) ** n

    def decaying(a: Any, t: Any) -> Any:
        return (np.exp(n * t) + sign * np.exp(-n * t)) * np.exp(-a * np.sinh(t))

    spans = np.linspace(0, 30, 31)
    tail: Any = sum(_gauss(v, a, b, decaying) for a, b in pairwise(spans))
    value = wave - tail / math.pi
    edge = where(x == 0, -np.inf, where(x == np.inf, 0.0, np.nan))
    return where(inside, value, edge)


def bessel_k(n: float, x: Any, scaled: bool) -> Any:
    """DLMF 10.32.9: the integral of exp(-x cosh t) cosh(n t) over t > 0."""
    x = np.asarray(x, np.float64)
    inside = np.isfinite(x) & (x > 0)
    v = where(inside, x, 1.0)
    spans = np.linspace(0, 30, 61)

    def integrand(a: Any, t: Any) -> Any:
        return np.exp(-a * (np.cosh(t) - 1)) * np.cosh(n * t)

    total: Any = sum(_gauss(v, a, b, integrand) for a, b in pairwise(spans))
    value = total if scaled else total * np.exp(-v)
    edge = where(x == 0, np.inf, where(x == np.inf, 0.0, np.nan))
    return where(inside, value, edge)


def airy_ai(x: Any) -> Any:
    """The Airy function Ai: its series near 0, else Bessel functions of order 1/3 (DLMF 9.6)."""
    x = np.asarray(x, np.float64)
    size = np.abs(x)
    root = np.sqrt(size)
    z = where(size < 1, 1.0, 2 / 3 * size * root)
    first, second, near, other = np.ones_like(x), x, np.ones_like(x), x
    for k in range(1, 12):
        near = near * x**3 / (3 * k * (3 * k - 1))
        other = other * x**3 / (3 * k * (3 * k + 1))
        first, second = first + near, second + other
    series = 0.3550280538878172 * first - 0.2588194037928068 * second
    above = root / math.sqrt(3) / math.pi * bessel_k(1 / 3, z, scaled=False)

    # Schlaefli's integrals of J of the orders 1/3 and -1/3, added (DLMF 10.9.6).
    def wave(a: Any, t: Any) -> Any:
        return np.cos(t / 3) * np.cos(a * np.sin(t))

    def decay(a: Any, t: Any) -> Any:
        return np.exp(-a * np.sinh(t)) * np.sinh(t / 3)

    waves: Any = sum(_gauss(z, a, b, wave) for a, b in pairwise(np.linspace(0, math.pi, 17)))
    tail: Any = sum(_gauss(z, a, b, decay) for a, b in pairwise(np.linspace(0, 6, 25)))
    below = root / 3 * 2 / math.pi * (waves + math.sin(math.pi / 3) * tail)
    result = where(size < 1, series, where(x > 0, above, below))
    return where(np.isinf(x), 0.0, where(np.isnan(x), x, result))


def erfcx(x: Any) -> Any:
    """DLMF 7.7.1 mapped to a finite range for x > 1; by definition below."""
    x = np.asarray(x, np.float64)
    large = x > 1
    v = where(large, x, 2.0)

    def integrand(a: Any, t: Any) -> Any:
        return np.exp(-t * t - 2 * a * t)

    spans = np.concatenate([np.linspace(0, 1, 11), np.linspace(1, 8, 8)[1:]])
    tail: Any = sum(_gauss(v, a, b, integrand) for a, b in pairwise(spans))
    asymptotic = 1 / (v * math.sqrt(math.pi)) * (1 - 1 / (2 * v * v))
    tail = where(v > 1e4, asymptotic, tail * 2 / math.sqrt(math.pi))
    small = where(large, 0.0, x)
    return where(large, tail, np.exp(small * small) * erfc(small))


def log_ndtr(x: Any) -> Any:
    """log(erfc(-x / sqrt 2) / 2), with erfcx for negative x."""
    x = np.asarray(x, np.float64)
    low = x < -1
    v = where(low, -x / math.sqrt(2), 1.0)
    tail = np.log(0.5 * erfcx(v)) - v * v
    return where(low, tail, np.log1p(-0.5 * erfc(where(low, 0.0, x) / math.sqrt(2))))


def entr(x: Any) -> Any:
    """-x log x with its limits."""
    x = np.asarray(x, np.float64)
    return where(
        x > 0, -x * np.log(where(x > 0, x, 1.0)), where(x == 0, 0.0, where(x < 0, -np.inf, x))
    )


def igamma(a: Any, x: Any, upper: bool) -> Any:
    """DLMF 8.7.1 (series) below a + 1, 8.9.2 (continued fraction, Lentz) above."""
    a, x = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(x, np.float64))
    pair = np.vectorize(_igamma_pair, otypes=[np.float64, np.float64])(a, x)
    return pair[1] if upper else pair[0]


def _igamma_pair(a: float, x: float) -> tuple[float, float]:
    if math.isnan(a) or math.isnan(x) or a < 0 or x < 0 or (a == 0 and x == 0):
        return math.nan, math.nan
    if a == 0 or x == math.inf:
        return (math.nan, math.nan) if a == math.inf else (1.0, 0.0)
    if x == 0 or a == math.inf:
        return 0.0, 1.0
    front = math.exp(min(a * math.log(x) - x - math.lgamma(a), 700.0))
    if x < a + 1:
        lower = front * _series(a, x)
        return lower, 1 - lower
    rest = front * _fraction(a, x)
    return 1 - rest, rest


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    n = 0
    while term > total * 1e-17 and n < 100_000:
        n += 1
        term *= x / (a + n)
        total += term
    return total


def _fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = 1e300, 1 / b
    value = d
    for n in range(1, 100_000):
        an = -n * (n - a)
        b += 2
        d = 1 / (an * d + b or 1e-300)
        c = b + an / c or 1e-300
        value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return value
