"""Who may open a package: passwords and X25519 keys, and how each wraps the content key.

A *recipient* wraps, an *identity* unwraps, a *stanza* is the wrapped key as the header stores it.
X25519 is HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305;
a password goes through Argon2id or scrypt, and its stanza commits to the derived key so that no
ciphertext opens under two passwords.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from torsh_package.crypto.algorithms import KEY_BYTES, NONCE_BYTES, TAG_BYTES
from torsh_package.crypto.kdf import (
    SALT_BYTES,
    Argon2idParams,
    KdfParams,
    password_bytes,
)
from torsh_package.crypto.keyfiles import read_private_pem, read_public_pem, write_key_pair
from torsh_package.errors import InvalidArgumentError
from torsh_package.limits import DEFAULT_LIMITS, Limits

COMMITMENT_BYTES = 32
WRAPPED_BYTES = KEY_BYTES + TAG_BYTES
ENCAPSULATED_BYTES = 32

DEFAULT_KDF: KdfParams = Argon2idParams()

_PASSWORD_INFO = b"torshpkg/v1/password"
_X25519_INFO = b"torshpkg/v1/x25519"
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True)
class PasswordStanza:
    """The content key wrapped under a password."""

    params: KdfParams
    salt: bytes
    commitment: bytes
    wrapped: bytes

    @property
    def label(self) -> str:
        """How a person would call it."""
        return f"password ({self.params.name})"


@dataclass(frozen=True)
class X25519Stanza:
    """The content key wrapped for an X25519 key; `wrapped` is encapsulated key || ciphertext."""

    key_id: str
    wrapped: bytes

    @property
    def label(self) -> str:
        """How a person would call it."""
        return f"x25519 {self.key_id[:16]}"


Stanza = PasswordStanza | X25519Stanza


def _spki_id(key: X25519PublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _password_keys(params: KdfParams, password: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Wrapping key and commitment of a password under one stanza's salt."""
    derived = params.derive(password, salt)
    okm = HKDFExpand(SHA256(), KEY_BYTES + COMMITMENT_BYTES, _PASSWORD_INFO).derive(derived)
    return okm[:KEY_BYTES], okm[KEY_BYTES:]


@dataclass(frozen=True)
class PasswordRecipient:
    """Anyone who knows the password.

    Args:
        password: Taken as NFC, UTF-8.
        params: Argon2id (default) or scrypt with their costs.
    """

    password: str | bytes = field(repr=False)
    params: KdfParams = DEFAULT_KDF

    def wrap(self, content_key: bytes, limits: Limits = DEFAULT_LIMITS) -> PasswordStanza:
        """Wrap the content key; costs over `limits` are refused, a reader would refuse them too."""
        self.params.check(limits)
        salt = secrets.token_bytes(SALT_BYTES)
        key, commitment = _password_keys(self.params, password_bytes(self.password), salt)
        # The salt is new, so the key is used once and a constant nonce is safe.
        wrapped = ChaCha20Poly1305(key).encrypt(bytes(NONCE_BYTES), content_key, None)
        return PasswordStanza(self.params, salt, commitment, wrapped)


@dataclass(frozen=True)
class PasswordIdentity:
    """Opens what a `PasswordRecipient` of the same password wrapped."""

    password: str | bytes = field(repr=False)

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """The content key, or None when this password does not open the stanza."""
        if not isinstance(stanza, PasswordStanza):
            return None
        secret = password_bytes(self.password)
        key, commitment = _password_keys(stanza.params, secret, stanza.salt)
        if not hmac.compare_digest(commitment, stanza.commitment):
            return None
        try:
            return ChaCha20Poly1305(key).decrypt(bytes(NONCE_BYTES), stanza.wrapped, None)
        except InvalidTag:
            return None


@dataclass(frozen=True)
class X25519Recipient:
    """The holder of an X25519 private key."""

    public_key: X25519PublicKey

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "X25519Recipient":
        """From a public PEM file."""
        key = read_public_pem(path)
        if not isinstance(key, X25519PublicKey):
            raise InvalidArgumentError("is no X25519 public key", entry=str(path))
        return cls(key)

    @property
    def key_id(self) -> str:
        """SHA-256 of the key's SubjectPublicKeyInfo, in hex."""
        return _spki_id(self.public_key)

    def wrap(self, content_key: bytes, limits: Limits = DEFAULT_LIMITS) -> X25519Stanza:
        """Wrap the content key."""
        try:
            wrapped = _SUITE.encrypt(content_key, self.public_key, _X25519_INFO)
        except ValueError:
            raise InvalidArgumentError(
                f"x25519 key {self.key_id[:16]} is a point of small order: it protects nothing"
            ) from None
        return X25519Stanza(self.key_id, wrapped)


@dataclass(frozen=True)
class X25519Identity:
    """Opens what an `X25519Recipient` of the same key wrapped."""

    private_key: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "X25519Identity":
        """A new key."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], passphrase: str | bytes | None = None
    ) -> "X25519Identity":
        """From a private PEM file."""
        key = read_private_pem(path, passphrase)
        if not isinstance(key, X25519PrivateKey):
            raise InvalidArgumentError("is no X25519 private key", entry=str(path))
        return cls(key)

    def save(self, path: str | os.PathLike[str], passphrase: str | bytes | None = None) -> None:
        """Write `path` (private, 0600) and `path.pub`."""
        write_key_pair(path, self.private_key, self.private_key.public_key(), passphrase)

    @property
    def recipient(self) -> X25519Recipient:
        """The public half."""
        return X25519Recipient(self.private_key.public_key())

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """The content key, or None when this key does not open the stanza."""
        if not isinstance(stanza, X25519Stanza) or stanza.key_id != self.recipient.key_id:
            return None
        try:
            # Includes the all-zero shared secret of a small-order share (ValueError).
            return _SUITE.decrypt(stanza.wrapped, self.private_key, _X25519_INFO)
        except (InvalidTag, ValueError):
            return None


Recipient = PasswordRecipient | X25519Recipient
Identity = PasswordIdentity | X25519Identity


def as_recipients(recipients: "Recipient | str | bytes | Sequence[Recipient]") -> list[Recipient]:
    """A list of recipients, of one, of several, or of a password."""
    if isinstance(recipients, str | bytes):
        return [PasswordRecipient(recipients)]
    if isinstance(recipients, PasswordRecipient | X25519Recipient):
        return [recipients]
    return list(recipients)


def as_identities(identities: "Identity | str | bytes | Sequence[Identity]") -> list[Identity]:
    """A list of identities, of one, of several, or of a password."""
    if isinstance(identities, str | bytes):
        return [PasswordIdentity(identities)]
    if isinstance(identities, PasswordIdentity | X25519Identity):
        return [identities]
    return list(identities)
