"""Every bit counts: no flipped bit and no truncation of a package is ever accepted."""

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package import CompressionAlgorithm, IntegrityError, Package, PackageError, ResourceType
from torsh_package.container.crc32 import combine
from torsh_package.container.hashing import Hasher
from torsh_package.digest import DigestSpec, LeafVerifier, check_leaves


class FakeSignature:
    def added_to(self, signatures: bytes | None) -> bytes:
        return b'{"signatures":[]}'


@pytest.fixture(scope="module")
def small() -> bytes:
    """A package with one resource, leaves of 64 KiB, and an entry that the manifest cannot bind."""
    package = Package("m", "1.0.0")
    package.add_resource("a", b"weights!", ResourceType.Data)
    package.set_signature(FakeSignature())
    return package.to_bytes()


@pytest.fixture(scope="module")
def leafy() -> bytes:
    package = Package("m", "1.0.0", digest=DigestSpec(leaf_bytes=1 << 16))
    package.add_resource("a", np.random.default_rng(0).bytes(200_000), ResourceType.Data)
    return package.to_bytes()


@pytest.fixture(scope="module")
def rich() -> bytes:
    package = Package("m", "1.0.0")
    package.set_compression(CompressionAlgorithm.Zstd)
    package.add_resource("text", "abc " * 200, ResourceType.Text)
    package.add_resource("w", {"w": np.ones(3, np.float32)}, ResourceType.ModelWeights)
    package.set_document("lock.json", "{}")
    package.add_dependency_spec("torsh-nn", "^0.1.0")
    return package.to_bytes()


@pytest.mark.parametrize("which", ["small", "rich"])
def test_36_every_single_bit_flip_is_refused(which: str, request: pytest.FixtureRequest) -> None:
    original: bytes = request.getfixturevalue(which)
    data = bytearray(original)
    accepted = []
    for bit in range(8 * len(data)):
        data[bit >> 3] ^= 1 << (bit & 7)
        try:
            Package.load(bytes(data))
        except PackageError:
            pass
        else:
            accepted.append(bit)
        data[bit >> 3] ^= 1 << (bit & 7)
    assert accepted == []
    assert bytes(data) == original
    assert Package.load(bytes(data)).to_bytes() == original


def test_35_every_truncation_and_extension_is_refused(small: bytes) -> None:
    for size in range(len(small)):
        with pytest.raises(PackageError):
            Package.load(small[:size])
        with pytest.raises(PackageError):
            Package.load(small[size:] if size else small + b"\0")
    for extra in (b"\0", b"PK\5\6" + bytes(18), small):
        with pytest.raises(PackageError):
            Package.load(small + extra)


def test_flips_in_leaf_digests_are_refused_lazily_too(leafy: bytes) -> None:
    start = leafy.index(b"META/leaves.bin")
    assert b"manifest.json" in leafy[start:]
    stop = leafy.index(b"manifest.json")
    for at in range(start, stop):
        data = bytearray(leafy)
        data[at] ^= 0x10
        with pytest.raises(PackageError):
            Package.load(bytes(data), lazy=True)


def test_flips_in_content_are_found_on_first_touch(leafy: bytes) -> None:
    for at in (200, 70_000, 199_999):
        data = bytearray(leafy)
        data[at] ^= 1
        with pytest.raises(IntegrityError, match="leaf"):
            Package.load(bytes(data))
        lazy = Package.load(bytes(data), lazy=True)
        with pytest.raises(IntegrityError, match="leaf"):
            _ = lazy.get_resource("a").data
        with pytest.raises(IntegrityError, match="leaf"):
            list(lazy.get_resource("a").pieces())
        with pytest.raises(IntegrityError, match=r"leaf|digest"):
            lazy.to_bytes()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_random_damage_gives_typed_errors_in_relaxed_mode(small: bytes, data: Any) -> None:
    raw = bytearray(small)
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for candidate in (bytes(raw), bytes(raw[:cut]), bytes(raw[cut:])):
        try:
            loaded = Package.load(candidate, mode="relaxed")
        except PackageError:
            continue
        assert loaded.get_resource("a").data == b"weights!"


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    for mode in ("strict", "relaxed"):
        with pytest.raises(PackageError):
            Package.load(raw, mode=mode)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.binary(max_size=500), st.binary(max_size=500))
def test_crc_of_two_parts(first: bytes, second: bytes) -> None:
    combined = combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


def test_crc_of_long_parts() -> None:
    first, second = b"abc" * 100, bytes(range(256)) * (1 << 14)
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


def test_digest_tree_by_hand() -> None:
    """The formula of FORMAT.md, written out with hashlib."""
    import hashlib

    spec = DigestSpec(leaf_bytes=1 << 16)
    data = bytes(range(256)) * 700
    leaves = [
        hashlib.sha256(b"\0" + data[i : i + 65536]).digest() for i in range(0, len(data), 65536)
    ]
    head = b"\1sha256\0" + (65536).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    root = hashlib.sha256(head + b"".join(leaves)).digest()
    assert spec.of(data) == root
    written = Hasher(spec).measure([data[:100], data[100:100_000], data[100_000:]])
    assert (written.root, list(written.leaves)) == (root, leaves)
    assert (written.size, written.crc32) == (len(data), zlib.crc32(data))
    assert check_leaves(spec, root, len(data), memoryview(b"".join(leaves)), "x") == leaves
    empty = hashlib.sha256(b"\1sha256\0" + (65536).to_bytes(8, "little") + bytes(8)).digest()
    assert spec.of(b"") == empty


def test_leaf_cannot_pass_for_a_root() -> None:
    spec = DigestSpec(leaf_bytes=1 << 16)
    data = b"x" * 100
    head = b"\1sha256\0" + (65536).to_bytes(8, "little") + (100).to_bytes(8, "little")
    forged = head[1:] + spec.leaf(data)
    assert spec.leaf(forged) != spec.of(data)


def test_verifier_touches_each_leaf_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DigestSpec(leaf_bytes=1 << 16)
    data = memoryview(bytes(1 << 20))
    written = Hasher(spec).measure([data])
    verifier = LeafVerifier(data, spec, written.root, written.leaves, "x")
    seen: list[int] = []
    original = LeafVerifier.verify_leaf
    monkeypatch.setattr(
        LeafVerifier, "verify_leaf", lambda self, i: (seen.append(i), original(self, i))[1]
    )
    verifier.verify(65_535, 65_537)
    assert sorted(seen) == [0, 1]
    verifier.verify(0, 100_000)
    assert sorted(seen) == [0, 1]
    verifier.verify()
    assert sorted(seen) == list(range(16))
    assert verifier.complete


def test_too_little_memory_is_a_typed_error() -> None:
    from torsh_package import LimitError
    from torsh_package.buffers import aligned_buffer

    with pytest.raises(LimitError, match="no memory"):
        aligned_buffer(1 << 60)
