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
