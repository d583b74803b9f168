"""Writing a canonical archive in one pass, hashing beside it."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from torsh_package.container.big import CachedWriter, UncachedWriter, pays_uncached
from torsh_package.container.hashing import Hasher, Written
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
from torsh_package.protocols import BlobWriter, Buffer, FileBlob

RESERVE_FROM = 1 << 20
"""Bytes from which it is worth a system call to take the space at once."""


@dataclass(frozen=True)
class Coming:
    """What is known of an entry's content before it comes.

    Attributes:
        size: About how many bytes it has; 0 where that is not known.
        streamed: Whether they are not in memory, so that little memory may be used.
        cached: Whether they are likely to be read soon on this machine.
    """

    size: int = 0
    streamed: bool = False
    cached: bool = True

    def is_uncached(self, spec: DigestSpec) -> bool:
        """Whether to write it past the page cache."""
        fits = not self.streamed and not self.cached
        return fits and pays_uncached(self.size, spec.leaf_bytes)


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

    def add(self, name: str, pieces: Iterable[Buffer], coming: Coming = Coming()) -> Written:
        """Writes one entry from a content in pieces of any size.

        Args:
            name: Its path.
            pieces: Its bytes.
            coming: What is known of them before.

        Raises:
            InvalidArgumentError: The name is unsafe.
            OSError: The blob cannot be written.
        """
        check_path(name, self._limits)
        begin = self._end
        offset = data_offset(begin, name.encode("utf-8"), self._alignment)
        file = self._blob if isinstance(self._blob, FileBlob) else None
        if file is not None and coming.size >= RESERVE_FROM:
            file.reserve(offset, coming.size)
        spec = self.hasher.spec
        lanes = spec.lanes(coming.size, streamed=coming.streamed)
        if file is not None and coming.is_uncached(spec):
            written = UncachedWriter(file, spec, lanes, self._pool).write(offset, pieces)
        elif file is not None and lanes is not None:
            written = CachedWriter(file, spec, lanes, self._pool).write(offset, pieces)
        else:
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
