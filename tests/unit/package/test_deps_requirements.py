"""Versions and requirements: the tables of the Cargo book, semver.org, PEP 440 and PEP 508."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from torsh_package import Package
from torsh_package.dependencies import (
    DependencySpec,
    Requirement,
    Version,
    applies_to,
    check_spec,
    parse_requirements,
    read_requirements,
    satisfies,
)
from torsh_package.errors import DependencyError, InvalidArgumentError, PackageError

# doc.rust-lang.org/cargo/reference/specifying-dependencies.html: requirement -> range
CARGO = {
    "1.2.3": (">=1.2.3", "<2.0.0"),
    "^1.2.3": (">=1.2.3", "<2.0.0"),
    "1.2": (">=1.2.0", "<2.0.0"),
    "1": (">=1.0.0", "<2.0.0"),
    "0.2.3": (">=0.2.3", "<0.3.0"),
    "0.2": (">=0.2.0", "<0.3.0"),
    "0.0.3": (">=0.0.3", "<0.0.4"),
    "0.0": (">=0.0.0", "<0.1.0"),
    "0": (">=0.0.0", "<1.0.0"),
    "^0.1.0": (">=0.1.0", "<0.2.0"),
    "~1.2.3": (">=1.2.3", "<1.3.0"),
    "~1.2": (">=1.2.0", "<1.3.0"),
    "~1": (">=1.0.0", "<2.0.0"),
    "1.*": (">=1.0.0", "<2.0.0"),
    "1.2.*": (">=1.2.0", "<1.3.0"),
    "*": (),
    "=1.2.3": (">=1.2.3", "<=1.2.3"),
    "=1.2": (">=1.2.0", "<1.3.0"),
    "=1": (">=1.0.0", "<2.0.0"),
    ">1.2.3": (">1.2.3",),
    ">1.2": (">=1.3.0",),
    ">1": (">=2.0.0",),
    "<2": ("<2.0.0",),
    "<=1.2": ("<1.3.0",),
    ">=1.2, <1.5": (">=1.2.0", "<1.5.0"),
    " >= 1.2 ,<1.5 ": (">=1.2.0", "<1.5.0"),
    "1.x": (">=1.0.0", "<2.0.0"),
    "~0.2.3": (">=0.2.3", "<0.3.0"),
}
GRID = [Version(*numbers) for numbers in itertools.product(range(4), range(6), range(5))]


def inside(version: Version, bounds: tuple[str, ...]) -> bool:
    """PEP 440 agrees with semver on plain releases, so `packaging` is the oracle."""
    return str(version) in SpecifierSet(",".join(bounds))


@pytest.mark.parametrize("text", CARGO)
def test_cargo_requirements(text: str) -> None:
    requirement = Requirement.parse(text)
    expected = [version for version in GRID if inside(version, CARGO[text])]
    assert [version for version in GRID if requirement.matches(version)] == expected
    assert expected


PRERELEASES = [
    ("^1.0.0", "1.1.0-alpha", False),
    ("^1.0.0-alpha.1", "1.0.0-alpha.2", True),
    ("^1.0.0-alpha.2", "1.0.0-alpha.1", False),
    ("^1.0.0-alpha", "1.1.0-alpha", False),
    ("^1.0.0-alpha", "1.1.0", True),
    ("*", "1.0.0-rc.1", False),
    (">=1.0.0-rc.1", "1.0.0", True),
    (">=1.0.0-rc.1, <2", "1.0.0-rc.2", True),
    ("=1.0.0-rc.1", "1.0.0-rc.1", True),
    ("=1.0.0-rc.1", "1.0.0", False),
    ("<2.0.0", "2.0.0-rc.1", False),
    ("~1.2.3-b", "1.2.3-c", True),
]


@pytest.mark.parametrize(("text", "version", "expected"), PRERELEASES)
def test_prereleases_need_to_be_named(text: str, version: str, expected: bool) -> None:
    assert Requirement.parse(text).matches(Version.parse(version)) is expected


# semver.org, section 11
ORDERED = [
    "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.1.0", "2.0.0",
]  # fmt: skip


def test_precedence() -> None:
    versions = [Version.parse(text) for text in ORDERED]
    assert sorted(versions[::-1]) == versions
    assert [str(version) for version in versions] == ORDERED
    assert Version.parse("1.0.0+a") == Version.parse("1.0.0+b")
    assert len({Version.parse("1.0.0+a"), Version.parse("1.0.0+b")}) == 1


BAD_VERSIONS = [
    "",
    "1",
    "1.2",
    "01.2.3",
    "1.2.3-",
    "1.2.3-01",
    "1.2.3+",
    "v1.2.3",
    "1.2.3.4",
    "1.2.3-a..b",
    "-1.2.3",
    "1.2.3 ",
    "1.2.3\n",
    "9" * 40 + ".0.0",
    "1.0.0-" + "a" * 300,
]


@pytest.mark.parametrize("text", BAD_VERSIONS)
def test_malformed_versions(text: str) -> None:
    with pytest.raises(DependencyError):
        Version.parse(text)


BAD_REQUIREMENTS = [
    "",
    ",",
    "1.2,",
    "^",
    "^1.2.3.4",
    "==1.2.3",
    "!=1.0",
    ">=1.*",
    "~1.x",
    "1.*.3",
    "^a.b",
    "latest",
    "1 || 2",
    "1.2-alpha",
    ">= 1.0.0-",
    "^01.2",
    "1" * 300,
    "1.2.3;rm",
]


@pytest.mark.parametrize("text", BAD_REQUIREMENTS)
def test_malformed_requirements(text: str) -> None:
    with pytest.raises(DependencyError):
        Requirement.parse(text)
    with pytest.raises(PackageError):
        Package("m", "1.0.0").add_dependency_spec("n", text)


@given(st.text(alphabet="0123456789.^~=<>*x-+, a", max_size=60))
def test_any_text_is_read_or_refused_at_once(text: str) -> None:
    start = time.process_time()
    try:
        Requirement.parse(text)
    except DependencyError as error:
        assert text[:5] in str(error) or error.message  # noqa: PT017
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("requirement", "version", "expected"),
    [
        (">=2.0,<3", "2.13.0", True),
        ("==2.13.0", "2.13.0", True),
        ("~=1.4", "1.9", True),
        ("~=1.4", "2.0", False),
        ("!=1.0", "1.0", False),
        ("", "0.0.1", True),
        (">=1.0", "2.0rc1", False),
        ("==1.*", "1.7", True),
    ],
)
def test_pip_follows_pep_440(requirement: str, version: str, expected: bool) -> None:
    assert satisfies(DependencySpec("n", requirement, kind="pip"), version) is expected


PLATFORMS = [
    (None, True),
    ("linux", True),
    ("linux-x86_64", True),
    ("*-x86_64", True),
    ("darwin", False),
    ("linux-aarch64", False),
    ("linux-x86_64-gnu", False),
    ('python_version >= "3.8"', True),
    ('python_version < "3.0"', False),
]


@pytest.mark.parametrize(("platform", "expected"), PLATFORMS)
def test_platforms(platform: str | None, expected: bool) -> None:
    assert applies_to(DependencySpec("n", "*", platform=platform), "linux-x86_64") is expected


@pytest.mark.parametrize(
    "spec",
    [
        DependencySpec("../n"),
        DependencySpec(""),
        DependencySpec("n", "^^1"),
        DependencySpec("n", kind="npm"),
        DependencySpec("n", features=["a b"]),
        DependencySpec("n", "^1.0", kind="pip"),
        DependencySpec("n", platform="if then"),
        DependencySpec("n" * 200),
        DependencySpec("n", ">=1.*"),
    ],
    ids=repr,
)
def test_malformed_specs(spec: DependencySpec) -> None:
    with pytest.raises((DependencyError, InvalidArgumentError)):
        check_spec(spec)


REQUIREMENTS = """\ufeff# a comment
torch==2.0.0
numpy>=1.24.0 , <3   # arrays
pillow [webp] == 10.0.0
uvloop>=0.19; sys_platform != "win32"
scipy==1.11.4 \\
    --hash=sha256:{digest}
