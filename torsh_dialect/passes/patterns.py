"""Rewrite patterns that simplify without changing a value."""

from __future__ import annotations

from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect.ops.select import CastOp


class DropCastToSameType(RewritePattern):
    """`cast` to the type that the operand has is the operand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: CastOp, rewriter: PatternRewriter):
        if op.x.type == op.y.type:
            rewriter.replace(op, (), [op.x])


CANONICAL: tuple[type[RewritePattern], ...] = (DropCastToSameType,)
"""Patterns of the `canonicalize` pass, in the order in which they are tried."""
