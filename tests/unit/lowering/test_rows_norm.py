"""Normalisation kernels against torch in float64, and the promise of equal bits."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from lowering.cpu.jit import compile_module, object_file, runs_here
from lowering.cpu.templates.epilogue import Epilogue, Hooks
from lowering.cpu.templates.norm import NormParams, emit, scratch_bytes
from lowering.cpu.templates.rows import RowShape
from lowering.cpu.text import Module
from lowering.runtime.elf import read_symbols
from torsh_dialect.target import TARGETS

Array = np.ndarray[Any, Any]
F = torch.nn.functional
HOST = next(t for t in map(TARGETS.get, ("x86-64-v3", "x86-64-v2", "aarch64")) if runs_here(t))


def run(
    params: NormParams, x: Array, scale: Any, bias: Any, extra: Any = (), splits: Any = ()
) -> tuple[Array, Array, Array]:
    rows, columns = x.shape
    module = Module()
    emit(module, "norm", params, HOST)
    kernel = compile_module(module, HOST, ["norm"]).kernel("norm")
    y = np.zeros(x.shape, {"float": np.float32, "half": np.float16}[params.shape.result])
    mean, deviation = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
    scratch = np.zeros(2 * scratch_bytes(params, columns) + 64, np.uint8)
    nothing = np.zeros(1, np.float32)
    words = [
        x, y, columns, scratch, nothing if scale is None else scale,
        nothing if bias is None else bias, mean, deviation, *extra,
    ]  # fmt: skip
    for i, (lo, hi) in enumerate(pairwise([0, *splits, rows])):
        kernel(words, lo, hi, i % 2)
    return y, mean, deviation


def within(ours: Array, theirs: Array, exact: Array) -> None:
    """The project's contract: against float64, no worse than torch by a factor."""
    mine, other = np.abs(ours - exact), np.abs(theirs - exact)
    ulp = 2.0**-23 * np.sqrt(np.mean(exact**2))
    assert np.sqrt(np.mean(mine**2)) <= max(1.5 * np.sqrt(np.mean(other**2)), 4 * ulp)
    assert mine.max() <= max(4 * other.max(), 16 * ulp)


@pytest.mark.parametrize("columns", [1, 31, 64, 768, 5001])
@pytest.mark.parametrize("dynamic", [False, True])
def test_layer_norm_is_torch_in_float64(columns: int, dynamic: bool) -> None:
    rng = np.random.default_rng(columns)
    x = (rng.standard_normal((6, columns)) * 3 + 5).astype(np.float32)
    g, b = (rng.standard_normal(columns).astype(np.float32) for _ in range(2))
    params = NormParams(RowShape(None if dynamic else columns), statistics=True)
    y, mean, deviation = run(params, x, g, b)
    tensors = [torch.from_numpy(v) for v in (x, g, b)]
    exact = F.layer_norm(tensors[0].double(), [columns], *(t.double() for t in tensors[1:]))
    within(y, F.layer_norm(tensors[0], [columns], *tensors[1:]).numpy(), exact.numpy())
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(-1), rtol=1e-6)
    np.testing.assert_allclose(deviation, 1 / np.sqrt(wide.var(-1) + 1e-5), rtol=2e-6)


@pytest.mark.parametrize("scale", [False, True])
def test_rms_norm_is_torch_in_float64(scale: bool) -> None:
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal(s).astype(np.float32) for s in ((5, 300), 300))
    params = NormParams(RowShape(300), 1e-6, "rms", scale, bias=False)
    weight = torch.from_numpy(g) if scale else None
    wide = None if weight is None else weight.double()
    exact = F.rms_norm(torch.from_numpy(x).double(), [300], wide, 1e-6)
    theirs = F.rms_norm(torch.from_numpy(x), [300], weight, 1e-6)
    within(run(params, x, g if scale else None, None)[0], theirs.numpy(), exact.numpy())


