"""Batched product of bytes, both activations: `C[b] = epilogue(A[b] @ B[b])`, 32-bit sums.

As in `batched`, B is packed on the fly, a group of panels at a time, into a worker's scratch, in
words of G steps as `int8.Dot` takes them; then its tiles run over all rows. Sums are modulo 2^32,
hence the same in any order, and exact up to `int8.MAXIMUM_K` steps.
"""

from dataclasses import dataclass, replace

from lowering.cpu.rests import either
from lowering.cpu.templates.batched import BLOCK_TILES, GROUP_PANELS
from lowering.cpu.templates.epilogue import IDENTITY, Epilogue
from lowering.cpu.templates.int8 import MAXIMUM_K, STEPS, Dot, registers_of, way_of
from lowering.cpu.templates.microkernel import Tile, opaque_pointers
from lowering.cpu.templates.tiling import Place, Tiling, Walker, each_unit, store_tile
from lowering.cpu.text import Module, Text, Value, is_literal
from torsh_dialect.dims import Dim, ceildiv
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TargetInfo

CHUNK = 16
"""Columns that are packed at a time: bytes of a vector that every target interleaves."""


@dataclass(frozen=True)
class Int8BatchedParams:
    """`C[b, M, N] = A[b, M, K] @ B[b, K, N]`, all dense.

    Argument words: 0 A, 1 B (i8), 2 C, 3 M, 4 N, 5 scratch, 6 scratch bytes of a worker (dynamic
    K: a workspace, its bytes for a unit), 7 K, 8 and on: the epilogue's, which gets vectors of
    i32.

    Attributes:
        k: Steps of the contraction if static, at most `int8.MAXIMUM_K`; else word 7 is read.
        signed: Whether A is i8; else u8.
        n: Columns if static.
        epilogue: Applied to each result vector; its row is `batch * M + m`.
    """

    k: int | None
    signed: bool = True
    n: int | None = None
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        if self.k is not None and not 0 < self.k <= MAXIMUM_K:
            raise InvalidArgumentError(
                f"an 8-bit product of {self.k} steps; the limit of 32-bit sums is {MAXIMUM_K}"
            )


def group_columns(params: Int8BatchedParams, target: TargetInfo) -> int:
    """Columns of a unit: the parallel range is `batch * ceil(N / group_columns)`."""
    return registers_of(params.signed, target).width * GROUP_PANELS


def scratch_bytes(params: Int8BatchedParams, target: TargetInfo, k: Dim) -> Dim:
    """Bytes of scratch that each worker (each unit) needs for K = `k`, whole cache lines."""
    steps = STEPS[way_of(params.signed, target)]
    size = ceildiv(k, steps) * (steps * group_columns(params, target))
    return ceildiv(size, 64) * 64


def emit(module: Module, name: str, params: Int8BatchedParams, target: TargetInfo) -> None:
    """Write kernel `name`."""
    text = Text(module, name)
    emitter = _Emitter(text, params, target)
    each_unit(text, emitter.walker.groups, emitter.unit)
    text.finish()


