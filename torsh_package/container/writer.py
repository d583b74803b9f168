"""Writing a canonical archive in one pass, hashing beside it."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from torsh_package.buffers import mapped
from torsh_package.container.crc32 import combine, crc32
from torsh_package.container.layout import (
    ArchiveEntry,
    data_offset,
    directory,
    local_header,
)
from torsh_package.digest import LANE_GROUP, DigestSpec, default_workers, grouped
from torsh_package.errors import InvalidArgumentError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.names import check_path, find_collision
from torsh_package.protocols import BlobWriter, Buffer, FileBlob

if TYPE_CHECKING:
    from torsh_package.sha256_lanes import LaneHasher


WRITE_BYTES = (1 << 20) + 4096
"""Bytes of a write to a file; a sealed chunk of 1 MiB and its tag are one.

Linux takes page-cache memory in blocks as big as the write, up to 2 MiB. Smaller ones cost more per
byte; the largest are often such as nobody has used for long, and dear in a virtual machine.
"""
RESERVE_FROM = 1 << 20
"""Bytes from which it is worth a system call to take the space at once."""


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

    def add(
        self, name: str, pieces: Iterable[Buffer], *, expected: int = 0, streamed: bool = False
    ) -> Written:
        """Writes one entry from a content in pieces of any size.

        Args:
            name: Its path.
            pieces: Its bytes.
            expected: About how many bytes these are, if that is known.
            streamed: Whether they are not in memory, so that little memory may be used.

        Raises:
            InvalidArgumentError: The name is unsafe.
            OSError: The blob cannot be written.
        """
        check_path(name, self._limits)
        begin = self._end
        offset = data_offset(begin, name.encode("utf-8"), self._alignment)
        self._blob.seek(offset)
        file = self._blob if isinstance(self._blob, FileBlob) else None
        if file is not None and expected >= RESERVE_FROM:
            file.reserve(offset, expected)
        lanes = self.hasher.spec.lanes(expected, streamed=streamed)
        if lanes is not None and file is not None:
            written = self._add_to_file(lanes, file.fileno(), offset, pieces)
        else:
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

    def _add_to_file(
        self, lanes: "LaneHasher", fd: int, offset: int, pieces: Iterable[Buffer]
    ) -> Written:
        """Writes a big content, whose leaves are hashed as the file has them, 16 at a time.

        So no piece is held until 15 more leaves have come.
        """
        leaf_bytes = self.hasher.spec.leaf_bytes
        group = LANE_GROUP * leaf_bytes
        crc = size = 0
        hashed: list[Future[list[bytes]]] = []
        for piece in pieces:
            view = memoryview(piece).cast("B")
            for begin in range(0, len(view), WRITE_BYTES):
                part = view[begin : begin + WRITE_BYTES]
                self._write(part)
                crc = crc32(part, crc)
            size += len(view)
            while size - len(hashed) * group >= group:
                begin = offset + len(hashed) * group
                job = self._pool.submit(lanes.of_file, fd, begin, leaf_bytes, LANE_GROUP)
                hashed.append(job)
        done = len(hashed) * group
        count, full = -(-(size - done) // leaf_bytes), (size - done) // leaf_bytes
        for indices in grouped(range(count), full):
            begin = done + indices[0] * leaf_bytes
            if len(indices) > 1:
                args = (offset + begin, leaf_bytes, len(indices))
                hashed.append(self._pool.submit(lanes.of_file, fd, *args))
            else:
                args = (offset + begin, min(leaf_bytes, size - begin))
                hashed.append(self._pool.submit(self._leaf_of_file, fd, *args))
        leaves = [leaf for job in hashed for leaf in job.result()]
        return Written(size, crc, self.hasher.spec.root(size, leaves), tuple(leaves))

    def _leaf_of_file(self, fd: int, offset: int, size: int) -> list[bytes]:
        with mapped(fd, offset, size) as data:
            return [self.hasher.spec.leaf(data)]

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
