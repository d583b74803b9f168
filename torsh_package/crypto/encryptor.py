"""`PackageEncryptor` and `EncryptedPackage`: the encryption facade of the migration guide."""

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from torsh_package.container.source import ArchiveSource
from torsh_package.content import StoredContent
from torsh_package.crypto.algorithms import EncryptionAlgorithm
from torsh_package.crypto.header import EncryptionHeader
from torsh_package.crypto.recipients import Identity, Recipient, as_identities, as_recipients
from torsh_package.crypto.sealing import PackageSealer, opener
from torsh_package.errors import InvalidArgumentError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.manifest import Manifest, ResourceType
from torsh_package.observing import Observer, observed
from torsh_package.package import Package
from torsh_package.protocols import SignatureLike
from torsh_package.reading import HIDDEN_MEDIA_TYPE, Loaded, LoadOptions, revealed
from torsh_package.unbound import read_keyless, replace_unbound, write_unbound
from torsh_package.writing import Progress

Keys: TypeAlias = Identity | str | bytes | Sequence[Identity]
Recipients: TypeAlias = Recipient | str | bytes | Sequence[Recipient]

INNER_SIGNATURES = "signatures.dsse.json"
"""Document that keeps, encrypted, the signatures of the package before it was encrypted."""


class EncryptedPackage:
    """A package whose content only its recipients can read.

    It is either bound to the package it was made from, and then every `save` encrypts anew in
    constant memory, or it is fixed: after `load`, `to_bytes` or `set_signature`.
    """

    def __init__(self, state: "tuple[Package, PackageSealer] | Loaded"):
        self._state = state

    @classmethod
    def load(
        cls,
        source: ArchiveSource,
        limits: Limits = DEFAULT_LIMITS,
        *,
        observers: Sequence[Observer] = (),
    ) -> "EncryptedPackage":
        """An encrypted package; all bytes are verified, nothing is decrypted.

        Args:
            source: Path, bytes, file descriptor or binary file.
            limits: Bounds on all sizes and counts.
            observers: Audit logs and metrics that are told of it, also when it is refused.

        Raises:
            InvalidArgumentError: The package is not encrypted.
            PackageError: A check failed.
        """
        where = os.fspath(source) if isinstance(source, str | os.PathLike) else "bytes"
        with observed(observers, "load", where) as noted:
            loaded = read_keyless(source, limits)
            if loaded.encryption is None:
                raise InvalidArgumentError("the package is not encrypted; use Package.load")
            noted.subject = f"{loaded.manifest.name} {loaded.manifest.version}"
            noted.of(loaded.manifest_bytes, loaded.manifest.entries())
            noted.details |= {"source": where, "trusted": "false"}
        return cls(loaded)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Write the encrypted package; the target is replaced whole or not at all.

        Args:
            path: Target file.
            progress: Is told how far the encryption is.
            observers: Audit logs and metrics that are told of it, also when it fails.
        """
        if not isinstance(self._state, Loaded):
            package, sealer = self._state
            package.save(path, sealer=sealer, progress=progress, observers=observers)
            return
        loaded = self._state
        subject = f"{loaded.manifest.name} {loaded.manifest.version}"
        with observed(observers, "save", subject) as noted:
            noted.details["target"] = os.fspath(path)
            replace_unbound(
                loaded, path, signatures=loaded.signatures, encryption=loaded.encryption
            )
            noted.of(loaded.manifest_bytes, loaded.manifest.entries())

    def to_bytes(self) -> bytes:
        """The encrypted package as it would be saved; from now on these are its bytes."""
        loaded, blob = self.loaded(), io.BytesIO()
        write_unbound(loaded, blob, signatures=loaded.signatures, encryption=loaded.encryption)
        return blob.getvalue()

    def loaded(self) -> Loaded:
        """The verified archive; fixes the bytes (in memory, if it was not loaded)."""
        if not isinstance(self._state, Loaded):
            package, sealer = self._state
            self._state = read_keyless(package.to_bytes(sealer=sealer))
        return self._state

    def manifest_bytes(self) -> bytes:
        """What a signature of the encrypted package signs."""
        return self.loaded().manifest_bytes

    @property
    def manifest(self) -> Manifest:
        """The manifest: names, types and sizes are not secret, unless they were hidden."""
        return self.loaded().manifest

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who can open it."""
        header = EncryptionHeader.parse(self.loaded().encryption or b"")
        return tuple(stanza.label for stanza in header.stanzas)

    @property
    def signatures(self) -> bytes | None:
        """Signatures of the encrypted package."""
        return self.loaded().signatures

    def set_signature(self, signature: SignatureLike) -> None:
        """Add a signature over `manifest_bytes`; it can be verified without any key."""
        loaded = self.loaded()
        self._state = replace(loaded, signatures=signature.added_to(loaded.signatures))

    def rewrap(
        self, identities: Keys, *, add: Sequence[Recipient] = (), remove: Sequence[str] = ()
    ) -> None:
        """Change the recipients; payload, manifest and signatures stay byte for byte.

        Args:
            identities: A password, or the keys of a present recipient.
            add: New recipients.
            remove: Beginnings of key ids, or `"password"` for all passwords.
        """
        loaded = self.loaded()
        header = EncryptionHeader.parse(loaded.encryption or b"")
        key = header.unlock(as_identities(identities), loaded.manifest_bytes)
        header = header.rewrap(key, add=add, remove=remove)
        self._state = replace(loaded, encryption=header.to_bytes())


