"""Narrow float conversions against ml_dtypes and ONNX's reference implementation."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx.numpy_helper import saturate_cast, to_float8e8m0

from lowering.cpu.jit import compile_module, object_file, runs_here
from lowering.cpu.text import Module
from lowering.math.convert import (
    FORMATS,
    decode,
    decode_e8m0,
    encode,
    encode_e8m0,
    narrow_odd,
)
from lowering.math.map import emit_map
from lowering.runtime.elf import read_symbols
from torsh_dialect.target import TARGETS

Array = np.ndarray[Any, Any]
HOST = next(t for t in map(TARGETS.get, ("x86-64-v3", "x86-64-v2", "aarch64")) if runs_here(t))
DTYPES = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f8e4m3fn": ml_dtypes.float8_e4m3fn,
    "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "f8e5m2": ml_dtypes.float8_e5m2,
    "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz, "f4e2m1": ml_dtypes.float4_e2m1fn,
    "f6e2m3": ml_dtypes.float6_e2m3fn, "f6e3m2": ml_dtypes.float6_e3m2fn,
}  # fmt: skip
FP8 = [name for name in FORMATS if name.startswith("f8")]


def run(formula: Any, source: Any, target: Any, x: Array) -> Array:
    out = np.zeros(x.size, {"f32": np.float32, "i32": np.int32}[target])
    module = Module()
    emit_map(module, "map", formula, [source], target, 8)
    compile_module(module, HOST, ["map"]).kernel("map")([x, out], 0, x.size)
    return out


def codes(values: Array) -> Array:
    return values.view(np.uint16 if values.itemsize == 2 else np.uint8).astype(np.int32)


def samples() -> Array:
    """Every f32 exponent, with mantissas at and around all rounding points, and edges."""
    rng = np.random.default_rng(0)
    high = rng.integers(0, 1 << 16, 1 << 18, np.uint32)
    low = rng.choice(np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32), high.size)
    near = (high.astype(np.uint32) << 16) | low
    # Ties and their neighbours of formats with few mantissa bits.
    coarse = (rng.integers(0, 1 << 13, 1 << 18, np.uint32) << 19) + rng.choice(
        np.array([0, 1, (1 << 32) - 1], np.uint64), 1 << 18
    ).astype(np.uint32)
    return np.concatenate([near, coarse, rng.integers(0, 1 << 32, 1 << 17, np.uint32)]).view(
        np.float32
    )


@pytest.mark.parametrize("name", FORMATS)
def test_decode_gives_what_every_code_means(name: str) -> None:
    format = FORMATS[name]
    every = np.arange(1 << format.bits, dtype=np.int32)
    storage = every.astype(np.uint16 if format.bits == 16 else np.uint8)
    with np.errstate(all="ignore"):
        expected = storage.view(DTYPES[name]).astype(np.float32)
    got = run(lambda c: decode(c, format), "i32", "f32", every)
    np.testing.assert_array_equal(got, expected)
    signs = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got)[signs], np.signbit(expected)[signs])


@pytest.mark.parametrize("name", FORMATS)
def test_encode_rounds_once(name: str) -> None:
    x, format = samples(), FORMATS[name]
    with np.errstate(all="ignore"):
        expected = codes(x.astype(DTYPES[name]))
    got = run(lambda v: encode(v, format), "f32", "i32", x)
    usual = ~np.isnan(x)
    np.testing.assert_array_equal(got[usual], expected[usual])
    nan = got[np.isnan(x)]
    if format.special == "none":
        assert (nan == format.largest).all()
    else:
        back = run(lambda c: decode(c, format), "i32", "f32", nan)
        assert np.isnan(back).all()


@pytest.mark.parametrize("name", FP8)
def test_saturating_encode_is_onnx_cast(name: str) -> None:
    x, format = samples(), FORMATS[name]
    x = x[~np.isnan(x)]
    with np.errstate(all="ignore"):
        expected = codes(saturate_cast(x, np.dtype(DTYPES[name])))
    got = run(lambda v: encode(v, format, saturate=True), "f32", "i32", x)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("rounding", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [True, False])
def test_e8m0_is_onnx_cast(rounding: Any, saturate: bool) -> None:
    x = samples()
    expected = codes(to_float8e8m0(x, saturate, rounding))
    got = run(lambda v: encode_e8m0(v, saturate, rounding), "f32", "i32", x)
    np.testing.assert_array_equal(got, expected)
    every = np.arange(256, dtype=np.int32)
    meaning = every.astype(np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    np.testing.assert_array_equal(run(decode_e8m0, "i32", "f32", every), meaning)


def test_f64_reaches_half_precision_with_one_rounding() -> None:
    rng = np.random.default_rng(1)
    ties = rng.integers(0, 1 << 15, 1 << 16).astype(np.uint16).view(np.float16)
    ties = ties[np.isfinite(ties)].astype(np.float64)
    x = np.concatenate([ties * (1 + 2.0**-11 + e) for e in (0, 2.0**-40, -(2.0**-40))])
    with np.errstate(all="ignore"):
        expected = codes(x.astype(np.float16))
    got = np.zeros(x.size, np.int32)
    module = Module()
    emit_map(module, "map", lambda v: encode(narrow_odd(v), FORMATS["f16"]), ["f64"], "i32", 4)
    compile_module(module, HOST, ["map"]).kernel("map")([x, got], 0, x.size)
    np.testing.assert_array_equal(got, expected)
    with np.errstate(all="ignore"):
        assert (codes(x.astype(np.float32).astype(np.float16)) != expected).any()


@pytest.mark.parametrize("target", TARGETS)
def test_conversions_need_no_library(target: str) -> None:
    module = Module()
    for name, format in FORMATS.items():
        emit_map(module, f"decode_{name}", lambda c, f=format: decode(c, f), ["i32"], "f32", 8)
        emit_map(module, f"encode_{name}", lambda x, f=format: encode(x, f), ["f32"], "i32", 8)
    symbols = read_symbols(object_file(module, TARGETS[target]), "conversions")
    assert symbols.undefined <= {"_GLOBAL_OFFSET_TABLE_"}
