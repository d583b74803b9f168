"""Sealing and opening one resource chunk by chunk, in either form (`torsh_package.crypto.formats`).

No chunk can be dropped, swapped, repeated or appended, the ciphertext commits to the key, and any
chunk can be opened alone. Bytes go through the cipher from where they are to where they are wanted.
"""

import hmac
import secrets
from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.utils import Buffer

from torsh_package.buffers import Recycler
from torsh_package.crypto.algorithms import TAG_BYTES, EncryptionAlgorithm
from torsh_package.crypto.formats import (
    CANNOT_DECRYPT,
    KDF_HASH,
    STREAM_1M,
    ChunkCipher,
    StreamFormat,
)
from torsh_package.errors import DecryptionError, InvalidArgumentError


class StreamSealer:
    """Seals one message; it holds less than one chunk of plaintext.

    Args:
        algorithm: AEAD of the chunks.
        key: 32 uniformly random bytes.
        context: What the ciphertext is bound to; opening needs the same bytes.
        form: Form of the message.
    """

    def __init__(
        self,
        algorithm: EncryptionAlgorithm,
        key: bytes,
        context: bytes,
        form: StreamFormat = STREAM_1M,
    ):
        salt = secrets.token_bytes(form.salt_bytes)
        self._form = form
        self._cipher = ChunkCipher(form, algorithm, key, salt, context)
        self._head = salt + self._cipher.commitment
        self._buffers = Recycler()
        self._index = 0

    def pieces(self, plain: Iterable[Buffer]) -> Iterator[Buffer]:
        """The sealed form of a content that comes in pieces of any size; use a sealer once.

        A whole chunk inside of a piece is sealed from there; what is left over waits for more.
        Memory is used again for later pieces when nobody has a view of it any more.
        """
        if self._index:
            raise InvalidArgumentError("the sealer has been used; make a new one")
        size = self._form.chunk_bytes
        yield self._head
        pending, held = memoryview(bytearray(size)), 0
        for piece in plain:
            view = memoryview(piece).cast("B")
            if held:
                fill = min(size - held, len(view))
                pending[held : held + fill] = view[:fill]
                held, view = held + fill, view[fill:]
                if held < size:
                    continue
                yield self._seal(pending, last=False)
            held = len(view) % size
            whole = len(view) - held
            for start in range(0, whole, size):
                yield self._seal(view[start : start + size], last=False)
            pending[:held] = view[whole:]
        yield self._seal(pending[:held], last=True)

    def _seal(self, chunk: memoryview, *, last: bool) -> memoryview:
        sealed = self._buffers.take(len(chunk) + TAG_BYTES)
        self._cipher.seal(self._index, last, chunk, sealed)
        self._index += 1
        return sealed


class SealedReader:
    """Opens a sealed message that lies in memory (or in a map); any range of it, chunk by chunk.

    Only authenticated bytes ever leave it. The length is authenticated before anything is given
    out, by opening the last chunk.

    Args:
        algorithm: AEAD of the chunks.
        key: 32 bytes.
        context: The context that the message was sealed under.
        sealed: The stored bytes.
        form: Form of the message.
        kdf_hash: Hash of HKDF-Expand.

    Raises:
        DecryptionError: Wrong key or context, or any change to the bytes (always the same text).
    """

    def __init__(
        self,
        algorithm: EncryptionAlgorithm,
        key: bytes,
        context: bytes,
        sealed: Buffer,
        form: StreamFormat = STREAM_1M,
        *,
        kdf_hash: HashAlgorithm = KDF_HASH,
    ):
        self._form = form
        self._sealed = memoryview(sealed).cast("B")
        self._size = form.plain_size(len(self._sealed))
        salt = bytes(self._sealed[: form.salt_bytes])
        self._cipher = ChunkCipher(form, algorithm, key, salt, context, kdf_hash)
        commitment = bytes(self._sealed[form.salt_bytes : form.prefix_bytes])
        if not hmac.compare_digest(self._cipher.commitment, commitment):
            raise DecryptionError(CANNOT_DECRYPT)
        # Most messages are shorter than a chunk: this one is kept, not opened again.
        self._full = self._size // form.chunk_bytes
        self._last = bytearray(self._size - self._full * form.chunk_bytes)
        start = form.prefix_bytes + self._full * form.stride
        self._cipher.open(self._full, True, self._sealed[start:], memoryview(self._last))

    def __len__(self) -> int:
        """Bytes of plaintext."""
        return self._size

    def read_at(self, offset: int, size: int) -> bytearray:
        """Plaintext of `[offset, offset + size)`, cut at the end of the message.

        Only the chunks that the range touches are opened.
        """
        if offset < 0 or size < 0:
            raise InvalidArgumentError(f"offset {offset} and size {size} must not be negative")
        end = min(offset + size, self._size)
        if offset >= end:
            return bytearray()
        chunk = self._form.chunk_bytes
        start = offset // chunk * chunk
        out = bytearray(min(-(-end // chunk) * chunk, self._size) - start)
        self._open_into(start, memoryview(out))
        if (offset, end) == (start, start + len(out)):
            return out
        return out[offset - start : end - start]

    def read_into(self, target: memoryview) -> None:
        """The whole plaintext, into a buffer of its size; after an error it holds garbage."""
        if len(target) != self._size:
            raise InvalidArgumentError(f"a buffer of {len(target)} bytes for {self._size}")
        self._open_into(0, target)

    def pieces(self, piece_bytes: int = 1 << 20) -> Iterator[memoryview]:
        """The plaintext in order, in authenticated pieces (constant memory).

        A consumer that publishes a result must wait for the end: an error may come after the
        first pieces.

        Args:
            piece_bytes: Bytes of a piece, a multiple of the form's chunks.
        """
        buffers = Recycler()
        for offset in range(0, self._size, piece_bytes):
            piece = buffers.take(min(piece_bytes, self._size - offset))
            self._open_into(offset, piece)
            yield piece

    def _open_into(self, offset: int, out: memoryview) -> None:
        """Fills `out` from a multiple of the chunk's size on, to the end of some chunk."""
        form, chunk = self._form, self._form.chunk_bytes
        first = offset // chunk
        for index in range(first, first + -(-len(out) // chunk)):
            at = index * chunk - offset
            if index == self._full:
                out[at:] = self._last
                return
            start = form.prefix_bytes + index * form.stride
            sealed = self._sealed[start : start + form.stride]
            self._cipher.open(index, False, sealed, out[at : at + chunk])
