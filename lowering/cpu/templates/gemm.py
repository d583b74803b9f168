"""Matrix product with packed weights: `C[M,N] = epilogue(A[M,K] @ B[K,N])`.

M is an argument or static, N and K are static. M = 1 (decoding, recurrent cells) is the same
kernel: a tile of one row spans four panels, reads B at memory speed and sums in the same order.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lowering.cpu.templates.epilogue import IDENTITY, Epilogue
from lowering.cpu.templates.microkernel import (
    Accumulators,
    Tile,
    accumulate,
    sum_blocks,
)
from lowering.cpu.templates.schedule import (
    ELEMENT_BYTES,
    K_BLOCK,
    Extent,
    register_tile,
    unit_size,
)
from lowering.cpu.templates.tiling import Place, Tiling, Walker, store_tile
from lowering.cpu.text import Module, Text, Value, is_literal
from torsh_dialect.target import TargetInfo

FEW_ROWS = 8
"""Up to so many rows pass over B in one tile, for B is what a product of few rows waits for."""


@dataclass(frozen=True)
class GemmParams:
    """A matrix product with packed right operand.

    Argument words: 0 A, 1 packed B (64-byte aligned), 2 C, 3 M (i64), 4 and on: the epilogue's.

    Attributes:
        n: Columns of C.
        k: Steps of the contraction.
        m: Rows if they are static, else None and word 3 is read.
        a_stride: Elements between rows of A; None for `k`.
        c_stride: Elements between rows of C; None for `n`.
        element: `float` or `double`.
        epilogue: Applied to each result vector.
    """

    n: int
    k: int
    m: int | None = None
    a_stride: int | None = None
    c_stride: int | None = None
    element: str = "float"
    epilogue: Epilogue = IDENTITY


def tiling(params: GemmParams, target: TargetInfo) -> Tiling:
    """How `params` is cut on `target`."""
    registers = register_tile(params.n, target, params.element)
    row_bytes = params.k * ELEMENT_BYTES[params.element]
    block, group = unit_size(registers, params.m, params.n, params.k, row_bytes, target)
    return Tiling(registers, params.m, params.n, block, group, FEW_ROWS)


def parallel_extent(params: GemmParams, target: TargetInfo) -> Extent:
    """Units as a function of M."""
    return tiling(params, target).extent


def flops(params: GemmParams, rows: int) -> int:
    """Floating-point operations that the product of `rows` rows executes."""
    return rows * params.n * (2 * params.k + params.epilogue.operations)


def bytes_moved(params: GemmParams, rows: int) -> int:
    """Bytes of A, B and C, each counted once."""
    size = ELEMENT_BYTES[params.element]
    return size * (rows * params.k + params.k * params.n + rows * params.n)


def emit(module: Module, name: str, params: GemmParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    a, b, c = (text.argument(i, role=role) for i, role in enumerate("abc"))
    rows = text.argument(3, "i64", "m") if params.m is None else str(params.m)
    body = params.epilogue.begin(text)
    cut = tiling(params, target)
    walker = Walker(text, cut, rows)
    c_stride = params.n if params.c_stride is None else params.c_stride

    def tile_code(tile: Tile, place: Place) -> None:
        pointers = _row_pointers(text, params, a, tile, place)
        panels = _panel_pointers(text, params, b, tile, place)
        values = contract(text, tile, pointers, panels, params.k)
        store_tile(text, tile, place, values, c_stride, c, params.epilogue, body)

    def unit(index: Value, _: list[Value]) -> None:
        walker.unit(text.udiv(index, cut.groups), text.urem(index, cut.groups), tile_code)

    text.loop("%lo", "%hi", 1, unit)
    text.finish()


def _row_pointers(
    text: Text, params: GemmParams, a: Value, tile: Tile, place: Place
) -> list[Value]:
    """Pointers to the tile's rows of A; past the end, to the last row."""
    stride = params.k if params.a_stride is None else params.a_stride
    pointers: list[Value] = []
    for offset in range(tile.rows):
        row = text.add(place.row, offset)
        pointers.append(text.at(a, text.mul(row, stride), params.element))
    return pointers


def _panel_pointers(
    text: Text, params: GemmParams, b: Value, tile: Tile, place: Place
) -> list[Value]:
    panel_size = params.k * tile.registers.width
    first = text.at(b, text.mul(place.panel, panel_size), params.element)
    panels = -(-tile.vectors // tile.registers.vectors)
    return [text.at(first, panel * panel_size, params.element) for panel in range(panels)]


def contract(
    text: Text, tile: Tile, rows: list[Value], panels: list[Value], k: int | Value
) -> list[Value]:
    """The whole contraction of one tile: blocks of `K_BLOCK` steps, sums added in order.

    Args:
        text: The function being written.
        tile: The tile's size.
        rows: Pointers to the rows of A.
        panels: Pointers to the panels of B.
        k: Number of steps, static or an i64 value.
    """
    element = tile.registers.element

    def steps_from(step: Value, length: int | Value, values: Accumulators) -> Accumulators:
        along_panel = text.mul(step, tile.registers.width)
        return accumulate(
            text,
            tile,
            [text.at(row, step, element) for row in rows],
            [text.at(panel, along_panel, element) for panel in panels],
            length,
            values,
        )

    return contract_steps(text, tile, k, steps_from)


StepsFrom = Callable[[Value, int | Value, Accumulators], Accumulators]
"""Adds so many steps from a first one to accumulators."""


def contract_steps(text: Text, tile: Tile, k: int | Value, steps_from: StepsFrom) -> list[Value]:
    """`contract` of steps that `steps_from` accumulates."""
    if not is_literal(str(k)):
        return _contract_dynamic(text, tile, str(k), steps_from)

    def block(index: Value, values: Accumulators, length: int | Value = K_BLOCK) -> Accumulators:
        return steps_from(text.mul(index, K_BLOCK), length, values)

    whole, rest = text.udiv(k, K_BLOCK), text.urem(k, K_BLOCK)

    def last(index: Value, values: Accumulators) -> Accumulators:
        return block(index, values, rest)

    return sum_blocks(text, tile, whole, block, None if rest == "0" else last)


def _contract_dynamic(text: Text, tile: Tile, k: Value, steps_from: StepsFrom) -> list[Value]:
    """`contract` of a number of steps that the code does not know: one block is most common."""
    first = steps_from("0", text.minimum(k, K_BLOCK), tile.zeros())

    def block(step: Value, totals: Accumulators) -> Accumulators:
        length = text.minimum(text.sub(k, step), K_BLOCK)
        sums = steps_from(step, length, tile.zeros())
        return [
            text.binary("fadd", tile.type, total, value)
            for total, value in zip(totals, sums, strict=True)
        ]

    return text.loop(K_BLOCK, k, K_BLOCK, block, tile.carried(first))
