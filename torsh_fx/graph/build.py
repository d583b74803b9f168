"""Building the ops that nodes mean, from names of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import DictionaryAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from torsh_dialect.attributes import TRUE, integer, text
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dtypes import f32, i1
from torsh_dialect.errors import InvalidArgumentError, ShapeError, UnboundParameterError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.call import CallOp
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import CondOp, LoopOp, YieldOp, yielded
from torsh_dialect.plain import options_attribute
from torsh_dialect.types import is_typed, tensor, untyped
from torsh_dialect.vocabulary import LITERAL, NAME, Vocabulary, call_of
from torsh_fx.graph.names import Names, literal_number
from torsh_fx.graph.node import (
    AnyNode,
    CallNode,
    ConditionalNode,
    GetAttrNode,
    LoopNode,
    MergeNode,
)


@dataclass
class NodeBuilder:
    """Builds nodes into a function.

    Attributes:
        names: The function's names.
        vocabulary: What operations mean.
        weights: Types of the weights that exist, by name.
    """

    names: Names
    vocabulary: Vocabulary
    weights: Mapping[str, Attribute]

    def value(self, name: str, at: Operation | None, old: Operation | None = None) -> SSAValue:
        """The value called `name`, or a constant if it is a literal.

        Args:
            name: The name.
            at: The op before which it is used; None for the end.
            old: An op that is being replaced: its operands keep their names.

        Raises:
            InvalidArgumentError: Nothing is called so, or not at that place.
        """
        for operand in old.operands if old is not None else ():
            if self.names.value(operand) == name:
                return operand
        found = self.names.find(name, at)
        if found is not None:
            return found
        number = literal_number(name)
        if number is None:
            raise InvalidArgumentError(
                f"nothing is called {name!r}; arguments are inputs, earlier nodes, or literals "
                "such as 0.5 and zero"
            )
        return self.literal(name, number)

    def literal(self, name: str, number: float | bool) -> SSAValue:
        """A constant at the function's start that a graph writes as `name`."""
        for op in self.names.block.ops:
            if getattr(op.attributes.get(LITERAL), "data", None) == name:
                return op.results[0]
        first = self.names.block.first_op
        element = i1 if isinstance(number, bool) else f32
        value = BlockBuilder(self.names.block, first).constant(np.asarray(number), element)
        assert isinstance(value.owner, ConstantOp)
        value.owner.attributes[LITERAL] = text(name)
        return value

    def build(
        self, node: AnyNode, name: str, before: Operation | None, old: Operation | None = None
    ) -> Operation:
        """Insert the op of a node, before an op or at the end of the function.

        Raises:
            InvalidArgumentError: A name means nothing, or an option is wrong.
        """
        place = before if before is not None else self._end()
        block = place.parent if place is not None else self.names.block
        assert block is not None
        op = self._make(node, name, place, old, block)
        if old is not None:
            op.location = old.location
        self.names.keep(op, name)
        return op

    def _end(self) -> Operation | None:
        last = self.names.block.last_op
        return last if last is not None and last.name == "func.return" else None

    def _make(
        self,
        node: AnyNode,
        name: str,
        at: Operation | None,
        old: Operation | None,
        block: Block,
    ) -> Operation:
        def values(names: Sequence[str]) -> list[SSAValue]:
            return [self.value(one, at, old) for one in names]

        match node:
            case CallNode(operation, arguments):
                op = self._call(operation, values(arguments), node, name)
            case MergeNode(inputs):
                op = self._call("merge", self._merged(values(inputs)), CallNode("merge"), name)
            case GetAttrNode(target):
                op = self._weight(target)
            case ConditionalNode(condition, then, otherwise):
                branches = (values(then), values(otherwise))
                op = conditional(self.value(condition, at, old), *branches)
            case LoopNode(condition, body, loop_vars):
                op = self._loop(
                    name, self.value(condition, at, old), values(body), values(loop_vars)
                )
            case _:
                raise InvalidArgumentError(f"{node} is no node with a value of its own")
        return BlockBuilder(block, at).put(op)

    def _call(
        self, operation: str, arguments: list[SSAValue], node: CallNode, name: str
    ) -> Operation:
        known = self.vocabulary.find(operation)
        options = node.options
        properties: dict[str, Attribute] = {"operation": text(operation)}
        if (entries := options_attribute(options)) is not None:
            properties["options"] = entries
        if known is None:
            properties["foreign"] = TRUE
        elif known.parameters and (bound := self._bound(name, known.parameters)):
            properties["parameters"] = DictionaryAttr(bound)
        count = known.results(options) if known is not None else 1
        call = CallOp.create(
            operands=arguments, properties=properties, result_types=[untyped] * count
        )
        call.attributes[NAME] = text(name)
        return self._direct(call) if known is not None else call

    def _bound(self, name: str, parameters: Sequence[str]) -> dict[str, Attribute]:
        full = {one: f"{name}.{one}" for one in parameters}
        return {one: self.weights[key] for one, key in full.items() if key in self.weights}

    def _direct(self, call: CallOp) -> Operation:
        """The one op that a call means, if that is so and its types are known; else the call."""
        if not all(map(is_typed, call.operands)):
            return call
        scratch = Block()
        try:
            values = self.vocabulary.build(call_of(call, BlockBuilder(scratch)))
        except (ShapeError, UnboundParameterError):
            _discard(scratch)
            return call
        except InvalidArgumentError:
            _discard(scratch)
            call.drop_all_references()
            raise
        only = scratch.first_op
        if only is None or only is not scratch.last_op or list(only.results) != values:
            types = [value.type for value in values]
            _discard(scratch)
            return _typed(call, types)
        only.detach()
        call.drop_all_references()
        return only

    def _weight(self, target: str) -> Operation:
        if target not in self.weights:
            known = ", ".join(list(self.weights)[:8]) or "none"
            raise InvalidArgumentError(
                f"there is no weight {target!r}; bound are: {known}. "
                "Give weights to the tracer, or with graph.bind"
            )
        return WeightOp.make(id=target, type=self.weights[target])

    def _merged(self, values: list[SSAValue]) -> list[SSAValue]:
        """The results of a conditional in place of what its branches yield."""
        for op in self.names.block.walk():
            if isinstance(op, CondOp):
                for result, *pair in zip(
                    op.results, yielded(op.then), yielded(op.otherwise), strict=True
                ):
                    if len(values) == 2 and set(values) == set(pair):
                        return [result]
        return values

    # -- loops

    def _loop(
        self, name: str, condition: SSAValue, body: Sequence[SSAValue], carried: Sequence[SSAValue]
    ) -> Operation:
        if len(body) != len(carried):
            raise InvalidArgumentError(
                f"{name}: the loop has {len(carried)} variables, but {len(body)} next values"
            )
        block = Block(arg_types=[tensor(_i64(), ()), *(v.type for v in carried)])
        variables = dict(zip(carried, block.args[1:], strict=True))
        nexts = self._copied(body, variables, block, f"{name}.")
        again = dict(zip(carried, nexts, strict=True))
        (going,) = self._copied([condition], again, block, f"{name}.next.")
        block.add_op(YieldOp.create(operands=[going, *nexts]))
        trips = self.literal_trips()
        op = LoopOp.create(
            operands=[trips, condition, *carried],
            properties={"scans": integer(0)},
            result_types=[untyped] * len(carried),
            regions=[Region(block)],
        )
        if all(map(is_typed, op.operands)) and all(map(is_typed, (going, *nexts))):
            try:
                return _typed(op, list(op.implied_types()))
            except ShapeError:
                return op
        return op

    def literal_trips(self) -> SSAValue:
        """The constant -1: no limit on iterations."""
        first = self.names.block.first_op
        value = BlockBuilder(self.names.block, first).constant(np.asarray(-1), _i64())
        assert isinstance(value.owner, ConstantOp)
        value.owner.attributes[LITERAL] = text("unlimited")
        return value

    def _copied(
        self,
        values: Sequence[SSAValue],
        mapping: Mapping[SSAValue, SSAValue],
        block: Block,
        prefix: str,
    ) -> list[SSAValue]:
        """Copies of the ops between `mapping`'s keys and `values`, at the end of `block`."""
        known = dict(mapping)
        for op in self._between(values, mapping):
            copy = op.clone(known)
            block.add_op(copy)
            self.names.keep(copy, f"{prefix}{self.names.of(op)}")
        return [known.get(value, value) for value in values]

    def _between(
        self, values: Sequence[SSAValue], start: Mapping[SSAValue, SSAValue]
    ) -> list[Operation]:
        needed = _producers(values, start)
        depends: set[SSAValue] = set(start)
        found: list[Operation] = []
        for op in (o for o in self.names.block.ops if o in needed):
            if depends & _reads(op):
                found.append(op)
                depends.update(op.results)
        return found


