"""ONNX models to the torsh dialect: opset 1 to the newest, functions, subgraphs, external data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, SSAValue

from torsh_dialect.builder import BlockBuilder
from torsh_dialect.context import Context
from torsh_dialect.dims import Bounds, Dim, symbol
from torsh_dialect.driver import erase_dead
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import (
    Finding,
    ImportModelError,
    InvalidArgumentError,
    UnsupportedError,
)
from torsh_dialect.ops.compose import Compose
from torsh_dialect.symbols import set_symbols
from torsh_dialect.types import element_type, rank_of, tensor
from torsh_fx.importers.model import ImportedModel, set_names
from torsh_fx.importers.onnx_graph import (
    convert_nodes,
    converters,
    normal_domain,
    require_unique,
)
from torsh_fx.importers.onnx_load import TensorReader, read_model
from torsh_fx.importers.onnx_ranks import is_rank_seen
from torsh_fx.importers.onnx_scope import Importing, Scope, hint_of, identifier
from torsh_fx.interface import State
from torsh_fx.random import STATE, first_state

if TYPE_CHECKING:
    from onnx import ModelProto, TypeProto, ValueInfoProto

    from torsh_fx.importers.onnx_ops.node import Converter

OLDEST = 1
"""Oldest version of the ai.onnx operator set whose semantics the converters know."""

NEWEST = 28
"""Newest version of the ai.onnx operator set, likewise."""

TRIES = 32
"""Most imports of one model with different readings of nodes."""

CustomConverters: TypeAlias = "Mapping[tuple[str | None, str], Converter]"
SymbolBounds = Mapping[str, "int | tuple[int, int | None]"]


def import_onnx(
    model: str | Path | bytes | ModelProto,
    ctx: Context,
    dynamic_shapes: SymbolBounds | None = None,
    custom: CustomConverters | None = None,
) -> ImportedModel:
    """Turn an ONNX model into a module of the torsh dialect.

    Args:
        model: A path, the bytes of a file, or a message. External data is looked up beside the
            path, never outside its folder.
        ctx: Its weight store receives the initializers.
        dynamic_shapes: For names of symbolic extents (`dim_param`), a number that fixes the
            extent, or its least and greatest value (None: no limit).
        custom: Converters beside the known ones, by domain (None: any) and operator.

    Returns:
        The module; inputs and outputs keep the model's names and order.

    Raises:
        ImportModelError: The file is no ONNX model, is damaged, or reads outside its folder.
        UnsupportedError: Nodes the compiler does not know, all in one message.
        InvalidArgumentError: `dynamic_shapes` names an extent that the model does not have.
    """
    proto, folder, name = read_model(model)
    opsets = {normal_domain(o.domain): o.version for o in proto.opset_import}
    if opsets.get("", OLDEST) < OLDEST:
        raise ImportModelError(
            f"{name} asks for operator set {opsets['']}, the oldest supported is {OLDEST}; "
            "convert it with onnx.version_converter"
        )
    if opsets.get("", NEWEST) > NEWEST:
        raise ImportModelError(
            f"{name} asks for operator set {opsets['']}, the newest supported is {NEWEST}; "
            "convert it with onnx.version_converter"
        )
    functions = {(normal_domain(f.domain), f.name, f.overload): f for f in proto.functions}
    file = Path(model).resolve() if isinstance(model, str | Path) else None
    load, table = TensorReader(folder, file), converters()
    own = {
        (one, operator): convert
        for (domain, operator), convert in (custom or {}).items()
        for one in (opsets if domain is None else (normal_domain(domain),))
    }
    table |= own

    def attempt(decisions: dict[str, bool]) -> tuple[_Entry, FuncOp | UnsupportedError]:
        importing = Importing(
            ctx, opsets, functions, load, Block(), table, frozenset(own), decisions=decisions
        )
        entry = _Entry(proto, importing, dict(dynamic_shapes or {}))
        try:
            return entry, entry.convert(name)
        except UnsupportedError as error:
            return entry, error

    entry, function = _first_that_fits(attempt)
    importing = entry.importing
    module = ModuleOp([function])
    erase_dead(module)
    set_symbols(function, entry.used_bounds(function))
    return ImportedModel(
        module=module,
        weights=ctx.weights,
        inputs=tuple(entry.inputs),
        outputs=tuple(entry.outputs),
        state=entry.state(),
        symbols=entry.used_bounds(function),
        report=importing.report,
        files=load.files,
        places=load.places(ctx.weights),
    )


Attempt = Callable[[dict[str, bool]], "tuple[_Entry, FuncOp | UnsupportedError]"]


def _first_that_fits(attempt: Attempt) -> tuple[_Entry, FuncOp]:
    """Import, going back on readings of nodes (last first) while the model does not fit.

    Raises:
        UnsupportedError: No reading fits; what the first try found.
    """
    first: UnsupportedError | None = None
    decisions: dict[str, bool] = {}
    settled: set[str] = set()
    for _ in range(TRIES):
        entry, outcome = attempt(decisions)
        if isinstance(outcome, FuncOp):
            return entry, outcome
        first = first or outcome
        taken = entry.importing.taken
        open_ = [key for key in taken if key not in settled]
        if not open_:
            break
        last = open_[-1]
        kept = list(taken)[: list(taken).index(last)]
        settled = {key for key in settled if key in kept} | {last}
        decisions = {key: taken[key] for key in kept} | {last: not taken[last]}
    assert first is not None
    raise first


class _Entry:
    """Builds `@main`."""

    def __init__(
        self,
        proto: ModelProto,
        importing: Importing,
        given: dict[str, int | tuple[int, int | None]],
    ):
        self.graph, self.importing, self.given = proto.graph, importing, given
        stored = {t.name for t in self.graph.initializer}
        stored |= {t.values.name for t in self.graph.sparse_initializer}
        self._inputs = [v for v in self.graph.input if v.name not in stored]
        self.inputs = [v.name for v in self._inputs]
        self.outputs = [v.name for v in self.graph.output]
        self._parameters: dict[str, Dim] = {}

    def convert(self, name: str) -> FuncOp:
        """The function.

        Raises:
            UnsupportedError: A node was refused.
        """
        require_unique(self.inputs, "the input")
        importing, block = self.importing, self.importing.block
        types = [self._type(v) for v in self._inputs]
        if unknown := [n for n in self.given if n not in self._parameters]:
            known = ", ".join(self._parameters) or "none"
            raise InvalidArgumentError(
                f"the model has no symbolic extents {unknown}; those it has: {known}"
            )
        scope = Scope(importing, BlockBuilder(block))
        for value, type in zip(self._inputs, types, strict=True):
            argument = block.insert_arg(type, len(block.args))
            argument.name_hint = hint_of(value.name)
            scope.values[value.name] = argument
        needed = self._needed()
        for tensor_proto in self.graph.initializer:
            if tensor_proto.name in needed:
                scope.set(tensor_proto.name, importing.initializer(tensor_proto))
        for sparse in self.graph.sparse_initializer:
            if sparse.values.name in needed:
                scope.set(sparse.values.name, importing.sparse(sparse))
        convert_nodes(scope, self.graph.node, self.outputs)
        if importing.taken and not importing.report.findings:
            self._check_ranks(scope)
        self._check_widened(scope)
        if not importing.report.findings:
            self._check_elements(scope)
        importing.report.check(name)
        results = [scope.get(output) for output in self.outputs]
        if importing.stream.now is not None:
            results.append(importing.stream.after(Compose(scope.builder)))
            self.inputs.append(STATE)
            self.outputs.append(STATE)
        return self._function(results)

    def _check_widened(self, scope: Scope) -> None:
        """Refuse an `If` of two ranks where something could tell which it was."""
        importing = self.importing
        if not importing.widened or importing.report.findings:
            return
        outputs = {scope.get(output) for output in self.outputs}
        if is_rank_seen([value for value, _ in importing.widened], outputs):
            for _, finding in importing.widened:
                importing.report.refuse(finding)

    def state(self) -> tuple[State, ...]:
        """The stream of random numbers, if nodes without a seed draw any."""
        if self.importing.stream.now is None:
            return ()
        weight = self.importing.ctx.weights.add(STATE, first_state("philox"))
        return (State(STATE, len(self.inputs) - 1, len(self.outputs) - 1, weight),)

    def _check_ranks(self, scope: Scope) -> None:
        """Where readings of nodes were chosen, results must have the ranks that they declare."""
        for value in self.graph.output:
            type = value.type.tensor_type
            rank = rank_of(scope.get(value.name))
            if type.HasField("shape") and len(type.shape.dim) != rank:
                reason = f"the result has rank {rank}, declared is {len(type.shape.dim)}"
                finding = Finding("output", value.name, reason, remedy="declare its true shape")
                self.importing.report.refuse(finding)

    def _check_elements(self, scope: Scope) -> None:
        """Results must have the element types that they declare."""
        for value in self.graph.output:
            found = scope.get(value.name).type
            type = value.type.tensor_type
            if not isinstance(found, TensorType) or not type.elem_type:
                continue
            declared, computed = self.importing.element(type.elem_type), element_type(found)  # pyright: ignore[reportUnknownArgumentType]
            if declared != computed:
                names = [dtype_of(type).name for type in (declared, computed)]
                reason = f"the result is declared {names[0]}, the model computes {names[1]}"
                remedy = "declare its true type, or cast it"
                finding = Finding("output", value.name, reason, remedy=remedy)
                self.importing.report.refuse(finding)

    def _needed(self) -> set[str]:
        from torsh_fx.importers.onnx_graph import live_nodes, names_read

        nodes = self.graph.node
        live = live_nodes(nodes, self.outputs)
        return {name for i in live for name in names_read(nodes[i])} | set(self.outputs)

    def _function(self, results: list[SSAValue]) -> FuncOp:
        block = self.importing.block
        block.add_op(ReturnOp(*results))
        types = ([a.type for a in block.args], [r.type for r in results])
        function = FuncOp("main", types)
        function.body.detach_block(0)
        function.body.add_block(block)
        set_names(function, self.inputs, self.outputs)
        return function

    # -- types of inputs

    def _type(self, value: ValueInfoProto) -> Attribute:
        if value.type.WhichOneof("value") == "tensor_type":
            return self._tensor(value.type, value.name)
        return self.importing.type_of(value.type, f"the input {value.name!r}")

    def _tensor(self, proto: TypeProto, name: str) -> Attribute:
        type = proto.tensor_type
        if not type.HasField("shape"):
            raise ImportModelError(
                f"the input {name!r} has no shape; declare its rank (extents may be symbolic)"
            )
        dims: list[Dim] = []
        for axis, dim in enumerate(type.shape.dim):
            if dim.HasField("dim_value"):
                if dim.dim_value < 0:
                    dims.append(self._parameter(f"{name}_{axis}"))
                    continue
                dims.append(dim.dim_value)
            else:
                known = any(c.isalnum() for c in dim.dim_param)
                dims.append(self._parameter(dim.dim_param if known else f"{name}_{axis}"))
        return tensor(self.importing.element(type.elem_type), dims)

    def _parameter(self, name: str) -> Dim:
        if name in self._parameters:
            return self._parameters[name]
        given = self.given.get(name, (0, None))
        dim: Dim
        if isinstance(given, int):
            dim = given
        else:
            dim = symbol(self._free(identifier(name)))
            self.importing.bounds[str(dim)] = given
        self._parameters[name] = dim
        return dim

    def _free(self, name: str) -> str:
        reserved = ("floordiv", "min", "max", "bcast", "ceildiv", "mod")
        free, number = name, 0
        while free in self.importing.bounds or free in reserved:
            number += 1
            free = f"{name}_{number}"
        return free

    def used_bounds(self, function: FuncOp) -> dict[str, Bounds]:
        """Bounds of the symbols that the function's arguments have, and of fresh ones."""
        return dict(self.importing.bounds)
