"""`torsh-package`: verbs, exit codes, JSON output, and errors without traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torsh_package
from tools.package_verbs import VERBS
from tools.torsh_package import main
from torsh_package import Package, ResourceType


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("w.npz", **{"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3)})
    Path("config.json").write_text('{"layers": 2}')
    Path("model.py").write_text("x = 1\n")
    Path("notes").write_text("hello " * 200)
    return tmp_path


def create(output: str = "m.torshpkg", *more: str) -> int:
    return main(
        [
            "create", output, "--name", "m", "--version", "1.0.0", "--author", "A", "--license",
            "MIT", "--metadata", "k=v", "--weights", "weights=w.npz", "--resource",
            "config=config.json:Config", "--resource", "notes=notes:Text", "--source", "model.py",
            "--dependency", "torsh-nn=^0.1.0", "--compress", "zstd", *more,
        ]
    )  # fmt: skip


def run_json(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_create_inspect_verify(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create() == 0
    assert "m 1.0.0, 4 resources" in capsys.readouterr().out
    package = Package.load("m.torshpkg")
    assert package.list_resources() == ["code/model.py", "config", "notes", "weights"]
    assert np.array_equal(
        package.get_resource("weights").tensor("fc.weight"), np.arange(6.0).reshape(2, 3)
    )
    assert package.dependencies[0].name == "torsh-nn"
    found = run_json(capsys, "inspect", "m.torshpkg")
    assert found["manifest"] == package.manifest().to_json()
    assert found["canonical"]
    assert not found["signed"]
    assert main(["inspect", "m.torshpkg", "--tensors"]) == 0
    text = capsys.readouterr().out
    assert "fc.weight  f32  [2, 3]" in text
    assert "needs torsh torsh-nn ^0.1.0" in text
    assert run_json(capsys, "verify", "m.torshpkg")["integrity"] == "ok"


def test_damage_is_exit_code_1_without_traceback(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create()
    raw = bytearray(Path("m.torshpkg").read_bytes())
    raw[200] ^= 1
    Path("m.torshpkg").write_bytes(raw)
    assert main(["verify", "m.torshpkg"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("torsh-package: ")
    assert "Traceback" not in err
    assert main(["verify", "none.torshpkg"]) == 1
    assert "storage: none.torshpkg: no such file" in capsys.readouterr().err


def test_verify_finds_wrong_crc_in_headers(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A producer who lies about the CRC in headers and manifest: unzip would refuse the file."""
    import io

    from torsh_package.canonical_json import dumps
    from torsh_package.container import layout
    from torsh_package.container.reader import ArchiveReader

    create()
    reader = ArchiveReader.open("m.torshpkg")
    value = json.loads(bytes(reader.read("manifest.json")))
    value["resources"][0]["crc32"] ^= 1
    contents = {name: bytes(reader.read(name)) for name in reader.names}
    contents["manifest.json"] = dumps(value)
    blob, entries = io.BytesIO(), []
    import zlib

    for name, content in contents.items():
        crc = zlib.crc32(content) ^ (name == value["resources"][0]["path"])
        at = blob.tell()
        offset = layout.data_offset(at, name.encode(), 64)
        entries.append(layout.ArchiveEntry(name, at, offset, len(content), crc))
        blob.write(layout.local_header(entries[-1], 64) + content)
    blob.write(layout.directory(entries, blob.tell()))
    Path("m.torshpkg").write_bytes(blob.getvalue())
    Package.load("m.torshpkg")
    assert main(["verify", "m.torshpkg"]) == 1
    assert "CRC-32" in capsys.readouterr().err


