"""Encryption of packages: payload streams, key wrapping and the header that ties them together."""

from torsh_package.crypto.algorithms import EncryptionAlgorithm
from torsh_package.crypto.encryptor import EncryptedPackage, PackageEncryptor
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
    "EncryptedPackage",
    "EncryptionAlgorithm",
    "PackageEncryptor",
    "PackageOpener",
    "PackageSealer",
    "PasswordIdentity",
    "PasswordRecipient",
    "ScryptParams",
    "X25519Identity",
    "X25519Recipient",
    "opener",
]
