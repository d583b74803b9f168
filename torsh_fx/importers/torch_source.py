"""Imports whatever torch has, by way of torch.export: modules, programs, traced graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.export import ExportedProgram

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
        with torch.no_grad():
            program = torch.export.export(
                model, inputs, dynamic_shapes=dynamic_shapes, strict=False
            )
    except Exception as error:
        raise ImportModelError(f"torch.export cannot trace the model: {error}") from error
    return import_exported_program(program, ctx)
