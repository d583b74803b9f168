"""The simulator finds what a GPU does not define; each fault is planted in a good kernel."""

import re

import numpy as np
import pytest
from gpu_programs import PROGRAMS

from lowering.gpu.accesses import SimulationError
from lowering.gpu.emit import llvm_text
from lowering.gpu.program import GpuProgram
from lowering.gpu.ptx import GPU_TARGETS, gpu_module
from lowering.gpu.simulator import Simulator

BARRIER = "  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)\n"


def parts(name, compiled_module):
    module = compiled_module(PROGRAMS[name].text())
    return module, llvm_text(gpu_module(module), GPU_TARGETS["sm_80"]), PROGRAMS[name].arrays()


def run(module, text, arrays):
    return GpuProgram(module, Simulator(text))(*arrays)


@pytest.mark.parametrize("number", [0, 1])
def test_a_removed_barrier_is_a_race(number, compiled_module):
    module, text, arrays = parts("two_rounds", compiled_module)
    pieces = text.split(BARRIER)
    assert len(pieces) == 3
    broken = pieces[0] + (BARRIER if number else "") + pieces[1] + ("" if number else BARRIER)
    with pytest.raises(SimulationError, match="race"):
        run(module, broken + pieces[2], arrays)


def test_a_store_by_every_block_is_a_race(compiled_module):
    module, text, arrays = parts("sum", compiled_module)
    broken = re.sub(r"call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x\(\)", "add i32 0, 0", text)
    with pytest.raises(SimulationError, match="another block accesses: race"):
        run(module, broken, arrays)


def test_an_index_beyond_a_buffer_is_found(compiled_module):
    module, text, arrays = parts("flat", compiled_module)
    assert "9001" in text
    # the byte is counted from whichever buffer happens to lie nearer in memory
    with pytest.raises(SimulationError, match=r"byte (36004|-\d+) of a buffer, out of bounds"):
        run(module, text.replace("9001", "9002"), arrays)


def test_a_barrier_that_some_threads_miss_is_found(compiled_module):
    module, text, arrays = parts("three_warps", compiled_module)
    before, after = text.split(BARRIER, 1)
    block = re.findall(r"^(\w+):", before, re.MULTILINE)[-1]
    warp = re.search(r"(%warp\d+) = zext", text)[1]
    guarded = (
        f"  %first = icmp ult i64 {warp}, 1\n  br i1 %first, label %over, label %wait\n"
        f"wait:\n{BARRIER}  br label %over\nover:\n"
    )
    broken = before + guarded + after.replace(f"%{block} ]", "%over ]")
    with pytest.raises(SimulationError, match="32 threads never come to a barrier"):
        run(module, broken, arrays)


def test_a_shuffle_by_part_of_a_warp_is_found(compiled_module):
    module, text, arrays = parts("sum", compiled_module)
    leave = (
        "entry:\n  %id = call i32 @llvm.nvvm.read.ptx.sreg.laneid()\n"
        "  %out = icmp ugt i32 %id, 15\n  br i1 %out, label %left, label %stay\n"
        "left:\n  ret void\nstay:\n"
    )
    broken = text.replace("entry:\n", leave).replace("%entry ]", "%stay ]")
    with pytest.raises(SimulationError, match="16 lanes never come to a shuffle"):
        run(module, broken, arrays)


def test_outputs_start_as_nan(compiled_module):
    memory = Simulator(parts("sum", compiled_module)[1]).empty((3,), np.dtype(np.float32))
    assert np.isnan(memory).all()
