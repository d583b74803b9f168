"""Scans a package for attacks, secrets, weak cryptography and known vulnerabilities.

torsh-package scan m.torshpkg --fail-on high

Looks at pickles, texts and sources without executing anything, and at dependencies if an advisory
database in the OSV format is given. Exit code 1 if the policy refuses what was found.
"""

import argparse
from dataclasses import replace

from torsh_package.canonical_json import JsonValue
from torsh_package.scan import AdvisoryDatabase, ScanPolicy, Severity, VulnerabilityScanner

from . import FAILED, OK, Output, ProgressBar, add_load_arguments, open_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("--advisories", metavar="JSON", help="OSV records")
    parser.add_argument("--policy", metavar="JSON", help="what is refused and what is accepted")
    parser.add_argument(
        "--fail-on",
        choices=[severity.name.lower() for severity in Severity],
        help="refuse from this severity up (high by default)",
    )
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Scans, and judges by the policy."""
    policy = ScanPolicy.load(args.policy) if args.policy else ScanPolicy(require_complete=False)
    if args.fail_on:
        policy = replace(policy, fail_on=Severity.parse(args.fail_on))
    database = AdvisoryDatabase.load(args.advisories) if args.advisories else None
    opened = open_package(args.package, args, lazy=True)
    with opened as package, ProgressBar(out, "scanning") as progress:
        report = VulnerabilityScanner(database).scan(package, progress)
    violations = policy.violations(report)
    incomplete = policy.require_complete and bool(report.not_scanned)
    refused = bool(violations) or incomplete
    rows: list[JsonValue] = [finding.to_json() for finding in violations]
    verdict = "REFUSED" if refused else "accepted"
    text = f"{report.summary()}\n{verdict}: {len(violations)} violation(s) of the policy"
    out.result({**report.to_json(), "violations": rows, "refused": refused}, text)
    return FAILED if refused else OK
