"""Digest trees over stored bytes.

    leaf i = H(0x00 || bytes [i*L, (i+1)*L))          L = leaf_bytes, 4 MiB by default
    root   = H(0x01 || algorithm || 0x00 || u64le(L) || u64le(size) || leaf 0 || leaf 1 ...)

The first byte separates leaves from roots (RFC 6962, section 2.1), so that no content can pass
for a tree. An empty content has no leaf. Leaves let a reader verify in parallel, on first touch,
or any 4 MiB on its own.
"""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from torsh_package.errors import IntegrityError, InvalidArgumentError

if TYPE_CHECKING:
    from torsh_package.sha256_lanes import LaneHasher

LEAF_BYTES = 4 << 20
DIGEST_SIZE = 32
LANE_GROUP = 16
"""Leaves that are hashed together."""
LANES_FROM = 384 << 20
"""Bytes to hash at once from which it pays to compile `sha256_lanes` (0.12 s, once per process)."""
ALGORITHMS = frozenset({"sha256", "blake3"})

Buffer = bytes | bytearray | memoryview


class Hash(Protocol):
    """What is used of a hashlib object."""

    def update(self, data: Buffer, /) -> object:
        """Adds bytes."""
        ...

    def digest(self) -> bytes:
        """The digest of what was added."""
        ...


