"""`FxGraph`: a module of the torsh dialect, seen and edited as a graph of nodes.

The module is the only truth: nodes are read from its ops each time, and every edit changes ops.
What a pass, a pattern or a user does to the module shows in the graph, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation
from xdsl.utils.exceptions import VerifyException

from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError, VerificationError
from torsh_dialect.operations import VOCABULARY
from torsh_dialect.ops.call import CallOp
from torsh_dialect.passes.infer_types import Misfit, infer_types, set_type
from torsh_dialect.symbols import set_symbols, symbols_in
from torsh_dialect.vocabulary import Meaning, Vocabulary
from torsh_dialect.vocabulary import Operation as Meant
from torsh_dialect.weights import WeightStore
from torsh_fx.graph.bind import bind_parameters, unbound_parameters
from torsh_fx.graph.build import NodeBuilder, sink
from torsh_fx.graph.names import Names, node_ops
from torsh_fx.graph.node import AnyNode, InputNode, OutputNode
from torsh_fx.graph.types import parse_type
from torsh_fx.graph.view import Anchor, GraphView

if TYPE_CHECKING:
    from torsh_fx.compiled import CompiledModule


class NodeHandle:
    """A node that can be replaced in place: what `node_weight_mut` gives."""

    def __init__(self, graph: FxGraph, index: int):
        self._graph, self._index = graph, index

    @property
    def node(self) -> AnyNode:
        """The node as it is now."""
        return self._graph.node(self._index)

    def replace(self, node: AnyNode) -> None:
        """Put another node in its place; who used its value uses the new one."""
        self._graph.set_node(self._index, node)


class GraphHandle:
    """The graph under a graph, as petgraph gives it: nodes by index, edges."""

    def __init__(self, graph: FxGraph):
        self._graph = graph

    def node_weight(self, index: int) -> AnyNode | None:
        """The node of that index; None if there is none."""
        return self._graph.node(index) if index in dict(self._graph.nodes()) else None

    def node_weight_mut(self, index: int) -> NodeHandle | None:
        """A handle that can replace the node of that index; None if there is none."""
        return None if self.node_weight(index) is None else NodeHandle(self._graph, index)

    def node_count(self) -> int:
        """The number of nodes."""
        return sum(1 for _ in self._graph.nodes())

    def edge_count(self) -> int:
        """The number of edges."""
        return len(self._graph.edges())


class FxGraph(GraphView):
    """A graph of nodes over a module.

    Args:
        module: Holds `@main`.
        weights: Arrays of the weights that the module names.
        vocabulary: What operations mean.
        names: The names of `@main`, where they were made already.
        indices: Indices that nodes have already.

    Attributes:
        module: The module; changing it changes the graph.
        weights: Arrays of weights and bound parameters.
    """

    def __init__(
        self,
        module: ModuleOp,
        weights: Mapping[str, Array] | None = None,
        *,
        vocabulary: Vocabulary = VOCABULARY,
        names: Names | None = None,
        indices: Mapping[Anchor, int] | None = None,
    ):
        super().__init__(module, names, indices)
        self.weights = (
            weights if isinstance(weights, WeightStore) else WeightStore(dict(weights or {}))
        )
        self._vocabulary = vocabulary
        if self.weights:
            bind_parameters(module, self.weights, all_used=False)

    @property
    def graph(self) -> GraphHandle:
        """The graph with the methods of petgraph that the guide uses."""
        return GraphHandle(self)

    # -- editing

    def set_node(self, index: int, node: AnyNode) -> None:
        """Replace a node; its index, its name and the uses of its value stay.

        Raises:
            InvalidArgumentError: A name in `node` means nothing there, or the kinds do not fit.
        """
        anchor = self.anchor(index)
        if isinstance(anchor, tuple):
            self._set_border(anchor, node)
            return
        name = self.names.of(anchor)
        new = self._builder().build(node, name, anchor, anchor)
        if len(new.results) != len(anchor.results):
            new.detach()
            new.erase()
            raise InvalidArgumentError(
                f"{name} has {len(anchor.results)} values, {node} has {len(new.results)}"
            )
        self._take_place(anchor, new)

    def insert_before(self, index: int, node: AnyNode, name: str | None = None) -> int:
        """Insert a node before another one; returns its index."""
        anchor = self.anchor(index)
        before = anchor if isinstance(anchor, Operation) else self._border(anchor)
        return self._insert(node, name, before)

    def insert_after(self, index: int, node: AnyNode, name: str | None = None) -> int:
        """Insert a node behind another one; returns its index."""
        anchor = self.anchor(index)
        before = anchor.next_op if isinstance(anchor, Operation) else self._border(anchor)
        return self._insert(node, name, before)

    def erase_node(self, index: int) -> None:
        """Remove a node that nothing uses.

        Raises:
            InvalidArgumentError: Something uses it, or it is an input or the only output.
        """
        anchor = self.anchor(index)
        if isinstance(anchor, tuple):
            self._erase_border(anchor)
            return
        users = [use.operation for result in anchor.results for use in result.uses]
        if users:
            raise InvalidArgumentError(
                f"{self.name_of(index)} is used by {', '.join(map(self.shown, users))}; "
                "replace its uses first"
            )
        anchor.detach()
        anchor.erase()

    def replace_all_uses_with(self, index: int, name: str) -> None:
        """Let everything that uses the value of a node use the value called `name`.

        Raises:
            InvalidArgumentError: Nothing is called so, or it is computed later than a use.
        """
        anchor = self.anchor(index)
        old = self.names.block.args[anchor[1]] if isinstance(anchor, tuple) else anchor.results[0]
        for use in list(old.uses):
            new = self.names.find(name, use.operation)
            if new is None:
                raise InvalidArgumentError(f"nothing is called {name!r}")
            if not (isinstance(new.owner, Operation) and use.operation is new.owner):
                use.operation.operands[use.index] = new
        self.infer_types()

    def set_input_type(self, name: str, type: str | Attribute) -> None:
        """Give an input another type, e.g. `f32[batch, 784]`; the other types follow.

        Raises:
            InvalidArgumentError: No input is called so.
        """
        if name not in self.inputs:
            raise InvalidArgumentError(f"no input is called {name!r}; there are {self.inputs}")
        bounds = symbols_in(self.function)
        kind = parse_type(type, bounds)
        set_type(self.names.block.args[self.inputs.index(name)], kind)
        if bounds:
            set_symbols(self.function, bounds)
        self.infer_types()

    def bind(self, weights: Mapping[str, Array]) -> None:
        """Give parameters their weights, e.g. `{"node_0.weight": array}`.

        Raises:
            InvalidArgumentError: No node has a parameter of that name.
        """
        bind_parameters(self.module, weights)
        self.weights.arrays.update(weights)
        self.infer_types()

    def unbound(self) -> list[str]:
        """Names of parameters that have no weight."""
        return unbound_parameters(self.module, self._vocabulary, self.weights)

    def register_operation(self, name: str, meaning: Meant | Meaning) -> None:
        """Give an operation of this graph a meaning.

        Args:
            name: The operation.
            meaning: Builds the ops of a call: gets a `torsh_dialect.vocabulary.Call`, returns
                the value or values.
        """
        self._vocabulary = self._vocabulary.with_operation(name, meaning)
        for op in self.module.walk():
            if isinstance(op, CallOp) and op.operation.data == name:
                op.properties.pop("foreign", None)
        self.infer_types()

    @property
    def vocabulary(self) -> Vocabulary:
        """What the graph's operations mean."""
        return self._vocabulary

    # -- checking and compiling

    def infer_types(self) -> list[Misfit]:
        """Find the types of values; returns the ops that do not fit."""
        return infer_types(self.module, self._vocabulary)

    def verify(self) -> None:
        """Check the module.

        Raises:
            VerificationError: It breaks a rule of the dialect.
        """
        try:
            self.module.verify()
        except VerifyException as error:
            raise VerificationError(str(error)) from None

    def compile(
        self, example_inputs: Sequence[Any] | None = None, **options: Any
    ) -> CompiledModule:
        """`torsh_fx.compile(self, example_inputs, ...)`."""
        from torsh_fx.compiler import compile

        return compile(self, example_inputs, **options)

    def clone(self) -> FxGraph:
        """A graph of its own module; the arrays of weights are shared."""
        names = [(op, self.names.of(op)) for op in node_ops(self.names.block)]
        copied: dict[Operation, Operation] = {}
        module = self.module.clone(None, None)
        for old, new in zip(self.module.walk(), module.walk(), strict=True):
            copied[old] = new
        graph = FxGraph(module, dict(self.weights), vocabulary=self._vocabulary)
        for old, name in names:
            graph.names.remember(copied[old], name)
        return graph

    # -- forms on disk

    def to_json(self) -> str:
        """The graph as JSON, without the arrays of weights; see `torsh_fx.graph.serialize`."""
        from torsh_fx.graph.serialize import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str, weights: Mapping[str, Array] | None = None) -> FxGraph:
        """The graph that `to_json` wrote.

        Raises:
            ImportModelError: The text is damaged, or of a newer format.
        """
        from torsh_fx.graph.serialize import from_json

        return from_json(text, weights)

    def to_binary(self) -> bytes:
        """The graph and its weights as bytes; see `torsh_fx.graph.serialize`."""
        from torsh_fx.graph.serialize import to_binary

        return to_binary(self)

    @classmethod
    def from_binary(cls, data: bytes) -> FxGraph:
        """The graph that `to_binary` wrote.

        Raises:
            ImportModelError: The bytes are damaged, or of a newer format.
        """
        from torsh_fx.graph.serialize import from_binary

        return from_binary(data)

    # -- edits in detail

    def _builder(self) -> NodeBuilder:
        types = {name: self.weights.type_of(name) for name in self.weights}
        return NodeBuilder(self.names, self._vocabulary, types)

    def _insert(self, node: AnyNode, name: str | None, before: Operation | None) -> int:
        if name is not None and (self.names.find(name) is not None):
            raise InvalidArgumentError(f"the name {name!r} is taken")
        op = self._builder().build(node, name or self._free(), before)
        sink(self.names.block)
        return dict((anchor, index) for index, anchor in self.anchored())[op]

    def _free(self) -> str:
        taken, number = {name.partition(".")[0] for _, name in self.value_names()}, 0
        while f"node_{number}" in taken:
            number += 1
        return f"node_{number}"

    def _border(self, anchor: tuple[str, int]) -> Operation | None:
        return self.names.block.first_op if anchor[0] == "input" else self.returned()

    def _take_place(self, old: Operation, new: Operation) -> None:
        changed = [a.type != b.type for a, b in zip(old.results, new.results, strict=True)]
        for before, after in zip(old.results, new.results, strict=True):
            before.replace_all_uses_with(after)
        self.moved(old, new)
        old.detach()
        old.erase()
        if any(changed):
            self.infer_types()

    def _set_border(self, anchor: tuple[str, int], node: AnyNode) -> None:
        match anchor, node:
            case ("input", position), InputNode(name):
                names = self.names.inputs()
                if name != names[position] and self.names.find(name) is not None:
                    raise InvalidArgumentError(f"the name {name!r} is taken")
                self.names.set_inputs([*names[:position], name, *names[position + 1 :]])
            case ("output", position), OutputNode(name):
                last = self.returned()
                last.operands[position] = self._builder().value(name, last)
                self.infer_types()
            case _:
                raise InvalidArgumentError(f"an {anchor[0]} cannot become {node}")

    def _erase_border(self, anchor: tuple[str, int]) -> None:
        kind, position = anchor
        if kind == "input":
            argument = self.names.block.args[position]
            if argument.uses:
                raise InvalidArgumentError(f"the input {self.inputs[position]!r} is used")
            names = self.names.inputs()
            self.names.block.erase_arg(argument)
            self.names.set_inputs([*names[:position], *names[position + 1 :]])
        else:
            last, names = self.returned(), self.names.outputs()
            if len(last.operands) == 1:
                raise InvalidArgumentError("a graph needs an output")
            last.operands = [v for n, v in enumerate(last.operands) if n != position]
            self.names.set_outputs([*names[:position], *names[position + 1 :]])
        self._renumber(kind, position)
        self.infer_types()

    def _renumber(self, kind: str, position: int) -> None:
        moved: dict[Anchor, int] = {}
        for anchor, index in self._indices.items():
            if isinstance(anchor, tuple) and anchor[0] == kind:
                if anchor[1] == position:
                    continue
                anchor = (kind, anchor[1] - (anchor[1] > position))
            moved[anchor] = index
        self._indices = moved
