"""Lanes whose index grows by a small constant: contiguous vectors and shuffles, no gathers.

A gather costs by the lane; vectors and shuffles cost by the register. Comparisons of such indices
hold in the first or in the last lanes, which one scalar says.
"""

from __future__ import annotations

from lowering.cpu.spans import mask_of, span_of
from lowering.cpu.text import Text, Value, is_literal, vector_of
from lowering.cpu.values import Val
from torsh_dialect.target import TargetInfo

FARTHEST = 4
"""Above this step the vectors that are read hold more that is not wanted than a gather costs."""

MASKED = {1: 64, 2: 64, 4: 32, 8: 32}
"""Bytes of the vectors from which on targets mask loads of so many bytes in hardware."""

SWAPPED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def is_spread(step: int | None, size: int, masked: bool, target: TargetInfo) -> bool:
    """Whether `load_spread` is better than a gather of elements of `size` bytes."""
    if step != -1 and (step is None or not 2 <= step <= FARTHEST):
        return False
    return not masked or target.vector_bytes >= MASKED[size]


def load_spread(
    text: Text,
    element: str,
    buffer: Value,
    first: Value,
    step: int,
    lanes: int,
    mask: Value | None,
    rest: Value = "zeroinitializer",
) -> Value:
    """Elements `first + n * step` of `buffer` for the lanes n of `mask` (None: all).

    Other lanes are those of `rest`, which are all equal.

    Nothing is read before the first or after the last of these elements; those between may be.
    """
    starts = [0] if step > 0 else [1 - lanes]
    if step > 1:
        starts = [n * lanes for n in range(step - 1)] + [(step - 1) * (lanes - 1)]
    type, value = vector_of(element, lanes), "poison"
    for number, start in enumerate(starts):
        mine = [
            n * step - start if _holder(n * step, starts, lanes) == number else -1
            for n in range(lanes)
        ]
        address = text.at(buffer, text.add(first, start), element)
        if mask is None:
            part = text.load(type, address)
        else:
            some = _mask_of_part(text, mask, step, start, mine)
            part = text.masked_load(type, address, some, rest)
        taken = [place if place >= 0 else lanes + n for n, place in enumerate(mine)]
        value = _shuffle(text, type, part, value, taken)
    return value


def _holder(place: int, starts: list[int], lanes: int) -> int:
    """The number of the first vector that holds element `place`."""
    return next(n for n, at in enumerate(starts) if 0 <= place - at < lanes)


def _mask_of_part(text: Text, mask: Value, step: int, start: int, mine: list[int]) -> Value:
    """What to read of the vector at `start`: `mine[n]` is where in it lane n lies, or -1."""
    lanes, span = len(mine), span_of(text, mask)
    if span is None:
        wanted = [mine.index(place) if place in mine else lanes for place in range(lanes)]
        return _shuffle(text, vector_of("i1", lanes), mask, "zeroinitializer", wanted)

    def write() -> Value:
        first, end = span
        if step < 0:
            return mask_of(text, (text.sub(lanes, end), text.sub(lanes, first)), lanes)
        last = text.add(text.mul(end, step), 1 - step - start)  # after an element, not its window
        return mask_of(text, (text.sub(text.mul(first, step), start), last), lanes)

    return text.outside(("part", span, step, start, lanes), span, write)


def _shuffle(text: Text, type: str, a: Value, b: Value, lanes: list[int]) -> Value:
    picked = ", ".join(f"i32 {lane}" for lane in lanes)
    return text.let(f"shufflevector {type} {a}, {type} {b}, <{len(lanes)} x i32> <{picked}>")


def compare_spread(text: Text, kind: str, a: Val, b: Val, *, near: bool = False) -> Val | None:
    """An order of two indices that grow by constants; None for any other comparison.

    `near` says that neither is data, so that their difference does not overflow.
    """
    lanes = max(a.lanes, b.lanes)
    if kind not in SWAPPED or lanes == 1 or not a.is_affine or not b.is_affine:
        return None
    step = (a.step or 0) - (b.step or 0)
    if step == 0:
        return Val(text.compare(f"s{kind}", a.text, b.text), "i1")
    if step < 0:
        a, b, step, kind = b, a, -step, SWAPPED[kind]

    def write() -> Value:
        # lane * step against the room up to b, cut to what makes a difference in any lane
        room = text.sub(b.text, a.text) if near else _difference(text, b.text, a.text)
        if kind in ("le", "gt"):
            room = text.add(text.minimum(text.maximum(room, -step), step * (lanes - 1)), step)
        else:
            room = text.add(text.minimum(text.maximum(room, 0), step * lanes), step - 1)
        return text.udiv(room, step)

    bounds = (a.text, b.text)
    count = text.outside(("lanes", bounds, kind, step, lanes, near), bounds, write)
    span = ("0", count) if kind in ("lt", "le") else (count, str(lanes))
    return Val(mask_of(text, span, lanes), "i1", lanes)


def _difference(text: Text, a: Value, b: Value) -> Value:
    """`a - b`, the nearest number where that overflows: one of them may be data."""
    if b == "0" or (is_literal(a) and is_literal(b)):
        return text.sub(a, b)
    return text.intrinsic("llvm.ssub.sat", "i64", a, b)
