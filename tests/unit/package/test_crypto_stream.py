"""Sealed resources of both forms: published vectors, a second implementation, attacks."""

import base64
import hashlib
import itertools
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
from sealed_oracle import open_stream, seal_stream

from torsh_package.crypto.algorithms import TAG_BYTES, EncryptionAlgorithm
from torsh_package.crypto.formats import (
    CANNOT_DECRYPT,
    CHUNKED_16K,
    FORMATS,
    STREAM_1M,
    ChunkCipher,
    StreamFormat,
)
from torsh_package.crypto.stream import SealedReader, StreamSealer
from torsh_package.errors import DecryptionError, InvalidArgumentError, LimitError

AES, CHACHA = EncryptionAlgorithm.Aes256Gcm, EncryptionAlgorithm.ChaCha20Poly1305
KEY = bytes(range(32))
MIB = 1 << 20
_FILE = Path(cryptography_vectors.__file__).parent / "chunked-encryption" / "vectors.json"
_ALGORITHMS = {algorithm.iana_name: algorithm for algorithm in EncryptionAlgorithm}
VECTORS = [v for v in json.loads(_FILE.read_text())["vectors"] if v["aead"] in _ALGORITHMS]

each_form = pytest.mark.parametrize("form", FORMATS.values(), ids=lambda form: form.schema)
each_algorithm = pytest.mark.parametrize("algorithm", EncryptionAlgorithm)


