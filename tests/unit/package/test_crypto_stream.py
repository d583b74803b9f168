"""The payload stream against the published vectors, an independent implementation and attacks."""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package.crypto.algorithms import TAG_BYTES, EncryptionAlgorithm
from torsh_package.crypto.stream import (
    CANNOT_DECRYPT,
    CHUNK_BYTES,
    PREFIX_BYTES,
    SALT_BYTES,
    SealedReader,
    StreamOpener,
    StreamSealer,
    plain_size,
    sealed_size,
)
from torsh_package.errors import DecryptionError, InvalidArgumentError, LimitError

AES, CHACHA = EncryptionAlgorithm.Aes256Gcm, EncryptionAlgorithm.ChaCha20Poly1305
KEY = bytes(range(32))
_FILE = Path(cryptography_vectors.__file__).parent / "chunked-encryption" / "vectors.json"
_ALGORITHMS = {algorithm.iana_name: algorithm for algorithm in EncryptionAlgorithm}
VECTORS = [v for v in json.loads(_FILE.read_text())["vectors"] if v["aead"] in _ALGORITHMS]


def seal(data: bytes, algorithm=AES, key: bytes = KEY, context: bytes = b"") -> bytes:
    sealer = StreamSealer(algorithm, key, context)
    return bytes(sealer.update(data) + sealer.finalize())


def open_sealed(sealed: bytes, algorithm=AES, key=KEY, context=b"", **kdf) -> bytes:
    return bytes(SealedReader(algorithm, key, context, sealed, **kdf).read())


def open_stream(sealed: bytes, algorithm=AES, key=KEY, context=b"", step=5000, **kdf) -> bytes:
    opener = StreamOpener(algorithm, key, context, **kdf)
    parts = [opener.update(sealed[at : at + step]) for at in range(0, len(sealed), step)]
    return bytes(b"".join(parts) + opener.finalize())


def test_the_vector_file_covers_both_ciphers():
    assert len(VECTORS) == 68
    assert sum(v["expect"] == "failure" for v in VECTORS) > 40


@pytest.mark.parametrize("opened", [open_sealed, open_stream])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_c2sp_vectors(vector: dict, opened: Callable[..., bytes]):
    sealed = base64.b64decode(vector["ciphertext"] or "")
    if vector.get("compressed"):
        sealed = zlib.decompress(sealed)
    args = (sealed, _ALGORITHMS[vector["aead"]], bytes.fromhex(vector["key"]))
    context = vector["context"].encode()
    if vector["expect"] == "failure":
        with pytest.raises((DecryptionError, InvalidArgumentError)):
            opened(*args, context=context, kdf_hash=SHA256())
        return
    plain = opened(*args, context=context, kdf_hash=SHA256())
    assert len(plain) == vector["payload_length"]
    assert hashlib.sha256(plain).hexdigest() == vector["payload_sha256"]


SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 100_000]


@pytest.mark.parametrize("size", SIZES)
def test_an_independent_implementation_reads_and_writes_the_same_format(size: int):
    data = bytes(i * 31 % 251 for i in range(size))
    reader = Cobblestone256Decryptor(KEY, b"context")
    assert reader.update(seal(data, context=b"context")) + reader.finalize() == data
    writer = Cobblestone256Encryptor(KEY, b"context")
    assert open_sealed(writer.update(data) + writer.finalize(), context=b"context") == data


@pytest.mark.parametrize("algorithm", EncryptionAlgorithm)
@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=9000).map(lambda b: b * 5), max_size=6),
    step=st.integers(1, 70_000),
)
def test_any_cut_of_input_and_output_gives_the_same_message(algorithm, pieces, step):
    sealer = StreamSealer(algorithm, KEY, b"c")
    sealed = b"".join([*map(sealer.update, pieces), sealer.finalize()])
    data = b"".join(pieces)
    assert len(sealed) == sealed_size(len(data))
    assert plain_size(len(sealed)) == len(data)
    assert open_sealed(sealed, algorithm, context=b"c") == data
    assert open_stream(sealed, algorithm, context=b"c", step=step) == data


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 60_000), offset=st.integers(0, 70_000), length=st.integers(0, 70_000))
def test_any_range_is_readable_alone(size: int, offset: int, length: int):
    data = bytes(i * 7 % 253 for i in range(size))
    reader = SealedReader(AES, KEY, b"", seal(data))
    assert reader.read_at(offset, length) == data[offset : offset + length]


