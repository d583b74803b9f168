"""`torsh_fx.compile` and what a compiled model can do."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch_oracle import Total

import torsh_fx
from torsh_fx import ModuleTracer, Node
from torsh_fx.errors import InputError, InvalidArgumentError, TorshError, UnsupportedFormat


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(6, 8)
        self.second = torch.nn.Linear(8, 3)

    def forward(self, x, scale=None):
        y = self.second(torch.relu(self.first(x)))
        return {"logits": y if scale is None else y * scale, "sum": y.sum(1)}


@pytest.fixture(scope="module")
def mlp():
    torch.manual_seed(0)
    return Mlp().eval()


@pytest.fixture(scope="module")
def compiled(mlp):
    x = torch.randn(4, 6)
    return torsh_fx.compile(mlp, (x, torch.randn(3)))


def expected(mlp, *args):
    with torch.no_grad():
        return mlp(*args)


def test_kinds_names_and_structures(mlp, compiled):
    x, scale = torch.randn(4, 6), torch.randn(3)
    wanted = expected(mlp, x, scale)
    found = compiled(x, scale)
    assert isinstance(found, dict)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    arrays = compiled(x.numpy(), scale.numpy())
    assert isinstance(arrays["logits"], np.ndarray)
    np.testing.assert_array_equal(arrays["logits"], found["logits"].numpy())


def test_inputs_are_read_where_they_are(compiled):
    x, scale = torch.randn(4, 6), torch.randn(3)
    array = x.numpy()
    first = compiled(x, scale)["sum"]
    array[:] += 1
    assert not torch.equal(compiled(x, scale)["sum"], first)
    x, scale = x.contiguous(), scale.contiguous()
    outputs = [np.empty((4, 3), np.float32), np.empty(4, np.float32)]
    compiled.run_into([x.numpy(), scale.numpy()], outputs)
    np.testing.assert_array_equal(outputs[1], compiled(x, scale)["sum"].numpy())


def test_wrong_calls_are_refused_with_names(compiled):
    x, scale = np.zeros((4, 6), np.float32), np.zeros(3, np.float32)
    with pytest.raises(InputError, match="x"):
        compiled(x[:3], scale)
    with pytest.raises(InputError, match="float64"):
        compiled(x.astype(np.float64), scale)
    with pytest.raises(TorshError):
        compiled(x)


def test_threads_and_numerics_keep_the_bits(mlp):
    x = torch.randn(64, 6)
    results = [
        torsh_fx.compile(mlp, (x,), **options)(x)["logits"].numpy().tobytes()
        for options in ({"threads": 1}, {"threads": 2}, {"cache": False})
    ]
    assert len(set(results)) == 1
    strict = torsh_fx.compile(mlp, (x,), settings=torsh_fx.Settings(numerics="strict"))
    torch.testing.assert_close(
        strict(x)["logits"], expected(mlp, x)["logits"], rtol=1e-5, atol=1e-5
    )


def test_weights_can_be_swapped(mlp, compiled):
    x, scale = torch.randn(4, 6), torch.randn(3)
    other = Mlp().eval()
    f = torsh_fx.compile(mlp, (x, scale))
    f.update_weights(dict(other.state_dict()))
    torch.testing.assert_close(f(x, scale)["sum"], expected(other, x, scale)["sum"])
    f.update_weights({"first.bias": mlp.first.bias.detach().numpy()})
    with torch.no_grad():
        other.first.bias.copy_(mlp.first.bias)
    torch.testing.assert_close(f(x, scale)["sum"], expected(other, x, scale)["sum"])
    with pytest.raises(InvalidArgumentError, match=r"no weight 'third\.bias'"):
        f.update_weights({"third.bias": np.zeros(3, np.float32)})
    with pytest.raises(InvalidArgumentError, match=r"float32\[7\], expected float32\[8\]"):
        f.update_weights({"first.bias": np.zeros(7, np.float32)})


def test_swapped_weights_are_saved(mlp, tmp_path):
    x, scale = torch.randn(4, 6), torch.randn(3)
    other = Mlp().eval()
    f = torsh_fx.compile(mlp, (x, scale))
    f.update_weights(dict(other.state_dict()))
    f.save(tmp_path / "m.mlir")
    again = torsh_fx.load(tmp_path / "m.mlir")
    arrays = again(x.numpy(), scale.numpy())
    np.testing.assert_array_equal(arrays[1], f(x, scale)["sum"].numpy())


def test_the_graph_is_a_copy_that_compiles_again(mlp, compiled):
    graph = compiled.graph
    before = compiled.graph.mlir()
    for index, node in graph.nodes():
        if isinstance(node, Node.Call) and node.operation == "relu":
            graph.set_node(index, Node.Call("sigmoid", node.arguments))
    assert compiled.graph.mlir() == before
    x, scale = torch.randn(4, 6), torch.randn(3)
    found = torsh_fx.compile(graph)(x, scale)
    with torch.no_grad():
        wanted = mlp.second(torch.sigmoid(mlp.first(x)))
    torch.testing.assert_close(found[0], wanted * scale, rtol=1e-5, atol=1e-5)


def test_a_session_keeps_state():
    x = torch.ones(2)
    f = torsh_fx.compile(Total(2, times=10), (x,))
    assert f.input_names == ("x",)
    first, second = f.session(), f.session()
    assert [first(x)[0].item() for _ in range(3)] == [10, 20, 30]
    assert second(x)[0].item() == 10
    assert f(x)[0].item() == 10  # a plain call starts anew
    np.testing.assert_array_equal(first.state["total"], [3, 3])
    first.reset()
    assert first(x)[0].item() == 10


def test_a_profile_names_the_kernels(mlp, compiled):
    table = compiled.profile(torch.randn(4, 6), torch.randn(3)).table()
    assert "linear" in table


def test_threads_call_one_model_at_once(mlp, compiled):
    scale = torch.randn(3)
    inputs = [torch.randn(4, 6) for _ in range(8)]
    alone = [compiled(x, scale)["sum"] for x in inputs]
    found: dict[int, bool] = {}

    def work(n):
        found[n] = all(torch.equal(compiled(inputs[n], scale)["sum"], alone[n]) for _ in range(50))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), True)


def test_what_is_no_model_is_refused():
    with pytest.raises(InvalidArgumentError, match="int is no model"):
        torsh_fx.compile(3)
    tracer = ModuleTracer()
    tracer.add_input("x")
    tracer.add_output("x")
    graph = tracer.finalize()
    with pytest.raises(InvalidArgumentError, match="'x' has no type"):
        torsh_fx.compile(graph)
    error = UnsupportedFormat("caffe", ("onnx", "pytorch"))
    assert (error.format, "caffe" in str(error)) == ("caffe", True)


def test_public_names_exist_and_import_little():
    assert set(torsh_fx.__all__) <= set(dir(torsh_fx))
    for name in torsh_fx.__all__:
        assert getattr(torsh_fx, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        torsh_fx.nothing  # noqa: B018
    code = (
        "import time, numpy; a = time.process_time(); import xdsl.dialects.builtin;"
        "import xdsl.dialects.func; b = time.process_time(); import torsh_fx; torsh_fx.compile;"
        "torsh_fx.FxGraph; print((time.process_time() - b) / (b - a))"
    )
    ratios = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(ratios) <= 5, "the compiler and all its ops, in imports of xdsl's core"
