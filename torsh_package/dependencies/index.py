"""Where candidates come from: what exists, in which versions, needing what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torsh_package.requirement_syntax import DependencySpec

from .meaning import normalize_name, parse_version


@dataclass(frozen=True)
class Candidate:
    """One version of one package.

    Args:
        name: As published.
        version: Semantic (torsh) or PEP 440 (pip).
        kind: `torsh` or `pip`.
        digest: SHA-256 of its file, hex; empty when it is not known.
        dependencies: What it needs itself. Optional ones count only when a feature names them.
        features: Feature name to the names of optional dependencies that it switches on.
        yanked: Withdrawn: only a lock file may still choose it.
    """

    name: str
    version: str
    kind: str = "torsh"
    digest: str = ""
    dependencies: Sequence[DependencySpec] = ()
    features: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    yanked: bool = False

    @property
    def key(self) -> str:
        """Identity for resolving: kind and normalised name."""
        return f"{self.kind}:{normalize_name(self.name)}"


class Index(Protocol):
    """A source of candidates."""

    def candidates(self, key: str) -> Sequence[Candidate]:
        """All versions of the package with this key, in any order; empty when unknown."""
        ...


class ListIndex:
    """An index over candidates that are given; nothing is fetched.

    Raises:
        DependencyError: when a version is malformed.
    """

    def __init__(self, candidates: Iterable[Candidate] = ()):
        self._by_key: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            self.add(candidate)

    def add(self, candidate: Candidate) -> None:
        """Make `candidate` known."""
        parse_version(candidate.kind, candidate.version)
        self._by_key.setdefault(candidate.key, []).append(candidate)

    def candidates(self, key: str) -> Sequence[Candidate]:
        """All versions of the package with this key."""
        return self._by_key.get(key, ())
