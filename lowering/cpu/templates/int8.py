"""Integer matrix product `C[M,N] = epilogue(A[M,K] @ B[K,N])`: 8-bit operands, exact 32-bit sums.

Sums are exact, hence free of any order. Zero points belong to the caller: they are an integer
bias per column (static zero point of A) or per row. Ways to multiply, by target:

* vnni: four products of u8 by i8 added to a 32-bit lane; A unsigned only.
* madd (x86): the even and the odd bytes of a word of four, each widened to 16 bits by shifts
  or a mask; two products added to a 32-bit lane. Never the u8 x i8 instruction that saturates
  pairs.
* sdot (Arm, if the target has dotprod): four products of i8 by i8; A signed only.
* widen: bytes widened to 32 bits, one product.
"""

from dataclasses import dataclass
from math import prod

from lowering.cpu.rests import either
from lowering.cpu.templates.epilogue import IDENTITY, Epilogue
from lowering.cpu.templates.gemm import FEW_ROWS
from lowering.cpu.templates.microkernel import Tile
from lowering.cpu.templates.schedule import Extent, Registers, panels_per_group, rows_per_block
from lowering.cpu.templates.tiling import Place, Tiling, Walker, store_tile
from lowering.cpu.text import Module, Text, Value, is_literal
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TargetInfo

MAXIMUM_K = (2**31 - 1) // (255 * 128)
"""More steps than this could overflow a 32-bit sum."""

DOTS = ("vnni", "sdot")
"""Ways that multiply four pairs of bytes in one instruction."""

STEPS = {"vnni": 4, "sdot": 4, "madd": 4, "widen": 1}
"""Steps of K that each way contracts at once (G)."""

UNROLL = 2
"""Groups of G steps in one iteration of the main loop."""


@dataclass(frozen=True)
class Int8GemmParams:
    """An integer matrix product.

    Argument words: 0 A (bytes), 1 packed B (64-byte aligned), 2 C, 3 M (i64), 4 and on: the
    epilogue's, which gets vectors of i32.

    Attributes:
        n: Columns of C.
        k: Steps of the contraction, at most `MAXIMUM_K`.
        signed: Whether A is i8; else u8. B is i8.
        m: Rows if they are static, else None and word 3 is read.
        a_stride: Bytes between rows of A; None for `k`.
        c_stride: Elements between rows of C; None for `n`.
        epilogue: Applied to each result vector.
    """

    n: int
    k: int
    signed: bool = True
    m: int | None = None
    a_stride: int | None = None
    c_stride: int | None = None
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        if self.k > MAXIMUM_K:
            raise InvalidArgumentError(
                f"an 8-bit product of {self.k} steps could overflow 32 bits; the limit is "
                f"{MAXIMUM_K}; split it"
            )


def way_of(signed: bool, target: TargetInfo) -> str:
    """How `target` multiplies i8 (`signed`) or u8 by i8: a key of `STEPS`."""
    if target.triple.startswith("x86_64"):
        return "vnni" if target.int8_dot == "vnni" and not signed else "madd"
    dotprod = target.int8_dot == "sdot" and "+dotprod" in target.features
    return "sdot" if dotprod and signed else "widen"


def way(params: Int8GemmParams, target: TargetInfo) -> str:
    """`way_of` the product's operands."""
    return way_of(params.signed, target)


def registers_of(signed: bool, target: TargetInfo) -> Registers:
    """The register tile: as of floats, less rows where widening needs registers."""
    lanes = target.lanes(4)
    method = way_of(signed, target)
    if target.vector_registers >= 32:
        rows = 6 if target.vector_bytes < 64 else 12 if method == "vnni" else 8
        return Registers(rows, 2, lanes, element="i32")
    if method == "madd":  # two products and the halves of A and B take registers, copies on SSE
        return Registers(4 if target.fma else 3, 2, lanes, element="i32", busy=4)
    return Registers(6, 2, lanes, element="i32", busy=4 if method == "vnni" else 8)