@dataclass(frozen=True)
class DigestSpec:
    """How digests of a package are made.

    Attributes:
        algorithm: `sha256`, or `blake3` where the extra `blake3` is installed.
        leaf_bytes: Bytes of a leaf, a power of two from 64 KiB to 64 MiB.
    """

    algorithm: str = "sha256"
    leaf_bytes: int = LEAF_BYTES

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            known = ", ".join(sorted(ALGORITHMS))
            raise InvalidArgumentError(f"digest {self.algorithm[:40]!r} is unknown; known: {known}")
        size = self.leaf_bytes
        if not 1 << 16 <= size <= 1 << 26 or size & (size - 1):
            raise InvalidArgumentError(
                f"digest leaf of {size} bytes: use a power of two, 2^16..2^26"
            )

    def new(self) -> Hash:
        """A fresh hash object."""
        return _constructor(self.algorithm)()

    def leaf(self, *parts: Buffer) -> bytes:
        """The digest of one leaf from its parts, in order (at most `leaf_bytes` in all)."""
        state = self.new()
        state.update(b"\0")
        for part in parts:
            state.update(part)
        return state.digest()

    def lanes(self, total: int, *, streamed: bool = False) -> "LaneHasher | None":
        """What hashes full leaves many at a time, if there is such and `total` bytes pay for it.

        Args:
            total: Bytes to hash.
            streamed: Whether they are in a file. What compiles `sha256_lanes` takes 70 MB: little
                beside a content that is in memory, but files are streamed in less.
        """
        if self.algorithm != "sha256" or total < LANE_GROUP * self.leaf_bytes:
            return None
        from torsh_package.sha256_lanes import is_compiled, lane_hasher

        pays = total >= LANES_FROM and not streamed
        return lane_hasher() if pays or is_compiled() else None

    def root(self, size: int, leaves: Iterable[bytes]) -> bytes:
        """The digest of a content of `size` bytes from its leaves, in order."""
        state = self.new()
        head = self.leaf_bytes.to_bytes(8, "little") + size.to_bytes(8, "little")
        state.update(b"\1" + self.algorithm.encode("ascii") + b"\0" + head)
        state.update(b"".join(leaves))
        return state.digest()

    def count(self, size: int) -> int:
        """Number of leaves of a content of `size` bytes."""
        return -(-size // self.leaf_bytes)

    def of(self, data: Buffer) -> bytes:
        """The root of a whole content."""
        view = memoryview(data)
        return self.root(len(view), [self.leaf(piece) for piece in self.split(view)])

    def split(self, view: memoryview) -> list[memoryview]:
        """The parts of a content that make up its leaves."""
        return [view[i : i + self.leaf_bytes] for i in range(0, len(view), self.leaf_bytes)]


def _constructor(algorithm: str) -> Callable[[], Hash]:
    if algorithm == "sha256":
        return hashlib.sha256
    try:
        import blake3
    except ImportError:
        raise IntegrityError(
            "digests are BLAKE3 and the module blake3 is not installed; pip install blake3"
        ) from None
    return blake3.blake3


def default_workers() -> int:
    """Threads that hashing may use: the CPUs this process may run on, at most 8."""
    usable = getattr(os, "sched_getaffinity", None)
    return min(8, len(usable(0)) if usable else os.cpu_count() or 1)


class LeafVerifier:
    """Verifies parts of one content on first touch, each leaf once.

    Safe for many threads and after a fork: there is no lock, and at worst two threads verify the
    same leaf.

    Args:
        data: The stored bytes.
        spec: How the digests were made.
        root: Digest that the manifest gives.
        leaves: All leaf digests, already bound to `root` by `check_leaves`; or None for a
            content of at most one leaf, whose only leaf is checked through the root.
        entry: Archive path, for messages.
    """

    def __init__(
        self,
        data: memoryview,
        spec: DigestSpec,
        root: bytes,
        leaves: Sequence[bytes] | None,
        entry: str,
    ):
        self.spec = spec
        self._data = data
        self._root = root
        self._leaves = leaves
        self._entry = entry
        count = spec.count(len(data))
        if leaves is None and count > 1:
            raise IntegrityError("leaf digests are missing", entry=entry)
        self._verified = bytearray(max(count, 1))

    @property
    def complete(self) -> bool:
        """Whether all bytes have been verified."""
        return 0 not in self._verified

    @property
    def pending_bytes(self) -> int:
        """Bytes that have not been verified yet, in whole leaves."""
        return self._verified.count(0) * self.spec.leaf_bytes

    def pending(self, start: int = 0, stop: int | None = None) -> list[int]:
        """Leaves that touch bytes `start..stop` and are not verified yet."""
        stop = len(self._data) if stop is None else stop
        size = self.spec.leaf_bytes
        first, last = start // size, min(max(stop - 1, start) // size, len(self._verified) - 1)
        return [i for i in range(first, last + 1) if not self._verified[i]]

    def verify_leaf(self, index: int) -> None:
        """Verifies one leaf.

        Raises:
            IntegrityError: The bytes do not have the digest.
        """
        found = self.spec.leaf(self._leaf(index))
        if self._leaves is None:
            leaves = [found] if len(self._data) else []
            good = self.spec.root(len(self._data), leaves) == self._root
        else:
            good = found == self._leaves[index]
        self._settle(index, good)

    def verify_group(self, indices: Sequence[int], lanes: "LaneHasher") -> None:
        """Verifies several full leaves, of a content of more than one.

        Raises:
            IntegrityError: The bytes of one do not have the digest.
        """
        assert self._leaves is not None
        begin, end = indices[0], indices[-1] + 1
        size = self.spec.leaf_bytes
        read_ahead(self._data[begin * size : end * size])
        found = lanes.of_memory([self._leaf(index) for index in indices])
        for index, digest in zip(indices, found, strict=True):
            self._settle(index, digest == self._leaves[index])

    def jobs(self, lanes: "LaneHasher | None") -> list[Callable[[], None]]:
        """What verifies the rest of the content, in parts that can run at the same time."""
        pending = self.pending()
        full = len(self._data) // self.spec.leaf_bytes
        made: list[Callable[[], None]] = []
        for group in grouped(pending, full if lanes and self._leaves is not None else 0):
            if lanes and len(group) > 1:
                made.append(partial(self.verify_group, group, lanes))
            else:
                made.extend(partial(self.verify_leaf, index) for index in group)
        return made

    def _leaf(self, index: int) -> memoryview:
        begin = index * self.spec.leaf_bytes
        return self._data[begin : begin + self.spec.leaf_bytes]

    def _settle(self, index: int, good: bool) -> None:
        if not good:
            raise IntegrityError(
                f"stored bytes do not have the digest of the manifest (leaf {index}); "
                "the file is damaged or was changed",
                entry=self._entry,
                offset=index * self.spec.leaf_bytes,
            )
        self._verified[index] = 1

    def verify(self, start: int = 0, stop: int | None = None) -> None:
        """Verifies all leaves that touch bytes `start..stop`, in parallel if there are many.

        Raises:
            IntegrityError: Some leaf does not have its digest.
        """
        pending = self.pending(start, stop)
        if len(pending) == len(self._verified) > 1:
            verify_all([self])
            return
        _run([partial(self.verify_leaf, index) for index in pending])


def verify_all(verifiers: Sequence[LeafVerifier]) -> None:
    """Verifies several contents completely, leaves of all of them in parallel.

    Raises:
        IntegrityError: Some leaf does not have its digest.
    """
    total = sum(verifier.pending_bytes for verifier in verifiers)
    lanes = verifiers[0].spec.lanes(total) if verifiers else None
    _run([job for verifier in verifiers for job in verifier.jobs(lanes)])


def grouped(indices: Sequence[int], full: int) -> Iterator[list[int]]:
    """Leaves that can be hashed together: runs of at most `LANE_GROUP` of the first `full` ones.

    A run of fewer than 6 is no faster than one leaf after another; those come alone.
    """
    run: list[int] = []
    for index in [*indices, -1]:
        if run and (index < 0 or index >= full or len(run) == LANE_GROUP or index != run[-1] + 1):
            yield from [run] if len(run) >= 6 else ([i] for i in run)
            run = []
        if index >= full:
            yield [index]
        elif index >= 0:
            run.append(index)


def read_ahead(data: memoryview) -> None:
    """Has the kernel read a part of a mapped file in one go, where it is not in memory yet."""
    mapped = data.obj
    if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    import numpy

    begin = numpy.frombuffer(data, numpy.uint8).ctypes.data
    offset = begin - numpy.frombuffer(mapped, numpy.uint8).ctypes.data
    page = offset // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_WILLNEED, page, offset + len(data) - page)


def _run(jobs: Sequence[Callable[[], None]]) -> None:
    if len(jobs) < 4:
        for job in jobs:
            job()
        return
    with ThreadPoolExecutor(default_workers()) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


def check_leaves(
    spec: DigestSpec, root: bytes, size: int, packed: memoryview, entry: str
) -> list[bytes]:
    """Splits packed leaf digests and binds them to `root`.

    Raises:
        IntegrityError: They are not the leaves of that root.
    """
    leaves = [bytes(packed[i : i + DIGEST_SIZE]) for i in range(0, len(packed), DIGEST_SIZE)]
    if len(packed) != DIGEST_SIZE * spec.count(size) or spec.root(size, leaves) != root:
        raise IntegrityError("leaf digests do not belong to the root in the manifest", entry=entry)
    return leaves
