"""`AuditLog`: an append-only file of hash-chained records.

Each line is one record in canonical JSON; its `hash` is the SHA-256 of the record without that
field, and the record holds the hash of the one before it. A record is on disk before `append`
returns. So a changed, removed, inserted or moved record breaks the chain; that the last records
were cut off shows against a signed checkpoint kept elsewhere. Several processes may write one log.
"""

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torsh_package.canonical_json import JsonObject, dumps, loads
from torsh_package.errors import (
    IntegrityError,
    InvalidArgumentError,
    PackageError,
    SignatureError,
    StorageError,
)
from torsh_package.observing import Operation
from torsh_package.schema import Fields
from torsh_package.times import format_time, now
from torsh_package.trust.dsse import Envelope, dump_envelopes, load_envelopes
from torsh_package.trust.keys import PrivateKey, PublicKey

CHECKPOINT_TYPE = "application/vnd.torshpkg.audit-checkpoint+json"
MAX_RECORD_BYTES = 64 * 1024
NO_HASH = "0" * 64

_EVENT = re.compile(r"[a-z][a-z0-9.-]{0,63}")
_SECRET = re.compile(r"passw|passphrase|secret|private.?key|token", re.IGNORECASE)
_TAIL_BYTES = 2 * MAX_RECORD_BYTES


@dataclass(frozen=True)
class AuditRecord:
    """One record.

    Args:
        sequence: 0 for the first.
        time: When it was written, RFC 3339 UTC.
        event: What happened.
        actor: Who did it.
        subject: To what.
        outcome: `ok`, `refused` or `failed`.
        details: Further facts.
        previous: Hash of the record before.
        hash: Of this record.
    """

    sequence: int
    time: str
    event: str
    actor: str
    subject: str
    outcome: str
    details: Mapping[str, str]
    previous: str
    hash: str = ""

    def body(self) -> JsonObject:
        """What the hash is over."""
        return {
            "sequence": self.sequence,
            "time": self.time,
            "event": self.event,
            "actor": self.actor,
            "subject": self.subject,
            "outcome": self.outcome,
            "details": dict(self.details),
            "previous": self.previous,
        }

    def digest(self) -> str:
        """The hash that the record must have."""
        return hashlib.sha256(dumps(self.body())).hexdigest()

    def line(self) -> bytes:
        """The record as it lies in the file."""
        return dumps({**self.body(), "hash": self.hash}) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "AuditRecord":
        """Read a line without its newline; `ManifestError` if it is malformed."""
        fields = Fields(loads(line, entry="audit record", limit=MAX_RECORD_BYTES), "record")
        details = fields.nested("details")
        record = cls(
            sequence=fields.integer("sequence"),
            time=fields.string("time"),
            event=fields.string("event"),
            actor=fields.string("actor"),
            subject=fields.string("subject"),
            outcome=fields.string("outcome"),
            details={key: details.string(key) for key in sorted(details.left)},
            previous=fields.string("previous"),
            hash=fields.string("hash"),
        )
        fields.end()
        return record


@dataclass(frozen=True)
class AuditHead:
    """The end of a log: how many records it has, and the hash of the last."""

    count: int
    hash: str


@dataclass(frozen=True)
class _Tail:
    """What is at the end of a log file: the last whole record, and what follows it."""

    record: AuditRecord | None
    torn: bytes = field(default=b"", repr=False)


