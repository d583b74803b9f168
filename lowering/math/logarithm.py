"""Logarithms, softplus and the inverse hyperbolic functions.

`x = 2^k (1 + f)` with `1 + f` in [sqrt 1/2, sqrt 2), and with `s = f / (2 + f)`
`log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2))` (FreeBSD's msun, e_log.c).
"""

from lowering.math import tables
from lowering.math.exponential import LN2, LN2_HI, LN2_LO, MANTISSA_BITS, exp
from lowering.math.num import Num, horner, where
from lowering.math.prim import V

SMALLEST_NORMAL = {"f32": 2.0**-126, "f64": 2.0**-1022}
SQRT_HALF_BITS = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}
ONE_BITS = {"f32": 0x3F800000, "f64": 0x3FF0000000000000}
LOG2_E_HI = {"f32": 1.4428710938, "f64": 1.4426950407214463}
LOG2_E_LO = {"f32": -1.7605285393e-4, "f64": 1.6751713164886512e-10}
LOG10_E_HI = {"f32": 4.3432617188e-1, "f64": 4.3429448187816888e-1}
LOG10_E_LO = {"f32": -3.1689971365e-5, "f64": 2.5082946711645275e-11}
LOG10_2_HI = {"f32": 3.0102920532e-1, "f64": 3.0102999566361177e-1}
LOG10_2_LO = {"f32": 7.9034151668e-7, "f64": 3.6942390771589308e-13}


def integer_to_float(n: Num[V]) -> Num[V]:
    """A small integer as a float of the same width, by bits (vectors of i64 convert slowly)."""
    if n.kind == "i32":
        return n.to("sitofp", "f32")
    return ((n + 0x4338000000000000).as_float()) - 6755399441055744.0


def split_exponent(x: Num[V]) -> tuple[Num[V], Num[V]]:
    """The integer `k` and `m` in [sqrt 1/2, sqrt 2) with `x = 2^k m`, for positive finite `x`."""
    kind, width = x.kind, MANTISSA_BITS[x.kind]
    tiny = x < SMALLEST_NORMAL[kind]
    bits = where(tiny, x * 2.0**width, x).bits()
    # Adding the distance from sqrt(1/2) to 1 makes the exponent field count halves of octaves.
    shifted = bits + (ONE_BITS[kind] - SQRT_HALF_BITS[kind])
    k = shifted.integer("ashr", width) - (127 if kind == "f32" else 1023)
    m = ((shifted & ((1 << width) - 1)) + SQRT_HALF_BITS[kind]).as_float()
    return where(tiny, k - width, k), m


def log1p_tail(f: Num[V]) -> Num[V]:
    """`s (f^2/2 + R)`: log(1 + f) less `f - f^2/2`."""
    s = f / (f + 2.0)
    z = s * s
    r = z * horner(z, tables.LOG_F32 if f.kind == "f32" else tables.LOG_F64)
    return s * (f * f * 0.5 + r)


def special(x: Num[V], result: Num[V]) -> Num[V]:
    """`result` of a logarithm, with IEEE's values at 0, negative numbers, infinity and NaN."""
    result = where(x.equals(0.0), float("-inf"), result)
    result = where(x < 0.0, float("nan"), result)
    return where(x.compare("une", x) | x.equals(float("inf")), x, result)


def log(x: Num[V]) -> Num[V]:
    """Natural logarithm."""
    k, m = split_exponent(x)
    f, n = m - 1.0, integer_to_float(k)
    half = f * f * 0.5
    rest = n.fma(LN2_LO[x.kind], log1p_tail(f))
    return special(x, n * LN2_HI[x.kind] - ((half - rest) - f))


def _high_low(f: Num[V]) -> tuple[Num[V], Num[V]]:
    """Split log(1 + f) as a part with half the bits of the mantissa and the rest."""
    half = f * f * 0.5
    kept = -(1 << 12) if f.kind == "f32" else -(1 << 32)
    hi = ((f - half).bits() & kept).as_float()
    return hi, (f - hi) - half + log1p_tail(f)


def log2(x: Num[V]) -> Num[V]:
    """Logarithm to base 2; exact for powers of two."""
    k, m = split_exponent(x)
    hi, lo = _high_low(m - 1.0)
    n = integer_to_float(k)
    big, small = LOG2_E_HI[x.kind], LOG2_E_LO[x.kind]
    product = hi * big
    total = n + product
    rest = (n - total) + product
    return special(x, total + (rest + ((lo + hi) * small + lo * big)))


def log10(x: Num[V]) -> Num[V]:
    """Logarithm to base 10."""
    k, m = split_exponent(x)
    hi, lo = _high_low(m - 1.0)
    n, kind = integer_to_float(k), x.kind
    product, whole = hi * LOG10_E_HI[kind], n * LOG10_2_HI[kind]
    total = whole + product
    rest = (whole - total) + product
    small = n * LOG10_2_LO[kind] + (lo + hi) * LOG10_E_LO[kind] + lo * LOG10_E_HI[kind]
    return special(x, total + (rest + small))


def log1p(x: Num[V]) -> Num[V]:
    """`log(1 + x)` without losing a small `x`."""
    u = x + 1.0
    k, m = split_exponent(u)
    # What 1 + x rounded away, relative to u; for large x the 1 itself is what was lost.
    lost = where(x > 1.0, 1.0 - (u - x), x - (u - 1.0)) / u
    n, f = integer_to_float(k), m - 1.0
    f = where(k.equals(0), where(x.abs() < 0.25, x, f), f)
    lost = where(k.equals(0) & (x.abs() < 0.25), 0.0, lost)
    rest = n.fma(LN2_LO[x.kind], log1p_tail(f) + lost)
    result = n * LN2_HI[x.kind] - ((f * f * 0.5 - rest) - f)
    return where(x.equals(0.0), x, special(u, result))


def softplus(x: Num[V]) -> Num[V]:
    """`log(1 + e^x)` = `max(x, 0) + log1p(e^-|x|)`."""
    return where(x.is_nan(), x, x.higher(0.0) + log1p(exp(-x.abs())))


def asinh(x: Num[V]) -> Num[V]:
    """Inverse hyperbolic sine, of f64."""
    a = x.abs()
    square = a * a
    small = log1p(a + square / ((square + 1.0).sqrt() + 1.0))
    result = where(a > 1e9, log(a) + LN2, small)
    return where(a < 1e-9, x, result.copysign(x))


def acosh(x: Num[V]) -> Num[V]:
    """Inverse hyperbolic cosine, of f64; NaN below 1."""
    t = x - 1.0
    small = log1p(t + (t * 2.0 + t * t).sqrt())
    result = where(x > 1e9, log(x) + LN2, small)
    return where(x < 1.0, float("nan"), result)


def atanh(x: Num[V]) -> Num[V]:
    """Inverse hyperbolic tangent, of f64; NaN outside [-1, 1]."""
    a = x.abs()
    result = log1p(a * 2.0 / (1.0 - a)) * 0.5
    result = where(a > 1.0, float("nan"), result)
    return where(a < 1e-9, x, result.copysign(x))
