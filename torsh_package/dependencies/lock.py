"""The lock file: exact versions and digests of everything that was resolved.

It is canonical JSON (equal resolutions give equal bytes) and lies in a package as
`dependencies/lock.json`. Checking it needs no network.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torsh_package.canonical_json import JsonObject, JsonValue, dumps, loads
from torsh_package.errors import DependencyError, PackageError
from torsh_package.requirement_syntax import DependencySpec
from torsh_package.schema import Fields

from .index import Candidate
from .meaning import applies_to, current_platform, describe, parse_version, satisfies, spec_key
from .resolver import Resolution

LOCK_DOCUMENT = "lock.json"
_FORMAT, _VERSION = "torshpkg-lock", 1
_MAX_BYTES = 16 << 20
_MAX_ROWS = 65_536
_CHUNK = 4 << 20


@dataclass(frozen=True)
class LockedPackage:
    """One exact version.

    Args:
        name: As published.
        version: Exact version.
        kind: `torsh` or `pip`.
        digest: SHA-256 of its file, hex; empty when the index knew none.
        features: Features that are switched on.
        dependencies: Keys of the packages that it needs.
    """

    name: str
    version: str
    kind: str
    digest: str
    features: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Identity: kind and normalised name."""
        return spec_key(DependencySpec(self.name, kind=self.kind))

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.kind,
            "sha256": self.digest,
            "features": list(self.features),
            "dependencies": list(self.dependencies),
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "LockedPackage":
        """Reads and checks the JSON form."""
        found = cls(
            fields.string("name"),
            fields.string("version"),
            fields.choice("kind", frozenset({"torsh", "pip"})),
            fields.string("sha256"),
            fields.strings("features", _MAX_ROWS),
            fields.strings("dependencies", _MAX_ROWS),
        )
        fields.end()
        DependencySpec(found.name, "*" if found.kind == "torsh" else "", kind=found.kind).check()
        parse_version(found.kind, found.version)
        if found.digest and not _is_sha256(found.digest):
            raise fields.error("sha256", "is no SHA-256 in hex")
        return found


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


@dataclass(frozen=True)
class LockFile:
    """A whole resolution.

    Args:
        requirements: What was asked for: `name[features] requirement`, sorted.
        platform: `os-machine` that it was resolved for.
        packages: By key.
    """

    requirements: tuple[str, ...]
    platform: str
    packages: Mapping[str, LockedPackage]

    @classmethod
    def of(
        cls,
        specs: Iterable[DependencySpec],
        resolution: Resolution,
        platform: str | None = None,
    ) -> "LockFile":
        """The lock of a resolution of `specs`."""
        packages = {
            key: _locked(candidate, resolution) for key, candidate in resolution.chosen.items()
        }
        wanted = tuple(sorted(f"{s.kind}:{describe(s)}" for s in specs))
        return cls(wanted, platform or current_platform(), packages)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        rows: list[JsonValue] = [self.packages[key].to_json() for key in sorted(self.packages)]
        return dumps({
            "format": _FORMAT,
            "version": _VERSION,
            "requirements": list(self.requirements),
            "platform": self.platform,
            "packages": rows,
        })  # fmt: skip

    @classmethod
    def parse(cls, raw: bytes) -> "LockFile":
        """Read a lock file.

        Raises:
            DependencyError: when it is malformed or of a later format.
        """
        try:
            fields = Fields(loads(raw, entry=LOCK_DOCUMENT, limit=_MAX_BYTES), "lock")
            if fields.string("format") != _FORMAT or fields.integer("version") != _VERSION:
                raise DependencyError(f"is no {_FORMAT} of version {_VERSION}", entry=LOCK_DOCUMENT)
            found = cls(
                fields.strings("requirements", _MAX_ROWS),
                fields.string("platform"),
                {p.key: p for p in fields.items("packages", _MAX_ROWS, LockedPackage.from_json)},
            )
            fields.end()
        except DependencyError:
            raise
        except PackageError as error:
            raise DependencyError(error.message, entry=LOCK_DOCUMENT) from error
        return found

    def versions(self) -> dict[str, str]:
        """Key to version: the `locked` argument of `resolve`."""
        return {key: package.version for key, package in self.packages.items()}

    def check(self, specs: Iterable[DependencySpec], enable: Iterable[str] = ()) -> list[str]:
        """What is wrong with the lock for `specs`; empty when it satisfies all of them."""
        wanted, problems = set(enable), list[str]()
        for spec in specs:
            if (spec.optional and spec.name not in wanted) or not applies_to(spec, self.platform):
                continue
            locked = self.packages.get(spec_key(spec))
            if locked is None:
                problems.append(f"{describe(spec)} is not locked")
            elif not satisfies(spec, locked.version):
                problems.append(f"{describe(spec)} is locked as {locked.version}")
        for package in self.packages.values():
            missing = [key for key in package.dependencies if key not in self.packages]
            problems += [f"{package.name} needs {key}, which is not locked" for key in missing]
        return problems

    def check_files(self, files: Mapping[str, str | os.PathLike[str]]) -> list[str]:
        """What is wrong with `files` (key to path) by their digests; never uses the network."""
        problems: list[str] = []
        for key, package in sorted(self.packages.items()):
            if key not in files:
                problems.append(f"{package.name} {package.version} has no file")
            elif not package.digest:
                problems.append(f"{package.name} {package.version} was locked without a digest")
            elif (found := file_sha256(files[key])) != package.digest:
                problems.append(f"{files[key]} has SHA-256 {found}, locked is {package.digest}")
        return problems


def _locked(candidate: Candidate, resolution: Resolution) -> LockedPackage:
    needs = {spec_key(spec) for spec in candidate.dependencies}
    return LockedPackage(
        candidate.name,
        candidate.version,
        candidate.kind,
        candidate.digest,
        resolution.features.get(candidate.key, ()),
        tuple(sorted(needs & resolution.chosen.keys())),
    )


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hex; DependencyError when it cannot be read."""
    total = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                total.update(chunk)
    except OSError as error:
        raise DependencyError(f"cannot be read: {error.strerror}", entry=str(path)) from error
    return total.hexdigest()
