"""Guide B's migration, as written there, in Python; and what a conversion leaves on record."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.package import PackageExporter

from torsh_package import Package
from torsh_package.convert import FormatConverter
from torsh_package.errors import ConversionError

ROOT = Path(__file__).parents[3]
DATA = Path(__file__).parent / "data"


def check_pytorch_migration(pytorch_package: str, torsh_package: str) -> None:
    """Guide B, "Automated Migration Test"."""
    # Step 1: Convert PyTorch package
    converter = FormatConverter()
    package = converter.convert_from_pytorch(pytorch_package)

    # Step 2: Save as ToRSh package
    package.save(torsh_package)

    # Step 3: Verify can be loaded
    loaded = Package.load(torsh_package)

    # Step 4: Compare resources
    assert len(package.list_resources()) == len(loaded.list_resources())

    # Step 5: Verify weights match
    original_weights = package.get_resource("weights")
    loaded_weights = loaded.get_resource("weights")
    assert original_weights.data == loaded_weights.data

    print("Migration successful!")


@pytest.mark.filterwarnings("ignore:.*TypedStorage")
def test_pytorch_migration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(784, 10), nn.BatchNorm1d(10))
    with PackageExporter(tmp_path / "model.pt") as exporter:
        exporter.extern("torch.**")
        exporter.save_pickle("model", "model.pkl", model)
        exporter.save_text("config", "config.json", '{"classes": 10}')
        exporter.save_source_string("helpers.math", "def double(x):\n    return 2 * x\n")
    before = (tmp_path / "model.pt").read_bytes()
    check_pytorch_migration(str(tmp_path / "model.pt"), str(tmp_path / "model.torshpkg"))
    assert capsys.readouterr().out == "Migration successful!\n"
    assert (tmp_path / "model.pt").read_bytes() == before

    loaded = Package.load(tmp_path / "model.torshpkg")
    tensors = loaded.get_resource("weights").tensors
    state = model.state_dict()
    assert set(tensors) == set(state)
    assert all(torch.equal(torch.from_numpy(tensors[n].copy()), t) for n, t in state.items())
    assert loaded.get_resource("config/config.json").json() == {"classes": 10}
    assert "def double" in loaded.get_resource("code/helpers/math.py").text()
    assert [d.name for d in loaded.dependencies] == ["torch"]


@pytest.mark.parametrize("name", ["control_flow_module", "extern_torch_nn", "intern_model"])
def test_migration_of_recorded_archives(tmp_path: Path, name: str) -> None:
    check_pytorch_migration(str(DATA / f"{name}.pt"), str(tmp_path / "x.torshpkg"))


def test_equal_sources_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # the lineage states the time
    for target in ("a", "b"):
        FormatConverter().convert(DATA / "intern_model.pt").save(tmp_path / target)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_on_record(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "run 7.ckpt"
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 3, "loss": 0.25, "opt": object}, path)
    converter = FormatConverter(version="2.1.0")
    package = converter.convert(path)
    assert (package.name, package.version) == ("run-7", "2.1.0")
    origin = package.migrated_from
    assert origin is not None
    assert origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin["format"] == "pytorch"
    assert {"migration_tool", "numpy_version"} <= set(origin["environment"])
    package.save(tmp_path / "x.torshpkg")
    record = json.loads(
        bytes(Package.load(tmp_path / "x.torshpkg").get_resource("conversion_report.json").data)
    )
    assert record["facts"]["epoch"] == 3
    assert record["facts"]["loss"] == "0.25"
    assert record["tensors"] == 1
    assert "state_dict" in record["notes"][0]
    assert converter.report is not None
    assert "1 tensors in 'weights'" in converter.report.summary()


def test_converting_imports_no_framework(tmp_path: Path) -> None:
    program = (
        "import sys; from torsh_package.convert import FormatConverter\n"
        f"FormatConverter().convert({str(DATA / 'intern_model.pt')!r})\n"
        "bad = {'torch', 'onnx', 'xdsl', 'llvmlite', 'pickle5', 'safetensors'} & set(sys.modules)\n"
        "print(sorted(bad)); print(any(m.startswith('tpk') for m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_root_and_embedding(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"model": {"w": torch.ones(1)}, "ema": {"w": torch.zeros(2)}}, path)
    package = FormatConverter(root="ema", embed_original=True).convert(path)
    assert package.get_resource("weights").tensor("w").shape == (2,)
    assert package.get_resource("extra_tensors").tensor("model.w").shape == (1,)
    assert bytes(package.get_resource("original/m.pt").data) == path.read_bytes()


def test_weight_names_are_mapped(tmp_path: Path) -> None:
    """Guide B, "Weights Not Loading"."""
    path = tmp_path / "m.pt"
    torch.save(nn.ModuleDict({"fc1": nn.Linear(3, 2), "fc2": nn.Linear(2, 1)}).state_dict(), path)
    mapping = {"fc1.weight": "layers.0.weight", "fc1.bias": "layers.0.bias", "fc2": "layers.1"}
    converter = FormatConverter(mapping=mapping)
    package = converter.convert(path)
    tensors = package.get_resource("weights").tensors
    expected = torch.load(path)
    assert set(tensors) == {f"layers.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert tensors["layers.0.weight"].tolist() == expected["fc1.weight"].tolist()
    assert tensors["layers.1.bias"].tolist() == expected["fc2.bias"].tolist()
    assert converter.report is not None
    assert any("4 tensors were renamed" in note for note in converter.report.notes)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"fc3.weight": "x"}, "no tensor for 'fc3.weight'"),
        ({"fc1.weight": "fc1.bias"}, "two tensors"),
        ({"fc1.weight": ""}, "empty"),
    ],
)
def test_mappings_that_do_not_fit(tmp_path: Path, mapping: dict[str, str], message: str) -> None:
    path = tmp_path / "m.pt"
    torch.save(nn.ModuleDict({"fc1": nn.Linear(3, 2)}).state_dict(), path)
    with pytest.raises(ConversionError, match=message):
        FormatConverter(mapping=mapping).convert(path)
