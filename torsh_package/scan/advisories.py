"""Known vulnerabilities of dependencies, from a file in the OSV format. No network.

Source of the format and of the evaluation of ranges: https://ossf.github.io/osv-schema/.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torsh_package.convert import strict_json
from torsh_package.convert.strict_json import JsonValue
from torsh_package.dependencies.lock import LockedPackage, LockFile
from torsh_package.dependencies.meaning import (
    AnyVersion,
    describe,
    is_before,
    normalize_name,
    parse_version,
    satisfies,
)
from torsh_package.errors import DependencyError, InvalidArgumentError, PackageError, StorageError
from torsh_package.limits import MIB
from torsh_package.requirement_syntax import DependencySpec

from .cvss import cvss3_score, severity_of_score
from .findings import Finding, Severity

_MAX_BYTES = 512 * MIB
_KINDS = {"pypi": "pip", "torsh": "torsh", "crates.io": "torsh"}
_EVENTS = ("introduced", "fixed", "last_affected", "limit")


@dataclass(frozen=True)
class Event:
    """A change in a range: `introduced`, `fixed`, `last_affected` or `limit` at a version."""

    kind: str
    version: str


@dataclass(frozen=True)
class Affected:
    """Which versions of one package an advisory concerns.

    Args:
        kind: `pip` or `torsh`.
        name: Normalised package name.
        versions: Versions that are listed one by one.
        ranges: Ranges, each a sequence of events.
    """

    kind: str
    name: str
    versions: frozenset[str]
    ranges: tuple[tuple[Event, ...], ...]

    def includes(self, version: str) -> bool:
        """Whether `version` is affected."""
        parsed = parse_version(self.kind, version)
        if any(_same(self.kind, listed, parsed) for listed in self.versions):
            return True
        return any(_in_range(self.kind, version, events) for events in self.ranges)

    def points(self) -> Iterator[str]:
        """Versions at which an affected stretch begins or ends, and the listed ones."""
        yield from self.versions
        for events in self.ranges:
            for event in events:
                if event.kind in ("introduced", "last_affected"):
                    yield _zero(self.kind) if event.version == "0" else event.version


def _same(kind: str, listed: str, version: AnyVersion) -> bool:
    """Whether a listed version is `version`; lists hold spellings that are no versions."""
    try:
        return parse_version(kind, listed) == version
    except DependencyError:
        return False


def _zero(kind: str) -> str:
    return "0" if kind == "pip" else "0.0.0"


def _in_range(kind: str, version: str, events: tuple[Event, ...]) -> bool:
    """OSV's evaluation: go through the events in version order and remember the state."""
    limits = [e.version for e in events if e.kind == "limit" and e.version != "*"]
    if limits and not any(is_before(kind, version, limit) for limit in limits):
        return False
    affected = False
    for event in sorted(events, key=lambda e: _order(kind, e)):
        at = _zero(kind) if event.version in ("0", "*") else event.version
        if event.kind == "introduced":
            affected = affected or event.version == "0" or not is_before(kind, version, at)
        elif event.kind == "fixed":
            affected = affected and is_before(kind, version, at)
        elif event.kind == "last_affected":
            affected = affected and not is_before(kind, at, version)
    return affected


def _order(kind: str, event: Event) -> tuple[AnyVersion, int]:
    text = _zero(kind) if event.version in ("0", "*") else event.version
    return parse_version(kind, text), 0 if event.kind == "fixed" else 1


@dataclass(frozen=True)
class Advisory:
    """One vulnerability.

    Args:
        id: OSV id.
        aliases: Other ids (CVE-...).
        summary: One line.
        severity: From the CVSS 3 vector or the database's own word; HIGH when there is neither.
        affected: What it concerns.
    """

    id: str
    aliases: tuple[str, ...]
    summary: str
    severity: Severity
    affected: tuple[Affected, ...]


