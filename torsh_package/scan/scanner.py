"""`VulnerabilityScanner`: looks through a whole package. Nothing in it is executed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from torsh_package.dependencies.lock import LOCK_DOCUMENT, LockFile
from torsh_package.errors import PackageError
from torsh_package.limits import DEFAULT_LIMITS, MIB, Limits
from torsh_package.manifest import ResourceType
from torsh_package.package import Package
from torsh_package.resource import Resource
from torsh_package.writing import Progress

from .advisories import AdvisoryDatabase, check_dependencies
from .findings import Finding, ScanPolicy, ScanReport, Severity, sorted_findings
from .pickles import PickleScan
from .secrets import scan_secrets
from .sources import scan_source

_MAX_TEXT = 64 * MIB
_TEXTS = (
    ResourceType.Source, ResourceType.Config, ResourceType.Text, ResourceType.Documentation,
    ResourceType.Metadata, ResourceType.License,
)  # fmt: skip
_NATIVE = {
    b"\x7fELF": "ELF", b"MZ\x90\x00": "Windows", b"\xcf\xfa\xed\xfe": "Mach-O",
    b"\xca\xfe\xba\xbe": "Mach-O",
}  # fmt: skip


@dataclass
class _Counts:
    scanned: Counter[str] = field(default_factory=Counter[str])
    not_scanned: list[str] = field(default_factory=list[str])


class VulnerabilityScanner:
    """Scans packages for pickles that attack, secrets, weak cryptography, and known advisories.

        report = VulnerabilityScanner(AdvisoryDatabase.load("osv.json")).scan(package)
        ScanPolicy(fail_on=Severity.HIGH).enforce(report)

    Args:
        advisories: Known vulnerabilities; without them dependencies are not checked, and the
            report says so.
        limits: Parser limits.
    """

    def __init__(
        self, advisories: AdvisoryDatabase | None = None, *, limits: Limits = DEFAULT_LIMITS
    ):
        self._advisories = advisories
        self._limits = limits

    def scan(self, package: Package, progress: Progress | None = None) -> ScanReport:
        """Everything that is found. Damaged resources are listed as not scanned.

        Args:
            package: What to scan.
            progress: Called with "resources", how many were scanned, and of how many.
        """
        counts, findings = _Counts(), list[Finding]()
        resources = list(package.resources())
        for number, resource in enumerate(resources):
            if progress is not None:
                progress("resources", number, len(resources))
            counts.scanned["resources"] += 1
            try:
                findings += self._resource(resource, package, counts)
            except PackageError as error:
                counts.not_scanned.append(f"{resource.name}: {error}"[:300])
        findings += scan_secrets(_own_texts(package), "manifest")
        findings += self._dependencies(package, counts)
        if package.signatures is None:
            findings.append(
                Finding("unsigned", Severity.INFO, "manifest", "the package has no signature")
            )
        return ScanReport(
            sorted_findings(findings), dict(counts.scanned), tuple(counts.not_scanned)
        )

    def enforce(self, package: Package, policy: ScanPolicy) -> ScanReport:
        """Scan, and raise `PolicyError` when `policy` refuses the result."""
        report = self.scan(package)
        policy.enforce(report)
        return report

    def _resource(self, resource: Resource, package: Package, counts: _Counts) -> Iterator[Finding]:
        data = resource.data
        compiled = {o.resource for e in package.entrypoints.values() for o in e.objects}
        native = _NATIVE.get(bytes(data[:4]))
        if native and resource.name not in compiled:
            message = f"{native} code that no entry point declares"
            yield Finding("native-code", Severity.HIGH, resource.name, message)
        pickles = PickleScan(self._limits)
        yield from pickles.scan(data, resource.name)
        counts.scanned["pickles"] += pickles.pickles
        if resource.type not in _TEXTS and not _looks_like_text(data):
            return
        if len(data) > _MAX_TEXT:
            counts.not_scanned.append(f"{resource.name}: text of over {_MAX_TEXT} bytes")
            return
        text = str(data, "utf-8", "replace")
        counts.scanned["texts"] += 1
        yield from scan_secrets(text, resource.name)
        if resource.type is ResourceType.Source and resource.name.endswith(".py"):
            counts.scanned["sources"] += 1
            yield from scan_source(text, resource.name)

    def _dependencies(self, package: Package, counts: _Counts) -> Iterator[Finding]:
        if self._advisories is None:
            if package.dependencies:
                counts.not_scanned.append("dependencies: no advisory database was given")
            return
        lock = None
        if LOCK_DOCUMENT in package.list_documents():
            try:
                lock = LockFile.parse(bytes(package.get_document(LOCK_DOCUMENT).data))
            except PackageError as error:
                counts.not_scanned.append(f"{LOCK_DOCUMENT}: {error}"[:300])
        counts.scanned["dependencies"] += len(package.dependencies)
        counts.scanned["advisories"] += self._advisories.count
        counts.not_scanned += self._advisories.problems
        yield from check_dependencies(self._advisories, package.dependencies, lock)


def _looks_like_text(data: memoryview) -> bool:
    head = bytes(data[:4096])
    return bool(head) and b"\0" not in head and sum(c < 9 or 13 < c < 32 for c in head) == 0


def _own_texts(package: Package) -> str:
    facts = [f"{key}: {value}" for key, value in sorted(package.metadata.items())]
    return "\n".join([package.description, *package.authors, *facts])
