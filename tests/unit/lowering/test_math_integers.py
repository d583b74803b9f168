"""Integer helpers against numpy and Python integers; no operand may trap."""

from typing import Any

import numpy as np
import pytest

from lowering.cpu.jit import compile_module, object_file, runs_here
from lowering.cpu.text import Module
from lowering.math import integers
from lowering.math.functions import FUNCTIONS, call
from lowering.math.map import emit_map
from lowering.math.prim import BITS, Kind
from lowering.runtime.elf import read_symbols
from torsh_dialect.target import TARGETS

Array = np.ndarray[Any, Any]
HOST = next(t for t in map(TARGETS.get, ("x86-64-v3", "x86-64-v2", "aarch64")) if runs_here(t))
KINDS: tuple[Kind, ...] = ("i8", "i16", "i32", "i64")


def dtype_of(kind: str, signed: bool) -> Any:
    return np.dtype(f"{'int' if signed else 'uint'}{kind[1:]}")


def operands(kind: Kind, signed: bool) -> tuple[Array, Array]:
    dtype = dtype_of(kind, signed)
    info, rng = np.iinfo(dtype), np.random.default_rng(0)
    edges = np.array([0, 1, 2, 3, 7, info.min, info.min + 1, info.max, info.max - 1], dtype)
    edges = np.concatenate([edges, np.array([-1, -2, -7], dtype)]) if signed else edges
    a, b = (g.ravel() for g in np.meshgrid(edges, edges))
    more = [rng.integers(info.min, info.max, 999, dtype, endpoint=True) for _ in range(2)]
    small = rng.integers(info.min // 2 ** (BITS[kind] - 5), 16, 999).astype(dtype)
    return np.concatenate([a, more[0], more[1]]), np.concatenate([b, more[1], small])


def run(formula: Any, kind: Any, result: Any, out: Any, *arrays: Array) -> Array:
    module, got = Module(), np.zeros(arrays[0].size, out)
    emit_map(module, "map", formula, [kind] * len(arrays), result, 4)
    compile_module(module, HOST, ["map"]).kernel("map")([*arrays, got], 0, got.size)
    return got


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signed", [True, False])
def test_division_family(kind: Kind, signed: bool) -> None:
    a, b = operands(kind, signed)
    with np.errstate(all="ignore"):
        floor, modulo, rest = a // b, np.mod(a, b), np.fmod(a, b)
        truncated = np.where((rest != 0) & ((a < 0) ^ (b < 0)), floor + 1, floor)
    expected = {
        integers.divide: truncated.astype(a.dtype),
        integers.floor_divide: floor,
        integers.mod: modulo,
        integers.remainder: rest,
    }
    for function, reference in expected.items():
        got = run(lambda x, y, f=function: f(x, y, signed), kind, kind, a.dtype, a, b)
        np.testing.assert_array_equal(got, reference, err_msg=function.__name__)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signed", [True, False])
def test_shifts_powers_and_bits(kind: Kind, signed: bool) -> None:
    a, b = operands(kind, signed)
    width, wrap = BITS[kind], (1 << BITS[kind]) - 1
    counts = b.view(dtype_of(kind, False))
    left = [(int(x) << int(c)) & wrap if c < width else 0 for x, c in zip(a, counts, strict=True)]
    right = [int(x) >> min(int(c), width) for x, c in zip(a, counts, strict=True)]
    got = run(integers.shift_left, kind, kind, counts.dtype, a, b)
    np.testing.assert_array_equal(got, np.array(left, counts.dtype))
    got = run(lambda x, y: integers.shift_right(x, y, signed), kind, kind, a.dtype, a, b)
    np.testing.assert_array_equal(got, np.array(right, a.dtype))
    power = [python_power(int(x), int(n), wrap) for x, n in zip(a, b, strict=True)]
    got = run(lambda x, y: integers.power(x, y, signed), kind, kind, counts.dtype, a, b)
    np.testing.assert_array_equal(got, np.array(power, counts.dtype))
    ones = [(int(x) & wrap).bit_count() for x in a]
    np.testing.assert_array_equal(run(integers.popcount, kind, kind, a.dtype, a), ones)


def python_power(base: int, exponent: int, wrap: int) -> int:
    if exponent >= 0:
        return pow(base, exponent, wrap + 1)
    return {1: 1, -1: 1 if exponent % 2 == 0 else wrap}.get(base, 0)


@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signed", [True, False])
def test_float_to_integer_saturates(source: Kind, kind: Kind, signed: bool) -> None:
    dtype, real = dtype_of(kind, signed), np.dtype(f"float{source[1:]}")
    info, rng = np.iinfo(dtype), np.random.default_rng(1)
    ends = [float(v) * s for v in (info.min, info.max) for s in (1, 0.999999, 1.000001)]
    x = np.array([0.0, -0.0, 0.9, -0.9, 1.5, -1.5, np.nan, np.inf, -np.inf, *ends], real)
    x = np.concatenate([x, (rng.standard_normal(999) * 10 ** rng.uniform(0, 21, 999)).astype(real)])
    expected = [
        0 if np.isnan(v) else info.max if v > info.max else info.min if v < info.min else int(v)
        for v in x.tolist()
    ]
    got = run(lambda v: integers.from_float(v, kind, signed), source, kind, dtype, x)
    np.testing.assert_array_equal(got, np.array(expected, dtype))


@pytest.mark.parametrize("target", TARGETS)
def test_integers_and_functions_need_no_library(target: str) -> None:
    module = Module()
    info = TARGETS[target]
    for name, function in FUNCTIONS.items():
        for kind, size in (("f32", 4), ("f64", 8)):
            if kind == "f32" and not function.native:
                continue  # the f64 code between two conversions
            formula = lambda *x, n=name: call(n, *x)  # noqa: E731
            lanes = info.lanes(size) if name[:3] not in ("zet", "pol", "iga") else 1
            emit_map(module, f"{name}_{kind}", formula, [kind] * function.arity, kind, lanes)
    binary = ("divide", "floor_divide", "mod", "remainder", "power", "shift_left", "shift_right")
    for name in binary:
        for kind in KINDS:
            emit_map(module, f"{name}_{kind}", getattr(integers, name), [kind] * 2, kind, 4)
    for kind in KINDS:
        for signed in (True, False):
            formula = lambda x, k=kind, s=signed: integers.from_float(x, k, s)  # noqa: E731
            emit_map(module, f"cast_{kind}_{signed}", formula, ["f64"], kind, 4)
    symbols = read_symbols(object_file(module, info), "maths")
    assert symbols.undefined <= {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memset"}
