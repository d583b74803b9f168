"""Which importer a model needs, told from the object or the file's content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torsh_dialect.context import Context
from torsh_dialect.errors import ImportModelError, InvalidArgumentError

if TYPE_CHECKING:
    from torsh_fx.importers.model import ImportedModel


def opened(model: Any) -> Any:
    """The model; of the path of a `.pt2` file the `torch.export.ExportedProgram` that it holds.

    Raises:
        ImportModelError: torch is not there, or cannot read the file.
    """
    if not isinstance(model, str | Path) or Path(model).suffix != ".pt2":
        return model
    try:
        import torch
    except ImportError:
        raise ImportModelError(f"{model} needs torch: pip install torch==2.13.0") from None
    try:
        return torch.export.load(model)
    except Exception as error:  # whatever torch's readers meet in a file that is none of theirs
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportModelError(f"{model} is no exported program: {first}") from error


def import_model(
    model: Any,
    ctx: Context,
    example_inputs: Sequence[Any] | None = None,
    dynamic_shapes: Any = None,
) -> ImportedModel:
    """Import a model of any kind that is known.

    Raises:
        InvalidArgumentError: The object is no model that any importer takes.
    """
    from torsh_fx.importers.model import ImportedModel

    if isinstance(model, ImportedModel):
        return model
    if type(model).__module__ == "torsh_fx.graph.graph":
        from torsh_fx.graph.source import import_graph

        return import_graph(model, example_inputs)
    family = type(model).__module__.partition(".")[0]
    bases = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    if isinstance(model, str | Path) and Path(model).suffix == ".mlir":
        from torsh_fx.save import import_mlir

        return import_mlir(Path(model), ctx)
    if isinstance(model, str | Path | bytes) or family == "onnx":
        from torsh_fx.importers.onnx import import_onnx

        return import_onnx(model, ctx, dynamic_shapes)
    if "torch" in bases:
        from torsh_fx.importers.torch_source import import_torch

        return import_torch(model, ctx, example_inputs, dynamic_shapes)
    raise InvalidArgumentError(
        f"{type(model).__name__} is no model; give an nn.Module, ExportedProgram, GraphModule, "
        "onnx.ModelProto, FxGraph or a path"
    )
