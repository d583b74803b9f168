"""`f.save("m.torshpkg")` and `torsh_fx.load` of it: the same bytes, without the compiler."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.errors import InvalidArgumentError, UnsupportedError
from torsh_package import Package, PackageError

ROOT = Path(__file__).resolve().parents[3]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, x, scale):
        y = self.linear(x) * scale
        return y.relu(), y.sum(-1)


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.full((3,), 2.0))

    def forward(self, x):
        self.seen.add_(x)
        return self.seen * 10


@pytest.fixture(scope="module")
def compiled():
    torch.manual_seed(0)
    return torsh_fx.compile(Net().eval(), (torch.randn(2, 8), torch.randn(4)))


@pytest.fixture(scope="module")
def saved(compiled, tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "My Model.torshpkg"
    compiled.save(path)
    return path


FRESH = """
import sys, numpy as np, torsh_fx
f = torsh_fx.load(sys.argv[1])
given = np.load(sys.argv[2])
first, second = f(given["x"], scale=given["scale"])
np.savez(sys.argv[3], first=first, second=second)
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"onnx", "torch", "xdsl"}))
"""


def test_a_fresh_process_gives_the_same_bytes_without_the_compiler(compiled, saved, tmp_path):
    rng = np.random.default_rng(0)
    given = {
        "x": rng.normal(size=(2, 8)).astype(np.float32),
        "scale": rng.normal(size=4).astype(np.float32),
    }
    np.savez(tmp_path / "in.npz", **given)
    script = [sys.executable, "-c", FRESH, saved, tmp_path / "in.npz", tmp_path / "out.npz"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    made = np.load(tmp_path / "out.npz")
    first, second = compiled(**given)
    assert made["first"].tobytes() == first.tobytes()
    assert made["second"].tobytes() == second.tobytes()


def test_tensors_in_tensors_out(compiled, saved):
    x, scale = torch.randn(2, 8), torch.randn(4)
    loaded = torsh_fx.load(saved)
    for mine, theirs in zip(loaded(x, scale), compiled(x, scale), strict=True):
        assert torch.equal(mine, theirs)
    assert loaded.input_names == compiled.input_names
    assert loaded.output_names == compiled.output_names
    with pytest.raises(InvalidArgumentError, match="needed: x, scale"):
        loaded(x)


def test_a_call_starts_from_the_first_state(tmp_path):
    x = torch.arange(3.0)
    compiled = torsh_fx.compile(Counter(), (x,))
    compiled.save(tmp_path / "c.torshpkg")
    loaded = torsh_fx.load(tmp_path / "c.torshpkg")
    assert loaded.input_names == compiled.input_names == ("x",)
    for _ in range(2):
        assert loaded(x).tolist() == Counter()(x).tolist()
    outputs = loaded.run([x.numpy(), np.float32([5, 6, 7])])
    assert [one.tolist() for one in outputs] == [[50, 70, 90], [5, 7, 9]]


def test_weights_of_the_moment_are_saved(tmp_path):
    torch.manual_seed(1)
    net, given = Net().eval(), (torch.randn(2, 8), torch.randn(4))
    compiled = torsh_fx.compile(net, given)
    compiled.update_weights({"linear.weight": torch.zeros(4, 8)})
    compiled.save(tmp_path / "z.torshpkg")
    expected = (net.linear.bias * given[1]).relu().expand(2, 4)
    torch.testing.assert_close(torsh_fx.load(tmp_path / "z.torshpkg")(*given)[0], expected)


def test_the_package_is_named_after_the_file_and_has_the_program(saved):
    package = Package.load(saved)
    assert package.name == "my-model"
    assert b"torsh.linear" in bytes(package.get_resource("program/model.mlir").data)


def test_a_damaged_package_is_refused(saved, tmp_path):
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "d.torshpkg").write_bytes(data)
    with pytest.raises(PackageError):
        torsh_fx.load(tmp_path / "d.torshpkg")


def test_a_model_with_host_functions_is_refused(tmp_path):
    make = helper.make_node
    nodes = [
        make("SequenceConstruct", ["x", "x"], ["s"]),
        make("SequenceInsert", ["s", "x"], ["t"]),
        make("SequenceAt", ["t", "one"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, ["n"])], [info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(1), "one")],
    )  # fmt: skip
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    compiled = torsh_fx.compile(model)
    if not hasattr(compiled, "host_ops"):
        pytest.skip("the sequence was folded")
    with pytest.raises(UnsupportedError, match=r"save the model as \.mlir"):
        compiled.save(tmp_path / "s.torshpkg")
    assert not list(tmp_path.iterdir())
