"""Normal numbers of pairs of uniform ones, with the rounding of torch's vector code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
from xdsl.dialects.builtin import BoolAttr
from xdsl.irdl import opt_prop_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of
from torsh_dialect.declare import op
from torsh_dialect.dtypes import Element
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Binary
from torsh_dialect.scalar import Scalar, V

LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
       -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
LOG_2 = (-2.12194440e-4, 0.693359375)
SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
QUARTER_PI = (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)
"""Coefficients of `logf`, `sinf` and `cosf` of S. Moshier's Cephes library; constants in parts."""


def _f32(s: Scalar[V], value: float) -> V:
    return s.const(float(np.float32(value)), dtypes.f32)


def _i32(s: Scalar[V], value: int) -> V:
    return s.const(value, dtypes.i32)


def _polynomial(s: Scalar[V], x: V, coefficients: Sequence[float]) -> V:
    first, *rest = (_f32(s, c) for c in coefficients)
    return reduce(lambda y, c: s.fma(y, x, c), rest, first)


def cephes_log(s: Scalar[V], x: V) -> V:
    """The logarithm of a positive normal number."""
    one, zero = _f32(s, 1.0), _f32(s, 0.0)
    bits = s.bitcast(x, dtypes.i32)
    exponent = s.cast(s.sub(s.shr(bits, _i32(s, 23)), _i32(s, 126)), dtypes.f32)
    half = s.or_(s.and_(bits, _i32(s, 0x007FFFFF)), _i32(s, 0x3F000000))
    x = s.bitcast(half, dtypes.f32)
    small = s.lt(x, _f32(s, math.sqrt(0.5)))
    exponent = s.sub(exponent, s.select(small, one, zero))
    x = s.add(s.sub(x, one), s.select(small, x, zero))
    square = s.mul(x, x)
    y = s.mul(_polynomial(s, x, LOG), x)
    y = s.fma(y, square, s.mul(exponent, _f32(s, LOG_2[0])))
    y = s.fma(square, _f32(s, -0.5), y)
    return s.fma(exponent, _f32(s, LOG_2[1]), s.add(x, y))


def cephes_turn(s: Scalar[V], x: V, *, sine: bool) -> V:
    """The sine or cosine of a number from 0 to 8192."""
    octant = s.cast(s.mul(x, _f32(s, 4 / math.pi)), dtypes.i32)
    octant = s.and_(s.add(octant, _i32(s, 1)), _i32(s, ~1))
    count = s.cast(octant, dtypes.f32)
    for part in QUARTER_PI:
        x = s.fma(count, _f32(s, part), x)
    square = s.mul(x, x)
    c = s.mul(_polynomial(s, square, COSINE), square)
    c = s.fma(c, square, s.mul(square, _f32(s, -0.5)))
    c = s.add(c, _f32(s, 1.0))
    t = s.fma(s.mul(_polynomial(s, square, SINE), square), x, x)
    even = s.eq(s.and_(octant, _i32(s, 2)), _i32(s, 0))
    quadrant = octant if sine else s.add(octant, _i32(s, 2))
    y = s.select(even, t, c) if sine else s.select(even, c, t)
    return s.select(s.eq(s.and_(quadrant, _i32(s, 4)), _i32(s, 0)), y, s.neg(y))


@op
class BoxMullerOp(Binary):
    """sqrt(-2 log(1 - u)) times the cosine (with `sine`: the sine) of 2 pi v; u and v in [0, 1).

    G. Box, M. Muller, "A note on the generation of random normal deviates" (1958). Where the
    target fuses products and sums, the bits are those of torch on a CPU with AVX2, which computes
    with the functions of the Cephes library (aten/native/cpu/avx_mathfun.h).

    C1: u and v are f32.

    %r = torsh.box_muller %u, %v : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.box_muller"
    sine = opt_prop_def(BoolAttr)

    def result_element(self, *elements: Element) -> Element:
        if super().result_element(*elements) != dtypes.f32:
            raise ShapeError(f"the numbers are f32, not {elements[0]} (C1)")
        return dtypes.f32

    def evaluate(self, *args: Array) -> Sequence[Array]:
        u, v = (x.astype(np.float64) for x in args)
        turn = np.sin if bool_of(self.sine) else np.cos
        return ((np.sqrt(-2 * np.log1p(-u)) * turn(2 * np.pi * v)).astype(np.float32),)

    def body(self, s: Scalar[V], *x: V) -> V:
        size = cephes_log(s, s.sub(_f32(s, 1.0), x[0]))
        radius = s.sqrt(s.mul(_f32(s, -2.0), size))
        angle = s.mul(_f32(s, 2 * math.pi), x[1])
        return s.mul(radius, cephes_turn(s, angle, sine=bool_of(self.sine)))
