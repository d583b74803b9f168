"""Replace composite ops by what they mean.

Before:

    %y = torsh.softmax %x {axis = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>

After: the maximum, the difference, the exponential, the sum and the quotient. Ops named in
`keep` stay whole, because the target has a template for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect.attributes import Array, PropertyValue, dims_attribute, literal
from torsh_dialect.dims import assumptions
from torsh_dialect.driver import rewrite
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.kinds import Composite, Operand, TensorOp
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.ops.shape import AssumeOp

Keep = Callable[[Operation], bool]


class RewriterBuilder:
    """`kinds.Builder` that inserts before the op being rewritten."""

    def __init__(self, rewriter: PatternRewriter):
        self.rewriter = rewriter

    def __call__(
        self, cls: type[TensorOp], *operands: Operand, **properties: PropertyValue
    ) -> SSAValue:
        return self.all(cls, *operands, regions=(), **properties)[0]

    def all(
        self,
        cls: type[TensorOp],
        *operands: Operand,
        regions: Sequence[Region] = (),
        **properties: PropertyValue,
    ) -> Sequence[SSAValue]:
        op = cls.make(*operands, location=None, regions=regions, **properties)
        self.rewriter.insert(op)
        return op.results

    def constant(self, value: float | Array, element: Attribute) -> SSAValue:
        array = np.asarray(value).astype(dtype_of(element).numpy)
        return self(ConstantOp, value=literal(array))


@dataclass
class Expand(RewritePattern):
    """A composite that no template keeps gives way to its expansion."""

    keep: Keep

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: Composite, rewriter: PatternRewriter):
        if self.keep(op):
            return
        builder = RewriterBuilder(rewriter)
        state_assumptions(op, builder)
        rewriter.replace(op, (), list(op.expand(builder)))


def state_assumptions(op: Composite, builder: RewriterBuilder) -> None:
    """Write down what the op takes for granted of symbolic extents; its parts may not ask for it.

    An expansion takes an extent from one operand and reads another by it.
    """
    with assumptions() as pairs:
        op.infer()
    for left, right in dict.fromkeys(pairs):
        builder(
            AssumeOp,
            op.operands[0],
            left=dims_attribute([left]),
            relation="eq",
            right=dims_attribute([right]),
        )


@dataclass(frozen=True)
class ExpandCompositesPass(ModulePass):
    """See the module docstring; `keep` lists op names, e.g. `torsh.softmax`."""

    name = "expand-composites"
    keep: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        kept = frozenset(self.keep)
        rewrite(op, Expand(lambda o: o.name in kept))
