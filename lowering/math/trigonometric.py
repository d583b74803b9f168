"""sin, cos, tan and their inverses.

Kernels after FreeBSD's msun (k_sin.c, k_cos.c), which use what reduction rounded away.
"""

from lowering.math import tables
from lowering.math.doubled import two_product
from lowering.math.num import Num, horner, where
from lowering.math.prim import V
from lowering.math.reduction import PIO2_HI, PIO2_LO, Reduced, reduce, reduce_f64

PI_HI, PI_LO = 3.141592653589793, 1.2246467991473532e-16


def _sin_kernel(r: Num[V], rest: Num[V]) -> Num[V]:
    z = r * r
    s = horner(z, tables.SIN_F32 if r.kind == "f32" else tables.SIN_F64)
    # r + r^3 s + rest (1 - r^2 / 2)
    return r + (z * r * s + rest * (z * -0.5 + 1.0))


def _cos_kernel(r: Num[V], rest: Num[V]) -> Num[V]:
    z = r * r
    half = z * 0.5
    w = 1.0 - half
    tail = z * z * horner(z, tables.COS_F32 if r.kind == "f32" else tables.COS_F64)
    return w + (((1.0 - w) - half) + (tail - r * rest))


def _pick(reduced: Reduced[V], turn: int) -> Num[V]:
    """The sine of the reduced angle turned by `turn` quadrants."""
    quadrant = reduced.quadrant + turn
    s = _sin_kernel(reduced.r, reduced.rest)
    c = _cos_kernel(reduced.r, reduced.rest)
    value = where((quadrant & 1).differs(0), c, s)
    sign = (quadrant & 2) << (value.width - 2)
    return (value.bits() ^ sign).as_float()


def sin(x: Num[V]) -> Num[V]:
    """Sine of an angle in radians, of any magnitude."""
    return where(x.equals(0.0), x, _pick(reduce(x), 0))


def cos(x: Num[V]) -> Num[V]:
    """Cosine of an angle in radians, of any magnitude."""
    return _pick(reduce(x), 1)


def tan(x: Num[V]) -> Num[V]:
    """Tangent of f64, of any magnitude."""
    return where(x.equals(0.0), x, _tan_of(reduce_f64(x)))


def _tan_of(reduced: Reduced[V]) -> Num[V]:
    s = _sin_kernel(reduced.r, reduced.rest)
    c = _cos_kernel(reduced.r, reduced.rest)
    odd = (reduced.quadrant & 1).differs(0)
    return where(odd, -c, s) / where(odd, s, c)


def reduce_half_turns(x: Num[V]) -> Reduced[V]:
    """`pi x` reduced exactly, for f64."""
    whole = (x * 2.0).rint()
    product = two_product(x - whole * 0.5, x.of(PI_HI))
    quarter = whole - (whole * 0.25).unary("floor") * 4.0
    rest = product.lo + (x - whole * 0.5) * PI_LO
    return Reduced((quarter + 6755399441055744.0).bits(), product.hi, rest)


def sin_pi(x: Num[V]) -> Num[V]:
    """`sin(pi x)` of f64; exactly 0 at integers."""
    return _pick(reduce_half_turns(x), 0)


def tan_pi(x: Num[V]) -> Num[V]:
    """`tan(pi x)` of f64."""
    return _tan_of(reduce_half_turns(x))


def _atan_positive(x: Num[V]) -> Num[V]:
    """The inverse tangent of `x >= 0`: by addition theorems to `|t| <= tan(pi/8)`."""
    far, middle = x > 2.414213562373095, x > 0.41421356237309503
    t = where(far, -1.0 / x, where(middle, (x - 1.0) / (x + 1.0), x))
    base = where(far, PIO2_HI, where(middle, x.of(PIO2_HI / 2), 0.0))
    lost = where(far, PIO2_LO, where(middle, x.of(PIO2_LO / 2), 0.0))
    z = t * t
    return base + ((horner(z, tables.ATAN) * z * t + lost) + t)


def atan(x: Num[V]) -> Num[V]:
    """Inverse tangent, of f64."""
    return where(x.equals(0.0) | x.is_nan(), x, _atan_positive(x.abs()).copysign(x))


def atan2(y: Num[V], x: Num[V]) -> Num[V]:
    """The angle of the point (x, y) in [-pi, pi], of f64; C99's values at zeros and infinities."""
    a, b = y.abs(), x.abs()
    # Scaling both keeps the quotient of subnormal numbers accurate.
    tiny = (a < 1e-290) & (b < 1e-290)
    a, b = where(tiny, a * 2.0**200, a), where(tiny, b * 2.0**200, b)
    infinite = a.equals(b) & (a.equals(float("inf")))
    ratio = where(infinite, 1.0, a / b)
    angle = where(a.equals(0.0), 0.0, _atan_positive(ratio))
    angle = where(x.is_negative(), PI_HI - (angle - PI_LO), angle)
    angle = where(x.is_nan() | y.is_nan(), float("nan"), angle)
    return angle.copysign(y)


def _asin_tail(z: Num[V]) -> Num[V]:
    """`asin(x) / x - 1` at `z = x^2 <= 1/4`."""
    return z * horner(z, tables.ASIN)


def _half_angle(magnitude: Num[V]) -> tuple[Num[V], Num[V], Num[V]]:
    """`z = (1 - x) / 2`, its root, and what the root rounded away."""
    z = (1.0 - magnitude) * 0.5
    root = z.sqrt()
    square = two_product(root, root)
    correction = ((z - square.hi) - square.lo) / (root * 2.0)
    return z, root, where(root > 0.0, correction, 0.0)


def asin(x: Num[V]) -> Num[V]:
    """Inverse sine, of f64; NaN outside [-1, 1]."""
    magnitude = x.abs()
    square = x * x
    small = magnitude * _asin_tail(square) + magnitude
    z, root, rest = _half_angle(magnitude)
    large = PIO2_HI - ((root * _asin_tail(z) + (rest - PIO2_LO / 2)) + root) * 2.0
    result = where(magnitude > 0.5, large, small)
    return where(magnitude < 1e-9, x, result.copysign(x))


def acos(x: Num[V]) -> Num[V]:
    """Inverse cosine, of f64; NaN outside [-1, 1]."""
    magnitude = x.abs()
    middle = PIO2_HI - (x - (PIO2_LO - x * _asin_tail(x * x)))
    z, root, rest = _half_angle(magnitude)
    angle = (root + (root * _asin_tail(z) + rest)) * 2.0
    turned = PI_HI - (angle - PI_LO)
    return where(magnitude > 0.5, where(x < 0.0, turned, angle), middle)
