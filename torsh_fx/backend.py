"""`torch.compile(model, backend="torsh")`.

Dynamo gives a graph of torch calls for each part of a model that it can trace; each is exported
and compiled at its first call. Parameters and buffers become weights: a change of their values
is noticed at the next call, and the weights are prepared again. Extents that Dynamo made
symbolic stay symbolic. Inputs and buffers that the graph writes are written, in place where the
program allows it, and outputs that are views of inputs are. What the compiler does not know
raises `UnsupportedError`; nothing falls back to eager by itself.

The entry point `torch_dynamo_backends` makes torch find the backend; importing this module
registers it too.

Random ops draw from torch's own generator on the CPU, and leave it as eager torch does: after
`torch.manual_seed` a model gives eager torch's numbers, between graphs and eager code too.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
from torch.export import Dim
from torch.fx import GraphModule, Node

from torsh_dialect.errors import (
    ImportModelError,
    InputError,
    InvalidArgumentError,
    UnsupportedError,
)
from torsh_dialect.settings import Settings
from torsh_fx.compiled import CompiledModule
from torsh_fx.compiler import compile as compile_model
from torsh_fx.importers.torch_aliases import Aliases
from torsh_fx.importers.torch_floats import specialize_floats
from torsh_fx.importers.torch_random import set_torch_state, torch_state
from torsh_fx.importers.torch_trace import inline_checkpoints, trace
from torsh_fx.importers.torch_types import to_numpy, to_torch
from torsh_fx.random import STATE
from torsh_fx.written import run_writing

NAME = "torsh"
STATIC = "_dynamo_static_input_type"
"""Key under which Dynamo marks inputs that are parameters and buffers."""

OPTIONS = ("target", "threads", "flush_denormals", "cache", "numerics")


def torsh(
    module: GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Any:
    """The backend: compiles a graph that Dynamo traced.

    Args:
        module: The graph.
        example_inputs: Its inputs, parameters and buffers among them.
        options: `target`, `threads`, `flush_denormals`, `cache` as `torsh_fx.compile` takes them,
            and `numerics`.
        mode: Not used by this backend.

    Returns:
        A function of the graph's inputs that gives its outputs.

    Raises:
        InvalidArgumentError: An option is unknown, or a mode is given.
    """
    if mode is not None:
        raise InvalidArgumentError(f"the backend torsh has no modes; got mode={mode!r}")
    given = dict(options or {})
    if unknown := sorted(given.keys() - set(OPTIONS)):
        raise InvalidArgumentError(
            f"the backend torsh has no options {', '.join(unknown)}; it has {', '.join(OPTIONS)}"
        )
    if "numerics" in given:
        given["settings"] = Settings(numerics=given.pop("numerics"))
    given["random"] = "mt19937"
    specialize_floats(module.graph)
    return DynamoGraph(module, example_inputs, given)


@dataclass(frozen=True, eq=False)
class Stamp:
    """What tells whether a tensor's values may have changed: itself, its storage, its version."""

    tensor: weakref.ref[torch.Tensor]
    address: int
    version: int

    @classmethod
    def of(cls, value: torch.Tensor) -> Stamp:
        """The stamp of a tensor now."""
        return cls(weakref.ref(value), value.data_ptr(), _version(value))

    def holds(self, value: torch.Tensor) -> bool:
        """Whether this is that tensor, unchanged; another one may have come to its address."""
        same = self.tensor() is value
        return same and (self.address, self.version) == (value.data_ptr(), _version(value))


def _version(value: torch.Tensor) -> int:
    return -1 if value.is_inference() else value._version


