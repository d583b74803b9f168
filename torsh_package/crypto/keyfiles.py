"""PEM key files: private keys are written for the owner alone, and never over another file."""

import contextlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from torsh_package.crypto.pkcs8 import encrypted_pem
from torsh_package.errors import DecryptionError, InvalidArgumentError, StorageError
from torsh_package.small_files import read_file

MAX_KEY_FILE_BYTES = 64 * 1024


def read_private_pem(
    path: str | os.PathLike[str], passphrase: str | bytes | None = None
) -> PrivateKeyTypes:
    """The private key of a PKCS#8 PEM file.

    Raises:
        DecryptionError: The file is encrypted and `passphrase` does not open it.
        InvalidArgumentError: It holds no private key.
    """
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    data = read_file(path, MAX_KEY_FILE_BYTES)
    encrypted = b"ENCRYPTED" in data
    if encrypted and not secret:
        raise DecryptionError("the private key is encrypted; give its passphrase", entry=str(path))
    try:
        return load_pem_private_key(data, secret if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause is dropped: it may quote key material.
        if encrypted:
            raise DecryptionError(
                "the passphrase is wrong or the key file is damaged", entry=str(path)
            ) from None
        raise InvalidArgumentError("holds no PEM private key", entry=str(path)) from None


def read_public_pem(path: str | os.PathLike[str]) -> PublicKeyTypes:
    """The public key of a SubjectPublicKeyInfo PEM file."""
    try:
        return load_pem_public_key(read_file(path, MAX_KEY_FILE_BYTES))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidArgumentError("holds no PEM public key", entry=str(path)) from None


def private_pem(key: PrivateKeyTypes, passphrase: str | bytes | None = None) -> bytes:
    """PKCS#8 PEM of a private key, encrypted when a passphrase is given."""
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    if not secret:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encrypted_pem(
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), secret
    )


def public_pem(key: PublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo PEM of a public key."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_new(path: str | os.PathLike[str], data: bytes, mode: int) -> None:
    """Write a file that must not exist yet, with `mode` from its first byte on.

    Raises:
        StorageError: It exists, or the file system refuses; nothing is left behind.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise StorageError("exists already; keys are never overwritten", entry=str(path)) from None
    except OSError as error:
        raise StorageError(f"cannot create: {error.strerror}", entry=str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise StorageError(f"cannot write: {error.strerror}", entry=str(path)) from None


def write_key_pair(
    path: str | os.PathLike[str],
    private: PrivateKeyTypes,
    public: PublicKeyTypes,
    passphrase: str | bytes | None = None,
) -> tuple[Path, Path]:
    """Write `path` (private, mode 0600) and `path.pub` (public, mode 0644); give both paths."""
    private_path = Path(path)
    public_path = private_path.with_name(private_path.name + ".pub")
    write_new(private_path, private_pem(private, passphrase), 0o600)
    write_new(public_path, public_pem(public), 0o644)
    return private_path, public_path
