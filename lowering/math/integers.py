"""Integer operations that never trap and are defined for every operand.

Division by 0 gives 0 (like numpy), MIN / -1 wraps to MIN, shifts beyond the width saturate, and
floats outside an integer's range convert to its nearest end (NaN to 0).
"""

from lowering.math.num import Num, repeat, where
from lowering.math.prim import BITS, Kind, V


def _safe(a: Num[V], b: Num[V], signed: bool) -> Num[V]:
    """A divisor that cannot trap: 1 for 0 and for MIN / -1, where x / 1 is the wrapped result."""
    bad = b.equals(0)
    if signed:
        bad = bad | (b.equals(-1) & a.equals(-1 << (a.width - 1)))
    return where(bad, 1, b)


def divide(a: Num[V], b: Num[V], signed: bool = True) -> Num[V]:
    """The quotient rounded towards zero."""
    quotient = a.integer("sdiv" if signed else "udiv", _safe(a, b, signed))
    return where(b.equals(0), 0, quotient)


def remainder(a: Num[V], b: Num[V], signed: bool = True) -> Num[V]:
    """What `divide` leaves, with the sign of `a` (C's %)."""
    rest = a.integer("srem" if signed else "urem", _safe(a, b, signed))
    return where(b.equals(0), 0, rest)


def _turns(rest: Num[V], b: Num[V]) -> Num[V]:
    """Where floor division is one below the truncated one."""
    return rest.differs(0) & ((rest < 0) ^ (b < 0))


def floor_divide(a: Num[V], b: Num[V], signed: bool = True) -> Num[V]:
    """The quotient rounded towards minus infinity (Python's //)."""
    if not signed:
        return divide(a, b, signed=False)
    quotient = divide(a, b)
    return where(_turns(remainder(a, b), b), quotient - 1, quotient)


def mod(a: Num[V], b: Num[V], signed: bool = True) -> Num[V]:
    """What `floor_divide` leaves, with the sign of `b` (Python's %)."""
    rest = remainder(a, b, signed)
    return where(_turns(rest, b), rest + b, rest) if signed else rest


def shift_left(a: Num[V], count: Num[V]) -> Num[V]:
    """`a << count`; 0 from the width on. `count` is read as unsigned."""
    fits = count.compare("ult", a.width)
    return where(fits, a << where(fits, count, 0), 0)


def shift_right(a: Num[V], count: Num[V], signed: bool = True) -> Num[V]:
    """`a >> count`, arithmetic or logical; all sign bits or 0 from the width on."""
    fits = count.compare("ult", a.width)
    if signed:
        return a.integer("ashr", where(fits, count, a.width - 1))
    return where(fits, a.integer("lshr", where(fits, count, 0)), 0)


def power(a: Num[V], exponent: Num[V], signed: bool = True) -> Num[V]:
    """`a ** exponent`, wrapping, by squaring; for negative exponents the truncated reciprocal."""
    negative = exponent < 0 if signed else exponent.compare("ult", 0)
    result, base, left = exponent.of(1), a, where(negative, 0, exponent)

    def step(state: list[Num[V]]) -> list[Num[V]]:
        value, square, bits = state
        take = (bits & 1).differs(0)
        return [where(take, value * square, value), square * square, bits.integer("lshr", 1)]

    result, _, _ = repeat([result, base, left], lambda s: s[2].differs(0), step)
    alternating = where((exponent & 1).differs(0), a, 1)
    reciprocal = where(a.equals(1), 1, where(a.equals(-1), alternating, 0))
    return where(negative, reciprocal, result)


def from_float(x: Num[V], kind: Kind, signed: bool = True) -> Num[V]:
    """A float rounded towards zero to an integer of `kind`, saturating; NaN gives 0."""
    width = BITS[kind]
    low = -(2 ** (width - 1)) if signed else 0
    high = 2 ** (width - 1) - 1 if signed else 2**width - 1
    below, above = x <= float(low), x >= float(high + 1)
    inside = ~(below | above | x.is_nan())
    safe = where(inside, x, 0.0)
    if width == 64:
        number = safe.to("fptosi" if signed else "fptoui", "i64")
    elif width == 32 and not signed:
        number = safe.to("fptosi", "i64").to("trunc", "i32")
    else:
        number = safe.to("fptosi", "i32")
        number = number if width == 32 else number.to("trunc", kind)
    return where(below, low, where(above, high, number))


def to_float(a: Num[V], kind: Kind, signed: bool = True) -> Num[V]:
    """An integer rounded to the nearest float of `kind`."""
    return a.to("sitofp" if signed else "uitofp", kind)


def popcount(a: Num[V]) -> Num[V]:
    """How many bits are set."""
    return a.unary("popcount")
