"""Imports a `torch.export.ExportedProgram`.

The program is made functional and decomposed with torch's own core decompositions, except for
ops that the dialect has whole (layer norms, attention, convolutions, recurrent layers, ...).
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    InputSpec,
    OutputKind,
    SymIntArgument,
    TensorArgument,
)
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.context import Context
from torsh_dialect.dims import Bounds, Expr, symbol, symbols_of
from torsh_dialect.encodings import Layout
from torsh_dialect.errors import Finding, ImportModelError, TorshError
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.shape import AssumeOp, BindOp
from torsh_dialect.ops.storage import ToLayoutOp
from torsh_dialect.symbols import set_symbols
from torsh_dialect.types import dims_of, layout_of, rank_of, tensor
from torsh_fx.importers.model import ImportedModel, Report, set_names
from torsh_fx.importers.torch_call import Leaf, TorchCall
from torsh_fx.importers.torch_decompositions import DECOMPOSITIONS
from torsh_fx.importers.torch_findings import REPAIR
from torsh_fx.importers.torch_graph import GraphImporter, Shared, is_value, spelling, type_of_fake
from torsh_fx.importers.torch_guards import Guards, guards_of, sizes_of, spellings
from torsh_fx.importers.torch_ops import CONVERTERS
from torsh_fx.importers.torch_small_sizes import admit_small
from torsh_fx.importers.torch_symbols import bounds_of_range
from torsh_fx.importers.torch_types import layout_of_tensor
from torsh_fx.interface import State
from torsh_fx.random import STATE, first_state


def import_exported_program(
    ep: ExportedProgram,
    ctx: Context,
    names: Mapping[str, str] | None = None,
    *,
    small: Sequence[int] = (),
) -> ImportedModel:
    """Import an exported program.

    Args:
        ep: The program.
        ctx: Where weights go.
        names: Better names for torch's symbols of sizes, e.g. `{"s77": "batch"}`.
        small: Which of the sizes 1 and 0, which tracing leaves out, are fine where the program
            runs at them, as torch's own module of the program does.

    Raises:
        UnsupportedError: Ops without a converter, all of them with node and place.
        ImportModelError: The program has inputs that no compiled program can have.
    """
    return ExportImporter(functional(ep), ctx, dict(names or {}), guards_of(ep), small).run()


def functional(ep: ExportedProgram) -> ExportedProgram:
    """The program without in-place ops and unknown ops, decomposed only where that is needed.

    Raises:
        ImportModelError: Torch cannot do that; its message is included.
    """
    nodes = [node for graph in _graphs(ep) for node in graph.graph.nodes]
    if all(_is_plain(node) for node in nodes):
        return ep
    divided = {node.target for node in nodes if _divides(node)}
    table: Any = torch.export.default_decompositions()
    for op in list(table):
        if spelling(op) in CONVERTERS and op not in divided:
            table.pop(op)
    table.update(DECOMPOSITIONS)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns about its own trees
        try:
            return cast(Any, ep).run_decompositions(table)
        except Exception as error:
            raise ImportModelError(f"torch cannot decompose the program: {error}") from error


def _graphs(ep: ExportedProgram) -> list[torch.fx.GraphModule]:
    return [m for m in ep.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]


NO_WRITES = ("aten.detach_.default",)
"""Ops that change no data, whatever their schemas say; constants of nested graphs end in them."""


def _is_plain(node: torch.fx.Node) -> bool:
    if node.op != "call_function" or node.target is operator.getitem:
        return True
    if _divides(node) or _casts(node):
        return False
    target: Any = node.target
    if isinstance(target, OpOverload):
        writes = cast(Any, target)._schema.is_mutable and spelling(target) not in NO_WRITES
        return spelling(target) in CONVERTERS and not writes
    if getattr(target, "__module__", "").startswith("torch._functorch"):
        return False  # levels of `vmap`, which torch's own tracing resolves
    return not isinstance(target, HigherOrderOperator) or spelling(target) in CONVERTERS


OF_REALS = (
    "aten.logsumexp.default",
    "aten.logaddexp.default",
    "aten.rms_norm.default",
    "aten.renorm.default",
)
"""Ops that the dialect has whole for real numbers alone."""


def _divides(node: torch.fx.Node) -> bool:
    """Whether torch's decomposition of an op takes its place, for what the op is given here."""
    if spelling(node.target) not in OF_REALS:
        return _projects(node)
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_complex()


