"""Tensors of every kind of torch file, against torch itself."""

import argparse
import collections
import importlib
import io
import json
import pathlib
import pickle
import re
import struct
import sys
import tarfile
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch_help import rezip

from torsh_package.convert import PackageFormat, detect_format
from torsh_package.convert.torch_file import read_torch
from torsh_package.errors import ConversionError

DATA = Path(__file__).parent / "data"


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(TypedStorage|quant|sparse|Sparse|jit|torch.jit).*"
)


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    raw = (
        tensor.reshape(-1).view(torch.uint8)
        if tensor.numel()
        else torch.empty(0, dtype=torch.uint8)
    )
    return raw.numpy()


def same(found: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].shape == tuple(tensor.shape), name
        assert found[name].dtype.name == str(tensor.dtype).removeprefix("torch."), name
        raw = np.ascontiguousarray(found[name]).reshape(-1).view(np.uint8)
        assert np.array_equal(raw, as_numpy(tensor)), name


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 4, bias=False)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.head.weight
        self.register_buffer("scale", torch.tensor(2.0, dtype=torch.bfloat16))
        self.register_buffer("cache", torch.ones(3), persistent=False)
        self.stride = torch.tensor([8.0, 16.0])


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An importable module, so that whole models can be pickled by reference."""
    found = types.ModuleType("gone_models")
    found.Net = Net  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "gone_models", found)
    monkeypatch.setattr(Net, "__module__", "gone_models")
    return found


DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16,
    torch.uint32, torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_dtype_and_layout(tmp_path: Path, zipped: bool) -> None:
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    state = {str(d): (torch.rand(3, 2) * 4).to(d) for d in DTYPES}
    state |= {
        "transposed": base.T, "strided": base[1:3, ::2], "offset": base[2], "scalar": base[0, 0],
        "expanded": base[:1].expand(5, 6), "empty": torch.empty(0, 3), "rank0": torch.tensor(7),
        "conjugate": torch.randn(3, dtype=torch.complex64).conj(), "zero_d": torch.empty(2, 0, 4),
        "negative": torch.randn(3, dtype=torch.complex64).conj().imag,
    }  # fmt: skip
    if not zipped:  # torch cannot read these from its own legacy files
        state = {
            n: t for n, t in state.items() if not re.match(r"torch.(uint(16|32|64)|float8)", n)
        }
    path = tmp_path / "state.pt"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    same(read_torch(path).weights, torch.load(path, weights_only=True))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_whole_modules_without_their_class(
    tmp_path: Path, module: types.ModuleType, zipped: bool, protocol: int
) -> None:
    model = module.Net()
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch cannot find the source of the class
        torch.save(model, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    expected = model.state_dict()
    del sys.modules["gone_models"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gone_models")
    found = read_torch(path)
    same(found.weights, expected)
    assert set(found.extra) == {"cache", "stride"}
    assert found.modules[""] == "gone_models.Net"
    assert found.modules["stem.0"] == "torch.nn.modules.conv.Conv2d"
    assert found.weights["tied.weight"].ctypes.data == found.weights["head.weight"].ctypes.data


def _checkpoints(model: nn.Module) -> dict[str, tuple[object, str]]:
    """Name to (checkpoint, where its model is)."""
    state, optimizer = model.state_dict(), torch.optim.Adam(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    state = {name: tensor.clone() for name, tensor in state.items()}
    lightning = {
        "epoch": 3, "global_step": 40, "pytorch-lightning_version": "2.4.0",
        "state_dict": collections.OrderedDict(state), "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [], "hyper_parameters": {"lr": 1e-3, "path": pathlib.PurePosixPath("a/b")},
    }  # fmt: skip
    return {
        "plain state dict": (state, ""),
        "ordered dict": (collections.OrderedDict(state), ""),
        "model and optimizer": ({"model": state, "optimizer": optimizer.state_dict()}, "model"),
        "model_state_dict": ({"epoch": 1, "model_state_dict": state}, "model_state_dict"),
        "lightning": (lightning, "state_dict"),
        "nested": ({"model": {"state_dict": state, "meta": "x"}}, "model.state_dict"),
        "arguments": ({"args": argparse.Namespace(lr=0.1, layers=[1, 2]), "model": state}, "model"),
        "parameters": ({k: nn.Parameter(v, v.requires_grad) for k, v in state.items()}, ""),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(_checkpoints(Net())))
def test_checkpoints_of_training_loops(tmp_path: Path, name: str) -> None:
    checkpoint, root = _checkpoints(Net())[name]
    path = tmp_path / "checkpoint.ckpt"
    torch.save(checkpoint, path)
    expected = torch.load(path, weights_only=False)
    for key in root.split(".") if root else ():
        expected = expected[key]
    found = read_torch(path)
    same(found.weights, dict(expected))
    assert bool(root) == any(root in note for note in found.notes)
    if name == "lightning":
        assert found.facts["epoch"] == 3
        assert found.extra["optimizer_states.0.state.0.exp_avg"].shape == (4, 3, 3, 3)
        assert any(s.what == "pathlib.PurePosixPath" for s in found.skipped)
    if name == "arguments":
        assert found.facts["args.lr"] == 0.1
        assert any(s.what == "argparse.Namespace" for s in found.skipped)


def _foreign(name: str, module: str, **state: object) -> object:
    """An instance of a class that exists only while it is pickled."""
    holder = types.ModuleType(module)
    kind = type(name, (), {"__module__": module})
    setattr(holder, name, kind)
    sys.modules[module] = holder
    made = kind()
    made.__dict__.update(state)
    return made


def test_foreign_objects_around_and_inside(tmp_path: Path, module: types.ModuleType) -> None:
    """The shape of an ultralytics checkpoint with an omegaconf-like configuration."""
    config = _foreign("DictConfig", "omegaconf_like", _content={"lr": 0.1}, _parent=None)
    config._parent = config  # pyright: ignore[reportAttributeAccessIssue]
    averaged = _foreign("ModelEMA", "ultra_like", ema=module.Net(), updates=5)
    model = module.Net()
    checkpoint = {"epoch": -1, "model": model, "ema": averaged, "train_args": config, "date": "x"}
    path = tmp_path / "best.pt"
    torch.save(checkpoint, path)
    for gone in ("omegaconf_like", "ultra_like", "gone_models"):
        del sys.modules[gone]
    found = read_torch(path)
    same(found.weights, model.state_dict())
    assert {name for name in found.extra if name.startswith("ema.ema.stem")}
    classes = {row.what: row for row in found.skipped}
    assert "omegaconf_like.DictConfig" in classes
    assert "ultra_like.ModelEMA" in classes
    assert "holds itself" in classes["reference"].why
    assert found.facts["train_args._content.lr"] == 0.1
    other = read_torch(path, root="ema.ema")
    same(other.weights, averaged.ema.state_dict())  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ConversionError, match="there are"):
        read_torch(path, root="emma")


@pytest.mark.filterwarnings("ignore")
def test_quantized_sparse_meta_and_numpy(tmp_path: Path) -> None:
    values = torch.randn(4, 3)
    per_tensor = torch.quantize_per_tensor(values, 0.1, 2, torch.qint8)
    scales, points = torch.rand(4) + 0.1, torch.zeros(4, dtype=torch.int64)
    per_channel = torch.quantize_per_channel(values, scales.double(), points, 0, torch.quint8)
    sparse = torch.tensor([[0.0, 2.0], [3.0, 0.0]]).to_sparse()
    path = tmp_path / "odd.pt"
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    torch.save({"q": per_tensor, "c": per_channel, "s": sparse, "csr": sparse.to_sparse_csr(),
                "m": torch.empty(2, device="meta"), "n": array, "b": np.arange(3, dtype=">i4"),
                "o": np.array([None, 1], dtype=object)}, path)  # fmt: skip
    found = read_torch(path)
    same({"q": found.weights["q"], "c": found.weights["c"]},
         {"q": per_tensor.int_repr(), "c": per_channel.int_repr()})  # fmt: skip
    assert float(found.weights["q.scale"]) == per_tensor.q_scale()
    assert int(found.weights["q.zero_point"]) == 2
    assert np.array_equal(found.weights["c.scale"], scales.double().numpy())
    assert np.array_equal(found.weights["s.values"], [2.0, 3.0])
    assert np.array_equal(found.weights["csr.crow_indices"], [0, 1, 2])
    assert np.array_equal(found.weights["n"], array)
    assert np.array_equal(found.weights["b"], [0, 1, 2])
    assert {row.where for row in found.skipped} == {"m", "o"}


def test_bare_pickles_of_arrays_and_tensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    state = {"t": torch.randn(2, 3), "n": np.arange(4.0)}
    path.write_bytes(pickle.dumps(state, 4))
    found = read_torch(path).weights
    assert np.array_equal(found["t"], state["t"].numpy())
    assert np.array_equal(found["n"], state["n"])


def _write_tar(path: Path, tensor: torch.Tensor) -> None:
    """The layout of torch 0.1.1, which torch still reads but no longer writes."""

    class Reference:
        def __init__(self, key: int):
            self.key = key

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return str(obj.key) if isinstance(obj, Reference) else None

    storages, tensors, main = io.BytesIO(), io.BytesIO(), io.BytesIO()
    flat = tensor.contiguous().reshape(-1)
    pickle.dump(1, storages, 2)
    pickle.dump((7, "cpu", torch.FloatStorage), storages, 2)
    storages.write(struct.pack("<q", flat.numel()) + flat.numpy().tobytes())
    pickle.dump([(8, 7, 2, 4)], storages, 2)
    pickle.dump(2, tensors, 2)
    for key, storage, shape, strides, offset in (
        (20, 7, tuple(tensor.shape), tuple(tensor.stride()), 0), (21, 8, (2,), (2,), 1)
    ):  # fmt: skip
        pickle.dump((key, storage, torch.FloatTensor), tensors, 2)
        tensors.write(struct.pack("<i", len(shape)) + b"\0" * 4)
        tensors.write(struct.pack(f"<{2 * len(shape) + 1}q", *shape, *strides, offset))
    Pickler(main, 2).dump(collections.OrderedDict(w=Reference(20), v=Reference(21)))
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, stream in (("storages", storages), ("tensors", tensors), ("pickle", main)):
            data = stream.getvalue()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_the_tar_archive_of_torch_0_1(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    _write_tar(path, torch.arange(6.0).reshape(2, 3))
    same(read_torch(path).weights, torch.load(path, weights_only=False))
    assert detect_format(path) is PackageFormat.PYTORCH


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.register_buffer("k", torch.arange(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * 2


@pytest.mark.filterwarnings("ignore")
def test_torchscript(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    model = Scripted()
    torch.jit.save(torch.jit.script(model), path)
    found = read_torch(path)
    same(found.weights, torch.jit.load(path).state_dict())
    assert any("def forward" in text.decode() for text in found.files.values())


@pytest.mark.filterwarnings("ignore")
def test_torch_export(tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    program = torch.export.export(Scripted(), (torch.randn(1, 3),))
    torch.export.save(program, path)
    found = read_torch(path)
    same(found.weights, dict(torch.export.load(path).state_dict))
    assert "export/models/model.json" in found.files


@pytest.mark.parametrize(
    "name", ["control_flow_module", "extern_torch_nn", "intern_model", "text_binary_source"]
)
def test_torch_package_archives(name: str, tmp_path: Path) -> None:
    """Archives whose contents were recorded by torch's own importer."""
    expected = json.loads((DATA / f"{name}.json").read_text())
    found = read_torch(DATA / f"{name}.pt")
    for pickled in expected.get("pickles", {}).values():
        assert set(found.weights) == set(pickled["state"])
        for key, row in pickled["state"].items():
            assert list(found.weights[key].shape) == row["shape"]
            assert f"torch.{found.weights[key].dtype.name}" == row["dtype"]
            assert float(found.weights[key].astype(np.float64).sum()) == pytest.approx(
                row["sum"], rel=1e-6
            )
    for path, text in {**expected.get("text", {})}.items():
        assert found.files[path].decode() == text
    for path, text in expected.get("source", {}).items():
        assert found.sources[path] == text
    interned = {m.replace(".", "/") for m in expected.get("interned", [])}
    sources = {p.removesuffix(".py").removesuffix("/__init__") for p in found.sources}
    assert interned - {"tpk"} <= sources
    assert found.environment["python_version"] == expected["python_version"]
    externs = {m.split(".")[0] for m in expected["extern_modules"]} - sys.stdlib_module_names
    assert {d.name for d in found.dependencies} == externs


