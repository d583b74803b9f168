"""Transposition kernels against numpy, over shapes, element sizes, targets and splits."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowering.cpu.jit import compile_module, object_file, runs_here
from lowering.cpu.templates.transposed import TransposeParams, emit, units
from lowering.cpu.text import Module
from lowering.runtime.elf import ALLOWED_IMPORTS, read_symbols
from lowering.templates.choose_transpose import as_matrices
from torsh_dialect.target import TARGETS

Array = np.ndarray[Any, Any]
HERE = [target for target in TARGETS.values() if runs_here(target)]
SHAPES = [
    (1, 3, 50), (2, 50, 3), (3, 1, 7), (1, 4, 5000), (1, 5000, 4), (2, 2, 2), (1, 64, 64),
    (2, 65, 129), (1, 16, 1000), (1, 1000, 17), (3, 5, 6), (2, 130, 70), (2, 15, 40), (1, 80, 31),
    (2, 200, 1), (3, 1, 300), (2, 1, 5000), (1, 1, 1), (0, 1, 9), (2, 0, 1), (2, 1, 0),
]  # fmt: skip


def run(params: TransposeParams, target: Any, x: Array, splits: tuple[int, ...] = ()) -> Array:
    module = Module()
    emit(module, "transpose", params, target)
    kernel = compile_module(module, target, ["transpose"]).kernel("transpose")
    batch, rows, columns = x.shape
    y = np.full((batch, columns, rows), 7, x.dtype)
    extent = units(params, batch, rows, columns)
    assert isinstance(extent, int)
    for lo, hi in pairwise([0, *(s for s in splits if s < extent), extent]):
        kernel([x, y, rows, columns], lo, hi, 0)
    return y


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bytes_each", [1, 2, 4, 8])
def test_static_and_dynamic_extents(shape: tuple[int, int, int], bytes_each: int) -> None:
    x = np.arange(np.prod(shape)).astype(f"i{bytes_each}").reshape(shape)
    _, rows, columns = shape
    for target in HERE:
        static = TransposeParams(rows, columns, bytes_each)
        assert np.array_equal(run(static, target, x), x.swapaxes(1, 2))
    dynamic = TransposeParams(None, None, bytes_each)
    assert np.array_equal(run(dynamic, HERE[0], x, splits=(1, 2)), x.swapaxes(1, 2))


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda t: t.name)
def test_objects_import_nothing_else(target: Any) -> None:
    for params in (
        TransposeParams(3), TransposeParams(None, 4, 8), TransposeParams(),
        TransposeParams(3, None, 1), TransposeParams(bytes=1), TransposeParams(bytes=2),
    ):  # fmt: skip
        module = Module()
        emit(module, "transpose", params, target)
        symbols = read_symbols(object_file(module, target))
        assert ALLOWED_IMPORTS.issuperset(symbols.undefined)  # copies may be memcpy


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=5), st.randoms())
def test_permutations_as_matrices(dims: list[int], random: Any) -> None:
    """A permutation is a transposition of matrices exactly where it moves elements as one."""
    perm = random.sample(range(len(dims)), len(dims))
    x = np.arange(np.prod(dims)).reshape(dims)
    found = as_matrices(dims, perm)
    if found is None:
        sizes = [d for d in dims if d != 1]
        ways = [
            (int(np.prod(sizes[:a])), int(np.prod(sizes[a:b])), int(np.prod(sizes[b:])))
            for a in range(len(sizes))
            for b in range(a + 1, len(sizes))
        ]
    else:
        ways = [found]
    matches = [
        np.array_equal(x.transpose(perm).ravel(), x.reshape(way).swapaxes(1, 2).ravel())
        for way in ways
    ]
    moved = not np.array_equal(x.transpose(perm).ravel(), x.ravel())
    assert all(matches) if found else not (moved and any(matches))
