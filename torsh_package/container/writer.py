"""Writing a canonical archive in one pass, hashing beside it."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from torsh_package.container.crc32 import combine, crc32
from torsh_package.container.layout import (
    ArchiveEntry,
    data_offset,
    directory,
    local_header,
)
from torsh_package.digest import DigestSpec, default_workers
from torsh_package.errors import InvalidArgumentError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.names import check_path, find_collision
from torsh_package.protocols import BlobWriter, Buffer


@dataclass(frozen=True)
class Written:
    """What is known of an entry's data once it has been written.

    Attributes:
        size: Bytes.
        crc32: CRC-32.
        root: Digest (`DigestSpec.root`).
        leaves: Digests of its leaves.
    """

    size: int
    crc32: int
    root: bytes
    leaves: tuple[bytes, ...]


class Hasher:
    """Digests and CRC of contents, leaf by leaf on threads, in constant memory.

    Nothing is copied: a buffer that is passed in must not change or be used again for other
    bytes until `measure` or the iteration has ended.
    """

    def __init__(self, spec: DigestSpec, pool: ThreadPoolExecutor | None = None):
        self.spec = spec
        self._pool = pool
        self._ahead = 2 * default_workers()

    def tee(self, pieces: Iterable[Buffer], result: list[Written]) -> Iterator[memoryview]:
        """Passes a content on while hashing it; appends to `result` at the end."""
        leaves: list[bytes] = []
        crc = size = 0
        pending: deque[tuple[int, Future[tuple[bytes, int]]]] = deque()

        def settle() -> None:
            nonlocal crc
            count, future = pending.popleft()
            leaf, leaf_crc = future.result()
            leaves.append(leaf)
            crc = combine(crc, leaf_crc, count)

        for leaf in _leaves(pieces, self.spec.leaf_bytes):
            count = sum(map(len, leaf))
            pending.append((count, self._submit(leaf, count)))
            size += count
            yield from leaf
            if len(pending) > self._ahead:
                settle()
        while pending:
            settle()
        result.append(Written(size, crc, self.spec.root(size, leaves), tuple(leaves)))

    def measure(self, pieces: Iterable[Buffer]) -> Written:
        """Hashes a content without writing it."""
        result: list[Written] = []
        for _ in self.tee(pieces, result):
            pass
        return result[0]

    def _submit(self, leaf: list[memoryview], count: int) -> "Future[tuple[bytes, int]]":
        if self._pool is not None and count >= 1 << 16:
            return self._pool.submit(self._hash, leaf)
        done: Future[tuple[bytes, int]] = Future()
        done.set_result(self._hash(leaf))
        return done

    def _hash(self, leaf: list[memoryview]) -> tuple[bytes, int]:
        crc = 0
        for part in leaf:
            crc = crc32(part, crc)
        return self.spec.leaf(*leaf), crc


class ArchiveWriter:
    """Writes entries one after another, then the directory.

        with ArchiveWriter(blob) as archive:
            written = archive.add("resources/a", [b"..."])
            archive.finish()

    Args:
        blob: Where to write; must be empty, and seekable.
        spec: How digests are made.
        alignment: Entry data begins at multiples of it.
        limits: Bounds on names and counts.

    Raises:
        InvalidArgumentError: `finish` finds names that are unsafe or clash.
    """

    def __init__(
        self,
        blob: BlobWriter,
        spec: DigestSpec | None = None,
        alignment: int = 64,
        limits: Limits = DEFAULT_LIMITS,
    ):
        self._blob = blob
        self._alignment = alignment
        self._limits = limits
        self._end = 0
        self._pool = ThreadPoolExecutor(default_workers())
        self.hasher = Hasher(spec or DigestSpec(), self._pool)
        self.entries: list[ArchiveEntry] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, name: str, pieces: Iterable[Buffer]) -> Written:
        """Writes one entry from a content in pieces of any size.

        Raises:
            InvalidArgumentError: The name is unsafe.
            OSError: The blob cannot be written.
        """
        check_path(name, self._limits)
        begin = self._end
        offset = data_offset(begin, name.encode("utf-8"), self._alignment)
        self._blob.seek(offset)
        result: list[Written] = []
        for leaf in self.hasher.tee(pieces, result):
            self._write(leaf)
        written = result[0]
        entry = ArchiveEntry(name, begin, offset, written.size, written.crc32)
        self._blob.seek(begin)
        self._write(local_header(entry, self._alignment))
        self._end = offset + written.size
        self.entries.append(entry)
        return written

    def finish(self) -> int:
        """Writes the directory and returns the size of the archive in bytes."""
        if len(self.entries) > self._limits.resources + 16:
            raise InvalidArgumentError(
                f"{len(self.entries)} entries, limit {self._limits.resources}"
            )
        clash = find_collision(entry.name for entry in self.entries)
        if clash:
            raise InvalidArgumentError(f"names {clash}")
        tail = directory(self.entries, self._end)
        self._blob.seek(self._end)
        self._write(tail)
        self._end += len(tail)
        self._blob.truncate(self._end)
        return self._end

    def _write(self, data: Buffer) -> None:
        view = memoryview(data)
        while len(view):
            view = view[self._blob.write(view) :]


def _leaves(pieces: Iterable[Buffer], size: int) -> Iterator[list[memoryview]]:
    """Regroups pieces into leaves, each a list of parts of pieces; nothing is copied."""
    leaf: list[memoryview] = []
    room = size
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while len(view):
            part = view[:room]
            view = view[len(part) :]
            leaf.append(part)
            room -= len(part)
            if not room:
                yield leaf
                leaf, room = [], size
    if leaf:
        yield leaf
