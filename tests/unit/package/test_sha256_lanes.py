"""Sixteen leaves at once: the digests of hashlib, in memory and in files, whatever the leaves."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torsh_package import IntegrityError, Package, PackageError, ResourceType
from torsh_package.container.atomic import AtomicFile
from torsh_package.digest import DigestSpec, LeafVerifier, grouped, verify_all
from torsh_package.sha256_lanes import INITIAL, ROUND_CONSTANTS, LaneHasher, compiled

ROOT = Path(__file__).parents[3]
LEAF = 1 << 16


@pytest.fixture(scope="module")
def lanes() -> LaneHasher:
    """For this processor, also where hashlib would be faster."""
    return compiled()


@pytest.fixture
def always(lanes: LaneHasher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of any size go through the lanes."""
    monkeypatch.setattr(DigestSpec, "lanes", lambda *_, **__: lanes)


def leaf_digest(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\0" + leaf).digest()


def test_constants_are_those_of_the_standard() -> None:
    # FIPS 180-4, 4.2.2 and 5.3.3: the first and the last of each.
    assert (ROUND_CONSTANTS[0], ROUND_CONSTANTS[63]) == (0x428A2F98, 0xC67178F2)
    assert (INITIAL[0], INITIAL[7]) == (0x6A09E667, 0x5BE0CD19)


@pytest.mark.parametrize("size", [64, 128, LEAF])
@pytest.mark.parametrize("count", [1, 6, 15, 16])
def test_memory(lanes: LaneHasher, size: int, count: int) -> None:
    leaves = [os.urandom(size) for _ in range(count)]
    found = lanes.of_memory([memoryview(leaf) for leaf in leaves])
    assert found == [leaf_digest(leaf) for leaf in leaves]


@pytest.mark.parametrize(("leaf_bytes", "count"), [(LEAF, 16), (4 * LEAF, 7)])
def test_files(lanes: LaneHasher, tmp_path: Path, leaf_bytes: int, count: int) -> None:
    data = os.urandom(leaf_bytes * count)
    (tmp_path / "file").write_bytes(b"head" + data + b"tail")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        found = lanes.of_file(fd, 4, leaf_bytes, count)
        with pytest.raises(PackageError, match="became shorter"):
            lanes.of_file(fd, 9, leaf_bytes, count)
    finally:
        os.close(fd)
    parts = (data[i : i + leaf_bytes] for i in range(0, len(data), leaf_bytes))
    assert found == [leaf_digest(part) for part in parts]


@pytest.mark.parametrize(
    ("indices", "full", "groups"),
    [
        (range(40), 40, [16, 16, 8]),
        (range(20), 19, [16, 1, 1, 1, 1]),
        ([0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13], 14, [6, 7]),
        (range(5), 5, [1] * 5),
        (range(9), 0, [1] * 9),
        ([], 3, []),
    ],
)
def test_groups(indices: "list[int]", full: int, groups: "list[int]") -> None:
    found = list(grouped(list(indices), full))
    assert [len(group) for group in found] == groups
    assert [index for group in found for index in group] == list(indices)


@pytest.mark.parametrize("leaf", [0, 5, 15, 16, 20, 22])
def test_one_flipped_bit_in_any_lane_is_found(lanes: LaneHasher, always: None, leaf: int) -> None:
    data = bytearray(os.urandom(22 * LEAF + 100))
    spec = DigestSpec(leaf_bytes=LEAF)
    views = spec.split(memoryview(bytes(data)))
    leaves = [spec.leaf(view) for view in views]
    root = spec.root(len(data), leaves)
    whole = LeafVerifier(memoryview(bytes(data)), spec, root, leaves, "w")
    verify_all([whole])
    assert whole.complete
    data[leaf * LEAF + 77] ^= 4
    verifier = LeafVerifier(memoryview(bytes(data)), spec, root, leaves, "w")
    with pytest.raises(IntegrityError, match=rf"leaf {leaf}\)"):
        verify_all([verifier])
    assert not verifier.complete


@pytest.mark.parametrize("size", [0, 1, LEAF, 16 * LEAF, 37 * LEAF + 3])
def test_saved_bytes_are_the_same(
    lanes: LaneHasher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    package = Package("m", "1.0.0", digest=DigestSpec(leaf_bytes=LEAF))
    package.add_resource("data", os.urandom(size), ResourceType.Data)
    package.add_resource("small", b"x", ResourceType.Data)
    plainly = package.to_bytes()
    used: list[int] = []
    of_file = LaneHasher.of_file
    monkeypatch.setattr(DigestSpec, "lanes", lambda *_, **__: lanes)
    monkeypatch.setattr(
        LaneHasher, "of_file", lambda *args: used.append(args[-1]) or of_file(*args)
    )
    package.save(tmp_path / "m.torshpkg")
    assert (tmp_path / "m.torshpkg").read_bytes() == plainly
    assert sum(used) == {16 * LEAF: 16, 37 * LEAF + 3: 32}.get(size, 0)
    assert bytes(Package.load(tmp_path / "m.torshpkg").get_resource("data").data)[-3:] == bytes(
        package.get_resource("data").data[-3:]
    )


def test_what_is_reserved_and_not_written_is_cut(tmp_path: Path) -> None:
    with AtomicFile(tmp_path / "file") as file:
        file.reserve(0, 10 * LEAF)
        file.write(b"x" * 100)
        file.truncate(100)
    assert (tmp_path / "file").stat().st_size == 100


def test_no_space_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="cannot be written"), AtomicFile(tmp_path / "f") as file:
        file.reserve(0, 1 << 60)
    assert list(tmp_path.iterdir()) == []


def test_it_pays_from_some_size_on() -> None:
    assert DigestSpec("blake3").lanes(1 << 40) is None
    assert DigestSpec().lanes(16 * DigestSpec().leaf_bytes - 1) is None


MEMORY = """
import resource, sys
from torsh_package import Package, ResourceType
package = Package("m", "1.0.0")
package.add_resource("warm", bytes(1 << 20), ResourceType.Data)
package.save(sys.argv[1] + "/warm")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[1] + "/sparse", "wb") as file:
    file.truncate(500_000_000)
package.add_file("big", sys.argv[1] + "/sparse", ResourceType.Data)
package.save(sys.argv[1] + "/big")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
assert "llvmlite" not in sys.modules
"""


def test_files_are_streamed_in_little_memory(tmp_path: Path) -> None:
    """The kernel takes more memory than a stream may: files go through hashlib."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 64
