"""Semantic versions and Cargo-style requirements.

Versions follow semver.org 2.0.0 (precedence: section 11). Requirements follow the Cargo Book,
"Specifying Dependencies": caret (the default), tilde, wildcard, comparison, and comma for "and";
a pre-release is chosen only where a comparator with the same major.minor.patch names one.
"""

import re
from dataclasses import dataclass
from functools import total_ordering

from torsh_package.errors import DependencyError

_MAX_TEXT = 256  # no version needs more; keeps the regular expressions and messages bounded
_NUMBER = r"(0|[1-9][0-9]{0,15})"
_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_IDENTIFIERS}))?(?:\+({_IDENTIFIERS}))?", re.ASCII
)
_COMPARATOR = re.compile(
    rf"(\^|~|=|>=|<=|>|<)?\s*{_NUMBER}"
    rf"(?:\.({_NUMBER[1:-1]}|[*xX]))?(?:\.({_NUMBER[1:-1]}|[*xX]))?"
    rf"(?:-({_IDENTIFIERS}))?(?:\+{_IDENTIFIERS})?",
    re.ASCII,
)


@total_ordering
@dataclass(frozen=True, eq=False)
class Version:
    """A semantic version; ordered by precedence, so build metadata does not count."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()
    build: str = ""

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Read `major.minor.patch[-prerelease][+build]`.

        Raises:
            DependencyError: when `text` is no semantic version.
        """
        match = _VERSION.fullmatch(text) if len(text) <= _MAX_TEXT else None
        if match is None:
            raise DependencyError(
                f"{text[:80]!r} is no semantic version; write major.minor.patch, as in 1.0.0"
            )
        prerelease = tuple(match[4].split(".")) if match[4] else ()
        for identifier in prerelease:
            if identifier.isdigit() and len(identifier) > 1 and identifier[0] == "0":
                raise DependencyError(f"{text!r}: pre-release number {identifier!r} starts with 0")
        return cls(int(match[1]), int(match[2]), int(match[3]), prerelease, match[5] or "")

    @property
    def release(self) -> tuple[int, int, int]:
        """(major, minor, patch)."""
        return (self.major, self.minor, self.patch)

    def _key(self) -> tuple[tuple[int, int, int], int, tuple[tuple[int, int, str], ...]]:
        identifiers = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.prerelease
        )
        return (self.release, 0 if self.prerelease else 1, identifiers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __lt__(self, other: "Version") -> bool:
        return self._key() < other._key()

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        text += "-" + ".".join(self.prerelease) if self.prerelease else ""
        return text + (f"+{self.build}" if self.build else "")


@dataclass(frozen=True)
class Comparator:
    """One bound: `op` is one of `>=`, `<`, `>`, `<=`."""

    op: str
    version: Version

    def admits(self, version: Version) -> bool:
        """Whether `version` is on the right side of the bound."""
        match self.op:
            case ">=":
                return version >= self.version
            case ">":
                return version > self.version
            case "<=":
                return version <= self.version
            case _:
                return version < self.version


@dataclass(frozen=True)
class Requirement:
    """A conjunction of bounds, as written in `text`."""

    text: str
    comparators: tuple[Comparator, ...]

    @classmethod
    def parse(cls, text: str) -> "Requirement":
        """Read a Cargo requirement such as `^0.1.0`, `~1.2`, `1.*`, `>=1.2, <1.5`.

        Raises:
            DependencyError: when any comma-separated part is malformed.
        """
        if len(text) > _MAX_TEXT:
            raise DependencyError(
                f"the requirement has {len(text)} characters; the limit is {_MAX_TEXT}"
            )
        parts = [part.strip() for part in text.split(",")]
        bounds = tuple(bound for part in parts for bound in _parse_part(part, text))
        return cls(text.strip(), bounds)

    def matches(self, version: Version) -> bool:
        """Whether `version` satisfies every bound, with Cargo's rule for pre-releases."""
        if not all(bound.admits(version) for bound in self.comparators):
            return False
        return not version.prerelease or any(
            bound.version.prerelease and bound.version.release == version.release
            for bound in self.comparators
        )

    def __str__(self) -> str:
        return self.text


def _bump(release: tuple[int, int, int], position: int) -> Version:
    """The release in which the number at `position` is one higher and the later ones are 0."""
    numbers = [*release[:position], release[position] + 1, 0, 0]
    return Version(numbers[0], numbers[1], numbers[2])


def _parse_part(part: str, text: str) -> tuple[Comparator, ...]:
    if part == "*":
        return ()
    match = _COMPARATOR.fullmatch(part)
    if match is None:
        raise DependencyError(
            f"{text!r}: {part!r} is no version requirement; "
            "write one such as ^0.1.0, ~1.2, =1.0.3, 1.* or >=1.2, <2"
        )
    op = match[1] or "^"
    wild = any(match[i] in ("*", "x", "X") for i in (3, 4))
    given = [int(match[2])]
    for index in (3, 4):
        if match[index] is None or match[index] in ("*", "x", "X"):
            if index == 3 and match[4] is not None and match[4] not in ("*", "x", "X"):
                raise DependencyError(f"{text!r}: a number may not follow a wildcard in {part!r}")
            break
        given.append(int(match[index]))
    if wild and (match[1] not in (None, "=") or match[5]):
        raise DependencyError(f"{text!r}: a wildcard takes no {match[1] or 'pre-release'!r}")
    if match[5] and len(given) < 3:
        raise DependencyError(f"{text!r}: a pre-release needs major.minor.patch before it")
    prerelease = Version.parse(f"0.0.0-{match[5]}").prerelease if match[5] else ()
    return _bounds("=" if wild else op, given, prerelease)


def _bounds(op: str, given: list[int], prerelease: tuple[str, ...]) -> tuple[Comparator, ...]:
    """The bounds that `op` puts on the `given` one to three numbers."""
    major, minor, patch = (*given, 0, 0)[:3]
    release = (major, minor, patch)
    low = Version(major, minor, patch, prerelease)
    last = len(given) - 1
    match op:
        case "^":
            first_nonzero = next((i for i, number in enumerate(given) if number), last)
            return (Comparator(">=", low), Comparator("<", _bump(release, first_nonzero)))
        case "~":
            return (Comparator(">=", low), Comparator("<", _bump(release, min(last, 1))))
        case "=":
            if last == 2:
                return (Comparator(">=", low), Comparator("<=", low))
            return (Comparator(">=", low), Comparator("<", _bump(release, last)))
        case ">" if last < 2:
            return (Comparator(">=", _bump(release, last)),)
        case "<=" if last < 2:
            return (Comparator("<", _bump(release, last)),)
        case _:
            return (Comparator(op, low),)
