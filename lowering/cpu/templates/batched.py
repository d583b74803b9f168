"""Batched matrix product of two activations: `C[b] = epilogue(A[b] @ B[b])`, as in attention.

All extents may be dynamic. B is packed on the fly, a group of panels at a time, into a worker's
scratch or the unit's part of a workspace; then the packed product's tiles run over all rows. An
element's steps are summed in the same order as by `gemm` with one chain, whatever M, the batch
and the panel are.
"""

from dataclasses import dataclass, replace

from lowering.cpu.templates.epilogue import IDENTITY, Epilogue, dynamic_mask, load_lanes
from lowering.cpu.templates.gemm import contract
from lowering.cpu.templates.microkernel import Tile, opaque_pointers
from lowering.cpu.templates.row_product import RowProduct
from lowering.cpu.templates.schedule import ELEMENT_BYTES, Registers, register_tile
from lowering.cpu.templates.tiling import Place, Tiling, Walker, each_unit, store_tile
from lowering.cpu.text import Module, Text, Value, is_literal
from torsh_dialect.dims import Dim
from torsh_dialect.target import TargetInfo

GROUP_PANELS = 4
"""Panels packed at a time: rows of A are read once for all four."""

BLOCK_TILES = 8
"""Row tiles between two panels: their rows of A stay in the level 1 or 2 cache."""

WORDS = 18
"""The epilogue's argument words begin here."""


@dataclass(frozen=True)
class BatchedGemmParams:
    """`C[o, i] = A[o, i] @ B[o, i]` over two batch dimensions, outer and inner.

    Argument words: 0 A, 1 B, 2 C, 3 M, 4 N, 5 K, 6 inner batch extent, then element strides
    (row, outer, inner): 7-9 of A, 10-12 of B, 13-15 of C; 16 scratch, 17 scratch bytes of a
    worker (`shared`: a workspace, its bytes for a unit); the epilogue's from `WORDS` on. Strides
    of 0 broadcast. Last dimensions are contiguous.

    Attributes:
        transposed: Whether B is `[N, K]` rather than `[K, N]`.
        n: Columns if static.
        k: Steps if static.
        inner: Inner batch extent if static.
        shared: Whether units have parts of one memory, rather than workers: for a dynamic K.
        element: `float` or `double`.
        one_row: Whether M is 1; then B, not transposed, is read where it is.
        epilogue: Applied to each result vector; its row is `batch * M + m`.
    """

    transposed: bool = False
    n: int | None = None
    k: int | None = None
    inner: int | None = None
    shared: bool = False
    element: str = "float"
    one_row: bool = False
    epilogue: Epilogue = IDENTITY


def registers_of(params: BatchedGemmParams, target: TargetInfo) -> Registers:
    """One chain for an element always: with a dynamic N code cannot depend on it."""
    return register_tile(1 << 30, target, params.element)


