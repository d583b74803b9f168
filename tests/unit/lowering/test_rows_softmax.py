"""Softmax kernels against float64, and the promise of equal bits."""

from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from lowering.cpu.jit import compile_module, object_file, runs_here
from lowering.cpu.templates.epilogue import Epilogue, Hooks
from lowering.cpu.templates.rows import Element, RowShape
from lowering.cpu.templates.softmax import SoftmaxParams, emit, scratch_bytes
from lowering.cpu.text import Module
from lowering.runtime.elf import read_symbols
from torsh_dialect.target import TARGETS, TargetInfo

Array = np.ndarray[Any, Any]
HOST = next(t for t in map(TARGETS.get, ("x86-64-v3", "x86-64-v2", "aarch64")) if runs_here(t))
DTYPE = {
    "float": np.float32,
    "double": np.float64,
    "half": np.float16,
    "bfloat": ml_dtypes.bfloat16,
}


def reference(x: Array, log: bool) -> Array:
    wide = x.astype(np.float64)
    shifted = wide - wide.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    return shifted - np.log(total) if log else np.exp(shifted) / total


def run(
    params: SoftmaxParams,
    x: Array,
    splits: tuple[int, ...] = (),
    target: TargetInfo = HOST,
    extra: tuple[Any, ...] = (),
) -> Array:
    rows, columns = x.shape
    module = Module()
    emit(module, "softmax", params, target)
    kernel = compile_module(module, target, ["softmax"]).kernel("softmax")
    y = np.zeros(x.shape, DTYPE[params.shape.result])
    scratch = np.zeros(2 * scratch_bytes(params, columns) + 64, np.uint8)
    bounds = [0, *splits, rows]
    for i, (lo, hi) in enumerate(pairwise(bounds)):
        kernel([x, y, columns, scratch, *extra], lo, hi, i % 2)
    return y


@pytest.mark.parametrize("columns", [1, 7, 32, 100, 1000, 5000])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_softmax_is_float64_softmax(columns: int, log: bool, dynamic: bool) -> None:
    x = (np.random.default_rng(columns).standard_normal((5, columns)) * 4).astype(np.float32)
    params = SoftmaxParams(RowShape(None if dynamic else columns), log)
    expected = reference(x, log)
    ours = np.abs(run(params, x) - expected)
    torch_softmax = torch.log_softmax if log else torch.softmax
    theirs = np.abs(torch_softmax(torch.from_numpy(x), -1).numpy() - expected)
    ulp = 2.0**-23 * np.sqrt(np.mean(expected**2))
    assert np.sqrt(np.mean(ours**2)) <= max(1.5 * np.sqrt(np.mean(theirs**2)), 4 * ulp)
    assert ours.max() <= max(4 * theirs.max(), 16 * ulp)
    if not log:
        # Small probabilities must be as exact as large ones: relative error, for |x - max| < 32.
        np.testing.assert_allclose(run(params, x), expected, rtol=32 * 2.0**-24)


def test_static_dynamic_and_split_rows_have_equal_bits() -> None:
    x = np.random.default_rng(0).standard_normal((7, 4500)).astype(np.float32)
    whole = run(SoftmaxParams(RowShape(4500)), x)
    np.testing.assert_array_equal(run(SoftmaxParams(RowShape(None)), x), whole)
    np.testing.assert_array_equal(run(SoftmaxParams(RowShape(4500)), x, (1, 2, 5)), whole)
    np.testing.assert_array_equal(run(SoftmaxParams(RowShape(4500)), x[3:4]), whole[3:4])


@pytest.mark.parametrize("log", [False, True])
def test_rests_of_any_length_have_equal_bits(log: bool) -> None:
    """A known length, and one that the code learns as it runs: half vectors and whole ones."""
    for columns in (1, 15, 16, 17, 31, 32, 33, 48, 49, 67, 4095, 4096, 4097, 4112, 4113):
        x = np.random.default_rng(columns).standard_normal((3, columns)).astype(np.float32)
        known = run(SoftmaxParams(RowShape(columns), log), x)
        np.testing.assert_array_equal(run(SoftmaxParams(RowShape(None), log), x), known)


@pytest.mark.parametrize("source", DTYPE)
@pytest.mark.parametrize("result", ["float", "half", "bfloat"])
def test_types(source: Element, result: Element) -> None:
    if source == "double":
        result = "double"
    x = np.random.default_rng(1).standard_normal((3, 77)).astype(DTYPE[source])
    got = run(SoftmaxParams(RowShape(77, source, result)), x)
    tolerance = {"float": 6e-7, "double": 2e-15, "half": 1e-3, "bfloat": 8e-3}[result]
    np.testing.assert_allclose(got.astype(np.float64), reference(x, False), rtol=tolerance)


def test_special_rows() -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, 0, -inf], [-inf, -inf, -inf], [nan, 0, 1], [1e38, 0, -1e38]], np.float32)
    y = run(SoftmaxParams(RowShape(3)), x)
    np.testing.assert_array_equal(y[0], [0, 1, 0])
    assert np.isnan(y[1]).all()
    assert np.isnan(y[2]).all()
    np.testing.assert_array_equal(y[3], [1, 0, 0])


def test_hooks_see_row_and_column() -> None:
    """Prologue: add a bias per column; epilogue: multiply by a factor per row."""

    def bias(text: Any) -> Any:
        base = text.argument(4, role="bias")

        def body(text: Any, type: Any, value: Any, row: Any, column: Any, lanes: Any, mask: Any):
            address = text.at(base, column)
            if mask is None:
                addend = text.load(type, address)
            else:
                addend = text.masked_load(type, address, mask, "zeroinitializer")
            return text.binary("fadd", type, value, addend)

        return body

    def factor(text: Any) -> Any:
        base = text.argument(5, role="factor")

        def body(text: Any, type: Any, value: Any, row: Any, column: Any, lanes: Any, mask: Any):
            one = text.load("float", text.at(base, row))
            return text.binary("fmul", type, value, text.splat(type, one))

        return body

    rng = np.random.default_rng(2)
    x, b, f = (rng.standard_normal(s).astype(np.float32) for s in ((4, 50), 50, 4))
    hooks = Hooks(prologue=Epilogue("bias", bias), epilogue=Epilogue("factor", factor))
    expected = reference(x.astype(np.float64) + b, False) * f[:, None]
    for result in ("float", "half"):
        got = run(SoftmaxParams(RowShape(50, "float", result), hooks=hooks), x, extra=(b, f))
        tolerance = 1e-6 if result == "float" else 1e-3
        np.testing.assert_allclose(got.astype(np.float64), expected, rtol=tolerance)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_assembles_without_libraries(target: str) -> None:
    module = Module()
    for columns in (None, 100):
        for result in ("float", "bfloat"):
            for log in (False, True):
                params = SoftmaxParams(RowShape(columns, "half", result), log)
                emit(module, f"s{columns}{result}{log}", params, TARGETS[target])
    symbols = read_symbols(object_file(module, TARGETS[target]), "softmax")
    assert symbols.undefined <= {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memset"}
