"""Governance policies: what a package must be to be used here. A policy that fails refuses."""

import datetime as dt
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import cast

from torsh_package.canonical_json import JsonObject, dumps
from torsh_package.convert.strict_json import load_object
from torsh_package.errors import (
    ConversionError,
    InvalidArgumentError,
    LimitError,
    ManifestError,
    PackageError,
)
from torsh_package.lineage.artifact import Artifact
from torsh_package.lineage.embed import package_id, read_lineage
from torsh_package.lineage.provenance import verified_provenance
from torsh_package.manifest import ResourceType
from torsh_package.package import Package, serialize_package
from torsh_package.schema import Fields
from torsh_package.small_files import read_file, replace_file
from torsh_package.times import parse_time
from torsh_package.trust.store import TrustStore

MAX_POLICY_BYTES = 1 << 20
_FORMAT = "torshpkg-policy"


@dataclass(frozen=True)
class GovernancePolicy:
    """Rules for packages; a rule that is not set asks for nothing.

    Args:
        require_trusted: Signed as the trust store asks (load with `trust=`).
        require_encrypted: It came out of an encrypted file.
        require_license: It names its licence.
        allowed_licenses: SPDX identifiers; the licence expression must be satisfiable with them.
        require_author: It names an author.
        require_description: It says what it is.
        require_lineage: It holds its lineage.
        require_provenance: The lineage says how the package itself was made.
        require_equality: A trusted key attests that the conversion kept the outputs.
        require_sbom: It holds a bill of materials.
        denied_ancestors: Names or `sha256:` digests that it must not come from.
        denied_types: Resource types that it must not hold (`Source`, `Binary`).
        denied_dependencies: Packages that it must not require.
        max_bytes: Largest sum of plain resource sizes.
        max_age_days: Most days since its creation time, which it then must state.
    """

    require_trusted: bool = False
    require_encrypted: bool = False
    require_license: bool = False
    allowed_licenses: tuple[str, ...] = ()
    require_author: bool = False
    require_description: bool = False
    require_lineage: bool = False
    require_provenance: bool = False
    require_equality: bool = False
    require_sbom: bool = False
    denied_ancestors: tuple[str, ...] = ()
    denied_types: tuple[str, ...] = ()
    denied_dependencies: tuple[str, ...] = ()
    max_bytes: int | None = None
    max_age_days: int | None = None

    def __post_init__(self) -> None:
        unknown = set(self.denied_types) - {member.value for member in ResourceType}
        if unknown:
            raise InvalidArgumentError(f"denied_types: {min(unknown)!r} is no resource type")

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        rules: JsonObject = {"format": _FORMAT}
        for part in fields(self):
            value = getattr(self, part.name)
            rules[part.name] = list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType]
        return dumps(rules)

    @classmethod
    def parse(cls, data: bytes) -> "GovernancePolicy":
        """Read a policy; a rule that is left out asks for nothing, an unknown one is an error.

        People write policies, so their JSON need not be canonical.
        """
        if len(data) > MAX_POLICY_BYTES:
            raise LimitError(f"policy of {len(data)} bytes, limit {MAX_POLICY_BYTES}")
        try:
            value = load_object(data, entry="policy")
        except ConversionError as error:
            raise ManifestError(f"policy: {error.message}") from None
        found = Fields(cast("JsonObject", value), "policy")
        found.choice("format", frozenset({_FORMAT}))
        values = {
            part.name: _read_rule(found, part.name, part.default)
            for part in fields(cls)
            if found.has(part.name)
        }
        found.end()
        try:
            return cls(**values)  # type: ignore[arg-type]
        except InvalidArgumentError as error:
            raise ManifestError(f"policy: {error.message}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "GovernancePolicy":
        """Read a policy file."""
        return cls.parse(read_file(path, MAX_POLICY_BYTES))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replace a policy file atomically."""
        replace_file(path, self.to_bytes())


def _read_rule(found: Fields, name: str, default: object) -> object:
    if isinstance(default, bool):
        return found.boolean(name)
    if isinstance(default, tuple):
        return found.strings(name)
    if found.left[name] is None:
        found.take(name)
        return None
    return found.integer(name)


@dataclass(frozen=True)
class Check:
    """One rule, applied to one package.

    Args:
        rule: Its name in the policy.
        passed: Whether the package satisfies it.
        detail: The value that was found, and the limit.
    """

    rule: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Subject:
    """A package with what judging it needs."""

    package: Package
    policy: GovernancePolicy
    store: TrustStore | None
    at: dt.datetime


def checks(subject: Subject) -> Iterator[Check]:
    """The rules that the policy sets, applied to the package."""
    for rule, apply in _RULES.items():
        value = getattr(subject.policy, rule)
        if value is False or value is None or value == ():
            continue
        try:
            passed, detail = apply(subject)
        except PackageError as error:
            passed, detail = False, str(error)
        yield Check(rule, passed, detail)


def _trusted(s: Subject) -> tuple[bool, str]:
    if s.store is not None:
        report = s.store.evaluate(serialize_package(s.package), s.package.signatures, s.at)
        return report.trusted, f"{report.status.value}: {report.detail or report.role or ''}"
    trusted = s.package.trust is not None and s.package.trust.trusted
    return trusted, "trusted at load" if trusted else "loaded without a trust store"


def _encrypted(s: Subject) -> tuple[bool, str]:
    return s.package.encrypted, "encrypted" if s.package.encrypted else "in plain text"


def _license(s: Subject) -> tuple[bool, str]:
    return bool(s.package.license), s.package.license or "no licence"


def _allowed_license(s: Subject) -> tuple[bool, str]:
    expression = s.package.license or ""
    allowed = ", ".join(s.policy.allowed_licenses)
    return license_allowed(expression, s.policy.allowed_licenses), (
        f"{expression or 'no licence'}; allowed: {allowed}"
    )


def _author(s: Subject) -> tuple[bool, str]:
    return bool(s.package.authors), ", ".join(s.package.authors) or "no author"


def _description(s: Subject) -> tuple[bool, str]:
    found = bool(s.package.description.strip())
    return found, "described" if found else "no description"


def _lineage(s: Subject) -> tuple[bool, str]:
    tracker = read_lineage(s.package)
    if tracker is None:
        return False, "no lineage"
    found = tracker.ancestors(package_id(s.package))
    return bool(found), f"{len(found)} ancestors"


def _provenance(s: Subject) -> tuple[bool, str]:
    tracker = read_lineage(s.package)
    info = None if tracker is None else tracker.provenance(package_id(s.package))
    return info is not None, "no provenance" if info is None else f"made by {info.creator}"


def _equality(s: Subject) -> tuple[bool, str]:
    if s.store is None:
        return False, "needs a trust store: an attestation counts only with its signature"
    manifest = serialize_package(s.package)
    found = verified_provenance(manifest, s.package.signatures, s.store)
    verdicts = [build.equality for build in found if build.equality is not None]
    if not verdicts:
        return False, "no trusted attestation of a comparison"
    worst = max(verdicts, key=lambda verdict: (not verdict.equal, verdict.max_error))
    detail = f"max error {worst.max_error!r}, tolerance {worst.tolerance!r}"
    return all(verdict.equal for verdict in verdicts), detail


def _sbom(s: Subject) -> tuple[bool, str]:
    return s.package.sbom is not None, s.package.sbom or "no bill of materials"


def _ancestors(s: Subject) -> tuple[bool, str]:
    tracker = read_lineage(s.package)
    if tracker is None:
        return False, "no lineage, so nothing is known of its ancestors"
    found = tracker.ancestors(package_id(s.package))
    denied = {Artifact.of(name) for name in s.policy.denied_ancestors}
    names = {artifact.name for artifact in denied if artifact.name}
    digests = {artifact.digest for artifact in denied if artifact.digest}
    bad = [a.label for a in found if a.name in names or a.digest in digests]
    return (
        not bad,
        f"comes from {', '.join(bad)}" if bad else f"{len(found)} ancestors, none denied",
    )


def _types(s: Subject) -> tuple[bool, str]:
    bad = [r.name for r in s.package.resources() if r.type.value in s.policy.denied_types]
    return not bad, f"holds {', '.join(bad[:5])}" if bad else "none"


def _dependencies(s: Subject) -> tuple[bool, str]:
    names = [spec.name for spec in s.package.dependencies]
    bad = [name for name in names if name in s.policy.denied_dependencies]
    return not bad, f"requires {', '.join(bad)}" if bad else f"{len(names)} requirements"


def _size(s: Subject) -> tuple[bool, str]:
    total = sum(resource.size for resource in s.package.resources())
    limit = s.policy.max_bytes or 0
    return total <= limit, f"{total} bytes, limit {limit}"


def _age(s: Subject) -> tuple[bool, str]:
    created = s.package.manifest().created
    if created is None:
        return False, "states no creation time"
    days = (s.at - parse_time(created)).days
    limit = s.policy.max_age_days or 0
    return 0 <= days <= limit, f"{days} days old, limit {limit}"


_RULES: dict[str, Callable[[Subject], tuple[bool, str]]] = {
    "require_trusted": _trusted,
    "require_encrypted": _encrypted,
    "require_license": _license,
    "allowed_licenses": _allowed_license,
    "require_author": _author,
    "require_description": _description,
    "require_lineage": _lineage,
    "require_provenance": _provenance,
    "require_equality": _equality,
    "require_sbom": _sbom,
    "denied_ancestors": _ancestors,
    "denied_types": _types,
    "denied_dependencies": _dependencies,
    "max_bytes": _size,
    "max_age_days": _age,
}


def license_allowed(expression: str, allowed: tuple[str, ...]) -> bool:
    """Whether an SPDX licence expression can be satisfied with the allowed licences.

    `A OR B` needs one of the two, `A AND B` both; `A WITH exception` must be allowed as such.
    A malformed expression is never allowed.
    """
    tokens = re.findall(r"\(|\)|[A-Za-z0-9.+:-]+", expression)
    if "".join(tokens) != re.sub(r"\s", "", expression) or len(tokens) > 200:
        return False
    parser = _Licenses(tokens, frozenset(name.casefold() for name in allowed))
    try:
        return parser.either() and not parser.left
    except (ValueError, RecursionError):
        return False


class _Licenses:
    """Recursive descent over SPDX licence expressions (SPDX 2.3, annex D)."""

    def __init__(self, tokens: list[str], allowed: frozenset[str]):
        self.left = tokens[::-1]
        self._allowed = allowed

    def either(self) -> bool:
        found = self._both()
        while self._skip("OR"):
            other = self._both()
            found = found or other
        return found

    def _both(self) -> bool:
        found = self._one()
        while self._skip("AND"):
            other = self._one()
            found = found and other
        return found

    def _one(self) -> bool:
        if self._skip("("):
            found = self.either()
            if not self._skip(")"):
                raise ValueError("unbalanced")
            return found
        name = self._name()
        if self._skip("WITH"):
            name = f"{name} WITH {self._name()}"
        return name.casefold() in self._allowed

    def _name(self) -> str:
        if not self.left or self.left[-1] in ("(", ")", "AND", "OR", "WITH"):
            raise ValueError("a licence is missing")
        return self.left.pop()

    def _skip(self, token: str) -> bool:
        if self.left and self.left[-1] == token:
            self.left.pop()
            return True
        return False
