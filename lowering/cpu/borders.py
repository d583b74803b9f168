"""`kern.lanes` that are split where a comparison of their index changes.

    lanes i in [0, n + m): i < n ? a[i] : b[i - n]  ->  lanes i in [0, n): a[i]
                                                        lanes i in [n, n + m): b[i - n]

In such a part a comparison is a constant: loads are done or not, without masks, and nothing is
selected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.ir import Block, Operation, SSAValue

from lowering.cpu.emitter import Emitter
from lowering.cpu.periods import offset_of
from lowering.cpu.strided import SWAPPED
from lowering.cpu.text import Value
from lowering.kern import dialect as kern
from lowering.kern.dialect import INDEX
from torsh_dialect.attributes import str_of

MOST_OPS = 32
"""Of a body that is not too long to be written twice."""


@dataclass(frozen=True)
class Border:
    """A number below which comparisons of a loop's index have another result than from there on.

    Attributes:
        place: The number.
        below: The results of these comparisons, and what they are below it.
    """

    place: Value
    below: tuple[tuple[SSAValue, bool], ...]


def border_of(e: Emitter, block: Block) -> Border | None:
    """Where comparisons of the index of `block` with numbers from outside change.

    None where this is no single place, nothing is loaded by such a mask, or there is much code.
    """
    ops = list(block.ops)
    masked = any(isinstance(op, kern.LoadOp) and len(op.operands) > 2 for op in ops)
    if not masked or len(ops) > MOST_OPS or any(op.regions for op in ops):
        return None
    found: dict[Value, list[tuple[SSAValue, bool]]] = {}
    for op in ops:
        side = _side(e, block, op)
        if side is not None:
            found.setdefault(side[0], []).append((op.results[0], side[1]))
    borders = [Border(place, tuple(below)) for place, below in found.items()]
    return borders[0] if len(borders) == 1 else None


def _side(e: Emitter, block: Block, op: Operation) -> tuple[Value, bool] | None:
    """From which index on a comparison changes, and what it is before; None for other ops."""
    if not isinstance(op, kern.CompareOp) or op.operands[0].type != INDEX:
        return None
    (a, b), kind = op.operands, str_of(op.kind)
    if b not in e.values:
        a, b, kind = b, a, SWAPPED.get(kind, kind)
    if kind not in SWAPPED or b not in e.values or e.get(b).lanes != 1:
        return None
    offset = offset_of(e, block, a)
    if offset is None:
        return None
    place = e.text.sub(e.scalar(b), offset)
    return e.text.add(place, int(kind in ("le", "gt"))), kind in ("lt", "le")


def by_parts(
    e: Emitter, border: Border, lower: Value, upper: Value, lanes: Callable[[Value, Value], None]
) -> None:
    """`lanes(first, end)` for both parts of `range(lower, upper)`, with `e.known` set for each."""
    middle = e.text.minimum(e.text.maximum(border.place, lower), upper)
    e.known.update(border.below)
    lanes(lower, middle)
    e.known.update((value, not below) for value, below in border.below)
    lanes(middle, upper)
    for value, _ in border.below:
        del e.known[value]
