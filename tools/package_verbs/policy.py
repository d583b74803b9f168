"""Judges a package by a governance policy. Exit code 1 if it breaks a rule.

torsh-package policy m.torshpkg --policy policy.json --trust trust.json --markdown
"""

import argparse

from torsh_package.governance.compliance import ComplianceReport
from torsh_package.governance.policy import GovernancePolicy
from torsh_package.package import Package
from torsh_package.trust.store import TrustStore

from ..tables import table
from . import FAILED, OK, Output, add_load_arguments, load_options, read


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("--policy", metavar="FILE", required=True)
    parser.add_argument("--markdown", action="store_true", help="print a report in Markdown")
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Judges the package."""
    policy = GovernancePolicy.load(args.policy)
    store = TrustStore.load(args.trust) if args.trust else None
    package = Package.from_loaded(read(args.package, load_options(args)))
    out.noted.subject = f"{package.name} {package.version}"
    report = ComplianceReport.of(package, policy, store=store)
    out.noted.details["compliant"] = str(report.compliant).lower()
    text = report.to_markdown() if args.markdown else _text(report)
    out.result(report.to_json(), text)
    return OK if report.compliant else FAILED


def _text(report: ComplianceReport) -> str:
    rows = [("ok" if c.passed else "BROKEN", c.rule, c.detail) for c in report.checks]
    verdict = "compliant" if report.compliant else f"{len(report.violations)} rules broken"
    return "\n".join([table(rows), f"{report.package} {report.version}: {verdict}"]).strip()