def bytes_of(size: int) -> bytes:
    """Bytes that differ from chunk to chunk."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def seal(
    data: bytes, algorithm=AES, key: bytes = KEY, context: bytes = b"", form=STREAM_1M
) -> bytes:
    return b"".join(map(bytes, StreamSealer(algorithm, key, context, form).pieces([data])))


def open_at_once(sealed: bytes, algorithm=AES, key=KEY, context=b"", form=STREAM_1M, **kdf):
    reader = SealedReader(algorithm, key, context, sealed, form, **kdf)
    target = bytearray(len(reader))
    reader.read_into(memoryview(target))
    return bytes(target)


def open_in_pieces(sealed: bytes, algorithm=AES, key=KEY, context=b"", form=STREAM_1M, **kdf):
    reader = SealedReader(algorithm, key, context, sealed, form, **kdf)
    return b"".join(map(bytes, reader.pieces()))


each_way = pytest.mark.parametrize("opened", [open_at_once, open_in_pieces])

# ------------------------------------------------------------------ what the bytes are


def test_the_vector_file_covers_both_ciphers():
    assert len(VECTORS) == 68
    assert sum(v["expect"] == "failure" for v in VECTORS) > 40


@each_way
@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_c2sp_vectors(vector: dict, opened: Callable[..., bytes]):
    sealed = base64.b64decode(vector["ciphertext"] or "")
    if vector.get("compressed"):
        sealed = zlib.decompress(sealed)
    args = (sealed, _ALGORITHMS[vector["aead"]], bytes.fromhex(vector["key"]))
    kwargs = {
        "context": vector["context"].encode(), "form": CHUNKED_16K, "kdf_hash": SHA256()
    }  # fmt: skip
    if vector["expect"] == "failure":
        with pytest.raises((DecryptionError, InvalidArgumentError)):
            opened(*args, **kwargs)
        return
    plain = opened(*args, **kwargs)
    assert len(plain) == vector["payload_length"]
    assert hashlib.sha256(plain).hexdigest() == vector["payload_sha256"]


OLD_CHUNK = CHUNKED_16K.chunk_bytes
OLD_SIZES = [0, 1, OLD_CHUNK - 1, OLD_CHUNK, OLD_CHUNK + 1, 3 * OLD_CHUNK, 100_000]


@pytest.mark.parametrize("size", OLD_SIZES)
def test_the_old_form_is_that_of_another_library(size: int):
    data = bytes_of(size)
    reader = Cobblestone256Decryptor(KEY, b"context")
    sealed = seal(data, context=b"context", form=CHUNKED_16K)
    assert reader.update(sealed) + reader.finalize() == data
    writer = Cobblestone256Encryptor(KEY, b"context")
    sealed = writer.update(data) + writer.finalize()
    assert open_at_once(sealed, context=b"context", form=CHUNKED_16K) == data


SIZES = [0, 1, 100_000, MIB - 1, MIB, MIB + 1, 3 * MIB, 4 * MIB + 5]


@each_algorithm
@pytest.mark.parametrize("size", SIZES)
def test_the_new_form_is_that_of_the_format_page(size: int, algorithm: EncryptionAlgorithm):
    """An implementation of its own, in `sealed_oracle`, reads and writes the same bytes."""
    data, name = bytes_of(size), algorithm.value
    sealed = seal(data, algorithm, context=b"c")
    assert len(sealed) == STREAM_1M.sealed_size(size)
    assert open_stream(KEY, name, b"c", sealed) == data
    assert seal_stream(KEY, name, b"c", data, salt=sealed[:32]) == sealed
    other = seal_stream(KEY, name, b"c", data, salt=bytes(range(32)))
    assert open_at_once(other, algorithm, context=b"c") == data


@each_algorithm
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 5 * MIB + 777), max_size=6))
def test_any_cut_of_the_input_gives_the_same_message(algorithm, cuts):
    data = bytes_of(5 * MIB + 777)
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    sealed = b"".join(map(bytes, StreamSealer(algorithm, KEY, b"c").pieces(pieces)))
    assert STREAM_1M.plain_size(len(sealed)) == len(data)
    assert open_stream(KEY, algorithm.value, b"c", sealed) == data


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 60_000), offset=st.integers(0, 70_000), length=st.integers(0, 70_000))
def test_any_range_is_readable_alone_in_the_old_form(size: int, offset: int, length: int):
    data = bytes_of(size)
    reader = SealedReader(AES, KEY, b"", seal(data, form=CHUNKED_16K), CHUNKED_16K)
    assert reader.read_at(offset, length) == data[offset : offset + length]


@settings(max_examples=40, deadline=None)
@given(
    offset=st.one_of(st.integers(0, 4 * MIB), st.integers(MIB - 3, MIB + 3)),
    length=st.one_of(st.integers(0, 4 * MIB), st.integers(MIB - 3, MIB + 3)),
)
def test_any_range_is_readable_alone(offset: int, length: int):
    assert _READER.read_at(offset, length) == _LONG[offset : offset + length]


_LONG = bytes_of(3 * MIB + 1000)
_READER = SealedReader(AES, KEY, b"", seal(_LONG))


@each_form
def test_a_range_opens_only_its_own_chunks(form: StreamFormat):
    sealed = bytearray(seal(bytes(5 * form.chunk_bytes), form=form))
    sealed[form.prefix_bytes] ^= 1  # chunk 0
    reader = SealedReader(AES, KEY, b"", sealed, form)
    assert reader.read_at(form.chunk_bytes, 10) == bytes(10)
    with pytest.raises(DecryptionError):
        reader.read_at(form.chunk_bytes - 1, 2)


# ------------------------------------------------------------------ attacks


def _good(form: StreamFormat) -> bytes:
    return seal(bytes_of(3 * form.chunk_bytes + 100), form=form)


def _attacks(s: bytes, form: StreamFormat) -> dict[str, bytes]:
    head, salt, stride = form.prefix_bytes, form.salt_bytes, form.stride

    def chunk(sealed: bytes, index: int) -> bytes:
        return sealed[head + index * stride : head + (index + 1) * stride]

    prefix, c = s[:head], [chunk(s, i) for i in range(4)]
    other = _good(form)
    short_last = chunk(seal(bytes_of(100), form=form), 0)
    return {
        "swap": b"".join([prefix, c[1], c[0], c[2], c[3]]),
        "drop first": b"".join([prefix, *c[1:]]),
        "drop middle": b"".join([prefix, c[0], c[2], c[3]]),
        "drop last": b"".join([prefix, *c[:3]]),
        "drop last two": b"".join([prefix, *c[:2]]),
        "duplicate": b"".join([prefix, c[0], c[0], *c[1:]]),
        "duplicate last": b"".join([prefix, *c[:3], c[3], c[3]]),
        "truncate in tag": s[:-1],
        "truncate in a chunk": s[: head + stride + 1000],
        "append a byte": s + b"\0",
        "append a chunk": s + c[0],
        "move last forward": b"".join([prefix, c[0], c[3]]),
        "empty": b"",
        "prefix alone": prefix,
        "last chunk alone": prefix + c[3],
        "chunk of another message": b"".join([prefix, c[0], chunk(other, 1), c[2], c[3]]),
        "last chunk of another message": b"".join([prefix, *c[:3], chunk(other, 3)]),
        "first chunk as the last": prefix + c[0][:116],
        "an empty message's end": b"".join([prefix, *c[:3], short_last]),
        "salt of another message": other[:salt] + s[salt:],
        "commitment of another message": s[:salt] + other[salt:head] + s[head:],
        "prefix of another message": other[:head] + s[head:],
    }


_ATTACKS = {
    (form.schema, name): (form, sealed)
    for form in FORMATS.values()
    for name, sealed in _attacks(_good(form), form).items()
}


@each_way
@pytest.mark.parametrize("attack", _ATTACKS, ids=lambda key: f"schema {key[0]}, {key[1]}")
def test_row_78_rearranged_ciphertext(attack: tuple[int, str], opened: Callable[..., bytes]):
    form, sealed = _ATTACKS[attack]
    with pytest.raises(DecryptionError) as caught:
        opened(sealed, form=form)
    assert str(caught.value) == CANNOT_DECRYPT


@each_algorithm
@pytest.mark.parametrize("last", [0, 1, 2])
def test_row_78_a_flag_says_which_chunk_is_the_last(algorithm: EncryptionAlgorithm, last: int):
    """Chunks sealed under the right key with a wrong flag are refused, wherever they lie."""
    plain, salt = bytes_of(2 * MIB + 100), bytes(32)
    cipher = ChunkCipher(STREAM_1M, algorithm, KEY, salt, b"")
    assert {len(cipher.nonce(i, flag)) for i in range(3) for flag in (False, True)} == {12}
    chunks = [plain[i * MIB : (i + 1) * MIB] for i in range(3)]

    def message(flags: list[bool]) -> bytes:
        parts = [salt + cipher.commitment]
        for i, (chunk, flag) in enumerate(zip(chunks, flags, strict=True)):
            out = bytearray(len(chunk) + TAG_BYTES)
            cipher.seal(i, flag, chunk, memoryview(out))
            parts.append(bytes(out))
        return b"".join(parts)

    good = [False, False, True]
    assert open_at_once(message(good), algorithm) == plain
    flipped = [flag ^ (i == last) for i, flag in enumerate(good)]
    for opened in (open_at_once, open_in_pieces):
        with pytest.raises(DecryptionError) as caught:
            opened(message(flipped), algorithm)
        assert str(caught.value) == CANNOT_DECRYPT


@each_form
@each_algorithm
def test_row_78_every_bit_flip_of_a_small_message(
    algorithm: EncryptionAlgorithm, form: StreamFormat
):
    sealed = seal(b"small", algorithm, form=form)
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecryptionError):
            open_at_once(bytes(changed), algorithm, form=form)


@settings(max_examples=60, deadline=None)
@given(bit=st.integers(0, 8 * STREAM_1M.sealed_size(2 * MIB + 9) - 1))
def test_row_78_bit_flips_of_a_long_message(bit: int):
    changed = bytearray(_LONGER)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        open_at_once(bytes(changed))


_LONGER = seal(bytes_of(2 * MIB + 9))


@each_form
def test_every_truncation(form: StreamFormat):
    sealed = seal(b"small", form=form)
    for size in range(len(sealed)):
        with pytest.raises(DecryptionError):
            open_at_once(sealed[:size], form=form)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, len(_LONGER) - 1))
def test_truncations_of_a_long_message(size: int):
    with pytest.raises(DecryptionError):
        open_at_once(_LONGER[:size])


@each_form
def test_row_82_the_other_algorithm(form: StreamFormat):
    with pytest.raises(DecryptionError, match="wrong"):
        open_at_once(seal(b"x", form=form), CHACHA, form=form)


@each_form
def test_row_79_another_context(form: StreamFormat):
    sealed = seal(b"x", context=b"resources/a", form=form)
    with pytest.raises(DecryptionError, match="wrong"):
        open_at_once(sealed, context=b"resources/b", form=form)


@each_form
def test_row_83_a_second_key_does_not_open(form: StreamFormat):
    with pytest.raises(DecryptionError, match="wrong"):
        open_at_once(seal(b"x", form=form), key=bytes(32), form=form)


def test_one_form_is_not_taken_for_the_other():
    for written, read in ((CHUNKED_16K, STREAM_1M), (STREAM_1M, CHUNKED_16K)):
        with pytest.raises(DecryptionError, match="wrong"):
            open_at_once(seal(bytes_of(100), form=written), form=read)


@each_form
def test_row_86_no_nonce_is_used_twice(form: StreamFormat):
    """Over 10^5 chunks of many messages under one key, each (key, nonce) pair occurs once."""
    seen: set[tuple[bytes, bytes]] = set()
    total = 0
    for _ in range(400):
        cipher = StreamSealer(AES, KEY, b"", form)._cipher
        pairs = {(cipher.commitment, cipher.nonce(i, i == 249)) for i in range(250)}
        total += len(pairs)
        seen |= pairs
    assert len(seen) == total == 100_000


@each_form
def test_too_many_chunks_are_refused(form: StreamFormat):
    cipher = StreamSealer(AES, KEY, b"", form)._cipher
    assert len(cipher.nonce(form.max_chunks - 1, True)) == 12
    with pytest.raises(LimitError, match=f"at most {form.max_chunks} chunks"):
        cipher.nonce(form.max_chunks, False)


def test_a_sealer_and_its_arguments_are_checked():
    sealer = StreamSealer(AES, KEY, b"")
    list(sealer.pieces([b"x"]))
    with pytest.raises(InvalidArgumentError, match="has been used"):
        list(sealer.pieces([b"x"]))
    with pytest.raises(InvalidArgumentError, match="has 32 bytes, not 16"):
        StreamSealer(AES, bytes(16), b"")
    with pytest.raises(InvalidArgumentError, match="7 bytes for 3146728"):
        _READER.read_into(memoryview(bytearray(7)))
