"""The two forms of a sealed resource: how its key is derived, and how its chunks are numbered.

    sealed = salt || commitment (32) || chunk 0 || tag 0 || ... || last chunk || tag

All chunks but the last have `chunk_bytes` of plaintext; the last has fewer, perhaps none. Per
message, one expansion of the content key gives the key of the cipher, the fixed part of all nonces
and the commitment. What a ciphertext is bound to (algorithm, form, salt, and the facts of the
resource) goes into that expansion, so any other reading of it has another commitment.

`STREAM_1M` (schema 2 of the encryption header, and what is written) is STREAM of Hoang,
Reyhanitabar, Rogaway and Vizar ("Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015, section 7): nonce = prefix || counter || flag of the last chunk.

`CHUNKED_16K` (schema 1, only read) is C2SP chunked-encryption v1
(https://c2sp.org/chunked-encryption) with chunks of 16 KiB: nonce = base XOR counter.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA512, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.utils import Buffer

from torsh_package.crypto.algorithms import (
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    Aead,
    EncryptionAlgorithm,
)
from torsh_package.errors import DecryptionError, InvalidArgumentError, LimitError

COMMITMENT_BYTES = 32

CANNOT_DECRYPT = "cannot decrypt: the password or key is wrong, or the ciphertext was changed"
"""The one message of every failed decryption: it must not tell which of the two it was."""

KDF_HASH: HashAlgorithm = SHA512()
"""Hash of HKDF-Expand in packages. C2SP leaves it open; its vectors use SHA-256."""


@dataclass(frozen=True)
class StreamFormat:
    """One form of sealed resources.

    Attributes:
        schema: Of the encryption header of packages in this form.
        chunk_bytes: Plaintext of every chunk but the last.
        salt_bytes: Random bytes at the beginning of a message.
        nonce_bytes: Bytes of a nonce that are derived from the key.
        max_chunks: Chunks that a message may have.
        label: (name of the AEAD) -> first bytes of what the key schedule binds.
        nonce: (derived part, number of the chunk, whether it is the last) -> nonce.
    """

    schema: int
    chunk_bytes: int
    salt_bytes: int
    nonce_bytes: int
    max_chunks: int
    label: Callable[[str], bytes]
    nonce: Callable[[bytes, int, bool], bytes]

    @property
    def prefix_bytes(self) -> int:
        """Bytes before the first chunk."""
        return self.salt_bytes + COMMITMENT_BYTES

    @property
    def stride(self) -> int:
        """Bytes from one sealed chunk to the next."""
        return self.chunk_bytes + TAG_BYTES

    def sealed_size(self, plain: int) -> int:
        """Bytes that `plain` bytes take when sealed."""
        return self.prefix_bytes + plain + TAG_BYTES * (plain // self.chunk_bytes + 1)

    def plain_size(self, sealed: int) -> int:
        """Bytes of plaintext in a sealed message of `sealed` bytes.

        Raises:
            DecryptionError: No message has that sealed size.
        """
        full, rest = divmod(sealed - self.prefix_bytes, self.stride)
        if sealed < self.prefix_bytes or rest < TAG_BYTES:
            raise DecryptionError(CANNOT_DECRYPT)
        return full * self.chunk_bytes + rest - TAG_BYTES


def _counted(base: bytes, index: int, last: bool) -> bytes:
    return (int.from_bytes(base) ^ index).to_bytes(NONCE_BYTES)


def _flagged(prefix: bytes, index: int, last: bool) -> bytes:
    return prefix + index.to_bytes(4) + (b"\1" if last else b"\0")


CHUNKED_16K = StreamFormat(
    schema=1,
    chunk_bytes=16 << 10,
    salt_bytes=24,
    nonce_bytes=NONCE_BYTES,
    max_chunks=1 << 38,
    label=lambda aead: b"c2sp.org/chunked-encryption@v1+" + aead.encode() + b"\0",
    nonce=_counted,
)
STREAM_1M = StreamFormat(
    schema=2,
    chunk_bytes=1 << 20,
    salt_bytes=32,
    nonce_bytes=NONCE_BYTES - 5,
    max_chunks=1 << 32,
    label=lambda aead: b"torshpkg/v2/stream/1048576\0" + aead.encode() + b"\0",
    nonce=_flagged,
)
FORMATS = {form.schema: form for form in (CHUNKED_16K, STREAM_1M)}
"""By schema of the encryption header."""


class ChunkCipher:
    """Key schedule of one message, and its cipher chunk by chunk.

    Args:
        form: Form of the message.
        algorithm: AEAD of the chunks.
        key: 32 uniformly random bytes.
        salt: `form.salt_bytes` bytes, random for each message: it keeps every pair of key and
            nonce unique even under one `key`.
        context: What the ciphertext is bound to.
        kdf_hash: Hash of HKDF-Expand.
    """

    def __init__(
        self,
        form: StreamFormat,
        algorithm: EncryptionAlgorithm,
        key: bytes,
        salt: bytes,
        context: bytes,
        kdf_hash: HashAlgorithm = KDF_HASH,
    ):
        if len(key) != KEY_BYTES:
            raise InvalidArgumentError(f"a content key has {KEY_BYTES} bytes, not {len(key)}")
        info = form.label(algorithm.iana_name) + salt + context
        nonce_end = KEY_BYTES + form.nonce_bytes
        okm = HKDFExpand(kdf_hash, nonce_end + COMMITMENT_BYTES, info).derive(key)
        self._cipher: Aead = algorithm.cipher(okm[:KEY_BYTES])
        self._fixed = okm[KEY_BYTES:nonce_end]
        self._form = form
        self.commitment = okm[nonce_end:]

    def nonce(self, index: int, last: bool) -> bytes:
        """The nonce of a chunk.

        Raises:
            LimitError: No message has so many chunks.
        """
        if index >= self._form.max_chunks:
            raise LimitError(
                f"a sealed resource has at most {self._form.max_chunks} chunks of "
                f"{self._form.chunk_bytes} bytes"
            )
        return self._form.nonce(self._fixed, index, last)

    def seal(self, index: int, last: bool, chunk: Buffer, out: memoryview) -> None:
        """Seals one chunk into `out`, which is 16 bytes longer."""
        self._cipher.encrypt_into(self.nonce(index, last), chunk, None, out)

    def open(self, index: int, last: bool, sealed: Buffer, out: memoryview) -> None:
        """Opens one chunk into `out`, which is 16 bytes shorter.

        Raises:
            DecryptionError: It is not this chunk of this message.
        """
        try:
            self._cipher.decrypt_into(self.nonce(index, last), sealed, None, out)
        except InvalidTag:
            raise DecryptionError(CANNOT_DECRYPT) from None
