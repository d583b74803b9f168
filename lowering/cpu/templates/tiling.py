"""Cutting a result of rows x columns into parallel units and register tiles.

A unit is a block of row tiles times a group of panels. Inside a unit panels are the outer loop:
the block of A stays in the level 2 cache while panels of packed B pass by once.

    unit u of [lo, hi):  block = u // groups, group = u % groups
      for panel in group:  for tile in block:  register tile
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lowering.cpu.templates.epilogue import (
    Epilogue,
    EpilogueBody,
    dynamic_mask,
    finish_vector,
    mask_of,
)
from lowering.cpu.templates.microkernel import Tile
from lowering.cpu.templates.schedule import Extent, Registers, panels_for_rows, split_rows
from lowering.cpu.text import Text, Value, is_literal


@dataclass(frozen=True)
class Tiling:
    """How a result is cut.

    Attributes:
        registers: The register tile.
        rows: Static number of rows, None if it is an argument.
        columns: Number of columns.
        block_rows: About as many rows as a unit has: it takes whole tiles.
        group_panels: Most panels of a unit.
        short_rows: Tallest tile for the last rows of a dynamic number; every height up to it is
            code. From 4 rows on a tile keeps the FMA units busy.
    """

    registers: Registers
    rows: int | None
    columns: int
    block_rows: int
    group_panels: int
    short_rows: int = 4

    @property
    def panels(self) -> int:
        """Panels, the last one perhaps not full."""
        return -(-self.columns // self.registers.width)

    @property
    def full_panels(self) -> int:
        """Panels whose columns are all real."""
        return self.columns // self.registers.width

    @property
    def groups(self) -> int:
        """Groups of panels."""
        return -(-self.panels // self.group_panels)

    @property
    def extent(self) -> Extent:
        """Units as a function of rows."""
        return Extent(self.block_rows, self.groups)


@dataclass(frozen=True)
class Place:
    """Where a register tile lies.

    Attributes:
        index: i64 number of the tile along the rows of this segment.
        row: i64, first row.
        panel: i64, first panel.
        columns: Real columns of the last panel, an i64 value where N is dynamic.
    """

    index: Value
    row: Value
    panel: Value
    columns: int | Value


class TileEmitter(Protocol):
    """Writes the code of one register tile."""

    def __call__(self, tile: Tile, place: Place, /) -> None:
        """Write the tile at `place`."""
        ...


@dataclass(frozen=True)
class Segment:
    """A run of row tiles of one height: tile `t` begins at row `row + (t - first) * height`."""

    first: Value
    end: Value
    row: Value
    height: int


def _segments(text: Text, tiling: Tiling, rows: Value) -> tuple[Value, list[Segment]]:
    """Number of row tiles, and their segments."""
    height = tiling.registers.rows
    if tiling.rows is not None:
        return _static_segments(tiling.rows, height)
    full, tail = text.udiv(rows, height), text.urem(rows, height)
    segments = [Segment("0", full, "0", height)]
    # As `split_rows` cuts the tail: `high` tiles of `low + 1` rows, then the others of `low`.
    most = max(1, min(height - 1, tiling.short_rows))
    count = text.ceildiv(tail, most)
    low = text.udiv(tail, text.maximum(count, 1))
    high = text.sub(tail, text.mul(low, count))
    tile, row = full, text.sub(rows, tail)
    for size in range(most, 0, -1):
        higher = text.choose(text.compare("eq", low, size - 1), high, "0")
        lower = text.choose(text.compare("eq", low, size), text.sub(count, high), "0")
        tiles = text.add(higher, lower)
        end = text.add(tile, tiles)
        segments.append(Segment(tile, end, row, size))
        tile, row = end, text.add(row, text.mul(tiles, size))
    return tile, segments


def _static_segments(rows: int, height: int) -> tuple[Value, list[Segment]]:
    segments: list[Segment] = []
    tile, row = 0, 0
    for count, size in split_rows(rows, height):
        segments.append(Segment(str(tile), str(tile + count), str(row), size))
        tile, row = tile + count, row + count * size
    return str(tile), segments


Unit = Callable[[Value, Value, Value], None]
"""Writes unit `index`, which is group `inner` of matrix `outer`."""


def each_unit(text: Text, groups: Value, unit: Unit) -> None:
    """The loop over the units of a kernel, `groups` of them for each matrix.

    Where their number is dynamic it counts them: dividing each unit's number takes as long as a
    small one.
    """
    if is_literal(groups):
        text.loop(
            "%lo", "%hi", 1,
            lambda index, _: unit(index, text.udiv(index, groups), text.urem(index, groups)),
        )  # fmt: skip
        return
    each = text.maximum(groups, 1)

    def body(index: Value, place: list[Value]) -> list[Value]:
        outer, inner = place
        unit(index, outer, inner)
        following = text.add(inner, 1)
        last = text.compare("eq", following, each)
        over = text.let(f"zext i1 {last} to i64")
        return [text.add(outer, over), text.choose(last, "0", following)]

    first = [("i64", text.udiv("%lo", each)), ("i64", text.urem("%lo", each))]
    text.loop("%lo", "%hi", 1, body, first)


class Walker:
    """Writes the loops over the tiles of a unit. Made once per kernel, before the unit loop."""

    def __init__(self, text: Text, tiling: Tiling, rows: Value, columns: Value | None = None):
        self.text = text
        self.tiling = tiling
        self.rows = rows
        self.tiles, self.segments = _segments(text, tiling, rows)
        self.blocks = text.maximum(text.ceildiv(rows, tiling.block_rows), 1)
        width = tiling.registers.width
        columns = str(tiling.columns) if columns is None else columns
        self.full_panels, self.tail = text.udiv(columns, width), text.urem(columns, width)
        self.groups = text.ceildiv(columns, width * tiling.group_panels)

    def unit(self, block: Value, group: Value, emit: TileEmitter) -> None:
        """Write the tiles of row block `block` and panel group `group`.

        Blocks differ by at most one tile, so that equal ranges of units are equal work.
        """
        text, tiling = self.text, self.tiling
        low = text.udiv(text.mul(self.tiles, block), self.blocks)
        high = text.udiv(text.mul(self.tiles, text.add(block, 1)), self.blocks)
        first = text.mul(group, tiling.group_panels)
        last = text.minimum(text.add(first, tiling.group_panels), self.full_panels)
        spans: dict[int, list[Segment]] = {}
        for segment in self.segments:
            span = min(panels_for_rows(tiling.registers, segment.height), tiling.group_panels)
            spans.setdefault(span, []).append(segment)
        for span, segments in spans.items():
            write = partial(self._panels, span, segments, (low, high), (first, last), emit)
            if tiling.rows is None and len(spans) > 1:  # few rows pass by the loops of the others
                begin = text.maximum(segments[0].first, low)
                end = text.minimum(segments[-1].end, high)
                text.when(text.compare("slt", begin, end), write)
            else:
                write()
        if self.tail != "0":
            self._last_panel((low, high), group, emit)

    def _last_panel(self, block: tuple[Value, Value], group: Value, emit: TileEmitter) -> None:
        """Write the panel whose columns are not all real, where `group` has it.

        Where their number is dynamic there is code for each number of vectors.
        """
        text, registers = self.text, self.tiling.registers
        static = is_literal(self.tail)
        columns = int(self.tail) if static else self.tail

        def body(vectors: int) -> None:
            for segment in self.segments:
                self._tiles(segment, block, self.full_panels, vectors, columns, emit)

        if static and self.groups == "1":
            body(-(-int(self.tail) // registers.lanes))
            return
        here = text.compare("eq", group, text.sub(self.groups, 1))
        if static:
            text.when(here, lambda: body(-(-int(self.tail) // registers.lanes)))
            return
        taken = text.ceildiv(self.tail, registers.lanes)
        for vectors in range(1, registers.vectors + 1):
            this = text.binary("and", "i1", here, text.compare("eq", taken, vectors))
            text.when(this, partial(body, vectors))

    def _panels(
        self,
        span: int,
        segments: list[Segment],
        block: tuple[Value, Value],
        panels: tuple[Value, Value],
        emit: TileEmitter,
    ) -> None:
        text, registers = self.text, self.tiling.registers
        first, last = panels

        def over(count: int, lower: Value, upper: Value) -> None:
            def body(panel: Value, _: list[Value]) -> None:
                for segment in segments:
                    self._tiles(
                        segment, block, panel, count * registers.vectors, registers.width, emit
                    )

            text.loop(lower, upper, count, body)

        static = is_literal(self.full_panels)
        if span > 1 and not (static and int(self.full_panels) < span):
            whole = text.mul(text.sdiv(text.sub(last, first), span), span)
            middle = text.maximum(text.add(first, whole), first)
            over(span, first, middle)
            first = middle
        over(1, first, last)

    def _tiles(
        self,
        segment: Segment,
        block: tuple[Value, Value],
        panel: Value,
        vectors: int,
        columns: int | Value,
        emit: TileEmitter,
    ) -> None:
        text = self.text
        low, high = text.maximum(segment.first, block[0]), text.minimum(segment.end, block[1])

        def body(tile: Value, _: list[Value]) -> None:
            row = text.add(segment.row, text.mul(text.sub(tile, segment.first), segment.height))
            emit(
                Tile(self.tiling.registers, segment.height, vectors),
                Place(tile, row, panel, columns),
            )

        text.loop(low, high, 1, body)


def store_tile(
    text: Text,
    tile: Tile,
    place: Place,
    values: list[Value],
    stride: Value | int,
    base: Value,
    epilogue: Epilogue,
    body: EpilogueBody,
    column_offset: Value | int = 0,
) -> None:
    """Apply the epilogue to a finished tile and store it row by row.

    Args:
        text: The function being written.
        tile: The tile's size.
        place: Where it lies.
        values: One vector per row and vector of columns.
        stride: Elements between rows of the result.
        base: Pointer to the result.
        epilogue: What happens before the store.
        body: `epilogue` begun in this function.
        column_offset: Result column of panel 0 (the group's first channel).
    """
    for offset in range(tile.rows):
        row = text.add(place.row, offset)
        store_row(
            text, tile, place, values, offset, row, stride, base, epilogue, body, column_offset
        )


def store_row(
    text: Text,
    tile: Tile,
    place: Place,
    values: list[Value],
    offset: int,
    row: Value,
    stride: Value | int,
    base: Value,
    epilogue: Epilogue,
    body: EpilogueBody,
    column_offset: Value | int = 0,
) -> None:
    """Apply the epilogue to row `offset` of a tile and store it as row `row` of the result.

    Arguments as of `store_tile`.
    """
    registers = tile.registers
    stored = epilogue.element or registers.element
    panels = -(-tile.vectors // registers.vectors)
    for index in range(tile.vectors):
        panel, vector = divmod(index, registers.vectors)
        column = text.add(
            text.add(text.mul(place.panel, registers.width), column_offset),
            panel * registers.width + vector * registers.lanes,
        )
        real = place.columns if panel == panels - 1 else registers.width
        if isinstance(real, int):
            mask = mask_of(registers.lanes, real - vector * registers.lanes)
        else:
            mask = dynamic_mask(text, registers.lanes, text.sub(real, vector * registers.lanes))
        address = text.at(base, text.add(text.mul(row, stride), column), stored)
        value = values[offset * tile.vectors + index]
        finish_vector(text, epilogue, body, tile.type, value, row, column, mask, address)