plain
"""


def test_requirements_files() -> None:
    found = read_requirements(REQUIREMENTS.format(digest="ab" * 32))
    assert [(s.name, s.version_req, tuple(s.features), s.platform) for s in found.specs] == [
        ("torch", "==2.0.0", (), None),
        ("numpy", "<3,>=1.24.0", (), None),
        ("pillow", "==10.0.0", ("webp",), None),
        ("uvloop", ">=0.19", (), 'sys_platform != "win32"'),
        ("scipy", "==1.11.4", (), None),
        ("plain", "", (), None),
    ]
    assert found.hashes == {"scipy": ("sha256:" + "ab" * 32,)}
    assert not found.refused


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt",
        "-e .",
        "--index-url https://example.org",
        "./local",
        "n @ https://example.org/n.whl",
        "n==",
        "n>=1;;",
        "n n",
        "git+https://example.org/n",
        "n==1\nN==2",
        "n" * 5_000,
    ],
)
def test_requirements_that_are_refused(line: str) -> None:
    with pytest.raises(DependencyError, match="requirements line"):
        parse_requirements(line)
    assert len(read_requirements("ok\n" + line).refused) == 1


def test_dependencies_survive_saving(tmp_path) -> None:
    """Guide B, "Dependency Handling"."""
    package = Package("my-model", "1.0.0")
    package.add_dependency(
        DependencySpec(name="torsh-nn", version_req="^0.1.0", optional=False, features=[])
    )
    package.add_dependency(
        DependencySpec(
            name="torsh-vision", version_req="^0.1.0", optional=True, features=["image-processing"]
        )
    )
    package.add_optional_dependency("alternative-crate", "1.0.0")
    package.add_requirements("torch==2.0.0\nnumpy==1.24.0\n")
    package.save(tmp_path / "model.torshpkg")
    found = {spec.name: spec for spec in Package.load(tmp_path / "model.torshpkg").dependencies}
    assert set(found) == {"torsh-nn", "torsh-vision", "alternative-crate", "torch", "numpy"}
    assert found["torsh-vision"].optional
    assert list(found["torsh-vision"].features) == ["image-processing"]
    assert found["alternative-crate"].optional
    assert found["torch"].kind == "pip"
    with pytest.raises(DependencyError, match="itself"):
        package.add_dependency_spec("my-model", "*")