def parallel_extent(params: BatchedGemmParams, target: TargetInfo, batch: int, n: int) -> int:
    """Units: groups of panels of each matrix. `batch` is the product of both batch extents."""
    return batch * -(-n // (registers_of(params, target).width * GROUP_PANELS))


def scratch_bytes(params: BatchedGemmParams, target: TargetInfo, k: Dim) -> Dim:
    """Bytes that each worker (each unit) packs into; they must be 64-byte aligned."""
    if params.one_row:
        return 0
    width = registers_of(params, target).width
    return k * (GROUP_PANELS * width * ELEMENT_BYTES[params.element])


def flops(params: BatchedGemmParams, batch: int, m: int, n: int, k: int) -> int:
    """Floating-point operations executed."""
    return batch * m * n * (2 * k + params.epilogue.operations)


def bytes_moved(params: BatchedGemmParams, batch: int, m: int, n: int, k: int) -> int:
    """Bytes of A, B, C and of the packed copy of B, each counted once."""
    return ELEMENT_BYTES[params.element] * batch * (m * k + 2 * k * n + m * n)


def emit(module: Module, name: str, params: BatchedGemmParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    emitter = _Emitter(text, params, registers_of(params, target))
    each_unit(text, emitter.walker.groups, emitter.unit)
    text.finish()


class _Emitter:
    def __init__(self, text: Text, params: BatchedGemmParams, registers: Registers):
        self.text, self.params, self.registers = text, params, registers
        self.a, self.b, self.c = (text.argument(i, role=role) for i, role in enumerate("abc"))
        self.m = text.argument(3, "i64", "m")
        self.n = text.argument(4, "i64", "n") if params.n is None else str(params.n)
        self.k = text.argument(5, "i64", "k") if params.k is None else str(params.k)
        self.inner = text.argument(6, "i64", "inner") if params.inner is None else str(params.inner)
        self.strides = [text.argument(word, "i64", "stride") for word in range(7, 16)]
        self.base, self.size = text.argument(16, role="scratch"), text.argument(17, "i64", "bytes")
        self.scratch = text.at(self.base, text.mul("%worker", self.size), "i8")
        cut = Tiling(registers, None, 1 << 30, BLOCK_TILES * registers.rows, GROUP_PANELS)
        self.body = params.epilogue.begin(text)
        self.walker = Walker(text, cut, self.m, self.n)

    def unit(self, index: Value, batch: Value, group: Value) -> None:
        """Write unit `index`: pack one group of panels of one matrix, multiply all rows by it."""
        text, walker = self.text, self.walker
        if self.params.shared:
            self.scratch = text.at(self.base, text.mul(index, self.size), "i8")
        outer, inner = text.udiv(batch, self.inner), text.urem(batch, self.inner)
        a, b, c = (
            self._matrix(base, self.strides[3 * i + 1 : 3 * i + 3], outer, inner)
            for i, base in enumerate((self.a, self.b, self.c))
        )
        first = text.mul(group, GROUP_PANELS)
        # The epilogue counts rows over the whole batch, so C is addressed from its first row.
        row0 = text.mul(batch, self.m)
        c = text.at(c, text.sub(0, text.mul(row0, self.strides[6])), self._stored())
        if self.params.one_row:
            self._one_row(a, b, c, batch, first)
            return
        self._pack_group(b, group, first)

        def tile_code(tile: Tile, place: Place) -> None:
            panels = self._panels(tile, text.sub(place.panel, first))
            values = contract(text, tile, self._rows(tile, place, a), panels, self.k)
            row = text.add(row0, place.row)
            moved = replace(place, row=row)
            store_tile(
                text, tile, moved, values, self.strides[6], c,
                self.params.epilogue, self.body,
            )  # fmt: skip

        text.loop(0, walker.blocks, 1, lambda block, _: walker.unit(block, group, tile_code))

    def _one_row(self, a: Value, b: Value, c: Value, row: Value, first: Value) -> None:
        """Write the panels of a group, from panel `first` on, of a product of one row."""
        text, registers, epilogue = self.text, self.registers, self.params.epilogue
        column = text.mul(first, registers.width)
        b = text.at(b, column, self.params.element)

        def store(tile: Tile, values: list[Value], columns: int | Value) -> None:
            place = Place("0", row, first, columns)
            store_tile(text, tile, place, values, self.strides[6], c, epilogue, self.body)

        writer = RowProduct(text, registers, self.k, a, b, self.b_stride)
        writer.columns(self._left_of(column), GROUP_PANELS, store)

    def _left_of(self, column: Value) -> Value:
        """Columns from `column` on; a literal where all units of a static N have as many."""
        whole = self.registers.width * GROUP_PANELS
        if self.walker.groups == "1":
            return self.n
        if is_literal(self.n) and int(self.n) % whole == 0:
            return str(whole)
        return self.text.sub(self.n, column)

    def _stored(self) -> str:
        return self.params.epilogue.element or self.params.element

    def _matrix(self, base: Value, strides: list[Value], outer: Value, inner: Value) -> Value:
        text = self.text
        offset = text.add(text.mul(outer, strides[0]), text.mul(inner, strides[1]))
        element = self._stored() if base == self.c else self.params.element
        return text.at(base, offset, element)

    def _rows(self, tile: Tile, place: Place, a: Value) -> list[Value]:
        text, rows = self.text, list[Value]()
        for offset in range(tile.rows):
            row = text.add(place.row, offset)
            rows.append(text.at(a, text.mul(row, self.strides[0]), self.params.element))
        return opaque_pointers(text, rows)

    def _panels(self, tile: Tile, panel: Value) -> list[Value]:
        text, size = self.text, self.text.mul(self.k, self.registers.width)
        count = -(-tile.vectors // self.registers.vectors)
        element = self.params.element
        return [
            text.at(self.scratch, text.mul(text.add(panel, i), size), element) for i in range(count)
        ]

    def _pack_group(self, b: Value, group: Value, first: Value) -> None:
        """Pack the panels of a group; columns past N are zero."""
        text, width = self.text, self.registers.width
        panels = text.ceildiv(self.n, width)
        count = text.minimum(text.sub(panels, first), GROUP_PANELS)

        def panel(index: Value, _: list[Value]) -> None:
            into = text.at(
                self.scratch, text.mul(index, text.mul(self.k, width)), self.params.element
            )
            column = text.mul(text.add(first, index), width)
            left = text.sub(self.n, column)
            whole = text.compare("sge", left, width)
            full, partial, done = text.label("full"), text.label("partial"), text.label("packed")
            text.branch_if(whole, full, partial)
            for label, real in ((full, None), (partial, left)):
                text.start(label)
                if self.params.transposed:
                    pack_transposed(text, self, b, into, column, real)
                else:
                    pack_rows(text, self, b, into, column, real)
                text.branch(done)
            text.start(done)

        text.loop(0, count, 1, panel)

    @property
    def b_stride(self) -> Value:
        """Elements between rows of B."""
        return self.strides[3]


def pack_rows(
    text: Text, of: _Emitter, b: Value, into: Value, column: Value, real: Value | None
) -> None:
    """Copy columns `[column, column + NR)` of `B[K, N]`; only the first `real` exist."""
    registers, element = of.registers, of.params.element
    align = registers.lanes * ELEMENT_BYTES[element]

    def step(index: Value, _: list[Value]) -> None:
        source = text.at(b, text.add(text.mul(index, of.b_stride), column), element)
        target = text.at(into, text.mul(index, registers.width), element)
        for vector in range(registers.vectors):
            offset = vector * registers.lanes
            mask = None
            if real is not None:
                mask = dynamic_mask(text, registers.lanes, text.sub(real, offset))
            value = load_lanes(text, registers.type, text.at(source, offset, element), mask)
            text.store(registers.type, value, text.at(target, offset, element), align)

    text.loop(0, of.k, 1, step)


def pack_transposed(
    text: Text, of: _Emitter, b: Value, into: Value, column: Value, real: Value | None
) -> None:
    """Copy rows `[column, column + NR)` of `B[N, K]` transposed; only the first `real` exist.

    Squares of lanes x lanes are transposed in registers. Rows past the end read the last real
    row, in range, and are set to zero.
    """
    registers, element = of.registers, of.params.element
    lanes = registers.lanes
    align = lanes * ELEMENT_BYTES[element]
    whole = text.let(f"and i64 {of.k}, {-lanes}")
    for vector in range(registers.vectors):
        offset = vector * lanes
        mask = None if real is None else dynamic_mask(text, lanes, text.sub(real, offset))
        rows: list[Value] = []
        for lane in range(lanes):
            row = text.add(column, offset + lane)
            if real is not None:
                row = text.minimum(row, text.sub(of.n, 1))
            rows.append(text.at(b, text.mul(row, of.b_stride), element))

        def finish(
            value: Value, step: Value, offset: int = offset, mask: Value | None = mask
        ) -> None:
            if mask is not None:
                value = text.select(registers.type, mask, value, "zeroinitializer")
            place = text.add(text.mul(step, registers.width), offset)
            text.store(registers.type, value, text.at(into, place, element), align)

        def square(index: Value, _: list[Value], rows: list[Value] = rows) -> None:
            loaded = [text.load(registers.type, text.at(row, index, element)) for row in rows]
            for step, value in enumerate(transpose(text, registers.type, loaded)):
                finish(value, text.add(index, step))

        def single(index: Value, _: list[Value], rows: list[Value] = rows) -> None:
            value = "poison"
            for lane, row in enumerate(rows):
                scalar = text.load(element, text.at(row, index, element))
                value = text.let(
                    f"insertelement {registers.type} {value}, {element} {scalar}, i64 {lane}"
                )
            finish(value, index)

        text.loop(0, whole, lanes, square)
        text.loop(whole, of.k, 1, single)


def transpose(text: Text, type: str, rows: list[Value]) -> list[Value]:
    """Transpose a square of as many vectors as they have lanes (a power of two).

    Each stage swaps the off-diagonal quarters of all blocks of 2 x distance.
    """
    lanes, distance = len(rows), 1
    while distance < lanes:
        result = list(rows)
        for i in range(lanes):
            if i & distance:
                continue
            low = [x if not x & distance else lanes + x - distance for x in range(lanes)]
            high = [x + distance if not x & distance else lanes + x for x in range(lanes)]
            for place, order in ((i, low), (i + distance, high)):
                listed = ", ".join(f"i32 {x}" for x in order)
                result[place] = text.let(
                    f"shufflevector {type} {rows[i]}, {type} {rows[i + distance]}, "
                    f"<{lanes} x i32> <{listed}>"
                )
        rows, distance = result, 2 * distance
    return rows