class AuditLog:
    """An audit log file; created when it does not exist.

    Args:
        path: The file (mode 0600).
        actor: Who acts, in records that do not say.
        read_only: Neither create nor repair the file, and refuse to append.

    Raises:
        StorageError: The file system refuses.
        IntegrityError: The end of the file is no audit log.
    """

    def __init__(self, path: str | os.PathLike[str], *, actor: str = "", read_only: bool = False):
        self._path = Path(path)
        self._actor = actor
        self._read_only = read_only
        if not read_only:
            with self._locked() as descriptor:
                self._recovered(descriptor)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def append(
        self,
        event: str,
        subject: str,
        *,
        outcome: str = "ok",
        actor: str | None = None,
        details: Mapping[str, str] | None = None,
    ) -> AuditRecord:
        """Add a record; it is on disk when this returns.

        Args:
            event: Lower-case words (`load`, `key.revoked`).
            subject: What it happened to.
            outcome: `ok`, `refused` or `failed`.
            actor: Who did it.
            details: Further facts. Names that speak of secrets are refused.

        Raises:
            InvalidArgumentError: A field cannot be recorded.
            IntegrityError: The end of the log was changed.
            StorageError: The file system refuses; nothing was recorded.
        """
        if self._read_only:
            raise InvalidArgumentError("the log was opened read_only", entry=str(self._path))
        if not _EVENT.fullmatch(event):
            raise InvalidArgumentError(f"event {event[:64]!r}: use lower-case letters, . and -")
        for key in details or {}:
            if _SECRET.search(key):
                raise InvalidArgumentError(f"detail {key!r} speaks of a secret; do not record it")
        with self._locked() as descriptor:
            last = self._recovered(descriptor)
            actor = self._actor if actor is None else actor
            record = _following(last, event, subject, outcome, actor, details or {})
            _write(descriptor, record.line(), self._path)
        return record

    def observe(self, operation: Operation, /) -> None:
        """Record an operation (`torsh_package.observing.Observer`)."""
        details = dict(operation.details)
        if operation.code:
            details["error"] = operation.code
        if operation.size:
            details["bytes"] = str(operation.size)
        self.append(operation.name, operation.subject, outcome=operation.outcome, details=details)

    def records(self) -> Iterator[AuditRecord]:
        """All records in order, each checked against the one before; raises as `verify`."""
        previous = None
        offset = 0
        for line in self._lines():
            previous = self._checked(line, previous, offset)
            offset += len(line)
            yield previous

    def verify(self, checkpoint: bytes | None = None, keys: Iterable[PublicKey] = ()) -> AuditHead:
        """Check the whole log.

        Args:
            checkpoint: From `checkpoint`, kept elsewhere: the log must still contain what it had.
            keys: Who may have signed the checkpoint.

        Raises:
            IntegrityError: A record was changed, removed, inserted or cut off; says which.
            SignatureError: The checkpoint is not signed by one of `keys`.
        """
        known = None if checkpoint is None else _read_checkpoint(checkpoint, keys)
        head = AuditHead(0, NO_HASH)
        seen = known is None or known == head
        for record in self.records():
            head = AuditHead(record.sequence + 1, record.hash)
            seen = seen or head == known
        if not seen and known is not None:
            raise IntegrityError(
                f"the log has {head.count} records and not the one that its checkpoint of "
                f"{known.count} ends with: records were cut off or replaced",
                entry=str(self._path),
            )
        return head

    def checkpoint(self, key: PrivateKey) -> bytes:
        """A signed statement of what the log holds now; keep it where the log's writer cannot."""
        head = self.verify()
        payload = dumps({"count": head.count, "hash": head.hash})
        return dump_envelopes([Envelope(CHECKPOINT_TYPE, payload).signed(key)])

    # Inside

    @contextmanager
    def _locked(self) -> Generator[int]:
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise StorageError(f"cannot open: {error.strerror}", entry=str(self._path)) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _recovered(self, descriptor: int) -> AuditRecord:
        """The last record, once a record that was cut off by a crash has been set aside."""
        tail = self._tail(descriptor)
        last = tail.record
        if tail.torn:
            # The write of it never returned, so nobody was told that it was recorded.
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(tail.torn))
        if last is None:
            last = _following(None, "log.created", secrets.token_hex(16), "ok", self._actor, {})
            _write(descriptor, last.line(), self._path)
        if tail.torn:
            facts = {
                "bytes": str(len(tail.torn)),
                "sha256": hashlib.sha256(tail.torn).hexdigest(),
            }
            last = _following(last, "log.recovered", "torn record", "ok", self._actor, facts)
            _write(descriptor, last.line(), self._path)
        return last

    def _tail(self, descriptor: int) -> _Tail:
        size = os.fstat(descriptor).st_size
        start = max(0, size - _TAIL_BYTES)
        data = os.pread(descriptor, size - start, start)
        whole, newline, torn = data.rpartition(b"\n")
        if not newline:
            if start or len(data) > MAX_RECORD_BYTES:
                raise IntegrityError("is no audit log", entry=str(self._path))
            return _Tail(None, data)
        line = whole[whole.rfind(b"\n") + 1 :]
        return _Tail(self._parsed(line, start + len(whole) - len(line)), torn)

    def _parsed(self, line: bytes, offset: int) -> AuditRecord:
        try:
            record = AuditRecord.parse(line)
        except PackageError as error:
            raise IntegrityError(
                f"is no audit record: {error.message}", entry=str(self._path), offset=offset
            ) from None
        if record.digest() != record.hash:
            raise IntegrityError(
                f"record {record.sequence} was changed", entry=str(self._path), offset=offset
            )
        return record

    def _checked(self, line: bytes, previous: AuditRecord | None, offset: int) -> AuditRecord:
        if not line.endswith(b"\n"):
            raise IntegrityError(
                "the last record is torn; open the log to set it aside",
                entry=str(self._path),
                offset=offset,
            )
        record = self._parsed(line[:-1], offset)
        expected = 0 if previous is None else previous.sequence + 1
        follows = NO_HASH if previous is None else previous.hash
        if record.sequence != expected or record.previous != follows:
            raise IntegrityError(
                f"record {record.sequence} does not follow record {expected - 1}: "
                "records were removed, inserted or moved",
                entry=str(self._path),
                offset=offset,
            )
        return record

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                while line := file.readline(MAX_RECORD_BYTES + 1):
                    yield line
        except OSError as error:
            raise StorageError(f"cannot read: {error.strerror}", entry=str(self._path)) from None


def _following(
    last: AuditRecord | None,
    event: str,
    subject: str,
    outcome: str,
    actor: str,
    details: Mapping[str, str],
) -> AuditRecord:
    record = AuditRecord(
        sequence=0 if last is None else last.sequence + 1,
        time=format_time(now()),
        event=event,
        actor=actor,
        subject=subject,
        outcome=outcome,
        details=dict(details),
        previous=NO_HASH if last is None else last.hash,
    )
    return replace(record, hash=record.digest())


def _write(descriptor: int, line: bytes, path: Path) -> None:
    if len(line) > MAX_RECORD_BYTES:
        raise InvalidArgumentError(f"audit record of {len(line)} bytes, limit {MAX_RECORD_BYTES}")
    start = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(28, "No space left on device")
        os.fsync(descriptor)
    except OSError as error:
        os.ftruncate(descriptor, start)
        raise StorageError(f"cannot append: {error.strerror}", entry=str(path)) from None


def _read_checkpoint(data: bytes, keys: Iterable[PublicKey]) -> AuditHead:
    envelopes = load_envelopes(data)
    if len(envelopes) != 1 or envelopes[0].payload_type != CHECKPOINT_TYPE:
        raise SignatureError("is no checkpoint of an audit log")
    if not any(envelopes[0].is_signed_by(key) for key in keys):
        raise SignatureError("the checkpoint is not signed by a key that may sign it")
    fields = Fields(
        loads(envelopes[0].payload, entry="checkpoint", limit=MAX_RECORD_BYTES), "checkpoint"
    )
    head = AuditHead(fields.integer("count"), fields.hexadecimal("hash", 32).hex())
    fields.end()
    return head
