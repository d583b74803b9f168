"""Values of models as a command line shows them: arrays, and sequences, maps and nothing by parts.

A sequence `s` of two tensors has the parts `s[0]` and `s[1]`, a map `m` of one key `m['cat']`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from torsh_dialect.attributes import Array

Part: TypeAlias = "Array | str"
"""An array, or in a word what is none: `nothing`, `empty sequence`, `empty map`."""

NOTHING, NO_ITEMS, NO_KEYS = "nothing", "empty sequence", "empty map"
STRINGS = "OUS"
"""Numpy's kinds of strings: Python objects, and of a fixed length."""

SHOWN = 4
"""Elements of an array in a summary."""


def parts_of_value(name: str, value: Any) -> Iterator[tuple[str, Part]]:
    """The arrays in a value, with names; a word where there are none."""
    if value is None:
        yield name, NOTHING
    elif isinstance(value, dict):
        pairs = cast("dict[Any, Any]", value)
        for key, item in pairs.items():
            yield from parts_of_value(f"{name}[{key!r}]", item)
        if not pairs:
            yield name, NO_KEYS
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for number, item in enumerate(items):
            yield from parts_of_value(f"{name}[{number}]", item)
        if not items:
            yield name, NO_ITEMS
    else:
        yield name, np.asarray(value)


def parts_of_values(names: Sequence[str], values: Sequence[Any]) -> dict[str, Part]:
    """The parts of all values, in order."""
    pairs = zip(names, values, strict=True)
    return {part: array for name, value in pairs for part, array in parts_of_value(name, value)}


def is_string(array: Array) -> bool:
    """Whether the elements are strings."""
    return array.dtype.kind in STRINGS


def type_text(part: Part) -> str:
    """Dtype and extents: `float32[2, 3]`."""
    if isinstance(part, str):
        return part
    return f"{'string' if is_string(part) else part.dtype}{list(part.shape)}"


def head_text(part: Part) -> str:
    """The first elements: `1, 2.5, 3, 4, ...`."""
    if isinstance(part, str):
        return ""
    head = part.reshape(-1)[:SHOWN].tolist()
    words = [repr(v) if isinstance(v, str | bytes) else f"{v:.6g}" for v in head]
    return ", ".join(words) + (", ..." if part.size > SHOWN else "")


def head_json(part: Part) -> list[Any]:
    """The first elements, as JSON has them: numbers that it has none for are text."""
    if isinstance(part, str):
        return []
    return [json_number(value) for value in part.reshape(-1)[:SHOWN].tolist()]


def json_number(value: Any) -> Any:
    """A value, or its text where JSON has no such number (NaN, infinities, complex ones)."""
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str) else str(value)


def difference(ours: Part, theirs: Part) -> tuple[float, float]:
    """The largest absolute difference, and the largest magnitude of `theirs` (its scale).

    Infinite where shapes, dtypes, the places of NaN, or strings differ.
    """
    if isinstance(ours, str) or isinstance(theirs, str):
        both = isinstance(ours, str) and isinstance(theirs, str)
        return (0.0 if both and ours == theirs else np.inf), 1.0
    if ours.shape != theirs.shape:
        return np.inf, 1.0
    if is_string(ours) and is_string(theirs):
        return (0.0 if ours.astype(str).tolist() == theirs.astype(str).tolist() else np.inf), 1.0
    if ours.dtype != theirs.dtype:
        return np.inf, 1.0
    if not ours.size:
        return 0.0, 1.0
    wide = np.complex128 if ours.dtype.kind == "c" else np.float64
    a, b = ours.astype(wide), theirs.astype(wide)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf, 1.0
    same = (a == b) | np.isnan(a)
    finite = np.abs(b[np.isfinite(b)])
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(np.where(same, 0, a - b)).max())
    return largest, float(finite.max()) if finite.size else 1.0
