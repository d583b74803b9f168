"""The outer-product micro-kernel: rows of A by pointer, panels of packed B, one order of sums.

Every float contraction of the templates goes through `accumulate` and `sum_blocks`, so that a
result element has the same bits whatever tile, tail or kernel computes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lowering.cpu.templates.schedule import ELEMENT_BYTES, Registers
from lowering.cpu.text import Text, Value, is_literal

UNROLL = 4
"""Steps of K in one iteration of the main loop; a multiple of every number of chains."""

PREFETCH_BYTES = 16 * 1024
"""How far ahead in its panel a tile asks for B, into the level 2 cache.

Weights that exceed the cache are first touched by the first tile of each block of rows; 16 KiB
ahead gains 5 to 25 % on such shapes (4 KiB half of that) and costs nothing measurable on others.
"""

PREFETCH_ROWS = 4
"""Shorter tiles read B faster than they compute: asking for lines only takes their load slots."""

LINE_BYTES = 64

Accumulators = list[Value]
BlockBody = Callable[[Value, Accumulators], Accumulators]


@dataclass(frozen=True)
class Tile:
    """One register tile in use: `rows` rows by `panels` panels, `vectors` in the last panel.

    Attributes:
        registers: The register tile that fixes panel width, lanes and chains.
        rows: Rows computed.
        vectors: Vectors computed in total, over all panels.
    """

    registers: Registers
    rows: int
    vectors: int

    @property
    def type(self) -> str:
        """LLVM type of one vector."""
        return self.registers.type

    @property
    def count(self) -> int:
        """Accumulators, chains included."""
        return self.registers.chains * self.rows * self.vectors

    def zeros(self) -> Accumulators:
        """Accumulators at zero."""
        return ["zeroinitializer"] * self.count

    def carried(self, accumulators: Accumulators) -> list[tuple[str, Value]]:
        """Accumulators as loop-carried values."""
        return [(self.type, value) for value in accumulators]


def _step(
    text: Text,
    tile: Tile,
    rows: Sequence[Value],
    panels: Sequence[Value],
    step: int,
    accumulators: Accumulators,
    prefetch: bool,
) -> Accumulators:
    """One step of K: broadcast an element of every row, multiply by all vectors of B."""
    registers = tile.registers
    element, lanes = registers.element, registers.lanes
    align = ELEMENT_BYTES[element] * lanes
    vectors: list[Value] = []
    for index in range(tile.vectors):
        panel, vector = divmod(index, registers.vectors)
        place = text.at(panels[panel], step * registers.width + vector * lanes, element)
        vectors.append(text.load(tile.type, place, align, "b"))
    size = ELEMENT_BYTES[element] * registers.width
    for panel in panels if prefetch else ():
        for offset in range(0, size, LINE_BYTES):
            text.prefetch(text.at(panel, step * size + PREFETCH_BYTES + offset, "i8"), 2)
    first = step % registers.chains * tile.rows * tile.vectors
    result = list(accumulators)
    for row, pointer in enumerate(rows):
        scalar = text.load(element, text.at(pointer, step, element), ELEMENT_BYTES[element], "a")
        broadcast = text.splat(tile.type, scalar)
        for index, vector in enumerate(vectors):
            slot = first + row * tile.vectors + index
            result[slot] = text.fma(tile.type, broadcast, vector, result[slot])
    return result


def accumulate(
    text: Text,
    tile: Tile,
    rows: Sequence[Value],
    panels: Sequence[Value],
    length: Value | int,
    accumulators: Accumulators,
) -> Accumulators:
    """Add `length` steps of K to the accumulators.

    Args:
        text: The function being written.
        tile: What is computed.
        rows: Pointers to the first element of each row of A; steps are contiguous.
        panels: Pointers to the first step of each packed panel of B.
        length: Steps, static or an i64 value (then the register tile must have one chain).
        accumulators: `tile.count` vectors, chain-major, then row, then vector.
    """
    element, width = tile.registers.element, tile.registers.width
    prefetch = tile.rows >= PREFETCH_ROWS

    def shifted(step: Value) -> tuple[list[Value], list[Value]]:
        along_panel = text.mul(step, width)
        return (
            [text.at(row, step, element) for row in rows],
            [text.at(panel, along_panel, element) for panel in panels],
        )

    def steps(start: Value, count: int, values: Accumulators) -> Accumulators:
        at_rows, at_panels = shifted(start)
        for step in range(count):
            values = _step(text, tile, at_rows, at_panels, step, values, prefetch)
        return values

    length = str(length)
    if is_literal(length):
        whole = int(length) // UNROLL * UNROLL
        result = text.loop(
            0, whole, UNROLL, lambda i, v: steps(i, UNROLL, v), tile.carried(accumulators)
        )
        return steps(str(whole), int(length) - whole, result) if int(length) > whole else result
    assert tile.registers.chains == 1, "the chain of a step must be known when code is written"
    whole_value = text.let(f"and i64 {length}, {-UNROLL}")
    result = text.loop(
        0, whole_value, UNROLL, lambda i, v: steps(i, UNROLL, v), tile.carried(accumulators)
    )
    return text.loop(whole_value, length, 1, lambda i, v: steps(i, 1, v), tile.carried(result))


def opaque_pointers(text: Text, pointers: list[Value]) -> list[Value]:
    """The same pointers through stack memory, each in a register of its own.

    Where rows are a dynamic stride apart, LLVM's loop strength reduction computes each row from
    the one before inside the main loop, and then hoists and spills broadcasts.
    """
    slots = text.alloca("ptr", len(pointers), 8, "rows")
    places = [text.at(slots, index, "ptr") for index in range(len(pointers))]
    for pointer, place in zip(pointers, places, strict=True):
        text.store("ptr", pointer, place, 8)
    return [text.load("ptr", place, 8, "row") for place in places]


def sum_chains(text: Text, tile: Tile, accumulators: Accumulators) -> list[Value]:
    """One vector per row and column: neighbouring chains are added, then their sums."""
    size = tile.rows * tile.vectors
    chains = [accumulators[i : i + size] for i in range(0, tile.count, size)]
    while len(chains) > 1:
        chains = [
            [text.binary("fadd", tile.type, a, b) for a, b in zip(left, right, strict=True)]
            for left, right in zip(chains[::2], chains[1::2], strict=True)
        ]
    return chains[0]


class Totals:
    """Sums of a tile on the stack, to which blocks of K are added in order."""

    def __init__(self, text: Text, tile: Tile):
        self._text, self._tile = text, tile
        registers = tile.registers
        size = tile.rows * tile.vectors
        self._align = registers.lanes * ELEMENT_BYTES[registers.element]
        base = text.alloca(tile.type, size, role="totals")
        self._places = [text.at(base, i * registers.lanes, registers.element) for i in range(size)]
        for place in self._places:
            text.store(tile.type, "zeroinitializer", place, self._align)

    def read(self) -> list[Value]:
        """One vector per row and vector of columns."""
        return [
            self._text.load(self._tile.type, place, self._align, "total") for place in self._places
        ]

    def plus(self, accumulators: Accumulators) -> list[Value]:
        """The totals with one more block added, as values."""
        sums = sum_chains(self._text, self._tile, accumulators)
        return [
            self._text.binary("fadd", self._tile.type, total, value)
            for total, value in zip(self.read(), sums, strict=True)
        ]

    def add(self, accumulators: Accumulators) -> None:
        """Add a block to the totals."""
        for value, place in zip(self.plus(accumulators), self._places, strict=True):
            self._text.store(self._tile.type, value, place, self._align)


def sum_blocks(
    text: Text, tile: Tile, blocks: Value | int, body: BlockBody, rest: BlockBody | None
) -> list[Value]:
    """Add up blocks of K, each accumulated from zero, in order.

    Args:
        text: The function being written.
        tile: What is computed.
        blocks: Number of whole blocks, static or an i64 value.
        body: Accumulates whole block `i`, given accumulators at zero.
        rest: Accumulates the shorter last block if there is one, given the number of whole ones.

    Returns:
        One vector per row and vector of columns.
    """
    if str(blocks) == "0" and rest is not None:
        return sum_chains(text, tile, rest("0", tile.zeros()))
    if str(blocks) == "1" and rest is None:
        return sum_chains(text, tile, body("0", tile.zeros()))
    totals = Totals(text, tile)
    text.loop(0, blocks, 1, lambda index, _: totals.add(body(index, tile.zeros())))
    return totals.read() if rest is None else totals.plus(rest(str(blocks), tile.zeros()))
