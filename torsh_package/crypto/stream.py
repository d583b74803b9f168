"""Streaming authenticated encryption of one resource.

The format is C2SP chunked-encryption v1 (https://c2sp.org/chunked-encryption), a STREAM-type
construction: per message one key, base nonce and commitment come out of HKDF-Expand, the message
is cut into chunks of 16 KiB of which the last is always shorter (and may be empty), and chunk `i`
is sealed under `base_nonce XOR i`. So no chunk can be dropped, swapped, repeated or appended, the
ciphertext commits to the key, and any chunk can be opened alone. With AES-256-GCM and SHA-512, as
packages use it, this is the instance that the specification names Cobblestone-256.

    sealed = salt (24) || commitment (32) || chunk_0 || tag_0 || ... || chunk_n || tag_n
"""

import hmac
import secrets
from collections.abc import Iterator
from typing import Protocol

from cryptography.cobblestone import Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA512, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.utils import Buffer

from torsh_package.buffers import Recycler
from torsh_package.crypto.algorithms import (
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    Aead,
    EncryptionAlgorithm,
)
from torsh_package.errors import DecryptionError, InvalidArgumentError, LimitError

CHUNK_BYTES = 16 * 1024
SALT_BYTES = 24
COMMITMENT_BYTES = 32
PREFIX_BYTES = SALT_BYTES + COMMITMENT_BYTES
MAX_CHUNKS = 1 << 38

CANNOT_DECRYPT = "cannot decrypt: the password or key is wrong, or the ciphertext was changed"
"""The one message of every failed decryption: it must not tell which of the two it was."""

KDF_HASH: HashAlgorithm = SHA512()
"""Hash of HKDF-Expand in packages. The specification leaves it open; its vectors use SHA-256."""

_LABEL = b"c2sp.org/chunked-encryption@v1+"
_SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES


