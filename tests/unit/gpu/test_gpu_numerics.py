"""Kernels for GPUs on the CPU: the values are numpy's, the bits those of the CPU's kernels."""

import numpy as np
import pytest
from gpu_programs import PROGRAMS, softmax

from lowering.cpu.host import host_target
from lowering.gpu.emit import llvm_text
from lowering.gpu.program import GpuProgram
from lowering.gpu.ptx import GPU_TARGETS, gpu_module
from lowering.gpu.reference import on_the_cpu
from lowering.gpu.simulator import Simulator
from torsh_dialect.errors import InputError
from torsh_dialect.ops.fused import FusedOp

SM_80 = GPU_TARGETS["sm_80"]


def simulate(module, *arrays, seed=0):
    simulator = Simulator(llvm_text(gpu_module(module), SM_80), seed)
    return GpuProgram(module, simulator)(*arrays)


def region_of(module):
    (op,) = (op for op in module.walk() if isinstance(op, FusedOp))
    return op


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_numpys_and_bits_are_the_cpus(name, compiled_module):
    program = PROGRAMS[name]
    arrays = program.arrays()
    module = compiled_module(program.text())
    (result,) = simulate(module, *arrays)
    expected = program.expected(*(a if a.dtype == np.int32 else a.astype(float) for a in arrays))
    scale = np.abs(expected).max()
    if program.summed is not None:
        scale = np.abs(arrays[0]).sum(program.summed).max()
    exact = result.dtype.kind == "i" or result.dtype == np.float16
    tolerance = 0 if exact else 4 * np.finfo(result.dtype).eps
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * scale)
    fused = compiled_module(program.text(), until="fuse")
    cpu = on_the_cpu(region_of(fused), arrays, host_target())
    assert result.tobytes() == cpu.tobytes()


@pytest.mark.parametrize("name", ["softmax", "two_rounds", "argmax"])
def test_the_order_of_threads_changes_no_bit(name, compiled_module):
    program = PROGRAMS[name]
    module, arrays = compiled_module(program.text()), program.arrays(3)
    first, second = (simulate(module, *arrays, seed=seed)[0] for seed in (1, 2))
    assert first.tobytes() == second.tobytes()


def test_special_values_go_through_reductions(compiled_module):
    program = PROGRAMS["max"]
    (x,) = program.arrays()
    x[0, 64], x[1, :], x[2, 3] = np.nan, -np.inf, np.inf
    (result,) = simulate(compiled_module(program.text()), x)
    np.testing.assert_array_equal(result, x.max(-1))


SYMBOLIC = """func.func @main(%x: {X}, %g: {G}) -> ({X}, {S}) {{
  %a = torsh.add %x, %g : ({X}, {G}) -> {X}
  %y = torsh.softmax %a {{axis = 1 : i64}} : ({X}) -> {X}
  %s = torsh.sum %x {{axes = array<i64: 1>}} : ({X}) -> {S}
  func.return %y, %s : {X}, {S}
}}""".format(
    X="tensor<?x?xf32, #torsh.dims<[m, n]>>",
    G="tensor<?xf32, #torsh.dims<[n]>>",
    S="tensor<?xf32, #torsh.dims<[m]>>",
)


def test_one_program_for_all_extents(compiled_module):
    module = compiled_module(SYMBOLIC)
    simulator = Simulator(llvm_text(gpu_module(module), SM_80))
    random = np.random.default_rng(5)
    for dims in ((3, 70), (1, 1), (2, 9000), (0, 4)):
        x = random.standard_normal(dims).astype(np.float32)
        g = random.standard_normal(dims[1]).astype(np.float32)
        y, s = GpuProgram(module, simulator)(x, g)
        wide = x.astype(float)
        np.testing.assert_allclose(y, softmax(wide + g), rtol=0, atol=5e-7)
        scale = np.abs(wide).sum(-1).max(initial=0)
        np.testing.assert_allclose(s, wide.sum(-1), rtol=0, atol=5e-7 * scale)


@pytest.mark.parametrize("name", ["softmax", "three_warps"])
def test_symbolic_extents_change_no_bit(name, compiled_module):
    """The launch is another (more warps than blocks of elements), the tree is the same."""
    program = PROGRAMS[name]
    arrays = program.arrays()
    (fixed,) = simulate(compiled_module(program.text()), *arrays)
    dims = fixed.shape
    X, R = "tensor<?x?xf32, #torsh.dims<[m, n]>>", "tensor<?xf32, #torsh.dims<[m]>>"  # noqa: N806
    text = program.text().replace(f"tensor<{program.inputs[0]}>", X)
    text = text.replace(f"tensor<{'x'.join(map(str, dims))}xf32>", R)
    (free,) = simulate(compiled_module(text), *arrays)
    assert free.tobytes() == fixed.tobytes()


def test_a_flat_kernel_of_a_symbolic_extent(compiled_module):
    """Units are chunks of 4,096 elements: the host divides."""
    type = "tensor<?xf32, #torsh.dims<[n]>>"
    body = f"%r = torsh.abs %x : ({type}) -> {type}"
    text = f"func.func @main(%x: {type}) -> {type} {{ {body} func.return %r : {type} }}"
    module = compiled_module(text)
    simulator = Simulator(llvm_text(gpu_module(module), SM_80))
    for size in (0, 1, 4096, 4097, 10_000):
        x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
        (result,) = GpuProgram(module, simulator)(x)
        np.testing.assert_array_equal(result, np.abs(x))


def test_inputs_that_do_not_fit_are_refused(compiled_module):
    module = compiled_module(SYMBOLIC)
    program = GpuProgram(module, Simulator(llvm_text(gpu_module(module), SM_80)))
    with pytest.raises(InputError, match="1 inputs are given, but @main has 2"):
        program(np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match="%g has shape"):
        program(np.zeros((2, 3), np.float32), np.zeros(4, np.float32))
