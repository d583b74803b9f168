"""Signing keys: Ed25519 (default), ECDSA on P-256, and ML-DSA-65 for a post-quantum co-signer.

The algorithm belongs to the key and never comes from a signature or envelope. A key's id is the
SHA-256 of its SubjectPublicKeyInfo, so two ids are two keys.
"""

import enum
import hashlib
import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from torsh_package.crypto.keyfiles import (
    public_pem,
    read_private_pem,
    read_public_pem,
    write_key_pair,
)
from torsh_package.errors import InvalidArgumentError


class SignatureAlgorithm(enum.Enum):
    """Signature scheme of a key. Signatures are those of the named standard, nothing prehashed."""

    Ed25519 = "ed25519"
    EcdsaP256 = "ecdsa-p256-sha256"
    MlDsa65 = "ml-dsa-65"

    # The guide's other spelling.
    ED25519 = "ed25519"


_PublicKeys = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | mldsa.MLDSA65PublicKey
_PrivateKeys = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | mldsa.MLDSA65PrivateKey

_P = (1 << 255) - 19
# y-coordinates of the points of order 1, 2, 4 and 8 on edwards25519.
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _P - 1,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    }
)


def _algorithm_of(key: object) -> SignatureAlgorithm:
    if isinstance(key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        return SignatureAlgorithm.Ed25519
    if isinstance(key, mldsa.MLDSA65PublicKey | mldsa.MLDSA65PrivateKey):
        return SignatureAlgorithm.MlDsa65
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) and isinstance(
        key.curve, ec.SECP256R1
    ):
        return SignatureAlgorithm.EcdsaP256
    raise InvalidArgumentError(
        "the key is of a kind that cannot sign packages; use Ed25519, ECDSA P-256 or ML-DSA-65"
    )


def _refuse_weak(key: ed25519.Ed25519PublicKey) -> None:
    """A point of small order verifies forged signatures over any message; OpenSSL takes it."""
    y = int.from_bytes(key.public_bytes_raw(), "little") & ((1 << 255) - 1)
    if y >= _P or y in _SMALL_ORDER_Y:
        raise InvalidArgumentError("the Ed25519 key is a weak or malformed point; do not trust it")


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies signatures; equal to another one exactly if it is the same key."""

    algorithm: SignatureAlgorithm
    key_id: str
    _key: _PublicKeys = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: object) -> "PublicKey":
        """Of a key object of `cryptography`.

        Raises:
            InvalidArgumentError: Another kind of key, or a weak one.
        """
        algorithm = _algorithm_of(key)
        if isinstance(key, ed25519.Ed25519PublicKey):
            _refuse_weak(key)
        elif not isinstance(key, ec.EllipticCurvePublicKey | mldsa.MLDSA65PublicKey):
            raise InvalidArgumentError("is a private key; give the public one")
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(algorithm, hashlib.sha256(der).hexdigest(), key)

    @classmethod
    def from_spki(cls, der: bytes) -> "PublicKey":
        """Of a DER SubjectPublicKeyInfo."""
        try:
            key = load_der_public_key(der)
        except (ValueError, UnsupportedAlgorithm):
            raise InvalidArgumentError("holds no public key") from None
        return cls.of(key)

    @classmethod
    def from_pem(cls, pem: bytes | str) -> "PublicKey":
        """Of a PEM text."""
        try:
            key = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
        except (ValueError, UnsupportedAlgorithm):
            raise InvalidArgumentError("holds no PEM public key") from None
        return cls.of(key)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "PublicKey":
        """Of a PEM file."""
        return cls.of(read_public_pem(path))

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def pem(self) -> bytes:
        """PEM SubjectPublicKeyInfo."""
        return public_pem(self._key)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` over `data` was made by this key."""
        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, data, ec.ECDSA(SHA256()))
            else:
                self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs. Its representation shows the public id only."""

    public_key: PublicKey
    _key: _PrivateKeys = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: object) -> "PrivateKey":
        """Of a key object of `cryptography`."""
        if isinstance(
            key,
            ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | mldsa.MLDSA65PrivateKey,
        ):
            return cls(PublicKey.of(key.public_key()), key)
        raise InvalidArgumentError(
            "is no private key that can sign; use Ed25519, ECDSA P-256 or ML-DSA-65"
        )

    @classmethod
    def generate(cls, algorithm: SignatureAlgorithm = SignatureAlgorithm.Ed25519) -> "PrivateKey":
        """A new key."""
        if algorithm is SignatureAlgorithm.Ed25519:
            return cls.of(ed25519.Ed25519PrivateKey.generate())
        if algorithm is SignatureAlgorithm.EcdsaP256:
            return cls.of(ec.generate_private_key(ec.SECP256R1()))
        return cls.of(mldsa.MLDSA65PrivateKey.generate())

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], passphrase: str | bytes | None = None
    ) -> "PrivateKey":
        """Of a PKCS#8 PEM file; `DecryptionError` if it is encrypted and does not open."""
        return cls.of(read_private_pem(path, passphrase))

    def save(self, path: str | os.PathLike[str], passphrase: str | bytes | None = None) -> None:
        """Write `path` (private, mode 0600) and `path.pub`; never over an existing file."""
        write_key_pair(path, self._key, self._key.public_key(), passphrase)

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(data, ec.ECDSA(SHA256()))
        return self._key.sign(data)
