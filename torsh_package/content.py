"""Plain bytes of a resource, wherever they are: in memory, in a file, in arrays, in an archive."""

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torsh_package.buffers import Recycler, aligned_buffer
from torsh_package.codecs import decompress
from torsh_package.digest import DigestSpec, LeafVerifier
from torsh_package.errors import CodecError, IntegrityError, StorageError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.manifest import DOCUMENTS, ResourceEntry
from torsh_package.protocols import Buffer, Opener, SealContext

READ_BYTES = 4 << 20


class Content(Protocol):
    """Plain bytes that can be read more than once."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def pieces(self) -> Iterator[Buffer]:
        """All bytes in order, in pieces; constant memory where that is possible."""
        ...

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes `start..stop`, without a copy where that is possible."""
        ...


class BytesContent:
    """Bytes in memory, not copied."""

    def __init__(self, data: Buffer):
        self._view = memoryview(data).cast("B").toreadonly()

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._view)

    def pieces(self) -> Iterator[Buffer]:
        """The bytes."""
        yield self._view

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes `start..stop`."""
        return self._view[start:stop]


class JoinedContent:
    """Several buffers behind each other, each at its own offset, zeros between them."""

    def __init__(self, parts: Sequence[tuple[int, memoryview]], size: int):
        self._parts = parts
        self._size = size

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def pieces(self) -> Iterator[Buffer]:
        """Parts and the zeros between them."""
        at = 0
        for offset, part in self._parts:
            if offset > at:
                yield bytes(offset - at)
            yield part
            at = offset + len(part)
        if self._size > at:
            yield bytes(self._size - at)

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes `start..stop`, copied unless they lie in one part."""
        for offset, part in self._parts:
            if offset <= start and stop <= offset + len(part):
                return part[start - offset : stop - offset]
        return memoryview(b"".join(self.pieces()))[start:stop]


class FileContent:
    """A file, read when it is needed; it must not change until the package has been saved."""

    def __init__(self, path: str | os.PathLike[str]):
        self._path = Path(path)
        try:
            self._size = self._path.stat().st_size
        except OSError as error:
            raise StorageError(f"cannot be read: {error}", entry=str(path)) from None

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def pieces(self) -> Iterator[Buffer]:
        """The file in pieces of 4 MiB.

        Raises:
            StorageError: It cannot be read, or has another size than before.
        """
        total, buffers = 0, Recycler()
        try:
            with self._path.open("rb", buffering=0) as file:
                while total < self._size:
                    buffer = buffers.take(READ_BYTES)
                    count = file.readinto(buffer)
                    if not count:
                        break
                    total += count
                    yield buffer[:count]
                    del buffer
        except OSError as error:
            raise StorageError(f"cannot be read: {error}", entry=str(self._path)) from None
        if total != self._size:
            raise StorageError(
                f"had {self._size} bytes and now has {total}; it changed while it was packed",
                entry=str(self._path),
            )

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes `start..stop`, read into memory."""
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return memoryview(file.read(stop - start))
        except OSError as error:
            raise StorageError(f"cannot be read: {error}", entry=str(self._path)) from None


@dataclass(frozen=True)
class StoredForm:
    """Stored bytes of an entry with what is needed to read them.

    Attributes:
        entry: What the manifest says.
        data: Stored bytes.
        verifier: Verifies them before anything parses them.
        spec: How digests are made.
        opener: Decrypts them, if they are encrypted and a key was given.
        limits: Bounds for decoding.
    """

    entry: ResourceEntry
    data: memoryview
    verifier: LeafVerifier
    spec: DigestSpec
    opener: Opener | None = None
    limits: Limits = DEFAULT_LIMITS


class StoredContent:
    """The plain bytes of an archive entry; verified before use, decoded on first use."""

    def __init__(self, form: StoredForm):
        self.form = form
        self.lock = threading.Lock()
        self._plain: memoryview | None = None
        _LOCKED.add(self)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.form.entry.plain_size

    @property
    def zero_copy(self) -> bool:
        """Whether plain bytes are stored bytes."""
        return self.form.entry.codec is None and self.form.entry.encryption is None

    def pieces(self) -> Iterator[Buffer]:
        """Verified, opened and decoded pieces; whoever uses them early may not trust the end.

        Raises:
            IntegrityError: The stored bytes are damaged (raised before the first piece).
            CodecError: They do not decode to what the manifest says.
            DecryptionError: They cannot be opened.
        """
        form, entry = self.form, self.form.entry
        form.verifier.verify()
        if self._plain is not None or self.zero_copy:
            yield self._plain if self._plain is not None else form.data
            return
        stored: Iterator[Buffer] = iter([form.data])
        if entry.encryption is not None:
            if form.opener is None:
                raise IntegrityError("is encrypted and no key was given", entry=entry.path)
            stored = form.opener.open(seal_context(entry), entry.encryption, form.data)
        if entry.codec is None:
            yield from _exactly(stored, entry)
            return
        yield from decompress(
            entry.codec, stored, entry.plain_size, entry=entry.path, limits=form.limits
        )

    def view(self, start: int, stop: int) -> memoryview:
        """Bytes `start..stop`; of stored bytes only the leaves that hold them are verified."""
        if self.zero_copy:
            self.form.verifier.verify(start, stop)
            return self.form.data[start:stop]
        with self.lock:
            if self._plain is None:
                self._plain = self._decoded()
        return self._plain[start:stop]

    def _decoded(self) -> memoryview:
        """All plain bytes, in memory."""
        form, entry = self.form, self.form.entry
        if form.opener is not None and entry.encryption is not None and entry.codec is None:
            form.verifier.verify()
            target = aligned_buffer(entry.plain_size)
            form.opener.open_into(seal_context(entry), entry.encryption, form.data, target)
            return target.toreadonly()
        plain = _collect(self.pieces(), self.size)
        self._check_plain(plain)
        return plain

    def _check_plain(self, plain: memoryview) -> None:
        root = self.form.entry.plain_root
        if root is not None and self.form.spec.of(plain) != root:
            raise IntegrityError(
                "decompressed bytes do not have their digest", entry=self.form.entry.path
            )


_LOCKED: "weakref.WeakSet[StoredContent]" = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked child: a lock may be held by a thread that exists in the parent only."""
    for content in list(_LOCKED):
        content.lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)


def seal_context(entry: ResourceEntry) -> SealContext:
    """What encryption binds of a resource."""
    return SealContext(
        name=entry.name,
        type=entry.type.value,
        document=entry.path.startswith(DOCUMENTS),
        media_type=entry.media_type,
        codec=entry.codec,
        plain_size=entry.plain_size,
    )


def _collect(pieces: Iterator[Buffer], size: int) -> memoryview:
    """Pieces of `size` bytes in all, in aligned memory."""
    target = aligned_buffer(size)
    at = 0
    for piece in pieces:
        view = memoryview(piece).cast("B")
        target[at : at + len(view)] = view
        at += len(view)
    return target.toreadonly()


def _exactly(pieces: Iterator[Buffer], entry: ResourceEntry) -> Iterator[Buffer]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > entry.plain_size:
            break
        yield piece
    if total != entry.plain_size:
        raise CodecError(
            f"opens to {total} bytes, not the {entry.plain_size} announced", entry=entry.path
        )
