"""Lanes whose index is divided: split into runs of one quotient, against numpy's // and %."""

from collections.abc import Sequence
from itertools import pairwise
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
EXTENTS = (0, 1, 5, 7, 8, 31, 32, 33, 64, 97, 300)
DIVISORS = (1, 2, 3, 7, 8, 9, 13, 16, 31, 32, 33, 64, 67, 128, 400)


def kernel(divisors: Sequence[int | None], offset: int | None, *, turned: bool = False) -> Any:
    """`y[i] = x[(i + offset) % d]`, the quotient, and so on for the quotient with the next d.

    Words: x, y (a row for each divisor and one of the last quotient, of `stride` elements), the
    stride, the offset, the divisors; what is None is read from its word.
    """
    b = KernBuilder("kernel")
    lo, hi, _ = (b.argument(INDEX, name) for name in ("lo", "hi", "worker"))
    x, y = (b.argument(buffer_of(dtypes.f32), name) for name in ("x", "y"))
    stride, away, *extents = (b.argument(INDEX, "word") for _ in range(2 + len(divisors)))

    def body(i: Any) -> None:
        place = b.add_index(i, away if offset is None else b.index(offset))
        if turned:
            place = b.sub_index(b.mul_index(stride, 1), place)
        row: Any = 0
        for given, word in zip(divisors, extents, strict=True):
            d = word if given is None else given
            found = b.load(x, b.index(b.mod(place, d)))
            b.store(found, y, b.add_index(b.mul_index(row, stride), i))
            place, row = b.floordiv(place, d), row + 1
        last = b.cast(b.cast(b.index(place), dtypes.i64), dtypes.f32)
        b.store(last, y, b.add_index(b.mul_index(row, stride), i))

    b.lanes(lo, hi, body)
    return b.finish()


def expected(x: np.ndarray, place: np.ndarray, divisors: Sequence[int]) -> np.ndarray:
    rows: list[np.ndarray] = []
    for d in divisors:
        rows.append(x[place % d])
        place = place // d
    return np.stack([*rows, place.astype(np.float32)])


def check(
    divisors: Sequence[int], offset: int, *, is_static: bool, turned: bool = False,
    extents: Sequence[int] = EXTENTS, targets: Sequence[Any] = HERE,
) -> None:  # fmt: skip
    given = list(divisors) if is_static else [None] * len(divisors)
    x = np.random.default_rng(0).standard_normal(max(divisors)).astype(np.float32)
    for target in targets:
        module = Module()
        emit_function(module, kernel(given, offset if is_static else None, turned=turned), target)
        run = compile_module(module, target, ["kernel"]).kernel("kernel")
        for extent in extents:
            stride = extent + 3
            y = np.full((len(divisors) + 1, stride), 7, np.float32)
            words = [x, y, stride, offset % (1 << 64), *divisors]
            for lo, hi in pairwise(sorted({0, extent // 3, extent})):
                run(words, lo, hi)
            place = np.arange(extent) + offset
            place = stride - place if turned else place
            assert np.array_equal(y[:, :extent], expected(x, place, divisors)), (extent, target)
            assert (y[:, extent:] == 7).all()


@pytest.mark.parametrize("offset", [0, 5, -3])
@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("is_static", [True, False])
def test_one_divisor(divisor: int, offset: int, is_static: bool) -> None:
    check([divisor], offset, is_static=is_static, targets=HERE if is_static else HERE[:1])


@pytest.mark.parametrize("divisors", [(8, 3), (13, 9, 2), (33, 1), (2, 40), (64, 64)])
@pytest.mark.parametrize("is_static", [True, False])
def test_quotients_of_quotients(divisors: tuple[int, ...], is_static: bool) -> None:
    check(divisors, 4, is_static=is_static, targets=HERE[-1:])


@pytest.mark.parametrize("divisor", [3, 8, 13, 67])
@pytest.mark.parametrize("is_static", [True, False])
def test_an_index_that_falls(divisor: int, is_static: bool) -> None:
    """Not split: its rest falls from lane to lane."""
    check([divisor], 2, is_static=is_static, turned=True, targets=HERE[-1:])


def test_two_divisors_of_one_index() -> None:
    """Runs end where either quotient changes."""
    for first, second in ((13, 33), (8, 12), (9, 4), (32, 32)):
        b = KernBuilder("kernel")
        lo, hi, _ = (b.argument(INDEX, name) for name in ("lo", "hi", "worker"))
        y = b.argument(buffer_of(dtypes.i64), "y")
        d, f = (b.argument(INDEX, "word") for _ in range(2))

        def body(i: Any, b: KernBuilder = b, y: Any = y, d: Any = d, f: Any = f) -> None:
            rests = b.add_index(b.mul_index(b.mod(i, d), 1000), b.mod(b.add_index(i, 7), f))
            b.store(b.cast(b.index(rests), dtypes.i64), y, i)

        b.lanes(lo, hi, body)
        function = b.finish()
        for target in HERE:
            module = Module()
            emit_function(module, function, target)
            run = compile_module(module, target, ["kernel"]).kernel("kernel")
            found, i = np.zeros(200, np.int64), np.arange(200)
            run([found, first, second], 0, 200)
            assert np.array_equal(found, i % first * 1000 + (i + 7) % second)


def test_runs_are_loaded_together() -> None:
    """Where the divisor is long enough nothing is gathered."""
    for divisor, gathers in ((64, False), (67, False), (3, True)):
        module = Module()
        emit_function(module, kernel([divisor], 0), TARGETS["x86-64-v3"])
        assert ("masked.gather" in module.text()) == gathers
