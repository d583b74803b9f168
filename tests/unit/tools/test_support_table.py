"""What the support table says of ops is so: they become native code for those types and symbols."""

from __future__ import annotations

import pytest

from tools.torsh_verbs.probe import (
    PROBED,
    as_symbols,
    cast_to,
    data_element,
    example_of,
    lowers,
    taken_dtypes,
    takes,
    takes_symbols,
)
from tools.torsh_verbs.support import GROUPS, is_internal, lowering_of, short
from torsh_dialect.declare import OPS
from torsh_dialect.dtypes import dtype_named

ELSEWHERE = ("host function", "data", "structure", "-")
NATIVE = [cls for cls in OPS if lowering_of(cls) not in ELSEWHERE and not is_internal(cls)]
CLAIMS = [(cls, name) for cls in NATIVE for name in taken_dtypes(cls)]
SAMPLE = CLAIMS[::23]
"""Every 23rd of some 4,000 claims: 23 and the numbers of types share no factor."""


def test_types_that_are_listed_become_native_code():
    assert len(CLAIMS) > 3000
    failed = []
    for cls, name in SAMPLE:
        example = example_of(cls)
        assert example is not None
        data = data_element(example)
        assert data is not None
        if not lowers(example, cast_to(data, dtype_named(name).element)):
            failed.append((cls.name, name))
    assert not failed


def test_ops_that_are_listed_as_dynamic_become_native_code_for_symbols():
    dynamic = [cls for cls in NATIVE if takes_symbols(cls)]
    assert len(dynamic) > 200
    failed = [cls.name for cls in dynamic[::5] if not lowers(example_of(cls), as_symbols)]
    assert not failed


def test_types_that_are_not_listed_are_refused():
    """Or have no order: then the lowering refuses them."""
    checked = 0
    for cls in NATIVE[::7]:
        example, listed = example_of(cls), taken_dtypes(cls)
        data = None if example is None else data_element(example)
        if data is None:
            continue
        for row in PROBED:
            change = cast_to(data, row.element)
            if row.name not in listed and takes(example, change):
                assert row.kind == "complex", (cls.name, row.name)
                assert not lowers(example, change)
            checked += 1
    assert checked > 500


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("f16", "bf16", "f32", "f64"), "float"),
        (("f32", "f64", "bool"), "f32, f64, bool"),
        (tuple(name for group in GROUPS.values() for name in group), "all"),
        ((), ""),
    ],
)
def test_words_for_types(names: tuple[str, ...], words: str):
    assert short(names) == words
