"""Kernels for GPUs on the CPU: the values are numpy's, the bits those of the CPU's kernels."""

import numpy as np
import pytest
from gpu_programs import PROGRAMS

from lowering.cpu.emit import emit_function
from lowering.cpu.host import host_target
from lowering.cpu.jit import aligned, compile_module
from lowering.cpu.text import Module
from lowering.gpu.emit import llvm_text
from lowering.gpu.program import GpuProgram
from lowering.gpu.ptx import GPU_TARGETS, gpu_module
from lowering.gpu.simulator import Simulator
from lowering.kernel import Buffer
from lowering.passes.to_gpu import region_kernel
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.types import dims_of, element_type

SM_80 = GPU_TARGETS["sm_80"]


def simulate(module, *arrays, seed=0):
    simulator = Simulator(llvm_text(gpu_module(module), SM_80), seed)
    return GpuProgram(module, simulator)(*arrays)


def on_the_cpu(module, *arrays):
    """Run a module of one region by the CPU's emitter, from the same `kern.func`."""
    (op,) = (op for op in module.walk() if isinstance(op, FusedOp))
    kernel = region_kernel(op)
    text = Module()
    emit_function(text, kernel.function, host_target())
    (result,) = op.results
    out = aligned(dims_of(result), dtype_of(element_type(result)).numpy)
    memory = [np.ascontiguousarray(a) for a in arrays] + [out]
    words = [memory[a.position] if isinstance(a, Buffer) else 0 for a in kernel.arguments]
    compile_module(text, host_target(), ["kernel"]).kernel("kernel")(words, 0, kernel.units)
    return out


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
    cpu = on_the_cpu(compiled_module(program.text(), until="fuse"), *arrays)
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
