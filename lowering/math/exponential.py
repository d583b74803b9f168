"""exp and what is made of it: hyperbolic functions and the activations of neural networks.

`x = n ln 2 + r` with `|r| <= ln 2 / 2`; `n` is found by adding 1.5 * 2^(mantissa bits), which
leaves it in the low bits of the sum (no conversion to integer, which vectors of f64 lack).
"""

from lowering.math import tables
from lowering.math.num import Num, horner, where
from lowering.math.prim import V

LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453
LN2_HI = {"f32": 0.693359375, "f64": 0.6931471803691238}
"""ln 2 with so few bits that products with `n` are exact."""
LN2_LO = {"f32": -2.12194440e-4, "f64": 1.9082149292705877e-10}
MAGIC = {"f32": 12582912.0, "f64": 6755399441055744.0}
MANTISSA_BITS = {"f32": 23, "f64": 52}
BIAS = {"f32": 127, "f64": 1023}
SIGN_AND_LARGEST = {"f32": (89.0, -104.5), "f64": (710.0, -746.0)}
"""Beyond these exp is infinite or 0."""


def power_of_two(n: Num[V], kind: str) -> Num[V]:
    """`2^n` for an integer `n` in the normal range of exponents."""
    return ((n + BIAS[kind]) << MANTISSA_BITS[kind]).as_float()


def scale(x: Num[V], n: Num[V]) -> Num[V]:
    """`x * 2^n` rounded once, for `|n|` up to twice the exponent range and `x` near 1."""
    half = n.integer("ashr", 1)
    return x * power_of_two(half, x.kind) * power_of_two(n - half, x.kind)


def split_integer(x: Num[V], factor: float) -> tuple[Num[V], Num[V]]:
    """`x * factor` rounded to an integer, as a float and as an integer."""
    magic = MAGIC[x.kind]
    shifted = x.fma(factor, magic)
    return shifted - magic, shifted.bits() - shifted.of(magic).bits()


def reduce_by_ln2(x: Num[V]) -> tuple[Num[V], Num[V], Num[V]]:
    """The integer `n`, and `x - n ln 2` as a high part and what it lacks."""
    n, integer = split_integer(x, LOG2_E)
    hi = x - n * LN2_HI[x.kind]
    lo = n * LN2_LO[x.kind]
    r = hi - lo
    return integer, r, (hi - r) - lo


def _poly(r: Num[V]) -> Num[V]:
    """`exp(r) - 1 - r` on the reduced range."""
    return r * r * horner(r, tables.EXP_F32 if r.kind == "f32" else tables.EXP_F64)


def _exp_reduced(x: Num[V]) -> tuple[Num[V], Num[V]]:
    """The integer `n` and `exp(x - n ln 2)`."""
    if x.kind == "f64":
        n, r, rest = reduce_by_ln2(x)
        return n, (_poly(r) + rest) + r + 1.0
    whole, n = split_integer(x, LOG2_E)
    r = whole.fma(-LN2_LO[x.kind], whole.fma(-LN2_HI[x.kind], x))
    return n, horner(r, tables.EXP_F32).fma(r * r, r) + 1.0


def clamp(x: Num[V]) -> Num[V]:
    """`x` limited to where exp is neither 0 nor infinite; NaN stays."""
    largest, smallest = SIGN_AND_LARGEST[x.kind]
    x = where(x > largest, largest, x)
    return where(x < smallest, smallest, x)


def exp(x: Num[V]) -> Num[V]:
    """`e^x`."""
    n, value = _exp_reduced(clamp(x))
    return scale(value, n)


def exp_small(x: Num[V]) -> Num[V]:
    """`e^x` for `x <= 0` as softmax needs it: results below the normal range become 0."""
    smallest = -87.0 if x.kind == "f32" else -708.0
    n, value = _exp_reduced(where(x < smallest, smallest, x))
    return where(x < smallest, 0.0, value * power_of_two(n, x.kind))


def exp2(x: Num[V]) -> Num[V]:
    """`2^x`."""
    largest, smallest = (129.0, -151.0) if x.kind == "f32" else (1025.0, -1076.0)
    limited = where(x > largest, largest, x)
    limited = where(limited < smallest, smallest, limited)
    n, integer = split_integer(limited, 1.0)
    r = (limited - n) * LN2
    return scale(_poly(r) + r + 1.0, integer)


def expm1(x: Num[V]) -> Num[V]:
    """`e^x - 1` without cancellation."""
    lowest = -18.0 if x.kind == "f32" else -40.0
    limited = clamp(where(x < lowest, lowest, x))
    n, r, rest = reduce_by_ln2(limited)
    small = r + (_poly(r) + rest)
    half = n.integer("ashr", 1)
    a, b = power_of_two(half, x.kind), power_of_two(n - half, x.kind)
    # 2^n itself overflows for the largest arguments: the halves are applied one by one.
    result = where(n > 60, (small + 1.0) * a * b, small.fma(a * b, a * b - 1.0))
    result = where(n.equals(0), small, result)
    return where(x.equals(0.0), x, result)


def sigmoid(x: Num[V]) -> Num[V]:
    """`1 / (1 + e^-x)`."""
    e = exp(-x.abs())
    return where(x < 0.0, e, 1.0) / (e + 1.0)


def silu(x: Num[V]) -> Num[V]:
    """`x sigmoid(x)`; 0 at minus infinity."""
    # For very negative x, e^-x overflows and e^x is subnormal although x e^x is a number.
    far = x < (-80.0 if x.kind == "f32" else -700.0)
    e = exp(where(far, x * 0.5, -x))
    result = where(far, x * e * e, x / (e + 1.0))
    return where(x.equals(float("-inf")), x.of(-0.0), result)


def tanh(x: Num[V]) -> Num[V]:
    """Hyperbolic tangent."""
    magnitude = x.abs()
    end = 10.0 if x.kind == "f32" else 20.0
    limited = where(magnitude > end, end, magnitude)
    if x.kind == "f64":
        e = expm1(limited * 2.0)
        return where(magnitude < 1e-9, x, (e / (e + 2.0)).copysign(x))
    large = 1.0 - 2.0 / (exp(limited * 2.0) + 1.0)
    square = x * x
    small = (horner(square, tables.TANH_F32) * square).fma(magnitude, magnitude)
    return where(magnitude > 0.55, large, small).copysign(x)


def sinh(x: Num[V]) -> Num[V]:
    """Hyperbolic sine."""
    magnitude = x.abs()
    e = expm1(magnitude)
    small = (e + e / (e + 1.0)) * 0.5
    half = exp(magnitude * 0.5)
    result = where(magnitude > 40.0, half * 0.5 * half, small)
    return where(magnitude < 1e-9, x, result.copysign(x))


def cosh(x: Num[V]) -> Num[V]:
    """Hyperbolic cosine."""
    magnitude = x.abs()
    half = exp(magnitude * 0.5)
    e = exp(where(magnitude > 41.0, 41.0, magnitude))
    return where(magnitude > 40.0, half * 0.5 * half, e * 0.5 + 0.5 / e)


def gelu_tanh(x: Num[V]) -> Num[V]:
    """GELU by tanh: `x sigmoid(2u)`, `u = sqrt(2/pi) (x + 0.044715 x^3)`."""
    u = x * (-2.0 * 0.7978845608028654) * (x * x).fma(0.044715, 1.0)
    return where(x.equals(float("-inf")), x.of(-0.0), x / (exp(u) + 1.0))
