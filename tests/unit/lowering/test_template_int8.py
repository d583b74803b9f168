"""Integer products are exact, for every way to multiply that runs here."""

from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch

from lowering.cpu import jit
from lowering.cpu.templates import conv_int8, int8, int8_batched
from lowering.cpu.templates.window import Axis
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


@pytest.mark.parametrize("target", [t for t in ALL if runs_here(t)], ids=lambda t: t.name)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("k", [1, 3, 64, 130])
@pytest.mark.parametrize("static", [None, 37])
def test_products_of_stacks_are_exact(target, signed, k, static):
    rng = np.random.default_rng(k)
    params = int8_batched.Int8BatchedParams(k, signed, static)
    module = Module()
    int8_batched.emit(module, "matmul", params, target)
    kernel = jit.compile_module(module, target, ["matmul"]).kernel("matmul")
    low, high, dtype = (-128, 128, np.int8) if signed else (0, 256, np.uint8)
    size = int8_batched.scratch_bytes(params, target, k)
    for batch, m, n in ((1, 1, 1), (2, 5, 16), (3, 13, 150), (1, 40, 37)):
        n = static or n
        a = rng.integers(low, high, (batch, m, k)).astype(dtype)
        b = rng.integers(-128, 128, (batch, k, n)).astype(np.int8)
        a[0, 0], b[0, :, 0] = (-128 if signed else 255), -128
        c = np.full((batch, m, n), 7, np.int32)
        scratch = jit.aligned((size,), np.uint8)
        units = batch * -(-n // int8_batched.group_columns(params, target))
        for unit in rng.permutation(units):
            scratch[:] = 99
            kernel([a, b, c, m, n, scratch, size], int(unit), int(unit) + 1)
        np.testing.assert_array_equal(c, a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize("target", [t for t in ALL if runs_here(t)], ids=lambda t: t.name)
@pytest.mark.parametrize("signed", [False, True])
def test_a_dynamic_number_of_steps_is_exact(target, signed):
    """One kernel for all K, on units with parts of a workspace."""
    rng = np.random.default_rng(1)
    params = int8_batched.Int8BatchedParams(None, signed)
    module = Module()
    int8_batched.emit(module, "matmul", params, target)
    kernel = jit.compile_module(module, target, ["matmul"]).kernel("matmul")
    low, high, dtype = (-128, 128, np.int8) if signed else (0, 256, np.uint8)
    sizes = (
        (2, 5, 0, 3),
        (2, 3, 2, 16),
        (1, 4, 67, 37),
        (1, 9, 128, 5),
        *((1, 13, k, 150) for k in range(18)),  # groups of steps, and what is left of them
        *((2, 1, k, 1) for k in range(10)),
    )
    for batch, m, k, n in sizes:
        a = rng.integers(low, high, (batch, m, k)).astype(dtype)
        b = rng.integers(-128, 128, (batch, k, n)).astype(np.int8)
        c = np.full((batch, m, n), 7, np.int32)
        units = batch * -(-n // int8_batched.group_columns(params, target))
        size = int8_batched.scratch_bytes(params, target, k)
        scratch = jit.aligned((max(1, units * size),), np.uint8)
        scratch[:] = 99
        for unit in rng.permutation(units):
            kernel([a, b, c, m, n, scratch, size, k], int(unit), int(unit) + 1)
        np.testing.assert_array_equal(c, a.astype(np.int64) @ b.astype(np.int64))
    k, extreme = 70_000, -128 if signed else 255
    a, b = np.full((1, k), extreme, dtype), np.full((k, 1), -128, np.int8)
    size = int8_batched.scratch_bytes(params, target, k)
    kernel([a, b, c := np.zeros(1, np.int32), 1, 1, jit.aligned((size,), np.uint8), size, k], 0, 1)
    assert c[0] == np.int64(k * extreme * -128).astype(np.int32), "sums are modulo 2^32"


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
    with pytest.raises(InvalidArgumentError, match=str(int8.MAXIMUM_K)):
        int8_batched.Int8BatchedParams(int8.MAXIMUM_K + 1)


@pytest.mark.parametrize("target", [t for t in ALL if runs_here(t)], ids=lambda t: t.name)
@pytest.mark.parametrize(("signed", "zero_point"), [(False, 0), (False, 131), (True, -7)])
@pytest.mark.parametrize(
    ("dims", "out", "kernel", "stride", "dilation", "pad", "groups"),
    [
        ((2, 6, 7, 16), 20, 3, 1, 1, 1, 1),
        ((1, 9, 8, 3), 33, 3, 2, 1, 1, 1),
        ((1, 7, 7, 70), 5, 1, 1, 1, 0, 1),
        ((1, 8, 8, 12), 18, 3, 1, 2, 2, 3),
    ],
)
def test_conv_exact(target, signed, zero_point, dims, out, kernel, stride, dilation, pad, groups):
    rng = np.random.default_rng(3)
    axis = Axis(kernel, stride, dilation, pad, pad)
    params = conv_int8.Int8ConvParams(dims[3], out, axis, axis, signed, zero_point, groups)
    module = Module()
    conv_int8.emit(module, "conv", params, target)
    conv_int8.emit_pack(module, "pack", params, target)
    compiled = jit.compile_module(module, target, ["conv", "pack"])
    weight = rng.integers(-128, 128, (out, dims[3] // groups, kernel, kernel)).astype(np.int8)
    packed = jit.aligned(conv_int8.packed_dims(params, target), np.int8)
    packed[:] = 99
    compiled.kernel("pack")([weight, packed], 0, packed.shape[0] * packed.shape[1])
    low, high, dtype = (-128, 128, np.int8) if signed else (0, 256, np.uint8)
    x = rng.integers(low, high, dims).astype(dtype)
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=zero_point)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(padded.astype(np.float64)).permute(0, 3, 1, 2),
        torch.from_numpy(weight.astype(np.float64)),
        stride=stride, dilation=dilation, groups=groups,
    ).permute(0, 2, 3, 1).numpy()  # fmt: skip
    y = np.full(expected.shape, 7, np.int32)
    pixels = y.shape[0] * y.shape[1] * y.shape[2]
    units = conv_int8.parallel_extent(params, target).value(pixels)
    for unit in rng.permutation(units):
        words = [x, packed, y, *dims[:3]]
        compiled.kernel("conv")(words, int(unit), int(unit) + 1)
    np.testing.assert_array_equal(y, expected)


def test_zero_point_outside_of_its_type_is_refused():
    with pytest.raises(InvalidArgumentError, match="-7"):
        conv_int8.Int8ConvParams(8, 8, Axis(3), Axis(3), signed=False, zero_point=-7)