class PackageEncryptor:
    """Encrypts and decrypts packages.

    Args:
        algorithm: AEAD of the payload.
        limits: Bounds on recipients and key derivation.
    """

    def __init__(
        self,
        algorithm: EncryptionAlgorithm = EncryptionAlgorithm.Aes256Gcm,
        *,
        limits: Limits = DEFAULT_LIMITS,
    ):
        self._algorithm = algorithm
        self._limits = limits

    def encrypt_package(
        self, package: Package, recipients: Recipients, *, hide: bool = False
    ) -> EncryptedPackage:
        """Encrypt all content of a package; the package itself stays as it is.

        Signatures of the package go, encrypted, with it and are back after decryption. To let
        others verify without the key, sign the result.

        Args:
            package: What to encrypt.
            recipients: A password, or passwords and X25519 keys as recipients.
            hide: Encrypt the manifest too: names, types, sizes and tensor tables of resources,
                description, authors, dependencies. Only name, version and the size as a whole
                can be seen then. A hidden package is made, and loaded, in memory.
        """
        sealer = PackageSealer(self._algorithm, as_recipients(recipients), self._limits)
        inner = _with_inner_signatures(package)
        return EncryptedPackage((_hidden(inner) if hide else inner, sealer))

    def decrypt_package(
        self,
        encrypted: "EncryptedPackage | str | os.PathLike[str]",
        identities: Keys,
    ) -> Package:
        """The package inside; it can be used and saved like any other.

        Args:
            encrypted: The encrypted package, or its file.
            identities: A password, or the keys of a recipient.

        Raises:
            DecryptionError: Nothing opens it, or it was changed; one constant text.
        """
        found = encrypted
        if not isinstance(found, EncryptedPackage):
            found = EncryptedPackage.load(found, self._limits)
        opened = _opened(found.loaded(), identities, self._limits)
        return decrypted(Package.from_loaded(opened, self._limits))


def decrypted(package: Package) -> Package:
    """A package that was loaded from an encrypted file, made ready to be saved in plain text.

    The signatures that it had before it was encrypted are back.
    """
    package.drop_encryption()
    package.signatures = None
    if INNER_SIGNATURES in package.list_documents():
        package.signatures = bytes(package.get_document(INNER_SIGNATURES).data)
        package.remove_document(INNER_SIGNATURES)
    return package


def _opened(loaded: Loaded, identities: Keys, limits: Limits) -> Loaded:
    """A verified archive whose contents can be read."""
    keys = as_identities(identities)
    found = opener(loaded.encryption or b"", loaded.manifest_bytes, identities=keys, limits=limits)
    contents = tuple(
        StoredContent(replace(content.form, opener=found)) for content in loaded.contents
    )
    return revealed(replace(loaded, contents=contents), LoadOptions(limits=limits))


def _hidden(package: Package) -> Package:
    """A package whose only resource is the whole of another."""
    inner = package.shallow_copy()
    inner.drop_encryption()
    outer = Package(package.name, package.version)
    data = inner.to_bytes()
    outer.add_resource("package", data, ResourceType.Binary, media_type=HIDDEN_MEDIA_TYPE)
    return outer


def _with_inner_signatures(package: Package) -> Package:
    """A view of the package whose signatures are a document, for they are over plain bytes."""
    if package.signatures is None:
        return package
    inner = package.shallow_copy()
    inner.set_document(INNER_SIGNATURES, package.signatures)
    inner.signatures = None
    return inner
