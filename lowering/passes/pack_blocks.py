"""Products by dequantised weights read the integers: `torsh.packed_linear_blocks`.

Before:

    %w = torsh.dequantize_linear %q, %s {axis = 1, block_size = 32} : (tensor<16x64xi4>, ...) -> ...
    %y = torsh.linear %x, %w : (tensor<?x64xf32>, tensor<16x64xf32>) -> tensor<?x16xf32>

After:

    %p = (pad, reshape and transpose of %q, two steps in a byte)
    %y = torsh.packed_linear_blocks %x, %p, (%s in panels) {bits = 4, block = 32, ...} : ...

Decoding reads every weight once for one row, so that its time is that of the bytes. The scale
multiplies the sum of a block and not each product, which changes values by rounding: it is the
rewrite `weight-only` of the settings, without which `@prepare` dequantises to f32 weights. Zero
points that are not 0 multiply the sums of x over the blocks, in a second product.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import OpResult, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from lowering.cpu.templates.gemm_blocks import BlocksGemmParams, registers_of
from torsh_dialect.attributes import dims_attribute, ints_of
from torsh_dialect.dtypes import dtype_of, f32, i8, i32
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.contract import LinearOp, MatMulOp
from torsh_dialect.ops.join import PadOp
from torsh_dialect.ops.logic import BitwiseAndOp, BitwiseOrOp, ShiftLeftOp
from torsh_dialect.ops.movement import TransposeOp
from torsh_dialect.ops.packed_blocks import PackedLinearBlocksOp
from torsh_dialect.ops.quant import DequantizeLinearOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.passes.roles import integer_of, is_weight_only
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type, is_static, rank_of

SHORTEST_RUN = 8
"""Chains of fewer products than this spend their time on scales."""


@dataclass(frozen=True)
class Weights:
    """A dequantised [N, K] matrix.

    Attributes:
        op: The dequantisation.
        flipped: Whether it gives [K, N].
    """

    op: DequantizeLinearOp
    flipped: bool

    @property
    def dims(self) -> tuple[int, int]:
        """N and K."""
        n, k = (d if isinstance(d, int) else 0 for d in dims_of(self.op.x))
        return (k, n) if self.flipped else (n, k)

    @property
    def block(self) -> int:
        """Steps with one scale; 0 where scales do not lie in blocks of K."""
        op, along = self.op, 0 if self.flipped else 1
        if op.single():
            return self.dims[1]
        if op.block_size is not None:
            return op.block_size.value.data if op.normal_axis() == along else 0
        return self.dims[1] if op.normal_axis() != along else 1

    def matrix(self, c: Compose, value: SSAValue) -> SSAValue:
        """A scale or zero point as [N, K / block]."""
        n, k = self.dims
        if self.op.single():
            return c.broadcast(c.reshape(value, (1, 1)), (n, 1))
        if self.op.block_size is None:
            return c.reshape(value, (n, 1) if self.block == k else (1, k))
        return c.transpose(value, [1, 0]) if self.flipped else value


def weights_of(value: SSAValue, *, flipped: bool) -> Weights | None:
    """The dequantised weights that a right factor is; None if it is something else."""
    if not isinstance(value, OpResult):
        return None
    if isinstance(value.op, TransposeOp) and ints_of(value.op.perm) == (1, 0):
        return weights_of(value.op.x, flipped=not flipped)
    op = value.op
    if not isinstance(op, DequantizeLinearOp) or rank_of(op.x) != 2 or not is_static(op.x):
        return None
    row = dtype_of(element_type(op.x))
    if row.kind not in ("int", "uint") or row.bits > 8 or element_type(op.y) != f32:
        return None
    return Weights(op, flipped) if is_weight_only(value) else None


@dataclass
class PackBlocks(RewritePattern):
    """`linear` or `matmul` of f32 by dequantised weights."""

    target: TargetInfo

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: LinearOp | MatMulOp, rewriter: PatternRewriter):
        x, right = (op.x, op.w) if isinstance(op, LinearOp) else (op.a, op.b)
        weights = weights_of(right, flipped=isinstance(op, MatMulOp))
        if weights is None or element_type(x) != f32 or is_weight_only(x):
            return
        n, k = weights.dims
        bits = self._bits(weights)
        if dims_of(x)[-1:] != (k,) or not bits or not n or element_type(op.y) != f32:
            return
        c = Compose(RewriterBuilder(rewriter))
        y = _product(c, x, weights, bits, registers_of(self.target).width)
        if isinstance(op, LinearOp) and op.bias is not None:
            y = c.add(y, op.bias)
        rewriter.replace(op, (), [y])

    def _bits(self, weights: Weights) -> int:
        """Bits of a packed weight; 0 where the template does not compute the product."""
        n, k = weights.dims
        narrow = dtype_of(element_type(weights.op.x)).bits <= 4
        for bits in (4, 8) if narrow else (8,):
            try:
                params = BlocksGemmParams(n, k, weights.block or 1, bits)
            except InvalidArgumentError:
                continue
            if weights.block and params.run >= min(SHORTEST_RUN, k):
                return bits
        return 0


def _product(c: Compose, x: SSAValue, weights: Weights, bits: int, width: int) -> SSAValue:
    """The packed product, and what zero points take from it."""
    op, (n, k), block = weights.op, weights.dims, weights.block
    row = dtype_of(element_type(op.x))
    half = 2 ** (row.bits - 1) if row.kind == "uint" else 0
    q = c.cast(op.x, i8)
    if half:
        q = c.cast(c.sub(c.cast(op.x, i32), half), i8)
    q = q if weights.flipped else c.transpose(q, [1, 0])
    scale = c.cast(weights.matrix(c, op.scale), f32)
    y = c.b(
        PackedLinearBlocksOp, x, _bytes(c, _panels(c, q, width), bits),
        _panels(c, c.transpose(scale, [1, 0]), width), bits=bits, block=block, columns=n,
    )  # fmt: skip
    if integer_of(op.zero) == half:
        return y
    zero = c.constant(-float(half), f32)
    if op.zero is not None:
        zero = c.sub(c.cast(weights.matrix(c, op.zero), f32), float(half))
    sums = c.sum(c.reshape(x, (*dims_of(x)[:-1], k // block, block)), [rank_of(x)])
    return c.sub(y, c.linear(sums, c.mul(scale, zero), None))


def _panels(c: Compose, matrix: SSAValue, width: int) -> SSAValue:
    """`[K, N]` as panels `[panels, K, width]`."""
    k, n = (d for d in dims_of(matrix) if isinstance(d, int))
    panels = -(-n // width)
    if panels * width != n:
        low, high = dims_attribute([0, 0]), dims_attribute([0, panels * width - n])
        matrix = c.b(PadOp, matrix, low=low, high=high, mode="constant")
    return c.transpose(c.reshape(matrix, (k, panels, width)), [1, 0, 2])


def _bytes(c: Compose, panels: SSAValue, bits: int) -> SSAValue:
    """i8 steps, for 4 bits two of them in a byte, the first in the low half."""
    if bits == 8:
        return panels
    count, k, width = (d for d in dims_of(panels) if isinstance(d, int))
    pairs = c.reshape(panels, (count, k // 2, 2, width))
    low, high = (c.reshape(c.slice(pairs, 2, part, 1), (count, k // 2, width)) for part in (0, 1))
    low = c.b(BitwiseAndOp, low, c.like(15, low))
    return c.b(BitwiseOrOp, low, c.b(ShiftLeftOp, high, c.like(4, high)))
