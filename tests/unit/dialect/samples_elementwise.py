"""Sample calls of the element-wise ops."""

from __future__ import annotations

import numpy as np
from sample_data import (
    BOOLS,
    COMPLEX,
    EDGES,
    FLOATS,
    INF,
    INTS,
    MODERATE,
    NAN,
    binary,
    one,
    real,
    unary,
)

from torsh_dialect.dtypes import (
    bf16,
    c64,
    f4e2m1fn,
    f6e2m3fn,
    f6e3m2fn,
    f8e4m3fn,
    f8e5m2,
    f8e8m0fnu,
    f16,
    f32,
    f64,
    i1,
    i4,
    i8,
    i32,
    i64,
    ui8,
    ui64,
)


def _elementwise():
    return [
        *binary("add sub mul floordiv remainder fmod truncdiv maximum minimum", FLOATS + INTS),
        *binary("div pow fmin fmax copysign atan2 hypot logaddexp logaddexp2 prelu", FLOATS),
        *binary("add mul maximum minimum", BOOLS),
        *binary("add sub mul div", COMPLEX),
        *binary("nextafter", [EDGES.astype(np.float32), EDGES]),
        *[
            one("pow", a, b.astype(a.dtype))
            for a in INTS
            for b in (np.array([0]), np.array([1]), np.array([2]), np.array([5]))
        ],
        *[one("pow", a, np.array(b, a.dtype)) for a in INTS[:3] for b in (-1, -2)],
        *unary("neg abs square relu", FLOATS + INTS),
        *unary("sign relu6", FLOATS + INTS[:3]),
        *unary("floor ceil trunc round", FLOATS + INTS),
        *unary("signbit", FLOATS + INTS + BOOLS),
        *unary("frac isnan isinf isfinite reciprocal", FLOATS),
        *unary(
            "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh "
            "acosh atanh cbrt sqrt rsqrt sinc",
            FLOATS,
        ),
        *unary("exp sin sqrt tanh reciprocal square neg", COMPLEX),
        *binary("eq ne lt le gt ge", FLOATS + INTS),
        *binary("eq ne", COMPLEX),
        *binary("logical_and logical_or logical_xor", FLOATS[:2] + INTS + BOOLS),
        *unary("logical_not", FLOATS[:2] + INTS + BOOLS),
        *binary("bitwise_and bitwise_or bitwise_xor", INTS + BOOLS),
        *unary("bitwise_not", INTS + BOOLS),
        *unary("population_count", INTS),
        *[
            one(n, a, np.array(k, a.dtype))
            for n in ("shift_left", "shift_right")
            for a in INTS
            for k in (0, 1, 7, 64)
        ],
        *[one(n, INTS[1], np.array(-1, np.int32)) for n in ("shift_left", "shift_right")],
    ]


def _activations():
    plain = "sigmoid log_sigmoid hardswish softsign mish silu"
    return [
        *unary(plain, FLOATS),
        *unary("silu", FLOATS, alpha=1.7),
        *unary("hardsigmoid", FLOATS, alpha=0.2, beta=0.5),
        *unary("leaky_relu", FLOATS, alpha=0.01),
        *unary("elu", FLOATS, alpha=1.5),
        *unary("celu", FLOATS, alpha=0.7),
        *unary("selu", FLOATS, alpha=1.67, gamma=1.05),
        *unary("softplus", FLOATS, beta=1.0),
        *unary("softplus", FLOATS, beta=2.0, threshold=20.0),
        *unary("gelu", FLOATS, approximate="none"),
        *unary("gelu", FLOATS, approximate="tanh"),
        *unary("threshold", FLOATS + INTS[:2], threshold=1.0, value=-3.0),
        *unary("shrink", FLOATS, lambd=0.5, bias=0.25),
        *unary("shrink", FLOATS, lambd=0.5, bias=0.0),
    ]


