"""Sealing and opening the resources of one package under its content key."""

import hmac
import secrets
from collections.abc import Iterable, Iterator, Sequence

from torsh_package.buffers import Recycler
from torsh_package.canonical_json import JsonObject, dumps
from torsh_package.crypto.algorithms import KEY_BYTES, EncryptionAlgorithm
from torsh_package.crypto.header import EncryptionHeader
from torsh_package.crypto.recipients import Identity, PasswordIdentity, Recipient
from torsh_package.crypto.stream import (
    CANNOT_DECRYPT,
    SealedReader,
    sealed_bound,
    stream_sealer,
)
from torsh_package.errors import DecryptionError, InvalidArgumentError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.protocols import Buffer, SealContext

PIECE_BYTES = 1 << 20

_CONTEXT_LABEL = b"torshpkg/v1/resource\0"


def context_bytes(context: SealContext) -> bytes:
    """What a sealed resource is bound to: moved, renamed or retyped, it does not open."""
    facts: JsonObject = {
        "name": context.name,
        "type": context.type,
        "document": context.document,
        "mediaType": context.media_type,
        "codec": None if context.codec is None else context.codec.to_json(),
        "plainSize": context.plain_size,
    }
    return _CONTEXT_LABEL + dumps(facts)


def _record(algorithm: EncryptionAlgorithm) -> JsonObject:
    return {"algorithm": algorithm.value}


class PackageSealer:
    """Encrypts a package while it is written (`torsh_package.protocols.Sealer`).

    Each package gets a fresh random content key, each resource in it a fresh random salt.

    Args:
        algorithm: AEAD of the payload.
        recipients: Who will be able to open it.
        limits: Bounds that readers put on key derivation.
    """

    def __init__(
        self,
        algorithm: EncryptionAlgorithm,
        recipients: Sequence[Recipient],
        limits: Limits = DEFAULT_LIMITS,
    ):
        if not recipients:
            raise InvalidArgumentError("no recipient was given: nobody could open the package")
        self._algorithm = algorithm
        self._recipients = tuple(recipients)
        self._limits = limits
        self._key = secrets.token_bytes(KEY_BYTES)

    def record(self, context: SealContext) -> JsonObject:
        """What the manifest says of the encryption of a resource."""
        return _record(self._algorithm)

    def seal(
        self, context: SealContext, record: JsonObject, plain: Iterable[Buffer]
    ) -> Iterator[Buffer]:
        """The sealed form of `plain`, in pieces of about 1 MiB at most."""
        if record != _record(self._algorithm):
            raise InvalidArgumentError("the encryption record is that of another sealer")
        sealer = stream_sealer(self._algorithm, self._key, context_bytes(context))
        buffers, room = Recycler(), sealed_bound(PIECE_BYTES)
        for piece in plain:
            view = memoryview(piece).cast("B")
            for start in range(0, len(view), PIECE_BYTES):
                sealed = buffers.take(room)
                yield sealed[: sealer.update_into(view[start : start + PIECE_BYTES], sealed)]
        yield sealer.finalize()

    def header(self, manifest: bytes) -> bytes:
        """`META/encryption.json`, bound to these bytes of the manifest."""
        header = EncryptionHeader.create(
            self._algorithm, self._key, manifest, self._recipients, self._limits
        )
        return header.to_bytes()


class PackageOpener:
    """Decrypts the resources of a package (`torsh_package.protocols.Opener`).

    Args:
        algorithm: AEAD of the payload, as the authenticated header gives it.
        content_key: From `EncryptionHeader.unlock`.
    """

    def __init__(self, algorithm: EncryptionAlgorithm, content_key: bytes):
        self._algorithm = algorithm
        self._key = content_key

    def reader(self, context: SealContext, record: JsonObject, stored: Buffer) -> SealedReader:
        """Random access to a sealed resource.

        Raises:
            DecryptionError: The record, the context or the bytes are not what was sealed.
        """
        expected = dumps(_record(self._algorithm))
        if not hmac.compare_digest(dumps(record), expected):
            raise DecryptionError(CANNOT_DECRYPT, entry=context.name)
        try:
            return SealedReader(self._algorithm, self._key, context_bytes(context), stored)
        except DecryptionError:
            raise DecryptionError(CANNOT_DECRYPT, entry=context.name) from None

    def open(
        self, context: SealContext, record: JsonObject, stored: memoryview
    ) -> Iterator[Buffer]:
        """The plaintext in authenticated pieces; an error may come after the first ones."""
        yield from self.reader(context, record, stored).pieces(PIECE_BYTES)


def opener(
    header: bytes,
    manifest: bytes,
    *,
    password: str | bytes | None = None,
    identities: Sequence[Identity] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> PackageOpener:
    """The opener of a package.

    Args:
        header: Bytes of `META/encryption.json`.
        manifest: Bytes of `manifest.json`; the header binds them.
        password: Tried against every password recipient.
        identities: Tried against every recipient.
        limits: Bounds on recipients and key derivation.

    Raises:
        DecryptionError: Nothing opens it, or header or manifest were changed; constant text.
        ManifestError: The header is malformed.
        LimitError: A key derivation is over the limits; it was not started.
    """
    tried = [*identities, *([] if password is None else [PasswordIdentity(password)])]
    parsed = EncryptionHeader.parse(header, limits)
    return PackageOpener(parsed.algorithm, parsed.unlock(tried, manifest))
