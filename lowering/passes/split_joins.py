"""Join very many tensors in steps, so that no kernel has more operands than code can go over.

Before:

    %y = torsh.concat %x0, ..., %x999 {axis = 0 : i64} : (...) -> tensor<4000xf32>

After:

    %a = torsh.concat %x0, ..., %x62 {axis = 0 : i64} : (...) -> tensor<252xf32>
    ...
    %y = torsh.concat %a, %b, ... {axis = 0 : i64} : (...) -> tensor<4000xf32>

The code of a join asks of each element which operand it is in; LLVM's time grows with the square
of their number. Equal steps are one kernel, and an element is moved once for each level of the
tree: three times for up to 262,144 operands.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect.attributes import int_of
from torsh_dialect.driver import rewrite
from torsh_dialect.ops.join import ConcatOp

MOST_OPERANDS = 64
"""Operands of one join: 64 compile in a quarter of a second, 1,000 in a minute."""


class SplitJoin(RewritePattern):
    """See the module docstring."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConcatOp, rewriter: PatternRewriter):
        items, axis = list(op.items), int_of(op.axis)
        if len(items) <= MOST_OPERANDS:
            return
        parts = -(-len(items) // MOST_OPERANDS)
        bounds = [number * len(items) // parts for number in range(parts + 1)]
        steps: list[Operation] = [
            ConcatOp.make(items[first:last], axis=axis, location=op.location)
            for first, last in pairwise(bounds)
        ]
        rewriter.insert(steps)
        joined = [step.results[0] for step in steps]
        rewriter.replace(op, ConcatOp.make(joined, axis=axis, location=op.location))


@dataclass(frozen=True)
class SplitJoinsPass(ModulePass):
    """See the module docstring."""

    name = "split-joins"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, SplitJoin())
