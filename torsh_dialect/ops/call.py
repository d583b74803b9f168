"""`torsh.call`: an operation by its name, on values whose types may not be known yet."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from xdsl.dialects.builtin import BoolAttr, DictionaryAttr, StringAttr
from xdsl.ir import Attribute, Operation
from xdsl.irdl import opt_prop_def, prop_def, traits_def, var_operand_def, var_result_def
from xdsl.traits import EffectInstance, MemoryEffect, MemoryEffectKind

from torsh_dialect.attributes import Array
from torsh_dialect.declare import op
from torsh_dialect.errors import TorshError
from torsh_dialect.kinds import TensorOp


class CallEffect(MemoryEffect):
    """A call of an operation that nobody knows must stay; others have no effect."""

    @classmethod
    def get_effects(cls, op: Operation) -> AbstractSet[EffectInstance]:
        """Counts as a write where `foreign` is set."""
        foreign = "foreign" in op.properties
        return frozenset({EffectInstance(MemoryEffectKind.WRITE)}) if foreign else frozenset()


@op
class CallOp(TensorOp):
    """What the vocabulary means by `operation`, applied to `arguments` with `options`.

    Stands for one or more ops until `expand-calls`; `infer-types` finds its result types.
    `parameters` holds the types of weights that the call has beside its arguments, by their name
    in the operation; the weight `bias` of the node `node_0` is called `node_0.bias`.

    C1: an operation that the vocabulary does not know has `foreign` set.

    %r = torsh.call %x {operation = "relu"} : (tensor<*x!torsh.any>) -> tensor<*x!torsh.any>
    """

    name = "torsh.call"
    arguments = var_operand_def()
    operation = prop_def(StringAttr)
    options = opt_prop_def(DictionaryAttr)
    parameters = opt_prop_def(DictionaryAttr)
    foreign = opt_prop_def(BoolAttr)
    values = var_result_def()
    traits = traits_def(CallEffect())

    def infer(self) -> Sequence[Attribute]:
        return [result.type for result in self.results]

    def evaluate(self, *args: Array) -> Sequence[Array]:
        raise TorshError(f"expand-calls gives {self.operation.data} a meaning; run it first")
