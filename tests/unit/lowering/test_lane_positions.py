"""Positions as i64 in lanes: their sums and comparisons with any numbers, against numpy."""

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
EXTENTS = (0, 1, 7, 31, 32, 33, 64, 97)
BORDERS = (-(1 << 63), -(1 << 31), -3, 0, 5, 40, (1 << 31) - 1, 1 << 31, (1 << 63) - 1)
COMPARE = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}  # fmt: skip


def kernel(order: str, border: int, *, swapped: bool) -> Any:
    """`y[i] = x[i] if (i - row) + 2 <order> border else 0`; `z[i]` that sum less data `d`."""
    b = KernBuilder("kernel")
    lo, hi, _ = (b.argument(INDEX, name) for name in ("lo", "hi", "worker"))
    x, y = (b.argument(buffer_of(dtypes.f32), name) for name in ("x", "y"))
    z, d = (b.argument(buffer_of(dtypes.i64), name) for name in ("z", "d"))
    row = b.argument(INDEX, "row")

    def body(i: Any) -> None:
        away = b.sub(b.cast(i, dtypes.i64), b.cast(row, dtypes.i64))
        place = b.add(away, b.const(2, dtypes.i64))
        limit = b.const(border, dtypes.i64)
        condition = b.compare(order, *((limit, place) if swapped else (place, limit)))
        value = b.select(condition, b.load(x, i), b.const(0.0, dtypes.f32))
        b.store(value, y, i)
        b.store(b.sub(place, b.load(d, b.index(0))), z, i)

    b.lanes(lo, hi, body)
    return b.finish()


@pytest.mark.parametrize("order", COMPARE)
@pytest.mark.parametrize("swapped", [False, True])
def test_positions_against_numbers(order: str, swapped: bool) -> None:
    x = np.random.default_rng(0).standard_normal(max(EXTENTS)).astype(np.float32)
    data = np.int64([(1 << 63) - 5])
    for border in BORDERS:
        function = kernel(order, border, swapped=swapped)
        for target in HERE[-1:] if swapped else HERE:
            module = Module()
            emit_function(module, function, target)
            run = compile_module(module, target, ["kernel"]).kernel("kernel")
            for extent in EXTENTS:
                for row in (0, 20, extent):
                    y, z = np.full_like(x, 7), np.full(len(x), 7, np.int64)
                    run([x, y, z, data, row], 0, extent)
                    place = np.arange(extent) - row + 2
                    pair = (np.int64(border), place) if swapped else (place, np.int64(border))
                    kept = COMPARE[order](*pair)
                    assert np.array_equal(y[:extent], np.where(kept, x[:extent], 0))
                    assert np.array_equal(z[:extent], place - data)
                    assert (y[extent:] == 7).all()
                    assert (z[extent:] == 7).all()