def test_a_range_opens_only_its_own_chunks():
    sealed = bytearray(seal(bytes(5 * CHUNK_BYTES)))
    sealed[PREFIX_BYTES] ^= 1  # chunk 0
    reader = SealedReader(AES, KEY, b"", sealed)
    assert reader.read_at(CHUNK_BYTES, 10) == bytes(10)
    with pytest.raises(DecryptionError):
        reader.read_at(CHUNK_BYTES - 1, 2)


def _chunk(sealed: bytes, index: int) -> bytes:
    start = PREFIX_BYTES + index * (CHUNK_BYTES + TAG_BYTES)
    return sealed[start : start + CHUNK_BYTES + TAG_BYTES]


def _attacks(s: bytes) -> dict[str, bytes]:
    prefix, c = s[:PREFIX_BYTES], [_chunk(s, i) for i in range(4)]
    other = seal(bytes(3 * CHUNK_BYTES + 100))
    return {
        "swap": b"".join([prefix, c[1], c[0], c[2], c[3]]),
        "drop first": b"".join([prefix, *c[1:]]),
        "drop middle": b"".join([prefix, c[0], c[2], c[3]]),
        "drop last": b"".join([prefix, *c[:3]]),
        "duplicate": b"".join([prefix, c[0], c[0], *c[1:]]),
        "truncate in tag": s[:-1],
        "append a byte": s + b"\0",
        "append a chunk": s + c[3],
        "move last forward": b"".join([prefix, c[0], c[3]]),
        "empty": b"",
        "prefix alone": prefix,
        "chunk of another message": b"".join([prefix, c[0], _chunk(other, 1), c[2], c[3]]),
        "commitment of another message": s[:SALT_BYTES] + other[SALT_BYTES:PREFIX_BYTES] + s[56:],
        "prefix of another message": other[:PREFIX_BYTES] + s[PREFIX_BYTES:],
    }


_GOOD = seal(bytes(3 * CHUNK_BYTES + 100))


@pytest.mark.parametrize("opened", [open_sealed, open_stream])
@pytest.mark.parametrize("attack", _attacks(_GOOD))
def test_row_78_rearranged_ciphertext(attack: str, opened: Callable[..., bytes]):
    with pytest.raises(DecryptionError) as caught:
        opened(_attacks(_GOOD)[attack])
    assert str(caught.value) == CANNOT_DECRYPT


@pytest.mark.parametrize("algorithm", EncryptionAlgorithm)
def test_row_78_every_bit_flip_of_a_small_message(algorithm: EncryptionAlgorithm):
    sealed = seal(b"small", algorithm)
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecryptionError):
            open_sealed(bytes(changed), algorithm)


def test_every_truncation():
    for size in range(len(seal(b"small"))):
        with pytest.raises(DecryptionError):
            open_sealed(seal(b"small")[:size])


def test_row_82_the_other_algorithm():
    with pytest.raises(DecryptionError, match="wrong"):
        open_sealed(seal(b"x"), CHACHA)


def test_row_79_another_context():
    with pytest.raises(DecryptionError, match="wrong"):
        open_sealed(seal(b"x", context=b"resources/a"), context=b"resources/b")


def test_row_83_a_second_key_does_not_open():
    sealed = seal(b"x")
    with pytest.raises(DecryptionError, match="wrong"):
        open_sealed(sealed, key=bytes(32))


def test_row_86_no_nonce_is_used_twice():
    """Over 10^5 chunks of many messages under one key, each (key, nonce) pair occurs once."""
    seen: set[tuple[bytes, bytes]] = set()
    total = 0
    for _ in range(400):
        cipher = StreamSealer(AES, KEY, b"")._cipher
        pairs = {(cipher.commitment, cipher._nonce(i)) for i in range(250)}
        total += len(pairs)
        seen |= pairs
    assert len(seen) == total == 100_000


def test_too_many_chunks_are_refused():
    with pytest.raises(LimitError, match="274877906944 chunks"):
        StreamSealer(AES, KEY, b"")._cipher._nonce(1 << 38)


def test_a_finished_sealer_takes_nothing_more():
    sealer = StreamSealer(AES, KEY, b"")
    sealer.finalize()
    with pytest.raises(InvalidArgumentError, match="already finished"):
        sealer.update(b"x")
