"""Use gelu for every relu: the example of a pass in the guide. It changes what a model computes.

Before:

    %y = torsh.relu %x : (tensor<2x3xf32>) -> tensor<2x3xf32>

After:

    %y = torsh.gelu %x {approximate = "none"} : (tensor<2x3xf32>) -> tensor<2x3xf32>
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect.attributes import text
from torsh_dialect.driver import rewrite
from torsh_dialect.ops.activation import GeluOp, ReluOp
from torsh_dialect.ops.call import CallOp


class ReluToGelu(RewritePattern):
    """`relu` is `gelu` in its exact form."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ReluOp, rewriter: PatternRewriter):
        gelu = GeluOp.make(op.x, approximate="none")
        gelu.attributes.update(op.attributes)
        rewriter.replace(op, gelu)


class CalledReluToGelu(RewritePattern):
    """Likewise for a call by name."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: CallOp, rewriter: PatternRewriter):
        if op.operation.data == "relu":
            op.properties["operation"] = text("gelu")
            rewriter.notify_op_modified(op)


@dataclass(frozen=True)
class ReluToGeluPass(ModulePass):
    """See the module docstring."""

    name = "relu-to-gelu"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, ReluToGelu(), CalledReluToGelu())
