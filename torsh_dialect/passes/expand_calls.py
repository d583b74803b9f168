"""Replace named calls by the ops that the vocabulary gives for them.

Before:

    %0 = torsh.call %x {operation = "softmax"} : (tensor<2x3xf32>) -> tensor<2x3xf32>

After:

    %0 = torsh.softmax %x {axis = -1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>

Conditions become scalars. Calls whose types are not known are refused: `infer-types` first.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.errors import TorshError, UnsupportedError, VerificationError
from torsh_dialect.operations import VOCABULARY
from torsh_dialect.ops.call import CallOp
from torsh_dialect.ops.control import CondOp, LoopOp, YieldOp
from torsh_dialect.ops.movement import ReshapeOp
from torsh_dialect.types import is_typed, rank_of
from torsh_dialect.vocabulary import Vocabulary, call_of


def expand_calls(module: ModuleOp, vocabulary: Vocabulary = VOCABULARY) -> None:
    """Replace every `torsh.call`, in order.

    Raises:
        UnsupportedError: Operations that nobody knows; names all of them.
        UnboundParameterError: A parameter has no weight.
        VerificationError: A value has no type.
    """
    calls = [op for op in module.walk() if isinstance(op, CallOp)]
    if unknown := sorted({c.operation.data for c in calls} - _known(calls, vocabulary)):
        raise UnsupportedError(
            f"nobody knows the operations {', '.join(unknown)}; "
            "register them with graph.register_operation"
        )
    for op in calls:
        _expand(op, vocabulary)
    for op in module.walk():
        if isinstance(op, CondOp | LoopOp):
            _scalar_conditions(op)


def _known(calls: list[CallOp], vocabulary: Vocabulary) -> set[str]:
    return {c.operation.data for c in calls if vocabulary.knows(c.operation.data)}


def _expand(op: CallOp, vocabulary: Vocabulary) -> None:
    if not all(map(is_typed, op.operands)):
        raise VerificationError(f"{op.operation.data}: an operand has no type; run infer-types")
    block = op.parent
    assert block is not None
    values = vocabulary.build(call_of(op, BlockBuilder(block, op, op.location)))
    _replace(op, values)


def _replace(op: Operation, values: list[SSAValue]) -> None:
    if len(values) != len(op.results):
        raise TorshError(f"{op.name} has {len(op.results)} results, {len(values)} replace them")
    for old, new in zip(op.results, values, strict=True):
        old.replace_all_uses_with(new)
    op.detach()
    op.erase()


def _scalar_conditions(op: CondOp | LoopOp) -> None:
    block = op.parent
    assert block is not None
    position = list(op.operands).index(op.condition)
    op.operands[position] = _scalar(block, op, op.condition)
    if isinstance(op, LoopOp):
        last = op.body.block.last_op
        assert isinstance(last, YieldOp)
        last.operands[0] = _scalar(op.body.block, last, last.operands[0])


def _scalar(block: Block, before: Operation, value: SSAValue) -> SSAValue:
    if not rank_of(value):
        return value
    return BlockBuilder(block, before, before.location)(ReshapeOp, value, target=dims_attribute([]))


@dataclass(frozen=True)
class ExpandCallsPass(ModulePass):
    """See the module docstring."""

    name = "expand-calls"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        expand_calls(op)