def _i64() -> Attribute:
    from torsh_dialect.dtypes import i64

    return i64


def _reads(op: Operation) -> set[SSAValue]:
    """Values from outside that an op reads, in its regions too."""
    return {operand for inner in op.walk() for operand in inner.operands}


def _producers(values: Sequence[SSAValue], stop: Mapping[SSAValue, SSAValue]) -> set[Operation]:
    work, seen = list(values), set[Operation]()
    while work:
        value = work.pop()
        if value in stop or not isinstance(value.owner, Operation) or value.owner in seen:
            continue
        seen.add(value.owner)
        work.extend(_reads(value.owner))
    return seen


def _typed(op: TensorOp, types: Sequence[Attribute]) -> TensorOp:
    """`op`, which nothing uses yet, with known result types."""
    from torsh_dialect.passes.infer_types import set_type

    for index, type in enumerate(types):
        set_type(op.results[index], type)
    return op


def _discard(block: Block) -> None:
    for op in reversed(list(block.ops)):
        op.detach()
        op.erase()


def conditional(
    condition: SSAValue, then: Sequence[SSAValue], otherwise: Sequence[SSAValue]
) -> CondOp:
    """A conditional that yields values from outside; `sink` moves what only a branch needs.

    Raises:
        InvalidArgumentError: The branches have different numbers of values.
    """
    if len(then) != len(otherwise):
        raise InvalidArgumentError(
            f"the branches of a conditional have {len(then)} and {len(otherwise)} values"
        )
    regions: list[Region] = []
    for values in (then, otherwise):
        block = Block()
        block.add_op(YieldOp.create(operands=list(values)))
        regions.append(Region(block))
    op = CondOp.create(operands=[condition], result_types=[untyped] * len(then), regions=regions)
    if all(map(is_typed, (condition, *then, *otherwise))):
        try:
            _typed(op, list(op.implied_types()))
        except ShapeError:
            return op
    return op


def sink(block: Block) -> None:
    """Move ops that only one branch of one conditional needs into that branch."""
    for op in reversed(list(block.ops)):
        if isinstance(op, WeightOp | ConstantOp) or not op.results:
            continue
        regions = {_branch(use.operation, block) for result in op.results for use in result.uses}
        if len(regions) == 1 and (region := regions.pop()) is not None:
            op.detach()
            inner = region.block
            first = inner.first_op
            assert first is not None
            inner.insert_op_before(op, first)
            sink(inner)


def _branch(user: Operation, block: Block) -> Region | None:
    """The region of a conditional in `block` that `user` is in; None if there is none."""
    current: Operation | None = user
    while current is not None and current.parent is not block:
        parent = current.parent_op()
        if isinstance(parent, CondOp) and parent.parent is block:
            return current.parent.parent if current.parent is not None else None
        current = parent
    return None