def _special():
    bessel = "i0 i0e i1 i1e j0 j1"
    right = [np.array([0.1, 0.9, 2.0, 5.5, 20.0, INF, 0.0, -1.0]), np.float32(2).reshape(())]
    return [
        *unary(f"erf erfc erfinv lgamma gamma digamma {bessel} log_ndtr entr erfcx", MODERATE),
        *unary("ndtri", [np.array([0.0, 1e-5, 0.2, 0.5, 0.7, 1.0, 1.5, NAN])]),
        *unary("y0 y1 k0 k0e k1 k1e", right),
        *unary("airy_ai", [*MODERATE, np.array([-5.5, 1.999, 4.5, 30.0, INF])]),
        *binary("xlogy xlog1py", MODERATE),
        *unary("polygamma", [np.array([0.3, 1.0, 2.5, 10.0])], n=0),
        *unary("polygamma", [np.array([0.3, 1.0, 2.5, 10.0])], n=2),
        *unary("polygamma", [np.array([-0.3, -8.48, -2.0, -400.6, 0.0])], n=1),
        *unary("polygamma", [np.array([-0.3, -8.48, -2.0, -400.6, 0.0])], n=4),
        one("zeta", np.array([1.5, 2.0, 5.0, 1.0, 0.5]), np.array([1.0, 0.3, 7.0, 2.0, 2.0])),
        one("zeta", np.array([2.0, 3.0, 2.5]), np.array([-8.25, -1.5, -1.5])),
        *[
            one(n, np.array([0.5, 1.0, 4.0, 10.0, 3.0]), np.array([0.2, 1.0, 9.0, 3.0, 0.0]))
            for n in ("igamma", "igammac")
        ],
    ]


def _select():
    c = np.array([[True], [False]])
    casts = [
        (a, to)
        for a in (EDGES, EDGES.astype(np.float32), EDGES.astype(np.float16))
        for to in (f32, f64, f16, bf16, i1, i8, i32, i64, ui8, ui64)
    ]
    casts += [(a, to) for a in (*INTS, *BOOLS) for to in (f32, f16, i1, i8, i64, ui8, ui64, i4)]
    casts += [(np.array([1e20, -1e20, 300.0, 1e5, -0.3], np.float32), t) for t in (i8, i64, ui64)]
    casts += [(EDGES.astype(np.float32) * 20, t) for t in (f8e4m3fn, f8e5m2)]
    casts += [(EDGES[:-1].astype(np.float32), t) for t in (f4e2m1fn, f6e2m3fn, f6e3m2fn)]
    low, high = np.float32(-1).reshape(()), np.array([2.0, NAN, 0.5], np.float32)
    return [
        *[one("cast", a, to=to) for a, to in casts],
        one("cast", COMPLEX[0], to=f32),
        one("cast", FLOATS[0], to=c64),
        *[
            one("cast", EDGES.astype(np.float32) * 1e3, to=t, saturate=True)
            for t in (f8e4m3fn, f8e5m2)
        ],
        *[
            one(
                "cast",
                np.array([0.7, 1.0, 1.4, 1.6, 3.0, 1e-3, 0, 3e-39, 6e-39, 1e-38], np.float32),
                to=f8e8m0fnu,
                rounding=r,
            )
            for r in ("up", "down", "nearest")
        ],
        one("where", c, real(2, 3), real(3)),
        one("where", c, INTS[1], INTS[1] * 2),
        one("where", BOOLS[0], BOOLS[0], ~BOOLS[0]),
        one("where", c[:0], real(0, 3), real(3)),
        one("clamp", real(2, 3), low, high),
        one("clamp", real(2, 3), None, high),
        one("clamp", real(2, 3), low, None),
        one("clamp", INTS[1], np.int32(3).reshape(()), None),
        one("lerp", real(2, 3), real(3), np.float32(0.3).reshape(())),
        one("lerp", real(2, 3), real(3), real(2, 3)),
        one(
            "lerp",
            real(3, dtype=np.float16),
            real(3, dtype=np.float16),
            np.float16(0.8).reshape(()),
        ),
    ]


def _complex():
    z = COMPLEX[0]
    return [
        one("complex", real(2, 3), real(3)),
        *unary("real imag conj complex_abs angle view_as_real", COMPLEX),
        one("view_as_complex", real(3, 2)),
        one("real", z[:0]),
    ]


SAMPLES = [
    *_elementwise(),
    *_activations(),
    *_special(),
    *_select(),
    *_complex(),
]
