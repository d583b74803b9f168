"""Walks a torch.fx graph and builds the ops that its nodes mean."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard, cast

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import GraphModule, Node
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, LocationAttr, NameLoc, StringAttr
from xdsl.ir import Block, SSAValue

from torsh_dialect.attributes import Array
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.context import Context
from torsh_dialect.dims import Bounds, Dim, provably_different, substitute, symbols_of
from torsh_dialect.encodings import Layout
from torsh_dialect.errors import Finding, TorshError
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.types import dims_of, element_type, tensor, with_storage
from torsh_dialect.weights import digest_of
from torsh_fx.importers.model import MALFORMED, Fate, Report
from torsh_fx.importers.random import Stream, stream_of
from torsh_fx.importers.torch_custom import custom_converter, operator_of, untraceable
from torsh_fx.importers.torch_findings import REMEDY, REPAIR, stub_of
from torsh_fx.importers.torch_ops import ASSERTIONS, CONVERTERS, SYMBOLIC, NodeBuilder
from torsh_fx.importers.torch_ops.base import Converter
from torsh_fx.importers.torch_ops.symbolic import entered
from torsh_fx.importers.torch_symbols import dim_of
from torsh_fx.importers.torch_types import device_name, element_of, row_of_torch


class Refused:
    """Stands for the value of a node that was refused."""


REFUSED = Refused()
SMALL = 64
"""Constants of at most this many elements stand in the module, larger ones are weights."""


def location_of(node: Node, path: str) -> tuple[LocationAttr, str]:
    """Where a node comes from: as an attribute, and in words (module path, file:line)."""
    stack: Any = node.meta.get("nn_module_stack") or {}
    module = next((str(entry[0]) for entry in reversed(list(stack.values()))), "")
    name = ".".join(
        part for part in (module.removeprefix("L['self'].").lstrip("."), node.name) if part
    )
    words = f"{path}{name}"
    file, line = _user_frame(node.meta.get("stack_trace") or "")
    words = f"{words} ({file}:{line})" if file else words
    place = FileLineColLoc(StringAttr(file), IntAttr(line), IntAttr(0))
    return NameLoc(StringAttr(f"{path}{name}"), place), words


def _user_frame(stack: str) -> tuple[str, int]:
    """File and line of the innermost frame of a stack trace that is not torch's own."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', stack)
    own = os.path.dirname(torch.__file__)
    users = [frame for frame in frames if not frame[0].startswith(own)] or frames
    return (users[-1][0], int(users[-1][1])) if users else ("", 0)


@dataclass
class Shared:
    """What all graphs of one import share.

    Attributes:
        ctx: Where weights go.
        report: What became of each node.
        bounds: Bounds of symbols.
        entry: The block of `@main`, where weights stand.
        weights: Weight values by name in the store.
        numbers: Torch's symbols that are values here and no extents.
        stream: What random ops draw from.
        names_devices: Whether types say where values are: some are on a GPU.
    """

    ctx: Context
    report: Report
    bounds: dict[str, Bounds]
    entry: Block
    weights: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    arrays: dict[tuple[Any, ...], Array] = field(default_factory=dict[tuple[Any, ...], Array])
    aliases: dict[str, Dim] = field(default_factory=dict[str, Dim])
    known: set[str] = field(default_factory=set[str])
    numbers: set[str] = field(default_factory=set[str])
    names_devices: bool = False
    fresh: int = 0
    stream: Stream = field(init=False)

    def __post_init__(self) -> None:
        self.stream = stream_of(self.ctx.settings.random, self.entry)

    def device(self, fake: torch.Tensor) -> str | None:
        """The device in the type of a value; None where any will do.

        A program without GPUs names none. Scalars on the CPU go with tensors anywhere, as in torch.
        """
        name = device_name(fake.device) if self.names_devices else None
        return None if name == "cpu" and fake.ndim == 0 else name

    def dim(self, size: Any) -> Dim:
        """A size of torch as an extent, in symbols that the module defines."""
        extent = dim_of(size)
        return substitute(extent, self.aliases) if self.aliases else extent

    def learn(self, said: Any, extents: Sequence[Dim]) -> None:
        """Remember what torch's fresh symbols for the sizes of a result are in our terms."""
        for size, extent in zip(said, extents, strict=True):
            self.known |= symbols_of(extent)
            name = str(size)
            if name.isidentifier() and name not in self.known and name != str(extent):
                self.aliases[name] = extent

    def weight(self, name: str, array: Array, device: str | None = None) -> SSAValue:
        """The value of a weight; the same array is stored once."""
        store = self.ctx.weights
        known = next((n for n, a in store.arrays.items() if a is array), None)
        name = known or store.add(name, array)
        if name not in self.weights:
            first = BlockBuilder(self.entry, before=self.entry.first_op)
            type = with_storage(store.type_of(name), None, device)
            self.weights[name] = first(WeightOp, id=name, type=type, digest=digest_of(array))
        return self.weights[name]

    def symbol(self, prefix: str = "n") -> str:
        """A name for an extent that torch has no symbol for."""
        self.fresh += 1
        return f"{prefix}_{self.fresh}"


