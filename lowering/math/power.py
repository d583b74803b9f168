"""pow, roots and hypot."""

from lowering.math import tables
from lowering.math.doubled import Pair, exact, quick_sum, quotient, two_product, two_sum
from lowering.math.exponential import LN2, reduce_by_ln2, scale
from lowering.math.logarithm import integer_to_float, split_exponent
from lowering.math.num import Num, horner, where
from lowering.math.prim import V

LN2_LOW = 2.3190468138462996e-17
TWO_THIRDS_LO = 3.700743415417188e-17


def log_pair(x: Num[V]) -> Pair[V]:
    """The logarithm of positive finite f64, to about 2^-64 relative."""
    k, m = split_exponent(x)
    n = integer_to_float(k)
    s = quotient(two_sum(m, m.of(-1.0)), two_sum(m, m.of(1.0)))
    z = s.times(s)
    tail = z.hi * z.hi * horner(z.hi, tables.LOG_TAIL)
    third = z.times(Pair(m.of(2.0 / 3.0), m.of(TWO_THIRDS_LO)))
    series = quick_sum(third.hi, third.lo + tail)
    mantissa = s.scaled(2.0).plus(s.times(series))
    whole = two_product(n, n.of(LN2))
    whole = quick_sum(whole.hi, whole.lo + n * LN2_LOW)
    return whole.plus(mantissa)


def exp_pair(y: Pair[V]) -> Num[V]:
    """The exponential of a pair of f64, rounded once more than exactly."""
    hi = where(y.hi > 710.0, 710.0, y.hi)
    hi = where(hi < -746.0, -746.0, hi)
    n, r, rest = reduce_by_ln2(hi)
    lo = rest + where(y.hi.equals(hi), y.lo, 0.0)
    tail = r * r * horner(r, tables.EXP_F64)
    return scale((tail + lo * (1.0 + (r + tail))) + r + 1.0, n)


def _magnitude(x: Num[V], y: Num[V]) -> Num[V]:
    """`x^y` of f64 for positive finite `x`."""
    log = log_pair(x)
    # An exponent beyond this makes every base but 1 overflow or vanish, and its product split.
    limited = where(y > 1e300, 1e300, where(y < -1e300, -1e300, y))
    small = limited.abs() < 2.0**70
    product = log.times(exact(where(small, limited, 1.0)))
    return exp_pair(
        Pair(
            where(small, product.hi, log.hi * limited),
            where(small, product.lo, 0.0),
        )
    )


def pow(x: Num[V], y: Num[V]) -> Num[V]:
    """`x^y` of f64 with C99's special cases (annex F.10.4.4)."""
    magnitude = x.abs()
    infinity = float("inf")
    zero, infinite = magnitude.equals(0.0), magnitude.equals(infinity)
    regular = where(zero | infinite | x.is_nan(), 1.0, magnitude)
    result = _magnitude(regular, where(y.is_nan(), 0.0, y))
    up = y > 0.0
    result = where(zero, where(up, x.of(0.0), infinity), result)
    result = where(infinite, where(up, x.of(infinity), 0.0), result)
    whole = y.unary("trunc").equals(y)
    half = y * 0.5
    odd = whole & half.unary("trunc").differs(half) & (y.abs() < 2.0**53)
    negative = x.is_negative()
    finite_negative = (x < 0.0) & (magnitude < infinity)
    result = where(negative & odd, -result, result)
    result = where(finite_negative & ~whole, float("nan"), result)
    result = where(x.is_nan() | y.is_nan(), float("nan"), result)
    one = (magnitude.equals(1.0)) & (y.abs().equals(infinity))
    return where(y.equals(0.0) | x.equals(1.0) | one, 1.0, result)


def rsqrt(x: Num[V]) -> Num[V]:
    """`1 / sqrt(x)`."""
    return 1.0 / x.sqrt()


def square_root(x: Num[V]) -> Num[V]:
    """The correctly rounded square root."""
    return x.sqrt()


def cbrt(x: Num[V]) -> Num[V]:
    """Cube root of f64 (FreeBSD's msun, s_cbrt.c)."""
    magnitude = x.abs()
    tiny = magnitude < 2.0**-1022
    a = where(tiny, magnitude * 2.0**54, magnitude)
    high = a.bits().integer("lshr", 32).integer("udiv", 3)
    guess = ((high + where(tiny, high.of(696219795), 715094163)) << 32).as_float()
    # The guess is of |x| itself: a polynomial in guess^3 / |x| brings it to 23 bits.
    scaled = where(tiny, guess * 2.0**18, guess)
    r = scaled * scaled * (scaled / a)
    p = horner(
        r,
        (1.87595182427177009643, -1.88497979543377169875, 1.621429720105354466140,
         -0.758397934778766047437, 0.145996192886612446982),
    )  # fmt: skip
    t = ((scaled * p).bits() + 0x80000000 & -0x40000000).as_float()
    t = t + t * ((a / (t * t) - t) / (t + t + a / (t * t)))
    t = where(tiny, t * 2.0**-18, t)
    regular = (magnitude > 0.0) & (magnitude < float("inf"))
    return where(regular, t.copysign(x), x)


def hypot(x: Num[V], y: Num[V]) -> Num[V]:
    """`sqrt(x^2 + y^2)` of f64 without overflow; infinite if one is, even beside NaN."""
    a, b = x.abs(), y.abs()
    large, small = where(a > b, a, b), where(a > b, b, a)
    factor = where(large > 2.0**500, 2.0**-600, where(small < 2.0**-400, large.of(2.0**600), 1.0))
    factor = where((large > 2.0**60 * small) | small.equals(0.0), 1.0, factor)
    p, q = two_product(large * factor, large * factor), small * factor
    square = two_sum(p.hi, q * q)
    root = square.hi.sqrt()
    back = two_product(root, root)
    rest = ((square.hi - back.hi) - back.lo) + (square.lo + p.lo)
    refined = (root + rest / (root * 2.0)) / factor
    result = where((large > 2.0**60 * small) | small.equals(0.0), large + small, refined)
    result = where(x.is_nan() | y.is_nan(), float("nan"), result)
    infinite = a.equals(float("inf")) | b.equals(float("inf"))
    return where(infinite, float("inf"), result)
