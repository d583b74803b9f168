"""Where intermediates live in the arena: offsets from lifetimes, constant or symbolic.

Static buffers get constant offsets by greedy best fit, largest first. Dynamic buffers share
slots whose sizes are maxima of expressions; their offsets are prefix sums that the program
computes when it is called, so there is no plan per shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

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
    placed: list[tuple[int, int, Lifetime[Key]]] = []
    for buffer in sorted(buffers, key=lambda b: -_static(aligned(b.size))):
        size = _static(aligned(buffer.size))
        busy = sorted((start, end) for start, end, other in placed if _overlap(other, buffer))
        offset = _first_fit(busy, size)
        placed.append((offset, offset + size, buffer))
        arena.offsets[buffer.key] = offset
    return max((end for _, end, _ in placed), default=0)


def _static(size: Dim) -> int:
    assert isinstance(size, int)
    return size


def _overlap(a: Lifetime[Key], b: Lifetime[Key]) -> bool:
    return a.first <= b.last and b.first <= a.last


def _first_fit(busy: Sequence[tuple[int, int]], size: int) -> int:
    """The start of the smallest free gap that holds `size` bytes; the end if none does."""
    best: tuple[int, int] | None = None
    end = 0
    for start, stop in busy:
        gap = start - end
        if gap >= size and (best is None or gap < best[0]):
            best = (gap, end)
        end = max(end, stop)
    return end if best is None else best[1]


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
