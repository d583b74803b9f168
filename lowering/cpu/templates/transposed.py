"""Transposing matrices: `y[b, c, r] = x[b, r, c]`, for elements of 1, 2, 4 or 8 bytes.

Any permutation of axes that moves the last one is such a transposition, of matrices whose rows in
x and columns in y may be apart: those are its two axes that are last in x and in y.

Blocks of 64 x 64 elements are moved as squares of vectors in registers; a matrix of at most four
rows or columns (an image whose channels move last or first) by interleaving vectors; where the
run finds a single row or column, by copying. Elements of 1 and 2 bytes go in vectors of 16 bytes:
a square of them fits the registers of every target.

Unit of the parallel range: matrix x block of rows x block of columns. Argument words: 0 x, 1 y,
2 rows R, 3 columns C; then, where matrices are apart, 4 the step of rows in x, 5 that of columns
in y, and of each axis of matrices its extent and its steps in x and y. Words of what is static
are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce

from lowering.cpu.templates.epilogue import dynamic_mask
from lowering.cpu.templates.places import Axis, following_place, place_of
from lowering.cpu.templates.schedule import Registers
from lowering.cpu.templates.transpose import interleave, transpose
from lowering.cpu.templates.transpose_params import TransposeParams
from lowering.cpu.text import Module, Text, Value, is_literal, vector_of
from torsh_dialect.target import TargetInfo

SHORT_BYTES = 16
"""Bytes of a vector of elements of 1 or 2 bytes."""


def emit(module: Module, name: str, params: TransposeParams, target: TargetInfo) -> None:
    """Write kernel `name`."""
    _Transposer(Text(module, name), params, target).write()


@dataclass(frozen=True)
class _Rest:
    """Where rows (or columns) are few: what their vectors leave of them.

    `whole` elements fill vectors and `left` do not; `single` is the mask of these, and `parts[n]`
    that of vector `n` of those of all rows.
    """

    whole: Value
    left: Value
    single: Value
    parts: tuple[Value, ...]


@dataclass(frozen=True)
class _Shape:
    """Rows and columns of a block."""

    rows: Value
    columns: Value
    rest: _Rest | None


@dataclass(frozen=True)
class _Block:
    """Addresses of the first element of a block in x and y, and its shape."""

    source: Value
    result: Value
    rows: Value
    columns: Value
    rest: _Rest | None


class _Transposer:
    """Writes one kernel."""

    def __init__(self, text: Text, params: TransposeParams, target: TargetInfo):
        self.text, self.params = text, params
        self.lanes = SHORT_BYTES // params.bytes if params.is_short else target.lanes(params.bytes)
        self.element = f"i{8 * params.bytes}"
        self.vector = vector_of(self.element, self.lanes)
        self.x, self.y = text.argument(0, role="x"), text.argument(1, role="y")
        self._given = (params.rows, params.columns)
        self.rows, self.columns = self._words(2, self._given)
        self.row_step, self.column_step = self.columns, self.rows
        size = self.text.mul(self.rows, self.columns)
        self.axes = [Axis("", 1, size, size)]
        if params.apart is not None:
            steps = (params.apart.row_step, params.apart.column_step)
            self.row_step, self.column_step = self._words(4, steps)
            self.axes = [self._axis(6 + 3 * n, axis) for n, axis in enumerate(params.apart.axes)]

    def _words(self, first: int, given: Sequence[int | None]) -> list[Value]:
        """Numbers that are static or in the words from `first` on."""
        return [
            self.text.argument(first + n, "i64") if number is None else str(number)
            for n, number in enumerate(given)
        ]

    def _axis(self, first: int, given: Sequence[int | None]) -> Axis:
        extent, source, result = self._words(first, given)
        return Axis(extent, 1, source, result)

    def write(self) -> None:
        """Write the loop over blocks."""
        text, (high, wide) = self.text, self.params.blocks()
        some = text.compare("slt", "%lo", "%hi")  # where nothing is, extents may be 0
        single = self._is_single()
        if single is None:
            text.when(some, self._units)
        else:
            size = text.mul(self.rows, self.columns)
            blocks = text.mul(text.ceildiv(self.rows, high), text.ceildiv(self.columns, wide))
            text.when(text.binary("and", "i1", some, single), lambda: self._copy(blocks, size))
            many = text.binary("xor", "i1", single, "true")
            text.when(text.binary("and", "i1", some, many), self._units)
        text.finish()

    def _units(self) -> None:
        """Visit units in runs along the innermost axis; what is outside of it counts on."""
        text, (high, wide) = self.text, self.params.blocks()
        down = Axis(self.rows, high, self.row_step, "1")
        across = Axis(self.columns, wide, "1", self.column_step)
        ordered = [*self.axes, down, across] if self.params.apart is None else [
            down, across, *self.axes
        ]  # fmt: skip
        *outer, inner = [axis for axis in ordered if not axis.is_single]

        length = text.ceildiv(inner.extent, inner.block) if outer else ""

        def along(begin: Value, end: Value, place: list[Value]) -> None:
            """Visit blocks `begin` to `end` of a run."""
            at = dict(zip(outer, place, strict=True))
            shape = None if inner in (down, across) else self._shape(at, down, across)

            def unit(n: Value, addresses: list[Value]) -> list[Value]:
                own = shape or self._shape({**at, inner: text.mul(n, inner.block)}, down, across)
                x, y = addresses
                self.block(_Block(x, y, own.rows, own.columns, own.rest))
                return [
                    text.at(address, text.mul(step, inner.block), self.element)
                    for address, step in zip(addresses, (inner.source, inner.result), strict=True)
                ]

            first = self._first({**at, inner: text.mul(begin, inner.block)})
            text.loop(begin, end, 1, unit, [("ptr", x) for x in first], guarded=False)

        def run(number: Value, place: list[Value]) -> list[Value]:
            before = text.mul(number, length)
            begin = text.maximum(text.sub("%lo", before), 0)
            along(begin, text.minimum(text.sub("%hi", before), length), place)
            return following_place(text, place, outer)

        if not outer:
            along("%lo", "%hi", [])
            return
        first, last = text.udiv("%lo", length), text.udiv(text.sub("%hi", 1), length)
        places = [("i64", place) for place in place_of(text, first, outer)]
        text.loop(first, text.add(last, 1), 1, run, places, guarded=False)

    def _first(self, place: dict[Axis, Value]) -> tuple[Value, Value]:
        """Addresses of the first element of the block at a place along axes."""
        text = self.text
        source, result = "0", "0"
        for axis, n in place.items():
            source = text.add(source, text.mul(n, axis.source))
            result = text.add(result, text.mul(n, axis.result))
        return text.at(self.x, source, self.element), text.at(self.y, result, self.element)

    def _shape(self, place: dict[Axis, Value], down: Axis, across: Axis) -> _Shape:
        """The shape of the block at a place along axes."""
        text = self.text
        rows, columns = (
            text.minimum(text.sub(axis.extent, place.get(axis, "0")), axis.block)
            for axis in (down, across)
        )
        rest = None
        if not self.params.is_short and self.params.interleaves:
            rest = self._rest(columns, int(self.rows))
        elif not self.params.is_short and self.params.separates:
            rest = self._rest(rows, int(self.columns))
        return _Shape(rows, columns, rest)

    def _rest(self, extent: Value, times: int) -> _Rest:
        text = self.text
        whole = text.mul(text.udiv(extent, self.lanes), self.lanes)
        left = text.sub(extent, whole)
        parts = tuple(
            self.mask(text.sub(text.mul(left, times), n * self.lanes)) for n in range(times)
        )
        return _Rest(whole, left, self.mask(left), parts)

    def _is_single(self) -> Value | None:
        """Whether a dynamic number of rows or columns is 1; None where that is known or no copy."""
        text, found = self.text, list[Value]()
        if self.params.apart is not None:
            return None
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

        first, end = start("%lo"), start("%hi")
        source, result = (text.at(base, first, self.element) for base in (self.x, self.y))
        text.copy(result, source, text.mul(text.sub(end, first), self.params.bytes))

    def block(self, block: _Block) -> None:
        """Write one block in the way of its shape."""
        if self.params.interleaves:
            self.interleave(block)
        elif self.params.separates:
            self.separate(block)
        else:
            self.squares(block)

    def source(self, block: _Block, row: Value | int, column: Value | int) -> Value:
        """Address of an element of the block in x."""
        place = self.text.add(self.text.mul(row, self.row_step), column)
        return self.text.at(block.source, place, self.element)

    def result(self, block: _Block, row: Value | int, column: Value | int) -> Value:
        """Address of an element of the block in y; `row` and `column` are those of x."""
        place = self.text.add(self.text.mul(column, self.column_step), row)
        return self.text.at(block.result, place, self.element)

    # -- matrices of few rows or columns

    def interleave(self, block: _Block) -> None:
        """Few rows: as many vectors, one of each row, become as many of y."""
        rows, lanes = int(self.rows), self.lanes

        def step(column: Value, rest: _Rest | None) -> None:
            mask = rest and rest.single
            vectors = [self.load(self.source(block, row, column), mask) for row in range(rows)]
            start = self.result(block, 0, column)
            for number in range(rows):
                numbers = range(number * lanes, (number + 1) * lanes)
                made = self.picked(vectors, [(n % rows, n // rows) for n in numbers])
                place = self.text.at(start, number * lanes, self.element)
                self.some(rest, number, rows, partial(self.store, made, place))

        self.along(block.columns, block.rest, step, lambda n: self.move(block, range(rows), [n]))

    def separate(self, block: _Block) -> None:
        """Few columns: vectors of x in a row become one vector of each row of y."""
        columns, lanes = int(self.columns), self.lanes

        def step(row: Value, rest: _Rest | None) -> None:
            start = self.source(block, row, 0)
            vectors = [
                self.load(
                    self.text.at(start, number * lanes, self.element), rest and rest.parts[number]
                )
                for number in range(columns)
            ]
            for column in range(columns):
                numbers = range(column, columns * lanes, columns)
                made = self.picked(vectors, [divmod(n, lanes) for n in numbers])
                self.store(made, self.result(block, row, column), rest and rest.single)

        self.along(block.rows, block.rest, step, lambda n: self.move(block, [n], range(columns)))

    def along(
        self,
        extent: Value,
        rest: _Rest | None,
        vectors: Callable[[Value, _Rest | None], None],
        single: Callable[[Value], None],
    ) -> None:
        """Visit an extent by vectors, and what is left with masks.

        Short elements have no masks: their last vector overlaps, and fewer go one by one.
        """
        text, lanes = self.text, self.lanes
        if rest is None:
            last = text.sub(extent, lanes)
            self.either(
                extent,
                lambda: text.loop(0, extent, 1, lambda n, _: single(n)),
                lambda: text.loop(
                    0, extent, lanes, lambda n, _: vectors(text.minimum(n, last), None)
                ),
            )
            return
        text.loop(0, rest.whole, lanes, lambda n, _: vectors(n, None))
        self.either(rest.left, lambda: None, lambda: vectors(rest.whole, rest), 1)

    def some(
        self, rest: _Rest | None, number: int, times: int, store: Callable[[Value | None], None]
    ) -> None:
        """Store vector `number` of what all rows have left: with its mask, where it has any."""
        if rest is None or number == 0:
            store(rest and rest.parts[0])
            return
        many = self.text.add(self.text.mul(rest.left, times), 1 - number * self.lanes)
        self.either(many, lambda: None, lambda: store(rest.parts[number]), 2)

    def mask(self, valid: Value, lanes: int | None = None) -> Value:
        """The mask of the first lanes of a vector; of none for numbers below 0."""
        text, lanes = self.text, lanes or self.lanes
        if is_literal(valid):
            return "<" + ", ".join(f"i1 {int(n < int(valid))}" for n in range(lanes)) + ">"
        if self.params.bytes == 8:
            return dynamic_mask(text, lanes, valid)
        type = vector_of(self.element, lanes)
        narrow = text.splat(type, text.let(f"trunc i64 {valid} to i32"))
        numbers = ", ".join(f"i32 {lane}" for lane in range(lanes))
        return text.let(f"icmp slt {type} <{numbers}>, {narrow}", "mask")

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

    def load(self, address: Value, mask: Value | None = None) -> Value:
        size = self.params.bytes
        if mask is None:
            return self.text.load(self.vector, address, size)
        return self.text.masked_load(self.vector, address, mask, "zeroinitializer", size)

    def store(
        self, value: Value, address: Value, mask: Value | None = None, lanes: int | None = None
    ) -> None:
        type, size = vector_of(self.element, lanes or self.lanes), self.params.bytes
        if mask is None:
            self.text.store(type, value, address, size)
        else:
            self.text.masked_store(type, value, address, mask, size)

    # -- other matrices

    def squares(self, block: _Block) -> None:
        """Squares of vectors, of which those at the edges overlap the ones before them.

        What is smaller than a square is one with masks, or moved element by element.
        """
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

        least = text.minimum(block.rows, block.columns)
        few = self.elements if self.params.is_short else self.edges
        self.either(least, lambda: few(block), squares)

    def either(
        self,
        extent: Value,
        few: Callable[[], object],
        many: Callable[[], object],
        limit: int | None = None,
    ) -> None:
        """One of two ways, for an extent that is below a limit (that of a vector), or not."""
        text, limit = self.text, limit or self.lanes
        if is_literal(extent):
            (few if int(extent) < limit else many)()
            return
        short = text.compare("slt", extent, limit)
        for condition, way in ((short, few), (text.binary("xor", "i1", short, "true"), many)):

            def body(way: Callable[[], object] = way) -> None:
                way()

            text.when(condition, body)

    def edges(self, block: _Block) -> None:
        """Squares with masks."""
        text, lanes = self.text, self.lanes

        def row_of_squares(row: Value, _: list[Value]) -> None:
            high = text.sub(block.rows, row)

            def square(column: Value, _: list[Value]) -> None:
                wide = text.sub(block.columns, column)
                at = self.source(block, row, column), self.result(block, row, column)
                half, whole = (partial(self.edge, at, high, wide, n) for n in (lanes // 2, lanes))
                if self.params.rows is not None and not is_literal(high):
                    whole()  # what is left of rows that fill squares, too rare to be told apart
                else:
                    self.either(high, half, whole, lanes // 2 + 1)

            text.loop(0, block.columns, lanes, square)

        text.loop(0, block.rows, lanes, row_of_squares)

    def elements(self, block: _Block) -> None:
        """Elements one by one."""

        def along(row: Value, _: list[Value]) -> None:
            self.text.loop(0, block.columns, 1, lambda column, _: self.move(block, [row], [column]))

        self.text.loop(0, block.rows, 1, along)

    def square(self, block: _Block, row: Value, column: Value) -> None:
        """A whole square."""
        ways = self.lanes - 1
        sources = self.following(self.source(block, row, column), [self.row_step] * ways)
        rows = [self.load(at) for at in sources]
        places = self.following(self.result(block, row, column), [self.column_step] * ways)
        for made, place in zip(self.turned(rows), places, strict=True):
            self.store(made, place)

    def following(self, address: Value, ways: Sequence[Value]) -> Iterator[Value]:
        """Addresses of elements, each `ways[n]` elements behind the one before it.

        Where extents are dynamic, an addition for each instead of a multiplication.
        """
        yield address
        for way in ways:
            address = self.text.at(address, way, self.element)
            yield address

    def edge(self, at: tuple[Value, Value], high: Value, wide: Value, most: int) -> None:
        """A square at addresses of x and y, of which `high` rows (`most` or fewer) exist."""
        text, lanes = self.text, self.lanes
        mask = self.mask(text.minimum(wide, lanes))
        vectors = [self.load(address, mask) for address in self.present(at[0], high, most)]
        vectors += ["poison"] * (lanes - most)
        width = max(most, 2)  # a vector, of which LLVM makes no lanes that are not stored
        stored = self.mask(text.minimum(high, most), width)
        places = self.following(at[1], [self.column_step] * (lanes - 1))
        for n, (made, place) in enumerate(zip(self.turned(vectors), places, strict=True)):

            def store(made: Value = made, place: Value = place) -> None:
                self.store(self.first(made, width), place, stored, width)

            text.when(text.compare("slt", n, wide), store)

    def first(self, vector: Value, lanes: int) -> Value:
        """The first lanes of a vector."""
        if lanes == self.lanes:
            return vector
        numbers = ", ".join(f"i32 {n}" for n in range(lanes))
        operands = f"{self.vector} {vector}, {self.vector} poison"
        return self.text.let(f"shufflevector {operands}, <{lanes} x i32> <{numbers}>")

    def present(self, first: Value, high: Value, most: int) -> list[Value]:
        """Addresses of `most` rows, of which `high` exist.

        Past the end the last row is read again; what it gives is not stored.
        """
        text = self.text
        if is_literal(self.row_step):  # a chain of choices of constants takes LLVM long
            last = text.sub(text.minimum(high, most), 1)
            steps = [text.mul(text.minimum(n, last), self.row_step) for n in range(most)]
            return [text.at(first, step, self.element) for step in steps]
        exists = [text.compare("slt", n, high) for n in range(1, most)]
        ways = [text.choose(more, self.row_step, "0") for more in exists]
        return list(self.following(first, ways))

    def turned(self, rows: list[Value]) -> list[Value]:
        """The transpose of a square of vectors."""
        turn = interleave if self.params.is_short else transpose
        return turn(self.text, Registers(1, 1, self.lanes, element=self.element), rows)
