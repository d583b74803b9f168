"""`ModuleTracer`: builds a graph node by node, as in the guide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Operation

from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.operations import VOCABULARY
from torsh_dialect.ops.control import LoopOp
from torsh_dialect.plain import Value
from torsh_dialect.symbols import set_symbols
from torsh_dialect.types import untyped
from torsh_dialect.vocabulary import NAME, Vocabulary
from torsh_dialect.weights import WeightStore
from torsh_fx.graph.build import NodeBuilder, sink
from torsh_fx.graph.graph import FxGraph
from torsh_fx.graph.names import Names, literal_number, node_ops
from torsh_fx.graph.node import (
    AnyNode,
    CallNode,
    ConditionalNode,
    GetAttrNode,
    LoopNode,
    MergeNode,
)
from torsh_fx.graph.types import Bounds, parse_type


class ModuleTracer:
    """Builds a graph: inputs, calls and outputs by name.

    Calls, conditionals, loops, merges and weights are called `node_0`, `node_1`, ... in the order
    in which they are added; inputs and outputs are not counted. Arguments are names of inputs and
    earlier nodes (`node_2.1` is the second value of `node_2`), or literals (`0.5`, `zero`).

        >>> tracer = ModuleTracer()
        >>> tracer.add_input("x")
        0
        >>> tracer.add_call("relu", ["x"])
        1
        >>> tracer.add_output("node_0")
        2
        >>> graph = tracer.finalize()

    Args:
        vocabulary: What operations mean.
    """

    def __init__(self, vocabulary: Vocabulary = VOCABULARY):
        self._function = FuncOp("main", ([], []))
        self._names = Names(self._function)
        self._builder = NodeBuilder(self._names, vocabulary, {})
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._count = 0
        self._handles = 0
        self._anchors: dict[Operation | tuple[str, int], int] = {}
        self._bounds: dict[str, Bounds] = {}
        self._store = WeightStore()
        self._taken: set[str] = set()
        self._done = False

    def add_input(self, name: str, type: str | Attribute | None = None) -> int:
        """Add an input.

        Args:
            name: Its name.
            type: E.g. `f32[batch, 784]` or an xDSL tensor type; None if it is not known yet.

        Returns:
            The node's index.

        Raises:
            InvalidArgumentError: The name is taken, or the type cannot be read.
        """
        self._claim(name)
        kind = untyped if type is None else parse_type(type, self._bounds)
        block = self._names.block
        block.insert_arg(kind, len(block.args))
        self._inputs.append(name)
        self._names.set_inputs(self._inputs)
        return self._handle(("input", len(self._inputs) - 1))

    def add_call(
        self,
        operation: str,
        arguments: Sequence[str],
        *,
        attributes: Mapping[str, Value] | None = None,
        name: str | None = None,
    ) -> int:
        """Add a call of an operation.

        Args:
            operation: Its name; one that the vocabulary does not know needs
                `graph.register_operation` before the graph can be compiled.
            arguments: Names of values, or literals.
            attributes: Options of the operation.
            name: The node's name instead of `node_k`; no literal.

        Returns:
            The node's index.

        Raises:
            InvalidArgumentError: An argument is not defined, or the name is taken.
        """
        return self._add(CallNode(operation, arguments, attributes), name)

    def add_call_with_attributes(
        self, operation: str, arguments: Sequence[str], attributes: Mapping[str, Value]
    ) -> int:
        """`add_call` with attributes, as the guide writes it."""
        return self.add_call(operation, arguments, attributes=attributes)

    def add_conditional(
        self,
        condition: str,
        then: Sequence[str],
        otherwise: Sequence[str],
        *,
        name: str | None = None,
    ) -> int:
        """Add a choice between values that are named already.

        Nodes that only one branch needs move into that branch.

        Raises:
            InvalidArgumentError: A value is not defined, or the branches have different numbers.
        """
        return self._add(ConditionalNode(condition, then, otherwise), name)

    def add_loop(
        self,
        condition: str,
        body: Sequence[str],
        loop_vars: Sequence[str],
        *,
        name: str | None = None,
    ) -> int:
        """Add a loop: while `condition` holds, `loop_vars` become `body`.

        `condition` and `body` are values that are computed from `loop_vars`; both are computed
        anew in each iteration. The node's values are the last values of `loop_vars`.

        Raises:
            InvalidArgumentError: A value is not defined, or there are not as many next values as
                variables.
        """
        return self._add(LoopNode(condition, body, loop_vars), name)

    def add_merge(self, inputs: Sequence[str], *, name: str | None = None) -> int:
        """Add the value in which the branches of a conditional come together."""
        return self._add(MergeNode(inputs), name)

    def add_get_attr(self, target: str, *, name: str | None = None) -> int:
        """Add a weight; `bind` gives it its array before that.

        Raises:
            InvalidArgumentError: No weight of that name is bound.
        """
        return self._add(GetAttrNode(target), name)

    def bind(self, weights: Mapping[str, Array]) -> None:
        """Give weights by name; see `FxGraph.bind`."""
        self._store.arrays.update(weights)
        self._builder.weights = {name: self._store.type_of(name) for name in self._store}

    def add_output(self, name: str) -> int:
        """Mark the value `name` as a result; results keep their order.

        Raises:
            InvalidArgumentError: It is not defined, or a result already.
        """
        self._open()
        if name in self._outputs:
            raise InvalidArgumentError(f"{name!r} is an output already")
        if self._names.find(name) is None and literal_number(name) is None:
            raise InvalidArgumentError(f"the output {name!r} is not defined")
        self._outputs.append(name)
        return self._handle(("output", len(self._outputs) - 1))

    def finalize(self) -> FxGraph:
        """The graph.

        Raises:
            InvalidArgumentError: It has no output, or was taken already.
        """
        self._open()
        if not self._outputs:
            raise InvalidArgumentError("the graph has no output; call add_output")
        block = self._names.block
        block.add_op(ReturnOp(*(self._builder.value(name, None) for name in self._outputs)))
        self._names.set_outputs(self._outputs)
        if self._bounds:
            set_symbols(self._function, self._bounds)
        for old, new in _settle_loops(self._names):
            self._anchors[new] = self._anchors.pop(old)
        sink(block)
        self._done = True
        graph = FxGraph(
            ModuleOp([self._function]),
            self._store,
            vocabulary=self._builder.vocabulary,
            names=self._names,
            indices=self._anchors,
        )
        graph.infer_types()
        return graph

    def _add(self, node: AnyNode, name: str | None) -> int:
        self._open()
        if name is not None and literal_number(name) is not None:
            raise InvalidArgumentError(f"{name!r} is a literal and cannot name a node")
        if name is None:
            while (name := f"node_{self._count}") in self._taken:
                self._count += 1
            self._count += 1
        self._claim(name)
        try:
            op = self._builder.build(node, name, None)
        except InvalidArgumentError:
            self._taken.discard(name)
            raise
        return self._handle(op)

    def _claim(self, name: str) -> None:
        self._open()
        if not name or name in self._taken:
            raise InvalidArgumentError(f"the name {name!r} is {'taken' if name else 'empty'}")
        self._taken.add(name)

    def _handle(self, anchor: Operation | tuple[str, int]) -> int:
        self._anchors[anchor] = self._handles
        self._handles += 1
        return self._handles - 1

    def _open(self) -> None:
        if self._done:
            raise InvalidArgumentError("the graph is finalized; edit the FxGraph instead")


def _settle_loops(names: Names) -> list[tuple[Operation, Operation]]:
    """Erase what only gave loops their bodies; returns it with the ops that have its names now."""
    settled: list[tuple[Operation, Operation]] = []
    for loop in [op for op in names.block.ops if isinstance(op, LoopOp)]:
        prefix = f"{names.of(loop)}."
        inside = {names.of(op): op for op in node_ops(loop.body.block)}
        for op in reversed([o for o in names.block.ops if NAME in o.attributes]):
            copy = inside.get(prefix + names.of(op))
            if copy is not None and not any(result.uses for result in op.results):
                name = names.of(op)
                op.detach()
                op.erase()
                names.keep(copy, name)
                settled.append((op, copy))
    return settled
