"""Compliance reports: a package against a policy, rule by rule, for people and for scripts."""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from torsh_package.canonical_json import JsonObject
from torsh_package.container.source import ArchiveSource
from torsh_package.errors import PolicyError
from torsh_package.governance.policy import Check, GovernancePolicy, Subject, checks
from torsh_package.observing import Observer, observed
from torsh_package.package import Package, serialize_package
from torsh_package.times import format_time, now
from torsh_package.trust.store import TrustStore


@dataclass(frozen=True)
class ComplianceReport:
    """What a policy says of a package.

    Args:
        package: Its name.
        version: Its version.
        manifest_sha256: Digest that identifies its content.
        judged: When.
        checks: One entry per rule that the policy sets.
    """

    package: str
    version: str
    manifest_sha256: str
    judged: dt.datetime
    checks: tuple[Check, ...]

    @classmethod
    def of(
        cls,
        package: Package,
        policy: GovernancePolicy,
        *,
        store: TrustStore | None = None,
        at: dt.datetime | None = None,
    ) -> "ComplianceReport":
        """Judge a package.

        Args:
            package: As loaded.
            policy: The rules.
            store: Whom to believe; for rules about signatures and attestations.
            at: The moment to judge for; the clock if None.
        """
        at = at or now()
        return cls(
            package=package.name,
            version=package.version,
            manifest_sha256=hashlib.sha256(serialize_package(package)).hexdigest(),
            judged=at,
            checks=tuple(checks(Subject(package, policy, store, at))),
        )

    @property
    def compliant(self) -> bool:
        """Whether every rule is satisfied."""
        return all(check.passed for check in self.checks)

    @property
    def violations(self) -> tuple[Check, ...]:
        """The rules that are not."""
        return tuple(check for check in self.checks if not check.passed)

    def require(self) -> "ComplianceReport":
        """Itself, or `PolicyError` with all violations."""
        if self.violations:
            listed = "; ".join(f"{check.rule}: {check.detail}" for check in self.violations)
            raise PolicyError(f"{self.package} {self.version} breaks the policy: {listed}")
        return self

    def to_json(self) -> JsonObject:
        """For scripts."""
        return {
            "package": self.package,
            "version": self.version,
            "manifest": self.manifest_sha256,
            "judged": format_time(self.judged),
            "compliant": self.compliant,
            "checks": [
                {"rule": c.rule, "passed": c.passed, "detail": c.detail} for c in self.checks
            ],
        }

    def to_markdown(self) -> str:
        """For people."""
        verdict = "compliant" if self.compliant else "NOT compliant"
        lines = [
            f"# Compliance of {self.package} {self.version}: {verdict}",
            "",
            f"Manifest SHA-256 `{self.manifest_sha256}`, judged {format_time(self.judged)}.",
            "",
            "| Rule | Result | Detail |",
            "|---|---|---|",
        ]
        for check in self.checks:
            detail = check.detail.replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {check.rule} | {'pass' if check.passed else 'FAIL'} | {detail} |")
        return "\n".join([*lines, ""])


def load_governed(
    source: ArchiveSource,
    policy: GovernancePolicy,
    *,
    store: TrustStore | None = None,
    password: str | bytes | None = None,
    observers: Sequence[Observer] = (),
) -> Package:
    """`Package.load`, but only of a package that satisfies a policy.

    Args:
        source: Path, bytes, file descriptor or binary file.
        policy: The rules.
        store: Whom to believe; a package that it does not trust is refused first.
        password: Opens an encrypted package.
        observers: Are told of the attempt and its outcome.

    Raises:
        PolicyError: A rule is broken.
        PackageError: As `Package.load`.
    """
    where = str(source) if isinstance(source, str) else type(source).__name__
    with observed(observers, "load.governed", where) as noted:
        package = Package.load(source, trust=store, password=password)
        noted.subject = f"{package.name} {package.version}"
        ComplianceReport.of(package, policy, store=store).require()
    return package
