"""From resources to an archive: codec, encryption, digests, manifest, in one pass over the data.

The same steps with a `Measure` in place of an archive give the manifest without writing.
"""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, cast

from torsh_package.codecs import CodecSpec, compress, worthwhile
from torsh_package.container.hashing import Hasher, Written
from torsh_package.container.writer import ArchiveWriter, Coming
from torsh_package.content import Content, FileContent, seal_context
from torsh_package.digest import DigestSpec, default_workers
from torsh_package.errors import IntegrityError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.manifest import (
    DOCUMENTS,
    ENCRYPTION_PATH,
    LEAVES_PATH,
    MANIFEST_PATH,
    RESOURCES,
    SEALED_SUFFIX,
    SIGNATURES_PATH,
    Manifest,
    ResourceEntry,
)
from torsh_package.protocols import BlobWriter, Buffer, Sealer
from torsh_package.resource import Resource

_SPOOL_BYTES = 16 << 20

Progress = Callable[[str, int, int], None]
"""Called with a resource's name, its bytes done and its bytes in all."""


class Sink(Protocol):
    """Where entries go."""

    hasher: Hasher

    def add(self, name: str, pieces: Iterator[Buffer], coming: Coming) -> Written:
        """Takes one entry."""
        ...


class Measure:
    """A sink that keeps nothing."""

    def __init__(self, hasher: Hasher):
        self.hasher = hasher

    def add(self, name: str, pieces: Iterator[Buffer], coming: Coming) -> Written:
        """Hashes one entry."""
        return self.hasher.measure(pieces)


