"""Compute products, norms and attention of half precision in f32 and round once.

Before:

    %y = torsh.linear %x, %w, %b : (tensor<2x4xbf16>, tensor<3x4xbf16>, tensor<3xbf16>) -> ...

After:

    %xf = torsh.cast %x {to = f32} : ...
    %wf = torsh.cast %w {to = f32} : ...      (of a weight: `prepare` moves it to compile time)
    %yf = torsh.linear %xf, %wf, %bf : ...
    %y = torsh.cast %yf {to = bf16} : ...

This is what these ops mean in half precision; it only makes the templates' f32 visible. Prepared
weights take 4 bytes an element.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect import dtypes
from torsh_dialect.driver import rewrite
from torsh_dialect.kinds import Builder, rebuilt
from torsh_dialect.ops.attention import AttentionOp
from torsh_dialect.ops.contract import LinearOp, MatMulOp
from torsh_dialect.ops.conv import ConvOp, ConvTransposeOp
from torsh_dialect.ops.norm import LayerNormOp, RmsNormOp
from torsh_dialect.ops.select import CastOp
from torsh_dialect.ops.softmax import LogSoftmaxOp, SoftmaxOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.types import element_type

HALVES = (dtypes.f16, dtypes.bf16)

Wide = (
    LinearOp | MatMulOp | ConvOp | ConvTransposeOp
    | AttentionOp | SoftmaxOp | LogSoftmaxOp | LayerNormOp | RmsNormOp
)  # fmt: skip
"""Ops that have templates in f32 and are computed in f32 for half precision too."""


class Widen(RewritePattern):
    """An op on halves becomes the same op on f32 between casts."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: Wide, rewriter: PatternRewriter):
        half = element_type(op.results[0])
        if half not in HALVES or "accumulate" in op.properties:
            return
        b = RewriterBuilder(rewriter)
        wide = rebuilt(op, [_wide(b, value) for value in op.operands])
        rewriter.insert(wide)
        rewriter.replace(op, (), [b(CastOp, wide.results[0], to=half)])


def _wide(b: Builder, value: SSAValue) -> SSAValue:
    return b(CastOp, value, to=dtypes.f32) if element_type(value) in HALVES else value


@dataclass(frozen=True)
class WidenHalvesPass(ModulePass):
    """See the module docstring."""

    name = "widen-halves"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, Widen())
