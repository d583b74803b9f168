"""Choices of sizes shared by the templates, as pure functions of static sizes and the target.

What fixes an element's order of operations (`K_BLOCK`, `chains`) depends on K, N, dtype and
target only. What merely cuts work up (tile height, block of rows, group of panels) may depend
on anything, because it never changes bits.
"""

from dataclasses import dataclass

from lowering.cpu.text import Text, Value
from torsh_dialect.target import TargetInfo

K_BLOCK = 256
"""Most steps of a contraction that are accumulated from zero before sums are added in order.

One chain over K = 4,608 has 4.5 times the rms error of a vendor library; blocks of 256 have
1.0 to 1.15 times."""

ELEMENT_BYTES = {"float": 4, "double": 8}


@dataclass(frozen=True)
class Registers:
    """A register tile: `rows` x `vectors` accumulators of `lanes` elements, in `chains` chains.

    Attributes:
        rows: Rows of the tile (MR).
        vectors: Vectors a panel is wide; `vectors * lanes` is the panel width (NR).
        lanes: Elements of a vector.
        chains: Independent accumulation chains of one element (P).
        element: LLVM element type, `float` or `double`.
        busy: Accumulators that keep the multipliers busy; short tiles span panels to have them.
    """

    rows: int
    vectors: int
    lanes: int
    chains: int = 1
    element: str = "float"
    busy: int = 8

    @property
    def width(self) -> int:
        """Columns of a panel (NR)."""
        return self.vectors * self.lanes

    @property
    def type(self) -> str:
        """LLVM type of one vector."""
        return f"<{self.lanes} x {self.element}>"


def register_tile(columns: int, target: TargetInfo, element: str = "float") -> Registers:
    """The register tile of a contraction with `columns` result columns on `target`.

    AVX2 6x16: 12 accumulators hide 4 cycles of latency on two ports and leave room for two
    vectors of B and a broadcast; 3x32 spills. AVX-512 12x32: 24 accumulators, the broadcast
    is a memory operand. NEON 6x12: 18 accumulators, 3 of B, 6 of A; 6x16 spills. SSE 4x8:
    multiplication and addition need a temporary and the broadcast a register.

    Up to one vector of columns there are too few accumulators for short M, so an element is
    summed in four chains (a choice by N and target alone, as the numerics contract asks).
    """
    lanes = target.lanes(ELEMENT_BYTES[element])
    if columns <= lanes:
        return Registers(3, 1, lanes, 4, element)
    if not target.fma:
        return Registers(4, 2, lanes, 1, element)
    if target.vector_registers >= 32:
        rows, vectors = (12, 2) if target.vector_bytes == 64 else (6, 3)
        return Registers(rows, vectors, lanes, 1, element)
    return Registers(6, 2, lanes, 1, element)


def panels_for_rows(registers: Registers, rows: int) -> int:
    """How many panels one tile of `rows` rows spans, so that short tiles still fill the FMA units.

    Eight accumulators hide the latency of two FMA ports; more would only cost registers.
    """
    return max(1, registers.busy // (rows * registers.vectors * registers.chains))


def split_rows(rows: int, height: int) -> list[tuple[int, int]]:
    """`rows` as runs of (tiles, tile height): heights differ by at most one, none is wasted.

    49 rows at height 6 are 4 tiles of 6 and 5 of 5, not 8 of 6 and one of 1.
    """
    if not rows:
        return []
    tiles = -(-rows // height)
    low = rows // tiles
    high = rows - low * tiles
    return [(count, size) for count, size in ((high, low + 1), (tiles - high, low)) if count]


@dataclass(frozen=True)
class Extent:
    """The parallel range of a kernel: `ceil(rows / divisor) * factor` units.

    `rows` is the product of the dynamic extents that the template documents.
    """

    divisor: int
    factor: int

    def value(self, rows: int) -> int:
        """Number of units for `rows` rows."""
        return -(-rows // self.divisor) * self.factor

    def emit(self, text: Text, rows: Value) -> Value:
        """The same number as an i64 of the function `text`."""
        return text.mul(text.ceildiv(rows, self.divisor), self.factor)


def rows_per_block(row_bytes: int, height: int, target: TargetInfo) -> int:
    """Rows of a unit: its part of A takes half of the level 2 cache, panels of B stream by.

    At least four tiles, so that a panel of B is used often enough to hide its loads.
    """
    fitting = target.l2_bytes // 2 // max(1, row_bytes)
    return max(4, fitting // height) * height


def panels_per_group(panels: int) -> int:
    """Panels of a unit: enough units for many threads, enough work in one to pay for its start."""
    return max(1, min(4, panels)) if panels <= 64 else 8


UNITS_WANTED = 16
"""Units that keep a few threads equally busy: 5 units leave one of two threads idle a fifth."""

UNIT_FLOPS = 500_000
"""Operations of a unit, about 5 us, beside which starting it costs nothing."""

SOME_ROWS = 256
"""Rows of a result for the choice of its units, where they are dynamic."""


def unit_size(
    registers: Registers,
    rows: int | None,
    columns: int,
    steps: int,
    row_bytes: int,
    target: TargetInfo,
) -> tuple[int, int]:
    """Rows and panels of a unit of a contraction of `steps` steps.

    As large as the caches like, then cut in halves, panels before rows, until there are enough
    units for threads or they get too small. A row of A takes `row_bytes`.
    """
    panels, given = -(-columns // registers.width), rows
    block = rows_per_block(row_bytes, registers.rows, target)
    group = panels_per_group(panels)
    # Where rows are dynamic there may be one, whose tile needs several panels.
    fewest = 1 if rows is None else max(1, min(rows, registers.rows))
    rows = SOME_ROWS if rows is None else max(1, rows)
    least = min(group, panels_for_rows(registers, fewest))
    while -(-rows // block) * -(-panels // group) < UNITS_WANTED:
        high = min(rows, block)
        if 2 * high * min(columns, group * registers.width) * steps < 2 * UNIT_FLOPS:
            break
        if group > least:
            group = max(least, -(-group // 2))
        elif high > 2 * registers.rows:
            block = -(-high // (2 * registers.rows)) * registers.rows
        else:
            break
    if given and block < given:  # a power of two of blocks, for equal shares of 2, 4, ... threads
        block = -(-given // (1 << (-(-given // block) - 1).bit_length()))
    return block, group


def winograd_tiles(channels: int, target: TargetInfo) -> int:
    """Tiles of a Winograd unit: 16 transformed values per channel take 3/4 of the level 2 cache.

    At least 16, because each unit reads all its transformed weights once (2/T bytes per
    operation); at most 48, because more gains nothing and leaves threads without work.
    """
    return min(48, max(16, target.l2_bytes * 3 // 4 // (16 * 4 * channels)))
