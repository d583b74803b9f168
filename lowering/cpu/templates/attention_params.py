"""What fused attention (attention.py) is asked to do, and the sizes that follow from it."""

from dataclasses import dataclass
from typing import Literal

from lowering.cpu.templates.schedule import Registers
from torsh_dialect.target import TargetInfo

KEY_BLOCK = 128
"""Keys of a block: packed K and V of 64-wide heads take 64 KiB, an eighth of a level 2 cache."""

TILES_PER_UNIT = 8
"""Row tiles that share packed keys: packing costs about 1/48 of the arithmetic on AVX2."""


@dataclass(frozen=True)
class AttentionParams:
    """An attention.

    Attributes:
        heads: Query heads H.
        kv_heads: Key and value heads; `heads` is a multiple of it.
        depth: Width D of queries and keys.
        value_depth: Width Dv of values; None for `depth`.
        scale: Factor of the scores.
        causal: Whether row `s` sees only keys `t <= s + offset` (word 9; 0 aligns the first row
            with the first key, `T - S` the last with the last).
        mask: `additive` adds f32 values, `boolean` keeps the keys whose byte is not 0.
        softcap: If not 0, scores become `softcap tanh(score / softcap)` before the mask.
        nan_unseen: Whether a row that sees no key gives NaN, as a softmax of -inf does, not 0.
    """

    heads: int
    depth: int
    kv_heads: int | None = None
    value_depth: int | None = None
    scale: float = 1.0
    causal: bool = False
    mask: Literal["none", "additive", "boolean"] = "none"
    softcap: float = 0.0
    nan_unseen: bool = False

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.heads // self.key_heads

    @property
    def width(self) -> int:
        """Width of values."""
        return self.value_depth or self.depth


def registers_of(target: TargetInfo) -> Registers:
    """The register tile; its width divides 32, so that key panels fill virtual lanes."""
    lanes = target.lanes(4)
    if target.vector_bytes == 64:
        return Registers(12, 2, lanes)
    if target.vector_registers >= 32:
        return Registers(4, 4, lanes)
    return Registers(6 if target.fma else 4, 2, lanes)


def unit_rows(target: TargetInfo) -> int:
    """Rows of a unit."""
    return registers_of(target).rows * TILES_PER_UNIT


def parallel_extent(params: AttentionParams, target: TargetInfo, batch: int, rows: int) -> int:
    """Units for `batch` sequences of `rows` queries."""
    return batch * params.key_heads * -(-params.group * rows // unit_rows(target))


def flops(params: AttentionParams, batch: int, rows: int, keys: int) -> int:
    """Operations of both products, causal or not."""
    return 2 * batch * params.heads * rows * keys * (params.depth + params.width)


def bytes_moved(params: AttentionParams, batch: int, rows: int, keys: int) -> int:
    """Bytes of q, k, v and out, each once."""
    width = params.depth + params.width
    return 4 * batch * width * (params.heads * rows + params.key_heads * keys)


@dataclass(frozen=True)
class Layout:
    """Offsets in f32 elements of the parts of a worker's scratch."""

    keys: int
    values: int
    scores: int
    sums: int
    maximum: int
    total: int
    correction: int
    size: int


def padded_width(params: AttentionParams, registers: Registers) -> int:
    """Width of values rounded up to whole panels."""
    return -(-params.width // registers.width) * registers.width


def layout_of(params: AttentionParams, target: TargetInfo) -> Layout:
    """The parts of a worker's scratch."""
    registers, rows = registers_of(target), unit_rows(target)
    width = padded_width(params, registers)
    sizes = (
        KEY_BLOCK * params.depth,
        KEY_BLOCK * width,
        registers.rows * KEY_BLOCK,
        rows * width,
        rows,
        rows,
        registers.rows,
    )
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + -(-size // 16) * 16)
    return Layout(*offsets)


def scratch_bytes(params: AttentionParams, target: TargetInfo) -> int:
    """Bytes of scratch per worker, to be aligned to 64."""
    return 4 * layout_of(params, target).size
