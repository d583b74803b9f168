"""Argument reduction by pi/2 over the full range of f32 and f64.

Ordinary arguments use Cody and Waite's subtraction of `n pi/2` in parts that multiply exactly;
large ones Payne and Hanek's multiplication by the bits of 2/pi that matter for the argument's
exponent (M. Payne, R. Hanek, "Radian reduction for trigonometric functions", 1983).
"""

from dataclasses import dataclass
from typing import Generic

from lowering.math.doubled import Pair, quick_sum, two_sum
from lowering.math.num import Num, rarely, where
from lowering.math.prim import V

TWO_OVER_PI = 0.6366197723675814
PIO2_1, PIO2_2, PIO2_3 = (
    1.57079632673412561417e00,
    6.07710050630396597660e-11,
    2.02226624879595063154e-21,
)
"""pi/2 in parts: 33 bits, 33 bits, 53 bits."""
PIO2_HI, PIO2_LO = 1.5707963267948966, 6.123233995736766e-17
MAGIC = 6755399441055744.0
LARGE = 1.0e6
"""Beyond this `n` times a 33-bit part is no longer exact."""

# fmt: off
TWO_OVER_PI_WORDS = (
    0x00000000, 0x00000000, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041,
    0xFE5163AB, 0xDEBBC561, 0xB7246E3A, 0x424DD2E0, 0x06492EEA, 0x09D1921C, 0xFE1DEB1C, 0xB129A73E,
    0xE88235F5, 0x2EBB4484, 0xE99C7026, 0xB45F7E41, 0x3991D639, 0x835339F4, 0x9C845F8B, 0xBDF9283B,
    0x1FF897FF, 0xDE05980F, 0xEF2F118B, 0x5A0A6D1F, 0x6D367ECF, 0x27CB09B7, 0x4F463F66, 0x9E5FEA2D,
    0x7527BAC7, 0xEBE5F17B, 0x3D0739F7, 0x8A5292EA, 0x6BFB5FB1, 0x1F8D5D08, 0x56033046, 0xFC7B6BAB,
    0xF0CFBC20, 0x9AF4361D,
)
"""The fraction of 2/pi in words of 32 bits after two words of zeros."""
# fmt: on


@dataclass(frozen=True, eq=False, slots=True)
class Reduced(Generic[V]):
    """`x = quadrant pi/2 + r + rest` with `|r| <= pi/4`; the quadrant counts in its low bits."""

    quadrant: Num[V]
    r: Num[V]
    rest: Num[V]


def _word(index: Num[V], offset: int) -> Num[V]:
    return (index + offset).lookup("i64", "torsh_two_over_pi", TWO_OVER_PI_WORDS)


def _payne_hanek(x: Num[V]) -> Reduced[V]:
    """Reduction of a large f64 by 64 x 192-bit integer multiplication in limbs of 32 bits."""
    bits = x.bits()
    exponent = bits.integer("lshr", 52) & 0x7FF
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    # x = mantissa 2^(exponent - 1075). Bits of 2/pi above weight 2^(1 - that power) only give
    # multiples of 4: the first that matters is number exponent - 1013 of the padded table.
    start = exponent - 1013
    start = where(start < 0, 0, where(start > 1033, 0, start))
    index, offset = start.integer("lshr", 5), start & 31
    words = [_word(index, k) for k in range(7)]
    rows = [
        ((words[k] << offset) & 0xFFFFFFFF) | words[k + 1].integer("lshr", 32 - offset)
        for k in range(6)
    ]
    low, high = mantissa & 0xFFFFFFFF, mantissa.integer("lshr", 32)
    # Limb products, least significant row first; carries never exceed 64 bits.
    carry_low = carry_high = previous = bits.of(0)
    limbs: list[Num[V]] = []
    for row in reversed(rows):
        a = low * row + carry_low
        b = high * previous + carry_high
        total = (a & 0xFFFFFFFF) + (b & 0xFFFFFFFF)
        carry_low = a.integer("lshr", 32) + total.integer("lshr", 32)
        carry_high = b.integer("lshr", 32)
        limbs.append(total & 0xFFFFFFFF)
        previous = row
    top = (limbs[5] << 32) | limbs[4]
    bottom = (limbs[3] << 32) | limbs[2]
    return _from_fixed(x, top, bottom)


def _from_fixed(x: Num[V], top: Num[V], bottom: Num[V]) -> Reduced[V]:
    """A reduced argument from `|x| 2/pi mod 4` with two bits before the point, 128 in all."""
    quadrant = (top.integer("lshr", 61) + 1).integer("lshr", 1)
    fraction_hi = (top << 2) | bottom.integer("lshr", 62)
    fraction_lo = bottom << 2
    negative = fraction_hi < 0
    fraction_hi = where(negative, ~fraction_hi, fraction_hi)
    fraction_lo = where(negative, ~fraction_lo, fraction_lo)
    # Three exact pieces of 42, 42 and 44 bits.
    first = (fraction_hi.integer("lshr", 22)).to("sitofp", "f64") * 2.0**-42
    middle_bits = ((fraction_hi & 0x3FFFFF) << 20) | fraction_lo.integer("lshr", 44)
    middle = middle_bits.to("sitofp", "f64") * 2.0**-84
    last = (fraction_lo & ((1 << 44) - 1)).to("sitofp", "f64") * 2.0**-128
    head = quick_sum(first, middle)
    fraction = quick_sum(head.hi, head.lo + last)
    scaled = fraction.times(Pair(x.of(PIO2_HI), x.of(PIO2_LO)))
    flip = x.is_negative() ^ negative
    r = where(flip, -scaled.hi, scaled.hi)
    rest = where(flip, -scaled.lo, scaled.lo)
    return Reduced(where(x.is_negative(), 0 - quadrant, quadrant), r, rest)


def _with_large(x: Num[V], usual: Reduced[V]) -> Reduced[V]:
    """Replace large lanes; infinity and NaN become NaN."""

    def slow() -> list[Num[V]]:
        reduced = _payne_hanek(x)
        return [reduced.quadrant, reduced.r, reduced.rest]

    quadrant, r, rest = rarely(x.abs() > LARGE, [usual.quadrant, usual.r, usual.rest], slow)
    finite = x.abs() < float("inf")
    return Reduced(quadrant, where(finite, r, float("nan")), rest)


def reduce_f64(x: Num[V]) -> Reduced[V]:
    """Reduction of f64, to about 2^-118 of a quadrant."""
    shifted = x.fma(TWO_OVER_PI, MAGIC)
    n = shifted - MAGIC
    difference = two_sum(x - n * PIO2_1, n * -PIO2_2)
    usual = quick_sum(difference.hi, difference.lo - n * PIO2_3)
    return _with_large(x, Reduced(shifted.bits(), usual.hi, usual.lo))


def reduce_f32(x: Num[V]) -> Reduced[V]:
    """Reduction of f32: in f64, then split into two f32."""
    wide = x.widen()
    shifted = wide.fma(TWO_OVER_PI, MAGIC)
    n = shifted - MAGIC
    r = (wide - n * PIO2_1) - n * PIO2_2
    reduced = _with_large(wide, Reduced(shifted.bits(), r, r.of(0.0)))
    narrow = reduced.r.narrow()
    rest = (reduced.r - narrow.widen()).narrow()
    return Reduced(reduced.quadrant.to("trunc", "i32"), narrow, rest)


def reduce(x: Num[V]) -> Reduced[V]:
    """`x` as a quadrant and what is left of it."""
    return reduce_f32(x) if x.kind == "f32" else reduce_f64(x)
