"""Put convolutions and pools into channels-last layout, and move the transposes out of the way.

Before:

    %y = torsh.conv %x, %w : (tensor<1x3x8x8xf32>, ...) -> tensor<1x4x8x8xf32>
    %z = torsh.relu %y : ...

After: `%x` transposed, the convolution with `data_layout = "NHWC"`, relu on its result, and one
transpose at the end. Transposes sink through element-wise ops, reductions, concatenations,
padding and slices until they meet their inverse. No value changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, OpResult, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from lowering.passes.schedule import ELEMENTS, transposed_axis, window_axis
from torsh_dialect.attributes import (
    bool_of,
    dims_attribute,
    extents_of,
    integer,
    integers,
    ints_of,
    text,
)
from torsh_dialect.driver import rewrite
from torsh_dialect.kinds import Elementwise, Reduce, rebuilt
from torsh_dialect.ops.conv import ConvOp, ConvTransposeOp
from torsh_dialect.ops.join import ConcatOp, PadOp
from torsh_dialect.ops.movement import ReshapeOp, SliceOp, TransposeOp
from torsh_dialect.ops.pool import AvgPoolOp, MaxPoolOp
from torsh_dialect.ops.reduce import ArgMaxOp, ArgMinOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.passes.roles import is_weight_only
from torsh_dialect.types import DimsAttr, dims_of, element_type, is_static, rank_of

Perm = tuple[int, ...]


def to_last(rank: int) -> Perm:
    """Channels from axis 1 to the end."""
    return (0, *range(2, rank), 1)


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(perm.index(n) for n in range(len(perm)))


def perm_of(value: SSAValue) -> Perm | None:
    """The permutation of the transpose that computes `value`; None if none does."""
    if isinstance(value, OpResult) and isinstance(value.op, TransposeOp):
        return ints_of(value.op.perm)
    return None


def transposed(rewriter: PatternRewriter, value: SSAValue, perm: Perm) -> SSAValue:
    """`value` with its axes permuted, through an existing transpose where there is one."""
    if perm == tuple(range(len(perm))):
        return value
    earlier = perm_of(value)
    if earlier is not None:
        assert isinstance(value, OpResult)
        return transposed(rewriter, value.op.operands[0], tuple(earlier[p] for p in perm))
    return RewriterBuilder(rewriter)(TransposeOp, value, perm=perm)


class ConvToLast(RewritePattern):
    """A convolution that templates compute becomes channels-last."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConvOp, rewriter: PatternRewriter):
        rank = rank_of(op.x)
        if op.channels_last() or rank not in (3, 4) or element_type(op.x) not in ELEMENTS:
            return
        if op.accumulate is not None or not is_static(op.w) or not is_weight_only(op.w):
            return
        g = op.geometry()
        if any(window_axis(g, n) is None for n in range(rank - 2)):
            return
        x = transposed(rewriter, op.x, to_last(rank))
        new = rebuilt(op, [x, *op.operands[1:]], data_layout=text("NHWC"))
        rewriter.insert(new)
        y = transposed(rewriter, new.results[0], inverse(to_last(rank)))
        rewriter.replace(op, (), [y])


class ConvTransposeToLast(RewritePattern):
    """A transposed convolution that a template computes becomes channels-last."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConvTransposeOp, rewriter: PatternRewriter):
        if op.channels_last() or rank_of(op.x) != 4 or element_type(op.x) not in ELEMENTS:
            return
        static = is_static(op.w) and op.output_extents is None and op.auto_pad is None
        if not static or not is_weight_only(op.w):
            return
        if any(transposed_axis(op, n) is None for n in range(2)):
            return
        x = transposed(rewriter, op.x, to_last(4))
        new = rebuilt(op, [x, *op.operands[1:]], data_layout=text("NHWC"))
        rewriter.insert(new)
        y = transposed(rewriter, new.results[0], inverse(to_last(4)))
        rewriter.replace(op, (), [y])


class PoolToLast(RewritePattern):
    """A pool of a transposed value pools before the transpose."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: MaxPoolOp | AvgPoolOp, rewriter: PatternRewriter):
        perm = inverse(to_last(rank_of(op.x)))
        if op.channels_last() or perm_of(op.x) != perm:
            return
        x = transposed(rewriter, op.x, inverse(perm))
        new = rebuilt(op, [x], data_layout=text("NHWC"))
        rewriter.insert(new)
        rewriter.replace(op, (), [transposed(rewriter, new.results[0], perm)])


class ComposeTransposes(RewritePattern):
    """A transpose of a transpose is one; the identity is none."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: TransposeOp, rewriter: PatternRewriter):
        perm = ints_of(op.perm)
        if perm_of(op.x) is not None or perm == tuple(range(len(perm))):
            rewriter.replace(op, (), [transposed(rewriter, op.x, perm)])


class SinkThroughElementwise(RewritePattern):
    """op(transpose(a), transpose(b)) is transpose(op(a, b)); weights are transposed instead."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: Elementwise, rewriter: PatternRewriter):
        rank = rank_of(op.results[0])
        perms = [perm_of(v) for v in op.operands]
        moving = [
            p
            for v, p in zip(op.operands, perms, strict=True)
            if p and not _is_view(v) and not is_weight_only(v)
        ]
        perm = next((p for p in moving if len(p) == rank), None)
        if perm is None or not all(
            p == perm or self._turns(v, perm) for v, p in zip(op.operands, perms, strict=True)
        ):
            return
        back = inverse(perm)
        operands = [self._turned(rewriter, v, back) for v in op.operands]
        new = rebuilt(op, operands)
        rewriter.insert(new)
        rewriter.replace(op, (), [transposed(rewriter, new.results[0], perm)])

    def _turns(self, value: SSAValue, perm: Perm) -> bool:
        """Whether turning `value` costs nothing at run time."""
        return is_weight_only(value) or _moves_nothing(_full(value, len(perm)), inverse(perm))

    def _turned(self, rewriter: PatternRewriter, value: SSAValue, back: Perm) -> SSAValue:
        dims = _full(value, len(back))
        if all(dim == 1 for dim in dims):
            return value
        if rank_of(value) < len(back):
            value = RewriterBuilder(rewriter)(ReshapeOp, value, target=dims_attribute(dims))
        return transposed(rewriter, value, back)


