"""Canonical JSON against an independent implementation of RFC 8785, and the JSON Schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

import torsh_package
from torsh_package import LimitError, ManifestError, Package, ResourceType
from torsh_package.canonical_json import MAX_INTEGER, check, dumps, loads

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES)
def test_same_bytes_as_rfc8785(value: Any) -> None:
    raw = dumps(value)
    assert raw == rfc8785.dumps(value)
    assert loads(raw, entry="x", limit=1 << 20) == value
    check(value, what="x")


def test_keys_sort_by_utf16() -> None:
    """RFC 8785, 3.2.3: U+1F600 (surrogates D83D DE00) sorts before U+FB33."""
    raw = dumps({"\ufb33": 1, "\U0001f600": 2})
    assert raw.index("\U0001f600".encode()) < raw.index("\ufb33".encode())


@settings(deadline=None)
@given(VALUES, st.sampled_from([1, 2, None]), st.booleans())
def test_any_other_spelling_is_refused(value: Any, indent: int | None, ascii_only: bool) -> None:
    other = json.dumps(value, indent=indent, ensure_ascii=ascii_only, sort_keys=False).encode()
    if other != dumps(value):
        with pytest.raises(ManifestError):
            loads(other, entry="x", limit=1 << 20)


@pytest.mark.parametrize(
    "bad", [1.5, float("nan"), 1 << 53, b"x", {1: 2}, "\ud800", {"\ud800": 1}, object()]
)
def test_check_refuses(bad: Any) -> None:
    with pytest.raises(ManifestError):
        check({"a": [bad]}, what="x")


def test_check_bounds() -> None:
    with pytest.raises(LimitError):
        check("x" * 70_000, what="x")
    deep: Any = 1
    for _ in range(33):
        deep = {"a": deep}
    with pytest.raises(LimitError, match="nested"):
        check(deep, what="x")


SCHEMA = json.loads((Path(torsh_package.__file__).parent / "manifest.schema.json").read_text())


def manifests() -> list[Any]:
    package = Package("m", "1.0.0")
    empty = package.manifest().to_json()
    package.add_resource("w", {"a": np.zeros((2, 3), np.float32)}, ResourceType.ModelWeights)
    package.set_compression(torsh_package.CompressionAlgorithm.Gzip)
    package.add_resource("t", "x" * 1000, ResourceType.Text)
    package.add_dependency_spec("torsh-nn", "^0.1.0")
    package.add_entrypoint(torsh_package.EntryPoint("f", "t"))
    package.extensions["x-a"] = 1
    golden = sorted((Path(__file__).parent / "golden").glob("*.torshpkg"))
    return [empty, package.manifest().to_json()] + [
        Package.load(path).manifest().to_json() for path in golden
    ]


def test_manifests_are_valid_under_the_shipped_schema() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for manifest in manifests():
        validator.validate(manifest)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["name"], 1), (["version"], "1"), (["schema"], [2, 0]), (["alignment"], 100),
        (["unknown"], 1), (["resources", 0, "type"], "Virus"), (["resources", 0, "size"], -1),
        (["resources", 0, "root"], "zz"), (["resources", 0, "unknown"], 1),
        (["resources", 1, "tensors", 0, "dtype"], "f33"), (["digest", "algorithm"], "md5"),
    ],
)  # fmt: skip
def test_schema_and_reader_refuse_alike(path: list[Any], value: Any) -> None:
    from torsh_package.manifest import Manifest

    manifest = manifests()[1]
    target = manifest
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(manifest)
    with pytest.raises(torsh_package.PackageError):
        Manifest.from_json(manifest)
