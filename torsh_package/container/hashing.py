"""Digests and CRC of a content that passes by."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torsh_package.container.crc32 import combine, crc32
from torsh_package.digest import DigestSpec, default_workers
from torsh_package.protocols import Buffer


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
