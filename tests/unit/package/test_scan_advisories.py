"""OSV advisories: ranges as the OSV schema evaluates them, scores as FIRST publishes them."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package import Package
from torsh_package.dependencies import (
    LOCK_DOCUMENT,
    Candidate,
    DependencySpec,
    ListIndex,
    LockFile,
    resolve,
    satisfies,
)
from torsh_package.errors import InvalidArgumentError, PolicyError, StorageError
from torsh_package.scan import AdvisoryDatabase, ScanPolicy, Severity, VulnerabilityScanner
from torsh_package.scan.cvss import cvss3_score, severity_of_score


def record(events: list[dict[str, str]], **more) -> dict:
    ecosystem = more.pop("ecosystem", "PyPI")
    affected = {
        "package": {"ecosystem": ecosystem, "name": more.pop("name", "Some.Lib")},
        "ranges": [{"type": more.pop("type", "ECOSYSTEM"), "events": events}],
        "versions": more.pop("versions", []),
    }
    return {"id": "PYSEC-1", "summary": "it breaks", "affected": [affected], **more}


def database(*records: dict) -> AdvisoryDatabase:
    return AdvisoryDatabase.parse(json.dumps(list(records)).encode())


def affected(
    row: dict, versions: list[str], kind: str = "pip", name: str = "some-lib"
) -> list[str]:
    found = database(row)
    return [version for version in versions if list(found.check_version(kind, name, version))]


VERSIONS = ["0.9", "1.0", "1.1", "1.5", "2.0rc1", "2.0", "2.1", "3.0"]
RANGES = {
    "all": ([{"introduced": "0"}], VERSIONS),
    "until fixed": ([{"introduced": "0"}, {"fixed": "1.5"}], ["0.9", "1.0", "1.1"]),
    "stretch": ([{"introduced": "1.0"}, {"fixed": "2.0"}], ["1.0", "1.1", "1.5", "2.0rc1"]),
    "last affected": ([{"introduced": "1.0"}, {"last_affected": "1.5"}], ["1.0", "1.1", "1.5"]),
    "two stretches": (
        [{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "2.1"}],
        ["0.9", "2.0"],
    ),
    "not in order": (
        [{"fixed": "2.1"}, {"introduced": "2.0"}, {"fixed": "1.0"}, {"introduced": "0"}],
        ["0.9", "2.0"],
    ),
    "limit": ([{"introduced": "0"}, {"limit": "1.5"}], ["0.9", "1.0", "1.1"]),
    "any limit": ([{"introduced": "2.0"}, {"limit": "*"}], ["2.0", "2.1", "3.0"]),
    "nothing": ([], []),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges(name: str) -> None:
    events, expected = RANGES[name]
    assert affected(record(events), VERSIONS) == expected


def test_listed_versions_and_names() -> None:
    row = record([], versions=["1.0.0", "not a version"])
    assert affected(row, ["1.0", "1.1"]) == ["1.0"]
    assert affected(row, ["1.0"], name="SOME_lib") == ["1.0"]
    assert affected(row, ["1.0"], name="other") == []
    assert affected(row, ["1.0.0"], kind="torsh") == []


def test_semver_ranges_for_packages() -> None:
    row = record(
        [{"introduced": "0.0.0-0"}, {"fixed": "0.1.5"}], ecosystem="crates.io", type="SEMVER"
    )
    assert affected(row, ["0.1.4", "0.1.5-rc.1", "0.1.5"], kind="torsh") == ["0.1.4", "0.1.5-rc.1"]


def test_other_records_are_ignored_and_counted() -> None:
    found = database(
        record([{"introduced": "0"}], withdrawn="2024-01-01T00:00:00Z"),
        record([{"introduced": "0"}], ecosystem="npm"),
        record([{"introduced": "0"}], type="GIT"),
        record([{"introduced": "0"}]),
    )
    assert (found.count, found.ignored) == (2, 2)
    bad = database(record([{"introduced": "one"}], id="BAD-1"), record([{"introduced": "0"}]))
    assert bad.count == 1
    assert "BAD-1" in bad.problems[0]
    package = Package("m", "1.0.0")
    assert "BAD-1" in VulnerabilityScanner(bad).scan(package).not_scanned[0]


REQUIREMENTS = {
    "pip": [
        ("==1.4", False),
        ("==1.5", True),
        (">=1.0,<1.5", False),
        (">=1.0,<=1.5", True),
        (">1.9", False),
        ("", True),
        ("<2", True),
        ("!=1.5", True),
        ("~=1.2", True),
        (">=2.0", False),
        (">1.6,<1.8", True),
    ],
    "torsh": [
        ("=1.4.0", False),
        ("^1.4", True),
        ("~1.4", False),
        ("<1.5", False),
        ("<=1.5.0", True),
        ("*", True),
        ("^2", False),
        (">=1.7.1", True),
        (">1.9.9", False),
        ("=1.9.0", True),
        ("^0.1", False),
    ],
}


@pytest.mark.parametrize(
    ("kind", "requirement", "expected"),
    [(k, r, e) for k, rows in REQUIREMENTS.items() for r, e in rows],
)
def test_requirements_that_admit_an_affected_version(
    kind: str, requirement: str, expected: bool
) -> None:
    if kind == "pip":
        row = record([{"introduced": "1.5"}, {"fixed": "1.9"}])
    else:
        row = record(
            [{"introduced": "1.5.0"}, {"last_affected": "1.9.0"}], ecosystem="torsh", type="SEMVER"
        )
    spec = DependencySpec("some-lib", requirement, kind=kind)
    found = list(database(row).check_requirement(spec))
    assert bool(found) is expected
    assert all(satisfies(spec, version) for _, version in found)


GRID = [f"{a}.{b}.0" for a, b in itertools.product(range(3), range(4))]
parts = st.tuples(st.sampled_from(["^", "~", "=", ">=", "<", "<=", ">"]), st.sampled_from(GRID))


@given(
    start=st.sampled_from(GRID),
    end=st.sampled_from(GRID),
    requirement=st.lists(parts, min_size=1, max_size=2).map(
        lambda p: ", ".join(a + b for a, b in p)
    ),
)
@settings(max_examples=200, deadline=None)
def test_no_overlap_is_missed(start: str, end: str, requirement: str) -> None:
    """Against every version of a grid: whatever the requirement admits is reported."""
    row = record([{"introduced": start}, {"fixed": end}], ecosystem="torsh", type="SEMVER")
    found, spec = database(row), DependencySpec("some-lib", requirement)
    admitted = [
        v for v in GRID if satisfies(spec, v) and list(found.check_version("torsh", "some-lib", v))
    ]
    if admitted:
        assert list(found.check_requirement(spec))


# Published examples: www.first.org/cvss/v3.1/examples
SCORES = {
    "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N": 6.1,
    "CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N": 6.4,
    "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N": 3.1,
    "CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H": 9.9,
    "CVSS:3.1/AV:L/AC:L/PR:H/UI:N/S:U/C:L/I:L/A:L": 4.2,
    "CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N": 7.5,
    "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H": 9.8,
    "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:C/C:N/I:H/A:N": 6.8,
    "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H": 8.8,
    "CVSS:3.1/AV:L/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H": 7.8,
    "CVSS:3.1/AV:P/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N": 0.0,
}


@pytest.mark.parametrize("vector", SCORES)
def test_cvss_scores(vector: str) -> None:
    assert cvss3_score(vector) == SCORES[vector]


def test_severities() -> None:
    assert [severity_of_score(s) for s in (0, 0.1, 3.9, 4.0, 6.9, 7.0, 8.9, 9.0, 10)] == [
        Severity.INFO, Severity.LOW, Severity.LOW, Severity.MEDIUM, Severity.MEDIUM, Severity.HIGH,
        Severity.HIGH, Severity.CRITICAL, Severity.CRITICAL,
    ]  # fmt: skip
    for vector in (
        "CVSS:4.0/AV:N",
        "CVSS:3.1/AV:N",
        "",
        "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    ):
        assert cvss3_score(vector) is None

    def severity(**more) -> Severity:
        advisories = database(record([{"introduced": "0"}], **more)).check_version(
            "pip", "some-lib", "1"
        )
        return next(iter(advisories)).severity

    assert severity() is Severity.HIGH
    assert severity(database_specific={"severity": "MODERATE"}) is Severity.MEDIUM
    assert severity(severity=[{"type": "CVSS_V3", "score": next(iter(SCORES))}]) is Severity.MEDIUM


def test_scan_with_lock_and_requirements() -> None:
    found = database(record([{"introduced": "0"}, {"fixed": "2.0"}], aliases=["CVE-2024-1"]))
    specs = [DependencySpec("some_lib", ">=1.0", kind="pip")]
    package = Package("m", "1.0.0")
    package.add_dependency(specs[0])
    report = VulnerabilityScanner(found).scan(package)
    assert [f.rule for f in report.findings if f.severity is Severity.HIGH] == ["PYSEC-1"]
    assert "CVE-2024-1" in report.findings[0].message
    with pytest.raises(PolicyError, match="PYSEC-1"):
        ScanPolicy().enforce(report)

    def with_lock(version: str) -> list[str]:
        index = ListIndex([Candidate("some-lib", version, "pip")])
        package.set_document(LOCK_DOCUMENT, LockFile.of(specs, resolve(specs, index)).to_bytes())
        report = VulnerabilityScanner(found).scan(package)
        return [f.message for f in report.findings if f.rule == "PYSEC-1"]

    assert with_lock("2.1") == []
    assert "some-lib 1.5 is locked" in with_lock("1.5")[0]
    package.set_document(LOCK_DOCUMENT, b"{}")
    assert any(
        "lock.json" in text for text in VulnerabilityScanner(found).scan(package).not_scanned
    )


@pytest.mark.parametrize(
    "raw", [b"", b"[", b"{}", b'[{"id": 1}]', b"[[]]", b"NaN", b'[{"id":"a","id":"b"}]']
)
def test_malformed_databases(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "osv.json"
    path.write_bytes(raw)
    with pytest.raises(InvalidArgumentError):
        AdvisoryDatabase.load(path)


def test_forms_of_the_file(tmp_path: Path) -> None:
    row = record([{"introduced": "0"}])
    for value in (row, [row], {"vulns": [row]}):
        path = tmp_path / "osv.json"
        path.write_text(json.dumps(value))
        assert AdvisoryDatabase.load(path).count == 1
    with pytest.raises(StorageError):
        AdvisoryDatabase.load(tmp_path / "none.json")