def _projects(node: torch.fx.Node) -> bool:
    """Whether a node is an LSTM with `proj_size`, which the dialect does not have whole."""
    if node.target is not torch.ops.aten.lstm.input:
        return False
    hidden, cell = cast(Any, node.args[1])
    return hidden.meta["val"].shape[-1] != cell.meta["val"].shape[-1]


def _casts(node: torch.fx.Node) -> bool:
    """Whether a node runs a graph under autocast, which says nowhere what it casts."""
    return spelling(node.target) == "wrap_with_autocast" and bool(node.args[2])


def _source(output: torch.fx.Node, spec: Any) -> torch.fx.Node | None:
    """The node whose value a result is."""
    name = getattr(spec.arg, "name", None)
    return next((n for n in output.all_input_nodes if n.name == name), None)


@dataclass
class ExportImporter:
    """The state of one import.

    Attributes:
        ep: The program.
        ctx: Where weights go.
        renamed: Names for torch's symbols.
        guards: What the trace decided by sizes, as Python (see `torch_guards`).
        small: Which of the sizes 1 and 0 are fine where the program runs at them.
    """

    ep: ExportedProgram
    ctx: Context
    renamed: dict[str, str]
    guards: list[str]
    small: Sequence[int] = ()
    function: FuncOp = field(default_factory=lambda: FuncOp("main", ([], [])))
    names: list[str] = field(default_factory=list[str])
    state_names: list[str] = field(default_factory=list[str])
    leaves: list[Leaf] = field(default_factory=list[Leaf])
    known: set[str] = field(default_factory=set[str])
    states: dict[str, int] = field(default_factory=dict[str, int])

    def run(self) -> ImportedModel:
        """Import the program."""
        bounds = self._bounds()
        shared = Shared(self.ctx, Report(), bounds, self.function.body.block, known=self.known)
        shared.aliases.update({old: symbol(new) for old, new in self.renamed.items()})
        shared.names_devices = any(
            getattr(node.meta.get("val"), "is_cuda", False) for node in self.ep.graph.nodes
        )
        builder = BlockBuilder(self.function.body.block)
        graph = GraphImporter(self.ep.graph_module, builder, shared)
        inputs = self._inputs(graph)
        self._guard(graph)
        found = graph.run(inputs)
        shared.report.check(f"exported program of {len(self.ep.graph.nodes)} nodes")
        outputs, names, leaves = self._outputs(graph, builder, found)
        if shared.stream.now is not None:
            outputs.append(shared.stream.after(Compose(builder)))
            names.append(STATE)
        return self._finish(shared, outputs, names, leaves)

    def _bounds(self) -> dict[str, Bounds]:
        ranges = cast(Any, self.ep).range_constraints
        bounds = {str(s): bounds_of_range(r) for s, r in ranges.items()}
        if self.small:
            bounds = admit_small(self.ep, bounds, self.small)
        return {self.renamed.get(name, name): pair for name, pair in bounds.items()}

    # -- inputs

    def _inputs(self, graph: GraphImporter) -> list[Any]:
        """The values of placeholders: user inputs, then state, become arguments of `@main`."""
        mutated = set(self.ep.graph_signature.buffers_to_mutate.values())
        nodes = {n.name: n for n in self.ep.graph.nodes if n.op == "placeholder"}
        values: dict[str, Any] = {}
        specs = self.ep.graph_signature.input_specs
        for spec in specs:
            if spec.kind == InputKind.USER_INPUT:
                values[spec.arg.name] = self._user_input(graph, spec, nodes)
        for spec in specs:
            if spec.kind == InputKind.BUFFER and spec.target in mutated:
                values[spec.arg.name] = self._argument(
                    graph.shared, str(spec.target), nodes[spec.arg.name]
                )
                self.states[str(spec.target)] = len(self.names) + len(self.state_names)
                self.state_names.append(str(spec.target))
            elif spec.kind != InputKind.USER_INPUT:
                used = len(nodes[spec.arg.name].users) > 0
                node = nodes[spec.arg.name]
                values[spec.arg.name] = self._stored(graph, spec, node) if used else None
        return [values[spec.arg.name] for spec in specs]

    def _guard(self, graph: GraphImporter) -> None:
        """Check what the trace decided by sizes with the inputs."""
        specs = [s for s in self.ep.graph_signature.input_specs if s.kind == InputKind.USER_INPUT]
        nodes = {n.name: n for n in self.ep.graph.nodes if n.op == "placeholder"}
        spelled = spellings(self._argument_names(), cast(Any, self.ep).call_spec.in_spec)
        sizes = {
            spelling: sizes_of(nodes[spec.arg.name].meta.get("val"))
            for spec, known in zip(specs, spelled, strict=True)
            for spelling in known
        }
        guards = Guards(sizes, graph.shared.dim, graph.shared.bounds)
        tensors = [argument for argument in self.function.args if dims_of(argument)]
        for code in self.guards:
            try:
                for left, relation, right in guards.relations(code):
                    sides = {"left": dims_attribute([left]), "right": dims_attribute([right])}
                    graph.builder(AssumeOp, tensors[0], relation=relation, **sides)
            except TorshError as error:
                graph.shared.report.refuse(
                    Finding("guard", code, error.message, code, REPAIR, ""), error
                )

    def _user_input(self, graph: GraphImporter, spec: InputSpec, nodes: dict[str, Any]) -> Any:
        if isinstance(spec.arg, ConstantArgument):
            self.leaves.append(Leaf(None, spec.arg.value))
            return spec.arg.value
        node = nodes[spec.arg.name]
        self.leaves.append(Leaf(len(self.names)))
        self.names.append(spec.arg.name)
        if isinstance(spec.arg, TensorArgument):
            layout = layout_of_tensor(node.meta["val"])
            return self._argument(graph.shared, spec.arg.name, node, layout)
        if isinstance(spec.arg, SymIntArgument):
            block = self.function.body.block
            argument = block.insert_arg(tensor(dtypes.i64, ()), len(block.args))
            extent = graph.shared.dim(node.meta["val"])
            if isinstance(extent, Expr):
                self.known.add(str(extent))
                BlockBuilder(block)(BindOp, argument, names=[str(extent)])
            return extent
        raise ImportModelError(f"the input {spec.arg.name} is a {type(spec.arg).__name__}")

    def _argument(
        self, shared: Shared, name: str, node: torch.fx.Node, layout: Layout | None = None
    ) -> SSAValue:
        block = self.function.body.block
        type = type_of_fake(node.meta["val"], shared, layout)
        argument = block.insert_arg(type, len(block.args))
        for extent in dims_of(type):
            self.known |= symbols_of(extent)
        if name.isidentifier():
            argument.name_hint = name
        return argument

    def _stored(self, graph: GraphImporter, spec: InputSpec, node: torch.fx.Node) -> Any:
        """Parameters, buffers and constants."""
        name = str(spec.target)
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            device = graph.shared.device(node.meta["val"])
            return graph.shared.weight(name, graph.array(self._tensor(name)), device)
        if spec.kind == InputKind.CONSTANT_TENSOR:
            return graph.constant(name, self._tensor(name))
        if spec.kind == InputKind.TOKEN:
            return None
        raise ImportModelError(
            f"the input {name} is a {spec.kind.name}; only tensors can be compiled"
        )

    def _tensor(self, name: str) -> torch.Tensor:
        """A stored tensor of the program by its name."""
        known: Any = self.ep.state_dict if name in self.ep.state_dict else self.ep.constants
        return known[name]

    # -- outputs

    def _outputs(
        self, graph: GraphImporter, builder: BlockBuilder, found: Any
    ) -> tuple[list[SSAValue], list[str], list[Leaf]]:
        """User outputs first, then new values of state and of changed inputs."""
        from torsh_fx.importers.torch_ops.base import NodeBuilder

        node = next(n for n in self.ep.graph.nodes if n.op == "output")
        c = NodeBuilder(builder, node, graph)
        users: list[SSAValue] = []
        names: list[str] = []
        leaves: list[Leaf] = []
        changed: list[tuple[OutputKind, str, SSAValue]] = []
        for spec, value in zip(self.ep.graph_signature.output_specs, found, strict=True):
            if spec.kind == OutputKind.USER_OUTPUT:
                if is_value(value) or isinstance(value, Expr):
                    leaves.append(
                        Leaf(
                            len(users),
                            scalar=isinstance(value, Expr) or self._is_number(node, spec),
                        )
                    )
                    users.append(self._as_stored(c, node, spec, c.tensor(value)))
                    names.append(str(getattr(spec.arg, "name", f"output_{len(names)}")))
                else:
                    leaves.append(Leaf(None, value))
            elif spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION):
                changed.append((spec.kind, str(spec.target), c.tensor(value)))
            elif spec.kind != OutputKind.TOKEN:
                raise ImportModelError(
                    f"the program returns a {spec.kind.name}; export for inference"
                )
        self.changed = {(kind, name): len(users) + n for n, (kind, name, _) in enumerate(changed)}
        return (
            [*users, *(value for _, _, value in changed)],
            [*names, *(f"{name}.next" for _, name, _ in changed)],
            leaves,
        )

    def _is_number(self, node: torch.fx.Node, spec: Any) -> bool:
        found = _source(node, spec)
        return found is not None and not isinstance(found.meta.get("val"), torch.Tensor)

    def _as_stored(self, c: Any, node: torch.fx.Node, spec: Any, value: SSAValue) -> SSAValue:
        """A result in torch's layout, for callers whose arguments have one."""
        if not any(layout_of(argument) for argument in self.function.args):
            return value
        found = _source(node, spec)
        fake = None if found is None else found.meta.get("val")
        layout = layout_of_tensor(fake) if isinstance(fake, torch.Tensor) else None
        if layout is None or len(layout) != rank_of(value):
            return value
        return c.b(ToLayoutOp, value, layout=layout)

    def _finish(
        self, shared: Shared, outputs: list[SSAValue], names: list[str], leaves: list[Leaf]
    ) -> ImportedModel:
        block = self.function.body.block
        block.add_op(ReturnOp(*outputs))
        self.function.function_type = FunctionType.from_lists(
            [a.type for a in block.args], [v.type for v in outputs]
        )
        random = self._random(shared, len(names) - 1)
        inputs = [*self.names, *self.state_names]
        set_names(self.function, inputs, names)
        set_symbols(self.function, shared.bounds)
        states = tuple(
            State(
                name,
                place,
                self.changed[OutputKind.BUFFER_MUTATION, name],
                self._initial(shared, name),
            )
            for name, place in self.states.items()
        )
        written = tuple(
            (self.names.index(name), place)
            for (kind, name), place in self.changed.items()
            if kind == OutputKind.USER_INPUT_MUTATION
        )
        call: Any = self.ep.call_spec
        return ImportedModel(
            ModuleOp([self.function]),
            self.ctx.weights,
            tuple(inputs),
            tuple(names),
            shared.bounds,
            shared.report,
            (*states, *random),
            written,
            TorchCall(call.in_spec, tuple(self.leaves), self._argument_names()),
            TorchCall(call.out_spec, tuple(leaves)),
        )

    def _random(self, shared: Shared, output: int) -> tuple[State, ...]:
        """The stream of random numbers as the last state, if any are drawn."""
        if shared.stream.now is None:
            return ()
        weight = shared.ctx.weights.add(STATE, first_state(shared.ctx.settings.random))
        self.state_names.append(STATE)
        return (State(STATE, len(self.names) + len(self.state_names) - 1, output, weight),)

    def _argument_names(self) -> tuple[str, ...]:
        """Names of the arguments of the model's `forward`, where the program knows them."""
        calls = self.ep.module_call_graph
        signature = calls[0].signature if calls and not calls[0].fqn else None
        return tuple(getattr(signature, "forward_arg_names", None) or ())

    def _initial(self, shared: Shared, name: str) -> str:
        """Store the first value of a buffer that changes."""
        from torsh_fx.importers.torch_types import to_numpy

        return shared.ctx.weights.add(name, to_numpy(self._tensor(name)).copy())