def sealed_size(plain: int) -> int:
    """Bytes that `plain` bytes take when sealed."""
    return PREFIX_BYTES + plain + TAG_BYTES * (plain // CHUNK_BYTES + 1)


def sealed_bound(piece: int) -> int:
    """At most this many sealed bytes are complete when `piece` more bytes have come."""
    return PREFIX_BYTES + (piece // CHUNK_BYTES + 1) * (CHUNK_BYTES + TAG_BYTES)


def plain_size(sealed: int) -> int:
    """Bytes of plaintext in a sealed message of `sealed` bytes.

    Raises:
        DecryptionError: No message has that sealed size.
    """
    full, rest = divmod(sealed - PREFIX_BYTES, _SEALED_CHUNK)
    if sealed < PREFIX_BYTES or rest < TAG_BYTES:
        raise DecryptionError(CANNOT_DECRYPT)
    return full * CHUNK_BYTES + rest - TAG_BYTES


class _ChunkCipher:
    """Key schedule of one message, and its cipher chunk by chunk."""

    def __init__(
        self,
        algorithm: EncryptionAlgorithm,
        key: bytes,
        salt: bytes,
        context: bytes,
        kdf_hash: HashAlgorithm,
    ):
        if len(key) != KEY_BYTES:
            raise InvalidArgumentError(f"a content key has {KEY_BYTES} bytes, not {len(key)}")
        info = _LABEL + algorithm.iana_name.encode() + b"\0" + salt + context
        length = KEY_BYTES + NONCE_BYTES + COMMITMENT_BYTES
        okm = HKDFExpand(kdf_hash, length, info).derive(key)
        self._cipher: Aead = algorithm.cipher(okm[:KEY_BYTES])
        self._base = int.from_bytes(okm[KEY_BYTES : KEY_BYTES + NONCE_BYTES])
        self.commitment = okm[KEY_BYTES + NONCE_BYTES :]

    def _nonce(self, index: int) -> bytes:
        if index >= MAX_CHUNKS:
            raise LimitError(f"a sealed resource has at most {MAX_CHUNKS} chunks of 16 KiB")
        return (self._base ^ index).to_bytes(NONCE_BYTES)

    def seal(self, index: int, chunk: Buffer, out: memoryview) -> None:
        self._cipher.encrypt_into(self._nonce(index), chunk, None, out)

    def open(self, index: int, sealed: Buffer, out: memoryview) -> None:
        try:
            self._cipher.decrypt_into(self._nonce(index), sealed, None, out)
        except InvalidTag:
            raise DecryptionError(CANNOT_DECRYPT) from None

    def open_run(self, first: int, sealed: memoryview, out: memoryview) -> None:
        """Opens whole chunks that follow each other; the last of a message may be shorter."""
        decrypt, base = self._cipher.decrypt_into, self._base
        try:
            for index in range(-(-len(sealed) // _SEALED_CHUNK)):
                chunk = sealed[index * _SEALED_CHUNK : (index + 1) * _SEALED_CHUNK]
                plain = out[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
                decrypt((base ^ (first + index)).to_bytes(NONCE_BYTES), chunk, None, plain)
        except InvalidTag:
            raise DecryptionError(CANNOT_DECRYPT) from None


def _opened(
    algorithm: EncryptionAlgorithm,
    key: bytes,
    prefix: bytes,
    context: bytes,
    kdf_hash: HashAlgorithm,
) -> _ChunkCipher:
    """The cipher of a sealed message, once its commitment to `key` and `context` is checked."""
    cipher = _ChunkCipher(algorithm, key, prefix[:SALT_BYTES], context, kdf_hash)
    if not hmac.compare_digest(cipher.commitment, prefix[SALT_BYTES:]):
        raise DecryptionError(CANNOT_DECRYPT)
    return cipher


class StreamSealer:
    """Seals one message piece by piece; it holds less than one chunk of plaintext.

    Args:
        algorithm: AEAD of the chunks.
        key: 32 uniformly random bytes.
        context: What the ciphertext is bound to; opening needs the same bytes.
    """

    def __init__(
        self,
        algorithm: EncryptionAlgorithm,
        key: bytes,
        context: bytes,
        *,
        kdf_hash: HashAlgorithm = KDF_HASH,
    ):
        # A random salt per message keeps every (key, nonce) pair unique even under one key.
        salt = secrets.token_bytes(SALT_BYTES)
        self._cipher = _ChunkCipher(algorithm, key, salt, context, kdf_hash)
        self._head = salt + self._cipher.commitment
        self._pending = bytearray()
        self._index = 0
        self._finished = False

    def update(self, data: Buffer) -> bytearray:
        """Take plaintext; give the sealed bytes that are complete by now."""
        out = bytearray(sealed_bound(len(memoryview(data).cast("B"))))
        size = self.update_into(data, out)
        del out[size:]
        return out

    def update_into(self, data: Buffer, buf: Buffer) -> int:
        """The same into a buffer of at least `sealed_bound` bytes; returns how many are used."""
        if self._finished:
            raise InvalidArgumentError("the stream is already finished; make a new sealer")
        view, sink = memoryview(data).cast("B"), memoryview(buf).cast("B")
        at = len(self._head)
        sink[:at], self._head = self._head, b""
        fill = min(-len(self._pending) % CHUNK_BYTES, len(view)) if self._pending else 0
        self._pending += view[:fill]
        if len(self._pending) == CHUNK_BYTES:
            at = self._emit(self._pending, sink, at)
            self._pending = bytearray()
        whole = fill + (len(view) - fill) // CHUNK_BYTES * CHUNK_BYTES
        for start in range(fill, whole, CHUNK_BYTES):
            at = self._emit(view[start : start + CHUNK_BYTES], sink, at)
        self._pending += view[whole:]
        return at

    def _emit(self, chunk: Buffer, sink: memoryview, at: int) -> int:
        end = at + len(memoryview(chunk)) + TAG_BYTES
        self._cipher.seal(self._index, chunk, sink[at:end])
        self._index += 1
        return end

    def finalize(self) -> bytearray:
        """Seal the last, short chunk. Nothing can be added afterwards."""
        out = self.update(b"")
        self._finished = True
        tail = bytearray(len(self._pending) + TAG_BYTES)
        self._emit(self._pending, memoryview(tail), 0)
        return out + tail


class ChunkSealer(Protocol):
    """What seals a message piece by piece."""

    def update_into(self, data: Buffer, buf: Buffer) -> int:
        """Take plaintext; put the sealed bytes that are complete by now into `buf`.

        Returns:
            How many these are; `buf` has room for `sealed_bound` of `data`.
        """
        ...

    def finalize(self) -> bytes | bytearray:
        """Seal the last chunk."""
        ...


def stream_sealer(algorithm: EncryptionAlgorithm, key: bytes, context: bytes) -> ChunkSealer:
    """A sealer of one message: `StreamSealer`, or the same natively for AES-256-GCM.

    The latter takes two thirds of the time: per chunk of 16 KiB the cipher needs 1 us, and the
    interpreter another.
    """
    if algorithm is EncryptionAlgorithm.Aes256Gcm:
        return Cobblestone256Encryptor(key, context)
    return StreamSealer(algorithm, key, context)


class SealedReader:
    """Opens a sealed message that lies in memory (or in a map); any range of it, chunk by chunk.

    Only authenticated bytes ever leave it. The length is authenticated before anything is given
    out, by opening the last chunk.

    Args:
        algorithm: AEAD of the chunks.
        key: 32 bytes.
        context: The context that the message was sealed under.
        sealed: The stored bytes.

    Raises:
        DecryptionError: Wrong key or context, or any change to the bytes (always the same text).
    """

    def __init__(
        self,
        algorithm: EncryptionAlgorithm,
        key: bytes,
        context: bytes,
        sealed: Buffer,
        *,
        kdf_hash: HashAlgorithm = KDF_HASH,
    ):
        self._sealed = memoryview(sealed).cast("B")
        self._size = plain_size(len(self._sealed))
        prefix = bytes(self._sealed[:PREFIX_BYTES])
        self._cipher = _opened(algorithm, key, prefix, context, kdf_hash)
        last = self._size // CHUNK_BYTES
        self._cipher.open(
            last, self._stored(last), memoryview(bytearray(self._size - last * CHUNK_BYTES))
        )

    def __len__(self) -> int:
        """Bytes of plaintext."""
        return self._size

    def _stored(self, index: int) -> memoryview:
        start = PREFIX_BYTES + index * _SEALED_CHUNK
        return self._sealed[start : start + _SEALED_CHUNK]

    def read_at(self, offset: int, size: int) -> bytearray:
        """Plaintext of `[offset, offset + size)`, cut at the end of the message.

        Only the chunks that the range touches are opened.
        """
        if offset < 0 or size < 0:
            raise InvalidArgumentError(f"offset {offset} and size {size} must not be negative")
        end = min(offset + size, self._size)
        if offset >= end:
            return bytearray()
        first, last = offset // CHUNK_BYTES, (end - 1) // CHUNK_BYTES
        start = first * CHUNK_BYTES
        out = bytearray(min((last + 1) * CHUNK_BYTES, self._size) - start)
        self._open_chunks(first, last + 1 - first, memoryview(out))
        if (offset, end) == (start, start + len(out)):
            return out
        return out[offset - start : end - start]

    def read(self) -> bytearray:
        """The whole plaintext, or an error: never a part of it."""
        return self.read_at(0, self._size)

    def pieces(self, piece_bytes: int = 1 << 20) -> Iterator[memoryview]:
        """The plaintext in order, in authenticated pieces (constant memory).

        A consumer that publishes a result must wait for the end: an error may come after the
        first pieces.

        Args:
            piece_bytes: Bytes of a piece, a multiple of 16 KiB.
        """
        buffers = Recycler()
        for offset in range(0, self._size, piece_bytes):
            size = min(piece_bytes, self._size - offset)
            piece = buffers.take(size)
            self._open_chunks(offset // CHUNK_BYTES, -(-size // CHUNK_BYTES), piece)
            yield piece

    def _open_chunks(self, first: int, count: int, out: memoryview) -> None:
        begin, stop = (PREFIX_BYTES + index * _SEALED_CHUNK for index in (first, first + count))
        self._cipher.open_run(first, self._sealed[begin:stop], out)


class StreamOpener:
    """Opens one sealed message that arrives piece by piece; it holds less than one chunk.

    Raises:
        DecryptionError: From `update` or `finalize`, always with the same text.
    """

    def __init__(
        self,
        algorithm: EncryptionAlgorithm,
        key: bytes,
        context: bytes,
        *,
        kdf_hash: HashAlgorithm = KDF_HASH,
    ):
        self._algorithm, self._key, self._context = algorithm, key, context
        self._kdf_hash = kdf_hash
        self._cipher: _ChunkCipher | None = None
        self._pending = bytearray()
        self._index = 0

    def update(self, data: Buffer) -> bytearray:
        """Take sealed bytes; give the plaintext that is authenticated by now."""
        self._pending += memoryview(data).cast("B")
        if self._cipher is None:
            if len(self._pending) < PREFIX_BYTES:
                return bytearray()
            prefix = bytes(self._pending[:PREFIX_BYTES])
            self._cipher = _opened(
                self._algorithm, self._key, prefix, self._context, self._kdf_hash
            )
            del self._pending[:PREFIX_BYTES]
        whole = len(self._pending) // _SEALED_CHUNK
        out = bytearray(whole * CHUNK_BYTES)
        with memoryview(self._pending) as source, memoryview(out) as sink:
            for at in range(whole):
                sealed = source[at * _SEALED_CHUNK : (at + 1) * _SEALED_CHUNK]
                plain = sink[at * CHUNK_BYTES : (at + 1) * CHUNK_BYTES]
                self._cipher.open(self._index, sealed, plain)
                self._index += 1
                sealed.release()
                plain.release()
        del self._pending[: whole * _SEALED_CHUNK]
        return out

    def finalize(self) -> bytearray:
        """Open the last, short chunk; an error if the message was cut."""
        if self._cipher is None or len(self._pending) < TAG_BYTES:
            raise DecryptionError(CANNOT_DECRYPT)
        out = bytearray(len(self._pending) - TAG_BYTES)
        self._cipher.open(self._index, self._pending, memoryview(out))
        return out
