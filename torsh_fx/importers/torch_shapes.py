"""Example inputs of a traced graph, from what the graph itself says of its inputs.

Shapes and dtypes are in `node.meta` behind `torch.fx.passes.shape_prop.ShapeProp` or a trace with
fake tensors; shapes of float32 tensors may be annotations, `x: TensorType((Dyn, 3))`, where `Dyn`
is an axis of any extent (`torch.fx.tensor_type`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.export import Dim
from torch.fx import GraphModule, Node
from torch.fx.tensor_type import Dyn, TensorType

from torsh_dialect.errors import InvalidArgumentError

ANY_EXTENT = 1
"""Extent of the example along an axis that may have any: `torch_examples` also tries others."""


def inputs_of_graph(module: GraphModule) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """Examples of the inputs of a traced graph, and which of their axes are symbolic.

    Returns:
        Tensors, and `dynamic_shapes` for them as `torch.export.export` takes it (None where all
        extents are fixed).

    Raises:
        InvalidArgumentError: The graph does not say the shape of an input.
    """
    found = [_input(node) for node in module.graph.nodes if node.op == "placeholder"]
    unknown = [node for node, example, _ in found if example is None]
    if unknown:
        raise InvalidArgumentError(
            f"the traced graph does not say the shapes of {', '.join(n.name for n in unknown)}: "
            "give example inputs, compile(module, (x,)); or run ShapeProp on it; or annotate "
            "them before tracing, forward(self, x: TensorType((Dyn, 3)))"
        )
    axes = tuple(axes or None for _, _, axes in found)
    examples = tuple(example for _, example, _ in found)
    return examples, axes if any(axes) else None


def _input(node: Node) -> tuple[Node, Any, dict[int, Any]]:
    """An input, its example (None if nothing is known), and its symbolic axes."""
    known: Any = node.meta.get("val", node.meta.get("example_value", node.meta.get("tensor_meta")))
    if isinstance(known, int | float | bool):
        return node, known, {}
    if hasattr(known, "shape") and hasattr(known, "dtype"):
        return _tensor(node, list(known.shape), known.dtype)
    if isinstance(node.type, TensorType):
        extents: Any = cast(Any, node.type).__args__
        return _tensor(node, list(extents), torch.float32)
    return node, None, {}


def _tensor(
    node: Node, extents: list[Any], dtype: torch.dtype
) -> tuple[Node, torch.Tensor, dict[int, Any]]:
    symbolic = {n: Dim.DYNAMIC for n, extent in enumerate(extents) if not isinstance(extent, int)}
    wrong = [extent for extent in extents if not (isinstance(extent, int) or _is_any(extent))]
    if wrong:
        raise InvalidArgumentError(
            f"the extent {wrong[0]!r} of {node.name} is neither a number nor Dyn"
        )
    shape = [ANY_EXTENT if n in symbolic else extent for n, extent in enumerate(extents)]
    return node, torch.zeros(shape, dtype=dtype), symbolic


def _is_any(extent: Any) -> bool:
    return extent is Dyn or isinstance(extent, torch.SymInt)
