"""Measured errors of the maths library against its stated bounds, and IEEE special values."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.special
from mpmath import mp, mpf

from lowering.cpu.jit import compile_module, runs_here
from lowering.cpu.text import Module
from lowering.math.functions import FUNCTIONS, accuracy_table, call
from lowering.math.map import emit_map
from lowering.math.numpy_prim import NumpyPrim
from lowering.math.prim import Kind
from lowering.math.reduction import TWO_OVER_PI_WORDS
from torsh_dialect.target import TARGETS, TargetInfo

DTYPE = {"f32": np.float32, "f64": np.float64}
HOST = next(t for t in map(TARGETS.get, ("x86-64-v3", "x86-64-v2", "aarch64")) if runs_here(t))
LONG = np.longdouble
INF, NAN = np.inf, np.nan

Array = np.ndarray[Any, Any]


def run(name: str, kind: Kind, *operands: Array, target: TargetInfo = HOST) -> Array:
    arity = FUNCTIONS[name].arity
    module = Module()
    lanes = target.lanes(4 if kind == "f32" else 8)
    emit_map(module, "map", lambda *x: call(name, *x), [kind] * arity, kind, lanes)
    compiled = compile_module(module, target, ["map"])
    out = np.zeros(operands[0].size, DTYPE[kind])
    compiled.kernel("map")([*(np.ascontiguousarray(x) for x in operands), out], 0, out.size)
    return out


def edges(dtype: Any) -> Array:
    info = np.finfo(dtype)
    values = [0, 0.5, 1, 1.5, 2, 3, 1e-5, 1e5, info.tiny, info.tiny / 8, info.max, info.eps, INF]
    return np.array([*values, *(-v for v in values), NAN], dtype)


def points(kind: Kind, count: int, arity: int, seed: int = 0) -> list[Array]:
    """Random bit patterns (all exponents), ordinary magnitudes, and every pair of edges."""
    rng = np.random.default_rng(seed)
    dtype, integer = DTYPE[kind], np.int32 if kind == "f32" else np.int64
    info = np.iinfo(integer)
    columns: list[Array] = []
    for grid in np.meshgrid(*[edges(dtype)] * arity):
        patterns = rng.integers(info.min, info.max, count // 2, integer, endpoint=True)
        ordinary = rng.uniform(-1, 1, count // 2) * 10.0 ** rng.integers(-3, 3, count // 2)
        columns.append(np.concatenate([grid.ravel(), patterns.view(dtype), ordinary.astype(dtype)]))
    return columns


def ulps(got: Array, reference: Array, absolute: bool) -> Array:
    """Errors in units in the last place; huge where one is NaN or infinite and the other not."""
    with np.errstate(all="ignore"):
        rounded = reference.astype(got.dtype)
        size = np.minimum(np.abs(rounded), np.finfo(got.dtype).max)
        unit = np.spacing(np.maximum(size, 1 if absolute else 0).astype(got.dtype))
        error = np.abs(got.astype(reference.dtype) - reference) / unit.astype(reference.dtype)
    special = ~np.isfinite(rounded) | ~np.isfinite(got)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    # Where the reference overflows by less than rounding could tell, the largest number will do.
    return np.where(special, np.where(same, 0.0, 1e30), error)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


NUMPY = {
    name: getattr(np, name)
    for name in FUNCTIONS
    if name not in ("mod", "nextafter", "remainder", "i0") and hasattr(np, name)
}
ELEMENTARY = NUMPY | {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "pow": np.power,
    "rsqrt": lambda x: np.where(x == 0, np.copysign(INF, x), 1 / np.sqrt(x)),
    "sigmoid": sigmoid,
    "silu": lambda x: np.where(x == -INF, 0, x * sigmoid(x)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "gelu_tanh": lambda x: np.where(
        x == -INF, 0, x * sigmoid(2 * np.sqrt(2 / LONG(np.pi)) * (x + LONG(0.044715) * x**3))
    ),
}  # fmt: skip
SPECIAL = {
    "erf": scipy.special.erf, "erfc": scipy.special.erfc, "erfinv": scipy.special.erfinv,
    "ndtr": scipy.special.ndtr, "ndtri": scipy.special.ndtri, "tgamma": scipy.special.gamma,
    "lgamma": lambda x: np.where(x == -INF, INF, scipy.special.gammaln(x)),
    "digamma": scipy.special.psi,
    "j0": scipy.special.j0, "j1": scipy.special.j1, "y0": scipy.special.y0, "y1": scipy.special.y1,
    "i0": scipy.special.i0, "i1": scipy.special.i1, "i0e": scipy.special.i0e,
    "i1e": scipy.special.i1e, "k0": scipy.special.k0, "k1": scipy.special.k1,
    "k0e": scipy.special.k0e, "k1e": scipy.special.k1e, "erfcx": scipy.special.erfcx,
    "airy_ai": lambda x: scipy.special.airy(x)[0],
    "gelu": lambda x: np.where(x == -INF, 0, x * scipy.special.ndtr(x)),
}  # fmt: skip
BESSEL = ("j0", "j1", "y0", "y1", "i0", "i1", "airy_ai")


@pytest.mark.parametrize("name", [*ELEMENTARY, *SPECIAL])
def test_f32_error_is_within_the_bound(name: str) -> None:
    function = FUNCTIONS[name]
    operands = points("f32", 1 << 20, function.arity)
    if name in BESSEL:
        # The oracle's own argument reduction, and its infinities, end here.
        operands = [x[np.abs(x) < 1e5] for x in operands]
    with np.errstate(all="ignore"):
        wide = [x.astype(np.float64) for x in operands]
        reference = ELEMENTARY[name](*wide) if name in ELEMENTARY else SPECIAL[name](*wide)
    error = ulps(run(name, "f32", *operands), reference.astype(np.float64), function.absolute)
    worst = int(np.argmax(error))
    assert error[worst] <= function.f32, [x[worst] for x in operands]


@pytest.mark.parametrize("name", ELEMENTARY)
def test_f64_error_of_elementary_functions_is_within_the_bound(name: str) -> None:
    function = FUNCTIONS[name]
    operands = points("f64", 1 << (13 if name == "fmod" else 16), function.arity)
    with np.errstate(all="ignore"):
        reference = ELEMENTARY[name](*(x.astype(LONG) for x in operands))
    error = ulps(run(name, "f64", *operands), reference, function.absolute)
    worst = int(np.argmax(error))
    assert error[worst] <= function.f64, [x[worst] for x in operands]


def stable_zeta(s: mpf, q: mpf) -> mpf:
    with mp.workdps(120):
        return mp.zeta(s, q)


MPMATH = {
    "erf": (mp.erf, (-7, 7)), "erfc": (mp.erfc, (-6, 27)), "erfinv": (mp.erfinv, (-1, 1)),
    "ndtr": (lambda x: mp.erfc(-x / mp.sqrt(2)) / 2, (-38, 9)),
    "lgamma": (lambda x: mp.log(abs(mp.gamma(x))), (-60, 60)),
    "tgamma": (mp.gamma, (-180, 171.5)), "digamma": (mp.digamma, (-40, 60)),
    "j0": (lambda x: mp.besselj(0, x), (-60, 60)), "j1": (lambda x: mp.besselj(1, x), (-60, 60)),
    "y0": (lambda x: mp.bessely(0, x), (0, 60)), "y1": (lambda x: mp.bessely(1, x), (0, 60)),
    "i0": (lambda x: mp.besseli(0, x), (-700, 700)),
    "i1": (lambda x: mp.besseli(1, x), (-700, 700)),
    "i0e": (lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), (-60, 60)),
    "i1e": (lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), (-60, 60)),
    "k0": (lambda x: mp.besselk(0, x), (0, 700)), "k1": (lambda x: mp.besselk(1, x), (0, 700)),
    "k0e": (lambda x: mp.besselk(0, x) * mp.exp(x), (0, 60)),
    "k1e": (lambda x: mp.besselk(1, x) * mp.exp(x), (0, 60)),
    "erfcx": (lambda x: mp.exp(x * x) * mp.erfc(x), (-26, 200)),
    "gelu": (lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2, (-9, 9)),
    "airy_ai": (mp.airyai, (-12, 12)),
}  # fmt: skip


def spread(lo: float, hi: float, count: int) -> Array:
    """Points over the interval, more of them near 0."""
    rng = np.random.default_rng(1)
    x = rng.uniform(lo, hi, count)
    x[::3] *= 10 ** rng.uniform(-6, 0, x[::3].size)
    return x


def relative(got: Array, reference: list[mpf], floor: Array) -> Array:
    errors = [abs(mpf(float(g)) - r) for g, r in zip(got, reference, strict=True)]
    sizes = np.maximum(np.abs(np.array([float(r) for r in reference])), floor)
    return np.array(
        [float(e / mpf(float(np.spacing(s)))) for e, s in zip(errors, sizes, strict=True)]
    )


@pytest.mark.parametrize("name", MPMATH)
def test_f64_error_of_special_functions_is_within_the_bound(name: str) -> None:
    oracle, (lo, hi) = MPMATH[name]
    mp.dps = 40
    x = spread(lo, hi, 100 if name[0] == "k" else 400)
    got = run(name, "f64", x)
    floor = np.full(x.size, 1.0 if FUNCTIONS[name].absolute else 0.0)
    if name == "airy_ai":
        floor = np.where(x < 0, 0.4, 0.0)  # the envelope to where zeta has the precision
    if name in BESSEL[:4]:
        floor = np.minimum(1, np.sqrt(2 / np.pi / np.abs(x)))
    error = relative(got, [oracle(mpf(float(v))) for v in x], floor)
    assert error.max() <= FUNCTIONS[name].f64, x[np.argmax(error)]


def test_ndtri_inverts_ndtr() -> None:
    mp.dps = 40
    p = np.concatenate([spread(0, 1, 300), 10 ** -spread(0, 307, 300)])
    got = run("ndtri", "f64", p)
    for x, y in zip(p, got, strict=True):
        wrong = (mp.erfc(-mpf(float(y)) / mp.sqrt(2)) / 2 - mpf(float(x))) / mp.npdf(float(y))
        assert abs(wrong) <= FUNCTIONS["ndtri"].f64 * np.spacing(abs(y)), x


def test_zeta_below_zero() -> None:
    mp.dps = 40
    s = np.array([2.0, 3.0, 2.0, 5.0, 2.0, 7.0])
    q = np.array([-0.5, -0.25, -1.5, -9.75, -2000.3, -12.1])

    def oracle(s: float, q: float) -> mpf:
        fraction = mpf(q) - mp.floor(q)
        behind = mp.zeta(s, 1 - fraction) - mp.zeta(s, 1 - mpf(q))
        return mp.zeta(s, fraction) + (-1) ** int(s) * behind

    reference = [oracle(a, b) for a, b in zip(s, q, strict=True)]
    direct = sum((mpf(-1.5) + k) ** -2 for k in range(400)) + mp.zeta(2, mpf(398.5))
    assert abs(direct - reference[2]) < 1e-30
    error = relative(run("zeta", "f64", s, q), reference, np.zeros(s.size))
    assert error.max() <= FUNCTIONS["zeta"].f64


@pytest.mark.parametrize("name", ["zeta", "polygamma"])
def test_zeta_family(name: str) -> None:
    mp.dps = 40
    rng = np.random.default_rng(2)
    first = rng.uniform(1.01, 30, 200) if name == "zeta" else rng.integers(0, 6, 200).astype(float)
    second = 10 ** rng.uniform(-2, 3, 200)
    oracle = stable_zeta if name == "zeta" else lambda n, x: mp.polygamma(int(n), x)
    reference = [oracle(mpf(float(a)), mpf(float(b))) for a, b in zip(first, second, strict=True)]
    error = relative(run(name, "f64", first, second), reference, np.zeros(200))
    at = np.argmax(error)
    assert error.max() <= FUNCTIONS[name].f64, (first[at], second[at])


@pytest.mark.parametrize("upper", [False, True])
def test_incomplete_gamma(upper: bool) -> None:
    name = "igammac" if upper else "igamma"
    rng = np.random.default_rng(4)
    a = np.concatenate([10 ** rng.uniform(-3, 3, 200), rng.uniform(0.1, 20, 200)])
    x = a * 10 ** rng.uniform(-1, 0.7, 400)
    mp.dps = 30
    limits = [(mpf(float(v)), mp.inf) if upper else (0, mpf(float(v))) for v in x]
    reference = [
        mp.gammainc(mpf(float(s)), *limit, regularized=True)
        for s, limit in zip(a, limits, strict=True)
    ]
    error = relative(run(name, "f64", a, x), reference, np.ones(400))
    assert error.max() <= FUNCTIONS[name].f64, (a[np.argmax(error)], x[np.argmax(error)])
    near = scipy.special.gammaincc if upper else scipy.special.gammainc
    got = run(name, "f32", a.astype(np.float32), x.astype(np.float32))
    expected = near(*(v.astype(np.float32).astype(np.float64) for v in (a, x)))
    assert ulps(got, expected, absolute=True).max() <= FUNCTIONS[name].f32


def test_the_accuracy_table_lists_every_function() -> None:
    lines = accuracy_table().splitlines()
    assert len(lines) == len(FUNCTIONS) + 2
    assert "| exp | 1 | 1 | result |" in lines


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_remainders_and_neighbours_are_exact(kind: Kind) -> None:
    x, y = points(kind, 1 << 12, 2, seed=3)
    with np.errstate(all="ignore"):
        expected = {"nextafter": np.nextafter(x, y), "fmod": np.fmod(x, y), "mod": np.mod(x, y)}
    for name, reference in expected.items():
        np.testing.assert_array_equal(run(name, kind, x, y), reference, err_msg=name)
    finite = np.isfinite(x) & ~np.isnan(y) & (y != 0)
    pairs = zip(x, y, finite, strict=True)
    ieee = [math.remainder(float(a), float(b)) if ok else math.nan for a, b, ok in pairs]
    got = run("remainder", kind, x, y)
    np.testing.assert_array_equal(got, np.array([float(v) for v in ieee], DTYPE[kind]))


def test_range_reduction_of_huge_and_hard_angles() -> None:
    mp.dps = 400
    hard = np.array(
        [6381956970095103 * 2.0**797, 1e22, 1.7976931348623157e308, 2.0**20, 1e6, 1e6 + 0.5, 3e9]
    )
    for name, oracle in (("sin", mp.sin), ("cos", mp.cos), ("tan", mp.tan)):
        reference = [oracle(mpf(float(v))) for v in hard]
        assert relative(run(name, "f64", hard), reference, np.zeros(hard.size)).max() <= 2.1
    mp.dps = 40


def test_the_bits_of_two_over_pi() -> None:
    mp.prec = 32 * len(TWO_OVER_PI_WORDS) + 64
    bits = int(mp.floor(2 / mp.pi * mpf(2) ** (32 * (len(TWO_OVER_PI_WORDS) - 2))))
    digits = [bits >> (32 * i) & 0xFFFFFFFF for i in range(len(TWO_OVER_PI_WORDS))]
    mp.dps = 40
    assert tuple(reversed(digits)) == TWO_OVER_PI_WORDS


SPECIAL_VALUES = [
    ("exp", (-INF,), 0.0), ("exp", (INF,), INF), ("exp", (0.0,), 1.0), ("exp", (-800.0,), 0.0),
    ("expm1", (-0.0,), -0.0), ("expm1", (-INF,), -1.0), ("exp2", (10.0,), 1024.0),
    ("log", (0.0,), -INF), ("log", (-0.0,), -INF), ("log", (-1.0,), NAN), ("log", (1.0,), 0.0),
    ("log2", (8.0,), 3.0), ("log10", (1000.0,), 3.0), ("log1p", (-1.0,), -INF),
    ("log1p", (-0.0,), -0.0), ("log1p", (-2.0,), NAN), ("log", (INF,), INF),
    ("sin", (-0.0,), -0.0), ("sin", (INF,), NAN), ("cos", (-INF,), NAN), ("tan", (-0.0,), -0.0),
    ("asin", (1.5,), NAN), ("acos", (1.0,), 0.0), ("atan", (-0.0,), -0.0),
    ("atan2", (0.0, -0.0), np.pi), ("atan2", (-0.0, 0.0), -0.0), ("atan2", (-0.0, -1.0), -np.pi),
    ("atan2", (INF, -INF), 3 * np.pi / 4), ("atan2", (-3.0, INF), -0.0),
    ("sinh", (-0.0,), -0.0), ("tanh", (-0.0,), -0.0), ("tanh", (-INF,), -1.0),
    ("acosh", (0.5,), NAN), ("atanh", (1.0,), INF), ("atanh", (-0.0,), -0.0),
    ("cbrt", (-27.0,), -3.0), ("cbrt", (-0.0,), -0.0), ("hypot", (INF, NAN), INF),
    ("hypot", (3.0, 4.0), 5.0), ("erf", (-INF,), -1.0), ("erf", (-0.0,), -0.0),
    ("erfc", (INF,), 0.0), ("erfinv", (1.0,), INF), ("erfinv", (2.0,), NAN),
    ("lgamma", (-3.0,), INF), ("lgamma", (1.0,), 0.0), ("lgamma", (2.0,), 0.0),
    ("tgamma", (-3.0,), NAN), ("tgamma", (0.0,), INF), ("tgamma", (-0.0,), -INF),
    ("tgamma", (5.0,), 24.0), ("digamma", (0.0,), -INF), ("digamma", (-0.0,), INF),
    ("digamma", (-1.0,), NAN), ("y0", (0.0,), -INF), ("y1", (-1.0,), NAN), ("j0", (INF,), 0.0),
    ("pow", (NAN, 0.0), 1.0), ("pow", (1.0, NAN), 1.0), ("pow", (-8.0, 3.0), -512.0),
    ("pow", (-8.0, 1 / 3), NAN), ("pow", (-0.0, -3.0), -INF), ("pow", (-0.0, 2.0), 0.0),
    ("pow", (-1.0, INF), 1.0), ("pow", (0.5, INF), 0.0), ("pow", (-INF, 3.0), -INF),
    ("pow", (-INF, -3.0), -0.0), ("pow", (INF, -1.0), 0.0), ("pow", (0.0, -INF), INF),
    ("fmod", (-6.0, 3.0), -0.0), ("fmod", (1.0, INF), 1.0), ("fmod", (INF, 1.0), NAN),
    ("mod", (-1.0, 3.0), 2.0), ("remainder", (5.0, 2.0), 1.0), ("remainder", (7.0, 2.0), -1.0),
    ("minimum", (0.0, -0.0), -0.0), ("maximum", (-0.0, 0.0), 0.0), ("minimum", (NAN, 1.0), NAN),
    ("fmax", (NAN, 1.0), 1.0), ("rint", (2.5,), 2.0), ("rint", (-0.5,), -0.0),
    ("sigmoid", (-INF,), 0.0), ("silu", (-INF,), -0.0), ("softplus", (-INF,), 0.0),
    ("igamma", (2.0, 0.0), 0.0), ("igammac", (2.0, INF), 0.0), ("igamma", (-1.0, 1.0), NAN),
    ("igamma", (0.0, 1.0), 1.0), ("k0", (0.0,), INF), ("k1", (-1.0,), NAN), ("k0", (INF,), 0.0),
    ("erfcx", (-INF,), INF), ("erfcx", (INF,), 0.0), ("erfcx", (0.0,), 1.0),
    ("zeta", (1.0, 2.0), INF), ("zeta", (2.0, -1.0), INF), ("zeta", (0.5, 1.0), NAN),
    ("zeta", (2.5, -1.5), NAN), ("airy_ai", (INF,), 0.0), ("airy_ai", (-INF,), 0.0),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_special_values(kind: Kind) -> None:
    prim = NumpyPrim()
    for name, operands, expected in SPECIAL_VALUES:
        values = [prim.num(kind, np.array([v])) for v in operands]
        got = call(name, *values).value[0]
        want = DTYPE[kind](expected)
        assert str(got) == str(want), (name, operands, got)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_numpy_and_machine_code_without_fma_give_the_same_bits(name: str, kind: Kind) -> None:
    operands = points(kind, 256, FUNCTIONS[name].arity, seed=5)
    if name.startswith("igamma"):
        # Its loops take thousands of turns for huge operands, which numpy feels.
        operands = [np.where(np.isfinite(x), np.clip(x, -20, 20), x) for x in operands]
    prim = NumpyPrim()
    expected = call(name, *(prim.num(kind, x) for x in operands)).value
    got = run(name, kind, *operands, target=TARGETS["x86-64-v2"])
    np.testing.assert_array_equal(got, np.broadcast_to(expected, got.shape))
