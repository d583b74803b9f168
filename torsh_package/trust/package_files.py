"""Signing and verifying package files, also encrypted ones: no key of the content is needed."""

import os
from dataclasses import dataclass
from pathlib import Path

from torsh_package.container.atomic import file_tag
from torsh_package.manifest import Manifest
from torsh_package.small_files import read_file, replace_file
from torsh_package.trust.dsse import MAX_SIGNATURES_BYTES
from torsh_package.trust.report import TrustReport
from torsh_package.trust.signer import PackageSignature, PackageSigner, join_signatures
from torsh_package.trust.store import TrustStore
from torsh_package.unbound import read_keyless, replace_unbound
from torsh_package.writing import Progress

DETACHED_SUFFIX = ".sig"


@dataclass(frozen=True)
class VerifiedFile:
    """A package file all of whose bytes have the digests of its manifest.

    Args:
        manifest: The manifest.
        report: The trust decision, None if no trust store was given.
    """

    manifest: Manifest
    report: TrustReport | None


@dataclass(frozen=True)
class WithDetached:
    """A trust store that also looks at signatures outside the package.

    For `Package.load(path, trust=WithDetached(store, signature_file_bytes))`.
    """

    store: TrustStore
    signatures: bytes

    def verify_manifest(self, manifest: bytes, signatures: bytes | None) -> TrustReport:
        """The decision of the store over embedded and detached signatures together."""
        return self.store.verify_manifest(manifest, join_signatures(signatures, self.signatures))


def detached_path(path: str | os.PathLike[str]) -> Path:
    """Where the detached signature of a package lies by default: beside it, with `.sig`."""
    return Path(f"{os.fspath(path)}{DETACHED_SUFFIX}")


def sign_file(
    path: str | os.PathLike[str],
    signer: PackageSigner,
    *,
    detached: str | os.PathLike[str] | None = None,
    sequence: int | None = None,
    progress: Progress | None = None,
) -> PackageSignature:
    """Sign a package file; every byte of it is verified first.

    Args:
        path: The package. Signatures that are there are kept.
        signer: With the key, and how long the signature counts.
        detached: Write (or extend) this file instead of the package itself.
        sequence: Number that grows with each release of the package.
        progress: Called as `read_keyless` does.

    Raises:
        StorageError: A file cannot be written, or somebody else changed it meanwhile.
        PackageError: The package is damaged.
    """
    tag = file_tag(path)
    loaded = read_keyless(path, progress=progress)
    signature = signer.sign(loaded.manifest_bytes, sequence=sequence)
    if detached is not None:
        there = Path(detached)
        old = read_file(there, MAX_SIGNATURES_BYTES) if there.exists() else None
        replace_file(there, signature.added_to(old))
    else:
        joined = signature.added_to(loaded.signatures)
        replace_unbound(loaded, path, signatures=joined, encryption=loaded.encryption, if_match=tag)
    return signature


def verify_file(
    path: str | os.PathLike[str],
    store: TrustStore | None = None,
    *,
    detached: str | os.PathLike[str] | None = None,
) -> VerifiedFile:
    """Verify all bytes of a package file, and its signatures if a trust store is given.

    Args:
        path: The package.
        store: Whom to believe. The report is returned, not raised.
        detached: A file with further signatures.

    Raises:
        PackageError: The package is damaged, or the signatures are malformed.
    """
    loaded = read_keyless(path)
    if store is None:
        return VerifiedFile(loaded.manifest, None)
    more = None if detached is None else read_file(detached, MAX_SIGNATURES_BYTES)
    signatures = join_signatures(loaded.signatures, more)
    return VerifiedFile(loaded.manifest, store.evaluate(loaded.manifest_bytes, signatures))