@dataclass
class GraphImporter:
    """Imports one graph into a block.

    Attributes:
        module: The graph and its attributes.
        builder: Where ops go.
        shared: What all graphs share.
        path: Prefix of node names of nested graphs.
        exact: Whether results must have torch's extents. Not so for a graph that torch wrote
            for single elements and that is imported for whole tensors.
    """

    module: GraphModule
    builder: BlockBuilder
    shared: Shared
    path: str = ""
    exact: bool = True
    values: dict[Node, Any] = field(default_factory=dict[Node, Any])

    def run(self, inputs: Sequence[Any]) -> Any:
        """Build all nodes; `inputs` are the values of placeholders, in order.

        Returns:
            The argument of the output node, with nodes replaced by their values.
        """
        live = _live(self.module, self.shared.stream.ordered)
        given = iter(inputs)
        for node in self.module.graph.nodes:
            name = self.path + node.name
            if node.op == "placeholder":
                self.values[node] = self._number(node, next(given))
                self.shared.report.fates[name] = Fate.MAPPED if node in live else Fate.DEAD
            elif node.op == "output":
                self.shared.report.fates[name] = Fate.MAPPED
                return self.value(node.args[0])
            elif node not in live:
                self.shared.report.fates[name] = Fate.DEAD
            else:
                self.values[node] = self._node(node)
        raise TorshError("the graph has no output node")

    def value(self, argument: Any) -> Any:
        """A node's argument with nodes replaced by their values."""
        items: Any = argument
        if isinstance(argument, Node):
            return self.values[argument]
        if isinstance(argument, tuple | list):
            return [self.value(item) for item in items]
        if isinstance(argument, slice):
            return slice(*map(self.value, (items.start, items.stop, items.step)))
        if isinstance(argument, Mapping):
            return {key: self.value(item) for key, item in items.items()}
        return self.shared.dim(argument) if isinstance(argument, torch.SymInt) else argument

    def _node(self, node: Node) -> Any:
        fates, name = self.shared.report.fates, self.path + node.name
        if node.op == "get_attr":
            fates[name] = Fate.FOLDED
            return self._attribute(node)
        if node.op != "call_function":
            return self._refuse(node, f"`{node.op}` nodes are not in an exported program")
        if any(isinstance(self.values[n], Refused) for n in node.all_input_nodes):
            fates[name] = Fate.REFUSED
            if not self._is_known(node):
                return self._refuse(node, "there is no converter for this op")
            reason = "" if spelling(node.target) in CONVERTERS else untraceable(node)
            return self._refuse(node, reason) if reason else REFUSED
        if node.target is operator.getitem:
            fates[name] = Fate.FOLDED
            return self._number(node, self.value(node.args[0])[node.args[1]])
        size = node.meta.get("val")
        if isinstance(size, int | torch.SymInt) and not isinstance(size, bool):
            known = self._extent(node, size)
            if known is not None:
                fates[name] = Fate.FOLDED
                return known
        if not self._is_known(node):
            return self._refuse(node, "there is no converter for this op")
        return self._convert(node)

    def _number(self, node: Node, value: Any) -> Any:
        """What a node stands for: where torch has a number and here is a tensor, it is bound."""
        if not is_value(value) or not isinstance(node.meta.get("val"), torch.SymInt):
            return value
        return entered(NodeBuilder(self.builder, node, self), value)

    def _extent(self, node: Node, size: int | torch.SymInt) -> Dim | None:
        if str(node.target) in SYMBOLIC:
            return None
        try:
            extent = self.shared.dim(size)
        except TorshError:
            return None
        return None if symbols_of(extent) & self.shared.numbers else extent

    def _is_known(self, node: Node) -> bool:
        return self._converter(node) is not None or node.target is operator.getitem

    def _converter(self, node: Node) -> Converter | None:
        return CONVERTERS.get(spelling(node.target)) or custom_converter(node)

    def _convert(self, node: Node) -> Any:
        location, words = location_of(node, self.path)
        self.builder.location = location
        c = NodeBuilder(self.builder, node, self)
        try:
            args, kwargs = self.value(node.args), self.value(node.kwargs)
            convert = self._converter(node)
            assert convert is not None
            result = convert(c, *args, **kwargs)
            if self.exact:
                self._check(node, result)
        except (TorshError, *MALFORMED) as error:
            expected = isinstance(error, TorshError)
            said = error.message if expected else f"its converter fails ({type(error).__name__})"
            return self._refuse(node, said, words, error)
        self.shared.report.fates[self.path + node.name] = Fate.MAPPED
        return result

    def _check(self, node: Node, result: Any) -> None:
        """The result has the element types and extents that torch says it has."""
        expected: Any = node.meta.get("val")
        pairs: list[tuple[Any, Any]] = [(expected, result)]
        if isinstance(expected, tuple | list):
            pairs = list(zip(cast(Any, expected), result, strict=False))
        for fake, value in pairs:
            if not isinstance(fake, torch.Tensor) or not is_value(value):
                continue
            if len(fake.shape) == len(dims_of(value)):
                self.shared.learn(fake.shape, dims_of(value))
            dims = tuple(self.shared.dim(size) for size in fake.shape)
            wrong = element_type(value) != element_of(fake.dtype) or len(dims) != len(
                dims_of(value)
            )
            if wrong or any(map(provably_different, dims, dims_of(value))):
                raise TorshError(
                    f"the converter gives {value.type}, torch says {fake.dtype} {list(fake.shape)}"
                )

    def _refuse(
        self, node: Node, reason: str, words: str | None = None, cause: Exception | None = None
    ) -> Refused:
        where = words or location_of(node, self.path)[1]
        name = self.path + node.name
        target = operator_of(node) or node.target
        known = spelling(target) in CONVERTERS or node.target is operator.getitem
        remedy, stub = (REPAIR, "") if known else (REMEDY, stub_of(target, spelling(target)))
        finding = Finding(spelling(target), name, reason, where, remedy, stub)
        self.shared.report.refuse(finding, cause)
        return REFUSED

    def _attribute(self, node: Node) -> Any:
        value: Any = self.module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if isinstance(value, torch.Tensor):
            return self.constant(f"{self.path}{node.target}", value)
        return value

    def constant(self, name: str, value: torch.Tensor) -> SSAValue:
        """A tensor of the model: in the module if it is small, else a weight."""
        from torsh_fx.importers.torch_types import to_numpy

        array = to_numpy(value)
        if array.size <= SMALL:
            return BlockBuilder(self.shared.entry, before=self.shared.entry.first_op).constant(
                array, row_of_torch(value.dtype).element
            )
        return self.shared.weight(name, self.array(value))

    def array(self, value: torch.Tensor) -> Array:
        """The array of a tensor; one object for tensors that share storage and geometry."""
        from torsh_fx.importers.torch_types import to_numpy

        key = (value.data_ptr(), value.dtype, tuple(value.shape), tuple(value.stride()))
        if value.numel() == 0 or value.data_ptr() == 0:
            key = (id(value),)
        if key not in self.shared.arrays:
            self.shared.arrays[key] = to_numpy(value)
        return self.shared.arrays[key]

    def nested(
        self,
        module: GraphModule,
        builder: BlockBuilder,
        inputs: Sequence[Any],
        *,
        exact: bool = True,
    ) -> Any:
        """Import a graph that a node of this one calls, into another block."""
        path = f"{self.path}{self.shared.symbol('graph')}/"
        inner = GraphImporter(module, builder, self.shared, path, exact and self.exact)
        return inner.run(inputs)


