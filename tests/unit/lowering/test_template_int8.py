"""Integer products are exact, for every way to multiply that runs here."""

from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest

from lowering.cpu import jit
from lowering.cpu.templates import int8
from lowering.cpu.text import Module
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TARGETS

V4 = TARGETS["x86-64-v4"]
VNNI = replace(V4, name="v4+vnni", features="+avx512vnni", int8_dot="vnni")
DOTPROD = replace(TARGETS["aarch64"], name="aarch64+dotprod", features="+neon,+dotprod")
ALL = [TARGETS["x86-64-v2"], TARGETS["x86-64-v3"], V4, VNNI, TARGETS["aarch64"], DOTPROD]


def runs_here(target):
    vnni = llvm.get_host_cpu_features().get("avx512vnni", False)
    return jit.runs_here(target) and (target is not VNNI or vnni)


@pytest.mark.parametrize("target", [t for t in ALL if runs_here(t)], ids=lambda t: t.name)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 3), (16, 64), (37, 130), (100, 515)])
def test_exact(target, signed, n, k):
    rng = np.random.default_rng(n)
    params = int8.Int8GemmParams(n, k, signed)
    module = Module()
    int8.emit(module, "gemm", params, target)
    int8.emit_pack(module, "pack", params, target, (k, 1))
    compiled = jit.compile_module(module, target, ["gemm", "pack"])
    weight = rng.integers(-128, 128, (n, k)).astype(np.int8)
    packed = jit.aligned(int8.packed_dims(params, target), np.int8)
    packed[:] = 99
    compiled.kernel("pack")([weight, packed], 0, packed.shape[0])
    for m in (1, 2, 5, 13, 40):
        low, high, dtype = (-128, 128, np.int8) if signed else (0, 256, np.uint8)
        a = rng.integers(low, high, (m, k)).astype(dtype)
        a[0], weight_extreme = (-128 if signed else 255), weight[0].astype(np.int64)
        c = np.full((m, n), 7, np.int32)
        units = int8.parallel_extent(params, target).value(m)
        for unit in rng.permutation(units):
            compiled.kernel("gemm")([a, packed, c, m], int(unit), int(unit) + 1)
        np.testing.assert_array_equal(c, a.astype(np.int64) @ weight.T.astype(np.int64))
        assert c[0, 0] == weight_extreme.sum() * (-128 if signed else 255)


@pytest.mark.parametrize("target", ALL, ids=lambda t: t.name)
@pytest.mark.parametrize("signed", [False, True])
def test_instructions_of_each_way(target, signed):
    params = int8.Int8GemmParams(64, 64, signed)
    module = Module()
    int8.emit(module, "gemm", params, target)
    text = jit.assembly(module, target)
    instruction = {"vnni": "vpdpbusd", "madd": "pmaddwd", "sdot": "sdot", "widen": "mla"}
    assert instruction[int8.way(params, target)] in text
    assert "pmaddubsw" not in text, "its pairs saturate"


def test_sums_that_could_overflow_are_refused():
    with pytest.raises(InvalidArgumentError, match=str(int8.MAXIMUM_K)):
        int8.Int8GemmParams(8, int8.MAXIMUM_K + 1)
