"""Where intermediates live in the arena: offsets from lifetimes, constant or symbolic.

Static buffers get constant offsets by greedy best fit, largest first. Dynamic buffers share
slots whose sizes are maxima of expressions; their offsets are prefix sums that the program
computes when it is called, so there is no plan per shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.dims import Dim, Expr, ceildiv, maximum

ALIGNMENT = 64

Key = TypeVar("Key")


@dataclass(frozen=True)
class Lifetime(Generic[Key]):
    """A buffer that is needed from step `first` to step `last`, both included."""

    key: Key
    size: Dim
    first: int
    last: int


@dataclass
class Arena(Generic[Key]):
    """The plan: an offset for each buffer, and the total size, all in bytes.

    Attributes:
        sums: Symbolic offsets in order, as the sum of the one before and a size.
    """

    offsets: dict[Key, Dim] = field(default_factory=dict[Key, Dim])
    size: Dim = 0
    sums: dict[Expr, tuple[Dim, Dim]] = field(default_factory=dict[Expr, tuple[Dim, Dim]])


def aligned(size: Dim) -> Dim:
    """`size` rounded up to `ALIGNMENT`."""
    return ceildiv(size, ALIGNMENT) * ALIGNMENT


def plan(lifetimes: Sequence[Lifetime[Key]]) -> Arena[Key]:
    """Place buffers so that no two that live at the same time overlap."""
    arena: Arena[Key] = Arena()
    static_size = _place_static([b for b in lifetimes if isinstance(b.size, int)], arena)
    arena.size = _place_dynamic(
        [b for b in lifetimes if not isinstance(b.size, int)], static_size, arena
    )
    return arena


def _place_static(buffers: Sequence[Lifetime[Key]], arena: Arena[Key]) -> int:
    placed = _Placed(len(buffers))
    for buffer in sorted(buffers, key=lambda b: -_static(aligned(b.size))):
        arena.offsets[buffer.key] = placed.place(buffer, _static(aligned(buffer.size)))
    return int(placed.rows[1, : placed.count].max(initial=0))


def _static(size: Dim) -> int:
    assert isinstance(size, int)
    return size


class _Placed:
    """Buffers that have their places, by place; as arrays, for models of many thousand buffers.

    Attributes:
        rows: Start, end, first and last step of each, ordered by start.
        count: How many there are.
    """

    def __init__(self, capacity: int):
        self.rows = np.zeros((4, capacity), np.int64)
        self.count = 0

    def place(self, buffer: Lifetime[Key], size: int) -> int:
        """Enter a buffer at the smallest free gap of `size` bytes, or behind the others."""
        starts, ends, first, last = self.rows[:, : self.count]
        busy = (first <= buffer.last) & (last >= buffer.first)
        start = _best_fit(starts[busy], ends[busy], size)
        at = int(np.searchsorted(starts, start))
        self.rows[:, at + 1 : self.count + 1] = self.rows[:, at : self.count]
        self.rows[:, at] = start, start + size, buffer.first, buffer.last
        self.count += 1
        return start


def _best_fit(starts: Array, ends: Array, size: int) -> int:
    """The start of the smallest gap between busy ranges that holds `size` bytes; else their end."""
    reached = np.maximum.accumulate(np.concatenate([[0], ends]))
    gaps = starts - reached[:-1]
    gaps[gaps < size] = np.iinfo(np.int64).max
    best = int(gaps.argmin()) if len(gaps) else 0
    fits = len(gaps) and gaps[best] != np.iinfo(np.int64).max
    return int(reached[best] if fits else reached[-1])


@dataclass
class _Slot:
    size: Dim
    busy_until: int


def _place_dynamic(buffers: Sequence[Lifetime[Key]], start: Dim, arena: Arena[Key]) -> Dim:
    slots: list[_Slot] = []
    chosen: list[tuple[Key, int]] = []
    for buffer in sorted(buffers, key=lambda b: b.first):
        free = [n for n, slot in enumerate(slots) if slot.busy_until < buffer.first]
        same = [n for n in free if slots[n].size == buffer.size]
        number = (same or free or [len(slots)])[0]
        if number == len(slots):
            slots.append(_Slot(buffer.size, buffer.last))
        else:
            slots[number].size = maximum(slots[number].size, buffer.size)
            slots[number].busy_until = buffer.last
        chosen.append((buffer.key, number))
    offsets: list[Dim] = []
    for slot in slots:
        offsets.append(start)
        size = aligned(slot.size)
        following = start + size
        if isinstance(following, Expr):
            arena.sums[following] = (start, size)
        start = following
    for key, number in chosen:
        arena.offsets[key] = offsets[number]
    return start
