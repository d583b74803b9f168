"""Loading, saving and publishing are on record, however they end, for who asks for it."""

import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from torsh_package import (
    AuditLog,
    EncryptedPackage,
    IntegrityError,
    Package,
    PackageEncryptor,
    PackageSigner,
    ResourceType,
    StorageError,
    X25519Identity,
)
from torsh_package.governance.audit import AuditRecord
from torsh_package.storage import LocalStorage
from torsh_package.trust import UntrustedError

ALICE = X25519Identity.generate()


def make() -> Package:
    package = Package("acme/m", "1.2.3")
    package.add_resource("data", b"x" * 1000, ResourceType.Data)
    return package


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.log", actor="ci")


def last(log: AuditLog) -> AuditRecord:
    return list(log.records())[-1]


def manifest_digest(path: Path) -> str:
    """What the record must say of a file, by other means."""
    with zipfile.ZipFile(path) as archive:
        return hashlib.sha256(archive.read("manifest.json")).hexdigest()


def test_save_and_load(tmp_path: Path, log: AuditLog) -> None:
    path = tmp_path / "m.torshpkg"
    make().save(path, observers=[log])
    saved = last(log)
    assert (saved.event, saved.outcome, saved.subject) == ("save", "ok", "acme/m 1.2.3")
    assert saved.details == {
        "target": str(path), "manifest": manifest_digest(path), "bytes": "1000"
    }  # fmt: skip
    Package.load(path, observers=[log])
    loaded = last(log)
    assert (loaded.event, loaded.outcome, loaded.actor) == ("load", "ok", "ci")
    assert loaded.details["manifest"] == saved.details["manifest"]
    assert loaded.details["trusted"] == "false"
    signer = PackageSigner()
    package = Package.load(path)
    package.set_signature(signer.sign(package.manifest().to_bytes()))
    package.save(path)
    Package.load(path, trust=signer.store(), observers=[log])
    assert last(log).details["trusted"] == "true"
    assert log.verify().count == 4


def test_publish_is_a_save_into_a_storage(tmp_path: Path, log: AuditLog) -> None:
    (tmp_path / "store" / "nets").mkdir(parents=True)
    store = LocalStorage(tmp_path / "store")
    make().save("nets/m.torshpkg", storage=store, observers=[log])
    record = last(log)
    assert (record.event, record.outcome, record.subject) == ("publish", "ok", "acme/m 1.2.3")
    assert record.details["target"] == "nets/m.torshpkg"
    path = tmp_path / "store" / "nets" / "m.torshpkg"
    assert record.details["manifest"] == manifest_digest(path)
    before = path.read_bytes()
    with pytest.raises(StorageError):
        make().save("nets/m.torshpkg", storage=store, if_match="", observers=[log])
    assert path.read_bytes() == before
    record = last(log)
    assert (record.event, record.outcome) == ("publish", "refused")
    assert "manifest" not in record.details


def test_encrypted_packages(tmp_path: Path, log: AuditLog) -> None:
    path = tmp_path / "e.torshpkg"
    encryptor = PackageEncryptor()
    encryptor.encrypt_package(make(), ALICE.recipient).save(path, observers=[log])
    assert (last(log).event, last(log).details["manifest"]) == ("save", manifest_digest(path))
    loaded = EncryptedPackage.load(path, observers=[log])
    assert (last(log).event, last(log).details["manifest"]) == ("load", manifest_digest(path))
    loaded.rewrap(ALICE, add=[X25519Identity.generate().recipient])
    loaded.save(tmp_path / "again.torshpkg", observers=[log])
    assert last(log).details["target"] == str(tmp_path / "again.torshpkg")
    assert last(log).details["manifest"] == manifest_digest(path)
    Package.load(path, identities=[ALICE], observers=[log])
    assert [record.event for record in log.records()][1:] == ["save", "load", "save", "load"]


def _damaged(folder: Path, log: AuditLog) -> None:
    data = bytearray(make().to_bytes())
    data[200] ^= 1
    (folder / "x").write_bytes(data)
    Package.load(folder / "x", observers=[log])


def _untrusted(folder: Path, log: AuditLog) -> None:
    Package.load(make().to_bytes(), trust=PackageSigner().store(), observers=[log])


def _no_folder(folder: Path, log: AuditLog) -> None:
    make().save(folder / "none" / "m", observers=[log])


def _not_encrypted(folder: Path, log: AuditLog) -> None:
    EncryptedPackage.load(make().to_bytes()[:-1], observers=[log])


REFUSED: dict[str, tuple[Callable[[Path, AuditLog], None], str, type[Exception]]] = {
    "damaged": (_damaged, "load", IntegrityError),
    "untrusted": (_untrusted, "load", UntrustedError),
    "no folder": (_no_folder, "save", StorageError),
    "cut, encrypted or not": (_not_encrypted, "load", Exception),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_recorded(case: str, tmp_path: Path, log: AuditLog) -> None:
    call, event, error = REFUSED[case]
    with pytest.raises(error) as caught:
        call(tmp_path, log)
    record = last(log)
    assert (record.event, record.outcome) == (event, "refused")
    assert record.details["error"] == getattr(caught.value, "code", None)
    assert log.verify().count == 2  # the first says that the log was made


def test_what_cannot_be_recorded_is_not_done_in_silence(tmp_path: Path, log: AuditLog) -> None:
    make().save(tmp_path / "m")
    log.path.write_bytes(b"no log\n")
    with pytest.raises(IntegrityError):
        Package.load(tmp_path / "m", observers=[log])


_WRITER = """
import sys
from torsh_package import AuditLog, Package, ResourceType
log = AuditLog(sys.argv[1] + "/audit.log")
package = Package("acme/m", "1.0.0")
package.add_resource("data", bytes(100), ResourceType.Data)
while True:
    package.save(sys.argv[1] + "/m.torshpkg", observers=[log])
    print("saved", flush=True)
    Package.load(sys.argv[1] + "/m.torshpkg", observers=[log])
"""


def test_a_killed_process_leaves_a_log_with_all_it_said(tmp_path: Path) -> None:
    """kill -9 at any time: whatever was reported as done is on record, and the chain is whole."""
    root = Path(__file__).parents[3]
    for saves in (1, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=root
        )
        assert process.stdout is not None
        for _ in range(saves):
            assert process.stdout.readline() == b"saved\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        said = saves + process.stdout.read().count(b"saved")
        process.stdout.close()
        log = AuditLog(tmp_path / "audit.log")  # repairs a record that was cut
        assert log.verify().count == len(list(log.records()))
        assert sum(record.event == "save" for record in log.records()) >= said
        log.path.unlink()
