"""Reading a module as a graph of nodes: what `FxGraph` shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue

from torsh_dialect.errors import InvalidArgumentError, TorshError, VerificationError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.operations import is_global_average, spelled
from torsh_dialect.ops.call import CallOp
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.control import CondOp, LoopOp, yielded
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.plain import Value, plain, plain_options
from torsh_fx.graph.names import Names, node_ops
from torsh_fx.graph.node import (
    AnyNode,
    CallNode,
    ConditionalNode,
    GetAttrNode,
    InputNode,
    LoopNode,
    MergeNode,
    OutputNode,
)

Anchor: TypeAlias = "Operation | tuple[str, int]"
"""What a node stands for: an op, or the position of an input or output."""

HIDDEN = ("operandSegmentSizes", "resultSegmentSizes")


class GraphView:
    """The nodes of `@main`.

    Args:
        module: Holds `@main`.
        names: The names of `@main`, where they were made already.
        indices: Indices that nodes have already.

    Attributes:
        module: The module; changing it changes the graph.
        names: Names of its values.
    """

    def __init__(
        self,
        module: ModuleOp,
        names: Names | None = None,
        indices: Mapping[Anchor, int] | None = None,
    ):
        self.module = module
        self.names = names or Names(_main(module))
        self._indices: dict[Anchor, int] = dict(indices or {})
        self._next = max(self._indices.values(), default=-1) + 1

    @property
    def function(self) -> FuncOp:
        """`@main`."""
        return self.names.function

    # -- reading

    def nodes(self) -> Iterator[tuple[int, AnyNode]]:
        """Indices and nodes in topological order; indices stay as long as their nodes.

        Nodes in the branches of a conditional and in the body of a loop come before its node.
        The list is made at once, so the graph may be edited while it is iterated.
        """
        return iter([(index, self._node(anchor)) for index, anchor in self.anchored()])

    def node(self, index: int) -> AnyNode:
        """The node of that index.

        Raises:
            InvalidArgumentError: There is none.
        """
        return self._node(self.anchor(index))

    def name_of(self, index: int) -> str:
        """The name of a node's (first) value."""
        return self._name(self.anchor(index))

    def _name(self, anchor: Anchor) -> str:
        if isinstance(anchor, Operation):
            return self.names.of(anchor)
        kind, position = anchor
        if kind == "input":
            return self.names.inputs()[position]
        return self.names.value(self.returned().operands[position])

    def index_of(self, name: str) -> int:
        """The index of the node or input called `name`.

        Raises:
            InvalidArgumentError: Nothing is called so.
        """
        for index, anchor in self.anchored():
            is_output = isinstance(anchor, tuple) and anchor[0] == "output"
            if not is_output and self._name(anchor) == name:
                return index
        raise InvalidArgumentError(f"no node is called {name!r}")

    def op(self, index: int) -> Operation:
        """The op that a node stands for.

        Raises:
            InvalidArgumentError: It is an input or output, or there is none.
        """
        anchor = self.anchor(index)
        if isinstance(anchor, tuple):
            raise InvalidArgumentError(f"node {index} is an {anchor[0]} and has no op")
        return anchor

    def edges(self) -> list[tuple[int, int]]:
        """Pairs (from, to) of indices: a value of `from` is used by `to`, in order."""
        owners = {name: index for index, name in self.value_names()}
        found = {
            (owners[name], index): None
            for index, anchor in self.anchored()
            for name in self._reads(anchor)
            if name in owners
        }
        return list(found)

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, in order."""
        return self.names.inputs()

    @property
    def outputs(self) -> list[str]:
        """Names of the values that the graph returns, in order."""
        return [self.names.value(v) for v in self.returned().operands]

    def type_of(self, name: str) -> Attribute:
        """The type of the value called `name`.

        Raises:
            InvalidArgumentError: Nothing is called so.
        """
        value = self.names.find(name)
        if value is None:
            raise InvalidArgumentError(f"nothing is called {name!r}")
        return value.type

    # -- printing

    def __str__(self) -> str:
        """One line for each node: index, name, what it is, type."""
        lines: list[str] = []
        for index, anchor in self.anchored():
            name = self._name(anchor)
            if isinstance(anchor, Operation):
                types = ", ".join(str(result.type) for result in anchor.results)
                line = f"{name} = {_line(self._node(anchor))} : {types}"
            elif anchor[0] == "input":
                line = f"{name} = input : {self.names.block.args[anchor[1]].type}"
            else:
                line = f"output {name}"
            lines.append(f"{index:4}  {line}")
        return "\n".join(["FxGraph:", *lines])

    def __repr__(self) -> str:
        count = len(self.anchored())
        return f"<FxGraph of {count} nodes: {', '.join(self.inputs)} -> {', '.join(self.outputs)}>"

    def mlir(self) -> str:
        """The module as MLIR text."""
        return f"{self.module!s}\n"

    # -- the view

    def anchored(self) -> list[tuple[int, Anchor]]:
        """All nodes with their indices, in order; new ones get an index, gone ones lose it."""
        block = self.names.block
        anchors: list[Anchor] = [("input", n) for n in range(len(block.args))]
        anchors.extend(node_ops(block))
        anchors.extend(("output", n) for n in range(len(self.returned().operands)))
        kept = {anchor: self._indices[anchor] for anchor in anchors if anchor in self._indices}
        for anchor in anchors:
            if anchor not in kept:
                kept[anchor] = self._next
                self._next += 1
        self._indices = kept
        return [(kept[anchor], anchor) for anchor in anchors]

    def anchor(self, index: int) -> Anchor:
        for mine, anchor in self.anchored():
            if mine == index:
                return anchor
        raise InvalidArgumentError(f"there is no node {index}; it may have been erased")

    def returned(self) -> Operation:
        last = self.names.block.last_op
        if last is None:
            raise VerificationError("@main has no func.return")
        return last

    def _node(self, anchor: Anchor) -> AnyNode:
        if isinstance(anchor, tuple):
            kind, position = anchor
            if kind == "input":
                return InputNode(self.names.inputs()[position])
            return OutputNode(self.names.value(self.returned().operands[position]))
        return self._op_node(anchor)

    def _op_node(self, op: Operation) -> AnyNode:
        def listed(values: Sequence[SSAValue]) -> list[str]:
            return [self.names.value(value) for value in values]

        match op:
            case WeightOp():
                return GetAttrNode(op.id.data)
            case CondOp():
                branches = (listed(yielded(op.then)), listed(yielded(op.otherwise)))
                return ConditionalNode(self.names.value(op.condition), *branches)
            case LoopOp():
                values = yielded(op.body)[1 : 1 + len(op.carried)]
                condition = self.names.value(op.condition)
                return LoopNode(condition, listed(values), listed(op.carried))
            case CallOp() if op.operation.data == "merge":
                return MergeNode(listed(op.operands))
            case CallOp():
                return CallNode(op.operation.data, listed(op.operands), plain_options(op.options))
            case FusedOp():
                inside = [_operation(o) for o in op.body.block.ops if o.results]
                return CallNode("fused", listed(op.operands), {"operations": inside})
            case TensorOp():
                return CallNode(spelled(op), listed(op.operands), _options(op))
            case _:
                return CallNode(op.name, listed(op.operands), {})

    def value_names(self) -> Iterator[tuple[int, str]]:
        for index, anchor in self.anchored():
            if isinstance(anchor, Operation):
                yield from ((index, self.names.value(result)) for result in anchor.results)
            elif anchor[0] == "input":
                yield index, self.names.inputs()[anchor[1]]

    def _reads(self, anchor: Anchor) -> list[str]:
        node = self._node(anchor)
        match node:
            case OutputNode(name):
                return [name]
            case CallNode(_, arguments):
                return list(arguments)
            case MergeNode(inputs):
                return list(inputs)
            case ConditionalNode(condition, then, otherwise):
                return [condition, *then, *otherwise]
            case LoopNode(condition, body, loop_vars):
                return [condition, *body, *loop_vars]
            case _:
                return []

    def shown(self, op: Operation) -> str:
        if op.name in ("func.return", "torsh.yield"):
            return "an output" if op.name == "func.return" else "a branch or loop"
        return self.names.of(op)

    def moved(self, old: Operation, new: Operation) -> None:
        """Let the node of `old` be the node of `new` from now on: its index stays."""
        if old in self._indices:
            self._indices[new] = self._indices.pop(old)


def _main(module: ModuleOp) -> FuncOp:
    for op in module.ops:
        if isinstance(op, FuncOp) and op.sym_name.data == "main":
            return op
    raise TorshError("the module has no function @main")


def _operation(op: Operation) -> str:
    if isinstance(op, CallOp):
        return op.operation.data
    return spelled(op) if isinstance(op, TensorOp) else op.name


def _options(op: TensorOp) -> dict[str, Value]:
    if is_global_average(op):
        return {}  # its axes are in its name
    return {name: plain(value) for name, value in op.properties.items() if name not in HIDDEN}


def _line(node: AnyNode) -> str:
    match node:
        case CallNode(operation, arguments):
            options = [f"{name}={value}" for name, value in node.options.items()]
            return f"{operation}({', '.join([*arguments, *options])})"
        case ConditionalNode(condition, then, otherwise):
            return f"cond({condition}, {list(then)}, {list(otherwise)})"
        case LoopNode(condition, body, loop_vars):
            return f"loop({condition}, {list(body)}, {list(loop_vars)})"
        case MergeNode(inputs):
            return f"merge({', '.join(inputs)})"
        case GetAttrNode(target):
            return f"get_attr({target})"
        case _:
            return repr(node)