def is_value(value: Any) -> TypeGuard[SSAValue]:
    """Whether a converter's result is a tensor of the module."""
    return isinstance(value, SSAValue)


def spelling(target: Any) -> str:
    """The name of a call target: `aten.add.Tensor`, `cond`, `add`."""
    if isinstance(target, OpOverload):
        return str(cast(Any, target))
    if isinstance(target, HigherOrderOperator):
        return str(cast(Any, target).name())
    module = getattr(target, "__module__", "")
    name = getattr(target, "__name__", str(target))
    return f"math.{name}" if module == "math" or target in vars(math).values() else name


def _live(module: GraphModule, ordered: bool) -> set[Node]:
    """Nodes that the output needs, and checks.

    With `ordered`, those that draw random numbers are: nodes behind them draw what follows.
    """
    live: set[Node] = set()
    nodes = module.graph.nodes
    work = [n for n in nodes if n.op == "output" or _asserts(n) or (ordered and is_random(n))]
    while work:
        node = work.pop()
        if node not in live:
            live.add(node)
            work.extend(node.all_input_nodes)
    return live


def _asserts(node: Node) -> bool:
    return node.op == "call_function" and spelling(node.target).startswith(ASSERTIONS)


def is_random(node: Node) -> bool:
    """Whether torch draws random numbers for a node, or for the graphs that it calls.

    Not so for dropout that is switched off.
    """
    target: Any = node.target
    if isinstance(target, HigherOrderOperator):
        return any(map(draws, graphs_of(node)))
    if not isinstance(target, OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    formal: Any = cast(Any, target)._schema.arguments
    given: dict[str, Any] = {argument.name: argument.default_value for argument in formal}
    given |= dict(zip(given, node.args, strict=False))
    given |= node.kwargs
    training = all(given.get(name, True) is not False for name in ("train", "training"))
    return training and all(given.get(name, 1) != 0 for name in ("dropout", "dropout_p"))


def graphs_of(node: Node) -> list[GraphModule]:
    """The graphs among a node's arguments."""
    owner = node.graph.owning_module
    names = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
    found = [operator.attrgetter(name)(owner) for name in names]
    return [graph for graph in found if isinstance(graph, GraphModule)]


def draws(graph: GraphModule) -> bool:
    """Whether torch draws random numbers in a graph, or in those in it."""
    return any(is_random(node) for node in graph.graph.nodes)


def type_of_fake(fake: torch.Tensor, shared: Shared, layout: Layout | None = None) -> Any:
    """The tensor type of a fake tensor, on its device."""
    dims = tuple(shared.dim(size) for size in fake.shape)
    return tensor(element_of(fake.dtype), dims, layout, shared.device(fake))
