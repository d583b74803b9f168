"""Conversions between f32 and narrow floats, in integer arithmetic with one correct rounding.

LLVM makes library calls of many of these conversions, so every emitter uses this file instead.
Encoded values are i32 numbers that hold the code in their low bits.
"""

from dataclasses import dataclass
from typing import Literal

from lowering.math.num import Num, where
from lowering.math.prim import V

SIGN = -0x80000000
INFINITY_BITS = 0x7F800000
MANTISSA_MASK = 0x007FFFFF


@dataclass(frozen=True)
class Format:
    """A narrow binary floating-point format with a sign bit.

    Attributes:
        exponent_bits: Width of the exponent field.
        mantissa_bits: Width of the fraction field.
        bias: What the exponent field adds to the exponent.
        special: `ieee` (infinities and NaNs in the last exponent), `last` (the largest code is
            NaN, no infinity), `negative_zero` (its code is NaN, no infinity) or `none`.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    special: Literal["ieee", "last", "negative_zero", "none"]

    @property
    def bits(self) -> int:
        """Width of a code."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def magnitude_mask(self) -> int:
        """All bits but the sign."""
        return (1 << (self.bits - 1)) - 1

    @property
    def infinity(self) -> int:
        """The first code that is not a finite number, in `ieee` formats."""
        return ((1 << self.exponent_bits) - 1) << self.mantissa_bits

    @property
    def largest(self) -> int:
        """The code of the largest finite number."""
        if self.special == "ieee":
            return self.infinity - 1
        return self.magnitude_mask - (self.special == "last")

    @property
    def nan(self) -> int:
        """A code of NaN (a positive one where there is a choice)."""
        if self.special == "ieee":
            return self.infinity | 1 << (self.mantissa_bits - 1)
        return 1 << (self.bits - 1) if self.special == "negative_zero" else self.magnitude_mask


FORMATS: dict[str, Format] = {
    "f16": Format(5, 10, 15, "ieee"),
    "bf16": Format(8, 7, 127, "ieee"),
    "f8e4m3fn": Format(4, 3, 7, "last"),
    "f8e4m3fnuz": Format(4, 3, 8, "negative_zero"),
    "f8e5m2": Format(5, 2, 15, "ieee"),
    "f8e5m2fnuz": Format(5, 2, 16, "negative_zero"),
    "f6e2m3": Format(2, 3, 1, "none"),
    "f6e3m2": Format(3, 2, 3, "none"),
    "f4e2m1": Format(2, 1, 1, "none"),
}


def decode(code: Num[V], format: Format) -> Num[V]:
    """The f32 that `code` (i32) means; exact."""
    magnitude = code & format.magnitude_mask
    sign = (code.integer("lshr", format.bits - 1) & 1) << 31
    shift = 23 - format.mantissa_bits
    shifted = magnitude << shift
    if format.exponent_bits == 8:
        return (shifted | sign).as_float()
    normal = shifted + ((127 - format.bias) << 23)
    # By a product instead of a subnormal pattern: also right when subnormals are flushed.
    unit = 2.0 ** (1 - format.bias - format.mantissa_bits)
    small = (magnitude.to("sitofp", "f32") * unit).bits()
    bits = where(magnitude < (1 << format.mantissa_bits), small, normal)
    if format.special == "ieee":
        bits = where(magnitude < format.infinity, bits, shifted | INFINITY_BITS)
    elif format.special == "last":
        bits = where(magnitude.equals(format.magnitude_mask), 0x7FC00000, bits)
    bits = bits | sign
    if format.special == "negative_zero":
        bits = where(code.equals(format.nan), 0x7FC00000, bits)
    return bits.as_float()


def encode(x: Num[V], format: Format, saturate: bool = False) -> Num[V]:
    """The code (i32) of f32 `x`, rounded half to even.

    Args:
        x: The value.
        format: The format of the code.
        saturate: What lies beyond the largest number, infinity among it, becomes that number
            (ONNX Cast with `saturate=1`); otherwise infinity, or NaN where there is none.
            Formats without NaN always saturate.
    """
    bits = x.bits()
    magnitude = bits & ~SIGN
    shift = 23 - format.mantissa_bits
    odd = magnitude.integer("lshr", shift) & 1
    rounded = (magnitude + (odd + ((1 << (shift - 1)) - 1))).integer("lshr", shift)
    code = rounded - ((127 - format.bias) << format.mantissa_bits)
    if format.exponent_bits < 8:
        # Adding this makes the float's own rounding happen at the format's last place.
        magic = x.of(2.0 ** (24 - format.bias - format.mantissa_bits))
        small = (magnitude.as_float() + magic).bits() - magic.bits()
        code = where(magnitude < ((128 - format.bias) << 23), small, code)
    beyond = _beyond(format, saturate)
    code = where(code > format.largest, beyond, code)
    if not (format.special == "ieee" and not saturate):
        code = where(magnitude.equals(INFINITY_BITS), beyond, code)
    sign = bits.integer("lshr", 31) << (format.bits - 1)
    if format.special == "negative_zero":
        sign = where(code.equals(0) | code.equals(format.nan), 0, sign)
    code = code | sign
    if format.special == "none":
        return where(x.is_nan(), format.largest, code)
    quiet = code.of(format.nan) if format.special == "negative_zero" else sign | format.nan
    return where(x.is_nan(), quiet, code)


def _beyond(format: Format, saturate: bool) -> int:
    """The code of numbers too large for `format`, without sign."""
    if saturate or format.special == "none":
        return format.largest
    return format.infinity if format.special == "ieee" else format.nan


def decode_e8m0(code: Num[V]) -> Num[V]:
    """The power of two that an e8m0 code (i32) means; 255 is NaN."""
    bits = where(code.equals(0), 0x00400000, code << 23)
    return where(code.equals(255), 0x7FC00000, bits).as_float()


def encode_e8m0(
    x: Num[V], saturate: bool = True, rounding: Literal["up", "down", "nearest"] = "up"
) -> Num[V]:
    """The e8m0 code (i32) of the magnitude of f32 `x`, as ONNX Cast to FLOAT8E8M0 rounds it.

    Args:
        x: The value; its sign is dropped, infinity becomes NaN.
        saturate: Whether what rounds beyond the largest power gives that power instead of NaN.
        rounding: To the power above, below, or to the nearest one (ties up).
    """
    magnitude = x.bits() & ~SIGN
    exponent, fraction = magnitude.integer("lshr", 23), magnitude & MANTISSA_MASK
    if rounding == "down":
        up = fraction < 0
    elif rounding == "up":
        up = fraction > 0
    else:
        # A subnormal's midpoint, 2^-127, is itself what code 0 means.
        up = fraction > where(exponent > 0, exponent.of(0x3FFFFF), 0x400000)
    code = exponent + where(up, exponent.of(1), 0)
    code = where(code > 254, 254 if saturate else 255, code)
    return where(magnitude >= INFINITY_BITS, 255, code)


def narrow_odd(x: Num[V]) -> Num[V]:
    """F64 as f32, rounded to odd: rounding the result to a narrower format is then correct.

    (S. Boldo, G. Melquiond, "When double rounding is odd", 2005.)
    """
    nearest = x.narrow()
    back = nearest.widen()
    bits = nearest.bits()
    too_large = (back.abs() > x.abs()).to("zext", "i32")
    inexact = (back.differs(x)).to("zext", "i32")
    odd = ((bits - too_large) | inexact).as_float()
    return where(x.is_nan(), nearest, odd)
