"""Policies refuse, rule by rule; compliance reports say what was found."""

import dataclasses
import datetime as dt
import json

import pytest

from torsh_package import (
    ComplianceReport,
    DependencySpec,
    GovernancePolicy,
    LineageRelation,
    Package,
    PackageEncryptor,
    PackageSigner,
    ResourceType,
    X25519Identity,
    serialize_package,
)
from torsh_package.canonical_json import dumps
from torsh_package.errors import ManifestError, PackageError, PolicyError
from torsh_package.governance import AuditLog, load_governed
from torsh_package.governance.policy import license_allowed
from torsh_package.lineage import (
    Artifact,
    BuildProvenance,
    EqualityVerdict,
    attest,
    embed_lineage,
    embed_sbom,
    read_lineage,
    record_origin,
    to_cyclonedx,
)

SIGNER = PackageSigner()
STORE = SIGNER.store()
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
SOURCE = Artifact("resnet.pt", "sha256:" + "ab" * 32)


def bare() -> Package:
    return Package("acme/m", "1.0.0")


def full(equal: bool = True) -> Package:
    package = Package("acme/m", "1.0.0")
    package.set_author("Jane")
    package.set_description("a model")
    package.set_license("Apache-2.0 OR GPL-3.0-only")
    package.set_created(NOW - dt.timedelta(days=10))
    package.add_resource("config", b"x" * 100, ResourceType.Config)
    record_origin(package, SOURCE, LineageRelation.ConvertedFrom, creator="torsh")
    embed_sbom(package, to_cyclonedx(package))
    manifest = serialize_package(package)
    package.set_signature(SIGNER.sign(manifest, issued=NOW - dt.timedelta(days=9)))
    verdict = EqualityVerdict(equal, 16, 0, 1e-6 if equal else 1.0, 1e-5, "torch")
    build = BuildProvenance("convert", equality=verdict)
    package.set_signature(attest(manifest, build, SIGNER.private_key))
    return package


def _with_source() -> Package:
    package = full()
    package.add_source_file("model", "x = 1")
    return package


def _requiring() -> Package:
    package = full()
    package.add_dependency(DependencySpec("left-pad", "^1.0.0"))
    return package


# policy, package that satisfies it, package that does not, what the report says of that
CASES = {
    "trusted": ({"require_trusted": True}, full, bare, "stripped"),
    "changed after signing": ({"require_trusted": True}, full, _with_source, "wrong-subject"),
    "license": ({"require_license": True}, full, bare, "no licence"),
    "allowed licence": (
        {"allowed_licenses": ("Apache-2.0",)},
        full,
        bare,
        "no licence; allowed: Apache-2.0",
    ),
    "author": ({"require_author": True}, full, bare, "no author"),
    "description": ({"require_description": True}, full, bare, "no description"),
    "lineage": ({"require_lineage": True}, full, bare, "no lineage"),
    "provenance": ({"require_provenance": True}, full, bare, "no provenance"),
    "sbom": ({"require_sbom": True}, full, bare, "no bill of materials"),
    "equality": ({"require_equality": True}, full, bare, "no trusted attestation"),
    "unequal": (
        {"require_equality": True},
        full,
        lambda: full(equal=False),
        "max error 1.0, tolerance 1e-05",
    ),
    "ancestors unknown": ({"denied_ancestors": ("laion",)}, full, bare, "nothing is known"),
    "types": ({"denied_types": ("Source",)}, full, _with_source, "holds code/model"),
    "dependencies": ({"denied_dependencies": ("left-pad",)}, full, _requiring, "requires left-pad"),
    "age": ({"max_age_days": 10}, full, bare, "no creation time"),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str):
    rules, good, bad, message = CASES[case]
    policy = GovernancePolicy(**rules)
    ComplianceReport.of(good(), policy, store=STORE, at=NOW).require()
    report = ComplianceReport.of(bad(), policy, store=STORE, at=NOW)
    assert not report.compliant
    assert message in report.violations[0].detail
    with pytest.raises(PolicyError, match=next(iter(rules))):
        report.require()


@pytest.mark.parametrize("denied", ["resnet.pt", SOURCE.digest])
def test_denied_ancestors_by_name_and_by_digest(denied: str):
    policy = GovernancePolicy(denied_ancestors=(denied,))
    report = ComplianceReport.of(full(), policy)
    assert report.violations[0].detail == "comes from resnet.pt"


def test_denied_ancestors_of_ancestors():
    package = bare()
    record_origin(package, SOURCE, LineageRelation.ConvertedFrom, creator="torsh")
    tracker = read_lineage(bare()) or read_lineage(package)
    assert tracker is not None
    package = bare()
    record_origin(package, SOURCE, LineageRelation.ConvertedFrom, creator="torsh")
    lineage = type(tracker).parse(bytes(package.get_document("lineage.json").data))
    lineage.add_lineage("laion-5b", SOURCE, LineageRelation.TrainedOn)
    embed_lineage(package, lineage)
    policy = GovernancePolicy(denied_ancestors=("laion-5b",))
    with pytest.raises(PolicyError, match="comes from laion-5b"):
        ComplianceReport.of(package, policy).require()


