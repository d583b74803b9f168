"""The verbs `convert`, `run`, `scan` and `deps`, as a shell calls them."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tools.torsh_package import main
from torsh_package import Package, ResourceType
from torsh_package.code import CodePolicy, CodeTable, code_table, probe

ROOT = Path(__file__).parents[3]
DATA = Path(__file__).parent / "data"
MODE = "strict" if probe().strict else "process"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_convert_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "m.torshpkg"
    code, out, _ = call(capsys, "convert", DATA / "intern_model.pt", target, "--name", "net",
                        "--version", "2.0.0", "--json")  # fmt: skip
    assert code == 0
    report = json.loads(out)
    assert report["tensors"] == 5
    assert report["format"] == "pytorch"
    package = Package.load(target)
    assert (package.name, package.version) == ("net", "2.0.0")
    back = tmp_path / "w.safetensors"
    assert call(capsys, "convert", target, back)[0] == 0
    found = safetensors.numpy.load_file(back)
    expected = package.get_resource("weights").tensors
    assert {n: a.tolist() for n, a in found.items()} == {n: a.tolist() for n, a in expected.items()}
    code, out, _ = call(capsys, "convert", DATA / "intern_model.pt", tmp_path / "x.torshpkg")
    assert "5 tensors in 'weights'" in out


class Command:
    def __reduce__(self):
        return print, ("never",)


def test_convert_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = tmp_path / "evil.pt"
    evil.write_bytes(b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00idtR.")
    code, out, err = call(capsys, "convert", evil, tmp_path / "x.torshpkg")
    assert (code, out) == (1, "")
    assert "unsafe-pickle" in err
    assert not (tmp_path / "x.torshpkg").exists()
    (tmp_path / "text").write_text("no model")
    assert call(capsys, "convert", tmp_path / "text", tmp_path / "y")[0] == 1
    with pytest.raises(SystemExit, match="2"):
        call(capsys, "convert", evil)


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    package = Package("coded", "1.0.0")
    package.add_source_file(
        "net",
        "import numpy as np\ndef f(x, k):\n    print('working')\n    return {'y': x * k, 'k': k}\n"
        "def bad():\n    raise ValueError('no')\n",
    )
    policy = CodePolicy().intern("net").extern("numpy.**")
    package.code = CodeTable(policy, code_table(package).modules, {}, ()).to_json()
    package.save(tmp_path / "coded.torshpkg")
    return tmp_path / "coded.torshpkg"


def test_run(coded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.arange(3.0))
    words = ["run", coded, "net:f", f"@{tmp_path / 'x.npy'}", "2", "--mode", MODE]
    code, out, _ = call(capsys, *words, "--json")
    assert code == 0
    assert json.loads(out)["result"] == {"y": [0.0, 2.0, 4.0], "k": 2}
    assert json.loads(out)["stdout"] == "working\n"
    code, out, _ = call(capsys, *words, "--output", tmp_path / "r.npz")
    assert out.startswith("working\n")
    with np.load(tmp_path / "r.npz") as arrays:
        assert arrays["result.y"].tolist() == [0.0, 2.0, 4.0]
    code, _, err = call(capsys, "run", coded, "net:bad", "--mode", MODE)
    assert code == 1
    assert "sandbox-code: the code raised ValueError: no" in err
    assert call(capsys, "run", coded, "net:f", "{", "--mode", MODE)[0] == 1
    assert call(capsys, "run", coded)[0] == 2


def test_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "run", "--capabilities", "--json")
    assert json.loads(out)["strict"] is probe().strict
    assert code == (0 if probe().strict else 1)
    assert "network" in json.loads(out)["enforced"]


OSV = {
    "id": "PYSEC-7", "summary": "it breaks",
    "affected": [{"package": {"ecosystem": "PyPI", "name": "somelib"},
                  "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}],
}  # fmt: skip


def test_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = Package("m", "1.0.0")
    package.add_requirements("somelib>=1")
    target, database = tmp_path / "m.torshpkg", tmp_path / "osv.json"
    package.save(target)
    database.write_text(json.dumps(OSV))
    assert call(capsys, "scan", target)[0] == 0
    code, out, _ = call(capsys, "scan", target, "--advisories", database)
    assert code == 1
    assert "PYSEC-7" in out
    assert "REFUSED: 1 violation" in out
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"exemptions": [{"rule": "PYSEC-7", "reason": "not reachable"}]}))
    words = ["scan", target, "--advisories", database, "--policy", policy]
    assert call(capsys, *words)[0] == 0
    assert call(capsys, "scan", target, "--policy", policy)[0] == 1  # dependencies not scanned
    package.add_resource("p", pickle.dumps(Command()), ResourceType.Data)
    package.save(target)
    code, out, _ = call(capsys, *words, "--json", "--fail-on", "low")
    assert code == 1
    assert json.loads(out)["refused"] is True
    assert call(capsys, *words, "--fail-on", "critical")[0] == 0


def test_deps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = tmp_path / "index"
    index.mkdir()
    for version in ("0.1.0", "0.1.2", "0.2.0"):
        Package("nn", version).save(index / f"nn-{version}.torshpkg")
    package, target = Package("app", "1.0.0"), tmp_path / "app.torshpkg"
    package.add_dependency_spec("nn", "^0.1.0")
    package.add_requirements("numpy>=1\n")
    package.add_optional_dependency("extra", "1.0.0")
    package.save(target)
    assert "numpy" in call(capsys, "deps", "list", target)[1]
    code, out, _ = call(capsys, "deps", "resolve", target, "--index", index, "--json")
    assert code == 0
    assert {(p["name"], p["version"]) for p in json.loads(out)["packages"]} == {
        ("nn", "0.1.2"), ("numpy", np.__version__),
    }  # fmt: skip
    assert call(capsys, "deps", "lock", target, "--index", index)[0] == 0
    assert "lock.json" in Package.load(target).list_documents()
    code, out, _ = call(capsys, "deps", "check", target, "--index", index)
    assert (code, out) == (0, "optional: extra 1.0.0 is not here\n")
    Package("nn", "0.1.3").save(index / "nn-0.1.3.torshpkg")
    code, out, _ = call(capsys, "deps", "resolve", target, "--index", index, "--json")
    assert "0.1.2" in out  # the lock file still holds
    changed = Package("nn", "0.1.2")
    changed.set_description("another")
    changed.save(index / "nn-0.1.2.torshpkg")
    code, out, _ = call(capsys, "deps", "check", target, "--index", index)
    assert code == 1
    assert "locked is" in out
    code, _, err = call(capsys, "deps", "resolve", target)
    assert code == 1
    assert "nn is unknown to the index" in err


def test_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.torsh_package", "scan", "/nonexistent"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
