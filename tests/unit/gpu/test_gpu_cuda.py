"""The CUDA device against a driver that keeps device memory on the host and simulates launches."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import gpu_check
import numpy as np
import pytest
from gpu_programs import PROGRAMS

from lowering.gpu.cuda import CudaDevice, CudaError
from lowering.gpu.emit import llvm_text
from lowering.gpu.program import GpuProgram
from lowering.gpu.ptx import GPU_TARGETS, gpu_module
from lowering.gpu.simulator import Simulator

ROOT = Path(__file__).resolve().parents[3]


class FakeDriver:
    """`libcuda` on the host: device pointers are addresses of arrays, freed ones are forgotten."""

    def __init__(self, simulator=None, refuse=()):
        self.simulator = simulator
        self.refuse = refuse
        self.memory = {}
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name in self.refuse:
                return self.refuse[name]
            own = getattr(type(self), f"_{name}", None)
            return own(self, *arguments) if own else 0

        return call

    def _cuModuleLoadDataEx(self, module, image, count, options, values):  # noqa: N802
        self.image = image.value
        if b"bad" in image.value:
            ctypes.memmove(values[0], b"ptxas error : bad\0", 18)
            return 218
        return 0

    def _cuMemAlloc_v2(self, pointer, size):  # noqa: N802
        raw = np.zeros(size.value + 4096, np.uint8)
        pointer._obj.value = raw.ctypes.data
        self.memory[raw.ctypes.data] = raw[: size.value]
        return 0

    def _cuMemFree_v2(self, pointer):  # noqa: N802
        del self.memory[pointer.value]
        return 0

    def _cuMemsetD8_v2(self, pointer, byte, count):  # noqa: N802
        ctypes.memset(pointer.value, byte.value, count.value)
        return 0

    def _cuMemcpyHtoD_v2(self, target, source, count):  # noqa: N802
        ctypes.memmove(target.value, source.value, count.value)
        return 0

    _cuMemcpyDtoH_v2 = _cuMemcpyHtoD_v2  # noqa: N815

    def _cuModuleGetFunction(self, function, module, name):  # noqa: N802
        self.kernel = name.decode()
        function._obj.value = 7
        return 0

    def _cuLaunchKernel(self, function, *rest):  # noqa: N802
        *sizes, stream, parameters, extra = rest
        sizes = [s.value for s in sizes]
        assert (function.value, sizes[1:3], sizes[4:], stream, extra) == (
            7, [1, 1], [1, 1, 0], None, None,
        )  # fmt: skip
        types = self.simulator.source.kernels[self.kernel]
        words = [ctypes.c_uint64.from_address(parameters[n]).value for n in range(len(types))]
        arguments = [self.memory[w] if t == "ptr" else w for w, t in zip(words, types, strict=True)]
        self.simulator.launch(self.kernel, sizes[0], sizes[3], arguments)
        return 0

    def _cuEventElapsedTime(self, elapsed, start, stop):  # noqa: N802
        elapsed._obj.value = 2.0
        return 0


@pytest.mark.parametrize("name", ["softmax", "layer_norm"])
def test_a_program_runs_through_the_driver(name, compiled_module):
    program = PROGRAMS[name]
    module, arrays = compiled_module(program.text()), program.arrays()
    text = llvm_text(gpu_module(module), GPU_TARGETS["sm_80"])
    driver = FakeDriver(Simulator(text))
    (result,) = GpuProgram(module, CudaDevice("// ptx", driver))(*arrays)
    (expected,) = GpuProgram(module, Simulator(text))(*arrays)
    assert result.tobytes() == expected.tobytes()
    assert driver.calls[:4] == [
        "cuInit",
        "cuDeviceGet",
        "cuDevicePrimaryCtxRetain",
        "cuCtxSetCurrent",
    ]
    assert driver.image == b"// ptx"
    assert not driver.memory, "memory that nobody has any more is freed"


def test_times_are_in_seconds():
    assert CudaDevice("", FakeDriver()).seconds(lambda: None, 5) == pytest.approx([2e-3] * 5)


def test_refusals_of_the_driver_are_errors():
    with pytest.raises(CudaError, match="CUresult 218: ptxas error : bad"):
        CudaDevice("bad", FakeDriver())
    with pytest.raises(CudaError, match="cuInit failed with CUresult 100"):
        CudaDevice("", FakeDriver(refuse={"cuInit": 100}))
    with pytest.raises(CudaError, match="cuMemAlloc_v2 failed with CUresult 2"):
        CudaDevice("", FakeDriver(refuse={"cuMemAlloc_v2": 2})).put(np.zeros(3))


def test_the_check_runs_what_it_prepared(tmp_path, monkeypatch):
    """Both halves on small extents; the second gets the simulator for a GPU, and a broken one."""
    case = gpu_check.Case("softmax", 32, 100, gpu_check.SOFTMAX, "F.softmax(x, 1)")
    monkeypatch.setattr(gpu_check, "CASES", (case,))
    gpu_check.prepare(tmp_path)
    (entry,) = json.loads((tmp_path / "cases.json").read_text())
    assert f".entry {entry['kernel']}" in (tmp_path / entry["ptx"]).read_text()
    text = llvm_text(gpu_module(gpu_check._passes(case.text(32))), GPU_TARGETS["sm_80"])
    driver = FakeDriver(Simulator(text))
    monkeypatch.setattr("lowering.gpu.cuda.load_driver", lambda: driver)
    monkeypatch.setattr(gpu_check, "_torch", lambda *a: None)
    monkeypatch.setattr(CudaDevice, "seconds", lambda self, work: [1e-3])
    (row,) = gpu_check.run(tmp_path)
    assert row.bits
    assert row.moved == 2 * 4 * 32 * 100
    wrong = text.replace("i32 16, i32 31", "i32 15, i32 31")
    assert wrong != text
    driver.simulator = Simulator(wrong)
    assert not gpu_check.run(tmp_path)[0].bits


def test_the_driver_side_needs_no_compiler():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, lowering.gpu.cuda; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"xdsl", "llvmlite", "onnx", "torch"} & set(done.stdout.split())
