"""`manifest.json`: everything a package says about itself, as frozen dataclasses.

The manifest binds every other entry of the archive (by digest), except the signatures over it.
`Manifest.from_bytes` accepts only what `Manifest.to_bytes` writes. Fields and rules: FORMAT.md.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from torsh_package import canonical_json
from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.codecs import CodecSpec, CompressionSetting
from torsh_package.digest import ALGORITHMS, DIGEST_SIZE, DigestSpec
from torsh_package.entrypoints import EntryPoint
from torsh_package.errors import (
    CodecError,
    InvalidArgumentError,
    LimitError,
    ManifestError,
    UnsupportedVersionError,
)
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.names import check_package_name, check_version, find_collision, path_problem
from torsh_package.requirement_syntax import DependencySpec
from torsh_package.schema import Fields
from torsh_package.tensors import TensorEntry, check_table, read_table
from torsh_package.tensors import rows as tensor_rows
from torsh_package.times import format_time, parse_time

T = TypeVar("T")

FORMAT = "torshpkg"
SCHEMA = (1, 0)
MANIFEST_PATH = "manifest.json"
LEAVES_PATH = "META/leaves.bin"
ENCRYPTION_PATH = "META/encryption.json"
SIGNATURES_PATH = "META/signatures.dsse.json"
# Entries behind the manifest, in this order, which it does not bind: the encryption header carries
# its own MAC over the manifest, the signatures sign it.
UNBOUND_PATHS = (ENCRYPTION_PATH, SIGNATURES_PATH)
RESOURCES = "resources/"
DOCUMENTS = "dependencies/"
SEALED_SUFFIX = ".tenc"
# Features that a reader must know before it may use a package that names them.
KNOWN_CRITICAL = frozenset({"encryption"})
ALIGNMENTS = frozenset({64, 128, 256, 512, 1024, 2048, 4096})


class ResourceType(enum.Enum):
    """What a resource is for."""

    Model = "Model"
    ModelWeights = "ModelWeights"
    Source = "Source"
    Data = "Data"
    Config = "Config"
    Documentation = "Documentation"
    License = "License"
    Binary = "Binary"
    Text = "Text"
    Metadata = "Metadata"


_RESOURCE_TYPES = frozenset(member.value for member in ResourceType)


@dataclass(frozen=True)
class ResourceEntry:
    """One resource (below `resources/`) or document (below `dependencies/`).

    Attributes:
        name: Unique in the package; what `get_resource` takes.
        path: Archive path.
        type: What it is for.
        media_type: RFC 6838 type of the plain bytes.
        size: Stored bytes, after codec and encryption.
        plain_size: Bytes before codec and encryption.
        root: Digest (`DigestSpec.root`) of the stored bytes.
        crc32: CRC-32 of the stored bytes, equal to the one in the ZIP headers.
        codec: How the plain bytes were compressed, or None.
        plain_root: Digest of the plain bytes, if they are compressed and not encrypted.
        encryption: What an `Opener` needs to know of this resource, or None if it is not sealed.
        tensors: Table of the tensors in the plain bytes, sorted by name, or None.
        extensions: Own fields, all named `x-...`.
    """

    name: str
    path: str
    type: ResourceType
    media_type: str
    size: int
    plain_size: int
    root: bytes
    crc32: int
    codec: CodecSpec | None = None
    plain_root: bytes | None = None
    encryption: JsonObject | None = None
    tensors: tuple[TensorEntry, ...] | None = None
    extensions: JsonObject = field(default_factory=dict[str, JsonValue])

    @property
    def extension(self) -> str:
        """What the path has between name and the suffixes of codec and encryption."""
        folder = DOCUMENTS if self.path.startswith(DOCUMENTS) else RESOURCES
        suffix = "" if self.codec is None else self.codec.suffix
        if self.encryption is not None:
            suffix += SEALED_SUFFIX
        return self.path.removesuffix(suffix)[len(folder) + len(self.name) :]

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "name": self.name,
            "path": self.path,
            "type": self.type.value,
            "media_type": self.media_type,
            "size": self.size,
            "plain_size": self.plain_size,
            "root": self.root.hex(),
            "crc32": self.crc32,
            "codec": None if self.codec is None else self.codec.to_json(),
            "plain_root": None if self.plain_root is None else self.plain_root.hex(),
            "encryption": self.encryption,
            "tensors": None if self.tensors is None else tensor_rows(self.tensors),
            **self.extensions,
        }

    @classmethod
    def from_json(cls, fields: Fields, folder: str = RESOURCES) -> "ResourceEntry":
        """Reads one resource, whose path must lie in `folder`."""
        codec = fields.optional_nested("codec")
        found = cls(
            name=_safe(fields, "name"),
            path=_safe(fields, "path"),
            type=ResourceType(fields.choice("type", _RESOURCE_TYPES)),
            media_type=fields.string("media_type"),
            size=fields.integer("size", 0, fields.limits.entry_bytes),
            plain_size=fields.integer("plain_size", 0, fields.limits.plain_bytes),
            root=fields.hexadecimal("root", DIGEST_SIZE),
            crc32=fields.integer("crc32", 0, 0xFFFF_FFFF),
            codec=None if codec is None else CodecSpec.from_json(codec),
            plain_root=_optional(fields, "plain_root", _root),
            encryption=_optional(fields, "encryption", Fields.free_object),
            tensors=_optional(fields, "tensors", _tensor_table),
            extensions=fields.extensions(),
        )
        fields.end()
        _check_resource(found, fields, folder)
        return found


@dataclass(frozen=True)
class Manifest:
    """The manifest of a package.

    Attributes:
        name: Package name.
        version: Semantic version.
        schema: Format version, (major, minor).
        critical: Names of features that a reader must know.
        created: RFC 3339 time in UTC, or None for bytes that do not depend on time.
        description: Free text.
        authors: Names, in order.
        license: SPDX expression, or None.
        metadata: Further facts, string to string.
        alignment: Every entry's data starts at a multiple of it, in bytes.
        digest: How all digests were made.
        compression: What new resources get by default, or None for none.
        resources: Sorted by name.
        documents: What lies below `dependencies/`, sorted by name (lineage, lock file, SBOM).
        entrypoints: Sorted by name.
        dependencies: Requirements on other packages, sorted by kind and name.
        code: Hermetic code policy and module table, or None.
        lineage: Name of the document with the signed lineage, or None.
        sbom: Name of the document with the bill of materials, or None.
        migrated_from: What it was converted from, or None.
        extensions: Own fields, all named `x-...`.
    """

    name: str
    version: str
    schema: tuple[int, int] = SCHEMA
    critical: tuple[str, ...] = ()
    created: str | None = None
    description: str = ""
    authors: tuple[str, ...] = ()
    license: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    alignment: int = 64
    digest: DigestSpec = field(default_factory=DigestSpec)
    compression: CompressionSetting | None = None
    resources: tuple[ResourceEntry, ...] = ()
    documents: tuple[ResourceEntry, ...] = ()
    entrypoints: tuple[EntryPoint, ...] = ()
    dependencies: tuple[DependencySpec, ...] = ()
    code: JsonObject | None = None
    lineage: str | None = None
    sbom: str | None = None
    migrated_from: JsonObject | None = None
    extensions: JsonObject = field(default_factory=dict[str, JsonValue])

    def entries(self) -> tuple[ResourceEntry, ...]:
        """Resources and documents in the order of the archive."""
        return (*self.resources, *self.documents)

    @property
    def sealed(self) -> bool:
        """Whether some entry is encrypted."""
        return any(entry.encryption is not None for entry in self.entries())

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "format": FORMAT,
            "schema": list(self.schema),
            "critical": list(self.critical),
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "description": self.description,
            "authors": list(self.authors),
            "license": self.license,
            "metadata": dict(self.metadata),
            "alignment": self.alignment,
            "digest": {"algorithm": self.digest.algorithm, "leaf_bytes": self.digest.leaf_bytes},
            "compression": None if self.compression is None else self.compression.to_json(),
            "resources": [entry.to_json() for entry in self.resources],
            "documents": [entry.to_json() for entry in self.documents],
            "entrypoints": [entry.to_json() for entry in self.entrypoints],
            "dependencies": [spec.to_json() for spec in self.dependencies],
            "code": self.code,
            "lineage": self.lineage,
            "sbom": self.sbom,
            "migrated_from": self.migrated_from,
            **self.extensions,
        }

    def to_bytes(self) -> bytes:
        """The canonical bytes of `manifest.json`: what is signed."""
        return canonical_json.dumps(self.to_json())

    @classmethod
    def from_bytes(cls, raw: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> "Manifest":
        """Parses and checks `manifest.json`.

        Raises:
            ManifestError: It is not canonical JSON, or breaks the schema.
            UnsupportedVersionError: It has another major format version.
            LimitError: A size, count or depth is over `limits`.
        """
        value = canonical_json.loads(
            raw, entry=MANIFEST_PATH, limit=limits.manifest_bytes, limits=limits
        )
        return cls.from_json(value, limits)

    @classmethod
    def from_json(cls, value: JsonValue, limits: Limits = DEFAULT_LIMITS) -> "Manifest":
        """Reads the JSON form; raises as `from_bytes` does."""
        fields = Fields(value, "manifest", limits)
        schema = _schema(fields)
        fields.lenient = schema > SCHEMA
        digest = fields.nested("digest")
        compression = fields.optional_nested("compression")
        found = cls(
            schema=schema,
            critical=_critical(fields),
            name=fields.checked("name", check_package_name),
            version=fields.checked("version", check_version),
            created=_created(fields),
            description=fields.string("description"),
            authors=fields.strings("authors"),
            license=fields.optional_string("license"),
            metadata=_string_map(fields.nested("metadata")),
            alignment=fields.integer("alignment", 64, 4096),
            digest=_digest(digest),
            compression=None if compression is None else CompressionSetting.from_json(compression),
            resources=fields.items("resources", limits.resources, ResourceEntry.from_json),
            documents=fields.items(
                "documents", limits.resources, partial(ResourceEntry.from_json, folder=DOCUMENTS)
            ),
            entrypoints=fields.items("entrypoints", limits.resources, EntryPoint.from_json),
            dependencies=fields.items("dependencies", limits.resources, DependencySpec.from_json),
            code=_optional(fields, "code", Fields.free_object),
            lineage=fields.optional_string("lineage"),
            sbom=fields.optional_string("sbom"),
            migrated_from=_optional(fields, "migrated_from", Fields.free_object),
            extensions=fields.extensions(),
        )
        fields.end()
        _check_whole(found, limits)
        return found


def _schema(fields: Fields) -> tuple[int, int]:
    if fields.string("format") != FORMAT:
        raise fields.error("format", f"is not {FORMAT!r}; this is another kind of file")
    numbers = fields.array("schema", 2)
    if len(numbers) != 2 or not all(type(n) is int and 0 <= n < 1 << 31 for n in numbers):
        raise fields.error("schema", "expected two integers, [major, minor]")
    major, minor = (n for n in numbers if isinstance(n, int))
    if major != SCHEMA[0]:
        raise UnsupportedVersionError(
            f"package format {major}.{minor}; this version of torsh reads {SCHEMA[0]}.x; "
            "use a version of torsh that matches the package",
            entry=MANIFEST_PATH,
        )
    return major, minor


def _critical(fields: Fields) -> tuple[str, ...]:
    critical = fields.strings("critical", 64)
    for name in critical:
        if name not in KNOWN_CRITICAL:
            raise UnsupportedVersionError(
                f"the package needs the feature {name[:80]!r}, which this reader does not know; "
                "use a newer torsh",
                entry=MANIFEST_PATH,
            )
    if list(critical) != sorted(set(critical)):
        raise fields.error("critical", "is not sorted, or repeats a name")
    return critical


def _created(fields: Fields) -> str | None:
    text = fields.optional_string("created")
    try:
        return None if text is None else format_time(parse_time(text))
    except InvalidArgumentError as error:
        raise fields.error("created", error.message) from None


def _digest(fields: Fields) -> DigestSpec:
    algorithm = fields.choice("algorithm", ALGORITHMS)
    try:
        spec = DigestSpec(algorithm, fields.integer("leaf_bytes"))
    except InvalidArgumentError as error:
        raise ManifestError(f"{fields.where}: {error.message}") from None
    fields.end()
    return spec


def _string_map(fields: Fields) -> dict[str, str]:
    return {key: fields.string(key) for key in sorted(fields.left)}


def _safe(fields: Fields, key: str) -> str:
    value = fields.string(key)
    problem = path_problem(value, fields.limits)
    if problem:
        raise fields.error(key, f"{value[:80]!r} {problem}")
    return value


def _root(fields: Fields, key: str) -> bytes:
    return fields.hexadecimal(key, DIGEST_SIZE)


def _optional(fields: Fields, key: str, read: Callable[[Fields, str], T]) -> T | None:
    """Reads a required field that may be null."""
    if fields.has(key) and fields.left[key] is None:
        fields.take(key)
        return None
    return read(fields, key)


def _tensor_table(fields: Fields, key: str) -> tuple[TensorEntry, ...]:
    return read_table(fields, key)


def _check_resource(entry: ResourceEntry, fields: Fields, folder: str) -> None:
    if not entry.path.startswith(folder):
        raise fields.error("path", f"{entry.path[:80]!r} is not below {folder}")
    suffix = "" if entry.codec is None else entry.codec.suffix
    if entry.encryption is not None:
        suffix += SEALED_SUFFIX
    if entry.path not in (f"{folder}{entry.name}{mid}{suffix}" for mid in ("", ".json")):
        raise fields.error("path", f"{entry.path[:80]!r} is not made from the name and codec")
    sealed = entry.encryption is not None
    if entry.codec is None and not sealed and entry.size != entry.plain_size:
        raise fields.error("plain_size", f"{entry.plain_size} differs from size without a codec")
    if entry.codec is None and entry.plain_size > entry.size:
        raise fields.error(
            "plain_size", f"{entry.plain_size} is over the stored size without codec"
        )
    if (entry.plain_root is not None) != (entry.codec is not None and not sealed):
        raise fields.error("plain_root", "is for compressed, unencrypted resources, and only those")
    _check_codec(entry, fields)
    if entry.tensors is not None:
        check_table(entry.tensors, entry.plain_size, f"{fields.where}.tensors")


def _check_codec(entry: ResourceEntry, fields: Fields) -> None:
    if entry.codec is None:
        return
    try:
        entry.codec.check_sizes(entry.size, entry.plain_size, fields.where, fields.limits)
    except CodecError as error:
        raise ManifestError(error.message) from None


def _check_whole(manifest: Manifest, limits: Limits) -> None:
    if manifest.alignment not in ALIGNMENTS:
        raise ManifestError(f"manifest.alignment: {manifest.alignment} is not 2^6..2^12")
    _check_sorted("resources", [entry.name for entry in manifest.resources])
    _check_sorted("documents", [entry.name for entry in manifest.documents])
    _check_sorted("entrypoints", [entry.name for entry in manifest.entrypoints])
    _check_sorted("dependencies", [f"{d.kind} {d.name}" for d in manifest.dependencies])
    entries = manifest.entries()
    for group in (manifest.resources, manifest.documents):
        clash = find_collision(entry.name for entry in group)
        if clash:
            raise ManifestError(f"manifest: names {clash}")
    clash = find_collision(entry.path for entry in entries)
    if clash:
        raise ManifestError(f"manifest: paths {clash}")
    if sum(len(entry.tensors or ()) for entry in entries) > limits.tensors:
        raise LimitError(f"manifest: over {limits.tensors} tensors")
    _check_references(manifest)


def _check_references(manifest: Manifest) -> None:
    names = {entry.name for entry in manifest.resources}
    for point in manifest.entrypoints:
        missing = sorted(set(point.resources()) - names)
        if missing:
            raise ManifestError(
                f"entry point {point.name[:80]!r} refers to {missing[0][:80]!r}, no such resource"
            )
    documents = {entry.name for entry in manifest.documents}
    for key, name in (("lineage", manifest.lineage), ("sbom", manifest.sbom)):
        if name is not None and name not in documents:
            raise ManifestError(f"manifest.{key}: {name[:80]!r} is not a document of the package")
    for spec in manifest.dependencies:
        if spec.kind == "torsh" and spec.name == manifest.name:
            raise ManifestError(f"the package depends on itself ({spec.name})")
    if manifest.sealed != ("encryption" in manifest.critical):
        raise ManifestError("manifest.critical: names 'encryption' exactly if an entry is sealed")


def _check_sorted(key: str, names: Iterable[str]) -> None:
    listed = list(names)
    if listed != sorted(set(listed)):
        raise ManifestError(f"manifest.{key}: is not sorted, or repeats a name")
