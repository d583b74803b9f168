"""Transposition kernels against numpy, over shapes, element sizes, targets and splits."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowering.cpu.jit import compile_module, object_file, runs_here
from lowering.cpu.templates.transpose_params import Apart, TransposeParams, units
from lowering.cpu.templates.transposed import emit
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
@given(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=5), st.randoms())
def test_permutations_as_matrices(dims: list[int], random: Any) -> None:
    """The matrices of a permutation, moved one by one; none where the last axis stays."""
    perm = random.sample(range(len(dims)), len(dims))
    x = np.arange(np.prod(dims)).reshape(dims)
    expected = x.transpose(perm).ravel()
    found = as_matrices(dims, perm)
    if found is None:
        last = max((axis for axis, dim in enumerate(dims) if dim != 1), default=0)
        assert [p for p in perm if dims[p] != 1][-1:] in ([], [last])
        return
    sizes = [found.rows, found.columns, *(extent for extent, _, _ in found.axes)]
    source = [found.row_step, 1, *(step for _, step, _ in found.axes)]
    result = [1, found.column_step, *(step for _, _, step in found.axes)]
    y = np.full(x.size, -1)
    for place in np.ndindex(*sizes):
        y[np.dot(place, result)] = x.ravel()[np.dot(place, source)]
    assert np.array_equal(y, expected)
    assert found.is_packed == all(axis[1:] == (found.rows * found.columns,) * 2
                                  for axis in found.axes) or not x.size  # fmt: skip


PERMUTATIONS = [
    ((7, 3, 13), (2, 1, 0)), ((2, 2, 2, 3, 5, 7), (0, 3, 4, 1, 5, 2)), ((65, 2, 17), (2, 1, 0)),
    ((3, 5, 2, 6, 2), (0, 2, 4, 1, 3)), ((2, 33, 4, 15), (1, 3, 0, 2)),
    ((4, 2, 3, 9), (3, 1, 0, 2)),
    ((1, 16, 1), (2, 1, 0)), ((16, 3, 16), (2, 1, 0)), ((3, 130, 2, 9), (1, 3, 2, 0)),
    ((0, 3, 4), (2, 1, 0)), ((5, 0, 4), (2, 1, 0)), ((5, 3, 0), (2, 1, 0)),
    ((2, 8, 31, 2), (0, 3, 1, 2)),
    ((4, 3, 2, 31), (1, 3, 2, 0)), ((5, 6, 3, 32), (1, 3, 2, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "perm"), PERMUTATIONS, ids=str)
@pytest.mark.parametrize("bytes_each", [1, 4, 8])
@pytest.mark.parametrize("is_static", [True, False])
def test_matrices_that_are_apart(
    dims: tuple[int, ...], perm: tuple[int, ...], bytes_each: int, is_static: bool
) -> None:
    """Permutations, split anywhere, with what is dynamic in words and what is static not read."""
    x = np.arange(np.prod(dims)).astype(f"i{bytes_each}").reshape(dims)
    found = as_matrices(dims, perm)
    if found is None:
        assert np.array_equal(x.transpose(perm).ravel(), x.ravel())
        return
    words = [found.rows, found.columns, found.row_step, found.column_step]
    words += [number for axis in found.axes for number in axis]
    given = words if is_static else [None] * len(words)
    # A narrow matrix has a way of its own only if it is static.
    narrow = found.rows if is_static or found.rows == found.column_step <= 4 else None
    axes = tuple(tuple(given[n : n + 3]) for n in range(4, len(words), 3))
    step = found.column_step if narrow is not None else given[3]
    apart = Apart(given[2], step, axes)
    params = TransposeParams(narrow, given[1], bytes_each, apart)
    for target in HERE if is_static else HERE[:1]:
        module = Module()
        emit(module, "transpose", params, target)
        kernel = compile_module(module, target, ["transpose"]).kernel("transpose")
        y = np.full([dims[axis] for axis in perm], 7, x.dtype)
        batch = int(np.prod([axis[0] for axis in found.axes]))
        extent = units(params, batch, found.rows, found.columns)
        assert isinstance(extent, int)
        passed = [w if g is None else -(1 << 40) for w, g in zip(words, given, strict=True)]
        for lo, hi in pairwise(sorted({0, min(1, extent), min(5, extent), extent // 2, extent})):
            kernel([x, y, *(p % (1 << 64) for p in passed)], lo, hi, 0)
        assert np.array_equal(y, x.transpose(perm))
