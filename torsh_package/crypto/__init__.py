"""Encryption of packages: payload streams, key wrapping and the header that ties them together."""

from torsh_package.crypto.algorithms import EncryptionAlgorithm
from torsh_package.crypto.kdf import Argon2idParams, ScryptParams
from torsh_package.crypto.recipients import (
    PasswordIdentity,
    PasswordRecipient,
    X25519Identity,
    X25519Recipient,
)
from torsh_package.crypto.sealing import PackageOpener, PackageSealer, opener

__all__ = [
    "Argon2idParams",
    "EncryptionAlgorithm",
    "PackageOpener",
    "PackageSealer",
    "PasswordIdentity",
    "PasswordRecipient",
    "ScryptParams",
    "X25519Identity",
    "X25519Recipient",
    "opener",
]