@pytest.mark.parametrize(("groups", "channels"), [(4, 8), (8, 8), (1, 8)])
def test_group_and_instance_norm(groups: int, channels: int) -> None:
    rng = np.random.default_rng(groups)
    x = rng.standard_normal((3, channels, 9, 7)).astype(np.float32)
    g, b = (rng.standard_normal(channels).astype(np.float32) for _ in range(2))
    rows = x.reshape(3 * groups, -1)
    each = channels // groups
    params = NormParams(RowShape(rows.shape[1]), channels=each, groups=groups)
    y = run(params, rows, g, b)[0].reshape(x.shape)
    tensors = [torch.from_numpy(v) for v in (x, g, b)]
    exact = F.group_norm(tensors[0].double(), groups, *(t.double() for t in tensors[1:]))
    within(y, F.group_norm(tensors[0], groups, *tensors[1:]).numpy(), exact.numpy())


def test_static_dynamic_and_split_rows_have_equal_bits() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, 4200)).astype(np.float32)
    g, b = (rng.standard_normal(4200).astype(np.float32) for _ in range(2))
    whole = run(NormParams(RowShape(4200)), x, g, b)[0]
    np.testing.assert_array_equal(run(NormParams(RowShape(None)), x, g, b)[0], whole)
    np.testing.assert_array_equal(run(NormParams(RowShape(4200)), x, g, b, splits=(2, 3))[0], whole)


@pytest.mark.parametrize("mode", ["layer", "rms"])
def test_rests_of_any_length_have_equal_bits(mode: Any) -> None:
    """A known length, and one that the code learns as it runs: half vectors and whole ones."""
    for columns in (1, 15, 16, 17, 31, 32, 33, 48, 49, 67, 4095, 4096, 4097, 4112, 4113):
        rng = np.random.default_rng(columns)
        x, g, b = (
            rng.standard_normal(s).astype(np.float32) for s in ((3, columns), *[columns] * 2)
        )
        known = run(NormParams(RowShape(columns), mode=mode), x, g, b)[0]
        np.testing.assert_array_equal(run(NormParams(RowShape(None), mode=mode), x, g, b)[0], known)


@pytest.mark.parametrize("result", ["float", "half"])
def test_a_residual_is_added_before_and_kept_in_float(result: Any) -> None:
    def residual(text: Any) -> Any:
        base = text.argument(8, role="residual")

        def body(text: Any, type: Any, value: Any, row: Any, column: Any, lanes: Any, mask: Any):
            address = text.at(base, text.add(text.mul(row, 90), column))
            if mask is None:
                other = text.load(type, address)
            else:
                other = text.masked_load(type, address, mask, "zeroinitializer")
            return text.binary("fadd", type, value, other)

        return body

    rng = np.random.default_rng(4)
    x, r = (rng.standard_normal((4, 90)).astype(np.float32) for _ in range(2))
    g, b = (rng.standard_normal(90).astype(np.float32) for _ in range(2))
    params = NormParams(
        RowShape(90, "float", result), hooks=Hooks(prologue=Epilogue("residual", residual))
    )
    y = run(params, x, g, b, extra=(r,))[0].astype(np.float64)
    tensors = [torch.from_numpy(v).double() for v in (x + r, g, b)]
    exact = F.layer_norm(tensors[0], [90], *tensors[1:]).numpy()
    np.testing.assert_allclose(y, exact, rtol=1e-3, atol=2e-6 if result == "float" else 1e-3)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_assembles_without_libraries(target: str) -> None:
    module = Module()
    for columns in (None, 100):
        for mode in ("layer", "rms"):
            params = NormParams(RowShape(columns, "bfloat", "bfloat"), mode=mode)
            emit(module, f"norm_{columns}_{mode}", params, TARGETS[target])
    params = NormParams(RowShape(None), channels=4, groups=2)
    emit(module, "group", params, TARGETS[target])
    symbols = read_symbols(object_file(module, TARGETS[target]), "norm")
    assert symbols.undefined <= {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memset"}