def _is_view(value: SSAValue) -> bool:
    """Whether the transpose that computes `value` moves nothing in memory."""
    return isinstance(value.owner, TransposeOp) and value.owner.is_view()


def _full(value: SSAValue, rank: int):
    return (1,) * (rank - rank_of(value)) + dims_of(value)


def _moves_nothing(dims: Sequence[object], perm: Perm) -> bool:
    """Whether a permutation keeps the order of all axes that are not 1."""
    kept = [p for p in perm if dims[p] != 1]
    return kept == sorted(kept)


class SinkThroughReduce(RewritePattern):
    """reduce(transpose(x)) is transpose(reduce(x)) over the axes' sources."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: Reduce, rewriter: PatternRewriter):
        perm = perm_of(op.x)
        if perm is None or (isinstance(op, ArgMaxOp | ArgMinOp) and len(op.axis_list()) > 1):
            return
        axes = tuple(sorted(perm[a] for a in op.axis_list()))
        source = transposed(rewriter, op.x, inverse(perm))
        new = rebuilt(op, [source], axes=integers(axes))
        rewriter.insert(new)
        result = perm
        if not bool_of(op.keepdims):
            kept = [p for p in perm if p not in axes]
            result = tuple(sorted(kept).index(p) for p in kept)
        rewriter.replace(op, (), [transposed(rewriter, new.results[0], result)])


class SinkThroughConcat(RewritePattern):
    """concat of equally transposed values is a transposed concat."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConcatOp, rewriter: PatternRewriter):
        perm = perm_of(op.operands[0])
        if perm is None or any(perm_of(v) != perm for v in op.operands):
            return
        sources = [transposed(rewriter, v, inverse(perm)) for v in op.operands]
        axis = op.axis.value.data % len(perm)
        new = rebuilt(op, sources, axis=integer(perm[axis]))
        rewriter.insert(new)
        rewriter.replace(op, (), [transposed(rewriter, new.results[0], perm)])


class SinkThroughUnitReshape(RewritePattern):
    """A reshape that only adds or drops axes of extent 1 happens before the transpose."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ReshapeOp, rewriter: PatternRewriter):
        perm, before, after = perm_of(op.x), dims_of(op.x), dims_of(op.y)
        wide = [axis for axis, dim in enumerate(after) if dim != 1]
        if perm is None or [after[n] for n in wide] != [d for d in before if d != 1]:
            return
        sources = [perm[n] for n, d in enumerate(before) if d != 1]
        placed = sorted(zip(sources, wide, strict=True))
        order = [axis for _, axis in placed]
        order += [axis for axis in range(len(after)) if axis not in wide]
        if order == list(range(len(after))) and perm == tuple(range(len(perm))):
            return
        source = transposed(rewriter, op.x, inverse(perm))
        target = dims_attribute([after[axis] for axis in order])
        new = ReshapeOp.make(source, target=target, location=op.location)
        rewriter.insert(new)
        back = tuple(order.index(axis) for axis in range(len(after)))
        rewriter.replace(op, (), [transposed(rewriter, new.y, back)])


class SinkThroughPerAxis(RewritePattern):
    """pad or slice of a transposed value: the properties are permuted."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: PadOp | SliceOp, rewriter: PatternRewriter):
        perm = perm_of(op.operands[0])
        if perm is None:
            return
        source = transposed(rewriter, op.operands[0], inverse(perm))
        names = ("low", "high") if isinstance(op, PadOp) else ("starts", "sizes", "steps")
        changed = {n: _permuted(op.properties[n], perm) for n in names if n in op.properties}
        new = rebuilt(op, [source, *op.operands[1:]], **changed)
        rewriter.insert(new)
        rewriter.replace(op, (), [transposed(rewriter, new.results[0], perm)])


def _permuted(attribute: Attribute, perm: Perm) -> Attribute:
    """A per-axis property of the transposed value, for its source."""
    entries = extents_of(attribute)
    values = [entries[perm.index(n)] for n in range(len(perm))]
    if isinstance(attribute, DimsAttr):
        return dims_attribute(values)
    return integers(tuple(v for v in values if isinstance(v, int)))


PATTERNS = (
    ConvToLast,
    ConvTransposeToLast,
    PoolToLast,
    ComposeTransposes,
    SinkThroughElementwise,
    SinkThroughReduce,
    SinkThroughConcat,
    SinkThroughUnitReshape,
    SinkThroughPerAxis,
)


@dataclass(frozen=True)
class ChooseLayoutPass(ModulePass):
    """See the module docstring."""

    name = "choose-layout"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, *(pattern() for pattern in PATTERNS))