class DynamoGraph:
    """A graph from Dynamo as a function; compiles at the first call.

    Args:
        module: The graph.
        example_inputs: Its inputs.
        options: Of `torsh_fx.compile`.
    """

    def __init__(
        self, module: GraphModule, example_inputs: Sequence[Any], options: Mapping[str, Any]
    ):
        placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
        self._options = dict(options)
        self._stored = {
            position: node.name
            for position, (node, value) in enumerate(zip(placeholders, example_inputs, strict=True))
            if _is_stored(node, value)
        }
        self._module = module
        self._aliases = Aliases.of(module.graph)
        self._symbolic = [_symbols(node) for node in placeholders]
        self._sizes = _sizes(placeholders, self._symbolic)
        self._users = [
            position
            for position in range(len(placeholders))
            if position not in self._stored and position not in self._sizes
        ]
        self._general: CompiledModule | None = None
        self._special: dict[tuple[object, ...], CompiledModule] = {}
        self._stamps: dict[int, Stamp] = {}

    def __call__(self, *args: Any) -> Any:
        """The graph's outputs.

        Raises:
            UnsupportedError: The graph has ops that the compiler does not know.
        """
        wants = [isinstance(a, torch.Tensor) and a.requires_grad for a in args]
        if torch.is_grad_enabled() and any(wants):
            return tuple(_InferenceOnly.apply(self, *args))  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]
        return self.run(args)

    def run(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs, without recording gradients."""
        with torch.no_grad():
            users = [_plain(args[position]) for position in self._users]
            if self._general is None:
                self._general = self._compile(args, dynamic=True)
            try:
                found = self._call(self._general, args, users)
            except InputError:
                found = self._call(self._specialised(args, users), args, users)
            return self._aliases.restored(args, found)

    def _specialised(self, args: Sequence[Any], users: Sequence[Any]) -> CompiledModule:
        """The graph compiled for just these extents, which the general one turned out to fix."""
        key = tuple(tuple(v.shape) if isinstance(v, torch.Tensor) else v for v in users)
        if key not in self._special:
            self._special[key] = self._compile(args, dynamic=False)
        return self._special[key]

    def _call(
        self, compiled: CompiledModule, args: Sequence[Any], users: Sequence[Any]
    ) -> tuple[Any, ...]:
        tensors: dict[str, Any] = {name: args[p] for p, name in self._stored.items()}
        self._refresh(compiled, args)
        states = compiled.states
        random = next((one for one in states if one.name == STATE), None)
        if random is not None:
            tensors[STATE] = torch_state()
        given = [*compiled.flat_inputs(users, {}), *(tensors[one.name] for one in states)]
        kept = [(one.input, one.output) for one in states]
        arrays = run_writing(compiled.held.runnable, compiled.interface, given, kept)
        if random is not None:
            set_torch_state(arrays[random.output])
        outputs = compiled.structured([to_torch(array) for array in arrays])
        if isinstance(outputs, tuple | list):
            return tuple(cast("Sequence[Any]", outputs))
        return (outputs,)

    def _refresh(self, running: CompiledModule, args: Sequence[Any]) -> None:
        """Prepare weights again whose tensors have changed since the last call."""
        kept = {one.name for one in running.states}  # given to each call anyway
        used = [position for position, name in self._stored.items() if name not in kept]
        changed = [
            position for position in used if not self._stamps[position].holds(args[position])
        ]
        if not changed:
            return
        arrays = {self._stored[p]: to_numpy(args[p].detach()) for p in changed}
        for compiled in [self._general, *self._special.values()]:
            if compiled is not None:
                known = {name: a for name, a in arrays.items() if name in compiled.weights}
                compiled.update_weights(known)
        self._stamps.update({position: Stamp.of(args[position]) for position in changed})

    # -- compiling

    def _compile(self, args: Sequence[Any], *, dynamic: bool) -> CompiledModule:
        module = self._with_weights(args)
        users = tuple(_plain(args[position]) for position in self._users)
        shapes = tuple(self._dynamic(position) if dynamic else None for position in self._users)
        for value in users:
            _check_kind(value)
        try:
            program = trace(module, users, shapes if dynamic else None)
        except Exception as error:
            raise ImportModelError(f"torch.export cannot trace the graph: {error}") from error
        self._stamps = {position: Stamp.of(args[position]) for position in self._stored}
        with torch.autocast("cpu", enabled=False):  # the trace has cast what is to be cast
            return compile_model(program, **self._options)

    def _dynamic(self, position: int) -> Any:
        symbolic = self._symbolic[position]
        return {axis: Dim.AUTO for axis in symbolic} if symbolic else None

    def _with_weights(self, args: Sequence[Any]) -> GraphModule:
        """A copy of the graph whose inputs are the user's tensors alone.

        Parameters and buffers are attributes, extents are read from the tensors that have them.
        """
        module = GraphModule(self._module, copy.deepcopy(self._module.graph))
        placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
        for position, name in self._stored.items():
            node = placeholders[position]
            module.register_buffer(name, args[position].detach())
            with module.graph.inserting_before(node):
                _replace(node, module.graph.get_attr(name))
        for position, (source, axis) in self._sizes.items():
            node, tensor = placeholders[position], placeholders[source]
            last = placeholders[max(source, position)]
            with module.graph.inserting_after(last):
                _replace(
                    node, module.graph.call_function(torch.ops.aten.sym_size.int, (tensor, axis))
                )
        inline_checkpoints(module.graph)
        module.graph.lint()
        module.recompile()
        return module


def _replace(node: Node, new: Node) -> None:
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def _is_stored(node: Node, value: Any) -> bool:
    marks = cast("Mapping[str, Any]", node.meta.get("tensor_dict") or {})
    return isinstance(value, torch.nn.Parameter) or (
        isinstance(value, torch.Tensor) and STATIC in marks
    )


def _symbols(node: Node) -> dict[int, Any]:
    """The symbolic extents of a placeholder by axis."""
    value = node.meta.get("example_value")
    if not isinstance(value, torch.Tensor):
        return {}
    return {axis: size for axis, size in enumerate(value.shape) if isinstance(size, torch.SymInt)}


def _sizes(
    placeholders: Sequence[Node], symbolic: Sequence[Mapping[int, Any]]
) -> dict[int, tuple[int, int]]:
    """Inputs that are an extent of another input: position to (position, axis) of that one."""
    found: dict[int, tuple[int, int]] = {}
    for position, node in enumerate(placeholders):
        value = node.meta.get("example_value")
        if not isinstance(value, torch.SymInt):
            continue
        for source, extents in enumerate(symbolic):
            same = [axis for axis, size in extents.items() if _symbol(size) == _symbol(value)]
            if same:
                found[position] = (source, same[0])
                break
    return found


def _symbol(value: torch.SymInt) -> str:
    return str(cast(Any, value).node.expr)


def _check_kind(value: Any) -> None:
    if not isinstance(value, torch.Tensor):
        return
    kind = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
    if kind != "strided" or value.is_meta:
        raise UnsupportedError(
            f"the graph has an input of {type(value).__name__} "
            f"({kind}, on {value.device}); give a dense tensor that has data"
        )


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


class _InferenceOnly(torch.autograd.Function):
    """Runs a graph whose inputs want gradients; the way back is refused."""

    @staticmethod
    def forward(ctx: Any, graph: DynamoGraph, *args: Any) -> Any:
        outputs = graph.run(args)
        whole = [v for v in outputs if isinstance(v, torch.Tensor) and not v.is_floating_point()]
        ctx.mark_non_differentiable(*whole)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise UnsupportedError(
            'torch.compile(backend="torsh") is for inference and has no gradients; '
            "call the model under torch.no_grad()"
        )


def register() -> None:
    """Make torch know the backend by its name; does nothing if it does already."""
    dynamo = cast(Any, import_module("torch._dynamo"))
    if NAME not in dynamo.list_backends(exclude_tags=()):
        dynamo.register_backend(torsh, name=NAME)


register()
