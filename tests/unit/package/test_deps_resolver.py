"""The resolver against brute force, its explanations, lock files, and what is installed here."""

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
    FolderIndex,
    ListIndex,
    LockFile,
    check_available,
    installed_index,
    resolve,
    satisfies,
)
from torsh_package.errors import DependencyError


def need(name: str, requirement: str = "*", **more) -> DependencySpec:
    return DependencySpec(name, requirement, **more)


def chosen(specs: list[DependencySpec], candidates: list[Candidate], **more) -> dict[str, str]:
    found = resolve(specs, ListIndex(candidates), **more).chosen
    return {candidate.name: candidate.version for candidate in found.values()}


def test_newest_that_fits() -> None:
    versions = [Candidate("a", v) for v in ("0.1.9", "0.1.10", "0.2.0", "0.1.11-rc.1", "1.0.0")]
    assert chosen([need("a", "^0.1.0")], versions) == {"a": "0.1.10"}
    assert chosen([need("A", "*")], versions) == {"a": "1.0.0"}


def test_backtracking() -> None:
    candidates = [
        Candidate("a", "1.0.0", dependencies=[need("c", "^0.1")]),
        Candidate("b", "1.1.0", dependencies=[need("c", "^0.2")]),
        Candidate("b", "1.0.0", dependencies=[need("c", "^0.1")]),
        Candidate("c", "0.1.5"), Candidate("c", "0.2.0"),
    ]  # fmt: skip
    assert chosen([need("a"), need("b")], candidates) == {"a": "1.0.0", "b": "1.0.0", "c": "0.1.5"}


def test_conflicts_are_explained() -> None:
    candidates = [
        Candidate("a", "1.0.0", dependencies=[need("c", "^0.1")]),
        Candidate("b", "1.0.0", dependencies=[need("c", "^0.2")]),
        Candidate("c", "0.1.5"), Candidate("c", "0.2.0"),
    ]  # fmt: skip
    with pytest.raises(DependencyError) as caught:
        chosen([need("a"), need("b")], candidates)
    message = str(caught.value)
    assert "a 1.0.0 needs c ^0.1" in message
    assert "b 1.0.0 needs c ^0.2" in message
    assert "c exists as 0.1.5, 0.2.0" in message
    with pytest.raises(DependencyError, match="nothing is unknown to the index"):
        chosen([need("nothing")], candidates)
    with pytest.raises(DependencyError, match="has the feature 'gpu'"):
        chosen([need("c", features=["gpu"])], candidates)


def test_optional_features_platform_and_yanked() -> None:
    candidates = [
        Candidate(
            "v",
            "1.0.0",
            dependencies=[need("codec", "^1", optional=True), need("core")],
            features={"images": ["codec"]},
        ),
        Candidate("codec", "1.0.0"),
        Candidate("core", "1.0.0"),
        Candidate("core", "1.1.0", yanked=True),
        Candidate("mac", "1.0.0"),
    ]
    assert chosen([need("v")], candidates) == {"v": "1.0.0", "core": "1.0.0"}
    assert "codec" in chosen([need("v", features=["images"])], candidates)
    assert chosen([need("v", optional=True)], candidates) == {}
    assert "v" in chosen([need("v", optional=True)], candidates, enable=["v"])
    mac = need("mac", platform="darwin")
    assert chosen([mac], candidates, platform="linux-x86_64") == {}
    assert chosen([mac], candidates, platform="darwin-arm64") == {"mac": "1.0.0"}
    assert chosen([need("core")], candidates, locked={"torsh:core": "1.1.0"}) == {"core": "1.1.0"}
    absent = resolve([need("v", optional=True)], ListIndex(candidates)).absent
    assert [(spec.name, reason) for spec, reason in absent] == [("v", "optional and not enabled")]


def test_cycles_end() -> None:
    candidates = [
        Candidate("a", "1.0.0", dependencies=[need("b")]),
        Candidate("b", "1.0.0", dependencies=[need("a")]),
    ]
    assert chosen([need("a")], candidates) == {"a": "1.0.0", "b": "1.0.0"}


NAMES, VERSIONS = ("a", "b", "c"), ("0.1.0", "0.2.0", "1.0.0")
requirements = st.sampled_from(["*", "^0.1", "^0.2", ">=0.2", "<1", "=1.0.0"])
needs = st.lists(st.tuples(st.sampled_from(NAMES), requirements), max_size=2)


@given(graph=st.fixed_dictionaries({(n, v): needs for n in NAMES for v in VERSIONS}), roots=needs)
@settings(max_examples=150, deadline=None)
def test_equal_to_brute_force(graph: dict, roots: list[tuple[str, str]]) -> None:
    """A choice exists exactly if one of all possible choices satisfies everything."""
    index = ListIndex(
        Candidate(name, version, dependencies=[need(n, r) for n, r in wanted if n != name])
        for (name, version), wanted in graph.items()
    )

    def holds(choice: dict[str, str | None]) -> bool:
        asked = list(roots)
        for name, version in choice.items():
            if version is not None:
                asked += [(n, r) for n, r in graph[name, version] if n != name]
        return all(
            choice[n] is not None and satisfies(need(n, r), str(choice[n])) for n, r in asked
        )

    options = itertools.product([None, *VERSIONS], repeat=len(NAMES))
    possible = any(holds(dict(zip(NAMES, option, strict=True))) for option in options)
    try:
        found = resolve([need(n, r) for n, r in roots], index).chosen
    except DependencyError:
        assert not possible
        return
    assert possible
    versions = {candidate.name: candidate.version for candidate in found.values()}
    assert holds({name: versions.get(name) for name in NAMES})


