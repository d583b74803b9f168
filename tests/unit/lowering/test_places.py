"""Places of several axes in C order, checks of what lanes have in common, sure loops.

Oracle: numpy's order of indices and Python's ranges.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.ir import SSAValue

from lowering.cpu.emit import emit_function
from lowering.cpu.host import host_target
from lowering.cpu.jit import compile_module
from lowering.cpu.text import Module
from lowering.kern.builder import Index, KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, symbol

CODE = 3


def compiled(b: KernBuilder) -> Any:
    module = Module()
    target = host_target()
    emit_function(module, b.finish(), target)
    return compile_module(module, target, ["kernel"]).kernel("kernel")


@pytest.mark.parametrize(
    "extents",
    [(3, 4), (1, 1), (2, 1, 5), (3, 4, 1), (2, 3, 4, 5), (0, 3), (2, 0, 3)],
    ids=str,
)
@pytest.mark.parametrize("fixed", [(), (1,)], ids=["symbols", "second-known"])
def test_places_of_any_part(extents: tuple[int, ...], fixed: Sequence[int]) -> None:
    """`[lo, hi)` may begin and end inside of a line, and be empty."""
    b = KernBuilder("kernel")
    lo, hi, _ = (b.argument(INDEX, name) for name in ("lo", "hi", "worker"))
    out = b.argument(buffer_of(dtypes.i64), "out")
    dims: list[Dim] = [d if n in fixed else symbol(f"d{n}") for n, d in enumerate(extents)]

    def body(number: SSAValue, index: Sequence[Index]) -> None:
        at: Index = b.mul_index(number, len(extents) + 1)
        seen = b.add(b.load_now(out, at), b.const(1, dtypes.i64))
        b.store(seen, out, at)
        for n, i in enumerate(index, 1):
            b.store(b.cast(b.index(i), dtypes.i64), out, b.add_index(at, n))

    b.each_place(lo, hi, dims, body)
    words = [extents[int(str(dim)[1:])] for dim in b.dim_arguments]
    run = compiled(b)
    count = int(np.prod(extents))
    places = np.asarray(list(np.ndindex(*extents)), np.int64).reshape(count, len(extents))
    for first in range(count + 1):
        for last in range(first, count + 1):
            found = np.zeros((count + 1, len(extents) + 1), np.int64)
            run([found, *words], first, last, 0)
            assert (found[first:last, 0] == 1).all(), (first, last)
            assert not found[:first].any(), (first, last)
            assert not found[last:].any(), (first, last)
            assert np.array_equal(found[first:last, 1:], places[first:last]), (first, last)


@pytest.mark.parametrize("known", [None, 0, 5])
def test_checks_of_what_lanes_have_in_common(known: int | None) -> None:
    """A check fails where there is a lane; without one nothing was asked for."""
    b = KernBuilder("kernel")
    _, _, _ = (b.argument(INDEX, name) for name in ("lo", "hi", "worker"))
    record, out = (b.argument(buffer_of(dtypes.i64), name) for name in ("error", "out"))
    place, extent = (b.argument(INDEX, name) for name in ("place", "extent"))

    def body(i: SSAValue) -> None:
        b.check(record, b.compare_index("lt", place, 9), place, 9, CODE)
        b.store(b.cast(b.index(place), dtypes.i64), out, i)

    b.lanes(0, extent if known is None else known, body)
    run = compiled(b)
    for lanes in (0, 1, 70) if known is None else (known,):
        for at in (8, 9):
            error, out_ = np.zeros(4, np.int64), np.zeros(80, np.int64)
            run([error, out_, at, lanes], 0, 1, 0)
            expected = [at, 9, 0, CODE] if lanes and at >= 9 else [0] * 4
            assert error.tolist() == expected, (lanes, at)
            assert (out_[:lanes] == at).all()


def test_sure_loops() -> None:
    """A loop that is said to have a turn sums as any other."""
    b = KernBuilder("kernel")
    lo, hi, _ = (b.argument(INDEX, name) for name in ("lo", "hi", "worker"))
    out = b.argument(buffer_of(dtypes.i64), "out")

    def add(i: SSAValue, *total: SSAValue) -> Sequence[SSAValue]:
        return [b.add(total[0], b.cast(i, dtypes.i64))]

    (total,) = b.for_(lo, hi, add, [b.const(0, dtypes.i64)], nonempty=True)
    b.store(total, out, 0)
    run = compiled(b)
    for first, last in ((0, 1), (3, 4), (2, 9)):
        out_ = np.zeros(1, np.int64)
        run([out_], first, last, 0)
        assert out_[0] == sum(range(first, last))
