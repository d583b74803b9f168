"""Transposing matrices: `y[b, c, r] = x[b, r, c]`, for elements of 1, 2, 4 or 8 bytes.

Blocks of 64 x 64 elements are moved as squares of vectors in registers; a matrix of at most four
rows or columns (an image whose channels move last or first) by interleaving vectors; where the
run finds a single row or column, by copying. Elements of 1 and 2 bytes go in vectors of 16 bytes:
a square of them fits the registers of every target.

Unit of the parallel range: matrix x block of rows x block of columns. Argument words: 0 x, 1 y,
2 rows R, 3 columns C (both read where they are dynamic).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

from lowering.cpu.templates.epilogue import dynamic_mask
from lowering.cpu.templates.schedule import Registers
from lowering.cpu.templates.transpose import interleave, transpose
from lowering.cpu.text import Module, Text, Value, vector_of
from torsh_dialect.dims import Dim, ceildiv
from torsh_dialect.target import TargetInfo

BLOCK = 64
"""Rows and columns of a block: two blocks of 4-byte elements take a level 1 cache."""

NARROW = 4
"""Rows or columns up to which vectors are interleaved."""

NARROW_BLOCK = 4096
"""Columns (or rows) of a block of a narrow matrix."""

SHORT_BYTES = 16
"""Bytes of a vector of elements of 1 or 2 bytes."""


@dataclass(frozen=True)
class TransposeParams:
    """A transposition of many matrices.

    Attributes:
        rows: Rows of x if static.
        columns: Columns of x if static.
        bytes: Bytes of an element: 1, 2, 4 or 8.
    """

    rows: int | None = None
    columns: int | None = None
    bytes: int = 4

    def blocks(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        if self.is_narrow(self.rows):
            return NARROW, NARROW_BLOCK
        if self.is_narrow(self.columns):
            return NARROW_BLOCK, NARROW
        return BLOCK, BLOCK

    @property
    def is_short(self) -> bool:
        """Whether elements are narrower than the lanes that vectors are masked by."""
        return self.bytes < 4

    @staticmethod
    def is_narrow(extent: int | None) -> bool:
        """Whether as few rows or columns are interleaved."""
        return extent is not None and extent <= NARROW


def units(params: TransposeParams, batch: Dim, rows: Dim, columns: Dim) -> Dim:
    """The parallel range."""
    high, wide = params.blocks()
    return batch * ceildiv(rows, high) * ceildiv(columns, wide)


def emit(module: Module, name: str, params: TransposeParams, target: TargetInfo) -> None:
    """Write kernel `name`."""
    _Transposer(Text(module, name), params, target).write()


@dataclass(frozen=True)
class _Block:
    """Offsets of a matrix of x and y, and the rows and columns of one block of it."""

    offset: Value
    row: Value
    column: Value
    rows: Value
    columns: Value


class _Transposer:
    """Writes one kernel."""

    def __init__(self, text: Text, params: TransposeParams, target: TargetInfo):
        self.text, self.params = text, params
        self.lanes = SHORT_BYTES // params.bytes if params.is_short else target.lanes(params.bytes)
        self.element = f"i{8 * params.bytes}"
        self.vector = vector_of(self.element, self.lanes)
        self.x, self.y = text.argument(0, role="x"), text.argument(1, role="y")
        self._given = (params.rows, params.columns)
        self.rows, self.columns = (
            text.argument(2 + n, "i64") if extent is None else str(extent)
            for n, extent in enumerate(self._given)
        )

    def write(self) -> None:
        """Write the loop over blocks."""
        text, (high, wide) = self.text, self.params.blocks()
        across = text.ceildiv(self.columns, wide)
        down = text.ceildiv(self.rows, high)
        size = text.mul(self.rows, self.columns)

        def unit(index: Value, _: list[Value]) -> None:
            matrix, place = text.udiv(index, text.mul(down, across)), text.udiv(index, across)
            row = text.mul(text.urem(place, down), high)
            column = text.mul(text.urem(index, across), wide)
            rows = text.minimum(text.sub(self.rows, row), high)
            columns = text.minimum(text.sub(self.columns, column), wide)
            self.block(_Block(text.mul(matrix, size), row, column, rows, columns))

        def units() -> None:
            text.loop("%lo", "%hi", 1, unit)

        single = self._is_single()
        if single is None:
            units()
        else:
            text.when(single, lambda: self._copy(text.mul(down, across), size))
            text.when(text.binary("xor", "i1", single, "true"), units)
        text.finish()

    def _is_single(self) -> Value | None:
        """Whether a dynamic number of rows or columns is 1; None where both are known."""
        text, found = self.text, list[Value]()
        for extent, given in zip((self.rows, self.columns), self._given, strict=True):
            if given is None:
                found.append(text.compare("eq", extent, 1))
        return reduce(lambda a, b: text.binary("or", "i1", a, b), found) if found else None

    def _copy(self, blocks: Value, size: Value) -> None:
        """Matrices of one row or column stay as they are: units follow each other in memory."""
        text, (high, wide) = self.text, self.params.blocks()
        each = text.choose(text.compare("eq", self.rows, 1), str(wide), str(high))

        def start(unit: Value) -> Value:
            matrix, block = text.udiv(unit, blocks), text.urem(unit, blocks)
            return text.add(text.mul(matrix, size), text.mul(block, each))

        def copy() -> None:
            first, end = start("%lo"), start("%hi")
            source, result = (text.at(base, first, self.element) for base in (self.x, self.y))
            text.copy(result, source, text.mul(text.sub(end, first), self.params.bytes))

        text.when(text.compare("slt", "%lo", "%hi"), copy)  # blocks are 0 where nothing is

    def block(self, block: _Block) -> None:
        """Write one block in the way of its shape."""
        if self.params.is_narrow(self.params.rows):
            self.interleave(block)
        elif self.params.is_narrow(self.params.columns):
            self.separate(block)
        elif self.params.is_short:
            self.short_squares(block)
        else:
            self.squares(block)

    def source(self, block: _Block, row: Value | int, column: Value | int) -> Value:
        """Address of an element of the block in x."""
        text = self.text
        place = text.add(text.mul(text.add(block.row, row), self.columns), block.column)
        return text.at(self.x, text.add(block.offset, text.add(place, column)), self.element)

    def result(self, block: _Block, row: Value | int, column: Value | int) -> Value:
        """Address of an element of the block in y; `row` and `column` are those of x."""
        text = self.text
        place = text.add(text.mul(text.add(block.column, column), self.rows), block.row)
        return text.at(self.y, text.add(block.offset, text.add(place, row)), self.element)

    # -- matrices of few rows or columns

    def interleave(self, block: _Block) -> None:
        """Few rows: as many vectors, one of each row, become as many of y."""
        rows, lanes = int(self.rows), self.lanes

        def step(column: Value) -> None:
            vectors = [self.load(self.source(block, row, column)) for row in range(rows)]
            start = self.result(block, 0, column)
            for number in range(rows):
                numbers = range(number * lanes, (number + 1) * lanes)
                made = self.picked(vectors, [(n % rows, n // rows) for n in numbers])
                self.store(made, self.text.at(start, number * lanes, self.element))

        self.along(block.columns, step, lambda column: self.move(block, range(rows), [column]))

    def separate(self, block: _Block) -> None:
        """Few columns: vectors of x in a row become one vector of each row of y."""
        columns, lanes = int(self.columns), self.lanes

        def step(row: Value) -> None:
            start = self.source(block, row, 0)
            vectors = [
                self.load(self.text.at(start, number * lanes, self.element))
                for number in range(columns)
            ]
            for column in range(columns):
                numbers = range(column, columns * lanes, columns)
                made = self.picked(vectors, [divmod(n, lanes) for n in numbers])
                self.store(made, self.result(block, row, column))

        self.along(block.rows, step, lambda row: self.move(block, [row], range(columns)))

    def along(
        self, extent: Value, vectors: Callable[[Value], None], single: Callable[[Value], None]
    ) -> None:
        """Visit an extent by whole vectors, and what is left one by one."""
        text, lanes = self.text, self.lanes
        whole = text.mul(text.udiv(extent, lanes), lanes)
        text.loop(0, whole, lanes, lambda n, _: vectors(n))
        text.loop(whole, extent, 1, lambda n, _: single(n))

    def move(
        self, block: _Block, rows: Sequence[Value | int], columns: Sequence[Value | int]
    ) -> None:
        """Move single elements."""
        for row in rows:
            for column in columns:
                value = self.text.load(
                    self.element, self.source(block, row, column), self.params.bytes
                )
                place = self.result(block, row, column)
                self.text.store(self.element, value, place, self.params.bytes)

    def picked(self, vectors: list[Value], picks: Sequence[tuple[int, int]]) -> Value:
        """A vector of the lanes `(vector, lane)`, in one shuffle for each vector but the first."""
        made, lanes = vectors[0], self.lanes
        numbers: list[int | None] = [lane if vector == 0 else None for vector, lane in picks]
        if len(vectors) == 1:
            return self.shuffle(made, made, numbers)
        for which, vector in enumerate(vectors[1:], start=1):
            mine = [lanes + lane if of == which else None for of, lane in picks]
            numbers = [a if b is None else b for a, b in zip(numbers, mine, strict=True)]
            made = self.shuffle(made, vector, numbers)
            numbers = [None if n is None else place for place, n in enumerate(numbers)]
        return made

    def shuffle(self, a: Value, b: Value, numbers: Sequence[int | None]) -> Value:
        """The lanes of two vectors in this order; None for any."""
        listed = ", ".join("i32 poison" if n is None else f"i32 {n}" for n in numbers)
        operands = f"{self.vector} {a}, {self.vector} {b}"
        return self.text.let(f"shufflevector {operands}, <{self.lanes} x i32> <{listed}>")

    def load(self, address: Value) -> Value:
        return self.text.load(self.vector, address, self.params.bytes)

    def store(self, value: Value, address: Value) -> None:
        self.text.store(self.vector, value, address, self.params.bytes)

    # -- other matrices

    def short_squares(self, block: _Block) -> None:
        """Squares of 16-byte vectors; those at the edges overlap the ones before them."""
        text, lanes = self.text, self.lanes

        def squares() -> None:
            last_row, last_column = text.sub(block.rows, lanes), text.sub(block.columns, lanes)

            def row_of_squares(row: Value, _: list[Value]) -> None:
                row = text.minimum(row, last_row)
                text.loop(
                    0, block.columns, lanes,
                    lambda column, _: self.square(block, row, text.minimum(column, last_column)),
                )  # fmt: skip

            text.loop(0, block.rows, lanes, row_of_squares)

        def single() -> None:
            def along(row: Value, _: list[Value]) -> None:
                text.loop(0, block.columns, 1, lambda column, _: self.move(block, [row], [column]))

            text.loop(0, block.rows, 1, along)

        small = text.compare("slt", text.minimum(block.rows, block.columns), lanes)
        text.when(text.let(f"xor i1 {small}, true"), squares)
        text.when(small, single)

    def squares(self, block: _Block) -> None:
        """Squares of vectors; those at the edges are masked."""
        text, lanes = self.text, self.lanes

        def row_of_squares(row: Value, _: list[Value]) -> None:
            high = text.sub(block.rows, row)

            def square(column: Value, _: list[Value]) -> None:
                wide = text.sub(block.columns, column)
                edge = text.compare("slt", text.minimum(high, wide), lanes)
                whole = text.let(f"xor i1 {edge}, true")
                text.when(whole, lambda: self.square(block, row, column))
                text.when(edge, lambda: self.edge(block, (row, high), (column, wide)))

            text.loop(0, block.columns, lanes, square)

        text.loop(0, block.rows, lanes, row_of_squares)

    def square(self, block: _Block, row: Value, column: Value) -> None:
        """A whole square."""
        rows = [self.load(at) for at in self.down(block, row, column)]
        for made, place in zip(self.turned(rows), self.across(block, row, column), strict=True):
            self.store(made, place)

    def down(self, block: _Block, row: Value, column: Value) -> Iterator[Value]:
        """Addresses of the first column of a square in x, row by row."""
        return self.following(self.source(block, row, column), [self.columns] * (self.lanes - 1))

    def across(self, block: _Block, row: Value, column: Value) -> Iterator[Value]:
        """Addresses of the first row of a square in y, column by column."""
        return self.following(self.result(block, row, column), [self.rows] * (self.lanes - 1))

    def following(self, address: Value, ways: Sequence[Value]) -> Iterator[Value]:
        """Addresses of elements, each `ways[n]` elements behind the one before it.

        Where extents are dynamic, an addition for each instead of a multiplication.
        """
        yield address
        for way in ways:
            address = self.text.at(address, way, self.element)
            yield address

    def edge(self, block: _Block, rows: tuple[Value, Value], columns: tuple[Value, Value]) -> None:
        """A square of which only some rows and columns are in the matrix."""
        text, lanes = self.text, self.lanes
        (row, high), (column, wide) = rows, columns
        size = self.params.bytes
        mask = dynamic_mask(text, lanes, wide)
        # Past the end the last row is read again; what it gives is not stored.
        ways = [
            text.choose(text.compare("slt", n, high), self.columns, "0") for n in range(1, lanes)
        ]
        vectors = [
            text.masked_load(self.vector, at, mask, "zeroinitializer", size)
            for at in self.following(self.source(block, row, column), ways)
        ]
        mask = dynamic_mask(text, lanes, high)
        places = self.across(block, row, column)
        for n, (made, place) in enumerate(zip(self.turned(vectors), places, strict=True)):
            inside = text.compare("slt", n, wide)

            def store(made: Value = made, place: Value = place) -> None:
                text.masked_store(self.vector, made, place, mask, size)

            text.when(inside, store)

    def turned(self, rows: list[Value]) -> list[Value]:
        """The transpose of a square of vectors."""
        turn = interleave if self.params.is_short else transpose
        return turn(self.text, Registers(1, 1, self.lanes, element=self.element), rows)
