"""Sample calls of the basic ops: operands as arrays, properties as plain values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from samples_nn import Sample

from torsh_dialect.attributes import dims_attribute as dims
from torsh_dialect.attributes import literal
from torsh_dialect.declare import OPS
from torsh_dialect.dtypes import (
    bf16,
    c64,
    f4e2m1fn,
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

BY_NAME = {op.name.removeprefix("torsh."): op for op in OPS}
RNG = np.random.default_rng(3)
INF, NAN = np.inf, np.nan


def real(*shape, dtype=np.float32):
    return RNG.normal(0, 2, shape).astype(dtype)


def whole(low, high, *shape, dtype=np.int64):
    return RNG.integers(low, high, shape).astype(dtype)


EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 1e-8, -1e-8, 7.25, -7.75, 30.0, INF, -INF, NAN]
)
FLOATS = [
    EDGES.astype(np.float32),
    EDGES,
    EDGES.astype(np.float16),
    EDGES.astype(ml_dtypes.bfloat16),
    np.float32(0.75).reshape(()),
    np.zeros((0, 3), np.float32),
    real(2, 3),
]
INTS = [
    np.array([0, 1, -1, 2, -2, 7, -7, 127, -128], np.int8),
    whole(-50, 50, 2, 3, dtype=np.int32),
    np.array([0, 1, -1, 5, -5, 2**62, -(2**63)], np.int64),
    np.array([0, 1, 2, 255], np.uint8),
]
BOOLS = [np.array([True, False, True])]
COMPLEX = [(real(2, 3) + 1j * real(2, 3)).astype(np.complex64), np.zeros(0, np.complex128)]


def pairs(arrays):
    """Each array with itself turned round, and broadcast against one of its elements."""
    for a in arrays:
        flat = a.reshape(-1)
        yield a, np.roll(flat, 3).reshape(a.shape)
        if flat.size > 2:
            yield a, flat[1].reshape(())
            yield flat[:4].reshape(-1, 1), flat[1:5]


def unary(names, arrays, **properties):
    return [Sample(BY_NAME[name], (a,), properties) for name in names.split() for a in arrays]


def binary(names, arrays, **properties):
    return [Sample(BY_NAME[n], ab, properties) for n in names.split() for ab in pairs(arrays)]


def one(name, *operands, **properties):
    return Sample(BY_NAME[name], operands, properties)


POSITIVE = [np.abs(a) for a in FLOATS if a.dtype.itemsize > 2]
MODERATE = [
    np.array([-20.5, -3.25, -1.5, -0.75, -0.2, 0.0, 0.3, 1.0, 2.5, 9.75, NAN]),
    np.float32(1.25).reshape(()),
    real(2, 3),
    np.zeros((0,), np.float32),
    np.array([0.5, 2.0, -0.5], np.float16),
]


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
    casts += [(EDGES[:-1].astype(np.float32), f4e2m1fn)]
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
                np.array([0.7, 1.0, 1.4, 1.6, 3.0, 1e-3], np.float32),
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


def _movement():
    x = real(2, 3, 4)
    return [
        one("reshape", x, target=dims([6, 4])),
        one("reshape", real(1), target=dims([])),
        one("reshape", real(0, 3), target=dims([3, 0])),
        one("squeeze", real(1, 3, 1), axes=[0, -1]),
        one("squeeze", real(1, 3), axes=[0]),
        one("unsqueeze", x, axes=[0, 2]),
        one("unsqueeze", real(), axes=[0]),
        one("transpose", x, perm=[2, 0, 1]),
        one("transpose", real(), perm=[]),
        one("to_layout", x, layout=[0, 2, 1]),
        one("to_layout", INTS[1], layout=[1, 0]),
        one("to_layout", real(0, 3), layout=[1, 0]),
        one("to_layout", real(3), layout=[0]),
        one("to_device", x, device="cpu"),
        one("to_device", real(), device="cpu"),
        one("broadcast_to", real(3, 1), target=dims([2, 3, 4])),
        one("broadcast_to", real(), target=dims([2])),
        one("flip", x, axes=[0, -1]),
        one("slice", x, starts=dims([0, 1, 3]), sizes=dims([2, 2, 2]), steps=[1, 1, -2]),
        one("slice", x, starts=dims([1, 0, 0]), sizes=dims([1, 0, 2]), steps=[1, 1, 3]),
        one("tile", real(2, 3), repeats=dims([2, 3])),
        one("tile", real(2, 3), repeats=dims([0, 1])),
        one("roll", x, shifts=[1, -5], axes=[0, 2]),
        one("roll", real(0, 2), shifts=[3], axes=[1]),
        one("concat", [real(2, 3), real(2, 1), real(2, 0)], axis=1),
        one("concat", [x], axis=-1),
        *[
            one("pad", real(3, 4), low=dims(a), high=dims(b), mode=m)
            for m in ("constant", "edge", "reflect", "symmetric", "wrap")
            for a, b in (([1, 2], [2, 0]), ([-1, 3], [1, -2]), ([0, 9], [5, 7]))
        ],
        one("pad", real(3), low=dims([1]), high=dims([1]), mode="constant", value=2.5),
        one("pad", INTS[1], low=dims([1, 0]), high=dims([0, 1]), mode="constant", value=7),
        one(
            "pad",
            real(3),
            np.float32(-1).reshape(()),
            low=dims([1]),
            high=dims([2]),
            mode="constant",
        ),
        one("split", x, axis=-1, sizes=dims([1, 3])),
        one("split", x, axis=0, sizes=dims([0, 2])),
        *[
            one("diagonal", real(3, 5, 2), offset=k, axis1=a, axis2=b)
            for k in (0, 2, -1, 9)
            for a, b in ((0, 1), (2, 1))
        ],
        *[
            one("diag_embed", real(2, 3), offset=k, axis1=a, axis2=b)
            for k in (0, 2, -1)
            for a, b in ((0, 1), (-1, 0))
        ],
        *[
            one("triangle", real(2, 3, 5), upper=u, k=dims([k]))
            for u in (True, False)
            for k in (0, -1, 3)
        ],
        one("windows", real(2, 7), axis=1, size=3, step=2),
        one("windows", real(), axis=0, size=2, step=1),
        one("windows", real(7, 2), axis=0, size=7, step=1),
        one("as_strided", real(12), target=dims([2, 3]), strides=[5, 2], offset=dims([1])),
        one("depth_to_space", real(1, 8, 2, 3), block=2),
        one("space_to_depth", real(1, 2, 4, 6), block=2),
        one("depth_to_space", real(1, 8, 2, 3), block=2, channels_first=True),
        one("space_to_depth", real(2, 4, 6), block=2, channels_first=True),
        one(
            "im2col",
            real(2, 3, 5, 6),
            kernel=[2, 3],
            stride=[2, 1],
            dilation=[1, 2],
            padding=[1, 0],
        ),
        one(
            "col2im",
            real(2, 6, 12),
            image=dims([4, 5]),
            kernel=[2, 3],
            stride=[1, 1],
            dilation=[1, 1],
            low=[1, 0],
            high=[0, 0],
        ),
        one(
            "col2im",
            real(1, 4, 6),
            image=dims([5, 7]),
            kernel=[2, 2],
            stride=[2, 3],
            dilation=[1, 2],
            low=[0, 1],
            high=[0, 1],
        ),
    ]


def _shape():
    scalars = [np.asarray(v, np.int64) for v in (1, 9, 3)]
    return [
        one("shape_of", real(2, 3)),
        one("shape_of", real()),
        one("dim", real(2, 3), axis=1),
        one("size", real(2, 0, 3)),
        one("size", real()),
        one("extents", values=dims([2, 5])),
        one("extents", values=dims([4]), scalar=True),
        one("full", real(), target=dims([2, 3])),
        one("full", real(), target=dims([])),
        one("full", np.asarray(7), target=dims([0, 2])),
        one("iota", target=dims([2, 3]), axis=1, element=i64),
        one("iota", target=dims([4]), axis=0, element=f32),
        one("ramp", np.arange(5), np.float32(0.1).reshape(()), np.float32(0.3).reshape(())),
        one("ramp", np.arange(3), np.int32(4).reshape(()), np.int32(-2).reshape(())),
        one("range", *scalars, length="count"),
        one("range", *[np.float32(v).reshape(()) for v in (1, 0, -0.3)], length="count"),
        one("bind", np.asarray([3, 4]), names=["a", "b"]),
        one("bind", np.asarray(3), names=["a"], low=1, high=4),
        one("assume", real(2), left=dims([3]), relation="le", right=dims([4])),
        one("constant", value=literal(np.array([1.5, -2.0], np.float32))),
    ]


def _reduce():
    nan = np.array([[1.0, NAN, 3.0], [-0.0, 2.0, 2.0]], np.float32)
    arrays = [real(2, 3, 4), real(2, 0, 4), nan, real(3, 4, dtype=np.float16)]
    ways = ({"axes": [0]}, {"axes": [-1, 0], "keepdims": True}, {"axes": [1]}, {"axes": []})
    sums = "sum mean sum_square l1_norm l2_norm"
    rows = [
        s
        for w in ways
        for s in unary(f"{sums} log_sum prod max min any all count_nonzero", arrays, **w)
    ]
    rows += [s for w in ways for s in unary("xor_sum", [INTS[1]], **w)]
    rows += unary("xor_sum", [INTS[0], INTS[2], INTS[3]], axes=[0])
    rows += [
        s
        for w in ways
        for s in unary("sum prod max min any all count_nonzero", [INTS[1], INTS[1] > 0], **w)
        if not (s.op is BY_NAME["sum"] or s.op is BY_NAME["prod"])
        or s.operands[0].dtype != np.bool_
    ]
    rows += [
        s
        for w in ways[:3]
        for last in (False, True)
        for s in unary(
            "argmax argmin", [arrays[0], nan, INTS[1] // 20, INTS[1] > 0], select_last=last, **w
        )
    ]
    rows += unary(sums, [real()], axes=[])
    rows += unary("lp_norm", [real(2, 3)], axes=[1], p=3.0) + unary(
        "lp_norm", [real(2, 3)], axes=[1], p=0.5
    )
    rows += unary("logsumexp", [*arrays, np.array([[INF, 1], [-INF, -INF]], np.float32)], axes=[0])
    rows += unary("logsumexp", arrays, axes=[0, 1], keepdims=True)
    rows += [
        s
        for c in (0.0, 1.0, 2.0)
        for s in unary("var std", [real(2, 3, 4), arrays[3]], axes=[0, 1], correction=c)
    ]
    rows += unary("var std", [real(3)], axes=[0], correction=1.0, keepdims=True)
    scans = [real(2, 3, 4), INTS[1], nan, real(0, 3)]
    ends = ({"axis": 0}, {"axis": -1, "reverse": True}, {"axis": 1, "exclusive": True})
    rows += [s for w in ends for s in unary("cumsum cumprod", scans, **w)]
    rows += [
        s
        for w in ends[:2]
        for s in unary("cummax cummin argcummax argcummin", [*scans, INTS[1] // 30], **w)
    ]
    rows += [
        s
        for w in ends
        for s in unary("logcumsumexp", [real(2, 3), np.array([[-INF, 1.0, -INF]])], **w)
    ]
    return rows


def _gather():
    x, i = real(5, 3), np.array([[4, -1, 0], [2, 2, 1]])
    modes = ("none", "add", "mul", "max", "min")
    unique = np.array([[4, 1, 0], [2, 0, 1]])
    return [
        one("gather", x, i, axis=0),
        one("gather", x, np.array(1), axis=1),
        one("gather", x, i[:0], axis=0),
        one("gather", INTS[1], np.array([[1, -1]], np.int32), axis=1),
        one("gather_elements", x, i, axis=0),
        one("gather_elements", x, i % 3, axis=-1),
        one("gather_elements", real(), np.array(0), axis=0),
        one("gather_nd", x, np.array([[4, 1], [-1, 0]]), batch_dims=0),
        one("gather_nd", x, np.array([[[4]], [[0]]]), batch_dims=0),
        one("gather_nd", real(2, 3, 4), np.array([[1], [2]]), batch_dims=1),
        one("index", x, [np.array([4, 0]), np.array([-1, 1])], axes=[0, 1]),
        one("index", real(3, 4, 5), [np.array([[2], [0]]), np.array([1, 4, 3])], axes=[0, 2]),
        one("index", real(3, 4, 5), [np.array([[2], [0]]), np.array([1, 4, 3])], axes=[1, 2]),
        one("dynamic_slice", x, np.array([2, 7]), sizes=dims([2, 2])),
        one(
            "one_hot",
            i,
            np.float32(0).reshape(()),
            np.float32(3).reshape(()),
            axis=-1,
            depth=dims([4]),
        ),
        one("one_hot", np.array([0, 9, -1]), np.array(1), np.array(5), axis=0, depth=dims([3])),
        *[one("scatter_elements", x, unique, real(2, 3), axis=0, reduction=m) for m in modes],
        *[one("scatter_elements", x, i, real(2, 3), axis=0, reduction=m) for m in modes[1:]],
        one(
            "scatter_elements",
            INTS[1],
            np.array([[0], [2]]),
            INTS[1][:, :1],
            axis=1,
            reduction="add",
        ),
        one(
            "scatter_elements",
            real(3, 2, dtype=np.float16),
            np.zeros((2, 2), np.int64),
            real(2, 2, dtype=np.float16),
            axis=0,
            reduction="add",
        ),
        *[one("scatter_nd", x, np.array([[1], [3]]), real(2, 3), reduction=m) for m in modes],
        one("scatter_nd", x, np.array([[1, 1], [1, 1], [-1, 0]]), real(3), reduction="add"),
        one("index_put", x, [np.array([1, 1])], real(2, 3), axes=[0], reduction="add"),
        one(
            "index_put",
            x,
            [np.array([1, 2]), np.array([0, -1])],
            real(2),
            axes=[0, 1],
            reduction="none",
        ),
        one("dynamic_update_slice", x, np.array([4, 1]), real(2, 2)),
        one("embedding_bag", x, np.array([1, 2, 4, 4, 3]), np.array([0, 2, 2]), None, mode=0),
        one(
            "embedding_bag",
            x,
            np.array([1, 2, 4, 4, 3]),
            np.array([0, 2, 2]),
            None,
            mode=1,
            padding=4,
        ),
        one(
            "embedding_bag",
            x,
            np.array([1, 2, 4, 4, 3]),
            np.array([0, 2, 2]),
            None,
            mode=2,
            padding=3,
        ),
        one("embedding_bag", x, np.array([1, 2, 4, 4, 3]), np.array([0, 3]), real(5), mode=0),
    ]


def _sort():
    ties = np.array([[2.0, NAN, 1.0, 2.0, -INF, 2.0], [0.0, -0.0, 3.0, INF, 3.0, 0.0]], np.float32)
    return [
        *[
            one("sort", a, axis=ax, descending=d)
            for a in (ties, INTS[1], real(3, 0))
            for ax in (0, -1)
            for d in (False, True)
        ],
        *[
            one("topk", a, axis=-1, k=dims([2]), smallest=s)
            for a in (ties, INTS[1])
            for s in (False, True)
        ],
        one("sort", real(), axis=0),
        one("topk", ties, axis=0, k=dims([1])),
        *[
            one(
                "searchsorted",
                np.array([1.0, 2.0, 2.0, 5.0]),
                np.array([[0.0, 2.0], [5.0, 9.0]]),
                right=r,
            )
            for r in (False, True)
        ],
        one("searchsorted", np.sort(real(2, 4), -1), real(2, 3)),
        one("nonzero", ties, count="count"),
        one("nonzero", np.array(3.0), count="count"),
        one("nonzero", np.zeros((2, 2)), count="count"),
        one("masked_select", real(2, 3), np.array([[True], [False]]), count="count"),
        *[
            one("unique", a, count="count", sorted=s)
            for a in (INTS[1] // 20, ties)
            for s in (True, False)
        ],
        one("unique", np.array([[1, 2], [3, 4], [1, 2]]), count="count", axis=0, sorted=True),
        one("unique", np.array([[3, 1, 3]]), count="count", axis=1, sorted=False),
    ]


def _complex():
    z = COMPLEX[0]
    return [
        one("complex", real(2, 3), real(3)),
        *unary("real imag conj complex_abs angle view_as_real", COMPLEX),
        one("view_as_complex", real(3, 2)),
        one("real", z[:0]),
    ]


def _linalg():
    a = real(2, 3, 3)
    positive = a @ np.swapaxes(a, -1, -2) + np.eye(3, dtype=np.float32)
    hermitian = (positive[0] + 1j * (a[0] - a[0].T)).astype(np.complex64) + 9 * np.eye(3)
    hermitian = hermitian.astype(np.complex64)
    wide, tall = real(2, 4), real(4, 2)
    return [
        *unary("cholesky", [positive, hermitian, -positive, np.zeros((0, 3, 3))]),
        *unary("cholesky", [positive], upper=True),
        *unary("lu", [a, wide, tall, np.zeros((2, 2), np.float32), hermitian]),
        *unary("qr", [a, wide, tall]),
        *unary("qr", [tall], complete=True),
        *unary("qr_reflections", [a, wide, tall]),
        *unary("ldl", [a, np.zeros((2, 2), np.float32)]),
        *unary("ldl", [hermitian], hermitian=True),
        one("ldl_solve", positive, np.array([[2, 2, 3], [-3, -3, 3]], np.int32), real(2, 3, 2)),
        one("ldl_solve", hermitian, np.array([1, -3, -3], np.int32), hermitian, hermitian=True),
        *unary("svd", [a, wide, tall]),
        *unary("svd", [wide], full=True),
        *unary("eigh", [positive, hermitian]),
        *unary("eigh", [positive], upper=True),
        *unary("eig", [a, a.astype(np.float64)]),
        one("triangular_solve", positive, real(2, 3, 2), upper=False),
        one("triangular_solve", positive, real(3, 1), upper=True),
        one("triangular_solve", positive, real(2, 3, 2), upper=True, unit=True),
    ]


SAMPLES = [
    *_elementwise(),
    *_activations(),
    *_special(),
    *_select(),
    *_movement(),
    *_shape(),
    *_reduce(),
    *_gather(),
    *_sort(),
    *_complex(),
    *_linalg(),
]