def test_extract(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create()
    assert main(["extract", "m.torshpkg", "-o", "out"]) == 0
    assert Path("out/config.json").read_text() == '{"layers": 2}'
    assert Path("out/notes").read_text() == "hello " * 200
    assert Path("out/code/model.py").read_text() == "x = 1\n"
    assert main(["extract", "m.torshpkg", "notes", "-o", "out"]) == 1
    assert "overwrite" in capsys.readouterr().err
    assert main(["extract", "m.torshpkg", "notes", "-o", "out", "--overwrite"]) == 0
    assert main(["extract", "m.torshpkg", "nothing", "-o", "other"]) == 1
    assert not Path("other").exists()


def test_diff_and_compare(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create("a.torshpkg")
    create("b.torshpkg", "--level", "maximum")
    assert main(["diff", "a.torshpkg", "b.torshpkg"]) == 0
    assert main(["compare", "a.torshpkg", "b.torshpkg"]) == 0
    np.savez("w.npz", **{"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3) + 0.001})
    Path("config.json").write_text('{"layers": 3}')
    create("c.torshpkg", "--description", "new")
    found = run_json(capsys, "diff", "a.torshpkg", "c.torshpkg", code=1)
    assert [d["where"] for d in found["differences"]] == [
        "description", "resource config", "resource weights",
    ]  # fmt: skip
    found = run_json(capsys, "compare", "a.torshpkg", "c.torshpkg", code=1)
    assert float(found["tensors"][0]["max_abs"]) == pytest.approx(0.001, rel=1e-3)
    assert main(["compare", "a.torshpkg", "c.torshpkg", "--atol", "0.002"]) == 0
    np.savez("w.npz", **{"fc.weight": np.zeros((3, 2), np.float32), "x": np.zeros(1)})
    create("d.torshpkg")
    found = run_json(capsys, "compare", "a.torshpkg", "d.torshpkg", "--atol", "9", code=1)
    assert [t["problem"] for t in found["tensors"]] == [
        "shape [2, 3] against [3, 2]", "missing in the first package",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["unknown"],
        ["create", "x"],
        ["create", "x", "--name", "m", "--version", "1.0.0", "--compress", "rar"],
        ["verify"],
    ],
)
def test_wrong_usage_is_exit_code_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--version", "1"], "semantic version"),
        (["--name", "../m"], "package name"),
        (["--resource", "x"], "NAME=VALUE"),
        (["--resource", "x=notes:Virus"], "unknown"),
        (["--resource", "../x=notes"], "component"),
        (["--weights", "x=notes"], "npz"),
        (["--weights", "x=none.npz"], "cannot be read"),
        (["--dependency", "x=lots"], "requirement"),
    ],
)
def test_bad_values_make_no_file(
    files: Path, args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["create", "bad.torshpkg", "--name", "m", "--version", "1.0.0"]
    assert main([*base, *args]) == 1
    assert message in capsys.readouterr().err
    assert not Path("bad.torshpkg").exists()


def test_debug_shows_the_traceback(files: Path) -> None:
    from torsh_package import StorageError

    with pytest.raises(StorageError):
        main(["verify", "none", "--debug"])


def test_every_verb_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"create", "inspect", "verify", "extract", "compare", "diff"} <= set(VERBS)
    for name in VERBS:
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        text = capsys.readouterr().out
        assert text.count(f"torsh-package {name}") >= 2, text  # usage and an example


def test_as_a_process(files: Path) -> None:
    create()
    root = str(Path(torsh_package.__file__).parents[1])
    command = [sys.executable, "-m", "tools.torsh_package", "verify", str(files / "m.torshpkg")]
    env = {**os.environ, "PYTHONPATH": root}
    found = subprocess.run(command, capture_output=True, text=True, cwd=root, env=env)
    assert found.returncode == 0, found.stderr
    assert "integrity ok" in found.stdout
    assert found.stderr == ""


def test_quiet(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create()
    capsys.readouterr()
    assert main(["verify", "m.torshpkg", "--quiet"]) == 0
    assert capsys.readouterr().out == ""  # all is in order
    for verb in ("inspect", "scan", "lineage"):
        main([verb, "m.torshpkg"])
        shown = capsys.readouterr().out
        main([verb, "m.torshpkg", "--quiet"])
        assert capsys.readouterr().out == shown != ""  # what was asked for


def test_names_may_come_behind_options(files: Path, tmp_path: Path) -> None:
    """Argparse alone takes `m.torshpkg -o out` as a whole command, and `data` as too much."""
    create()
    with Package.load("m.torshpkg") as package:
        name, other = (resource.name for resource in list(package.resources())[:2])
    assert main(["extract", "m.torshpkg", "-o", "out", name]) == 0
    assert (Path("out") / name).is_file()
    assert not (Path("out") / other).exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["deps", "check", "m.torshpkg", "--platform", "foo"], "systems: linux, darwin, win32"),
        (["deps", "check", "m.torshpkg", "--platform", "linux-foo"], "machines: x86_64"),
        (["create", "x.torshpkg", "--name", "m", "--version", "1.0.0", "--license", "My Own"],
         "'My Own' is no SPDX expression"),
    ],
)  # fmt: skip
def test_values_that_nobody_knows_are_wrong_usage(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    create()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_a_license_is_stored_in_its_canonical_spelling(files: Path) -> None:
    base = ["create", "l.torshpkg", "--name", "m", "--version", "1.0.0"]
    assert main([*base, "--license", "mit or apache-2.0"]) == 0
    with Package.load("l.torshpkg") as package:
        assert package.license == "MIT OR Apache-2.0"


def test_103_links_planted_in_the_target_are_not_followed(tmp_path: Path) -> None:
    from torsh_package import StorageError
    from torsh_package.extract import extract

    package = Package("m", "1.0.0")
    package.add_resource("dir/a", b"new", ResourceType.Data)
    package.add_resource("b", b"new", ResourceType.Data)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"old")
    target = tmp_path / "target"
    target.mkdir()
    (target / "dir").symlink_to(outside)
    with pytest.raises(StorageError, match="link"):
        extract(package, target)
    assert sorted(p.name for p in outside.iterdir()) == ["precious"]
    (target / "dir").unlink()
    (target / "b").unlink(missing_ok=True)
    (target / "b").symlink_to(outside / "precious")
    with pytest.raises(StorageError, match="exists"):
        extract(package, target)
    extract(package, target, overwrite=True)
    assert (outside / "precious").read_bytes() == b"old"
    assert (target / "b").read_bytes() == b"new"
    assert not (target / "b").is_symlink()
    (target / "dir" / "a").unlink()
    (target / "dir").rmdir()
    (target / "dir").write_bytes(b"a file")
    with pytest.raises(StorageError, match="not a folder"):
        extract(package, target, ["dir/a"])


def test_damaged_content_is_not_extracted(tmp_path: Path) -> None:
    from torsh_package import IntegrityError
    from torsh_package.extract import extract

    package = Package("m", "1.0.0")
    package.add_resource("a", b"A" * 1000, ResourceType.Data)
    raw = bytearray(package.to_bytes())
    raw[200] ^= 1
    with pytest.raises(IntegrityError):
        extract(Package.load(bytes(raw), lazy=True), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_105_names_that_one_file_system_would_merge_cannot_be_in_one_package() -> None:
    from torsh_package import InvalidArgumentError

    package = Package("m", "1.0.0")
    package.add_resource("Straße", b"", ResourceType.Data)
    for name in ("strasse", "STRASSE", "straße"):
        with pytest.raises(InvalidArgumentError, match="one name"):
            package.add_resource(name, b"", ResourceType.Data)
