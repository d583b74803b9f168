"""Big contents written past the page cache: the same bytes and digests as piece by piece."""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from torsh_package import Package, PackageEncryptor, PackageError, ResourceType, X25519Identity
from torsh_package.container import writer
from torsh_package.container.atomic import AtomicFile
from torsh_package.container.big import BLOCK_BYTES, UncachedWriter, pays_uncached
from torsh_package.container.hashing import Written
from torsh_package.container.writer import ArchiveWriter, Coming
from torsh_package.digest import LANE_GROUP, DigestSpec
from torsh_package.sha256_lanes import LaneHasher, compiled

LEAF = 1 << 16
GROUP = LANE_GROUP * LEAF
SPEC = DigestSpec(leaf_bytes=LEAF)
SIZES = [
    0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, LEAF, GROUP - 1, GROUP, GROUP + 1,
    GROUP + BLOCK_BYTES, 2 * GROUP, 2 * GROUP + 7 * LEAF + 5,
]  # fmt: skip


@pytest.fixture(scope="module")
def lanes() -> LaneHasher:
    return compiled()


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Has every size go past the cache; the sizes of the windows' contents."""
    sizes: list[int] = []
    write = UncachedWriter.write

    def watched(self: UncachedWriter, offset: int, pieces: Iterator[bytes]) -> Written:
        written = write(self, offset, pieces)
        sizes.append(written.size)
        return written

    monkeypatch.setattr(writer, "pays_uncached", lambda *_: True)
    monkeypatch.setattr(UncachedWriter, "write", watched)
    return sizes


def in_pieces(data: bytes, seed: int) -> Iterator[memoryview]:
    """Pieces of uneven sizes, all in one buffer that is written over."""
    rng = random.Random(seed)
    buffer = bytearray(3 * GROUP)
    at = 0
    while at < len(data):
        part = data[at : at + rng.choice([1, 100, LEAF + 16, GROUP, 2 * GROUP + 3])]
        buffer[: len(part)] = part
        yield memoryview(buffer)[: len(part)]
        at += len(part)


def archive(path: Path, contents: list[bytes], *, cached: bool, spec: DigestSpec) -> list[Written]:
    with AtomicFile(path) as file, ArchiveWriter(file, spec) as out:
        made: list[Written] = []
        for i, data in enumerate(contents):
            # What goes through the cache is hashed later, from buffers that must not change.
            pieces = [data] if cached else in_pieces(data, i)
            made.append(out.add(f"resources/{i}", pieces, Coming(len(data), cached=cached)))
        out.finish()
    return made


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
@pytest.mark.parametrize("many", [False, True], ids=["leaf by leaf", "lanes"])
def test_bytes_and_digests_are_the_same(
    tmp_path: Path,
    uncached: list[int],
    monkeypatch: pytest.MonkeyPatch,
    lanes: LaneHasher,
    many: bool,
    algorithm: str,
) -> None:
    use = lanes if many and algorithm == "sha256" else None
    monkeypatch.setattr(DigestSpec, "lanes", lambda *_, **__: use)
    spec = DigestSpec(algorithm, LEAF)
    contents = [random.Random(size).randbytes(size) for size in [*SIZES, 5]]
    past = archive(tmp_path / "a", contents, cached=False, spec=spec)
    monkeypatch.setattr(DigestSpec, "lanes", lambda *_, **__: None)
    through = archive(tmp_path / "b", contents, cached=True, spec=spec)
    assert past == through
    assert uncached == [*SIZES, 5]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def refuse_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.open

    def opened(path: str, flags: int, *args: object, **options: object) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no")
        return plain(path, flags, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", opened)


def refuse_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file system with blocks of 64 KiB, that also writes less than it is given."""
    plain = os.pwrite
    direct: set[int] = set()
    opening = os.open

    def opened(path: str, flags: int, *args: object, **options: object) -> int:
        fd = opening(path, flags, *args, **options)  # type: ignore[arg-type]
        (direct.add if flags & os.O_DIRECT else direct.discard)(fd)
        return fd

    def written(fd: int, data: memoryview, offset: int) -> int:
        if fd in direct and (offset % LEAF or len(data) % LEAF):
            raise OSError(errno.EINVAL, "no")
        return plain(fd, data[: max(LEAF, len(data) // 2)], offset)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "pwrite", written)


@pytest.mark.parametrize("refuse", [refuse_to_open, refuse_to_write])
def test_other_file_systems(
    tmp_path: Path, uncached: list[int], monkeypatch: pytest.MonkeyPatch, refuse: object
) -> None:
    contents = [random.Random(size).randbytes(size) for size in SIZES]
    through = archive(tmp_path / "b", contents, cached=True, spec=SPEC)
    refuse(monkeypatch)  # type: ignore[operator]
    past = archive(tmp_path / "a", contents, cached=False, spec=SPEC)
    monkeypatch.undo()
    assert past == through
    assert len(uncached) == len(SIZES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_full_disk_is_an_error_and_leaves_nothing(
    tmp_path: Path, uncached: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(PackageError, match=r"No space left.*free some space"):
        archive(tmp_path / "a", [bytes(GROUP + 5)], cached=False, spec=SPEC)
    assert list(tmp_path.iterdir()) == []


def test_the_window_is_at_most_a_quarter() -> None:
    assert pays_uncached(256 << 20, 4 << 20)
    assert not pays_uncached((256 << 20) - 1, 1 << 16)
    assert pays_uncached(4 << 30, 64 << 20)
    assert not pays_uncached((4 << 30) - 1, 64 << 20)


def test_what_is_sealed_in_memory_goes_past_the_cache(tmp_path: Path, uncached: list[int]) -> None:
    identity = X25519Identity.generate()
    data = random.Random(0).randbytes(2 * GROUP + 77)
    package = Package("m", "1.0.0", digest=SPEC)
    package.add_resource("data", data, ResourceType.Data)
    package.save(tmp_path / "plain")
    assert uncached == []
    PackageEncryptor().encrypt_package(package, identity.recipient).save(tmp_path / "sealed")
    assert max(uncached, default=0) > len(data)
    loaded = Package.load(tmp_path / "sealed", identities=[identity])
    assert bytes(loaded.get_resource("data").data) == data
    (tmp_path / "file").write_bytes(data)
    streamed = Package("m", "1.0.0", digest=SPEC)
    streamed.add_file("data", tmp_path / "file", ResourceType.Data)
    before = len(uncached)
    PackageEncryptor().encrypt_package(streamed, identity.recipient).save(tmp_path / "s")
    assert max(uncached[before:], default=0) < len(data)  # A file is streamed in less memory.
