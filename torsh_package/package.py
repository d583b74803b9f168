"""The package as users hold it."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from torsh_package import reading
from torsh_package.container.source import ArchiveSource, Stability
from torsh_package.contents import PackageContents
from torsh_package.errors import (
    PackageEncryptedError,
    UnsupportedVersionError,
)
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.manifest import (
    SCHEMA,
    Manifest,
)
from torsh_package.observing import Observer, observed
from torsh_package.protocols import (
    BlobWriter,
    Sealer,
    Storage,
    Verifier,
)
from torsh_package.reading import Loaded, LoadOptions, Mode, Verify
from torsh_package.storage import LocalStorage
from torsh_package.writing import Progress, measure_manifest, write_archive

if TYPE_CHECKING:
    import numpy

    from torsh_package.crypto.recipients import Identity

    Array = numpy.ndarray[Any, Any]

Data: TypeAlias = "str | bytes | bytearray | memoryview | Array | Mapping[str, Array]"


class Package(PackageContents):
    """A named, versioned set of resources that is saved as one file.

        package = Package("model", "1.0.0")
        package.add_resource("weights", {"fc.weight": array}, ResourceType.ModelWeights)
        package.save("model.torshpkg")

    Args:
        name: ASCII letters, digits and inner `. _ - /`, at most 128 characters.
        version: Semantic version (https://semver.org).
        digest: How digests are made.
        alignment: Entry data begins at multiples of it: a power of two, 64 to 4096 bytes.
        limits: Bounds on names and counts.

    Attributes:
        description: Free text.
        authors: Names.
        license: SPDX expression, or None.
        metadata: Further facts, string to string.
        code: Hermetic code policy and module table (`torsh_package.code`), or None.
        lineage: Name of the document with the signed lineage, or None.
        sbom: Name of the document with the bill of materials, or None.
        migrated_from: What it was converted from, or None.
        extensions: Own manifest fields, all named `x-...`.
        signatures: Bytes of `META/signatures.dsse.json`, or None.
        trust: Outcome of the trust decision at load, or None: integrity was checked, not origin.
        canonical: False if it was loaded from an archive that is not in canonical form.

    Raises:
        InvalidArgumentError: Name, version or alignment cannot be used.
    """

    def __repr__(self) -> str:
        return f"Package({self.name!r}, {self.version!r}, {len(self._resources)} resources)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file. Data that was handed out stays valid."""
        self._resources.clear()
        self._documents.clear()

    # ------------------------------------------------------------ save, load

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        storage: Storage | None = None,
        if_match: str | None = None,
        sealer: Sealer | None = None,
        progress: Progress | None = None,
        observers: Sequence[Observer] = (),
    ) -> Manifest:
        """Writes the package; the target is replaced as a whole, or not at all.

        Equal content gives equal bytes. Time and memory: one pass over the data, constant memory.

        Args:
            path: Target file, or the key in `storage`.
            storage: Where to write; local files by default.
            if_match: Replace only if the target still has this tag (`Storage.tag`).
            sealer: Encrypts all resources and documents.
            progress: Called with a resource's name, its bytes done and its bytes in all.
            observers: Audit logs and metrics that are told of it, also when it fails: as `save`,
                or as `publish` if a storage was given.

        Returns:
            The manifest that was written.

        Raises:
            StorageError: No space, no permission, or another writer came first.
            PackageEncryptedError: The package came out of an encrypted file; say whether the new
                one is to be encrypted.
        """
        event, key = "save" if storage is None else "publish", os.fspath(path)
        with observed(observers, event, f"{self.name} {self.version}") as noted:
            noted.details["target"] = key
            if storage is None:
                target = Path(path)
                storage, key = LocalStorage(target.parent), target.name
            with storage.create(key, if_match=if_match) as blob:
                manifest = self._write(blob, sealer, progress)
            noted.of(manifest.to_bytes(), manifest.entries())
        return manifest

    def to_bytes(self, *, sealer: Sealer | None = None) -> bytes:
        """The bytes that `save` would write."""
        blob = io.BytesIO()
        self._write(blob, sealer, None)
        return blob.getvalue()

    def manifest(self) -> Manifest:
        """The manifest that `save` would write without a sealer; hashes all content.

        Of a package that came out of an encrypted file it is the manifest of that file.
        """
        self._check_version()
        resources, documents = self._sorted()
        return measure_manifest(self._outline(), resources, documents)

    @classmethod
    def load(
        cls,
        source: ArchiveSource,
        *,
        mode: Mode = "strict",
        verify: Verify = "eager",
        lazy: bool = False,
        trust: Verifier | None = None,
        password: str | bytes | None = None,
        identities: "Sequence[Identity]" = (),
        stable: Stability = "auto",
        limits: Limits = DEFAULT_LIMITS,
        observers: Sequence[Observer] = (),
    ) -> "Package":
        """Opens and checks a package. Nothing in it is executed or unpickled.

        Args:
            source: Path, bytes, file descriptor or binary file.
            mode: `strict`, or `relaxed` for archives that were zipped again (copied to memory).
            verify: `eager` verifies all content now; `lazy` every part on first touch.
            lazy: The same as `verify="lazy"`.
            trust: Trust store that decides whether the package may be used; fails closed.
            password: Opens an encrypted package.
            identities: Private keys that open an encrypted package.
            stable: `mmap`, `copy`, or `auto`: map unless others may write into the file.
            limits: Bounds on all sizes and counts.
            observers: Audit logs and metrics that are told of it, also when it is refused.

        Raises:
            PackageEncryptedError: It is encrypted and neither password nor identities are given.
            PackageError: Some check failed; the subclass says which.
        """
        options = LoadOptions(
            mode=mode,
            verify="lazy" if lazy else verify,
            trust=trust,
            password=password,
            identities=identities,
            stable=stable,
            limits=limits,
        )
        where = os.fspath(source) if isinstance(source, str | os.PathLike) else "bytes"
        with observed(observers, "load", where) as noted:
            loaded = reading.read_archive(source, options)
            manifest = loaded.manifest
            noted.subject = f"{manifest.name} {manifest.version}"
            noted.of(loaded.manifest_bytes, manifest.entries())
            noted.details |= {"source": where, "trusted": str(loaded.trust is not None).lower()}
        return cls.from_loaded(loaded, limits)

    @classmethod
    def from_loaded(cls, loaded: Loaded, limits: Limits = DEFAULT_LIMITS) -> "Package":
        """The package that an archive holds."""
        manifest = loaded.manifest
        package = cls(
            manifest.name,
            manifest.version,
            digest=manifest.digest,
            alignment=manifest.alignment,
            limits=limits,
        )
        package._schema = manifest.schema
        package._compression = manifest.compression
        package._created = manifest.created
        package._encryption = loaded.encryption
        package._entrypoints = {point.name: point for point in manifest.entrypoints}
        package._dependencies = {(d.kind, d.name): d for d in manifest.dependencies}
        package.description = manifest.description
        package.authors = list(manifest.authors)
        package.license = manifest.license
        package.metadata = dict(manifest.metadata)
        package.code = manifest.code
        package.lineage, package.sbom = manifest.lineage, manifest.sbom
        package.migrated_from = manifest.migrated_from
        package.extensions = dict(manifest.extensions)
        package.signatures = loaded.signatures
        package.trust = loaded.trust
        package.canonical = loaded.canonical
        package._adopt(loaded)
        return package

    def add_module(self, name: str, module: object, *, include_source: bool = True) -> None:
        """Adds a model's weights and, by static capture, the source code that defines it.

        See `torsh_package.code.add_module`; no code is executed and nothing is pickled.
        """
        from torsh_package.code import add_module

        add_module(self, name, module, include_source=include_source)

    def drop_encryption(self) -> None:
        """Lets `save` write in plain text what came out of an encrypted file."""
        self._encryption = None
        for resource in (*self._resources.values(), *self._documents.values()):
            resource.reencode()

    # -------------------------------------------------------------- private

    def _check_version(self) -> None:
        if self._schema > SCHEMA:
            major, minor = self._schema
            raise UnsupportedVersionError(
                f"was read from format {major}.{minor}, newer than this torsh; saving it would "
                "lose what only the newer version knows"
            )

    def _check_saveable(self, sealer: Sealer | None) -> None:
        self._check_version()
        if self._encryption is not None and sealer is None:
            raise PackageEncryptedError(
                "came out of an encrypted file; save it with a sealer "
                "(PackageEncryptor.encrypt_package), or call drop_encryption() first"
            )

    def _write(
        self, blob: BlobWriter, sealer: Sealer | None, progress: Progress | None
    ) -> Manifest:
        self._check_saveable(sealer)
        resources, documents = self._sorted()
        return write_archive(
            blob,
            self._outline(),
            resources,
            documents,
            sealer=sealer,
            signatures=self.signatures,
            progress=progress,
            limits=self._limits,
        )


def serialize_package(package: Package) -> bytes:
    """The canonical manifest bytes of a package: what is signed.

    They bind every resource by its digest and hold no signature; they are the same before saving
    and after loading.
    """
    return package.manifest().to_bytes()
