"""Command line: keys, signatures, trust stores, encryption, lineage, bills, policies, audit."""

import json
import sys
from pathlib import Path
from typing import Any

import model_signing
import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools.torsh_package import main
from torsh_package import AuditLog, GovernancePolicy, Package, ResourceType
from torsh_package.trust import TrustStore


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    package = Package("acme/m", "1.0.0")
    package.add_resource("weights", {"w": np.arange(1000, dtype="f4")}, ResourceType.ModelWeights)
    package.add_resource("config", b"a plain secret" * 20, ResourceType.Config)
    package.save("m.torshpkg")
    Path("password").write_text("correct horse\n")
    Path("wrong").write_text("battery staple\n")
    return tmp_path


def ok(*args: str) -> None:
    assert main(args) == 0


def fails(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert main(args) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err + captured.out


def run_json(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    capsys.readouterr()
    assert main([*args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_keygen_sign_trust_verify(capsys):
    made = run_json(capsys, "keygen", "alice")
    ok("keygen", "bob")
    assert Path("alice").stat().st_mode & 0o777 == 0o600
    assert "exists already" in fails(capsys, "keygen", "alice")
    ok("trust", "store", "--allow", "acme/*", "--key", "alice.pub", "--key", "bob.pub")
    assert "stripped" in fails(capsys, "verify", "m.torshpkg", "--trust", "store")
    told = json.loads(fails(capsys, "verify", "m.torshpkg", "--trust", "store", "--json"))
    assert (told["trust"]["status"], told["trust"]["trusted"]) == ("stripped", False)
    ok("sign", "m.torshpkg", "--key", "alice")
    assert run_json(capsys, "verify", "m.torshpkg", "--trust", "store")["trust"]["trusted"]
    ok("trust", "store", "--allow", "acme/*", "--key", "alice.pub", "--key", "bob.pub",
       "--threshold", "2")  # fmt: skip
    assert "1 of 2" in fails(capsys, "verify", "m.torshpkg", "--trust", "store")
    ok("sign", "m.torshpkg", "--key", "bob", "--expires-days", "30", "--sequence", "7")
    ok("verify", "m.torshpkg", "--trust", "store")
    ok("trust", "store", "--revoke", made["keyid"][:12])
    assert "revoked" in capsys.readouterr().out
    assert "compromised since" in fails(capsys, "verify", "m.torshpkg", "--trust", "store")
    assert "0 keys" in fails(capsys, "trust", "store", "--revoke", "zz")
    assert "no such store" in fails(capsys, "trust", "nowhere")


def test_keys_with_passphrases(capsys):
    ok("keygen", "key", "--passphrase-file", "password")
    assert b"ENCRYPTED" in Path("key").read_bytes()
    assert "give its passphrase" in fails(capsys, "sign", "m.torshpkg", "--key", "key")
    text = fails(capsys, "sign", "m.torshpkg", "--key", "key", "--passphrase-file", "wrong")
    assert "passphrase is wrong" in text
    assert "battery" not in text
    ok("sign", "m.torshpkg", "--key", "key", "--passphrase-file", "password")


def test_detached_signatures(capsys):
    ok("keygen", "alice")
    ok("trust", "store", "--allow", "**", "--key", "alice.pub")
    before = Path("m.torshpkg").read_bytes()
    ok("sign", "m.torshpkg", "--key", "alice", "--detached")
    assert Path("m.torshpkg").read_bytes() == before
    assert "stripped" in fails(capsys, "verify", "m.torshpkg", "--trust", "store")
    ok("verify", "m.torshpkg", "--trust", "store", "--signature", "m.torshpkg.sig")
    assert "give --trust" in fails(capsys, "verify", "m.torshpkg", "--signature", "m.torshpkg.sig")


def test_model_signing_bundle():
    ok("keygen", "ec", "--algorithm", "ecdsa-p256")
    ok("sign", "m.torshpkg", "--key", "ec", "--model-signing", "bundle.json")
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=Path("ec.pub"))
    verifier.verify(Path("m.torshpkg"), Path("bundle.json"))


def test_trust_store_updates(capsys):
    for name in ("root", "stranger", "alice", "bob"):
        ok("keygen", name)
    ok("trust", "ours", "--allow", "**", "--key", "alice.pub", "--root", "root.pub")
    Path("theirs").write_bytes(Path("ours").read_bytes())
    ok("trust", "ours", "--allow", "**", "--key", "bob.pub", "--sign-update", "update",
       "--root-key", "root")  # fmt: skip
    ok("trust", "theirs", "--update", "update")
    assert TrustStore.load("theirs") == TrustStore.load("ours")
    assert "rollback" in fails(capsys, "trust", "theirs", "--update", "update")
    ok("trust", "ours", "--allow", "**", "--key", "alice.pub", "--sign-update", "forged",
       "--root-key", "stranger")  # fmt: skip
    assert "0 of 1" in fails(capsys, "trust", "theirs", "--update", "forged")


def test_encrypt_rewrap_decrypt(capsys):
    ok("keygen", "alice", "--algorithm", "x25519")
    ok("keygen", "bob", "--algorithm", "x25519")
    ok("encrypt", "m.torshpkg", "-o", "e.torshpkg", "--password-file", "password", "--kdf",
       "scrypt", "--recipient", "alice.pub", "--algorithm", "chacha20-poly1305")  # fmt: skip
    assert b"a plain secret" not in Path("e.torshpkg").read_bytes()
    ok("verify", "e.torshpkg")
    assert "ciphertext is intact" in capsys.readouterr().out
    wrong = fails(capsys, "decrypt", "e.torshpkg", "-o", "d", "--password-file", "wrong")
    assert "cannot decrypt: the password or key is wrong, or" in wrong
    assert "battery" not in wrong
    assert not Path("d").exists()
    assert "encrypted: " in fails(capsys, "decrypt", "e.torshpkg", "-o", "d")
    ok("decrypt", "e.torshpkg", "-o", "d", "--identity", "alice")
    assert Path("d").read_bytes() == Path("m.torshpkg").read_bytes()
    ok("rewrap", "e.torshpkg", "--identity", "alice", "--add", "bob.pub", "--remove", "password")
    assert "x25519" in capsys.readouterr().out
    ok("decrypt", "e.torshpkg", "-o", "d", "--identity", "bob")
    fails(capsys, "decrypt", "e.torshpkg", "-o", "d", "--password-file", "password")
    assert "nobody could open" in fails(capsys, "encrypt", "m.torshpkg", "-o", "x")
    assert "to open the package" in fails(capsys, "rewrap", "e.torshpkg")


def test_a_damaged_encrypted_package_leaves_nothing(capsys):
    ok("keygen", "alice", "--algorithm", "x25519")
    ok("encrypt", "m.torshpkg", "-o", "e.torshpkg", "--recipient", "alice.pub")
    data = bytearray(Path("e.torshpkg").read_bytes())
    data[3000] ^= 1
    Path("e.torshpkg").write_bytes(data)
    before = sorted(Path().iterdir())
    fails(capsys, "decrypt", "e.torshpkg", "-o", "d", "--identity", "alice")
    assert sorted(Path().iterdir()) == before


def test_lineage(capsys):
    assert "holds no lineage" in fails(capsys, "lineage", "m.torshpkg")
    Path("model.pt").write_bytes(b"source")
    ok("lineage", "m.torshpkg", "--record", "model.pt", "--relation", "converted-from",
       "-o", "l.torshpkg")  # fmt: skip
    ok("lineage", "l.torshpkg")
    text = capsys.readouterr().out
    assert "acme/m@1.0.0 converted-from model.pt" in text
    assert "made by torsh-package on " in text
    ok("lineage", "l.torshpkg", "--format", "dot")
    assert capsys.readouterr().out.startswith("digraph lineage {")
    for form in ("json", "prov"):
        ok("lineage", "l.torshpkg", "--format", form)
        assert "model.pt" in json.dumps(json.loads(capsys.readouterr().out))


def test_recording_drops_signatures_that_no_longer_fit(capsys):
    ok("keygen", "alice")
    ok("sign", "m.torshpkg", "--key", "alice")
    Path("model.pt").write_bytes(b"source")
    ok("lineage", "m.torshpkg", "--record", "model.pt", "-o", "l.torshpkg")
    assert "sign it again" in capsys.readouterr().err
    assert Package.load("l.torshpkg").signatures is None


def test_sbom(capsys):
    ok("sbom", "m.torshpkg", "--task", "image-classification", "--dataset", "imagenet")
    text = capsys.readouterr().out
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert "imagenet" in text
    ok("sbom", "m.torshpkg", "-o", "bom.json")
    assert json.loads(Path("bom.json").read_text())["bomFormat"] == "CycloneDX"
    ok("sbom", "m.torshpkg", "--embed", "s.torshpkg")
    assert Package.load("s.torshpkg").sbom == "bom.cdx.json"


def test_policy_and_audit(capsys):
    GovernancePolicy(require_license=True, require_lineage=True).save("policy.json")
    text = fails(capsys, "policy", "m.torshpkg", "--policy", "policy.json", "--audit", "log")
    assert "BROKEN  require_license  no licence" in text
    package = Package.load("m.torshpkg")
    package.set_license("MIT")
    package.save("m.torshpkg")
    Path("model.pt").write_bytes(b"source")
    ok("lineage", "m.torshpkg", "--record", "model.pt")
    ok("policy", "m.torshpkg", "--policy", "policy.json", "--audit", "log", "--markdown")
    assert "| require_license | pass | MIT |" in capsys.readouterr().out
    ok("keygen", "alice")
    ok("sign", "m.torshpkg", "--key", "alice", "--audit", "log")
    fails(capsys, "decrypt", "m.torshpkg", "-o", "d", "--password-file", "wrong", "--audit", "log")
    ok("audit", "log", "--make-checkpoint", "checkpoint", "--key", "alice")
    text = capsys.readouterr().out
    assert "5 records, intact" in text
    assert [line.split()[2:4] for line in text.splitlines()[1:5]] == [
        ["policy", "ok"],
        ["policy", "ok"],
        ["sign", "ok"],
        ["decrypt", "refused"],
    ]
    ok("audit", "log", "--checkpoint", "checkpoint", "--public-key", "alice.pub")
    lines = Path("log").read_bytes().splitlines(keepends=True)
    Path("log").write_bytes(b"".join(lines[:-1]))
    ok("audit", "log")
    arguments = ("--checkpoint", "checkpoint", "--public-key", "alice.pub")
    assert "cut off" in fails(capsys, "audit", "log", *arguments)
    Path("log").write_bytes(b"".join([lines[0], *lines[2:]]))
    assert "removed, inserted or moved" in fails(capsys, "audit", "log")
    assert "cannot read" in fails(capsys, "audit", "no-log")
    assert not Path("no-log").exists()


def test_reading_a_log_changes_nothing(capsys):
    AuditLog("log").append("load", "m")
    torn = Path("log").read_bytes()[:-5]
    Path("log").write_bytes(torn)
    assert "torn" in fails(capsys, "audit", "log")
    assert Path("log").read_bytes() == torn
