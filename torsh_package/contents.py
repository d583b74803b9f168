"""What a package holds, in memory: facts, resources, documents, entry points, requirements."""

import copy
import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

from torsh_package.canonical_json import JsonObject, check
from torsh_package.codecs import (
    CompressionAlgorithm,
    CompressionLevel,
    CompressionSetting,
    setting,
)
from torsh_package.content import BytesContent, Content, FileContent
from torsh_package.digest import DigestSpec
from torsh_package.entrypoints import CompiledObject, EntryPoint
from torsh_package.errors import (
    DependencyError,
    InvalidArgumentError,
    LimitError,
    ResourceNotFoundError,
)
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.manifest import (
    ALIGNMENTS,
    DOCUMENTS,
    RESOURCES,
    SCHEMA,
    Manifest,
    ResourceType,
)
from torsh_package.media import SOURCE_MEDIA_TYPES, classify, source_name
from torsh_package.names import NameSet, check_package_name, check_path, check_version
from torsh_package.protocols import (
    SignatureLike,
    TrustReport,
)
from torsh_package.reading import Loaded
from torsh_package.requirement_syntax import DependencySpec
from torsh_package.resource import Resource
from torsh_package.tensors import TensorEntry, check_table
from torsh_package.times import format_time
from torsh_package.weights import layout_tensors

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

Data: TypeAlias = "str | bytes | bytearray | memoryview | Array | Mapping[str, Array]"


