"""`PackageSigner`: the signing facade of the migration guide."""

import datetime as dt
import os
from collections.abc import Iterable
from dataclasses import dataclass

from torsh_package.crypto.encryptor import EncryptedPackage
from torsh_package.errors import CodecError, IntegrityError, InvalidArgumentError, SignatureError
from torsh_package.package import Package, serialize_package
from torsh_package.times import build_time
from torsh_package.trust.dsse import Envelope, dump_envelopes, load_envelopes
from torsh_package.trust.keys import PrivateKey, PublicKey, SignatureAlgorithm
from torsh_package.trust.report import TrustReport
from torsh_package.trust.statement import PackageClaim, name_and_version
from torsh_package.trust.store import TrustStore

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class PackageSignature:
    """A signature over the manifest of a package.

    Args:
        envelope: DSSE envelope around the in-toto statement.
        public_key: The key that made it. It is not stored in the package: a key that comes with
            the signature proves nothing.
        claim: What the statement says.
    """

    envelope: Envelope
    public_key: PublicKey
    claim: PackageClaim

    @property
    def algorithm(self) -> SignatureAlgorithm:
        """Scheme of the key."""
        return self.public_key.algorithm

    @property
    def key_id(self) -> str:
        """SHA-256 of the key's SubjectPublicKeyInfo, in hex."""
        return self.public_key.key_id

    @property
    def timestamp(self) -> dt.datetime:
        """When it was made, in UTC."""
        return self.claim.issued

    def to_bytes(self) -> bytes:
        """As a detached signature file: an array of one envelope."""
        return dump_envelopes([self.envelope])

    def added_to(self, signatures: bytes | None) -> bytes:
        """A signature file with this signature among the others."""
        return join_signatures(signatures, self)


class PackageSigner:
    """Signs packages, and verifies them against the keys that this signer trusts.

    Args:
        algorithm: Scheme of a new key. With `private_key` it must be that key's own.
        private_key: The signing key, or None to make a new one.
        trusted: Further keys that verification accepts.
        threshold: How many different trusted keys must have signed.
        expires_after: How long a signature counts, None for ever.
    """

    def __init__(
        self,
        algorithm: SignatureAlgorithm = SignatureAlgorithm.Ed25519,
        private_key: PrivateKey | None = None,
        *,
        trusted: Iterable[PublicKey] = (),
        threshold: int = 1,
        expires_after: dt.timedelta | None = None,
    ):
        self._key = private_key or PrivateKey.generate(algorithm)
        if self._key.public_key.algorithm is not algorithm:
            raise InvalidArgumentError(
                f"the key is {self._key.public_key.algorithm.value}, not {algorithm.value}"
            )
        self._trusted = [self._key.public_key, *trusted]
        self._threshold = threshold
        self._expires_after = expires_after

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], passphrase: str | bytes | None = None
    ) -> "PackageSigner":
        """A signer with the private key of a PEM file."""
        key = PrivateKey.load(path, passphrase)
        return cls(key.public_key.algorithm, key)

    @property
    def public_key(self) -> PublicKey:
        """The key that others must trust."""
        return self._key.public_key

    @property
    def private_key(self) -> PrivateKey:
        """The signing key; its representation shows no secret."""
        return self._key

    def trust(self, key: PublicKey) -> None:
        """Accept another key in `verify_package`."""
        self._trusted.append(key)

    def sign(
        self,
        data: Buffer,
        *,
        issued: dt.datetime | None = None,
        not_before: dt.datetime | None = None,
        expires: dt.datetime | None = None,
        sequence: int | None = None,
    ) -> PackageSignature:
        """Sign the canonical manifest of a package (`serialize_package(package)`).

        The manifest binds every resource and document by digest, so this signs all of it. Other
        bytes can be signed too; the statement then names no package.

        Args:
            data: The bytes; their SHA-256 is the subject of the statement.
            issued: Time of signing; now, or `SOURCE_DATE_EPOCH`, if None.
            not_before: The signature counts from then on.
            expires: It no longer counts after that.
            sequence: Number that grows with each release of the package.
        """
        manifest = bytes(data)
        name, version = name_and_version(manifest)
        issued = issued or build_time()
        if expires is None and self._expires_after is not None:
            expires = issued + self._expires_after
        if expires is not None and expires <= (not_before or issued):
            raise InvalidArgumentError("the signature would expire before it is valid")
        if sequence is not None and not 0 <= sequence < 1 << 53:
            raise InvalidArgumentError(f"sequence {sequence} is outside 0..2^53-1")
        claim = PackageClaim(name, version, len(manifest), issued, not_before, expires, sequence)
        envelope = claim.statement(manifest).envelope().signed(self._key)
        return PackageSignature(envelope, self.public_key, claim)

    def verify(self, data: Buffer, signatures: bytes | PackageSignature | None) -> TrustReport:
        """Verify signatures over manifest bytes; `UntrustedError` (a `SignatureError`) if not."""
        found = signatures.to_bytes() if isinstance(signatures, PackageSignature) else signatures
        return self.store().verify_manifest(bytes(data), found)

    def verify_package(self, package: Package | EncryptedPackage) -> TrustReport:
        """Verify a package: every byte, and its signatures against the keys trusted here.

        Returns:
            The report of a trusted package; there is no false result.

        Raises:
            SignatureError: Unsigned, changed in any way, signed by too few trusted keys, expired
                or revoked.
        """
        try:
            # Measuring the manifest hashes every byte as it is now, and compares stored ones.
            manifest = (
                serialize_package(package)
                if isinstance(package, Package)
                else package.manifest_bytes()
            )
        except (IntegrityError, CodecError) as error:
            raise SignatureError(
                f"content was changed: {error.message}", entry=error.entry, offset=error.offset
            ) from error
        return self.verify(manifest, package.signatures)

    def store(self) -> TrustStore:
        """The trust store of this signer: its own key and those added."""
        return TrustStore.trusting(self._trusted, threshold=self._threshold)


def join_signatures(*signatures: bytes | PackageSignature | None) -> bytes:
    """All envelopes of several signature files in one, without repetition."""
    envelopes: dict[Envelope, None] = {}
    for item in signatures:
        if isinstance(item, PackageSignature):
            envelopes[item.envelope] = None
        elif item is not None:
            envelopes.update(dict.fromkeys(load_envelopes(item)))
    return dump_envelopes(list(envelopes))
