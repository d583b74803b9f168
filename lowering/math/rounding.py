"""Exact operations: rounding, remainders, neighbours, comparison-based choices."""

from lowering.math.exponential import MANTISSA_BITS
from lowering.math.num import Num, repeat, where
from lowering.math.prim import V


def floor(x: Num[V]) -> Num[V]:
    """The largest integer not above."""
    return x.unary("floor")


def ceil(x: Num[V]) -> Num[V]:
    """The smallest integer not below."""
    return x.unary("ceil")


def trunc(x: Num[V]) -> Num[V]:
    """The integer part."""
    return x.unary("trunc")


def rint(x: Num[V]) -> Num[V]:
    """The nearest integer, half to even."""
    return x.rint()


def copysign(x: Num[V], sign: Num[V]) -> Num[V]:
    """The magnitude of `x` with the sign of `sign`."""
    return x.copysign(sign)


def minimum(x: Num[V], y: Num[V]) -> Num[V]:
    """The smaller; NaN if one is; -0 is below +0 (IEEE 754-2019)."""
    smaller = where(x < y, x, where(x.equals(y), (x.bits() | y.bits()).as_float(), y))
    return where(x.is_nan(), x, smaller)


def maximum(x: Num[V], y: Num[V]) -> Num[V]:
    """The larger; NaN if one is; -0 is below +0 (IEEE 754-2019)."""
    larger = where(x > y, x, where(x.equals(y), (x.bits() & y.bits()).as_float(), y))
    return where(x.is_nan(), x, larger)


def fmin(x: Num[V], y: Num[V]) -> Num[V]:
    """The smaller; the other one if one is NaN."""
    return where(x.is_nan(), y, where(y.is_nan(), x, minimum(x, y)))


def fmax(x: Num[V], y: Num[V]) -> Num[V]:
    """The larger; the other one if one is NaN."""
    return where(x.is_nan(), y, where(y.is_nan(), x, maximum(x, y)))


def nextafter(x: Num[V], y: Num[V]) -> Num[V]:
    """The next float from `x` in the direction of `y`."""
    bits = x.bits()
    away = (x < y) ^ (bits < 0)
    stepped = where(away, bits + 1, bits - 1).as_float()
    smallest = (bits.of(1)).as_float().copysign(y)
    result = where(x.equals(0.0), smallest, stepped)
    return where(x.is_nan() | y.is_nan(), x + y, where(x.equals(y), y, result))


def _split(x: Num[V]) -> tuple[Num[V], Num[V]]:
    """A magnitude as `mantissa 2^(exponent - 1)` in units of the smallest subnormal, in i64."""
    width = MANTISSA_BITS[x.kind]
    bits = x.abs().bits()
    field, fraction = bits.integer("lshr", width), bits & ((1 << width) - 1)
    normal = field > 0
    mantissa = where(normal, fraction | (1 << width), fraction)
    exponent = where(normal, field, 1)
    if x.kind == "f32":
        return mantissa.to("zext", "i64"), exponent.to("zext", "i64")
    return mantissa, exponent


def _join(mantissa: Num[V], exponent: Num[V], kind: str) -> Num[V]:
    """The float `mantissa 2^(exponent - 1)` of a remainder, which is exact."""
    width = MANTISSA_BITS[kind]
    # Shift up until the hidden bit is set or the exponent is the smallest.
    for step in (32, 16, 8, 4, 2, 1):
        if step > width:
            continue
        fits = (mantissa < (1 << (width + 1 - step))) & (exponent > step)
        mantissa = where(fits, mantissa << step, mantissa)
        exponent = where(fits, exponent - step, exponent)
    field = where(mantissa < (1 << width), 0, exponent)
    bits = (mantissa & ((1 << width) - 1)) | (field << width)
    return (bits.to("trunc", "i32") if kind == "f32" else bits).as_float()


def _remainder_parts(x: Num[V], y: Num[V]) -> tuple[Num[V], Num[V], Num[V]]:
    """`|x| mod |y|` as mantissa and exponent, and the lowest bit of the quotient."""
    free = 62 - MANTISSA_BITS[x.kind] - 1
    m, e = _split(x)
    d, f = _split(y)
    d = where(d.equals(0), 1, d)
    smaller = e < f
    # |x| < |y| when its exponent is smaller: nothing to divide.
    e_start = where(smaller, f, e)
    quotient = m.integer("udiv", d)
    first = where(smaller, m, m - quotient * d)
    odd = where(smaller, 0, where(e.equals(f), quotient, 0))

    def step(state: list[Num[V]]) -> list[Num[V]]:
        rest, exponent, _ = state
        distance = exponent - f
        shift = where(distance < free, distance, free)
        wide = rest << shift
        digits = wide.integer("udiv", d)
        going = distance > 0
        last = where(going, digits, state[2])
        return [
            where(going, wide - digits * d, rest),
            where(going, exponent - shift, exponent),
            last,
        ]

    rest, _, last = repeat([first, e_start, odd], lambda s: s[1] > f, step)
    return rest, where(smaller, e, f), last & 1


def _guard(x: Num[V], y: Num[V], result: Num[V]) -> Num[V]:
    """NaN where the remainder has no value, `x` where `y` is infinite."""
    bad = x.is_nan() | y.is_nan() | x.abs().equals(float("inf")) | y.equals(0.0)
    result = where(y.abs().equals(float("inf")), x, result)
    return where(bad, float("nan"), result)


def fmod(x: Num[V], y: Num[V]) -> Num[V]:
    """`x - trunc(x / y) y` exactly; has the sign of `x`."""
    mantissa, exponent, _ = _remainder_parts(x, y)
    return _guard(x, y, _join(mantissa, exponent, x.kind).copysign(x))


def mod(x: Num[V], y: Num[V]) -> Num[V]:
    """Python's and torch's remainder: `x - floor(x / y) y`, with the sign of `y`."""
    rest = fmod(x, y)
    turned = rest.differs(0.0) & ((rest < 0.0) ^ (y < 0.0))
    result = where(turned, rest + y, rest)
    return where(rest.equals(0.0), rest.copysign(y), result)


def remainder(x: Num[V], y: Num[V]) -> Num[V]:
    """IEEE 754's remainder: `x - n y` with `n` the nearest integer, half to even."""
    mantissa, exponent, odd = _remainder_parts(x, y)
    rest, magnitude = _join(mantissa, exponent, x.kind), y.abs()
    # Halving y would lose a bit of subnormal numbers: compare rest with what is left of y.
    left = magnitude - rest
    up = (rest > left) | (rest.equals(left) & odd_mask(odd))
    result = where(up, rest - magnitude, rest)
    result = (result.bits() ^ (x.bits() & result.bits().of(-1 << (x.width - 1)))).as_float()
    return _guard(x, y, result)


def odd_mask(bit: Num[V]) -> Num[V]:
    """A mask of the lanes where the lowest bit is set."""
    return (bit & 1).differs(0)
