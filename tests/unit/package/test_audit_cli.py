"""`--audit LOG`: every verb of `torsh-package` records itself, also when it is refused."""

import shutil
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from tools.package_verbs import VERBS
from tools.torsh_package import main
from torsh_package import AuditLog, GovernancePolicy, Package, ResourceType

# verb -> (arguments that succeed, what the record is about)
GOOD = {
    "audit": (["other.log"], "other.log"),
    "compare": (["m.torshpkg", "m.torshpkg"], "m.torshpkg"),
    "convert": (["w.npz", "new.torshpkg"], "w.npz"),
    "create": (["new.torshpkg", "--name", "n", "--version", "1.0.0"], "new.torshpkg"),
    "decrypt": (["e.torshpkg", "-o", "d", "--password-file", "password"], "acme/m 1.0.0"),
    "deps": (["list", "m.torshpkg"], "m.torshpkg"),
    "diff": (["m.torshpkg", "m.torshpkg"], "m.torshpkg"),
    "encrypt": (["m.torshpkg", "-o", "x", "--password-file", "password"], "acme/m 1.0.0"),
    "extract": (["m.torshpkg", "-o", "out"], "m.torshpkg"),
    "inspect": (["m.torshpkg"], "m.torshpkg"),
    "keygen": (["bob"], "bob"),
    "lineage": (["m.torshpkg"], "m.torshpkg"),
    "policy": (["m.torshpkg", "--policy", "policy.json"], "acme/m 1.0.0"),
    "rewrap": (["e.torshpkg", "--password-file", "password"], "e.torshpkg"),
    "run": (["--capabilities"], ""),
    "sbom": (["m.torshpkg"], "m.torshpkg"),
    "scan": (["m.torshpkg"], "m.torshpkg"),
    "sign": (["m.torshpkg", "--key", "alice"], "m.torshpkg"),
    "trust": (["store", "--allow", "acme/*", "--key", "alice.pub"], "store"),
    "verify": (["m.torshpkg"], "m.torshpkg"),
}
# Verbs that read a package, with arguments that make them refuse a damaged one.
READERS = sorted(set(GOOD) - {"audit", "create", "keygen", "trust", "run"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the arguments name."""
    folder = tmp_path_factory.mktemp("made")
    with chdir(folder):
        _make()
    return folder


@pytest.fixture(autouse=True)
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)


def _make() -> None:
    package = Package("acme/m", "1.0.0")
    package.add_resource("weights", {"w": np.ones(9, np.float32)}, ResourceType.ModelWeights)
    package.save("m.torshpkg")
    np.savez("w.npz", w=np.ones(3, np.float32))
    Path("password").write_text("correct horse\n")
    GovernancePolicy().save("policy.json")
    AuditLog("other.log").append("load", "m")
    assert main(["keygen", "alice"]) == 0
    encrypt = ["--password-file", "password", "--kdf", "scrypt"]
    assert main(["encrypt", "m.torshpkg", "-o", "e.torshpkg", *encrypt]) == 0


def test_the_table_has_every_verb() -> None:
    assert set(GOOD) == set(VERBS)


@pytest.mark.parametrize("verb", GOOD)
def test_success_is_recorded(verb: str) -> None:
    arguments, subject = GOOD[verb]
    code = main([verb, *arguments, "--audit", "log"])
    log = AuditLog("log", read_only=True)
    _start, record = log.records()
    assert (record.event, record.outcome, record.subject) == (verb, "ok", subject)
    assert record.details.get("exit", "0") == str(code)
    assert log.verify().count == 2


@pytest.mark.parametrize("verb", READERS)
def test_refusal_is_recorded(verb: str) -> None:
    arguments = GOOD[verb][0]
    for name in ("m.torshpkg", "e.torshpkg", "w.npz"):
        data = bytearray(Path(name).read_bytes())
        data[100] ^= 1
        Path(name).write_bytes(data[: len(data) * 3 // 4])
    assert main([verb, *arguments, "--audit", "log"]) == 1
    _start, record = AuditLog("log", read_only=True).records()
    assert (record.event, record.outcome) == (verb, "refused")
    assert record.details["error"]


def test_a_difference_is_no_refusal() -> None:
    other = Package("acme/m", "1.0.1")
    other.save("other.torshpkg")
    assert main(["diff", "m.torshpkg", "other.torshpkg", "--audit", "log"]) == 1
    _start, record = AuditLog("log", read_only=True).records()
    assert (record.outcome, record.details["exit"]) == ("ok", "1")


def test_a_log_that_cannot_be_written_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "m.torshpkg", "--audit", "no/folder/log"]) == 1
    assert "no/folder/log" in capsys.readouterr().err


def test_passwords_are_not_in_the_log() -> None:
    arguments = GOOD["encrypt"][0]
    assert main(["encrypt", *arguments, "--audit", "log"]) == 0
    assert "correct horse" not in Path("log").read_text()
