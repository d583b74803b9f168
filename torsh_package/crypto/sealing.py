"""Sealing and opening the resources of one package under its content key."""

import hmac
import secrets
from collections.abc import Iterable, Iterator, Sequence

from torsh_package.canonical_json import JsonObject, dumps
from torsh_package.crypto.algorithms import KEY_BYTES, EncryptionAlgorithm
from torsh_package.crypto.formats import CANNOT_DECRYPT, STREAM_1M, StreamFormat
from torsh_package.crypto.header import EncryptionHeader
from torsh_package.crypto.recipients import Identity, PasswordIdentity, Recipient
from torsh_package.crypto.stream import SealedReader, StreamSealer
from torsh_package.errors import DecryptionError, InvalidArgumentError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.protocols import Buffer, SealContext

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


def _record(algorithm: EncryptionAlgorithm, form: StreamFormat) -> JsonObject:
    record: JsonObject = {"algorithm": algorithm.value}
    return record if form.schema == 1 else {**record, "chunk_bytes": form.chunk_bytes}


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
        return _record(self._algorithm, STREAM_1M)

    def seal(
        self, context: SealContext, record: JsonObject, plain: Iterable[Buffer]
    ) -> Iterator[Buffer]:
        """The sealed form of `plain`, in pieces of at most 1 MiB and a tag."""
        if record != self.record(context):
            raise InvalidArgumentError("the encryption record is that of another sealer")
        sealer = StreamSealer(self._algorithm, self._key, context_bytes(context))
        return sealer.pieces(plain)

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
        form: Form of the sealed resources, as the authenticated header gives it.
    """

    def __init__(
        self,
        algorithm: EncryptionAlgorithm,
        content_key: bytes,
        form: StreamFormat = STREAM_1M,
    ):
        self._algorithm = algorithm
        self._key = content_key
        self._form = form

    def reader(self, context: SealContext, record: JsonObject, stored: Buffer) -> SealedReader:
        """Random access to a sealed resource.

        Raises:
            DecryptionError: The record, the context or the bytes are not what was sealed.
        """
        expected = dumps(_record(self._algorithm, self._form))
        if not hmac.compare_digest(dumps(record), expected):
            raise DecryptionError(CANNOT_DECRYPT, entry=context.name)
        try:
            bound = context_bytes(context)
            return SealedReader(self._algorithm, self._key, bound, stored, self._form)
        except DecryptionError:
            raise DecryptionError(CANNOT_DECRYPT, entry=context.name) from None

    def open(
        self, context: SealContext, record: JsonObject, stored: memoryview
    ) -> Iterator[Buffer]:
        """The plaintext in authenticated pieces; an error may come after the first ones."""
        yield from self.reader(context, record, stored).pieces()

    def open_into(
        self, context: SealContext, record: JsonObject, stored: memoryview, target: memoryview
    ) -> None:
        """The whole plaintext, straight into a buffer; after an error that holds garbage."""
        reader = self.reader(context, record, stored)
        if len(reader) != len(target):
            raise DecryptionError(CANNOT_DECRYPT, entry=context.name)
        reader.read_into(target)


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
    return PackageOpener(parsed.algorithm, parsed.unlock(tried, manifest), parsed.form)
