"""Any change of a manifest is refused with a typed error, or read and written back as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package import Package, PackageError
from torsh_package.canonical_json import dumps
from torsh_package.manifest import Manifest

GOLDEN = Path(__file__).parents[1] / "golden"
BASES = [
    json.loads(Package.load(path).manifest().to_bytes())
    for path in sorted(GOLDEN.glob("1.0-*.torshpkg"))
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS: Any = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 60), 1 << 60)
    | st.sampled_from([0, 1, 63, 64, 65, 4096, 1 << 20, (1 << 53) - 1, 1 << 53])
    | TEXT
    | st.sampled_from(
        ["", "*", "../x", "resources/x", "f32", "i4", "zstd", "torsh", "x-a", "0" * 64]
    )
)
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values inside."""
    found = [path] if path else []
    keys = ()
    if isinstance(value, dict | list):
        keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        found += places(value[key], (*path, key))
    return found


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_changed_manifest(data: Any) -> None:
    manifest = json.loads(json.dumps(data.draw(st.sampled_from(BASES))))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(manifest)))
        target = manifest
        for key in path[:-1]:
            target = target[key]
        action = data.draw(st.sampled_from(["replace", "delete", "double", "add"]))
        if action == "delete":
            del target[path[-1]]
        elif action == "double" and isinstance(target, list):
            target.insert(path[-1], target[path[-1]])
        elif action == "add" and isinstance(target, dict):
            target[data.draw(TEXT)] = data.draw(VALUES)
        else:
            target[path[-1]] = data.draw(VALUES)
    try:
        found = Manifest.from_json(manifest)
    except PackageError:
        return
    if found.schema <= (1, 0):
        assert found.to_json() == manifest
        assert Manifest.from_bytes(dumps(manifest)) == found


@given(VALUES)
@settings(deadline=None)
def test_any_json_is_no_manifest(value: Any) -> None:
    with pytest.raises(PackageError):
        Manifest.from_json(value)
