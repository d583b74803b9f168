"""The borders between the container and the parts that plug into it.

* `Sealer` / `Opener`: encryption of stored bytes (`torsh_package.crypto` implements them).
* `Verifier`: trust decisions over manifest bytes (`torsh_package.trust` implements it).
* `Storage`: where whole files live (`torsh_package.storage` has the local one).
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torsh_package.canonical_json import JsonObject
from torsh_package.codecs import CodecSpec

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True)
class SealContext:
    """Facts of a resource that encryption binds, so that ciphertext cannot be moved elsewhere.

    Attributes:
        name: Resource name.
        type: Value of its `ResourceType`.
        document: True for a document (below `dependencies/`), False for a resource.
        media_type: Its media type.
        codec: Codec that ran before encryption, or None.
        plain_size: Bytes before the codec.
    """

    name: str
    type: str
    document: bool
    media_type: str
    codec: CodecSpec | None
    plain_size: int


class Sealer(Protocol):
    """Encrypts the resources of one package while it is written.

    `Package.save(path, sealer=...)` asks for `record` and `seal` per resource and document, then
    for `header` once the manifest is known. Sealed entries get the path suffix `.tenc`.
    """

    def record(self, context: SealContext) -> JsonObject:
        """What `encryption` of the resource's manifest entry becomes (no secrets)."""
        ...

    def seal(
        self, context: SealContext, record: JsonObject, plain: Iterable[Buffer]
    ) -> Iterator[Buffer]:
        """Yields the stored bytes for codec output given in pieces, in constant memory.

        A piece does not change while a view of it exists. A resource may be sealed more
        than once per package (to learn its size); each time must use fresh randomness.
        """
        ...

    def header(self, manifest: bytes) -> bytes:
        """The bytes of `META/encryption.json` for these exact manifest bytes."""
        ...


class Opener(Protocol):
    """Decrypts the resources of one package.

    `torsh_package.crypto.opener(header, manifest, *, password, identities, limits)` makes one
    from the bytes of `META/encryption.json` and `manifest.json`, or raises `DecryptionError`.
    """

    def open(
        self, context: SealContext, record: JsonObject, stored: memoryview
    ) -> Iterator[Buffer]:
        """Yields the codec output in pieces, each only after it has been authenticated.

        Raises:
            DecryptionError: The bytes or the record were changed, or the key does not fit. The
                caller throws away all earlier pieces.
        """
        ...

    def open_into(
        self, context: SealContext, record: JsonObject, stored: memoryview, target: memoryview
    ) -> None:
        """Fills `target` with the whole codec output, which must have its size.

        Raises:
            DecryptionError: As above. The caller throws `target` away.
        """
        ...


class SignatureLike(Protocol):
    """A signature over the bytes of `serialize_package`."""

    def added_to(self, signatures: bytes | None) -> bytes:
        """The bytes of `META/signatures.dsse.json` with this signature among the others."""
        ...


@runtime_checkable
class TrustReport(Protocol):
    """Outcome of a successful trust decision."""

    @property
    def trusted(self) -> bool:
        """Whether policy was satisfied by verified signatures."""
        ...

    def to_json(self) -> JsonObject:
        """Who signed, in which role, until when; and what does not count, and why."""
        ...


class Verifier(Protocol):
    """A trust store: decides whether a package may be used.

    `Package.load(path, trust=verifier)` calls `verify_manifest` after the container has been
    checked and before any resource is read, and fails if it raises.
    """

    def verify_manifest(self, manifest: bytes, signatures: bytes | None) -> TrustReport:
        """Verifies signatures over the exact bytes of `manifest.json`.

        Args:
            manifest: Bytes of `manifest.json`.
            signatures: Bytes of `META/signatures.dsse.json`, or None if there is none.

        Raises:
            SignatureError: Unsigned, or policy is not satisfied.
        """
        ...


class BlobReader(Protocol):
    """One immutable blob that can be read at any place."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`, fewer only at the end."""
        ...


class BlobWriter(Protocol):
    """A blob in the making; it is seen by nobody until its context ends without an error."""

    def write(self, data: Buffer, /) -> int:
        """Writes all of `data` at the current position."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves the position."""
        ...

    def tell(self) -> int:
        """The position."""
        ...

    def truncate(self, size: int | None = None, /) -> int:
        """Cuts the blob."""
        ...


@runtime_checkable
class FileBlob(Protocol):
    """A blob in the making that is a local file; big contents are written faster to such."""

    def fileno(self) -> int:
        """A descriptor that `os.pread` reads what has been written from."""
        ...

    def reserve(self, offset: int, size: int) -> None:
        """Takes space on the disk for bytes that will be written.

        Raises:
            StorageError: There is not as much.
        """
        ...

    def write(self, data: Buffer, /) -> int:
        """Writes all of `data` at the current position."""
        ...

    def write_blocks(self, data: memoryview, offset: int) -> None:
        """Writes past the page cache where the file system can; the position stays.

        Args:
            data: Whole blocks of 4096 bytes, in memory at a multiple of that.
            offset: Where, a multiple of that too.
        """
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves the position."""
        ...


class Storage(Protocol):
    """Where packages live. Keys are paths as `torsh_package.names.check_path` accepts them."""

    def open(self, key: str) -> AbstractContextManager[BlobReader]:
        """Opens a blob.

        Raises:
            StorageError: There is none, or it cannot be read.
        """
        ...

    def create(
        self, key: str, *, if_match: str | None = None
    ) -> AbstractContextManager[BlobWriter]:
        """Replaces a blob atomically when the context ends without an error.

        Args:
            key: Its name.
            if_match: Replace only if the present blob has this tag (`tag`), "" if there is none.

        Raises:
            StorageError: No space, no permission, or another writer came first.
        """
        ...

    def tag(self, key: str) -> str:
        """A tag that changes whenever the blob's content does; "" if there is none."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys of the blobs whose keys begin with `prefix`."""
        ...

    def delete(self, key: str) -> None:
        """Removes a blob; it is no error if there is none."""
        ...
