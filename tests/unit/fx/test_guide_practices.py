"""Guide B's steps, checklist and best practices, tried with the real tools from end to end."""

import json
import subprocess
import sys
import tomllib
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

import torsh_fx
from torsh_package import FormatConverter, Package, ResourceType
from torsh_package.lineage import EqualityVerdict

ROOT = Path(__file__).resolve().parents[3]


class SimpleModel(nn.Module):
    """Guide B, "Manual Conversion"; its sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.fc(x))


class Complex(nn.Module):
    """Convolutions, normalisation, attention, a branch, a shared weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.GELU())
        self.attend = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        tokens = self.norm(tokens + self.attend(tokens, tokens, tokens, need_weights=False)[0])
        tokens = self.first(torch.tanh(self.first(tokens)))
        return self.second(tokens.mean(1)).softmax(-1)


def exported(model: nn.Module, x: torch.Tensor, path: Path, **options: Any) -> Path:
    """Guide B's `torch.onnx.export`, by the exporter that needs nothing besides torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": ["input"], "output_names": ["output"]}
        torch.onnx.export(model.eval(), (x,), str(path), dynamo=False, **names, **options)
    return path


def shell(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, text=True, capture_output=True, timeout=200,
        env={"PYTHONPATH": f"{ROOT}:{folder}", "PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip


def package_tool(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return shell(folder, "tools.torsh_package", *args)


def test_step_1_export_to_onnx(tmp_path: Path) -> None:
    """`torch.onnx.export` without onnxscript; the converter and the compiler take the file."""
    model, x = SimpleModel(), torch.randn(1, 784)
    path = exported(model, x, tmp_path / "model.onnx", opset_version=20)
    proto = onnx.load(path)
    assert [node.op_type for node in proto.graph.node] == ["Gemm", "Relu"]
    assert proto.opset_import[0].version == 20
    package = FormatConverter().convert_from_onnx(path)
    tensors = package.get_resource("weights").tensors
    assert np.array_equal(tensors["fc.weight"], model.fc.weight.detach().numpy())
    assert bytes(package.get_resource("original/model.onnx").data) == path.read_bytes()
    torch.testing.assert_close(torsh_fx.compile(path)(x), model(x), rtol=1e-5, atol=1e-5)


def test_complex_models_go_through_onnx(tmp_path: Path) -> None:
    """Best practice 5."""
    torch.manual_seed(0)
    model, x = Complex(), torch.randn(2, 3, 16, 16)
    path = exported(model, x, tmp_path / "complex.onnx")
    package = FormatConverter().convert_from_onnx(path)
    package.save(tmp_path / "complex.torshpkg")
    loaded = Package.load(tmp_path / "complex.torshpkg")
    source = onnx.load(path)
    names = {tensor.name for tensor in source.graph.initializer}
    assert set(loaded.get_resource("weights").tensors) == names
    kept = tmp_path / "kept.onnx"
    kept.write_bytes(loaded.get_resource("original/complex.onnx").data)
    torch.testing.assert_close(torsh_fx.compile(kept)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The converters that pyproject.toml declares, as if the project were installed."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    rows = declared["torsh_package.converters"]

    def entry_points(group: str, name: str) -> list[EntryPoint]:
        return [EntryPoint(name, rows[name], group)] if name in rows else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def test_converted_onnx_models_have_their_program(tmp_path: Path, installed: None) -> None:
    torch.manual_seed(0)
    model, x = Complex(), torch.randn(2, 3, 16, 16)
    path = exported(model, x, tmp_path / "complex.onnx")
    converter = FormatConverter()
    package = converter.convert_from_onnx(path)
    assert converter.report is not None
    assert converter.report.program == "torsh_fx.packaging:add_onnx_program"
    loaded = Package.load(package.to_bytes())
    program = loaded.get_resource("program/model.mlir")
    assert str(tmp_path) not in program.text()
    weights = dict(loaded.get_resource("weights").tensors)
    if loaded.has_resource("program/constants"):
        weights |= loaded.get_resource("program/constants").tensors
    (tmp_path / "model.mlir").write_text(program.text())
    save_file({name: np.array(a) for name, a in weights.items()}, tmp_path / "model.safetensors")
    torch.testing.assert_close(
        torsh_fx.load(tmp_path / "model.mlir")(x), model(x), rtol=1e-4, atol=1e-5
    )


def test_models_that_cannot_be_imported_keep_their_weights(tmp_path: Path, installed: None) -> None:
    """Checklist 6: what is missing is listed, with its remedy, and the rest is converted."""
    nodes = [
        onnx.helper.make_node("Sparkle", ["x", "w"], ["h"], domain="acme", name="first"),
        onnx.helper.make_node("Glitter", ["h"], ["y"], domain="acme", name="second"),
    ]
    values = [onnx.helper.make_tensor_value_info(n, 1, [3]) for n in "xy"]
    weight = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    sets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("acme", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=sets), tmp_path / "m.onnx")
    converter = FormatConverter()
    package = converter.convert_from_onnx(tmp_path / "m.onnx")
    assert package.get_resource("weights").tensor("w").tolist() == [1, 1, 1]
    assert not package.has_resource("program/model.mlir")
    assert converter.report is not None
    (note,) = [n for n in converter.report.notes if "no program" in n]
    assert "Sparkle" in note
    assert "Glitter" in note
    assert converter.report.program is None


def test_numerical_equivalence_is_tried_and_put_on_record(tmp_path: Path) -> None:
    """Best practice 3: torch in float64 against the packaged code, on inputs of a known seed."""
    torch.manual_seed(1)
    model, seed, tolerance = Complex().eval(), 11, 1e-5
    torsh_fx.compile(model, (torch.randn(2, 3, 16, 16),)).save(tmp_path / "m.torshpkg")
    packaged = torsh_fx.load(tmp_path / "m.torshpkg")
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(2, 3, 16, 16, generator=generator) for _ in range(8)]
    found = [packaged(x).double() for x in inputs]
    exact = model.double()

    def largest_error() -> float:
        with torch.no_grad():
            pairs = zip(inputs, found, strict=True)
            return max(float((y - exact(x.double())).abs().max()) for x, y in pairs)

    error = largest_error()
    assert 0 < error < tolerance
    verdict = EqualityVerdict(True, len(inputs), seed, error, tolerance, "torch float64")
    assert verdict.to_json()["equal"] is True
    with torch.no_grad():
        exact.second.bias[0] += 1e-3
    assert largest_error() > tolerance


def test_one_model_at_a_time(tmp_path: Path) -> None:
    """Best practice 1: each conversion stands alone; one that fails leaves the others alone."""
    for name, seed in (("first", 1), ("second", 2)):
        torch.manual_seed(seed)
        torch.save(SimpleModel().state_dict(), tmp_path / f"{name}.pt")
    (tmp_path / "broken.pt").write_bytes((tmp_path / "second.pt").read_bytes()[:-700])
    assert package_tool(tmp_path, "convert", "first.pt", "first.torshpkg").returncode == 0
    before = (tmp_path / "first.torshpkg").read_bytes()
    failed = package_tool(tmp_path, "convert", "broken.pt", "broken.torshpkg")
    assert failed.returncode == 1
    assert "broken.pt" in failed.stderr
    assert package_tool(tmp_path, "convert", "second.pt", "second.torshpkg").returncode == 0
    assert (tmp_path / "first.torshpkg").read_bytes() == before
    assert sorted(p.name for p in tmp_path.glob("*.torshpkg")) == [
        "first.torshpkg", "second.torshpkg"
    ]  # fmt: skip
    weights = Package.load(tmp_path / "second.torshpkg").get_resource("weights").tensors
    expected = torch.load(tmp_path / "second.pt", weights_only=True)
    assert np.array_equal(weights["fc.weight"], expected["fc.weight"].numpy())


def test_differences_are_documented(tmp_path: Path) -> None:
    """Best practice 4: all that a conversion changes or leaves out is listed, and kept."""
    checkpoint = {
        "state_dict": SimpleModel().state_dict(), "epoch": 7, "hook": SimpleModel,
        "extra": {"ghost": torch.empty(3, device="meta")},
    }  # fmt: skip
    torch.save(checkpoint, tmp_path / "run.ckpt")
    told = package_tool(tmp_path, "convert", "run.ckpt", "m.torshpkg", "--json")
    assert told.returncode == 0, told.stderr
    package = Package.load(tmp_path / "m.torshpkg")
    record: Any = package.get_resource("conversion_report.json").json()
    assert record["facts"]["epoch"] == 7
    assert record["facts"]["hook"].endswith("SimpleModel")  # named, not imported
    assert [row["where"] for row in record["skipped"]] == ["extra.ghost"]
    assert all(row["why"] for row in record["skipped"])
    assert any("no program" in note for note in record["notes"])
    assert "ghost" in told.stdout
    origin = package.migrated_from
    assert origin is not None
    assert origin["source"] == "run.ckpt"


def test_metadata_and_documentation(tmp_path: Path) -> None:
    """Checklist 5: who, what, under which licence, with documents; set and read on the shell."""
    (tmp_path / "README.md").write_text("# Digits\n\nTrained on MNIST.\n")
    (tmp_path / "LICENSE").write_text("Apache License\n")
    made = package_tool(
        tmp_path, "create", "m.torshpkg", "--name", "acme/digits", "--version", "1.0.0",
        "--description", "Classifies digits", "--author", "Ada", "--author", "Grace",
        "--license", "Apache-2.0", "--metadata", "dataset=MNIST",
        "--resource", "readme=README.md:Documentation", "--resource", "licence=LICENSE:License",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    package = Package.load(tmp_path / "m.torshpkg")
    assert package.description == "Classifies digits"
    assert package.authors == ["Ada", "Grace"]
    assert (package.license, package.metadata) == ("Apache-2.0", {"dataset": "MNIST"})
    assert package.get_resource("readme").type is ResourceType.Documentation
    assert package.get_resource("readme").text().startswith("# Digits")
    assert package.get_resource("licence").type is ResourceType.License
    shown = json.loads(package_tool(tmp_path, "inspect", "m.torshpkg", "--json").stdout)["manifest"]
    assert (shown["authors"], shown["license"]) == (["Ada", "Grace"], "Apache-2.0")
    assert shown["metadata"] == {"dataset": "MNIST"}


# What a pipeline asks, and the exit code that it must get.
PIPELINE = [
    ("verify m.torshpkg", 0),
    ("verify m.torshpkg --replay", 0),
    ("verify m.torshpkg --trust store", 0),
    ("compare m.torshpkg m.torshpkg", 0),
    ("diff m.torshpkg m.torshpkg", 0),
    ("policy m.torshpkg --policy policy.json", 0),
    ("verify damaged.torshpkg", 1),
    ("verify stranger.torshpkg --trust store", 1),
    ("verify wrong.torshpkg --replay", 1),
    ("diff m.torshpkg wrong.torshpkg", 1),
    ("policy wrong.torshpkg --policy policy.json", 1),
    ("verify none.torshpkg", 1),
    ("verify", 2),
    ("verify m.torshpkg --nonsense", 2),
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ci")
    model, x = SimpleModel(), torch.randn(1, 784)
    exported(model, x, folder / "model.onnx")
    made = shell(folder, "tools.torsh", "compile", "model.onnx", "-o", "m.torshpkg")
    assert made.returncode == 0, made.stderr
    package = Package.load(folder / "m.torshpkg")
    package.set_license("MIT")
    package.save(folder / "stranger.torshpkg")
    golden = package.entrypoints["main"].golden[0].outputs
    arrays = {n: np.array(a) + 1 for n, a in package.get_resource(golden).tensors.items()}
    package.remove_resource(golden)
    package.add_resource(golden, arrays, ResourceType.Data)
    package.set_license(None)  # type: ignore[arg-type]
    package.save(folder / "wrong.torshpkg")
    (folder / "stranger.torshpkg").rename(folder / "m.torshpkg")
    for key in ("alice", "mallory"):
        assert package_tool(folder, "keygen", key).returncode == 0
    (folder / "stranger.torshpkg").write_bytes((folder / "m.torshpkg").read_bytes())
    for name, key in (("m", "alice"), ("stranger", "mallory")):
        signed = package_tool(folder, "sign", f"{name}.torshpkg", "--key", key)
        assert signed.returncode == 0, signed.stderr
    trust = package_tool(folder, "trust", "store", "--allow", "*", "--key", "alice.pub")
    assert trust.returncode == 0, trust.stderr
    data = bytearray((folder / "m.torshpkg").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "damaged.torshpkg").write_bytes(data)
    (folder / "policy.json").write_text(
        '{\n  "format": "torshpkg-policy",\n  "require_license": true\n}\n'
    )
    # What installing the project would make: the entry points that pyproject.toml declares.
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = folder / "torsh-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torsh\nVersion: 0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in rows.items())
             for group, rows in declared.items()]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(("command", "code"), PIPELINE)
def test_exit_codes_for_pipelines(pipeline: Path, command: str, code: int) -> None:
    """Best practice 7."""
    done = package_tool(pipeline, *command.split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert done.stderr or done.stdout


def test_a_script_stops_at_the_first_failure(pipeline: Path) -> None:
    script = "set -e\nfor p in m damaged; do $T verify $p.torshpkg --quiet; echo $p good; done\n"
    tool = f"{sys.executable} -m tools.torsh_package"
    env = {"T": tool, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", script], cwd=pipeline, text=True, capture_output=True, env=env
    )
    assert (done.returncode, done.stdout) == (1, "m good\n")
