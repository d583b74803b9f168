"""Imports whatever torch has, by way of torch.export: modules, programs, traced graphs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.fx.experimental import _config as config
from torch.utils import _pytree as pytree

from torsh_dialect.context import Context
from torsh_dialect.errors import ImportModelError, InvalidArgumentError
from torsh_fx.importers.model import ImportedModel
from torsh_fx.importers.torch_export import import_exported_program


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
        example_inputs: Positional arguments of one call; needed for modules.
        dynamic_shapes: As `torch.export.export` takes them.

    Raises:
        InvalidArgumentError: A module without example inputs, or no torch model at all.
        ImportModelError: `torch.export` cannot trace the module; its message is included.
        UnsupportedError: The model has ops that the compiler does not know.
    """
    if isinstance(model, ExportedProgram):
        return import_exported_program(model, ctx)
    if not isinstance(model, torch.nn.Module):
        raise InvalidArgumentError(f"{type(model).__name__} is no torch model")
    if example_inputs is None:
        raise InvalidArgumentError(
            "compiling an nn.Module needs example inputs: compile(module, (x,))"
        )
    inputs = (
        (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    )
    try:
        with torch.no_grad(), _sizes_stay_symbolic(inputs, dynamic_shapes):
            program = torch.export.export(
                model, inputs, dynamic_shapes=dynamic_shapes, strict=False
            )
    except Exception as error:
        raise ImportModelError(f"torch.export cannot trace the model: {error}") from error
    return import_exported_program(program, ctx, symbol_names(program, model, dynamic_shapes))


def _sizes_stay_symbolic(
    inputs: tuple[Any, ...], dynamic_shapes: Any
) -> AbstractContextManager[Any]:
    """Lets axes be symbolic whose example has extent 0 or 1, which torch would take as fixed.

    `backed_size_oblivious` (torch 2.8) asks torch to treat a symbolic size as it treats one that
    depends on data: neither 0 nor 1 wherever the two paths of a decision agree.
    """
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, torch.Tensor)]
    if not dynamic_shapes or not any(extent < 2 for x in tensors for extent in x.shape):
        return nullcontext()
    return cast("AbstractContextManager[Any]", config.patch(backed_size_oblivious=True))


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
    leaves = pytree.tree_leaves(dynamic_shapes, is_leaf=_describes_one_tensor)
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
            if size.isidentifier() and name.isidentifier() and isinstance(dim, torch.export.Dim):
                names.setdefault(size, name)
    return names if len(set(names.values())) == len(names) else {}


def _describes_one_tensor(value: Any) -> bool:
    """Whether a node of `dynamic_shapes` is the description of one tensor's axes."""
    if isinstance(value, dict):
        return all(isinstance(key, int) for key in cast(dict[Any, Any], value))
    if isinstance(value, list | tuple):
        items = cast(Sequence[Any], value)
        return all(item is None or not isinstance(item, dict | list | tuple) for item in items)
    return value is None