# Lock files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "packages"
    root.mkdir()
    for name, version, wants in (
        ("nn", "0.1.0", []),
        ("nn", "0.1.4", []),
        ("nn", "0.2.0", []),
        ("vision", "0.1.2", [("nn", "^0.1.1")]),
    ):
        package = Package(name, version)
        for wanted, requirement in wants:
            package.add_dependency_spec(wanted, requirement)
        package.add_optional_dependency("extra", "^1.0")
        package.save(root / f"{name}-{version}.torshpkg")
    return root


def test_lock_of_a_folder(folder: Path, tmp_path: Path) -> None:
    index, specs = FolderIndex(folder), [need("vision", "^0.1")]
    lock = LockFile.of(specs, resolve(specs, index))
    assert lock.versions() == {"torsh:nn": "0.1.4", "torsh:vision": "0.1.2"}
    assert lock.packages["torsh:vision"].dependencies == ("torsh:nn",)
    again = LockFile.parse(lock.to_bytes())
    assert again == lock
    assert again.to_bytes() == LockFile.of(specs, resolve(specs, FolderIndex(folder))).to_bytes()
    assert lock.check(specs) == []
    assert lock.check([need("vision", "^0.2"), need("other")]) == [
        "vision ^0.2 is locked as 0.1.2", "other * is not locked",
    ]  # fmt: skip
    files = {key: index.files[key, package.version] for key, package in lock.packages.items()}
    assert lock.check_files(files) == []
    files["torsh:nn"].write_bytes(files["torsh:nn"].read_bytes() + b"\0")
    del files["torsh:vision"]
    problems = lock.check_files(files)
    assert len(problems) == 2
    assert "locked is" in problems[0]
    assert "has no file" in problems[1]
    package = Package("app", "1.0.0")
    package.set_document(LOCK_DOCUMENT, lock.to_bytes())
    package.save(tmp_path / "app.torshpkg")
    stored = Package.load(tmp_path / "app.torshpkg").get_document(LOCK_DOCUMENT)
    assert LockFile.parse(bytes(stored.data)) == lock


def test_a_damaged_package_in_the_folder_is_named(folder: Path) -> None:
    target = folder / "nn-0.1.0.torshpkg"
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    with pytest.raises(DependencyError, match=r"nn-0\.1\.0\.torshpkg"):
        FolderIndex(folder)


GOOD_LOCK = {
    "format": "torshpkg-lock", "version": 1, "requirements": [], "platform": "linux-x86_64",
    "packages": [{"name": "a", "version": "1.0.0", "kind": "torsh", "sha256": "ab" * 32,
                  "features": [], "dependencies": []}],
}  # fmt: skip
BAD_LOCKS = {
    "later version": {"version": 2},
    "other format": {"format": "x"},
    "extra field": {"more": 1},
    "no packages": {"packages": None},
    "bad version": {"packages": [GOOD_LOCK["packages"][0] | {"version": "1"}]},
    "bad digest": {"packages": [GOOD_LOCK["packages"][0] | {"sha256": "xyz"}]},
    "bad kind": {"packages": [GOOD_LOCK["packages"][0] | {"kind": "npm"}]},
    "bad name": {"packages": [GOOD_LOCK["packages"][0] | {"name": "../a"}]},
}


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("name", BAD_LOCKS)
def test_malformed_locks(name: str) -> None:
    LockFile.parse(canonical(GOOD_LOCK))
    with pytest.raises(DependencyError):
        LockFile.parse(canonical({**GOOD_LOCK, **BAD_LOCKS[name]}))
    for raw in (b"", b"[]", b"{", b"\xff", canonical(GOOD_LOCK) + b" "):
        with pytest.raises(DependencyError):
            LockFile.parse(raw)


# What is here


def test_installed_distributions_resolve() -> None:
    found = resolve([need("pytest", ">=8", kind="pip")], installed_index(["pytest"])).chosen
    assert {"pip:pytest", "pip:packaging", "pip:pluggy"} <= set(found)
    with pytest.raises(DependencyError, match="pytest exists as"):
        resolve([need("pytest", "<1", kind="pip")], installed_index(["pytest"]))


def test_availability_is_reported(folder: Path) -> None:
    specs = [
        need("numpy", ">=1", kind="pip"),
        need("numpy", "<1", kind="pip"),
        need("no-such-thing", "", kind="pip", optional=True),
        need("nn", "^0.1"),
        need("gone", "^1"),
    ]
    found = check_available(specs, FolderIndex(folder))
    assert [(a.problem is None, a.fatal) for a in found] == [
        (True, False), (False, True), (False, False), (True, False), (False, True),
    ]  # fmt: skip
    assert "is needed" in str(found[1].problem)
    assert "not here" in str(found[2].problem)
