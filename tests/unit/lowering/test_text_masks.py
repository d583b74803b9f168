"""Masked loads and stores touch the lanes of their mask and nothing else."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from lowering.cpu.jit import compile_module, runs_here
from lowering.cpu.text import Module, Text, only_lane
from torsh_dialect.target import TARGETS

HERE = [target for target in TARGETS.values() if runs_here(target)]
LANES = 16
MASKS = [*((lane,) for lane in range(LANES)), *combinations((0, 3, 15), 2), tuple(range(16))]


def mask(lanes: tuple[int, ...]) -> str:
    return "<" + ", ".join(f"i1 {int(lane in lanes)}" for lane in range(LANES)) + ">"


@pytest.mark.parametrize("target", HERE, ids=lambda t: t.name)
@pytest.mark.parametrize("bits", [8, 16])
def test_narrow_lanes(target: Any, bits: int) -> None:
    """Code that computes in 32 bits, reads and writes fewer: LLVM merges conversion and access."""
    module = Module()
    for number, lanes in enumerate(MASKS):
        text = Text(module, f"k{number}")
        source, result = text.argument(0), text.argument(1)
        narrow, wide = f"<{LANES} x i{bits}>", f"<{LANES} x i32>"
        loaded = text.masked_load(narrow, source, mask(lanes), "zeroinitializer")
        value = text.let(f"zext {narrow} {loaded} to {wide}")
        value = text.let(f"add {wide} {value}, splat (i32 {1 << bits})")
        value = text.let(f"add {wide} {value}, splat (i32 1)")
        value = text.let(f"trunc {wide} {value} to {narrow}")
        text.masked_store(narrow, value, result, mask(lanes))
        text.finish()
    names = [f"k{number}" for number in range(len(MASKS))]
    compiled = compile_module(module, target, names)
    x = np.arange(1, 2 * LANES + 1, dtype=f"u{bits // 8}")
    for name, lanes in zip(names, MASKS, strict=True):
        y = np.full(2 * LANES, 99, x.dtype)
        compiled.kernel(name)([x, y], 0, 1, 0)
        expected = np.full_like(y, 99)
        expected[list(lanes)] = x[list(lanes)] + 1
        assert np.array_equal(y, expected), lanes


def test_only_lane() -> None:
    assert [only_lane(mask((lane,))) for lane in range(LANES)] == list(range(LANES))
    assert only_lane(mask((0, 1))) is None
    assert only_lane("%mask") is None
