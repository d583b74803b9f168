"""The audit log: tampering of every kind shows, a killed writer loses nothing it was told."""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torsh_package import AuditLog, MetricsCollector, Package, PackageSigner, ResourceType
from torsh_package.canonical_json import dumps
from torsh_package.errors import (
    IntegrityError,
    InvalidArgumentError,
    PackageError,
    SignatureError,
    StorageError,
)
from torsh_package.governance import AuditHead
from torsh_package.observing import Operation, observed


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.log", actor="tester")
    for number in range(5):
        log.append("load", f"model-{number}", details={"n": str(number)})
    return log


def rows(log: AuditLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_records(log: AuditLog):
    events = [(r.sequence, r.event, r.subject, r.actor) for r in log.records()]
    assert events[0][1] == "log.created"
    assert events[3] == (3, "load", "model-2", "tester")
    assert log.verify() == AuditHead(6, list(log.records())[-1].hash)
    assert log.path.stat().st_mode & 0o777 == 0o600
    line = json.loads(rows(log)[2])
    assert line["previous"] == json.loads(rows(log)[1])["hash"]


def test_two_logs_never_begin_alike(tmp_path: Path):
    one, two = (AuditLog(tmp_path / name).verify().hash for name in "ab")
    assert one != two


def _forged(line: bytes) -> bytes:
    """A record with other content and a hash that fits it."""
    record = json.loads(line)
    record["subject"] = "forged"
    del record["hash"]
    record["hash"] = hashlib.sha256(dumps(record)).hexdigest()
    return dumps(record) + b"\n"


TAMPERED = {
    "changed": lambda r: [*r[:2], r[2].replace(b"model-1", b"model-X"), *r[3:]],
    "changed with its hash": lambda r: [*r[:2], _forged(r[2]), *r[3:]],
    "removed": lambda r: [*r[:2], *r[3:]],
    "first removed": lambda r: r[1:],
    "swapped": lambda r: [*r[:2], r[3], r[2], *r[4:]],
    "repeated": lambda r: [*r[:3], r[2], *r[3:]],
    "inserted": lambda r: [*r[:3], _forged(r[2]), *r[3:]],
    "garbage line": lambda r: [*r[:3], b"garbage\n", *r[3:]],
    "empty line": lambda r: [*r[:3], b"\n", *r[3:]],
    "huge line": lambda r: [*r[:3], b"x" * 200_000 + b"\n", *r[3:]],
    "torn in the middle": lambda r: [*r[:3], r[3][:20], *r[4:]],
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampering_shows(log: AuditLog, case: str):
    log.path.write_bytes(b"".join(TAMPERED[case](rows(log))))
    with pytest.raises(IntegrityError) as caught:
        log.verify()
    assert caught.value.entry == str(log.path)


def test_every_bit_flip_shows(log: AuditLog):
    log.path.write_bytes(b"".join(rows(log)[:3]))
    data = log.path.read_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        log.path.write_bytes(changed)
        with pytest.raises(IntegrityError):
            log.verify()


def test_appending_to_a_changed_end_is_refused(log: AuditLog):
    data = log.path.read_bytes()
    log.path.write_bytes(data.replace(b"model-4", b"model-X"))
    with pytest.raises(IntegrityError, match="record 5 was changed"):
        log.append("load", "m")
    log.path.write_bytes(b"no log at all\n")
    with pytest.raises(IntegrityError, match="no audit record"):
        AuditLog(log.path)


def test_a_cut_off_end_shows_against_a_checkpoint(log: AuditLog):
    signer, stranger = PackageSigner(), PackageSigner()
    checkpoint = log.checkpoint(signer.private_key)
    keys = [signer.public_key]
    log.append("load", "later")
    log.verify(checkpoint, keys)
    log.path.write_bytes(b"".join(rows(log)[:-2]))
    assert log.verify().count == 5  # the chain alone cannot know
    with pytest.raises(IntegrityError, match="cut off or replaced"):
        log.verify(checkpoint, keys)
    log.append("load", "forged instead")
    with pytest.raises(IntegrityError, match="checkpoint of 6"):
        log.verify(checkpoint, keys)
    with pytest.raises(SignatureError, match="may sign"):
        log.verify(checkpoint, [stranger.public_key])
    with pytest.raises(SignatureError, match="no checkpoint"):
        log.verify(signer.sign(b"x").to_bytes(), keys)


def test_a_torn_record_is_set_aside_and_recorded(log: AuditLog):
    data = log.path.read_bytes()
    start = data[:-1].rfind(b"\n") + 1
    for cut in (start + 1, start + 2, *range(start + 3, len(data) - 2, 19), len(data) - 1):
        log.path.write_bytes(data[:cut])
        with pytest.raises(IntegrityError, match="torn"):
            log.verify()
        AuditLog(log.path).append("load", "next")
        *_, recovered, last = log.records()
        assert recovered.event == "log.recovered"
        assert recovered.details["bytes"] == str(cut - start)
        assert (last.sequence, last.subject) == (6, "next")


def test_a_log_torn_in_its_first_record_begins_anew(tmp_path: Path):
    path = tmp_path / "a.log"
    path.write_bytes(b'{"actor":')
    assert [record.event for record in AuditLog(path).records()] == ["log.created", "log.recovered"]


_WRITER = """
import sys
from torsh_package import AuditLog
log = AuditLog(sys.argv[1])
while True:
    print(log.append("load", "m", details={"filler": "x" * 3000}).sequence, flush=True)
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path):
    path = tmp_path / "audit.log"
    generator = random.Random(0)
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(generator.uniform(0.01, 0.2))
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().split()
        writer.stdout.close()
        writer.wait()
        head = AuditLog(path).verify()
        assert head.count > int(told[-1])


def _append_many(path: str, count: int) -> None:
    log = AuditLog(path, actor=str(os.getpid()))
    for _ in range(count):
        log.append("load", "m")


def test_several_processes_share_a_log(tmp_path: Path):
    path = str(tmp_path / "audit.log")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(path, 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    log = AuditLog(path)
    assert log.verify().count == 61
    assert len({record.actor for record in log.records()}) == 3


def test_a_full_disk_records_nothing_by_half(log: AuditLog, monkeypatch):
    before = log.path.read_bytes()
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space left"):
        log.append("load", "m")
    assert log.path.read_bytes() == before


def test_careless_records_are_refused(log: AuditLog, tmp_path: Path):
    before = log.path.read_bytes()
    for key in ("password", "Passphrase", "private_key", "api-token", "secret"):
        with pytest.raises(InvalidArgumentError, match="speaks of a secret"):
            log.append("load", "m", details={key: "x"})
    with pytest.raises(InvalidArgumentError, match="lower-case"):
        log.append("Load it", "m")
    with pytest.raises(InvalidArgumentError, match="limit 65536"):
        log.append("load", "m" * 70_000)
    assert log.path.read_bytes() == before
    (tmp_path / "link").symlink_to(log.path)
    with pytest.raises(StorageError, match="cannot open"):
        AuditLog(tmp_path / "link")


def test_loads_and_saves_are_recorded(tmp_path: Path):
    log, metrics = AuditLog(tmp_path / "audit.log"), MetricsCollector()
    observers = [log, metrics]
    package = Package("m", "1.0.0")
    package.add_resource("config", b"x" * 100, ResourceType.Config)
    package.save(tmp_path / "m.torshpkg", observers=observers)
    Package.load(tmp_path / "m.torshpkg", observers=observers)
    with pytest.raises(PackageError):
        Package.load(tmp_path / "m.torshpkg", trust=PackageSigner().store(), observers=observers)
    with pytest.raises(PackageError):
        Package.load(tmp_path / "missing.torshpkg", observers=observers)
    found = [(r.event, r.outcome, r.details.get("error")) for r in log.records()][1:]
    assert found == [
        ("save", "ok", None),
        ("load", "ok", None),
        ("load", "refused", "untrusted"),
        ("load", "refused", "storage"),
    ]
    assert list(log.records())[2].details["bytes"] == "100"
    counts = {key: total.count for key, total in metrics.snapshot().items()}
    assert counts == {("save", "ok"): 1, ("load", "ok"): 1, ("load", "refused"): 2}


def test_an_unwritable_audit_log_stops_the_operation(tmp_path: Path, monkeypatch):
    package = Package("m", "1.0.0")
    package.save(tmp_path / "m.torshpkg")
    log = AuditLog(tmp_path / "audit.log")
    monkeypatch.setattr(os, "write", lambda *_: 0)
    with pytest.raises(StorageError, match="cannot append"):
        Package.load(tmp_path / "m.torshpkg", observers=[log])


def test_metrics_in_the_prometheus_format():
    metrics = MetricsCollector()
    metrics.observe(Operation("load", "m", seconds=0.003, size=10))
    metrics.observe(Operation("load", "m", seconds=3.0, size=5))
    metrics.observe(Operation("load", "m", "refused", "signature"))
    text = metrics.to_prometheus()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    labels = 'operation="load",outcome="ok"'
    assert values[f'torshpkg_operation_seconds_bucket{{{labels},le="0.001"}}'] == "0"
    assert values[f'torshpkg_operation_seconds_bucket{{{labels},le="0.005"}}'] == "1"
    assert values[f'torshpkg_operation_seconds_bucket{{{labels},le="10.0"}}'] == "2"
    assert values[f'torshpkg_operation_seconds_bucket{{{labels},le="+Inf"}}'] == "2"
    assert values[f"torshpkg_operation_seconds_sum{{{labels}}}"] == "3.003"
    assert values[f"torshpkg_operation_bytes_total{{{labels}}}"] == "15"
    assert values['torshpkg_errors_total{operation="load",code="signature"}'] == "1"


def test_other_errors_are_failures_not_refusals():
    seen: list[Operation] = []

    class Watcher:
        def observe(self, operation: Operation, /) -> None:
            seen.append(operation)

    with pytest.raises(RuntimeError), observed([Watcher()], "convert", "m"):
        raise RuntimeError
    assert (seen[0].outcome, seen[0].code) == ("failed", "")
