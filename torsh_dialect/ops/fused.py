"""`torsh.fused`: ops that become one kernel."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import opt_prop_def, region_def, traits_def, var_operand_def, var_result_def
from xdsl.traits import IsolatedFromAbove, Pure

from torsh_dialect.attributes import Array
from torsh_dialect.declare import op
from torsh_dialect.kinds import Control, TensorOp
from torsh_dialect.ops.control import YieldOp, yielded


@op
class FusedOp(Control):
    """A pure region that is compiled to one kernel; its results are what the region yields.

    C1: the block's arguments have the operands' types. C2: at most one op of the region is a
    template's root; `schedule` names the template and its parameters, for reading.

        %r = torsh.fused %x {
        ^bb0(%a: tensor<3xf32>):
          %b = torsh.relu %a : (tensor<3xf32>) -> tensor<3xf32>
          torsh.yield %b : (tensor<3xf32>) -> ()
        } : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.fused"
    inputs = var_operand_def()
    schedule = opt_prop_def(StringAttr)
    body = region_def("single_block")
    values = var_result_def()
    traits = traits_def(Pure(), IsolatedFromAbove())

    def infer(self) -> Sequence[Attribute]:
        return [value.type for value in yielded(self.body)]

    def evaluate(self, *args: Array) -> Sequence[Array]:
        known: dict[SSAValue, Array] = dict(zip(self.body.block.args, args, strict=True))
        for inner in self.body.block.ops:
            operands = [known[v] for v in inner.operands]
            if isinstance(inner, YieldOp):
                return operands
            assert isinstance(inner, TensorOp)
            known.update(zip(inner.results, inner.evaluate(*operands), strict=True))
        return ()
