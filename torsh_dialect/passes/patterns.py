"""Rewrite patterns that simplify without changing a value."""

from __future__ import annotations

from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect.attributes import dims_attribute, extents_of, ints_of
from torsh_dialect.kinds import contents_of, normal_axes
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.join import ConcatOp, PadOp
from torsh_dialect.ops.movement import (
    BroadcastToOp,
    ReshapeOp,
    SliceOp,
    SqueezeOp,
    UnsqueezeOp,
)
from torsh_dialect.ops.select import CastOp
from torsh_dialect.ops.shape import IotaOp
from torsh_dialect.types import dims_of


class DropCastToSameType(RewritePattern):
    """`cast` to the type that the operand has is the operand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: CastOp, rewriter: PatternRewriter):
        if op.x.type == op.y.type:
            rewriter.replace(op, (), [op.x])


class UnitAxesAsReshape(RewritePattern):
    """`squeeze` and `unsqueeze` are reshapes, so that chains of them become one."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: SqueezeOp | UnsqueezeOp, rewriter: PatternRewriter):
        target = dims_attribute(dims_of(op.y))
        new = ReshapeOp.make(op.x, target=target, location=op.location)
        rewriter.insert(new)
        rewriter.replace(op, (), list(new.results))


class ComposeReshapes(RewritePattern):
    """A reshape of a reshape is one; a reshape to the operand's extents is none."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ReshapeOp, rewriter: PatternRewriter):
        if op.x.type == op.y.type:
            rewriter.replace(op, (), [op.x])
            return
        if isinstance(op.x.owner, ReshapeOp):
            new = ReshapeOp.make(op.x.owner.x, target=op.target, location=op.location)
            rewriter.insert(new)
            rewriter.replace(op, (), list(new.results))


class IotaWithUnitAxes(RewritePattern):
    """Positions with new axes of extent 1 are made with them: a reshape would be in memory."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ReshapeOp, rewriter: PatternRewriter):
        iota, target = op.x.owner, extents_of(op.target)
        wide = [axis for axis, dim in enumerate(target) if dim != 1]
        if not isinstance(iota, IotaOp) or len(wide) != 1 or dims_of(op.x) != (target[wide[0]],):
            return
        new = IotaOp.make(
            target=op.target, axis=wide[0], element=iota.element, location=op.location
        )
        rewriter.insert(new)
        rewriter.replace(op, (), list(new.results))


class DropWholeSlice(RewritePattern):
    """A slice that takes everything, in order, is its operand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: SliceOp, rewriter: PatternRewriter):
        plain = all(s == 1 for s in ints_of(op.steps))
        if plain and op.x.type == op.y.type and not any(extents_of(op.starts)):
            rewriter.replace(op, (), [op.x])


class DropEmptyPad(RewritePattern):
    """Padding by nothing is its operand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: PadOp, rewriter: PatternRewriter):
        if not any((*extents_of(op.low), *extents_of(op.high))):
            rewriter.replace(op, (), [op.x])


class DropSameBroadcast(RewritePattern):
    """A broadcast to the operand's extents is the operand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: BroadcastToOp, rewriter: PatternRewriter):
        if op.x.type == op.y.type:
            rewriter.replace(op, (), [op.x])


class DropSingleConcat(RewritePattern):
    """A concatenation of one value is that value."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConcatOp, rewriter: PatternRewriter):
        if len(op.operands) == 1:
            rewriter.replace(op, (), [op.operands[0]])


class SliceOfOneIndex(RewritePattern):
    """A gather by one index that is known is a slice: where it is in front, a view."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: GatherOp, rewriter: PatternRewriter):
        index, dims = contents_of(op.indices), list(dims_of(op.x))
        axis = normal_axes([op.axis.value.data], len(dims))[0]
        extent = dims[axis]
        if index is None or len(index) != 1 or not isinstance(index[0], int):
            return
        if not isinstance(extent, int) or not -extent <= index[0] < extent:
            return
        starts = [0] * len(dims)
        starts[axis] = index[0] % extent
        dims[axis] = 1
        part = SliceOp.make(
            op.x,
            starts=dims_attribute(starts),
            sizes=dims_attribute(dims),
            steps=[1] * len(dims),
            location=op.location,
        )
        target = dims_attribute(dims_of(op.results[0]))
        shaped = ReshapeOp.make(part.results[0], target=target, location=op.location)
        rewriter.insert([part, shaped])
        rewriter.replace(op, (), list(shaped.results))


CANONICAL: tuple[type[RewritePattern], ...] = (
    DropCastToSameType,
    UnitAxesAsReshape,
    ComposeReshapes,
    IotaWithUnitAxes,
    DropWholeSlice,
    DropEmptyPad,
    DropSameBroadcast,
    DropSingleConcat,
    SliceOfOneIndex,
)
"""Patterns of the `canonicalize` pass, in the order in which they are tried."""
