"""Find the types of values that are not known yet.

Before:

    %0 = torsh.call %x {operation = "relu"} : (tensor<2x3xf32>) -> tensor<*x!torsh.any>

After:

    %0 = torsh.call %x {operation = "relu"} : (tensor<2x3xf32>) -> tensor<2x3xf32>

Every op is visited once, in order; a value whose op does not fit stays untyped. As a pass it
raises one error with everything that does not fit; `infer_types` returns the findings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from torsh_dialect.attributes import names_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import product, provably_different
from torsh_dialect.dtypes import i64
from torsh_dialect.errors import TorshError, UnboundParameterError, VerificationError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.operations import VOCABULARY
from torsh_dialect.ops.call import CallOp
from torsh_dialect.ops.control import CondOp, LoopOp, YieldOp, unknown_extents, yielded
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.types import dims_of, is_typed, tensor, tensor_type, untyped
from torsh_dialect.vocabulary import Vocabulary, call_of


@dataclass(frozen=True)
class Misfit:
    """An op whose result types cannot be found.

    Attributes:
        op: The op.
        error: What does not fit; None where an operand has no type yet.
    """

    op: Operation
    error: TorshError | None = None

    def __str__(self) -> str:
        """One line: the op and the reason."""
        name = getattr(self.op.attributes.get("torsh.name"), "data", self.op.name)
        return f"{name}: {self.error.message if self.error else 'an operand has no type'}"


def set_type(value: SSAValue, type: Attribute) -> SSAValue:
    """The value with its type changed; uses follow."""
    if value.type == type:
        return value
    hint = value.name_hint
    fresh = Rewriter.replace_value_with_new_type(value, type)
    fresh.name_hint = hint
    return fresh


@dataclass
class _Inference:
    vocabulary: Vocabulary
    found: list[Misfit] = field(default_factory=list[Misfit])
    fresh: count[int] = field(default_factory=count)

    def block(self, block: Block) -> None:
        for op in list(block.ops):
            self.op(op)

    def op(self, op: Operation) -> None:
        if not isinstance(op, TensorOp) or isinstance(op, YieldOp):
            return
        if not all(map(is_typed, op.operands)):
            self._unknown(op, None)
            return
        try:
            self._enter(op)
            types = self._types(op)
        except TorshError as error:
            self._unknown(op, error)
            return
        for index, type in enumerate(types):
            set_type(op.results[index], type)

    def _unknown(self, op: TensorOp, error: TorshError | None) -> None:
        self.found.append(Misfit(op, error))
        for index in range(len(op.results)):
            set_type(op.results[index], untyped)

    def _enter(self, op: TensorOp) -> None:
        """Find the types inside the regions of `op`."""
        if isinstance(op, LoopOp | CondOp):
            _require_one(op.condition)
        if isinstance(op, LoopOp):
            body = op.body.block
            for index, value in enumerate([tensor(i64, ()), *(v.type for v in op.carried)]):
                if not is_typed(body.args[index]):
                    set_type(body.args[index], value)
        if isinstance(op, FusedOp):
            for index, operand in enumerate(op.operands):
                set_type(op.body.block.args[index], operand.type)
        before = len(self.found)
        for region in op.regions:
            self.block(region.block)
        if len(self.found) > before:
            raise TorshError("an op inside does not fit")
        if isinstance(op, CondOp):
            self._name_extents(op)

    def _name_extents(self, op: CondOp) -> None:
        first, second = yielded(op.then), yielded(op.otherwise)
        if len(first) == len(second):
            wanted = unknown_extents(first, second)
            if wanted != len(op.symbols or ()):
                names = [f"extent_{next(self.fresh)}" for _ in range(wanted)]
                op.properties["symbols"] = names_attribute(names)

    def _types(self, op: TensorOp) -> list[Attribute]:
        if not isinstance(op, CallOp):
            return list(op.implied_types())
        scratch = Block()
        try:
            values = self.vocabulary.build(call_of(op, BlockBuilder(scratch)))
            types = [value.type for value in values]
        finally:
            for built in reversed(list(scratch.ops)):
                built.drop_all_references()
        if len(types) != len(op.results):
            raise TorshError(f"{op.operation.data} has {len(types)} results, not {len(op.results)}")
        return types


def _require_one(condition: SSAValue) -> None:
    if provably_different(product(dims_of(condition)), 1):
        raise TorshError(f"the condition is {tensor_type(condition)}, expected one bool")


def infer_types(module: ModuleOp, vocabulary: Vocabulary = VOCABULARY) -> list[Misfit]:
    """Give every value of `module` the type that its op implies; returns what does not fit."""
    inference = _Inference(vocabulary)
    for function in module.ops:
        if isinstance(function, FuncOp):
            block = function.body.block
            inference.block(block)
            last = block.last_op
            results = [] if last is None else [v.type for v in last.operands]
            function.properties["function_type"] = FunctionType.from_lists(
                [a.type for a in block.args], results
            )
    return inference.found


@dataclass(frozen=True)
class InferTypesPass(ModulePass):
    """See the module docstring."""

    name = "infer-types"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        found = infer_types(op)
        unbound = [m for m in found if isinstance(m.error, UnboundParameterError)]
        if causes := [m for m in found if m.error is not None and m not in unbound]:
            lines = "\n  ".join(map(str, causes))
            raise VerificationError(f"{len(causes)} op(s) do not fit:\n  {lines}")
