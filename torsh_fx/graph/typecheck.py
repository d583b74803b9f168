"""`TypeChecker`: everything in a graph that has no type, or whose types do not fit."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import Operation

from torsh_dialect.errors import ShapeError, UnboundParameterError
from torsh_dialect.passes.infer_types import Misfit
from torsh_dialect.types import element_type, is_typed
from torsh_fx.graph.graph import FxGraph


@dataclass(frozen=True)
class IncompatibleTypes:
    """A node whose arguments do not fit its operation.

    Attributes:
        node_idx: The node's index.
        expected: The type of its first argument, or what is expected in words.
        actual: The type of the argument that differs, or what is there in words.
        message: What is wrong.
    """

    node_idx: int
    expected: str
    actual: str
    message: str


@dataclass(frozen=True)
class MissingTypeInfo:
    """A node whose type is not known: an argument or a parameter has none.

    Attributes:
        node_idx: The node's index.
        message: What is missing.
    """

    node_idx: int
    message: str


TypeFinding = IncompatibleTypes | MissingTypeInfo


class TypeError:
    """The kinds of finding, under the guide's names."""

    IncompatibleTypes = IncompatibleTypes
    MissingTypeInfo = MissingTypeInfo


class TypeChecker:
    """Checks the types of graphs."""

    def check_graph(self, graph: FxGraph) -> list[TypeFinding]:
        """Infer the graph's types; returns all findings in order of the nodes."""
        found: dict[int, TypeFinding] = {}
        misfits = {misfit.op: misfit for misfit in graph.infer_types()}
        for index, _ in graph.nodes():
            anchor = graph.anchor(index)
            if isinstance(anchor, Operation):
                if anchor in misfits:
                    found[index] = _finding(index, misfits[anchor])
            elif anchor[0] == "input" and not is_typed(graph.names.block.args[anchor[1]]):
                found[index] = MissingTypeInfo(index, f"the input {graph.name_of(index)!r}")
        return list(found.values())


def _finding(index: int, misfit: Misfit) -> TypeFinding:
    error = misfit.error
    if error is None:
        return MissingTypeInfo(index, str(misfit))
    if isinstance(error, UnboundParameterError):
        return MissingTypeInfo(index, error.message)
    expected, actual = "operands that fit", error.message
    if isinstance(error, ShapeError) and misfit.op.operands:
        first, *others = misfit.op.operands
        differing = [v for v in others if element_type(v) != element_type(first)]
        if differing:
            expected, actual = str(element_type(first)), str(element_type(differing[0]))
    return IncompatibleTypes(index, expected, actual, str(misfit))


def insert_type_conversion(graph: FxGraph, node_idx: int, to: str) -> list[int]:
    """Cast the arguments of a node to the element type `to` where they have another.

    Returns:
        Indices of the new nodes.

    Raises:
        InvalidArgumentError: `to` is no dtype.
    """
    from torsh_dialect.dtypes import dtype_named
    from torsh_fx.graph.node import CallNode

    element = dtype_named(to).element
    node = graph.node(node_idx)
    assert isinstance(node, CallNode)
    arguments, made = list(node.arguments), list[int]()
    op = graph.op(node_idx)
    for position, operand in enumerate(op.operands):
        if is_typed(operand) and element_type(operand) != element:
            cast = CallNode("cast", [arguments[position]], {"to": to})
            made.append(graph.insert_before(node_idx, cast))
            arguments[position] = graph.name_of(made[-1])
    graph.set_node(node_idx, CallNode(node.operation, arguments, node.attributes))
    return made
