"""Models that are on a GPU, as torch says it without one: fake tensors and the graph's metadata."""

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import torsh_fx
from lowering.gpu.emit import llvm_text
from lowering.gpu.program import GpuProgram
from lowering.gpu.ptx import GPU_TARGETS, gpu_module
from lowering.gpu.simulator import Simulator
from torsh_dialect.context import Context
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.ops.storage import ToDeviceOp
from torsh_dialect.types import device_of, is_stored
from torsh_fx.importers.torch_export import import_exported_program
from torsh_fx.pipeline import gpu_stages


class Split(nn.Module):
    """One half on the GPU, one on the CPU; a scalar of the CPU with a tensor of the GPU."""

    def forward(self, x, y, scale):
        z = torch.exp(x) * 2 + x
        w = y.to(x.device) @ z * scale
        return torch.tanh(w.cpu()) + y[:, :1], w


def fake_export(module, *described):
    """The program of a module for inputs of (shape, device)."""
    with FakeTensorMode():
        inputs = tuple(torch.empty(shape, device=device) for shape, device in described)
        return torch.export.export(module, inputs, strict=False)


def on_the_gpu(program):
    """An exported program whose graph says that everything is on the first GPU."""
    with FakeTensorMode():
        for node in program.graph.nodes:
            value = node.meta.get("val")
            if isinstance(value, torch.Tensor):
                node.meta["val"] = torch.empty_strided(
                    tuple(value.shape), value.stride(), dtype=value.dtype, device="cuda:0"
                )
    return program


def devices(module):
    """Devices of all values by the op that makes them."""
    found = {}
    for op in module.walk():
        for value in (*op.results, *(a for r in op.regions for b in r.blocks for a in b.args)):
            device = device_of(value) if is_stored(value.type) else None
            found.setdefault(op.name.removeprefix("torsh."), set()).add(device)
    return found


@pytest.fixture
def split():
    described = (((3, 4), "cuda:0"), ((2, 3), "cpu"), ((), "cpu"))
    return import_exported_program(fake_export(Split(), *described), Context())


def test_every_value_is_where_torch_has_it(split):
    found = devices(split.module)
    assert found["func.func"] == {"cuda:0", "cpu", None}
    assert found["exp"] == found["matmul"] == {"cuda:0"}
    assert found["tanh"] == found["slice"] == {"cpu"}
    assert found["to_device"] == {"cuda:0", "cpu"}
    assert found["constant"] == {None}
    assert split.module.verify() is None


def test_its_program_copies_between_the_halves(split):
    ctx, module = Context(), split.module.clone()
    for one in gpu_stages(ctx):
        one.apply(ctx, module)
        module.verify()
    names = [op.name for op in module.walk()]
    assert names.count("gpu.memcpy") == 2
    device = Simulator(llvm_text(gpu_module(module), GPU_TARGETS["sm_80"]))
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(s).astype(np.float32) for s in ((3, 4), (2, 3), ())]
    found = GpuProgram(module, device)(*arrays)
    want = Split()(*map(torch.from_numpy, map(np.asarray, arrays)))
    for ours, theirs in zip(found, want, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_a_cpu_program_refuses_values_on_a_gpu_by_name():
    program = fake_export(nn.ReLU(), ((2, 3), "cuda:0"))
    with pytest.raises(UnsupportedError, match=r"%input is on cuda:0, but .* for a CPU"):
        torsh_fx.compile(program)


def test_parameters_and_buffers_are_on_the_gpu():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()).eval()
    x = torch.randn(2, 4)
    imported = import_exported_program(on_the_gpu(torch.export.export(model, (x,))), Context())
    found = devices(imported.module)
    assert found["weight"] == found["func.func"] == found["relu"] == {"cuda:0"}
    assert not [op for op in imported.module.walk() if isinstance(op, ToDeviceOp)]

    ctx = Context(weights=imported.weights)
    for one in gpu_stages(ctx):
        one.apply(ctx, imported.module)
    device = Simulator(llvm_text(gpu_module(imported.module), GPU_TARGETS["sm_80"]))
    (found,) = GpuProgram(imported.module, device, imported.weights)(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(found, model(x).numpy(), rtol=1e-5, atol=1e-5)


def test_a_model_on_the_cpu_names_no_device():
    class Moves(nn.Module):
        def forward(self, x):
            return (x.to("cpu") + 1).cpu()

    compiled = torsh_fx.compile(Moves(), (torch.ones(2),))
    assert "#torsh.tensor" not in str(compiled.module)
    assert "to_device" not in str(compiled.module)
    assert compiled(torch.ones(2)).tolist() == [2, 2]


def test_layout_and_device_of_one_input():
    example = torch.zeros(1, 3, 4, 5).to(memory_format=torch.channels_last)
    program = on_the_gpu(torch.export.export(nn.ReLU(), (example,)))
    imported = import_exported_program(program, Context())
    storage = '#torsh.tensor<layout = [0, 2, 3, 1], device = "cuda:0">'
    assert str(imported.module).count(f"tensor<1x3x4x5xf32, {storage}>") >= 3

    ctx = Context()
    for one in gpu_stages(ctx):
        one.apply(ctx, imported.module)
    device = Simulator(llvm_text(gpu_module(imported.module), GPU_TARGETS["sm_80"]))
    x = np.random.default_rng(2).standard_normal((1, 3, 4, 5)).astype(np.float32)
    (found,) = GpuProgram(imported.module, device)(x)
    np.testing.assert_array_equal(found, np.maximum(x, 0))