def test_size_and_age_have_limits():
    for policy, message in (
        (GovernancePolicy(max_bytes=99), "100 bytes, limit 99"),
        (GovernancePolicy(max_age_days=9), "10 days old, limit 9"),
    ):
        report = ComplianceReport.of(full(), policy, at=NOW)
        assert message in report.violations[0].detail
    assert ComplianceReport.of(full(), GovernancePolicy(max_bytes=100), at=NOW).compliant


def test_an_equality_claim_without_trust_does_not_count():
    policy = GovernancePolicy(require_equality=True)
    for store in (None, PackageSigner().store()):
        assert not ComplianceReport.of(full(), policy, store=store).compliant


def test_encryption_can_be_required():
    identity, policy = X25519Identity.generate(), GovernancePolicy(require_encrypted=True)
    data = PackageEncryptor().encrypt_package(full(), identity.recipient).to_bytes()
    assert ComplianceReport.of(Package.load(data, identities=[identity]), policy).compliant
    assert not ComplianceReport.of(full(), policy).compliant


def test_load_governed_refuses_and_records(tmp_path):
    log = AuditLog(tmp_path / "audit.log")
    policy = GovernancePolicy(require_license=True, require_lineage=True)
    full().save(tmp_path / "good")
    bare().save(tmp_path / "bad")
    assert load_governed(str(tmp_path / "good"), policy, observers=[log]).name == "acme/m"
    with pytest.raises(PolicyError, match="require_license: no licence; require_lineage: no lin"):
        load_governed(str(tmp_path / "bad"), policy, observers=[log])
    with pytest.raises(PackageError, match="stripped"):
        load_governed(str(tmp_path / "bad"), GovernancePolicy(), store=STORE, observers=[log])
    found = [(r.outcome, r.details.get("error")) for r in log.records()][1:]
    assert found == [("ok", None), ("refused", "policy"), ("refused", "untrusted")]


def test_reports_for_people_and_scripts():
    policy = GovernancePolicy(require_license=True, require_author=True)
    package = bare()
    package.set_author("Jane | Doe")
    report = ComplianceReport.of(package, policy, at=NOW)
    text = report.to_markdown()
    assert "NOT compliant" in text
    assert "| require_author | pass | Jane \\| Doe |" in text
    parsed = json.loads(dumps(report.to_json()))
    assert parsed["compliant"] is False
    assert [check["rule"] for check in parsed["checks"]] == ["require_license", "require_author"]


def test_policy_files(tmp_path):
    policy = GovernancePolicy(
        require_trusted=True, allowed_licenses=("MIT", "Apache-2.0"), max_bytes=5
    )
    policy.save(tmp_path / "policy.json")
    assert GovernancePolicy.load(tmp_path / "policy.json") == policy
    short = b'{"format":"torshpkg-policy","require_sbom":true}'
    assert GovernancePolicy.parse(short) == GovernancePolicy(require_sbom=True)
    by_hand = b'{\n  "require_sbom": true,\n  "format": "torshpkg-policy"\n}\n'
    assert GovernancePolicy.parse(by_hand) == GovernancePolicy(require_sbom=True)
    with pytest.raises(ManifestError, match="twice"):
        GovernancePolicy.parse(by_hand.replace(b'"format"', b'"require_sbom": false, "format"'))


BAD_POLICIES = {
    "unknown rule": {"format": "torshpkg-policy", "require_magic": True},
    "wrong type": {"format": "torshpkg-policy", "require_sbom": "yes"},
    "unknown resource type": {"format": "torshpkg-policy", "denied_types": ["Virus"]},
    "another format": {"format": "x"},
}


@pytest.mark.parametrize("case", BAD_POLICIES)
def test_malformed_policies(case: str):
    with pytest.raises(ManifestError):
        GovernancePolicy.parse(dumps(BAD_POLICIES[case]))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (GPL-3.0-only OR BSD-3-Clause)", True),
        ("GPL-3.0-only OR MIT AND BSD-3-Clause", True),
        ("(GPL-3.0-only OR MIT) AND GPL-3.0-only", False),
        ("MIT WITH some-exception", False),
        ("BSD-3-Clause WITH x", True),
        ("", False),
        ("MIT OR", False),
        ("OR MIT", False),
        ("MIT MIT", False),
        ("(MIT", False),
        ("MIT)", False),
        ("MIT; rm -rf", False),
        ("(" * 300 + "MIT" + ")" * 300, False),
    ],
)
def test_license_expressions(expression: str, expected: bool):
    allowed = ("MIT", "BSD-3-Clause", "BSD-3-Clause WITH x")
    assert license_allowed(expression, allowed) is expected


def test_every_rule_is_tested():
    tested = {rule for rules, *_ in CASES.values() for rule in rules}
    tested |= {"require_encrypted", "max_bytes"}
    assert tested == {field.name for field in dataclasses.fields(GovernancePolicy)}
