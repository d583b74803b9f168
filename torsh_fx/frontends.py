"""Models of other frameworks as graphs, without compiling them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torsh_dialect.context import Context
from torsh_fx.graph.graph import FxGraph
from torsh_fx.sources import import_model


def from_pytorch(
    model: Any, example_inputs: Sequence[Any] | None = None, *, dynamic_shapes: Any = None
) -> FxGraph:
    """The graph of a torch model; calls of modules are inlined with their parameters as weights.

    Args:
        model: An `nn.Module`, `fx.GraphModule` or `ExportedProgram`.
        example_inputs: Arguments of one call; an exported program needs none.
        dynamic_shapes: As `torch.export.export` takes them.

    Raises:
        InvalidArgumentError: A module without example inputs, or no torch model.
        UnsupportedError: The model has ops that the compiler does not know; lists all of them.
    """
    return from_model(model, example_inputs, dynamic_shapes=dynamic_shapes)


def from_model(
    model: Any, example_inputs: Sequence[Any] | None = None, *, dynamic_shapes: Any = None
) -> FxGraph:
    """The graph of any model that `torsh_fx.compile` takes; arguments and errors are the same."""
    imported = import_model(model, Context(), example_inputs, dynamic_shapes)
    return FxGraph(imported.module, imported.weights)
