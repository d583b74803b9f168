"""Transposing a square of vectors in registers."""

from lowering.cpu.templates.schedule import Registers
from lowering.cpu.text import Text, Value


def transpose(text: Text, registers: Registers, rows: list[Value]) -> list[Value]:
    """The transpose of a square of vectors, in log2(lanes) rounds of shuffles.

    Round `d` exchanges, between rows `i` and `i + d`, the lanes whose number has bit `d` against
    the lanes that have it not.
    """
    lanes, type = registers.lanes, registers.type
    distance = lanes // 2
    while distance:
        following = list(rows)
        for i in range(lanes):
            if i & distance:
                continue
            a, b = rows[i], rows[i + distance]
            low = [j if not j & distance else lanes + j - distance for j in range(lanes)]
            high = [j + distance if not j & distance else lanes + j for j in range(lanes)]
            for place, numbers in ((i, low), (i + distance, high)):
                listed = ", ".join(f"i32 {n}" for n in numbers)
                following[place] = text.let(
                    f"shufflevector {type} {a}, {type} {b}, <{lanes} x i32> <{listed}>"
                )
        rows, distance = following, distance // 2
    return rows


def interleave(text: Text, registers: Registers, rows: list[Value]) -> list[Value]:
    """The transpose of a square of vectors of 16 bytes, in log2(lanes) rounds of `punpck`.

    A round interleaves row `i` with row `i + n / 2`: the highest bit of a row's number becomes
    the lowest of the lane's, and the highest of the lane's the lowest of the row's. For narrow
    elements each shuffle is one instruction, which the exchanges of `transpose` are not.
    """
    lanes, type, half = registers.lanes, registers.type, registers.lanes // 2
    for _ in range(lanes.bit_length() - 1):
        following: list[Value] = []
        for a, b in zip(rows[:half], rows[half:], strict=True):
            for start in (0, half):
                numbers = [n + lanes * side for n in range(start, start + half) for side in (0, 1)]
                listed = ", ".join(f"i32 {n}" for n in numbers)
                following.append(
                    text.let(f"shufflevector {type} {a}, {type} {b}, <{lanes} x i32> <{listed}>")
                )
        rows = following
    return rows
