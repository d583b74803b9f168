"""Fold a batch normalisation into the convolution or product before it.

Before:

    %c = torsh.conv %x, %w, %b : ...
    %y = torsh.batch_norm %c, %scale, %bias, %mean, %variance : ...

After, with s = scale / sqrt(variance + epsilon):

    %y = torsh.conv %x, (%w * s), ((%b - mean) * s + bias)

The new weights are torsh ops on weights, which `prepare` moves to compile time. This changes
values by rounding: it is the rewrite `fold-batch-norm` of the settings.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context as XdslContext
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import OpResult, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.context import Context
from torsh_dialect.driver import rewrite
from torsh_dialect.kinds import Builder
from torsh_dialect.ops.contract import LinearOp
from torsh_dialect.ops.conv import ConvOp
from torsh_dialect.ops.elementwise import AddOp, DivOp, MulOp, SubOp
from torsh_dialect.ops.maths import SqrtOp
from torsh_dialect.ops.movement import ReshapeOp
from torsh_dialect.ops.norm import BatchNormOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.passes.roles import is_weight_only
from torsh_dialect.types import dims_of, element_type, rank_of


def scale_and_shift(b: Builder, op: BatchNormOp) -> tuple[SSAValue, SSAValue]:
    """The factor and the summand that a batch normalisation applies to each channel."""
    epsilon = b.constant(op.epsilon.value.data, element_type(op.variance))
    factor = b(DivOp, op.scale, b(SqrtOp, b(AddOp, op.variance, epsilon)))
    return factor, b(SubOp, op.bias, b(MulOp, op.mean, factor))


@dataclass
class FoldIntoProducer(RewritePattern):
    """A batch normalisation whose operand is used by it alone disappears in that operand's op."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: BatchNormOp, rewriter: PatternRewriter):
        if not isinstance(op.x, OpResult) or not op.x.has_one_use():
            return
        producer = op.x.op
        if not isinstance(producer, ConvOp | LinearOp):
            return
        statistics = (op.scale, op.bias, op.mean, op.variance)
        if not all(map(is_weight_only, (producer.w, *statistics))):
            return
        if any(element_type(v) != element_type(producer.x) for v in statistics):
            return
        if isinstance(producer, ConvOp) and producer.channels_last():
            return
        b = RewriterBuilder(rewriter)
        factor, shift = scale_and_shift(b, op)
        rows = [dims_of(factor)[0], *[1] * (rank_of(producer.w) - 1)]
        weight = b(MulOp, producer.w, b(ReshapeOp, factor, target=dims_attribute(rows)))
        if producer.bias is not None:
            shift = b(AddOp, b(MulOp, producer.bias, factor), shift)
        kept = {k: v for k, v in producer.properties.items() if k != "operandSegmentSizes"}
        folded = type(producer).make(
            producer.x, weight, shift, location=producer.location, regions=(), **kept
        )
        rewriter.insert(folded)
        rewriter.replace(op, (), list(folded.results))


@dataclass(frozen=True)
class FoldBatchNormPass(ModulePass):
    """See the module docstring."""

    name = "fold-batch-norm"

    def apply(self, ctx: XdslContext, op: ModuleOp) -> None:
        assert isinstance(ctx, Context)
        if ctx.settings.allows("fold-batch-norm"):
            rewrite(op, FoldIntoProducer())
