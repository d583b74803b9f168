"""Programs whose types say what is on the CPU and what on the GPU."""

import numpy as np
import pytest

from lowering.gpu.emit import llvm_text
from lowering.gpu.program import GpuProgram
from lowering.gpu.ptx import GPU_TARGETS, gpu_module
from lowering.gpu.simulator import Simulator
from torsh_dialect.errors import UnsupportedError


class Counting(Simulator):
    """Counts what goes to the device and comes from it."""

    def __init__(self, text):
        super().__init__(text)
        self.puts, self.gets, self.launched = [], [], []

    def put(self, array):
        self.puts.append(array.shape)
        return super().put(array)

    def get(self, memory):
        self.gets.append(memory.shape)
        return super().get(memory)

    def launch(self, name, blocks, threads, arguments):
        self.launched.append(name)
        return super().launch(name, blocks, threads, arguments)


def typed(dims, device):
    shape = "x".join("?" if isinstance(d, str) else str(d) for d in dims)
    named = f"dims = [{', '.join(map(str, dims))}], " if "?" in shape else ""
    return f'tensor<{shape}xf32, #torsh.tensor<{named}device = "{device}">>'


def text(dims, gpu="cuda:0"):
    here, there = typed(dims, "cpu"), typed(dims, gpu)
    return f"""
func.func @main(%x: {here}, %z: {there}) -> ({here}, {there}) {{
  %w = torsh.weight {{id = "w", type = tensor<3xf32>}} : () -> tensor<3xf32>
  %a = torsh.add %x, %w : ({here}, tensor<3xf32>) -> {here}
  %e = torsh.exp %a : ({here}) -> {here}
  %g = torsh.to_device %e {{device = "{gpu}"}} : ({here}) -> {there}
  %b = torsh.mul %g, %z : ({there}, {there}) -> {there}
  %h = torsh.to_device %b {{device = "cpu"}} : ({there}) -> {here}
  %n = torsh.neg %h : ({here}) -> {here}
  func.return %n, %b : {here}, {there}
}}"""


@pytest.mark.parametrize("dims", [(5, 3), ("n", 3)], ids=["static", "symbolic"])
def test_each_half_runs_where_its_values_are(dims, compiled_module):
    module = compiled_module(text(dims))
    device = Counting(llvm_text(gpu_module(module), GPU_TARGETS["sm_80"]))
    random = np.random.default_rng(3)
    x, z = random.standard_normal((2, 5, 3)).astype(np.float32)
    w = np.array([1.0, -2.0, 0.5], np.float32)
    left, right = GpuProgram(module, device, {"w": w})(x, z)
    wide = np.exp(x.astype(np.float64) + w) * z
    np.testing.assert_allclose(left, -wide, rtol=1e-5)
    np.testing.assert_allclose(right, wide, rtol=1e-5)
    assert device.puts == [(5, 3), (5, 3)]  # the copy of %e, and %z
    assert len(device.launched) == 1
    assert {*device.gets} == {(5, 3)}


def test_a_program_runs_on_one_gpu(compiled_module):
    a, b = typed((3,), "cuda:0"), typed((3,), "cuda:1")
    two = f"func.func @main(%x: {a}, %y: {b}) -> ({a}, {b}) {{ func.return %x, %y : {a}, {b} }}"
    with pytest.raises(UnsupportedError, match="%y is on cuda:1, other values are on cuda:0"):
        compiled_module(two)


def test_any_gpu_is_the_one_there_is(compiled_module):
    a, b = typed((3,), "cuda"), typed((3,), "cuda:0")
    mixed = (
        f"func.func @main(%x: {a}, %y: {b}) -> {b} {{ %r = torsh.add %x, %y : ({a}, {b}) -> {b}\n"
        f"func.return %r : {b} }}"
    )
    module = compiled_module(mixed)
    device = Simulator(llvm_text(gpu_module(module), GPU_TARGETS["sm_80"]))
    x = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(GpuProgram(module, device)(x, x)[0], x + x)


def test_values_without_a_device_are_launched(compiled_module):
    source = (
        "func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {\n"
        "%r = torsh.exp %x : (tensor<3xf32>) -> tensor<3xf32>\nfunc.return %r : tensor<3xf32> }"
    )
    assert "gpu.launch_func" in str(compiled_module(source))
    here = typed((3,), "cpu")
    assert "gpu.launch_func" not in str(compiled_module(source.replace("tensor<3xf32>", here)))


def test_layouts_at_the_border(compiled_module):
    stored = "tensor<2x3xf32, #torsh.tensor<layout = [1, 0]>>"
    module = compiled_module(
        f"func.func @main(%x: {stored}) -> {stored} {{\n"
        f"%a = torsh.flip %x {{axes = array<i64: 0>}} : ({stored}) -> tensor<2x3xf32>\n"
        f"%r = torsh.to_layout %a {{layout = array<i64: 1, 0>}} : (tensor<2x3xf32>) -> {stored}\n"
        f"func.return %r : {stored} }}"
    )
    assert "(%x: tensor<3x2xf32>) -> tensor<3x2xf32>" in str(module)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    device = Simulator(llvm_text(gpu_module(module), GPU_TARGETS["sm_80"]))
    np.testing.assert_array_equal(GpuProgram(module, device)(x)[0], x[::-1])