def tiling(params: Int8GemmParams, target: TargetInfo) -> Tiling:
    """How `params` is cut on `target`."""
    registers = registers_of(params.signed, target)
    block_rows = rows_per_block(params.k, registers.rows, target)
    group = panels_per_group(-(-params.n // registers.width))
    return Tiling(registers, params.m, params.n, block_rows, group, FEW_ROWS)


def parallel_extent(params: Int8GemmParams, target: TargetInfo) -> Extent:
    """Units as a function of M."""
    return tiling(params, target).extent


def packed_dims(params: Int8GemmParams, target: TargetInfo) -> tuple[int, int, int, int]:
    """`(panels, ceil(K / G), NR, G)` bytes; columns and steps past the end are zero."""
    registers, steps = registers_of(params.signed, target), STEPS[way(params, target)]
    return -(-params.n // registers.width), -(-params.k // steps), registers.width, steps


def operations(params: Int8GemmParams, rows: int) -> int:
    """Integer operations that the product of `rows` rows executes."""
    return rows * params.n * 2 * params.k


def bytes_moved(params: Int8GemmParams, rows: int) -> int:
    """Bytes of A, B and C, each counted once."""
    return rows * params.k + params.k * params.n + 4 * rows * params.n


def emit(module: Module, name: str, params: Int8GemmParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    emitter = _Emitter(text, params, target)
    text.loop("%lo", "%hi", 1, lambda index, _: emitter.unit(index))
    text.finish()


class _Emitter:
    def __init__(self, text: Text, params: Int8GemmParams, target: TargetInfo):
        self.text, self.params = text, params
        self.a, self.b, self.c = (text.argument(i, role=role) for i, role in enumerate("abc"))
        self.rows = text.argument(3, "i64", "m") if params.m is None else str(params.m)
        self.cut = tiling(params, target)
        self.walker = Walker(text, self.cut, self.rows)
        self.body = params.epilogue.begin(text)
        self.dot = Dot(text, self.cut.registers, way(params, target), params.signed)
        self.panel_bytes = prod(packed_dims(params, target)[1:])

    def unit(self, index: Value) -> None:
        """Write unit `index`: (block of rows, group of panels)."""
        groups = self.cut.groups
        self.walker.unit(self.text.udiv(index, groups), self.text.urem(index, groups), self._tile)

    def _tile(self, tile: Tile, place: Place) -> None:
        text, params = self.text, self.params
        stride = params.k if params.a_stride is None else params.a_stride
        rows: list[Value] = []
        for offset in range(tile.rows):
            row = text.add(place.row, offset)
            rows.append(text.at(self.a, text.mul(row, stride), "i8"))
        size = self.panel_bytes
        first = text.at(self.b, text.mul(place.panel, size), "i8")
        count = -(-tile.vectors // tile.registers.vectors)
        panels = [text.at(first, panel * size, "i8") for panel in range(count)]
        values = self.dot.run(tile, rows, panels, params.k, tile.zeros())
        c_stride = params.n if params.c_stride is None else params.c_stride
        store_tile(text, tile, place, values, c_stride, self.c, params.epilogue, self.body)


class Dot:
    """Writes dot products of bytes in the way of a target."""

    def __init__(self, text: Text, registers: Registers, method: str, signed: bool):
        self.text, self.method, self.signed = text, method, signed
        self.steps = STEPS[method]
        self.lanes, self.type = registers.lanes, registers.type

    def run(
        self,
        tile: Tile,
        rows: list[Value],
        panels: list[Value],
        length: int | Value,
        values: list[Value],
    ) -> list[Value]:
        """Add `length` steps of K, contiguous in rows and panels, to the accumulators.

        Whole groups run in a loop; of a shorter last group the bytes of A are read one by one.
        `length` is static, or an i64 value: see `_run_dynamic`.
        """
        text, length = self.text, str(length)
        if not is_literal(length):
            return self._run_dynamic(tile, rows, panels, length, values)
        whole, rest = int(length) // self.steps, int(length) % self.steps
        end = whole // UNROLL * UNROLL
        values = text.loop(
            0, end, UNROLL, lambda i, v: self._groups(tile, rows, panels, i, UNROLL, v),
            tile.carried(values),
        )  # fmt: skip
        values = self._groups(tile, rows, panels, str(end), whole - end, values)
        return self._group(tile, rows, panels, str(whole), rest, values) if rest else values

    def _run_dynamic(
        self, tile: Tile, rows: list[Value], panels: list[Value], length: Value, values: list[Value]
    ) -> list[Value]:
        """`run` of a number of steps that the code does not know.

        From G steps on a shorter last group reads the last G bytes of the rows; B has zeros for
        those that the group before has multiplied (`int8_batched`). A row of fewer steps may be
        at either end of A: its bytes are read one by one, and those past it in B are zero.
        """
        text, steps, types = self.text, self.steps, [tile.type] * tile.count
        whole, rest = text.udiv(length, steps), text.urem(length, steps)
        end = text.let(f"and i64 {whole}, {-UNROLL}")
        values = text.loop(
            0, end, UNROLL, lambda i, v: self._groups(tile, rows, panels, i, UNROLL, v),
            tile.carried(values),
        )  # fmt: skip
        odd, last = text.compare("ne", end, whole), text.compare("ne", rest, "0")
        values = either(
            text, odd, lambda: self._group(tile, rows, panels, end, steps, values),
            lambda: values, types,
        )  # fmt: skip
        if steps == 1:
            return values

        def ends() -> list[Value]:
            back = text.sub(length, steps)
            return self._group(tile, rows, panels, whole, steps, values, back)

        def few() -> list[Value]:
            return self._group(tile, rows, panels, "0", rest, values)

        def some() -> list[Value]:
            return either(text, text.compare("sge", length, steps), ends, few, types)

        return either(text, last, some, lambda: values, types)

    def _groups(
        self,
        tile: Tile,
        rows: list[Value],
        panels: list[Value],
        start: Value,
        count: int,
        values: list[Value],
    ) -> list[Value]:
        for group in range(count):
            number = self.text.add(start, group)
            values = self._group(tile, rows, panels, number, self.steps, values)
        return values

    def _group(
        self,
        tile: Tile,
        rows: list[Value],
        panels: list[Value],
        number: Value,
        steps: int | Value,
        values: list[Value],
        place_in_row: Value | None = None,
    ) -> list[Value]:
        """Up to G steps of K: a word of each row, from `place_in_row`, times vectors of B."""
        text, registers = self.text, tile.registers
        panel_offset = text.mul(number, registers.width * self.steps)
        vectors: list[list[Value]] = []
        for index in range(tile.vectors):
            panel, vector = divmod(index, registers.vectors)
            place = text.at(panels[panel], panel_offset, "i8")
            place = text.at(place, vector * self.lanes * self.steps, "i8")
            vectors.append(self._right(place))
        row_offset = text.mul(number, self.steps) if place_in_row is None else place_in_row
        result = list(values)
        for row, pointer in enumerate(rows):
            left = self._left(text.at(pointer, row_offset, "i8"), steps)
            for index, vector in enumerate(vectors):
                slot = row * tile.vectors + index
                result[slot] = self._dot(result[slot], left, vector)
        return result

    def _right(self, place: Value) -> list[Value]:
        """One vector of B, widened as the way asks."""
        text, bytes_ = self.text, self.lanes * self.steps
        if self.method == "madd":
            return self._halves(text.load(self._pairs, place, bytes_, "b"), True)
        loaded = text.load(f"<{bytes_} x i8>", place, bytes_, "b")
        if self.method in DOTS:
            return [loaded]
        return [text.let(f"sext <{bytes_} x i8> {loaded} to <{bytes_} x i32>", "b")]

    @property
    def _pairs(self) -> str:
        """Words as pairs of 16 bits."""
        return f"<{2 * self.lanes} x i16>"

    def _halves(self, words: Value, signed: bool) -> list[Value]:
        """The even and the odd bytes of words, as 16 bits each."""
        text, type, eight = self.text, self._pairs, "splat (i16 8)"
        if not signed:
            even = text.binary("and", type, words, "splat (i16 255)")
            return [even, text.binary("lshr", type, words, eight)]
        even = text.binary("ashr", type, text.binary("shl", type, words, eight), eight)
        return [even, text.binary("ashr", type, words, eight)]

    def _word(self, place: Value, steps: int | Value) -> Value:
        """`steps` bytes at `place` as a word; of missing ones anything, or zero if static."""
        text, word = self.text, f"i{8 * self.steps}"
        if steps == self.steps:
            return text.load(word, place, 1, "a")
        value = "0"
        for step in range(steps if isinstance(steps, int) else self.steps - 1):
            at = step if isinstance(steps, int) else text.minimum(step, text.sub(steps, 1))
            byte = text.load("i8", text.at(place, at, "i8"), 1, "a")
            wide = text.let(f"zext i8 {byte} to {word}")
            shifted = text.binary("shl", word, wide, str(8 * step))
            value = text.binary("or", word, value, shifted)
        return value

    def _left(self, place: Value, steps: int | Value) -> list[Value]:
        """`steps` bytes of a row of A in every lane, widened like B."""
        text, bytes_ = self.text, self.lanes * self.steps
        word, value = f"i{8 * self.steps}", self._word(place, steps)
        type = f"<{self.lanes} x {word}>"
        splat = text.splat(type, value)
        if self.method == "madd":
            words = text.let(f"bitcast {type} {splat} to {self._pairs}")
            return self._halves(words, self.signed)
        if self.method != "widen":
            return [text.let(f"bitcast {type} {splat} to <{bytes_} x i8>")]
        extend = "sext" if self.signed else "zext"
        return [text.let(f"{extend} <{bytes_} x i8> {splat} to <{bytes_} x i32>", "a")]

    def _dot(self, total: Value, lefts: list[Value], rights: list[Value]) -> Value:
        """`total + lefts . rights`, lane by lane."""
        for left, right in zip(lefts, rights, strict=True):
            total = self._multiply_add(total, left, right)
        return total

    def _multiply_add(self, total: Value, left: Value, right: Value) -> Value:
        """`total + left . right`, lane by lane."""
        text, type, lanes = self.text, self.type, self.lanes
        if self.method == "widen":
            return text.binary("add", type, total, text.binary("mul", type, left, right))
        bits = 32 * lanes
        if self.method == "madd":
            name = {
                128: "llvm.x86.sse2.pmadd.wd",
                256: "llvm.x86.avx2.pmadd.wd",
                512: "llvm.x86.avx512.pmaddw.d.512",
            }[bits]
            pair = self._pairs
            text.module.declare(name, type, (pair, pair))
            product = text.let(f"call {type} @{name}({pair} {left}, {pair} {right})")
            return text.binary("add", type, total, product)
        quad = f"<{4 * lanes} x i8>"
        name = f"llvm.x86.avx512.vpdpbusd.{bits}"
        if self.method == "sdot":
            name = f"llvm.aarch64.neon.sdot.v{lanes}i32.v{4 * lanes}i8"
        text.module.declare(name, type, (type, quad, quad))
        return text.let(
            f"call {type} @{name}({type} {total}, {quad} {left}, {quad} {right})", "acc"
        )


def emit_pack(
    module: Module,
    name: str,
    params: Int8GemmParams,
    target: TargetInfo,
    strides: tuple[int, int],
) -> None:
    """Write the prepare kernel `name`: i8 weights to `packed_dims`; a unit is one panel.

    Argument words: 0 source, 1 destination.

    Args:
        module: Where the kernel goes.
        name: Its name.
        params: The product the weights are for.
        target: The target.
        strides: Source bytes between columns and between steps: `(K, 1)` for `[N, K]`.
    """
    text = Text(module, name)
    source, packed = text.argument(0, role="source"), text.argument(1, role="packed")
    _, groups, width, steps = packed_dims(params, target)

    def bytes_of(panel: Value, column: Value, lower: Value, upper: Value, real: bool) -> None:
        number = text.add(text.mul(panel, width), column)
        from_ = text.at(source, text.mul(number, strides[0]), "i8")

        def step(index: Value, _: list[Value]) -> None:
            value = text.load("i8", text.at(from_, text.mul(index, strides[1]), "i8"), 1)
            put(index, value)

        def put(index: Value, value: Value) -> None:
            group = text.add(text.mul(panel, groups), text.udiv(index, steps))
            place = text.add(text.mul(group, width), column)
            offset = text.add(text.mul(place, steps), text.urem(index, steps))
            text.store("i8", value, text.at(packed, offset, "i8"), 1)

        text.loop(lower, upper, 1, step if real else lambda index, _: put(index, "0"))

    def unit(panel: Value, _: list[Value]) -> None:
        left = text.minimum(text.sub(params.n, text.mul(panel, width)), width)
        k, end = str(params.k), str(groups * steps)

        def column(index: Value, real: bool) -> None:
            bytes_of(panel, index, "0", k if real else end, real)
            if real:
                bytes_of(panel, index, k, end, False)

        text.loop("0", left, 1, lambda index, _: column(index, True))
        text.loop(left, str(width), 1, lambda index, _: column(index, False))

    text.loop("%lo", "%hi", 1, unit)
    text.finish()
