"""Matrix product whose packed weights are integers with a scale for each block of K.

`C[M,N] = epilogue(sum over blocks of scale[block,N] * (A[M,block] @ Q[block,N]))`. Made for one
row (decoding), where the time is that of reading the weights: 8 or 4 bits are converted to
floats in registers. A block's products are one chain from zero (at most `K_BLOCK` steps, longer
blocks are cut), and the scaled sums are added in order: a function of K, the block and the
target alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lowering.cpu.templates.epilogue import IDENTITY, Epilogue
from lowering.cpu.templates.microkernel import Tile
from lowering.cpu.templates.schedule import (
    K_BLOCK,
    Extent,
    Registers,
    panels_per_group,
    rows_per_block,
)
from lowering.cpu.templates.tiling import Place, Tiling, Walker, store_tile
from lowering.cpu.text import Module, Text, Value
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TargetInfo

UNROLL = 4
"""Steps of K in one iteration of the main loop; even, for two steps in a byte."""


@dataclass(frozen=True)
class BlocksGemmParams:
    """A product with weights in blocks.

    Argument words: 0 A, 1 packed weights (64-byte aligned), 2 C, 3 M (i64), 4 packed scales,
    5 and on: the epilogue's. Weights and scales are packed as of `torsh.packed_linear_blocks`.

    Attributes:
        n: Columns of C.
        k: Steps of the contraction.
        block: Steps with one scale; divides `k`.
        bits: 8 or 4 bits of a weight.
        m: Rows if they are static, else None and word 3 is read.
        epilogue: Applied to each result vector.
    """

    n: int
    k: int
    block: int
    bits: int = 8
    m: int | None = None
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        if self.bits not in (4, 8) or self.block % (8 // self.bits) or self.k % self.block:
            raise InvalidArgumentError(
                f"blocks of {self.block} steps of {self.bits} bits do not divide {self.k} steps"
            )

    @property
    def run(self) -> int:
        """Steps of a chain: the block, or as large a part of it as divides it and is allowed."""
        parts = -(-self.block // K_BLOCK)
        while self.block % parts or self.block // parts % (8 // self.bits):
            parts += 1
        return self.block // parts


def registers_of(target: TargetInfo) -> Registers:
    """Accumulators, their totals, weights and a temporary have to fit."""
    rows = 6 if target.vector_registers >= 32 else 3
    return Registers(rows, 2, target.lanes(4))


def tiling(params: BlocksGemmParams, target: TargetInfo) -> Tiling:
    """How `params` is cut on `target`."""
    registers = registers_of(target)
    block_rows = rows_per_block(4 * params.k, registers.rows, target)
    group = panels_per_group(-(-params.n // registers.width))
    return Tiling(registers, params.m, params.n, block_rows, group)


def parallel_extent(params: BlocksGemmParams, target: TargetInfo) -> Extent:
    """Units as a function of M."""
    return tiling(params, target).extent


def flops(params: BlocksGemmParams, rows: int) -> int:
    """Floating-point operations of `rows` rows; a converted weight counts as one."""
    runs = params.k // params.run
    return rows * params.n * (2 * params.k + 2 * runs) + params.k * params.n


def bytes_moved(params: BlocksGemmParams, rows: int) -> int:
    """Bytes of A, weights, scales and C, each counted once."""
    weights = params.k * params.n * params.bits // 8 + 4 * params.k // params.block * params.n
    return weights + 4 * rows * (params.k + params.n)


def emit(module: Module, name: str, params: BlocksGemmParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    emitter = _Emitter(text, params, target)
    text.loop("%lo", "%hi", 1, lambda index, _: emitter.unit(index))
    text.finish()


class _Emitter:
    def __init__(self, text: Text, params: BlocksGemmParams, target: TargetInfo):
        self.text, self.params = text, params
        self.a, self.b, self.c = (text.argument(i, role=role) for i, role in enumerate("abc"))
        self.rows = text.argument(3, "i64", "m") if params.m is None else str(params.m)
        self.scales = text.argument(4, role="scales")
        self.cut = tiling(params, target)
        self.walker = Walker(text, self.cut, self.rows)
        self.body = params.epilogue.begin(text)
        self.lanes, self.width = self.cut.registers.lanes, self.cut.registers.width

    def unit(self, index: Value) -> None:
        """Write unit `index`: (block of rows, group of panels)."""
        groups = self.cut.groups
        self.walker.unit(self.text.udiv(index, groups), self.text.urem(index, groups), self._tile)

    def _tile(self, tile: Tile, place: Place) -> None:
        text, params = self.text, self.params
        rows: list[Value] = []
        for offset in range(tile.rows):
            row = text.add(place.row, offset)
            rows.append(text.at(self.a, text.mul(row, params.k), "float"))
        count = -(-tile.vectors // tile.registers.vectors)
        numbers = [text.add(place.panel, panel) for panel in range(count)]
        size, blocks = params.k * self.width * params.bits // 8, params.k // params.block
        panels = [text.at(self.b, text.mul(number, size), "i8") for number in numbers]
        scales = [
            text.at(self.scales, text.mul(number, blocks * self.width), "float")
            for number in numbers
        ]
        values = self._contract(tile, rows, panels, scales)
        store_tile(text, tile, place, values, params.n, self.c, params.epilogue, self.body)

    def _contract(
        self, tile: Tile, rows: list[Value], panels: list[Value], scales: list[Value]
    ) -> list[Value]:
        """All runs of one tile."""
        text, params = self.text, self.params
        each = params.block // params.run

        def run(index: Value, totals: list[Value]) -> list[Value]:
            start = text.mul(index, params.run)
            along = text.mul(start, self.width * params.bits // 8)
            sums = self._run(
                tile,
                [text.at(row, start, "float") for row in rows],
                [text.at(panel, along, "i8") for panel in panels],
            )
            block = text.mul(text.udiv(index, each), self.width)
            vectors: list[Value] = []
            for index_ in range(tile.vectors):
                panel, vector = divmod(index_, tile.registers.vectors)
                address = text.at(scales[panel], text.add(block, vector * self.lanes), "float")
                vectors.append(text.load(tile.type, address, 4 * self.lanes, "scale"))
            return [
                text.fma(tile.type, value, vectors[slot % tile.vectors], total)
                for slot, (value, total) in enumerate(zip(sums, totals, strict=True))
            ]

        return text.loop(0, params.k // params.run, 1, run, tile.carried(tile.zeros()))

    def _run(self, tile: Tile, rows: Sequence[Value], panels: Sequence[Value]) -> list[Value]:
        """The products of one run, from zero."""
        text, length = self.text, self.params.run
        whole = length // UNROLL * UNROLL
        byte_steps = 8 // self.params.bits

        def steps(start: Value, count: int, values: list[Value]) -> list[Value]:
            for step in range(0, count, byte_steps):
                values = self._byte(tile, rows, panels, text.add(start, step), values)
            return values

        values = text.loop(
            0, whole, UNROLL, lambda i, v: steps(i, UNROLL, v), tile.carried(tile.zeros())
        )
        return steps(str(whole), length - whole, values)

    def _byte(
        self,
        tile: Tile,
        rows: Sequence[Value],
        panels: Sequence[Value],
        step: Value,
        values: list[Value],
    ) -> list[Value]:
        """One byte of each weight column: one step of 8 bits, or two of 4."""
        text, steps = self.text, 8 // self.params.bits
        offset = text.mul(text.udiv(step, steps) if steps > 1 else step, self.width)
        weights: list[list[Value]] = []
        for index in range(tile.vectors):
            panel, vector = divmod(index, tile.registers.vectors)
            place = text.at(panels[panel], text.add(offset, vector * self.lanes), "i8")
            weights.append(self._floats(tile.type, place))
        result = list(values)
        for row, pointer in enumerate(rows):
            for part in range(steps):
                place = text.at(pointer, text.add(step, part), "float")
                left = text.splat(tile.type, text.load("float", place, 4, "a"))
                for index in range(tile.vectors):
                    slot = row * tile.vectors + index
                    result[slot] = text.fma(tile.type, left, weights[index][part], result[slot])
        return result

    def _floats(self, type: str, place: Value) -> list[Value]:
        """The weights of a vector of bytes: one vector of floats a step."""
        text, lanes = self.text, self.lanes
        bytes_, words = f"<{lanes} x i8>", f"<{lanes} x i32>"
        loaded = text.load(bytes_, place, lanes, "q")
        wide = text.let(f"sext {bytes_} {loaded} to {words}", "q")
        parts = [wide]
        if self.params.bits == 4:
            low = text.binary("shl", words, wide, "splat (i32 28)")
            parts = [
                text.binary("ashr", words, low, "splat (i32 28)"),
                text.binary("ashr", words, wide, "splat (i32 4)"),
            ]
        return [text.let(f"sitofp {words} {part} to {type}", "w") for part in parts]
