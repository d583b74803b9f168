"""What happened to packages, told to whoever keeps audit logs or metrics."""

import hashlib
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from torsh_package.errors import PackageError

Outcome: TypeAlias = Literal["ok", "refused", "failed"]


@dataclass(frozen=True)
class Operation:
    """One thing that was done, or tried, with a package.

    Args:
        name: `load`, `save`, `publish` (a save into a storage), or a verb of the command line.
        subject: What it was done with: package and version, or a path when it could not be read.
        outcome: `ok`; `refused` by a check of this library; `failed` for another reason.
        code: Code of the `PackageError` that refused it, empty otherwise.
        seconds: How long it took.
        size: Bytes that were read or written, 0 when that is not known.
        details: Further facts; never secrets.
    """

    name: str
    subject: str
    outcome: Outcome = "ok"
    code: str = ""
    seconds: float = 0.0
    size: int = 0
    details: Mapping[str, str] = field(default_factory=dict[str, str])


class Sized(Protocol):
    """What is stored in so many bytes."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...


class Observer(Protocol):
    """Someone who is told of operations, after each."""

    def observe(self, operation: Operation, /) -> None:
        """Take note; an error here makes the operation fail."""
        ...


@dataclass
class Noted:
    """Facts of an operation that become known while it runs."""

    subject: str
    size: int = 0
    details: dict[str, str] = field(default_factory=dict[str, str])

    def of(self, manifest: bytes, entries: Iterable[Sized]) -> None:
        """Note which package it is: the SHA-256 of its manifest, which binds all its bytes."""
        self.details["manifest"] = hashlib.sha256(manifest).hexdigest()
        self.size = sum(entry.size for entry in entries)


@contextmanager
def observed(observers: Sequence[Observer], name: str, subject: str) -> Generator[Noted]:
    """Tell observers of what happens inside, with its outcome.

    Args:
        observers: Whom to tell.
        name: Of the operation.
        subject: What it is done with, as far as known; the block may say it better.
    """
    noted = Noted(subject)
    start = time.monotonic()
    outcome: Outcome = "failed"
    code = ""
    try:
        yield noted
        outcome = "ok"
    except PackageError as error:
        outcome, code = "refused", error.code
        raise
    finally:
        done = Operation(
            name=name,
            subject=noted.subject,
            outcome=outcome,
            code=code,
            seconds=time.monotonic() - start,
            size=noted.size,
            details=noted.details,
        )
        for observer in observers:
            observer.observe(done)
