"""`torsh-package` refuses what cannot be: the right exit code, one message, no file, JSON."""

import json
from pathlib import Path

import numpy as np
import pytest

from tools.torsh_package import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package, and files that are none."""
    monkeypatch.chdir(tmp_path)
    np.savez("w.npz", w=np.ones(3, np.float32))
    np.save("w.npy", np.ones(3, np.float32))
    np.savez("objects.npz", w=np.array([{}], dtype=object))
    Path("text").write_text("not a package")
    Path("code.py").write_text("def one():\n    return 1\n")
    base = ["create", "m.torshpkg", "--name", "m", "--version", "1.0.0", "--quiet"]
    assert main([*base, "--weights", "weights=w.npz", "--source", "code.py"]) == 0
    assert main(["keygen", "key", "--quiet"]) == 0
    return tmp_path


@pytest.mark.parametrize(
    "args",
    [
        ["sign", "m.torshpkg", "--key", "key", "--expires-days", "99999999999"],
        ["sign", "m.torshpkg", "--key", "key", "--expires-days", "0"],
        ["sign", "m.torshpkg", "--key", "key", "--sequence", "-1"],
        ["trust", "t.json", "--allow", "m", "--key", "key.pub", "--threshold", "0"],
        ["run", "m.torshpkg", "code:one", "--wall", "99999999999999999999"],
        ["run", "m.torshpkg", "code:one", "--wall", "nan"],
        ["run", "m.torshpkg", "code:one", "--cpu", "0"],
        ["run", "m.torshpkg", "code:one", "--memory", "-1"],
        ["compare", "m.torshpkg", "m.torshpkg", "--rtol", "nan"],
        ["audit", "log", "--tail", "-5"],
    ],
)
def test_numbers_that_cannot_be_are_wrong_usage(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("m.torshpkg").read_bytes()
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "give a" in capsys.readouterr().err.splitlines()[-1]
    assert Path("m.torshpkg").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["create", "b", "--name", "b", "--version", "1.0.0", "--weights", "w=w.npy"], "one array"),
        (["create", "b", "--name", "b", "--version", "1.0.0", "--weights", "w=objects.npz"],
         "Python objects"),
        (["create", "b", "--name", "b", "--version", "1.0.0", "--source", "no.py"],
         "no.py: cannot be read: No such file"),
        (["trust", "t.json", "--threshold", "2"], "give --allow"),
        (["verify", "m.torshpkg", "--trust", "text"], "text: trust store"),
        (["verify", "text"], "text: "),
        (["diff", "m.torshpkg", "text"], "text: "),
        (["encrypt", "m.torshpkg", "-o", "b", "--password-file", "/dev/zero"], "/dev/zero: longer"),
        (["convert", "w.npz", "w.npz"], "another name"),
        (["convert", "w.npz", "b.onnx"], "another name"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_clear_message(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = Path("w.npz").read_bytes()
    assert main(args) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not [path for path in Path().iterdir() if path.name.startswith("b")]
    assert Path("w.npz").read_bytes() == weights


def test_a_call_without_its_arguments_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert "MODULE:FUNCTION" in capsys.readouterr().err


def test_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "text", "--json"]) == 1
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["code"] == "container"
    assert error["message"] in said.err


def test_an_encrypted_package_asks_for_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    Path("password").write_text("a long enough password\n")
    with_password = ["--password-file", "password", "--kdf", "scrypt"]
    assert main(["encrypt", "m.torshpkg", "-o", "e.torshpkg", *with_password]) == 0
    capsys.readouterr()
    assert main(["decrypt", "e.torshpkg", "-o", "d.torshpkg"]) == 1
    assert "e.torshpkg: is encrypted: give --password-file" in capsys.readouterr().err