class _Spool:
    """Compressed bytes of one resource: in memory while they are few, then in a temporary file.

    What is about to be encrypted must not reach a disk in plain text: it is dropped instead when
    there is too much of it, and compressed once more when it is asked for.

    Args:
        remake: Compresses anew, with the same result.
        secret: Whether a disk may not see it.
    """

    def __init__(self, remake: Callable[[], Iterator[Buffer]], secret: bool):
        self._file = io.BytesIO() if secret else tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115
        self._remake = remake
        self._secret = secret
        self._dropped = False
        self.size = 0

    def __del__(self) -> None:
        self._file.close()

    def append(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._secret and self.size > _SPOOL_BYTES and not self._dropped:
            self._dropped = True
            self._file.truncate(0)
        if not self._dropped:
            self._file.write(piece)

    def pieces(self) -> Iterator[Buffer]:
        if self._dropped:
            yield from self._remake()
            return
        self._file.seek(0)
        while piece := self._file.read(4 << 20):
            yield piece


@dataclass(frozen=True)
class _Encoded:
    """A resource after its codec: what is stored unless it is encrypted."""

    content: Content
    codec: CodecSpec | None
    plain_root: bytes | None
    spool: _Spool | None

    def pieces(self) -> Iterator[Buffer]:
        return self.content.pieces() if self.spool is None else self.spool.pieces()


def write_archive(
    blob: BlobWriter,
    outline: Manifest,
    resources: Sequence[Resource],
    documents: Sequence[Resource],
    *,
    sealer: Sealer | None = None,
    signatures: bytes | None = None,
    progress: Progress | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Manifest:
    """Writes a whole archive.

    Args:
        blob: Empty target.
        outline: Manifest without resources and documents.
        resources: Sorted by name.
        documents: Sorted by name.
        sealer: Encrypts all of them.
        signatures: Bytes of the signatures entry, or None.
        progress: Is told how far it is.
        limits: Bounds that readers will apply.

    Returns:
        The manifest that was written.
    """
    with ArchiveWriter(blob, outline.digest, outline.alignment, limits) as archive:
        manifest, leaves = _entries(archive, outline, resources, documents, sealer, progress)
        if leaves:
            archive.add(LEAVES_PATH, [leaves])
        raw = manifest.to_bytes()
        if len(raw) > limits.manifest_bytes:
            raise LimitError(f"manifest of {len(raw)} bytes, limit {limits.manifest_bytes}")
        Manifest.from_bytes(raw, limits)  # Nothing is written that could not be read again.
        archive.add(MANIFEST_PATH, [raw])
        if sealer is not None:
            archive.add(ENCRYPTION_PATH, [sealer.header(raw)])
        if signatures is not None:
            archive.add(SIGNATURES_PATH, [signatures])
        archive.finish()
    return manifest


def measure_manifest(
    outline: Manifest, resources: Sequence[Resource], documents: Sequence[Resource]
) -> Manifest:
    """The manifest that `write_archive` would write, without a sealer."""
    with ThreadPoolExecutor(default_workers()) as pool:
        sink = Measure(Hasher(outline.digest, pool))
        return _entries(sink, outline, resources, documents, None, None)[0]


def _entries(
    sink: Sink,
    outline: Manifest,
    resources: Sequence[Resource],
    documents: Sequence[Resource],
    sealer: Sealer | None,
    progress: Progress | None,
) -> tuple[Manifest, bytes]:
    made: list[ResourceEntry] = []
    leaves: list[bytes] = []
    for folder, group in ((RESOURCES, resources), (DOCUMENTS, documents)):
        for resource in group:
            entry, found = _add(sink, folder, resource, outline.digest, sealer, progress)
            made.append(entry)
            if len(found) > 1:
                leaves.extend(found)
    sealed = any(entry.encryption is not None for entry in made)
    manifest = replace(
        outline,
        resources=tuple(made[: len(resources)]),
        documents=tuple(made[len(resources) :]),
        critical=("encryption",) if sealed else (),
    )
    return manifest, b"".join(leaves)


def _add(
    sink: Sink,
    folder: str,
    resource: Resource,
    spec: DigestSpec,
    sealer: Sealer | None,
    progress: Progress | None,
) -> tuple[ResourceEntry, tuple[bytes, ...]]:
    kept = resource.kept
    if kept is not None and kept.form.spec == spec and sealer is None:
        return _pass_on(sink, resource, kept.form.entry, kept.form.data, progress)
    encoded = _encode(sink.hasher, resource, spec, secret=sealer is not None)
    suffix = "" if encoded.codec is None else encoded.codec.suffix
    stem = f"{folder}{resource.name}{resource.extension}{suffix}"
    entry = ResourceEntry(
        name=resource.name,
        path=stem if sealer is None else stem + SEALED_SUFFIX,
        type=resource.type,
        media_type=resource.media_type,
        size=0,
        plain_size=resource.size,
        root=b"",
        crc32=0,
        codec=encoded.codec,
        plain_root=None if sealer is not None else encoded.plain_root,
        tensors=resource.table,
        extensions=resource.extensions,
    )
    pieces = encoded.pieces()
    if sealer is not None:
        context = seal_context(entry)
        record = sealer.record(context)
        entry = replace(entry, encryption=record)
        pieces = sealer.seal(context, record, pieces)
    streamed = encoded.spool is not None or isinstance(resource.content, FileContent)
    expected = resource.size if encoded.spool is None else encoded.spool.size
    watching = watched(pieces, resource.name, resource.size, progress)
    # What is sealed is for another machine or another day; few read it back at once.
    coming = Coming(expected, streamed, cached=sealer is None)
    written = sink.add(entry.path, watching, coming)
    entry = replace(entry, size=written.size, root=written.root, crc32=written.crc32)
    return entry, written.leaves


def _pass_on(
    sink: Sink,
    resource: Resource,
    entry: ResourceEntry,
    data: memoryview,
    progress: Progress | None,
) -> tuple[ResourceEntry, tuple[bytes, ...]]:
    """Copies a stored form; digests are made again, so damage cannot be passed on."""
    pieces = watched(iter([data]), resource.name, len(data), progress)
    written = sink.add(entry.path, pieces, Coming(len(data)))
    if written.root != entry.root:
        raise IntegrityError(
            "stored bytes do not have the digest of the manifest; the file is damaged",
            entry=entry.path,
        )
    return replace(entry, extensions=resource.extensions), written.leaves


def _encode(hasher: Hasher, resource: Resource, spec: DigestSpec, *, secret: bool) -> _Encoded:
    plain = _Encoded(resource.content, None, None, None)
    codec = None
    if resource.compression is not None:
        codec = resource.compression.codec(resource.size, _element_width(resource))
    if codec is None:
        return plain
    cached = cast("tuple[CodecSpec, DigestSpec, _Encoded] | None", resource.encoded)
    if cached is not None and cached[:2] == (codec, spec):
        return cached[2]
    result: list[Written] = []

    def remake() -> Iterator[Buffer]:
        return compress(codec, resource.content.pieces(), resource.size)

    spool = _Spool(remake, secret)
    tee = hasher.tee(resource.content.pieces(), result)
    for piece in compress(codec, tee, resource.size):
        spool.append(piece)
    encoded = plain
    if worthwhile(spool.size, resource.size):
        encoded = _Encoded(resource.content, codec, result[0].root, spool)
    resource.encoded = (codec, spec, encoded)
    return encoded


def _element_width(resource: Resource) -> int | None:
    """Bytes of an element where all tensors of a resource have the same, else None."""
    from torsh_package.tensors import DTYPE_BITS

    bits = {DTYPE_BITS[entry.dtype] for entry in resource.table or ()}
    return bits.pop() // 8 if len(bits) == 1 else None


def watched(
    pieces: Iterator[Buffer], name: str, total: int, progress: Progress | None
) -> Iterator[Buffer]:
    """Passes pieces on, telling `progress` after each MiB or piece, whichever is longer."""
    if progress is None:
        yield from pieces
        return
    done = told = 0
    for piece in pieces:
        yield piece
        done += memoryview(piece).nbytes
        if done - told >= 1 << 20 or done == total:
            told = done
            progress(name, done, total)
