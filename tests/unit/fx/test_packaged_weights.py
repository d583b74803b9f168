"""Weights of a packaged model: others by name, checked, without the compiler (guide B, step 3)."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import torsh_fx
from torsh_dialect.errors import InvalidArgumentError
from torsh_fx.packaged import PackagedModel
from torsh_package import FormatConverter, Package, ResourceType


class Net(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(6)
        self.fc1 = nn.Linear(8 * 6 * 6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc1(self.norm(self.conv(x)).relu().flatten(1))


X = torch.linspace(-1, 1, 2 * 3 * 36).reshape(2, 3, 6, 6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "net.torshpkg"
    torsh_fx.compile(Net(0).eval(), (X,)).save(path)
    return path


@pytest.fixture
def model(saved: Path) -> PackagedModel:
    found = torsh_fx.load(saved)
    assert isinstance(found, PackagedModel)
    return found


def check(model: PackagedModel, net: nn.Module) -> None:
    torch.testing.assert_close(model.forward(X), net(X), rtol=1e-4, atol=1e-5)


def test_the_package_is_a_callable(model: PackagedModel) -> None:
    check(model, Net(0))
    state = Net(0).state_dict()
    assert {name: dims for name, (_, dims) in model.weight_types.items()} == {
        name: tuple(tensor.shape) for name, tensor in state.items()
    }


def test_all_weights_by_name(model: PackagedModel) -> None:
    model.load_weights(Net(1).state_dict())
    check(model, Net(1))
    model.load_weights({name: w.numpy() for name, w in Net(2).state_dict().items()})
    check(model, Net(2))


def test_from_a_resource_or_npz_bytes(model: PackagedModel, tmp_path: Path) -> None:
    arrays = {name: w.numpy() for name, w in Net(3).state_dict().items()}
    blob = io.BytesIO()
    np.savez(blob, **arrays)
    model.load_weights(blob.getvalue())
    check(model, Net(3))
    torch.save(Net(4).state_dict(), tmp_path / "m.pt")
    package = FormatConverter().convert_from_pytorch(tmp_path / "m.pt")
    package.add_resource("npz", blob.getvalue(), ResourceType.ModelWeights)
    package.save(tmp_path / "m.torshpkg")
    loaded = Package.load(tmp_path / "m.torshpkg")
    model.load_weights(loaded.get_resource("weights"))
    check(model, Net(4))
    model.load_weights(loaded.get_resource("npz"))
    check(model, Net(3))
    with pytest.raises(InvalidArgumentError, match=r"no \.npz file"):
        model.load_weights(b"PK\x03\x04 and nothing")


def test_one_parameter(model: PackagedModel) -> None:
    net = Net(5)
    model.load_weights(net.state_dict())
    with torch.no_grad():
        net.fc1.weight.mul_(2)
        net.norm.bias.add_(1)
    model.set_parameter("fc1.weight", net.fc1.weight.detach())
    model.set_parameter("norm.bias", net.norm.bias.detach().numpy())
    check(model, net)
    with pytest.raises(InvalidArgumentError, match=r"no weight 'fc9'; it has .*fc1\.weight"):
        model.set_parameter("fc9", net.fc1.weight)


def test_one_parameter_needs_the_others_once(model: PackagedModel) -> None:
    with pytest.raises(InvalidArgumentError, match="load all weights once"):
        model.set_parameter("fc1.weight", Net(1).fc1.weight.detach())
    check(model, Net(0))


def test_names_are_mapped(model: PackagedModel) -> None:
    """Guide B, "Weights Not Loading"."""
    given = {name.replace("fc1", "head"): w for name, w in Net(6).state_dict().items()}
    with pytest.raises(
        InvalidArgumentError, match=r"head\.weight is not in the model.*fc1\.weight is missing"
    ):
        model.load_weights(given)  # fmt: skip
    model.load_weights(given, mapping={"head.weight": "fc1.weight", "head.bias": "fc1.bias"})
    check(model, Net(6))


def test_strict_names_and_shapes(model: PackagedModel) -> None:
    state = Net(7).state_dict()
    with pytest.raises(InvalidArgumentError, match=r"extra is not in the model"):
        model.load_weights({**state, "extra": torch.ones(1)})
    wrong = {**state, "fc1.bias": torch.ones(11), "norm.weight": state["norm.weight"].double()}
    for strict in (True, False):
        with pytest.raises(InvalidArgumentError) as caught:
            model.load_weights(wrong, strict)
        assert "fc1.bias is float32[11], expected f32[10]" in str(caught.value)
        assert "norm.weight is float64[6], expected f32[6]" in str(caught.value)
    check(model, Net(0))
    model.load_weights({**state, "extra": torch.ones(1)}, strict=False)
    check(model, Net(7))


def test_without_compiler_and_frameworks(saved: Path, tmp_path: Path) -> None:
    net = Net(8)
    np.savez(tmp_path / "w.npz", **{name: w.numpy() for name, w in net.state_dict().items()})
    np.save(tmp_path / "x.npy", X.numpy())
    code = f"""
import sys
import numpy as np
from torsh_fx.packaged import load_package
model = load_package({str(saved)!r})
model.load_weights(open({str(tmp_path / "w.npz")!r}, "rb").read())
np.save({str(tmp_path / "y.npy")!r}, model(np.load({str(tmp_path / "x.npy")!r})))
heavy = {{"xdsl", "torch", "onnx", "llvmlite"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = net(X).detach().numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-5)
