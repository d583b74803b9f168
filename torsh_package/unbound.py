"""Replacing what no manifest binds: the signatures, and the header of an encrypted package.

Both lie outside the manifest, so they change without any other byte changing, and without the key
of an encrypted package.
"""

import os

from torsh_package.container.atomic import AtomicFile
from torsh_package.container.source import ArchiveSource
from torsh_package.container.writer import ArchiveWriter, Coming
from torsh_package.errors import IntegrityError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.manifest import ENCRYPTION_PATH, LEAVES_PATH, MANIFEST_PATH, SIGNATURES_PATH
from torsh_package.protocols import BlobWriter
from torsh_package.reading import Loaded, LoadOptions, read_archive
from torsh_package.writing import Progress

_PIECE = 64 << 20
"""Bytes that are verified between two words about the progress."""


def read_keyless(
    source: ArchiveSource, limits: Limits = DEFAULT_LIMITS, progress: Progress | None = None
) -> Loaded:
    """An archive with all its bytes verified; of an encrypted one nothing is decrypted.

    Args:
        source: The archive.
        limits: What it may take.
        progress: Called with the name of an entry, its bytes verified, and all its bytes.
    """
    if progress is None:
        return read_archive(source, LoadOptions(keyless=True, limits=limits))
    loaded = read_archive(source, LoadOptions(keyless=True, limits=limits, verify="lazy"))
    verify_contents(loaded, progress)
    return loaded


def verify_contents(loaded: Loaded, progress: Progress) -> None:
    """Verify the digests of all entries in pieces.

    Raises:
        IntegrityError: A digest is wrong.
    """
    for content in loaded.contents:
        entry, verifier = content.form.entry, content.form.verifier
        for begin in range(0, max(entry.size, 1), _PIECE):
            stop = min(begin + _PIECE, entry.size)
            verifier.verify(begin, stop)
            progress(entry.name, stop, entry.size)


def replace_unbound(
    loaded: Loaded,
    target: str | os.PathLike[str],
    *,
    signatures: bytes | None,
    encryption: bytes | None,
    if_match: str | None = None,
) -> None:
    """Write an archive anew with other signatures or another header; replaces `target` whole.

    Args:
        loaded: From `read_keyless`; may lie in `target` itself.
        target: File to write.
        signatures: Bytes of `META/signatures.dsse.json`, None for none.
        encryption: Bytes of `META/encryption.json`, None exactly if nothing is encrypted.
        if_match: Replace only if `file_tag(target)` still is this.

    Raises:
        IntegrityError: The archive changed since it was read.
        StorageError: The file system refuses, or another writer came first.
    """
    with AtomicFile(target, if_match=if_match) as blob:
        write_unbound(loaded, blob, signatures=signatures, encryption=encryption)


def write_unbound(
    loaded: Loaded, blob: BlobWriter, *, signatures: bytes | None, encryption: bytes | None
) -> None:
    """`replace_unbound` into an empty blob."""
    manifest = loaded.manifest
    with ArchiveWriter(blob, manifest.digest, manifest.alignment) as archive:
        leaves: list[bytes] = []
        for content in loaded.contents:
            entry = content.form.entry
            written = archive.add(entry.path, [content.form.data], Coming(entry.size))
            if written.root != entry.root:
                raise IntegrityError("changed since it was verified", entry=entry.path)
            if len(written.leaves) > 1:
                leaves.extend(written.leaves)
        if leaves:
            archive.add(LEAVES_PATH, [b"".join(leaves)])
        archive.add(MANIFEST_PATH, [loaded.manifest_bytes])
        if encryption is not None:
            archive.add(ENCRYPTION_PATH, [encryption])
        if signatures is not None:
            archive.add(SIGNATURES_PATH, [signatures])
        archive.finish()