class PackageContents:
    """Facts and parts of a package in memory; `Package` adds files."""

    def __init__(
        self,
        name: str,
        version: str,
        *,
        digest: DigestSpec | None = None,
        alignment: int = 64,
        limits: Limits = DEFAULT_LIMITS,
    ):
        if alignment not in ALIGNMENTS:
            raise InvalidArgumentError(f"alignment {alignment}: use a power of two, 64 to 4096")
        self._name = check_package_name(name)
        self._version = check_version(version)
        self._digest = digest or DigestSpec()
        self._alignment = alignment
        self._limits = limits
        self._schema = SCHEMA
        self._resources: dict[str, Resource] = {}
        self._documents: dict[str, Resource] = {}
        # Names and the paths made from them (which may have an extension) must both be unique.
        self._names = (NameSet(limits), NameSet(limits))
        self._paths = NameSet(limits)
        self._entrypoints: dict[str, EntryPoint] = {}
        self._dependencies: dict[tuple[str, str], DependencySpec] = {}
        self._compression: CompressionSetting | None = None
        self._created: str | None = None
        self._encryption: bytes | None = None
        self.description = ""
        self.authors: list[str] = []
        self.license: str | None = None
        self.metadata: dict[str, str] = {}
        self.code: JsonObject | None = None
        self.lineage: str | None = None
        self.sbom: str | None = None
        self.migrated_from: JsonObject | None = None
        self.extensions: JsonObject = {}
        self.signatures: bytes | None = None
        self.trust: TrustReport | None = None
        self.canonical = True

    # ---------------------------------------------------------------- facts

    @property
    def name(self) -> str:
        """Package name."""
        return self._name

    @property
    def version(self) -> str:
        """Semantic version."""
        return self._version

    @property
    def encrypted(self) -> bool:
        """Whether it was loaded from an encrypted file."""
        return self._encryption is not None

    @property
    def compression(self) -> CompressionSetting | None:
        """What resources get by default, or None for none."""
        return self._compression

    @property
    def dependencies(self) -> tuple[DependencySpec, ...]:
        """Requirements on other packages, sorted by kind and name."""
        return tuple(self._dependencies[key] for key in sorted(self._dependencies))

    @property
    def entrypoints(self) -> Mapping[str, EntryPoint]:
        """What can be called, by name."""
        return {name: self._entrypoints[name] for name in sorted(self._entrypoints)}

    def set_description(self, text: str) -> None:
        """Sets the free text."""
        self.description = text

    def set_author(self, name: str) -> None:
        """Makes `name` the only author; append to `authors` for more."""
        self.authors = [name]

    def set_license(self, expression: str) -> None:
        """Sets the SPDX licence expression."""
        self.license = expression

    def set_created(self, time: dt.datetime | None) -> None:
        """Records a creation time. Without one, equal content gives equal bytes at any time."""
        self._created = None if time is None else format_time(time)

    def set_compression(
        self,
        algorithm: CompressionAlgorithm,
        level: CompressionLevel = CompressionLevel.Default,
    ) -> None:
        """Compresses all resources, those that are there and those to come.

        A resource that would shrink by less than 5 % is stored as it is.
        """
        self._compression = setting(algorithm, level)
        for resource in self._resources.values():
            resource.compression = self._compression

    def set_signature(self, signature: SignatureLike) -> None:
        """Adds a signature (`PackageSigner.sign(serialize_package(package))`)."""
        self.signatures = signature.added_to(self.signatures)

    # ------------------------------------------------------------ resources

    def add_resource(
        self,
        name: str,
        data: "Data",
        type: ResourceType,
        *,
        media_type: str | None = None,
        table: Sequence[TensorEntry] | None = None,
    ) -> Resource:
        """Adds a resource.

        Args:
            name: Unique in the package; may have folders (`a/b`).
            data: Bytes, text (stored as UTF-8), an array, or arrays by name. Arrays and buffers
                are not copied: leave them alone until the package has been saved.
            type: What it is for.
            media_type: RFC 6838 type; guessed from `type` and `data` if it is not given.
            table: Where tensors lie in `data`, if that is bytes.

        Raises:
            InvalidArgumentError: The name is unsafe, taken, or clashes with another; or an array
                cannot be stored.
            ManifestError: `table` does not fit `data`.
        """
        content, rows = _content(data)
        if table is not None:
            rows = tuple(sorted(table, key=lambda row: row.name))
            check_table(rows, content.size, name)
        return self._add(self._resources, name, content, type, media_type, rows)

    def add_file(
        self,
        name: str,
        path: str | os.PathLike[str],
        type: ResourceType,
        *,
        media_type: str | None = None,
        table: Sequence[TensorEntry] | None = None,
    ) -> Resource:
        """Adds a file, which is read when the package is saved, in constant memory.

        Raises:
            StorageError: The file cannot be read.
            InvalidArgumentError, ManifestError: As for `add_resource`.
        """
        content = FileContent(path)
        rows = None if table is None else tuple(sorted(table, key=lambda row: row.name))
        if rows is not None:
            check_table(rows, content.size, name)
        return self._add(self._resources, name, content, type, media_type, rows)

    def add_source_file(self, name: str, text: str, language: str = "python") -> Resource:
        """Adds source code as the resource `code/<name>`, below `resources/code/`.

        Args:
            name: Module or file name; dots of a Python module become folders, and the language's
                extension is added if there is none.
            text: The code; it is never executed by loading a package.
            language: `python`, `rust`, `c`, `cpp`, `cuda`, `mlir` or `text`.
        """
        return self.add_resource(
            f"code/{source_name(name, language)}",
            text,
            ResourceType.Source,
            media_type=SOURCE_MEDIA_TYPES[language],
        )

    def get_resource(self, name: str) -> Resource:
        """The resource called `name`.

        Raises:
            ResourceNotFoundError: There is none (also a `KeyError`).
        """
        found = self._resources.get(name)
        if found is None:
            raise ResourceNotFoundError(
                f"no resource {name[:80]!r}; there are {len(self._resources)}, see list_resources()"
            )
        return found

    def has_resource(self, name: str) -> bool:
        """Whether there is a resource called `name`."""
        return name in self._resources

    def list_resources(self) -> list[str]:
        """Names of all resources, sorted."""
        return sorted(self._resources)

    def remove_resource(self, name: str) -> None:
        """Removes a resource; `ResourceNotFoundError` if there is none."""
        resource = self.get_resource(name)
        self._forget(RESOURCES, resource)
        del self._resources[name]

    def resources(self) -> Iterator[Resource]:
        """All resources, sorted by name."""
        return (self._resources[name] for name in sorted(self._resources))

    # ------------------------------------------------------------ documents

    def set_document(
        self, name: str, data: str | bytes, media_type: str = "application/json"
    ) -> Resource:
        """Adds or replaces a file below `dependencies/`: lock file, lineage, bill of materials."""
        content, _ = _content(data)
        if name in self._documents:
            self.remove_document(name)
        return self._add(self._documents, name, content, ResourceType.Metadata, media_type, None)

    def get_document(self, name: str) -> Resource:
        """The document called `name`; `ResourceNotFoundError` if there is none."""
        found = self._documents.get(name)
        if found is None:
            raise ResourceNotFoundError(f"no document {name[:80]!r}")
        return found

    def remove_document(self, name: str) -> None:
        """Removes a document; `ResourceNotFoundError` if there is none."""
        self._forget(DOCUMENTS, self.get_document(name))
        del self._documents[name]

    def list_documents(self) -> list[str]:
        """Names of all documents, sorted."""
        return sorted(self._documents)

    # --------------------------------------------------------- entry points

    def add_entrypoint(self, entrypoint: EntryPoint) -> None:
        """Adds something that can be called; several may share programs and weights.

        Raises:
            InvalidArgumentError: The name is taken, or a resource that it names is missing.
        """
        if entrypoint.name in self._entrypoints:
            raise InvalidArgumentError(f"there already is an entry point {entrypoint.name!r}")
        missing = [name for name in entrypoint.resources() if name not in self._resources]
        if missing:
            raise InvalidArgumentError(
                f"entry point {entrypoint.name!r} names the resource {missing[0]!r}, "
                "which is not there; add it first"
            )
        self._entrypoints[entrypoint.name] = entrypoint

    def add_program(self, name: str, program: str | bytes, media_type: str) -> Resource:
        """Adds program text or bytecode as a resource for entry points."""
        return self.add_resource(name, program, ResourceType.Model, media_type=media_type)

    def add_object(
        self,
        name: str,
        code: bytes,
        *,
        triple: str,
        cpu: str = "",
        features: Sequence[str] = (),
        kind: str = "object",
        abi: int = 1,
    ) -> CompiledObject:
        """Adds machine code as a resource; returns what goes into `EntryPoint.objects`."""
        self.add_resource(name, code, ResourceType.Binary, media_type="application/x-object")
        return CompiledObject(name, triple, cpu, tuple(sorted(features)), kind, abi)

    # --------------------------------------------------------- dependencies

    def add_dependency(self, spec: DependencySpec) -> None:
        """Adds or replaces a requirement.

        Raises:
            DependencyError: Its syntax is wrong, or it is the package itself.
        """
        from torsh_package.dependencies import check_spec

        check_spec(spec.check())
        if spec.kind == "torsh" and spec.name == self.name:
            raise DependencyError(f"package {self.name} cannot depend on itself")
        self._dependencies[spec.kind, spec.name] = spec

    def add_dependency_spec(self, name: str, version_req: str) -> None:
        """Adds a requirement without options."""
        self.add_dependency(DependencySpec(name, version_req))

    def add_optional_dependency(self, name: str, version_req: str) -> None:
        """Adds a requirement that the package can do without."""
        self.add_dependency(DependencySpec(name, version_req, optional=True))

    def add_requirements(self, text: str) -> None:
        """Adds the requirements of a `requirements.txt` as dependencies of kind `pip`."""
        from torsh_package.dependencies import parse_requirements

        for spec in parse_requirements(text):
            self.add_dependency(spec)

    def shallow_copy(self) -> Self:
        """Another package with the same resources, whose lists can change on their own."""
        made = copy.copy(self)
        made._names, made._paths = copy.deepcopy((self._names, self._paths))
        made._resources, made._documents = dict(self._resources), dict(self._documents)
        made._entrypoints, made._dependencies = dict(self._entrypoints), dict(self._dependencies)
        made.authors, made.metadata = list(self.authors), dict(self.metadata)
        return made

    # -------------------------------------------------------------- private

    def _add(
        self,
        group: dict[str, Resource],
        name: str,
        content: Content,
        type: ResourceType,
        media_type: str | None,
        table: tuple[TensorEntry, ...] | None,
    ) -> Resource:
        if not isinstance(type, ResourceType):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"resource type {type!r} is not a ResourceType")
        check_path(name, self._limits)
        is_resource = group is self._resources
        media_type, extension = classify(name, type, content, table is not None, media_type)
        if len(group) >= self._limits.resources:
            raise InvalidArgumentError(f"over {self._limits.resources} resources")
        if content.size > self._limits.plain_bytes:
            raise LimitError(
                f"{content.size} bytes, limit {self._limits.plain_bytes}", entry=name[:80]
            )
        self._take(RESOURCES if is_resource else DOCUMENTS, name, extension)
        resource = Resource(
            name,
            type,
            content,
            media_type=media_type,
            extension=extension,
            table=table,
            compression=self._compression if is_resource else None,
        )
        group[name] = resource
        return resource

    def _take(self, folder: str, name: str, extension: str) -> None:
        names = self._names[folder == DOCUMENTS]
        names.add(name)
        try:
            self._paths.add(f"{folder}{name}{extension}")
        except InvalidArgumentError:
            names.remove(name)
            raise

    def _forget(self, folder: str, resource: Resource) -> None:
        self._names[folder == DOCUMENTS].remove(resource.name)
        self._paths.remove(f"{folder}{resource.name}{resource.extension}")

    def _adopt(self, loaded: Loaded) -> None:
        for content in loaded.contents:
            entry = content.form.entry
            is_document = entry.path.startswith(DOCUMENTS)
            group = self._documents if is_document else self._resources
            self._take(DOCUMENTS if is_document else RESOURCES, entry.name, entry.extension)
            group[entry.name] = Resource(
                entry.name,
                entry.type,
                content,
                media_type=entry.media_type,
                extension=entry.extension,
                table=entry.tensors,
                compression=CompressionSetting.of(entry.codec),
                extensions=entry.extensions,
            )

    def _sorted(self) -> tuple[list[Resource], list[Resource]]:
        resources = [self._resources[name] for name in sorted(self._resources)]
        return resources, [self._documents[name] for name in sorted(self._documents)]

    def _outline(self) -> Manifest:
        check(dict(self.metadata), what="metadata", limits=self._limits)
        for what, value in (("code", self.code), ("migrated_from", self.migrated_from)):
            check(value, what=what, limits=self._limits)
        check(self.extensions, what="extensions", limits=self._limits)
        if any(not key.startswith("x-") for key in self.extensions):
            raise InvalidArgumentError("extensions must have names that begin with 'x-'")
        return Manifest(
            name=self._name,
            version=self._version,
            created=self._created,
            description=self.description,
            authors=tuple(self.authors),
            license=self.license,
            metadata=dict(self.metadata),
            alignment=self._alignment,
            digest=self._digest,
            compression=self._compression,
            entrypoints=tuple(self.entrypoints.values()),
            dependencies=self.dependencies,
            code=self.code,
            lineage=self.lineage,
            sbom=self.sbom,
            migrated_from=self.migrated_from,
            extensions=self.extensions,
        )


def _content(data: "Data") -> tuple[Content, tuple[TensorEntry, ...] | None]:
    """Plain bytes and tensors table of what a user adds."""
    if isinstance(data, str):
        try:
            return BytesContent(data.encode("utf-8")), None
        except UnicodeEncodeError:
            raise InvalidArgumentError("text holds a lone surrogate") from None
    if isinstance(data, bytes | bytearray | memoryview):
        try:
            return BytesContent(data), None
        except TypeError:
            raise InvalidArgumentError("a memoryview must be C-contiguous") from None
    arrays = cast("Mapping[str, Array]", data if isinstance(data, Mapping) else {"data": data})
    for name, array in arrays.items():
        if not hasattr(array, "__array_interface__"):
            raise InvalidArgumentError(
                f"{name!r} is {type(array).__name__}, not an array; give bytes, text or arrays"
            )
    table, content = layout_tensors(arrays)
    return content, table
