"""Splitting a graph into parts, and asking which nodes the compiler knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from torsh_dialect.attributes import names_attribute, text
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.operations import VOCABULARY
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.symbols import set_symbols, symbols_in
from torsh_dialect.vocabulary import LITERAL, NAME, Vocabulary
from torsh_fx.graph.graph import FxGraph
from torsh_fx.graph.node import AnyNode, CallNode

Partition = Callable[[int, AnyNode], int]
"""The number of the part that a node (given by index) belongs to."""


class OperatorSupport:
    """Which nodes have a meaning.

    Args:
        vocabulary: What operations mean.
    """

    def __init__(self, vocabulary: Vocabulary = VOCABULARY):
        self._vocabulary = vocabulary

    def is_node_supported(self, node: AnyNode) -> bool:
        """Whether the compiler knows the node; all but calls of unknown operations are known."""
        if not isinstance(node, CallNode) or node.operation == "fused":
            return True
        return self._vocabulary.knows(node.operation)


@dataclass(frozen=True)
class Part:
    """One part of a split graph.

    Attributes:
        number: What the partition called it.
        graph: Its nodes as a graph of its own; inputs and outputs have the names of the values.
    """

    number: int
    graph: FxGraph


@dataclass(frozen=True)
class SplitGraph:
    """A graph as parts that run one after the other.

    Attributes:
        parts: In the order in which they run.
        inputs: Names of the whole graph's inputs.
        outputs: Names of the values that the whole graph returns.
    """

    parts: tuple[Part, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, functions: Sequence[Callable[..., Any]], *inputs: Any) -> tuple[Any, ...]:
        """The whole graph's outputs, with a function for each part (compiled, or another one).

        Raises:
            InvalidArgumentError: There are not as many functions or inputs as there must be.
        """
        if len(functions) != len(self.parts) or len(inputs) != len(self.inputs):
            raise InvalidArgumentError(
                f"{len(self.parts)} functions and {len(self.inputs)} inputs are needed, got "
                f"{len(functions)} and {len(inputs)}"
            )
        values = dict(zip(self.inputs, inputs, strict=True))
        for part, function in zip(self.parts, functions, strict=True):
            found = function(*(values[name] for name in part.graph.inputs))
            several = cast("Sequence[Any]", found) if isinstance(found, tuple | list) else (found,)
            values.update(zip(part.graph.outputs, several, strict=True))
        return tuple(values[name] for name in self.outputs)


def split_graph(graph: FxGraph, partition: Partition) -> SplitGraph:
    """Split a graph; conditionals and loops stay whole, weights go to the parts that use them.

    Args:
        graph: Stays as it is.
        partition: Gives the number of a node's part.

    Raises:
        InvalidArgumentError: A part would need a value that a later part computes.
    """
    order: list[int] = []
    members: dict[int, list[Operation]] = {}
    indices = {anchor: index for index, anchor in graph.anchored()}
    nodes = dict(graph.nodes())
    for op in graph.names.block.ops:
        if isinstance(op, WeightOp | ReturnOp) or LITERAL in op.attributes:
            continue
        number = partition(indices[op], nodes[indices[op]])
        if number not in members:
            order.append(number)
        members.setdefault(number, []).append(op)
    _check_order(graph, order, members)
    parts = tuple(Part(number, _part(graph, members[number])) for number in order)
    return SplitGraph(parts, tuple(graph.inputs), tuple(graph.outputs))


def _reads(ops: Sequence[Operation]) -> list[SSAValue]:
    """Values from outside that some ops use, in order."""
    inside = {inner for op in ops for inner in op.walk()}
    blocks = {b for op in inside for region in op.regions for b in region.blocks}
    found = [v for op in ops for inner in op.walk() for v in inner.operands]
    return [v for v in dict.fromkeys(found) if v.owner not in inside and v.owner not in blocks]


def _check_order(graph: FxGraph, order: list[int], members: dict[int, list[Operation]]) -> None:
    home = {op: number for number, ops in members.items() for op in ops}
    for number in order:
        for value in _reads(members[number]):
            other = home.get(value.owner) if isinstance(value.owner, Operation) else None
            if other is not None and order.index(other) > order.index(number):
                raise InvalidArgumentError(
                    f"part {number} needs {graph.names.value(value)!r}, which the later part "
                    f"{other} computes; give these nodes another part"
                )


def _part(graph: FxGraph, ops: list[Operation]) -> FxGraph:
    inside = set(ops)
    reads = _reads(ops)
    stored = [v for v in reads if isinstance(v.owner, WeightOp | ConstantOp)]
    inputs = [v for v in reads if v not in stored]
    results = [
        result
        for op in ops
        for result in op.results
        if any(_outside(use.operation, inside) for use in result.uses)
    ]
    function = FuncOp("main", ([v.type for v in inputs], []))
    block = function.body.block
    mapping: dict[SSAValue, SSAValue] = dict(zip(inputs, block.args, strict=True))
    for op in [*(v.owner for v in stored), *ops]:
        assert isinstance(op, Operation)
        copy = op.clone(mapping)
        if LITERAL not in op.attributes:
            copy.attributes[NAME] = text(graph.names.of(op))
        block.add_op(copy)
    block.add_op(ReturnOp(*(mapping[result] for result in results)))
    function.function_type = FunctionType.from_lists(
        [v.type for v in inputs], [v.type for v in results]
    )
    function.attributes["arg_names"] = names_attribute([graph.names.value(v) for v in inputs])
    function.attributes["result_names"] = names_attribute([graph.names.value(v) for v in results])
    if bounds := symbols_in(graph.function):
        set_symbols(function, bounds)
    module = ModuleOp([function])
    return FxGraph(module, _weights(graph, module), vocabulary=graph.vocabulary)


def _weights(graph: FxGraph, module: ModuleOp) -> dict[str, Any]:
    """The weights that a part needs: those it names, and parameters of its nodes."""
    named = {op.id.data for op in module.walk() if isinstance(op, WeightOp)}
    nodes = {getattr(op.attributes.get(NAME), "data", "") for op in module.walk()}
    return {
        name: array
        for name, array in graph.weights.items()
        if name in named or name.rpartition(".")[0] in nodes
    }


def _outside(user: Operation, inside: set[Operation]) -> bool:
    current: Operation | None = user
    while current is not None:
        if current in inside:
            return False
        current = current.parent_op()
    return True
