"""What a scan found, how bad it is, and policies that refuse."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum
from pathlib import Path

from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.convert import strict_json
from torsh_package.errors import InvalidArgumentError, PolicyError, StorageError

_MAX_SHOWN = 50


class Severity(IntEnum):
    """How bad a finding is; ordered."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @classmethod
    def parse(cls, text: str) -> "Severity":
        """The severity called `text` (any case; MODERATE is MEDIUM)."""
        name = text.upper()
        name = "MEDIUM" if name == "MODERATE" else name
        if name not in cls.__members__:
            known = ", ".join(s.name.lower() for s in cls)
            raise InvalidArgumentError(f"severity {text[:40]!r} is unknown; known are {known}")
        return cls[name]


@dataclass(frozen=True, order=True)
class Finding:
    """One finding.

    Args:
        rule: What was broken: `pickle-dangerous`, `secret-aws-key`, an advisory's id.
        severity: How bad it is.
        where: Resource (and entry in it), or `dependency NAME`.
        message: What and why; never holds a secret.
        line: Line in a text, or 0.
    """

    rule: str
    severity: Severity
    where: str
    message: str
    line: int = 0

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "rule": self.rule,
            "severity": self.severity.name.lower(),
            "where": self.where,
            "line": self.line,
            "message": self.message,
        }

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        return f"{self.severity.name} {self.rule} {self.where}{line}: {self.message}"


@dataclass(frozen=True)
class ScanReport:
    """All findings of a scan.

    Args:
        findings: Worst first.
        scanned: What was looked at: kind to number.
        not_scanned: What could not be looked at, with the reason.
    """

    findings: tuple[Finding, ...]
    scanned: Mapping[str, int] = field(default_factory=dict[str, int])
    not_scanned: tuple[str, ...] = ()

    @property
    def worst(self) -> Severity | None:
        """The worst severity, or None without findings."""
        return max((finding.severity for finding in self.findings), default=None)

    def counts(self) -> dict[str, int]:
        """Severity name to number of findings."""
        found = Counter(finding.severity.name.lower() for finding in self.findings)
        return {severity.name.lower(): found[severity.name.lower()] for severity in Severity}

    def to_json(self) -> JsonObject:
        """The JSON form."""
        findings: list[JsonValue] = [finding.to_json() for finding in self.findings]
        return {
            "findings": findings,
            "counts": dict(self.counts()),
            "scanned": dict(self.scanned),
            "not_scanned": list(self.not_scanned),
        }

    def summary(self) -> str:
        """Lines for people."""
        looked = ", ".join(f"{count} {kind}" for kind, count in sorted(self.scanned.items()))
        lines = [f"{len(self.findings)} finding(s); looked at {looked or 'nothing'}"]
        lines += [str(finding) for finding in self.findings[:_MAX_SHOWN]]
        if len(self.findings) > _MAX_SHOWN:
            lines.append(f"and {len(self.findings) - _MAX_SHOWN} more")
        return "\n".join([*lines, *(f"not scanned: {what}" for what in self.not_scanned)])


@dataclass(frozen=True)
class Exemption:
    """A finding that is accepted.

    Args:
        rule: Rule or advisory id.
        reason: Why; must not be empty.
        where: Only there, or everywhere if empty.
        until: Last day on which it holds; None for ever.
    """

    rule: str
    reason: str
    where: str = ""
    until: date | None = None

    def covers(self, finding: Finding, today: date) -> bool:
        """Whether `finding` is accepted on `today`."""
        in_time = self.until is None or today <= self.until
        return in_time and self.rule == finding.rule and self.where in ("", finding.where)


@dataclass(frozen=True)
class ScanPolicy:
    """What is refused.

    Args:
        fail_on: Findings from this severity up are refused.
        exemptions: Findings that are accepted.
        require_complete: Refuse also when something could not be scanned.
        deny: Rules that are refused whatever their severity.
    """

    fail_on: Severity = Severity.HIGH
    exemptions: tuple[Exemption, ...] = ()
    require_complete: bool = True
    deny: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for exemption in self.exemptions:
            if not exemption.reason.strip():
                raise InvalidArgumentError(f"the exemption of {exemption.rule} gives no reason")

    def violations(self, report: ScanReport, today: date | None = None) -> tuple[Finding, ...]:
        """The findings that this policy refuses."""
        day = today or date.today()
        return tuple(
            finding
            for finding in report.findings
            if (finding.severity >= self.fail_on or finding.rule in self.deny)
            and not any(exemption.covers(finding, day) for exemption in self.exemptions)
        )

    def enforce(self, report: ScanReport, today: date | None = None) -> None:
        """Refuse what the policy refuses.

        Raises:
            PolicyError: listing every violation.
        """
        lines = [f"  {finding}" for finding in self.violations(report, today)]
        if self.require_complete:
            lines += [f"  could not be scanned: {what}" for what in report.not_scanned]
        if lines:
            more = [f"  and {len(lines) - _MAX_SHOWN} more"] if len(lines) > _MAX_SHOWN else []
            raise PolicyError(
                f"{len(lines)} violation(s) of the scan policy "
                f"(refuses from {self.fail_on.name.lower()}):\n"
                + "\n".join([*lines[:_MAX_SHOWN], *more])
            )

    @classmethod
    def load(cls, path: str | Path) -> "ScanPolicy":
        """Read a policy from JSON: `fail_on`, `exemptions`, `require_complete`, `deny`.

        Raises:
            StorageError: when the file cannot be read.
            InvalidArgumentError: when it is malformed.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror}", entry=str(path)) from error
        value = strict_json.load_object(raw, entry=str(path))
        known = {"fail_on", "exemptions", "require_complete", "deny"}
        rows, deny = value.get("exemptions", []), value.get("deny", [])
        complete = value.get("require_complete", True)
        if value.keys() - known or not isinstance(rows, list) or not isinstance(deny, list):
            raise InvalidArgumentError(f"may have only {', '.join(sorted(known))}", entry=str(path))
        if not isinstance(complete, bool):
            raise InvalidArgumentError("require_complete must be true or false", entry=str(path))
        return cls(
            Severity.parse(str(value.get("fail_on", "high"))),
            tuple(_exemption(row, str(path)) for row in rows),
            complete,
            frozenset(str(rule) for rule in deny),
        )


def _exemption(row: strict_json.JsonValue, path: str) -> Exemption:
    fields = row if isinstance(row, dict) else {}
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    if len(texts) != len(fields) or texts.keys() - {"rule", "reason", "where", "until"}:
        raise InvalidArgumentError("an exemption has rule, reason, where and until", entry=path)
    try:
        until = date.fromisoformat(texts["until"]) if "until" in texts else None
        return Exemption(texts["rule"], texts["reason"], texts.get("where", ""), until)
    except (KeyError, ValueError) as error:
        raise InvalidArgumentError(f"an exemption is malformed: {error}", entry=path) from error


def sorted_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Without repetitions, worst first."""
    return tuple(sorted(set(findings), key=lambda f: (-f.severity, f.where, f.line, f.rule)))
