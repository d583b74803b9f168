"""Places of units along the axes of a parallel range, by counting.

Extents that only the run knows would have to be divided by for each unit, which is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lowering.cpu.text import Text, Value, is_literal


@dataclass(frozen=True, eq=False)
class Axis:
    """An axis along which blocks lie: its extent, that of a block, and steps in x and y.

    The outermost axis may have no extent: no place along it is followed by one at its start.
    """

    extent: Value
    block: int
    source: Value
    result: Value

    @property
    def is_single(self) -> bool:
        """Whether there is one block for certain."""
        return is_literal(self.extent) and 0 < int(self.extent) <= self.block


def place_of(text: Text, unit: Value, axes: Sequence[Axis]) -> list[Value]:
    """Where block number `unit` begins along each axis, in C order."""
    place: list[Value] = []
    for axis in reversed(axes[1:]):
        count = text.ceildiv(axis.extent, axis.block)
        place.append(text.mul(text.urem(unit, count), axis.block))
        unit = text.udiv(unit, count)
    return [text.mul(unit, axes[0].block), *reversed(place)]


def following_place(text: Text, place: Sequence[Value], axes: Sequence[Axis]) -> list[Value]:
    """Where the block after that at `place` begins."""
    found: list[Value] = []
    over: Value | None = None
    for n in reversed(range(len(axes))):
        moved = text.add(place[n], axes[n].block)
        if over is not None:
            moved = text.choose(over, moved, place[n])
        if n > 0:
            over = text.compare("sge", moved, axes[n].extent)
            moved = text.choose(over, "0", moved)
        found.append(moved)
    return found[::-1]