class _Emitter:
    def __init__(self, text: Text, params: Int8BatchedParams, target: TargetInfo):
        self.text, self.params = text, params
        self.registers = registers_of(params.signed, target)
        method = way_of(params.signed, target)
        self.steps = STEPS[method]
        self.k = text.argument(7, "i64", "k") if params.k is None else str(params.k)
        self.words = text.ceildiv(self.k, self.steps)
        self.a, self.b, self.c = (text.argument(i, role=role) for i, role in enumerate("abc"))
        self.m = text.argument(3, "i64", "m")
        self.n = text.argument(4, "i64", "n") if params.n is None else str(params.n)
        self.base, self.size = text.argument(5, role="scratch"), text.argument(6, "i64", "bytes")
        self.scratch = text.at(self.base, text.mul("%worker", self.size), "i8")
        registers = self.registers
        cut = Tiling(registers, None, 1 << 30, BLOCK_TILES * registers.rows, GROUP_PANELS)
        self.body = params.epilogue.begin(text)
        self.dot = Dot(text, registers, method, params.signed)
        self.walker = Walker(text, cut, self.m, self.n)

    @property
    def panel_bytes(self) -> Value:
        """Bytes of a packed panel."""
        return self.text.mul(self.words, self.registers.width * self.steps)

    def unit(self, index: Value, batch: Value, group: Value) -> None:
        """Write unit `index`: pack one group of panels of one matrix, multiply all rows by it."""
        text, walker, params = self.text, self.walker, self.params
        if params.k is None:
            self.scratch = text.at(self.base, text.mul(index, self.size), "i8")
        first = text.mul(group, GROUP_PANELS)
        b = text.at(self.b, text.mul(text.mul(batch, self.k), self.n), "i8")
        if params.k is None:
            text.when(text.compare("ne", self.k, 0), lambda: self._pack_group(b, first))
        else:
            self._pack_group(b, first)
        row0 = text.mul(batch, self.m)

        def product(tile: Tile, place: Place) -> list[Value]:
            rows = [text.at(self.a, text.mul(text.add(row0, place.row), self.k), "i8")]
            for _ in range(1, tile.rows):
                rows.append(text.at(rows[-1], self.k, "i8"))
            if params.k is None:
                rows = opaque_pointers(text, rows)
            panels = self._panels(tile, text.sub(place.panel, first))
            return self.dot.run(tile, rows, panels, self.k, tile.zeros())

        def tile_code(tile: Tile, place: Place) -> None:
            if params.k is None:
                values = either(
                    text, text.compare("eq", self.k, 0), tile.zeros,
                    lambda: product(tile, place), [tile.type] * tile.count,
                )  # fmt: skip
            else:
                values = product(tile, place)
            moved = replace(place, row=text.add(row0, place.row))
            store_tile(text, tile, moved, values, self.n, self.c, params.epilogue, self.body)

        text.loop(0, walker.blocks, 1, lambda block, _: walker.unit(block, group, tile_code))

    def _panels(self, tile: Tile, panel: Value) -> list[Value]:
        text, size = self.text, self.panel_bytes
        first = text.at(self.scratch, text.mul(panel, size), "i8")
        count = -(-tile.vectors // self.registers.vectors)
        return [text.at(first, text.mul(size, index), "i8") for index in range(count)]

    # -- packing

    def _pack_group(self, b: Value, first: Value) -> None:
        """Pack the panels of a group; columns past N and steps past K are zero."""
        text, width = self.text, self.registers.width
        chunk = min(CHUNK, width)
        column0 = text.mul(first, width)
        real = text.minimum(text.sub(self.n, column0), width * GROUP_PANELS)
        padded = text.mul(text.ceildiv(real, width), width)

        def columns(column: Value, _: list[Value]) -> None:
            panel, inner = text.udiv(column, width), text.urem(column, width)
            into = text.at(self.scratch, text.mul(panel, self.panel_bytes), "i8")
            into = text.at(into, text.mul(inner, self.steps), "i8")
            source = text.at(b, text.add(column0, column), "i8")
            left = text.sub(real, column)
            whole = text.compare("sge", left, chunk)
            partial = text.let(f"xor i1 {whole}, true")
            text.when(whole, lambda: self._whole_chunk(source, into, chunk))
            text.when(partial, lambda: self._partial_chunk(source, into, chunk, left))

        text.loop(0, padded, chunk, columns)

    def _place(self, into: Value, word: Value) -> Value:
        return self.text.at(into, self.text.mul(word, self.registers.width * self.steps), "i8")

    def _whole_chunk(self, source: Value, into: Value, chunk: int) -> None:
        """Interleave the rows of each word."""
        text, type = self.text, f"<{chunk} x i8>"
        whole, rest = text.udiv(self.k, self.steps), text.urem(self.k, self.steps)

        def load(row: Value) -> Value:
            return text.load(type, text.at(source, text.mul(row, self.n), "i8"), 1, "b")

        def put(index: Value, rows: list[Value]) -> None:
            place = self._place(into, index)
            for number, vector in enumerate(self._words(rows, chunk)):
                text.store(type, vector, text.at(place, number * chunk, "i8"), 1)

        def full(index: Value) -> None:
            row = text.mul(index, self.steps)
            put(index, [load(text.add(row, step)) for step in range(self.steps)])

        def last() -> None:
            rows: list[Value] = []
            for row, real in self._last_rows():
                mask = text.splat(f"<{chunk} x i1>", real)
                rows.append(text.select(type, mask, load(row), "zeroinitializer"))
            put(whole, rows)

        text.loop(0, whole, 1, lambda index, _: full(index))
        if not is_literal(rest):
            text.when(text.compare("ne", rest, 0), last)
        elif int(rest):
            row = int(whole) * self.steps
            zeros = ["zeroinitializer"] * (self.steps - int(rest))
            put(whole, [*(load(str(row + step)) for step in range(int(rest))), *zeros])

    def _last_rows(self) -> list[tuple[Value, Value]]:
        """The row of B for each step of the last word, and whether it counts, of a dynamic K.

        As `int8.Dot` reads A: the last G rows, of which those of the word before are zero; the
        first rows, where there are less than G, and zeros after them.
        """
        text, steps = self.text, self.steps
        first = text.maximum(text.sub(self.k, steps), 0)
        before = text.mul(text.udiv(self.k, steps), steps)
        found: list[tuple[Value, Value]] = []
        for step in range(steps):
            row = text.add(first, step)
            new, real = text.compare("sge", row, before), text.compare("slt", row, self.k)
            found.append(
                (text.minimum(row, text.sub(self.k, 1)), text.binary("and", "i1", new, real))
            )
        return found

    def _words(self, rows: list[Value], chunk: int) -> list[Value]:
        """The bytes of equal columns of G rows beside each other, as G vectors."""
        if len(rows) == 1:
            return rows
        even, odd = self._words(rows[::2], chunk), self._words(rows[1::2], chunk)
        return [
            made
            for a, b in zip(even, odd, strict=True)
            for made in (self._zip(a, b, chunk, 0), self._zip(a, b, chunk, chunk // 2))
        ]

    def _zip(self, a: Value, b: Value, chunk: int, start: int) -> Value:
        """Half of the lanes of two vectors, in turns."""
        type = f"<{chunk} x i8>"
        lanes = [lane for n in range(start, start + chunk // 2) for lane in (n, chunk + n)]
        listed = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.text.let(f"shufflevector {type} {a}, {type} {b}, <{chunk} x i32> <{listed}>")

    def _partial_chunk(self, source: Value, into: Value, chunk: int, left: Value) -> None:
        """Byte by byte: the last columns of B."""
        text, steps = self.text, self.steps

        def put(place: Value, row: Value, known: Value) -> None:
            row = text.at(source, text.mul(row, self.n), "i8")

            def column(lane: Value, _: list[Value]) -> None:
                inside = text.binary("and", "i1", known, text.compare("slt", lane, left))
                at = text.at(row, text.minimum(lane, text.sub(left, 1)), "i8")
                value = text.select("i8", inside, text.load("i8", at, 1), "0")
                text.store("i8", value, text.at(place, text.mul(lane, steps), "i8"), 1)

            text.loop(0, chunk, 1, column)

        def step(number: Value, _: list[Value]) -> None:
            place = self._place(into, text.udiv(number, steps))
            place = text.at(place, text.urem(number, steps), "i8")
            known = text.compare("slt", number, self.k)
            put(place, text.minimum(number, text.sub(self.k, 1)), known)

        def last() -> None:
            word = self._place(into, whole)
            for number, (row, real) in enumerate(self._last_rows()):
                put(text.at(word, number, "i8"), row, real)

        # What is past the end reads the last column, in range, and is zero; `left` may be negative.
        if is_literal(self.k):
            text.loop(0, text.mul(self.words, steps), 1, step)
            return
        whole, rest = text.udiv(self.k, steps), text.urem(self.k, steps)
        text.loop(0, text.mul(whole, steps), 1, step)
        text.when(text.compare("ne", rest, 0), last)
