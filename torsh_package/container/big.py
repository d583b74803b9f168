"""Writing a big content to a local file: many leaves are hashed at a time, and nothing twice.

There are two ways. What will be read soon goes through the page cache, and leaves are hashed as
the file has them. What is sealed is for another place or another day, so it goes to the disk
straight from memory: copying into the cache alone takes three times the processor time of AES.
"""

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from torsh_package.buffers import aligned_buffer, mapped
from torsh_package.container.crc32 import crc32
from torsh_package.container.hashing import Written
from torsh_package.digest import LANE_GROUP, DigestSpec, grouped
from torsh_package.protocols import Buffer, FileBlob

if TYPE_CHECKING:
    from torsh_package.sha256_lanes import LaneHasher

WRITE_BYTES = (1 << 20) + 4096
"""Bytes of a write through the page cache; a sealed chunk of 1 MiB and its tag are one.

Linux takes page-cache memory in blocks as big as the write, up to 2 MiB. Smaller ones cost more per
byte; the largest are often such as nobody has used for long, and dear in a virtual machine.
"""
BLOCK_BYTES = 4096
"""Offsets, sizes and addresses of writes past the page cache are multiples of it."""
UNCACHED_FROM = 256 << 20
"""Bytes from which writing past the page cache pays."""


def pays_uncached(total: int, leaf_bytes: int) -> bool:
    """Whether a content is so big, and its window, which leaves make, at most a quarter of it."""
    return total >= max(UNCACHED_FROM, 4 * LANE_GROUP * leaf_bytes)


class CachedWriter:
    """Writes a content through the page cache, and hashes groups of leaves of it from there.

    So no piece is held until 15 more leaves have come.

    Args:
        file: Where to write.
        spec: How digests are made.
        lanes: What hashes leaves.
        pool: Where that is done.
    """

    def __init__(
        self, file: FileBlob, spec: DigestSpec, lanes: "LaneHasher", pool: ThreadPoolExecutor
    ):
        self._file = file
        self._spec = spec
        self._lanes = lanes
        self._pool = pool

    def write(self, offset: int, pieces: Iterable[Buffer]) -> Written:
        """Writes pieces of any size from `offset` on."""
        leaf_bytes = self._spec.leaf_bytes
        group = LANE_GROUP * leaf_bytes
        crc = size = 0
        hashed: list[Future[list[bytes]]] = []
        self._file.seek(offset)
        for piece in pieces:
            view = memoryview(piece).cast("B")
            for begin in range(0, len(view), WRITE_BYTES):
                part = view[begin : begin + WRITE_BYTES]
                self._file.write(part)
                crc = crc32(part, crc)
            size += len(view)
            while size - len(hashed) * group >= group:
                hashed.append(self._leaves(offset + len(hashed) * group, LANE_GROUP))
        done = len(hashed) * group
        count, full = -(-(size - done) // leaf_bytes), (size - done) // leaf_bytes
        for indices in grouped(range(count), full):
            begin = done + indices[0] * leaf_bytes
            if len(indices) > 1:
                hashed.append(self._leaves(offset + begin, len(indices)))
            else:
                length = min(leaf_bytes, size - begin)
                hashed.append(self._pool.submit(self._leaf, offset + begin, length))
        leaves = [leaf for job in hashed for leaf in job.result()]
        return Written(size, crc, self._spec.root(size, leaves), tuple(leaves))

    def _leaves(self, offset: int, count: int) -> "Future[list[bytes]]":
        fd, leaf_bytes = self._file.fileno(), self._spec.leaf_bytes
        return self._pool.submit(self._lanes.of_file, fd, offset, leaf_bytes, count)

    def _leaf(self, offset: int, size: int) -> list[bytes]:
        with mapped(self._file.fileno(), offset, size) as data:
            return [self._spec.leaf(data)]


class UncachedWriter:
    """Writes a content from a window of 16 leaves straight to the disk while they are hashed.

    Args:
        file: Where to write.
        spec: How digests are made.
        lanes: What hashes leaves, if it is to be done many at a time.
        pool: Where that is done.

    Raises:
        LimitError: There is no memory for the window.
    """

    def __init__(
        self, file: FileBlob, spec: DigestSpec, lanes: "LaneHasher | None", pool: ThreadPoolExecutor
    ):
        self._file = file
        self._spec = spec
        self._lanes = lanes
        self._pool = pool
        self._group = LANE_GROUP * spec.leaf_bytes
        self._window = aligned_buffer(self._group + BLOCK_BYTES, BLOCK_BYTES)

    def write(self, offset: int, pieces: Iterable[Buffer]) -> Written:
        """Writes pieces of any size from `offset` on; each is copied before the next is asked for.

        The window begins at the block that `offset` lies in. What comes before `offset` there is
        already in the file.
        """
        before = offset % BLOCK_BYTES
        full = before + self._group
        at, held, crc, size = offset - before, before, 0, 0
        leaves: list[bytes] = []
        self._window[:before] = self._read(at, before)
        for piece in pieces:
            view = memoryview(piece).cast("B")
            crc = crc32(view, crc)
            size += len(view)
            while len(view):
                part = view[: full - held]
                self._window[held : held + len(part)] = part
                held, view = held + len(part), view[len(part) :]
                if held == full:
                    leaves += self._flush(at, self._group, before, full)
                    self._window[:before] = self._window[self._group : full]
                    at, held = at + self._group, before
        whole = held - held % BLOCK_BYTES
        leaves += self._flush(at, whole, before, held)
        self._file.seek(at + whole)
        self._file.write(self._window[whole:held])
        return Written(size, crc, self._spec.root(size, leaves), tuple(leaves))

    def _flush(self, offset: int, size: int, begin: int, end: int) -> list[bytes]:
        """Writes the first bytes of the window, and gives the digests of the leaves in a part."""
        jobs = self._hash(self._window[begin:end])
        self._file.write_blocks(self._window[:size], offset)
        return [leaf for job in jobs for leaf in job.result()]

    def _hash(self, data: memoryview) -> "list[Future[list[bytes]]]":
        parts = self._spec.split(data)
        full = len(data) // self._spec.leaf_bytes if self._lanes is not None else 0
        jobs: list[Future[list[bytes]]] = []
        for indices in grouped(range(len(parts)), full):
            group = [parts[index] for index in indices]
            if self._lanes is not None and len(group) > 1:
                jobs.append(self._pool.submit(self._lanes.of_memory, group))
            else:
                jobs += [self._pool.submit(self._leaf, part) for part in group]
        return jobs

    def _leaf(self, data: memoryview) -> list[bytes]:
        return [self._spec.leaf(data)]

    def _read(self, offset: int, size: int) -> bytes:
        """Bytes that the file has, and zeros behind its end."""
        return os.pread(self._file.fileno(), size, offset).ljust(size, b"\0")