def _legacy_view(path: Path, offset: int, count: int) -> Path:
    """A file before 1.6 whose tensor lies in a view of a storage of 6 floats."""

    class Emit(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            if isinstance(obj, torch.storage.UntypedStorage):
                return ("storage", torch.FloatStorage, "7", "cpu", 6, ("8", offset, count))
            return None

    class Call:
        def __reduce__(self):
            return torch._utils._rebuild_tensor, (torch.UntypedStorage(0), 0, (2,), (1,))

    with path.open("wb") as stream:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
        for value in (0x1950A86A20F9469CFC6C, 1001, system):
            pickle.dump(value, stream, 2)
        Emit(stream, 2).dump({"w": Call()})
        pickle.dump(["7"], stream, 2)
        stream.write(struct.pack("<q", 6) + np.arange(6, dtype=np.float32).tobytes())
    return path


def test_views_of_legacy_storages(tmp_path: Path) -> None:
    path = _legacy_view(tmp_path / "v.pt", 3, 2)
    found = read_torch(path).weights
    assert found["w"].tolist() == [3, 4]
    same(found, torch.load(path, weights_only=False))
    for offset, count in ((5, 2), (0, 7), (-1, 2), (1 << 62, 2), (7, 0)):
        with pytest.raises(ConversionError):
            read_torch(_legacy_view(path, offset, count))


def test_big_endian_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(3.0), "c": torch.arange(2).to(torch.complex64)}, path)
    with zipfile.ZipFile(path) as source:
        entries = {n: source.read(n) for n in source.namelist()}
    entries["a/byteorder"] = b"big"
    entries["a/data/0"] = np.arange(3, dtype=">f4").tobytes()
    entries["a/data/1"] = np.arange(2).astype(">c8").tobytes()
    rezip(path, entries)
    found = read_torch(path).weights
    assert np.array_equal(found["w"], np.arange(3.0))
    assert np.array_equal(found["c"], np.arange(2).astype(np.complex64))
