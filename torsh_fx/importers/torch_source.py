"""Imports whatever torch has, by way of torch.export: modules, programs, traced graphs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError
from torsh_fx.importers.model import ImportedModel
from torsh_fx.importers.torch_examples import describes_one_tensor, export, small_sizes
from torsh_fx.importers.torch_export import import_exported_program
from torsh_fx.importers.torch_shapes import inputs_of_graph


def import_torch(
    model: Any,
    ctx: Context,
    example_inputs: Sequence[Any] | None = None,
    dynamic_shapes: Any = None,
) -> ImportedModel:
    """Import an `nn.Module`, `GraphModule` or `ExportedProgram`.

    Args:
        model: The model; modules are exported in the mode (train or eval) that they are in.
        ctx: Where weights go.
        example_inputs: Positional arguments of one call; needed for modules, but for traced graphs
            that say the shapes of their inputs (see `torch_shapes`).
        dynamic_shapes: As `torch.export.export` takes them.

    Raises:
        InvalidArgumentError: A module without example inputs, or no torch model at all.
        ImportModelError: `torch.export` cannot trace the module; its message is included.
        UnsupportedError: The model has ops that the compiler does not know.
    """
    if isinstance(model, ExportedProgram):
        return import_exported_program(model, ctx, small=(1, 0))
    if not isinstance(model, torch.nn.Module):
        raise InvalidArgumentError(f"{type(model).__name__} is no torch model")
    if example_inputs is None and isinstance(model, GraphModule):
        example_inputs, symbolic = inputs_of_graph(model)
        dynamic_shapes = dynamic_shapes or symbolic
    if example_inputs is None:
        raise InvalidArgumentError(
            "compiling an nn.Module needs example inputs: compile(module, (x,))"
        )
    inputs = (
        (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    )
    program = export(model, inputs, dynamic_shapes)
    names = symbol_names(program, model, dynamic_shapes)
    small = small_sizes(program, model, inputs, dynamic_shapes)
    return import_exported_program(program, ctx, names, small=small)


def symbol_names(
    program: ExportedProgram, model: torch.nn.Module, dynamic_shapes: Any
) -> dict[str, str]:
    """Torch's symbols of sizes and the names of the user's `Dim`s for the same axes."""
    if not dynamic_shapes:
        return {}
    if isinstance(dynamic_shapes, dict):
        given = cast(dict[str, Any], dynamic_shapes)
        order = inspect.signature(model.forward).parameters
        dynamic_shapes = [given[name] for name in order if name in given]
    leaves = pytree.tree_leaves(dynamic_shapes, is_leaf=describes_one_tensor)
    wanted = set(program.graph_signature.user_inputs)
    shapes = [
        n.meta["val"] for n in program.graph.nodes if n.name in wanted and n.op == "placeholder"
    ]
    names: dict[str, str] = {}
    if len(leaves) != len(shapes):
        return names
    for described, fake in zip(leaves, shapes, strict=True):
        rows: Any = described
        axes = rows.items() if isinstance(described, dict) else enumerate(rows or ())
        for axis, dim in axes:
            size, name = str(fake.shape[axis]), getattr(dim, "__name__", "")
            if size.isidentifier() and name.isidentifier() and isinstance(dim, Dim):
                names.setdefault(size, name)
    return names if len(set(names.values())) == len(names) else {}
