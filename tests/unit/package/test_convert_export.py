"""Back to foreign formats: read by the libraries that own them, equal to the bit."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.package import PackageImporter

from torsh_package import Package, ResourceType
from torsh_package.convert import (
    FormatConverter,
    export,
    export_pytorch_weights,
    module_tensors,
)
from torsh_package.errors import ConversionError

TENSORS = {
    "f": np.arange(6, dtype=np.float32).reshape(2, 3), "t": np.arange(6.0).reshape(2, 3).T,
    "bf": np.arange(3).astype(ml_dtypes.bfloat16),
    "f8": np.arange(3).astype(ml_dtypes.float8_e4m3fn),
    "u16": np.arange(3, dtype=np.uint16), "b": np.array([True, False]), "s": np.array(7),
    "e": np.zeros((0, 2), np.int8),
    "c": np.array([1 + 2j], np.complex64), "h": np.ones(2, np.float16),
}  # fmt: skip


@pytest.fixture
def package() -> Package:
    made = Package("m", "1.0.0")
    made.add_resource("weights", TENSORS, ResourceType.ModelWeights)
    made.add_source_file("net.py", "ANSWER = 42\n")
    made.add_resource("config", '{"a": 1}', ResourceType.Config)
    return made


def same(found: dict[str, torch.Tensor], names: set[str]) -> None:
    assert set(found) == names
    for name in names:
        array = np.ascontiguousarray(TENSORS[name])
        assert tuple(found[name].shape) == TENSORS[name].shape
        assert str(found[name].dtype) == f"torch.{array.dtype.name}"
        if array.size:
            raw = found[name].contiguous().reshape(-1).view(torch.uint8).numpy()
            assert raw.tobytes() == array.tobytes()


def test_safetensors(tmp_path: Path, package: Package) -> None:
    path = tmp_path / "w.safetensors"
    export(package, path)
    same(safetensors.torch.load_file(path), set(TENSORS))
    with safetensors.safe_open(path, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    first = path.read_bytes()
    export(package, path)
    assert path.read_bytes() == first


def test_npz(tmp_path: Path, package: Package) -> None:
    path = tmp_path / "w.npz"
    with pytest.raises(ConversionError, match=r"bfloat16|float8"):
        export(package, path)
    assert not path.exists()
    plain = {n: a for n, a in TENSORS.items() if n not in ("bf", "f8")}
    other = Package("m", "1.0.0")
    other.add_resource("weights", plain, ResourceType.ModelWeights)
    export(other, path)
    with np.load(path, allow_pickle=False) as found:
        assert set(found.files) == set(plain)
        for name, array in plain.items():
            assert np.array_equal(found[name], array)
            assert found[name].dtype == array.dtype


@pytest.mark.parametrize("mapped", [False, True])
def test_torch_checkpoint(tmp_path: Path, package: Package, mapped: bool) -> None:
    path = tmp_path / "w.pt"
    export(package, path)
    same(torch.load(path, weights_only=True, mmap=mapped), set(TENSORS))


@pytest.mark.filterwarnings("ignore:.*TypedStorage")
def test_torch_package(tmp_path: Path, package: Package) -> None:
    path = tmp_path / "w.pt"
    export(package, path, "torch.package")
    importer = PackageImporter(path)
    same(importer.load_pickle("weights", "weights.pkl"), set(TENSORS))
    assert importer.import_module("net").ANSWER == 42
    assert importer.load_text("resources", "config") == '{"a": 1}'


def test_unknown_kinds(tmp_path: Path, package: Package) -> None:
    with pytest.raises(ConversionError, match="known are"):
        export(package, tmp_path / "w.h5")
    bare = Package("m", "1.0.0")
    bare.add_resource("weights", b"1234", ResourceType.ModelWeights)
    with pytest.raises(ConversionError, match="no table"):
        export(bare, tmp_path / "w.npz")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(64, 64, bias=False)
        self.b = nn.Linear(64, 64, bias=False)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm1d(64)
        self.low = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".torshpkg"])
def test_weights_of_a_module(tmp_path: Path, suffix: str) -> None:
    model, path = Tied(), tmp_path / f"w{suffix}"
    export_pytorch_weights(model, path)
    if suffix == ".safetensors":
        found = safetensors.torch.load_file(path)
    elif suffix == ".pt":
        found = torch.load(path, weights_only=True)
        assert found["a.weight"].data_ptr() == found["b.weight"].data_ptr()
    else:
        arrays = Package.load(path).get_resource("weights").tensors
        export(Package.load(path), tmp_path / "x.pt")
        found = torch.load(tmp_path / "x.pt", weights_only=True)
        assert set(arrays) == set(found)
        assert path.stat().st_size < 2 * 64 * 64 * 4  # the tied weight is there once
    model.load_state_dict(found)  # strict: running statistics are there too
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[name], tensor)


def test_weights_of_a_module_as_npz(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    export_pytorch_weights(model, tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz", allow_pickle=False) as found:
        assert set(found.files) == set(model.state_dict())
        assert np.array_equal(found["0.weight"], model[0].weight.detach().numpy())
    with pytest.raises(ConversionError, match="equivalent"):
        module_tensors(_Sparse())
    with pytest.raises(ConversionError, match=r"use \.npz"):
        export_pytorch_weights(model, tmp_path / "w.h5")


class _Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("s", torch.eye(2).to_sparse())


def test_there_and_back(tmp_path: Path, package: Package) -> None:
    for kind in ("safetensors", "torch", "torch.package"):
        path = tmp_path / kind
        export(package, path, kind)
        found = FormatConverter().convert(path).get_resource("weights").tensors
        assert set(found) == set(TENSORS)
        for name, array in TENSORS.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)