class AdvisoryDatabase:
    """Advisories by package.

    Args:
        advisories: The advisories.
        ignored: Records that concern other ecosystems or were withdrawn.
        problems: Records that could not be read; scans report them as not scanned.
    """

    def __init__(
        self,
        advisories: Iterable[Advisory],
        ignored: int = 0,
        problems: Iterable[str] = (),
    ):
        self.ignored = ignored
        self.problems = tuple(problems)
        self._by_package: dict[tuple[str, str], list[tuple[Advisory, Affected]]] = {}
        self.count = 0
        for advisory in advisories:
            self.count += 1
            for affected in advisory.affected:
                key = (affected.kind, affected.name)
                self._by_package.setdefault(key, []).append((advisory, affected))

    @classmethod
    def load(cls, path: str | Path) -> "AdvisoryDatabase":
        """Read a file with one OSV record, a list of them, or `{"vulns": [...]}`.

        Raises:
            StorageError: when it cannot be read.
            InvalidArgumentError: when it is malformed.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror}", entry=str(path)) from error
        if len(raw) > _MAX_BYTES:
            raise InvalidArgumentError(f"{len(raw)} bytes; the limit is {_MAX_BYTES}")
        try:
            return cls.parse(raw, str(path))
        except PackageError as error:
            raise InvalidArgumentError(f"is no OSV file: {error}", entry=str(path)) from error

    @classmethod
    def parse(cls, raw: bytes, entry: str = "advisories") -> "AdvisoryDatabase":
        """Read the same from bytes."""
        value = strict_json.loads(raw, entry=entry)
        if isinstance(value, dict) and "vulns" in value:
            value = value["vulns"]
        rows = value if isinstance(value, list) else [value]
        known: list[Advisory] = []
        problems: list[str] = []
        ignored = 0
        for row in rows:
            try:
                advisory = _advisory(row)
            except DependencyError as error:
                label = row.get("id") if isinstance(row, dict) else None
                problems.append(f"advisory {str(label)[:80]}: {error.message[:200]}")
                continue
            if advisory is None or not advisory.affected:
                ignored += 1
            else:
                known.append(advisory)
        return cls(known, ignored, problems)

    def check_version(self, kind: str, name: str, version: str) -> Iterator[Advisory]:
        """Advisories that concern exactly this version."""
        for advisory, affected in self._by_package.get((kind, normalize_name(name)), ()):
            if affected.includes(version):
                yield advisory

    def check_requirement(self, spec: DependencySpec) -> Iterator[tuple[Advisory, str]]:
        """Advisories that concern a version which `spec` admits, with such a version.

        If an affected stretch and the requirement overlap, then the lower end of one lies in the
        other, so that only those ends are tried.
        """
        for advisory, affected in self._by_package.get((spec.kind, normalize_name(spec.name)), ()):
            points = [*affected.points(), *_lower_ends(spec)]
            for point in points:
                if _admits(spec, point) and affected.includes(point):
                    yield advisory, point
                    break


def _admits(spec: DependencySpec, version: str) -> bool:
    """Whether `spec` admits `version`; ends made from pre-releases may be no versions."""
    try:
        return satisfies(spec, version)
    except DependencyError:
        return False


def _lower_ends(spec: DependencySpec) -> Iterator[str]:
    """Versions that the requirement names, and the next ones after them."""
    for part in spec.version_req.split(","):
        text = part.strip().lstrip("^~=<>! ").removesuffix(".*").replace(".x", "").strip()
        if not text or text == "*":
            yield _zero(spec.kind)
            continue
        if spec.kind == "torsh":
            core, dash, tail = text.partition("-")
            numbers = [*core.split("."), "0", "0"][:3]
            if all(number.isdigit() for number in numbers):
                yield ".".join(numbers) + dash + tail
                yield f"{numbers[0]}.{numbers[1]}.{int(numbers[2]) + 1}"
        else:
            yield text
            yield f"{text}.0.0.0.1"  # `>` excludes post-releases, so a later release is tried


def _advisory(row: JsonValue) -> Advisory | None:
    """One record; None when it was withdrawn."""
    if not isinstance(row, dict) or not isinstance(identity := row.get("id"), str):
        raise InvalidArgumentError("a record has no id")
    if row.get("withdrawn"):
        return None
    aliases, affected = row.get("aliases"), row.get("affected")
    rows = affected if isinstance(affected, list) else []
    found = [item for item in map(_affected, rows) if item is not None]
    summary = row.get("summary") or row.get("details")
    return Advisory(
        identity[:200],
        tuple(a[:200] for a in aliases if isinstance(a, str)) if isinstance(aliases, list) else (),
        summary[:300].splitlines()[0] if isinstance(summary, str) and summary.strip() else "",
        _severity(row),
        tuple(found),
    )


def _affected(row: JsonValue) -> Affected | None:
    package = row.get("package") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(package, dict):
        return None
    ecosystem, name = package.get("ecosystem"), package.get("name")
    if not isinstance(ecosystem, str) or not isinstance(name, str):
        return None
    kind = _KINDS.get(ecosystem.split(":", 1)[0].lower())
    if kind is None:
        return None
    versions, ranges = row.get("versions"), row.get("ranges")
    listed = [v for v in versions if isinstance(v, str)] if isinstance(versions, list) else []
    events = [_events(kind, r) for r in ranges] if isinstance(ranges, list) else []
    return Affected(kind, normalize_name(name), frozenset(listed), tuple(e for e in events if e))


def _events(kind: str, row: JsonValue) -> tuple[Event, ...]:
    """Events of a SEMVER or ECOSYSTEM range; GIT ranges say nothing about versions."""
    if not isinstance(row, dict) or row.get("type") not in ("SEMVER", "ECOSYSTEM"):
        return ()
    found: list[Event] = []
    events = row.get("events")
    for item in events if isinstance(events, list) else []:
        for key, value in item.items() if isinstance(item, dict) else ():
            if key not in _EVENTS or not isinstance(value, str):
                raise InvalidArgumentError(f"a range has the event {key[:40]!r}")
            if value not in ("0", "*"):
                parse_version(kind, value)
            found.append(Event(key, value))
    return tuple(found)


def _severity(row: Mapping[str, JsonValue]) -> Severity:
    rows = row.get("severity")
    for item in rows if isinstance(rows, list) else []:
        vector = item.get("score") if isinstance(item, dict) else None
        if isinstance(vector, str) and (score := cvss3_score(vector)) is not None:
            return severity_of_score(score)
    own = row.get("database_specific")
    word = own.get("severity") if isinstance(own, dict) else None
    if isinstance(word, str):
        try:
            return Severity.parse(word)
        except InvalidArgumentError:
            return Severity.HIGH
    return Severity.HIGH


def check_dependencies(
    database: AdvisoryDatabase, specs: Iterable[DependencySpec], lock: LockFile | None
) -> Iterator[Finding]:
    """Findings for locked versions, and for requirements that are not locked."""
    locked = dict(lock.packages) if lock is not None else dict[str, LockedPackage]()
    for package in locked.values():
        for advisory in database.check_version(package.kind, package.name, package.version):
            what = f"{package.name} {package.version} is locked"
            yield _finding(advisory, package.name, what)
    for spec in specs:
        if f"{spec.kind}:{normalize_name(spec.name)}" in locked:
            continue
        for advisory, version in database.check_requirement(spec):
            yield _finding(advisory, spec.name, f"{describe(spec)} admits {version}")


def _finding(advisory: Advisory, name: str, what: str) -> Finding:
    aliases = f" ({', '.join(advisory.aliases[:4])})" if advisory.aliases else ""
    message = f"{what}, which is affected{aliases}: {advisory.summary}"
    return Finding(advisory.id, advisory.severity, f"dependency {name}", message)
