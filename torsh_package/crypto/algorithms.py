"""The two AEADs that a package may be encrypted with."""

import enum
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.utils import Buffer

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16


class Aead(Protocol):
    """What both ciphers of `cryptography` offer and the stream uses."""

    def encrypt_into(
        self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer, /
    ) -> int:
        """Seal `data` into `buf` (16 bytes longer)."""
        ...

    def decrypt_into(
        self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer, /
    ) -> int:
        """Open `data` into `buf` (16 bytes shorter), or raise `InvalidTag`."""
        ...


class EncryptionAlgorithm(enum.Enum):
    """AEAD of a package's payload. The value is its name in `META/encryption.json`."""

    Aes256Gcm = "aes-256-gcm"
    ChaCha20Poly1305 = "chacha20-poly1305"

    @property
    def iana_name(self) -> str:
        """Name in the IANA registry of AEAD algorithms, as key derivation takes it."""
        return _IANA_NAMES[self]

    def cipher(self, key: bytes) -> Aead:
        """The cipher under `key` (32 bytes)."""
        if self is EncryptionAlgorithm.Aes256Gcm:
            return AESGCM(key)
        return ChaCha20Poly1305(key)


_IANA_NAMES = {
    EncryptionAlgorithm.Aes256Gcm: "AEAD_AES_256_GCM",
    EncryptionAlgorithm.ChaCha20Poly1305: "AEAD_CHACHA20_POLY1305",
}
