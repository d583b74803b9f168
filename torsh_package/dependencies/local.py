"""Dependencies that are already on this machine: package files, and installed distributions."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PipRequirement

from torsh_package.errors import DependencyError, PackageError
from torsh_package.requirement_syntax import DependencySpec

from .index import Candidate, ListIndex
from .lock import file_sha256
from .meaning import applies_to, current_platform, describe, satisfies

_SUFFIX = ".torshpkg"


class FolderIndex(ListIndex):
    """An index over the package files of a folder; each is verified when it is read.

    Args:
        folder: Folder with `*.torshpkg` files.

    Attributes:
        files: Key and version to path.

    Raises:
        DependencyError: when the folder or a package in it cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        super().__init__()
        self.files: dict[tuple[str, str], Path] = {}
        root = Path(folder)
        if not root.is_dir():
            raise DependencyError("is no folder", entry=str(folder))
        for path in sorted(root.glob(f"*{_SUFFIX}")):
            candidate = candidate_of(path)
            if (candidate.key, candidate.version) in self.files:
                raise DependencyError(
                    f"{candidate.name} {candidate.version} is also "
                    f"{self.files[candidate.key, candidate.version].name}",
                    entry=path.name,
                )
            self.files[candidate.key, candidate.version] = path
            self.add(candidate)


def candidate_of(path: Path) -> Candidate:
    """The package in a file as a candidate. Each of its optional dependencies is a feature."""
    from torsh_package.package import Package

    try:
        with Package.load(path) as package:
            optional = [spec.name for spec in package.dependencies if spec.optional]
            return Candidate(
                package.name,
                package.version,
                digest=file_sha256(path),
                dependencies=package.dependencies,
                features={name: (name,) for name in optional},
            )
    except PackageError as error:
        raise DependencyError(f"cannot be used: {error}", entry=path.name) from error


def installed_index(names: Iterable[str]) -> ListIndex:
    """An index over the installed distributions `names` and everything that they need."""
    index, queue, seen = ListIndex(), list(names), set[str]()
    while queue:
        name = queue.pop()
        spec = DependencySpec(name, "", kind="pip")
        key = Candidate(name, "0", "pip").key
        if key in seen:
            continue
        seen.add(key)
        try:
            found = metadata.distribution(spec.name)
        except metadata.PackageNotFoundError:
            continue
        needs = [need for text in found.requires or () if (need := _pip_spec(text)) is not None]
        index.add(Candidate(name, found.version, "pip", dependencies=needs))
        queue += [need.name for need in needs]
    return index


def _pip_spec(text: str) -> DependencySpec | None:
    """A `Requires-Dist` line; None for those that belong to an extra or another platform."""
    try:
        found = PipRequirement(text)
    except InvalidRequirement:
        return None
    if found.url is not None or (found.marker and not found.marker.evaluate({"extra": ""})):
        return None
    return DependencySpec(found.name, str(found.specifier), kind="pip")


@dataclass(frozen=True)
class Availability:
    """Whether one dependency can be had here.

    Args:
        spec: The dependency.
        version: What there is, or None.
        problem: Why that will not do, or None.
    """

    spec: DependencySpec
    version: str | None
    problem: str | None

    @property
    def fatal(self) -> bool:
        """Whether the package cannot be used: something required is missing."""
        return self.problem is not None and not self.spec.optional


def check_available(
    specs: Iterable[DependencySpec], packages: ListIndex | None = None
) -> list[Availability]:
    """Check each dependency against installed distributions and `packages`; no network.

    A missing optional dependency is reported and not fatal.
    """
    found: list[Availability] = []
    for spec in specs:
        if not applies_to(spec, current_platform()):
            continue
        versions = _versions(spec, packages)
        fitting = [version for version in versions if satisfies(spec, version)]
        if fitting:
            found.append(Availability(spec, fitting[-1], None))
        elif versions:
            problem = f"{describe(spec)} is needed, {', '.join(versions[:8])} is here"
            found.append(Availability(spec, versions[-1], problem))
        else:
            found.append(Availability(spec, None, f"{describe(spec)} is not here"))
    return found


def _versions(spec: DependencySpec, packages: ListIndex | None) -> list[str]:
    if spec.kind == "pip":
        try:
            return [metadata.version(spec.name)]
        except metadata.PackageNotFoundError:
            return []
    key = Candidate(spec.name, "0.0.0").key
    return [c.version for c in packages.candidates(key)] if packages is not None else []
