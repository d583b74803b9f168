"""What a lineage graph is about: artifacts, their relations and where a package came from."""

import datetime as dt
import enum
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import LineageError
from torsh_package.schema import Fields
from torsh_package.times import build_time, format_time
from torsh_package.trust.statement import read_time

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_NAME = 1024
_TOOLS = ("torsh", "numpy", "torch", "onnx", "safetensors", "llvmlite", "xdsl")


class LineageRelation(enum.Enum):
    """How the target of an edge came out of its source."""

    ConvertedFrom = "converted-from"
    CompiledFrom = "compiled-from"
    DerivedFrom = "derived-from"
    FineTunedFrom = "fine-tuned-from"
    QuantizedFrom = "quantized-from"
    PrunedFrom = "pruned-from"
    DistilledFrom = "distilled-from"
    MergedFrom = "merged-from"
    TrainedOn = "trained-on"
    VersionOf = "version-of"
    CopyOf = "copy-of"


@dataclass(frozen=True, order=True)
class Artifact:
    """A model, data set or package.

    Args:
        name: What people call it; may be empty when the digest is known.
        digest: `sha256:<hex>` of its content (of a package: of its manifest), or None.
    """

    name: str
    digest: str | None = None

    def __post_init__(self) -> None:
        if self.digest is not None and not _DIGEST.fullmatch(self.digest):
            raise LineageError(f"digest {self.digest[:80]!r}: write it as sha256:<64 hex digits>")
        if self.digest is None and not self.name:
            raise LineageError("an artifact needs a name or a digest")
        if len(self.name) > MAX_NAME or not self.name.isprintable():
            raise LineageError(f"artifact name {self.name[:40]!r}: at most {MAX_NAME} printable")

    @classmethod
    def of(cls, value: "Artifact | str") -> "Artifact":
        """Of a name, or of `sha256:<hex>`."""
        if isinstance(value, Artifact):
            return value
        return cls("", value) if value.startswith("sha256:") else cls(value)

    @property
    def key(self) -> str:
        """What identifies it: its digest, or its name as long as the digest is unknown."""
        return self.digest or f"name:{self.name}"

    @property
    def label(self) -> str:
        """For people."""
        return self.name or (self.digest or "")[:19]

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {"name": self.name, "digest": self.digest}

    @classmethod
    def from_fields(cls, fields: Fields) -> "Artifact":
        """Read the JSON form."""
        artifact = cls(fields.string("name"), fields.optional_string("digest"))
        fields.end()
        return artifact


@dataclass(frozen=True)
class LineageEdge:
    """One step: `target` came out of `source`. Both are artifact keys."""

    source: str
    target: str
    relation: LineageRelation
    description: str = ""

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "source": self.source,
            "target": self.target,
            "relation": self.relation.value,
            "description": self.description,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "LineageEdge":
        """Read the JSON form."""
        relations = frozenset(relation.value for relation in LineageRelation)
        edge = cls(
            source=fields.string("source"),
            target=fields.string("target"),
            relation=LineageRelation(fields.choice("relation", relations)),
            description=fields.string("description"),
        )
        fields.end()
        return edge


def tool_versions() -> dict[str, str]:
    """Versions of the tools that can shape a package, as far as they are installed here."""
    found = {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
    }
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class ProvenanceInfo:
    """Who made a package, when, out of what and with which tools.

    Args:
        package_id: The package: a name or `sha256:<hex>` of its manifest.
        creator: Person, organisation or tool.
        creation_time: With a time zone; now (or `SOURCE_DATE_EPOCH`) by default.
        source_url: Where the source was taken from.
        source_commit: Revision of that source.
        build_environment: Tool versions and settings; `capture` fills them in.
        description: Free text.
    """

    package_id: str
    creator: str
    creation_time: dt.datetime = field(default_factory=build_time)
    source_url: str | None = None
    source_commit: str | None = None
    build_environment: Mapping[str, str] = field(default_factory=dict[str, str])
    description: str = ""

    def __post_init__(self) -> None:
        Artifact.of(self.package_id)
        if self.creation_time.tzinfo is None:
            raise LineageError(
                f"creation_time {self.creation_time.isoformat()} has no time zone; use UTC"
            )
        for key, value in self.build_environment.items():
            # Settings often come from the environment, so types are not taken on trust.
            if not isinstance(key, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise LineageError(f"build_environment[{key!r}] must be text")

    @classmethod
    def capture(
        cls,
        package_id: str,
        creator: str,
        *,
        source_url: str | None = None,
        source_commit: str | None = None,
        settings: Mapping[str, str] | None = None,
        description: str = "",
    ) -> "ProvenanceInfo":
        """A record of this moment with the versions of the tools installed here."""
        return cls(
            package_id=package_id,
            creator=creator,
            source_url=source_url,
            source_commit=source_commit,
            build_environment={**tool_versions(), **(settings or {})},
            description=description,
        )

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "package": self.package_id,
            "creator": self.creator,
            "created": format_time(self.creation_time),
            "sourceUrl": self.source_url,
            "sourceCommit": self.source_commit,
            "environment": dict(self.build_environment),
            "description": self.description,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "ProvenanceInfo":
        """Read the JSON form."""
        environment = fields.nested("environment")
        info = cls(
            package_id=fields.string("package"),
            creator=fields.string("creator"),
            creation_time=read_time(fields, "created"),
            source_url=fields.optional_string("sourceUrl"),
            source_commit=fields.optional_string("sourceCommit"),
            build_environment={key: environment.string(key) for key in sorted(environment.left)},
            description=fields.string("description"),
        )
        fields.end()
        return info
