"""What a conversion did, for people and for the package's own record."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from torsh_package.canonical_json import JsonObject, JsonValue

from .checkpoint import Fact, Skipped
from .contents import Contents, PackageFormat
from .foreign_zip import map_file

_MAX_ROWS = 4_096
_CHUNK = 4 << 20


@dataclass
class ConversionReport:
    """Source, result, and everything that differs between them.

    Args:
        source: File or folder name (no path: it is stored in the package).
        source_sha256: SHA-256 of the source file; of the sorted `name, digest` list of a folder.
        format: Detected format.
        flavour: Which kind of it.
        tensors: Number of tensors in `weights`.
        extra_tensors: Number of tensors in `extra_tensors`.
        skipped: What was left out, with reasons.
        notes: Differences that a user should know.
        facts: Plain values found beside the tensors.
        modules: Class of each module by its path.
        environment: Versions of the tools involved, as far as they are known.
        program: Which converter added a program, or None.
    """

    source: str
    source_sha256: str
    format: PackageFormat
    flavour: str
    tensors: int
    extra_tensors: int
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    notes: list[str] = field(default_factory=list[str])
    facts: dict[str, Fact] = field(default_factory=dict[str, Fact])
    modules: dict[str, str] = field(default_factory=dict[str, str])
    environment: dict[str, str] = field(default_factory=dict[str, str])
    program: str | None = None

    @classmethod
    def of(cls, path: Path, contents: Contents) -> "ConversionReport":
        """The report on `contents` read from `path`."""
        return cls(
            source=path.name,
            source_sha256=digest_of(path),
            format=contents.format,
            flavour=contents.flavour,
            tensors=len(contents.weights),
            extra_tensors=len(contents.extra),
            skipped=list(contents.skipped),
            notes=list(contents.notes),
            facts=dict(contents.facts),
            modules=dict(contents.modules),
            environment=dict(contents.environment),
        )

    def origin(self) -> JsonObject:
        """The manifest's `migrated_from`."""
        return {
            "format": str(self.format),
            "flavour": self.flavour,
            "source": self.source,
            "sha256": self.source_sha256,
            "environment": dict(self.environment),
        }

    def to_json(self) -> JsonObject:
        """The document that the package keeps. Floats become text: the package has none."""
        skipped: list[JsonValue] = [
            {"where": s.where, "what": s.what, "why": s.why, "count": s.count}
            for s in self.skipped[:_MAX_ROWS]
        ]
        return {
            **self.origin(),
            "tensors": self.tensors,
            "extra_tensors": self.extra_tensors,
            "skipped": skipped,
            "notes": list(self.notes),
            "facts": {key: _plain(value) for key, value in self.facts.items()},
            "modules": dict(list(self.modules.items())[:_MAX_ROWS]),
            "program": self.program,
        }

    def summary(self) -> str:
        """A few lines for people."""
        lines = [f"{self.source}: {self.flavour}, {self.tensors} tensors in 'weights'"]
        if self.extra_tensors:
            lines.append(f"{self.extra_tensors} further tensors in 'extra_tensors'")
        lines.append(f"program: {self.program or 'none (no converter for it is installed)'}")
        lines += [f"note: {note}" for note in self.notes]
        for row in self.skipped:
            times = f" ({row.count} times)" if row.count > 1 else ""
            lines.append(f"skipped {row.what} at {row.where or 'the top'}{times}: {row.why}")
        return "\n".join(lines)


def _plain(value: Fact) -> JsonValue:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 53:
        return hex(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def digest_of(path: Path) -> str:
    """SHA-256, hex, of a file, or of the sorted `name, digest` list of a folder's files."""
    if not path.is_dir():
        data, total = map_file(path), hashlib.sha256()
        for start in range(0, data.nbytes, _CHUNK):
            total.update(data[start : start + _CHUNK].data)
        return total.hexdigest()
    from .confined import ConfinedFolder

    folder, total = ConfinedFolder(path), hashlib.sha256()
    for name in folder.names():
        digest = hashlib.sha256(folder.map(name).data).hexdigest()
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()
