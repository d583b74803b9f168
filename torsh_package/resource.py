"""A named part of a package, as users hold it."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.codecs import CompressionSetting
from torsh_package.content import Content, StoredContent
from torsh_package.errors import CodecError, ResourceNotFoundError
from torsh_package.manifest import ResourceEntry, ResourceType
from torsh_package.protocols import Buffer
from torsh_package.tensors import TensorEntry
from torsh_package.tensors import view as tensor_view

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


class Resource:
    """Bytes with a name and a type, and perhaps a table of the tensors in them.

    Attributes:
        name: Unique in its package.
        type: What it is for.
        media_type: RFC 6838 type of its bytes.
        extension: What its archive path has behind the name, such as `.json`; or empty.
        content: Where its plain bytes come from.
        table: Tensors in the plain bytes, sorted by name, or None.
        compression: How it will be compressed; None stores it. A resource that was loaded
            keeps its stored form until this is changed.
        extensions: Own manifest fields, all named `x-...`.
    """

    def __init__(
        self,
        name: str,
        type: ResourceType,
        content: Content,
        *,
        media_type: str = "application/octet-stream",
        extension: str = "",
        table: tuple[TensorEntry, ...] | None = None,
        compression: CompressionSetting | None = None,
        extensions: JsonObject | None = None,
    ):
        self.name = name
        self.type = type
        self.content = content
        self.media_type = media_type
        self.extension = extension
        self.table = table
        self.extensions: JsonObject = dict(extensions or {})
        self._compression = compression
        self._keep = isinstance(content, StoredContent)
        self.encoded: object = None
        self._rows: tuple[object, dict[str, TensorEntry]] = (None, {})

    def __repr__(self) -> str:
        return f"Resource({self.name!r}, {self.type}, {self.size} bytes)"

    @property
    def size(self) -> int:
        """Plain bytes."""
        return self.content.size

    @property
    def compression(self) -> CompressionSetting | None:
        """How it will be compressed when it is saved anew."""
        return self._compression

    @compression.setter
    def compression(self, setting: CompressionSetting | None) -> None:
        self._compression = setting
        self._keep = False
        self.encoded = None

    def reencode(self) -> None:
        """Makes saving start from the plain bytes, not from the stored form it was loaded in."""
        self._keep = False

    @property
    def kept(self) -> StoredContent | None:
        """The stored form that saving passes on unchanged, if there is one."""
        return self.content if self._keep and isinstance(self.content, StoredContent) else None

    @property
    def entry(self) -> ResourceEntry | None:
        """What the manifest of the package it was loaded from says about it, or None."""
        return self.content.form.entry if isinstance(self.content, StoredContent) else None

    @property
    def data(self) -> memoryview:
        """The plain bytes: verified, read-only, without a copy if they are stored as they are.

        Raises:
            IntegrityError: The stored bytes are damaged.
            CodecError: They do not decode to what the manifest says.
        """
        return self.content.view(0, self.content.size)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def pieces(self) -> Iterator[Buffer]:
        """The plain bytes in pieces, in constant memory; complete only if no error comes."""
        return self.content.pieces()

    def text(self) -> str:
        """The plain bytes as UTF-8 text; `CodecError` if they are not."""
        try:
            return str(self.data, "utf-8")
        except UnicodeDecodeError as error:
            raise CodecError("is not UTF-8 text", entry=self.name, offset=error.start) from None

    def json(self) -> JsonValue:
        """The plain bytes parsed as JSON; `CodecError` if they are not."""
        try:
            return cast(JsonValue, json.loads(self.text()))
        except (ValueError, RecursionError) as error:
            raise CodecError(f"is not JSON: {error}"[:300], entry=self.name) from None

    @property
    def tensors(self) -> "Mapping[str, Array]":
        """Its tensors by name, as numpy views over the plain bytes; see `tensor`."""
        return TensorMap(self)

    @property
    def rows(self) -> Mapping[str, TensorEntry]:
        """The rows of its table by name."""
        if self._rows[0] is not self.table:
            self._rows = (self.table, {entry.name: entry for entry in self.table or ()})
        return self._rows[1]

    def tensor(self, name: str) -> "Array":
        """One tensor as a numpy view over the plain bytes, read-only.

        Only the part of the file that holds it is verified and touched, if the resource is
        stored as it is. Types under 8 bits come packed, as uint8.

        Raises:
            ResourceNotFoundError: The resource has no tensor of that name.
            IntegrityError: The stored bytes are damaged.
            InvalidArgumentError: numpy does not know the dtype (`import ml_dtypes` adds it).
        """
        found = self.rows.get(name)
        if found is None:
            raise ResourceNotFoundError(f"no tensor {name[:80]!r}", entry=self.name)
        return tensor_view(found, self.content.view(found.offset, found.offset + found.nbytes))


class TensorMap(Mapping[str, "Array"]):
    """The tensors of a resource, read one by one when they are asked for."""

    def __init__(self, resource: Resource):
        self._resource = resource

    def __getitem__(self, name: str) -> "Array":
        return self._resource.tensor(name)

    def __contains__(self, name: object) -> bool:
        return name in self._resource.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._resource.rows)

    def __len__(self) -> int:
        return len(self._resource.rows)
