"""One dependency of a package, as the manifest and guide B write it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion
from packaging.version import Version as PipVersion

from torsh_package.errors import DependencyError
from .semver import Requirement, Version

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?", re.ASCII)
_FEATURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,127}", re.ASCII)
_PLATFORM = re.compile(r"[a-z0-9_*]+(?:-[a-z0-9_*]+)*", re.ASCII)


class DependencyKind(StrEnum):
    """Which world a dependency lives in, and so which version rules it follows."""

    TORSH = "torsh"  # another package: semantic versions, Cargo requirements
    PIP = "pip"  # a Python distribution: PEP 440


@dataclass(frozen=True)
class DependencySpec:
    """A requirement on another package or on a Python distribution.

    Args:
        name: Letters, digits, `.`, `_` and `-`; compared after PEP 503 normalisation.
        version_req: Cargo requirement (`^0.1.0`) for torsh, PEP 440 (`>=2,<3`) for pip.
        optional: Not needed unless a feature asks for it; its absence is reported, not fatal.
        features: Features of the dependency to switch on (extras for pip).
        platform: Where it is needed, as `os`, `os-machine` (`linux-x86_64`, `*` as a wildcard);
            None means everywhere.
        kind: `torsh` or `pip`.

    Raises:
        DependencyError: when a field is malformed.
    """

    name: str
    version_req: str = "*"
    optional: bool = False
    features: Sequence[str] = field(default=())
    platform: str | None = None
    kind: DependencyKind = DependencyKind.TORSH

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DependencyError(
                f"dependency name {self.name[:80]!r} must be 1-128 letters, digits, '.', '_' or "
                "'-', and start and end with a letter or digit"
            )
        object.__setattr__(self, "kind", DependencyKind(self.kind))
        object.__setattr__(self, "features", tuple(self.features))
        for feature in self.features:
            if not _FEATURE.fullmatch(feature):
                raise DependencyError(f"{self.name}: feature {feature[:80]!r} is malformed")
        if self.platform is not None and not _PLATFORM.fullmatch(self.platform):
            raise DependencyError(
                f"{self.name}: platform {self.platform[:80]!r} must look like linux-x86_64"
            )
        self._parse_requirement()

    def _parse_requirement(self) -> Requirement | SpecifierSet:
        if self.kind is DependencyKind.TORSH:
            return Requirement.parse(self.version_req)
        try:
            return SpecifierSet("" if self.version_req == "*" else self.version_req)
        except InvalidSpecifier as error:
            raise DependencyError(
                f"{self.name}: {self.version_req[:80]!r} is no PEP 440 requirement; "
                "write one such as >=2.0,<3"
            ) from error

    @property
    def key(self) -> str:
        """Identity for resolving: kind and PEP 503 normalised name."""
        return f"{self.kind}:{normalize_name(self.name)}"

    def matches(self, version: str) -> bool:
        """Whether `version` satisfies the requirement.

        Raises:
            DependencyError: when `version` is malformed for this kind.
        """
        requirement = self._parse_requirement()
        if isinstance(requirement, Requirement):
            return requirement.matches(Version.parse(version))
        return requirement.contains(parse_pip_version(version))

    def applies_to(self, platform: str) -> bool:
        """Whether the dependency is needed on `platform` (as `current_platform()` spells it)."""
        if self.platform is None:
            return True
        wanted, actual = self.platform.split("-"), platform.split("-")
        pairs = zip(wanted, actual, strict=False)
        return len(wanted) <= len(actual) and all(w in ("*", a) for w, a in pairs)

    def to_json(self) -> dict[str, object]:
        """The object that the manifest holds; every key is always present."""
        return {
            "name": self.name,
            "req": self.version_req,
            "kind": str(self.kind),
            "optional": self.optional,
            "features": list(self.features),
            "platform": self.platform,
        }

    def __str__(self) -> str:
        features = f"[{','.join(self.features)}]" if self.features else ""
        return f"{self.name}{features} {self.version_req}"


def normalize_name(name: str) -> str:
    """PEP 503 normal form: lower case, runs of `-`, `_`, `.` become one `-`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_pip_version(text: str) -> PipVersion:
    """A PEP 440 version; raises DependencyError when malformed."""
    try:
        return PipVersion(text)
    except InvalidVersion as error:
        raise DependencyError(f"{text[:80]!r} is no PEP 440 version") from error


def version_key(kind: DependencyKind, text: str) -> Version | PipVersion:
    """The sortable version of a candidate of `kind`."""
    return Version.parse(text) if kind is DependencyKind.TORSH else parse_pip_version(text)
