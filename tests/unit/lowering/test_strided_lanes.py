"""Lanes that lie a small step apart, and comparisons of what grows from lane to lane.

Oracle: numpy's slices and Python's integers.
"""

from itertools import product
from typing import Any

import numpy as np
import pytest

from lowering.cpu.jit import compile_module, runs_here
from lowering.cpu.spans import mask_of, meet
from lowering.cpu.strided import compare_spread, load_spread
from lowering.cpu.text import Module, Text, vector_of
from lowering.cpu.values import Val
from torsh_dialect.target import TARGETS

HERE = [target for target in TARGETS.values() if runs_here(target)]
STEPS = (-1, 2, 3, 4)
ROOM = 200
MOST = (1 << 63) - 1


def bits(lanes: list[int], width: int) -> str:
    return "<" + ", ".join(f"i1 {int(n in lanes)}" for n in range(width)) + ">"


@pytest.mark.parametrize("target", HERE, ids=lambda t: t.name)
@pytest.mark.parametrize(("element", "dtype"), [("float", "f4"), ("double", "f8"), ("i8", "u1")])
def test_loads(target: Any, element: str, dtype: str) -> None:
    """All lanes, neighbours by a span that only the run knows, and any lanes."""
    module, cases = Module(), list[tuple[str, int, int, list[int]]]()
    for number, (step, lanes, kind) in enumerate(
        product(STEPS, (2, 8, 32), ("all", "span", "any"))
    ):
        text = Text(module, f"k{number}")
        source, result = text.argument(0), text.argument(1)
        first, end = text.argument(2, "i64"), text.argument(3, "i64")
        chosen, mask = list(range(lanes)), None
        if kind == "span":
            chosen = list(range(lanes // 4, lanes - 1))
            mask = mask_of(text, (first, end), lanes)
        elif kind == "any":
            chosen = [n for n in range(lanes) if n % 3 != 1]
            mask = bits(chosen, lanes)
        value = load_spread(text, element, source, str(ROOM // 2), step, lanes, mask)
        text.store(vector_of(element, lanes), value, result)
        text.finish()
        cases.append((f"k{number}", step, lanes, chosen))
    compiled = compile_module(module, target, [case[0] for case in cases])
    x = (np.arange(2 * ROOM) % 251).astype(dtype)
    for name, step, lanes, chosen in cases:
        y = np.full(32, 99, dtype)
        compiled.kernel(name)([x, y, lanes // 4, lanes - 1], 0, 1, 0)
        expected = np.zeros(lanes, dtype)
        expected[chosen] = x[[ROOM // 2 + n * step for n in chosen]]
        assert np.array_equal(y[:lanes], expected), (name, step, lanes, chosen)


@pytest.mark.parametrize("target", HERE[:1], ids=lambda t: t.name)
def test_comparisons(target: Any) -> None:
    """Orders of base + lane * step and a bound, which may be any number."""
    lanes, module, cases = 8, Module(), list[tuple[str, str, int]]()
    for number, (kind, step) in enumerate(product(("lt", "le", "gt", "ge"), (-3, -1, 1, 2))):
        for turned in (False, True):
            text = Text(module, f"c{number}{'t' if turned else ''}")
            base, bound = text.argument(0, "i64"), text.argument(1, "i64")
            pair = (Val(base, "i64", lanes, step), Val(bound, "i64"))
            found = compare_spread(text, kind, *(reversed(pair) if turned else pair))
            assert found is not None
            both = meet(text, found.text, mask_of(text, ("0", "7"), lanes), lanes)
            type = vector_of("i8", lanes)
            value = text.let(f"zext <{lanes} x i1> {both} to {type}")
            text.store(type, value, text.argument(2))
            text.finish()
            cases.append((text.name, kind, step if not turned else step + 100))
    compiled = compile_module(module, target, [case[0] for case in cases])
    order = {"lt": int.__lt__, "le": int.__le__, "gt": int.__gt__, "ge": int.__ge__}
    for name, kind, coded in cases:
        turned = coded > 50
        step = coded - 100 if turned else coded
        for base, bound in product((-5, 0, 6), (-MOST - 1, -20, -5, -1, 0, 1, 7, 13, MOST)):
            y = np.zeros(lanes, np.uint8)
            words = [value % (1 << 64) for value in (base, bound)]
            compiled.kernel(name)([*words, y], 0, 1, 0)
            lane = [base + n * step for n in range(7)]
            pairs = [(bound, a) if turned else (a, bound) for a in lane]
            expected = [int(order[kind](a, b)) for a, b in pairs]
            assert y.tolist() == [*expected, 0], (kind, step, turned, base, bound)
