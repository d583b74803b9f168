"""Lanes that compare their index with one number: split there, against numpy."""

from typing import Any

import numpy as np
import pytest

from lowering.cpu.emit import emit_function
from lowering.cpu.jit import compile_module, runs_here
from lowering.cpu.text import Module
from lowering.kern.builder import KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from torsh_dialect import dtypes
from torsh_dialect.target import TARGETS

HERE = [target for target in TARGETS.values() if runs_here(target)]
EXTENTS = (0, 1, 7, 32, 95, 96, 131, 300)
HOLDS = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}


def kernel(kind: str, dtype: Any, given: tuple[int, int] | None, *, swapped: bool) -> Any:
    """`z[i] = x[i] if (i + offset) kind border else y[i] + x[i]` for `i` below an extent.

    Words: x, y, z, the extent, the border and the offset; `given` is a static extent and border.
    """
    b = KernBuilder("kernel")
    lo, hi, _ = (b.argument(INDEX, name) for name in ("lo", "hi", "worker"))
    x, y, z = (b.argument(buffer_of(dtype), name) for name in ("x", "y", "z"))
    extent, border, offset = (b.argument(INDEX, "word") for _ in range(3))

    def body(i: Any) -> None:
        place, limit = b.add_index(i, offset), border if given is None else given[1]
        turned = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}[kind]
        holds = (
            b.compare_index(turned, limit, place)
            if swapped
            else b.compare_index(kind, place, limit)
        )
        first, second = b.load(x, i, holds), b.load(y, i, b.not_(holds))
        b.store(b.select(holds, first, b.add(second, b.load(x, i))), z, i)

    def row(_: Any) -> None:
        b.lanes(0, extent if given is None else given[0], body)

    b.each(lo, hi, row)
    return b.finish()


@pytest.mark.parametrize("kind", HOLDS)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.i8, dtypes.f64], ids=["f32", "i8", "f64"])
def test_borders_of_the_run(kind: str, swapped: bool, dtype: Any) -> None:
    for target in HERE:
        run = _compiled(kernel(kind, dtype, None, swapped=swapped), target)
        for extent in EXTENTS:
            for border in (-3, 0, 1, extent // 3, extent - 1, extent, extent + 9):
                for offset in (0, 4, -6):
                    _check(run, kind, dtype, extent, border, offset)


@pytest.mark.parametrize("kind", HOLDS)
@pytest.mark.parametrize(("extent", "border"), [(96, 0), (96, 96), (131, 5), (300, 299), (64, 9)])
def test_known_borders(kind: str, extent: int, border: int) -> None:
    run = _compiled(kernel(kind, dtypes.f32, (extent, border), swapped=False), HERE[0])
    for offset in (0, 4):
        _check(run, kind, dtypes.f32, extent, border, offset)


def _compiled(function: Any, target: Any) -> Any:
    module = Module()
    emit_function(module, function, target)
    return compile_module(module, target, ["kernel"]).kernel("kernel")


def _check(run: Any, kind: str, dtype: Any, extent: int, border: int, offset: int) -> None:
    rng, element = np.random.default_rng(extent), dtypes.dtype_of(dtype).numpy
    x: Any = rng.integers(-9, 9, extent + 1).astype(element)
    y: Any = rng.integers(-9, 9, extent + 1).astype(element)
    z = np.full(extent + 40, 7, element)
    run([x, y, z, extent, *(n % (1 << 64) for n in (border, offset))], 0, 1)
    holds: Any = HOLDS[kind](np.arange(extent + 1) + offset, border)
    expected = y + x
    expected[holds] = x[holds]
    assert np.array_equal(z[:extent], expected[:extent])
    assert (z[extent:] == 7).all()
