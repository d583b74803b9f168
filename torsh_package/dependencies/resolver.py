"""Chooses one version of each needed package, newest first, and explains when it cannot.

The search is `resolvelib` (the backtracking resolver of pip); this file says what requirements
and candidates are. A candidate with features is a candidate of its own (`name[feature]`) that
depends on the same version without them, as pip does for extras.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import resolvelib

from torsh_package.errors import DependencyError
from torsh_package.requirement_syntax import DependencySpec

from .index import Candidate, Index
from .meaning import (
    AnyVersion,
    applies_to,
    current_platform,
    describe,
    parse_version,
    satisfies,
    spec_key,
)

_MAX_ROUNDS = 20_000
_ROOT = "this package"


@dataclass(frozen=True)
class Need:
    """A requirement together with who has it."""

    spec: DependencySpec
    parent: str

    @property
    def identity(self) -> tuple[str, tuple[str, ...]]:
        """Key and features."""
        return spec_key(self.spec), tuple(sorted(set(self.spec.features)))


@dataclass(frozen=True)
class Choice:
    """A candidate with the features that are switched on."""

    candidate: Candidate
    features: tuple[str, ...]

    @property
    def label(self) -> str:
        """`name version`, for messages."""
        return f"{self.candidate.name} {self.candidate.version}"


@dataclass(frozen=True)
class Resolution:
    """What was chosen.

    Args:
        chosen: Key to candidate, dependencies before dependents where the graph allows.
        features: Key to the features that are switched on.
        absent: Optional requirements of the root that were left out, with the reason.
    """

    chosen: Mapping[str, Candidate]
    features: Mapping[str, tuple[str, ...]]
    absent: tuple[tuple[DependencySpec, str], ...] = ()


class _Provider(resolvelib.AbstractProvider[Need, Choice, tuple[str, tuple[str, ...]]]):
    def __init__(self, index: Index, platform: str, locked: Mapping[str, str]):
        self._index = index
        self._platform = platform
        self._locked = locked

    def identify(self, requirement_or_candidate: Need | Choice) -> tuple[str, tuple[str, ...]]:
        if isinstance(requirement_or_candidate, Need):
            return requirement_or_candidate.identity
        return requirement_or_candidate.candidate.key, requirement_or_candidate.features

    def get_preference(
        self,
        identifier: tuple[str, tuple[str, ...]],
        resolutions: Mapping[Any, Choice],
        candidates: Mapping[Any, Iterator[Choice]],
        information: Mapping[Any, Iterator[Any]],
        backtrack_causes: Sequence[Any],
    ) -> tuple[bool, int, str]:
        """Conflicts first, then what has the fewest candidates; names break ties."""
        in_conflict = any(self.identify(c.requirement) == identifier for c in backtrack_causes)
        return (not in_conflict, sum(1 for _ in candidates[identifier]), str(identifier))

    def find_matches(
        self,
        identifier: tuple[str, tuple[str, ...]],
        requirements: Mapping[Any, Iterator[Need]],
        incompatibilities: Mapping[Any, Iterator[Choice]],
    ) -> Iterable[Choice]:
        key, features = identifier
        needs = list(requirements[identifier])
        refused = {c.candidate.version for c in incompatibilities[identifier]}
        locked = self._locked.get(key)

        def order(candidate: Candidate) -> tuple[bool, AnyVersion]:
            return candidate.version == locked, parse_version(candidate.kind, candidate.version)

        fitting = [
            candidate
            for candidate in self._index.candidates(key)
            if candidate.version not in refused
            and (not candidate.yanked or candidate.version == locked)
            and all(satisfies(need.spec, candidate.version) for need in needs)
            and (candidate.kind == "pip" or set(features) <= set(candidate.features))
        ]
        return [Choice(c, features) for c in sorted(fitting, key=order, reverse=True)]

    def is_satisfied_by(self, requirement: Need, candidate: Choice) -> bool:
        return satisfies(requirement.spec, candidate.candidate.version)

    def get_dependencies(self, candidate: Choice) -> Iterable[Need]:
        chosen, label = candidate.candidate, candidate.label
        if candidate.features:
            exact = DependencySpec(
                chosen.name, f"{'=' if chosen.kind == 'torsh' else '=='}{chosen.version}",
                kind=chosen.kind,
            )  # fmt: skip
            yield Need(exact, label)
        wanted = {name for f in candidate.features for name in chosen.features.get(f, ())}
        for spec in chosen.dependencies:
            needed = spec.name in wanted if spec.optional else not candidate.features
            if needed and applies_to(spec, self._platform):
                yield Need(spec, label)


def resolve(
    specs: Iterable[DependencySpec],
    index: Index,
    *,
    enable: Iterable[str] = (),
    platform: str | None = None,
    locked: Mapping[str, str] | None = None,
) -> Resolution:
    """Choose versions for `specs` and everything that they need.

    Args:
        specs: Requirements of the root package.
        index: Where candidates come from.
        enable: Names of optional requirements of the root to include.
        platform: `os-machine` to resolve for; this machine by default.
        locked: Key to version that is preferred while it still satisfies everything.

    Raises:
        DependencyError: with an explanation, when no choice satisfies all requirements.
    """
    wanted, platform = set(enable), platform or current_platform()
    needs: list[Need] = []
    absent: list[tuple[DependencySpec, str]] = []
    for spec in specs:
        if not applies_to(spec, platform):
            absent.append((spec, f"not needed on {platform}"))
        elif spec.optional and spec.name not in wanted:
            absent.append((spec, "optional and not enabled"))
        else:
            needs.append(Need(spec, _ROOT))
    provider = _Provider(index, platform, locked or {})
    resolver: resolvelib.Resolver[Need, Choice, tuple[str, tuple[str, ...]]] = resolvelib.Resolver(
        provider, resolvelib.BaseReporter()
    )
    try:
        result = resolver.resolve(needs, max_rounds=_MAX_ROUNDS)
    except resolvelib.ResolutionImpossible as error:
        needs = [cause.requirement for cause in error.causes]
        raise DependencyError(_explain(needs, index)) from error
    except resolvelib.ResolutionTooDeep as error:
        raise DependencyError(
            f"resolving took more than {_MAX_ROUNDS} rounds; pin some versions"
        ) from error
    return _collect(result.mapping, tuple(absent))


def _collect(
    mapping: Mapping[tuple[str, tuple[str, ...]], Choice],
    absent: tuple[tuple[DependencySpec, str], ...],
) -> Resolution:
    chosen: dict[str, Candidate] = {}
    features: dict[str, set[str]] = {}
    for (key, names), choice in sorted(mapping.items()):
        chosen[key] = choice.candidate
        features.setdefault(key, set()).update(names)
    return Resolution(chosen, {k: tuple(sorted(v)) for k, v in features.items()}, absent)


def _explain(needs: Sequence[Need], index: Index) -> str:
    """Who asks for what, and what there is."""
    lines = ["no set of versions satisfies all requirements:"]
    lines += sorted({f"  {need.parent} needs {describe(need.spec)}" for need in needs})
    for key in sorted({need.identity[0] for need in needs}):
        found = index.candidates(key)
        name = key.partition(":")[2]
        if not found:
            lines.append(f"  {name} is unknown to the index")
            continue
        ordered = sorted(found, key=lambda c: parse_version(c.kind, c.version))
        shown = [c.version + (" (yanked)" if c.yanked else "") for c in ordered[-8:]]
        more = f" and {len(found) - 8} older" if len(found) > 8 else ""
        lines.append(f"  {name} exists as {', '.join(shown)}{more}")
        lines += _missing_features(needs, key, ordered)
    lines.append("  loosen one of these requirements, or add a version that fits")
    return "\n".join(lines)


def _missing_features(needs: Sequence[Need], key: str, found: Sequence[Candidate]) -> list[str]:
    asked = {f for need in needs if need.identity[0] == key for f in need.spec.features}
    known = {feature for candidate in found for feature in candidate.features}
    unknown = sorted(asked - known) if key.startswith("torsh:") else []
    return [f"  no version has the feature {feature!r}" for feature in unknown]
