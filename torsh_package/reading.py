"""From an archive to verified resources, in the one order in which that is safe.

1. structure of the archive (nothing is parsed that is not in canonical form)
2. manifest: its CRC, its JSON, its schema
3. archive and manifest name the same entries, with the same sizes and CRCs
4. leaf digests belong to the manifest's roots
5. trust: signatures over the manifest, if a verifier was given
6. encryption header, if entries are encrypted
7. content: all leaves now (`eager`), or each on first touch (`lazy`)

Only then a decoder or decryptor sees any content.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from torsh_package.container.reader import ArchiveReader
from torsh_package.container.relaxed import RelaxedReader
from torsh_package.container.source import ArchiveSource, Stability, open_bytes
from torsh_package.content import StoredContent, StoredForm
from torsh_package.digest import DIGEST_SIZE, LeafVerifier, check_leaves, verify_all
from torsh_package.errors import (
    ContainerError,
    IntegrityError,
    InvalidArgumentError,
    LimitError,
    PackageEncryptedError,
    PackageError,
)
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.manifest import (
    ENCRYPTION_PATH,
    LEAVES_PATH,
    MANIFEST_PATH,
    SIGNATURES_PATH,
    UNBOUND_PATHS,
    Manifest,
)
from torsh_package.protocols import Opener, TrustReport, Verifier

if TYPE_CHECKING:
    from torsh_package.crypto.recipients import Identity

Mode: TypeAlias = Literal["strict", "relaxed"]
Verify: TypeAlias = Literal["eager", "lazy"]
Reader: TypeAlias = ArchiveReader | RelaxedReader
MAX_UNBOUND_BYTES = 16 << 20
HIDDEN_MEDIA_TYPE = "application/vnd.torsh.package"
"""Of a resource that is a package: the only one of an encrypted package that hides its manifest."""


@dataclass(frozen=True)
class LoadOptions:
    """How `Package.load` reads.

    Attributes:
        mode: `strict` accepts only the canonical archive; `relaxed` any ZIP with the same
            content, which is copied.
        verify: `eager` verifies all bytes now; `lazy` each 4 MiB on first touch.
        trust: Decides whether the package may be used; None checks integrity only.
        password: Opens an encrypted package.
        identities: Private keys that open an encrypted package.
        keyless: Open an encrypted package without a key: everything but content can be seen.
        stable: Whether files are mapped or copied (`container.source`).
        limits: Bounds on everything.
    """

    mode: Mode = "strict"
    verify: Verify = "eager"
    trust: Verifier | None = None
    password: str | bytes | None = None
    identities: "Sequence[Identity]" = ()
    keyless: bool = False
    stable: Stability = "auto"
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        for key, value, known in (
            ("mode", self.mode, ("strict", "relaxed")),
            ("verify", self.verify, ("eager", "lazy")),
        ):
            if value not in known:
                raise InvalidArgumentError(f"{key}={value!r}: use one of {', '.join(known)}")


@dataclass(frozen=True)
class Loaded:
    """What an archive holds.

    Attributes:
        manifest: Its manifest.
        manifest_bytes: The same as it lies in the archive.
        contents: Per resource and document, in the order of `manifest.entries()`.
        signatures: Bytes of the signatures entry, or None.
        encryption: Bytes of the encryption header, or None.
        trust: Outcome of the trust decision, or None if none was asked for.
        canonical: Whether the archive is in canonical form.
    """

    manifest: Manifest
    manifest_bytes: bytes
    contents: tuple[StoredContent, ...]
    signatures: bytes | None
    encryption: bytes | None
    trust: TrustReport | None
    canonical: bool


def read_archive(source: ArchiveSource, options: LoadOptions) -> Loaded:
    """Reads and checks an archive.

    Raises:
        PackageError: Some check failed; the subclass says which, the message in which file.
    """
    try:
        return _checked(source, options)
    except PackageError as error:
        if isinstance(source, str | os.PathLike):
            error.place(os.fspath(source))
        raise


def _checked(source: ArchiveSource, options: LoadOptions) -> Loaded:
    limits = options.limits
    reader = open_reader(source, options)
    manifest, raw = read_manifest(reader, limits)
    unbound = _check_entries(reader, manifest)
    verifiers = _verifiers(reader, manifest)
    signatures = unbound.get(SIGNATURES_PATH)
    trust = None
    if options.trust is not None:
        trust = options.trust.verify_manifest(raw, signatures)
    encryption = unbound.get(ENCRYPTION_PATH)
    opener = _opener(manifest, raw, encryption, options)
    if options.verify == "eager":
        verify_all(verifiers)
    contents = tuple(
        StoredContent(
            StoredForm(entry, reader.read(entry.path), verifier, manifest.digest, opener, limits)
        )
        for entry, verifier in zip(manifest.entries(), verifiers, strict=True)
    )
    found = Loaded(manifest, raw, contents, signatures, encryption, trust, reader.canonical)
    return found if opener is None else revealed(found, options)


def hides_package(manifest: Manifest) -> bool:
    """Whether the whole content of a sealed archive is another archive (FORMAT.md, section 9)."""
    entries = manifest.entries()
    return manifest.sealed and [entry.media_type for entry in entries] == [HIDDEN_MEDIA_TYPE]


def revealed(outer: Loaded, options: LoadOptions) -> Loaded:
    """The archive that a sealed archive hides, or `outer` itself if it hides none.

    It is decrypted into memory and read as strictly as any other. Encryption, signatures and the
    trust decision are those of the outer one, which binds every byte of it.

    Raises:
        ContainerError: It is encrypted itself, or of another name or version than the outer one.
        PackageError: Some check failed; the subclass says which.
    """
    if not hides_package(outer.manifest):
        return outer
    (content,) = outer.contents
    inner = read_archive(
        content.view(0, content.size), LoadOptions(verify=options.verify, limits=options.limits,
                                                   keyless=True)
    )  # fmt: skip
    if inner.encryption is not None:
        raise ContainerError("a hidden package is encrypted itself", entry=content.form.entry.path)
    names = [(one.manifest.name, one.manifest.version) for one in (outer, inner)]
    if names[0] != names[1]:
        raise ContainerError(
            f"the hidden package is {names[1][0]} {names[1][1]}, the outer one {names[0][0]} "
            f"{names[0][1]}",
            entry=content.form.entry.path,
        )
    return replace(
        inner,
        signatures=outer.signatures,
        encryption=outer.encryption,
        trust=outer.trust,
        canonical=outer.canonical,
    )


def open_reader(source: ArchiveSource, options: LoadOptions) -> Reader:
    """The archive, with its structure checked."""
    data = open_bytes(source, options.stable, options.limits)
    try:
        return ArchiveReader.parse(data, options.limits)
    except (ContainerError, LimitError) as error:
        if options.mode == "relaxed":
            return RelaxedReader.parse(data, options.limits)
        if isinstance(error, LimitError) or bytes(data[:4]) != b"PK\x03\x04":
            raise
        raise ContainerError(
            f"{error.message}; a package that was zipped again is read in relaxed mode, a foreign "
            "model by the converters",
            entry=error.entry,
            offset=error.offset,
        ) from None


def read_manifest(reader: Reader, limits: Limits = DEFAULT_LIMITS) -> tuple[Manifest, bytes]:
    """The manifest and its bytes."""
    size = reader.entry(MANIFEST_PATH).size
    if size > limits.manifest_bytes:
        raise LimitError(f"{size} bytes, limit {limits.manifest_bytes}", entry=MANIFEST_PATH)
    raw = bytes(reader.read_checked(MANIFEST_PATH))
    return Manifest.from_bytes(raw, limits), raw


def expected_paths(manifest: Manifest) -> list[str]:
    """Paths that an archive with this manifest has, in order, up to the manifest itself."""
    paths = [entry.path for entry in manifest.entries()]
    if any(manifest.digest.count(entry.size) > 1 for entry in manifest.entries()):
        paths.append(LEAVES_PATH)
    return [*paths, MANIFEST_PATH]


def _check_entries(reader: Reader, manifest: Manifest) -> dict[str, bytes]:
    """Archive and manifest agree; returns the entries that no manifest names."""
    _check_names(reader, manifest)
    for entry in manifest.entries():
        found = reader.entry(entry.path)
        if (found.size, found.crc32) != (entry.size, entry.crc32):
            raise IntegrityError(
                f"archive has {found.size} bytes with CRC {found.crc32:08x}, the manifest "
                f"{entry.size} with {entry.crc32:08x}",
                entry=entry.path,
            )
    unbound = _read_unbound(reader)
    if (ENCRYPTION_PATH in unbound) != manifest.sealed:
        raise ContainerError(
            "is there although nothing is encrypted, or missing although something is",
            entry=ENCRYPTION_PATH,
        )
    return unbound


def _check_names(reader: Reader, manifest: Manifest) -> None:
    """The archive has all entries that it should have, no other, and in canonical form in order."""
    expected = expected_paths(manifest)
    present = [path for path in UNBOUND_PATHS if path in reader]
    known = {*expected, *present}
    for path in reader.names:
        if path not in known:
            raise ContainerError("entry is in the archive but not in the manifest", entry=path)
    for path in expected:
        reader.entry(path)
    if reader.canonical:
        if list(reader.names) != expected + present:
            raise ContainerError("entries are not in canonical order")
        if reader.alignment != manifest.alignment:
            raise ContainerError(
                f"entries are aligned to {reader.alignment}, manifest says {manifest.alignment}"
            )


def _read_unbound(reader: Reader) -> dict[str, bytes]:
    """Signatures and encryption header, whose own checks follow."""
    unbound: dict[str, bytes] = {}
    for path in UNBOUND_PATHS:
        if path not in reader:
            continue
        if reader.entry(path).size > MAX_UNBOUND_BYTES:
            raise LimitError(f"over {MAX_UNBOUND_BYTES} bytes", entry=path)
        unbound[path] = bytes(reader.read_checked(path))
    return unbound


def _verifiers(reader: Reader, manifest: Manifest) -> list[LeafVerifier]:
    spec, entries = manifest.digest, manifest.entries()
    packed = memoryview(b"")
    if any(spec.count(entry.size) > 1 for entry in entries):
        packed = reader.read_checked(LEAVES_PATH)
    found: list[LeafVerifier] = []
    at = 0
    for entry in entries:
        leaves = None
        count = spec.count(entry.size)
        if count > 1:
            part = packed[at : at + count * DIGEST_SIZE]
            leaves = check_leaves(spec, entry.root, entry.size, part, LEAVES_PATH)
            at += count * DIGEST_SIZE
        data = reader.read(entry.path)
        found.append(LeafVerifier(data, spec, entry.root, leaves, entry.path))
    if at != len(packed):
        raise IntegrityError("has bytes that belong to no entry", entry=LEAVES_PATH)
    return found


def _opener(
    manifest: Manifest, raw: bytes, header: bytes | None, options: LoadOptions
) -> Opener | None:
    if header is None:
        if options.password is not None or options.identities:
            raise InvalidArgumentError("a password or identity was given, nothing is encrypted")
        return None
    if options.password is None and not options.identities:
        if options.keyless:
            return None
        raise PackageEncryptedError(
            f"package {manifest.name} {manifest.version} is encrypted; "
            "give load() a password or identities"
        )
    from torsh_package.crypto import opener

    return opener(
        header,
        raw,
        password=options.password,
        identities=options.identities,
        limits=options.limits,
    )
