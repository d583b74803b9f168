"""`torch.export` for models whose `forward` differentiates, autocasts or checkpoints."""

from __future__ import annotations

import traceback
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.export._trace import _export  # pyright: ignore[reportPrivateUsage]
from torch.fx import Graph, GraphModule, Node

AUTOCAST: Any = cast(Any, torch.amp.autocast_mode)._enter_autocast
CHECKPOINT: Any = torch.ops.higher_order.tag_activation_checkpoint


def trace(model: torch.nn.Module, inputs: tuple[Any, ...], shapes: Any = None) -> ExportedProgram:
    """The module as `torch.export.export` traces it, with `strict=False`.

    What calls `torch.func.grad`, `jacrev` or `hessian` torch 2.13 cannot trace above its
    dispatcher, where `export` works, and it passes over the steps of a graph of Dynamo's that
    begin autocast, and over autocast that is on around the call. Such a model is traced below the
    dispatcher, where derivatives and casts have become ordinary ops: a graph of Dynamo's that
    names them, and all where autocast is on, at once, another module after a first try.

    Raises:
        Exception: What torch raised at the first try, where the second fails too.
    """
    resolved = isinstance(model, GraphModule) and any(map(_is_resolved, model.graph.nodes))
    if resolved or torch.is_autocast_enabled("cpu"):
        return _export(model, inputs, {}, shapes, strict=False, pre_dispatch=False)
    try:
        return torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as first:
        if "functorch" not in f"{first} {_trail(first)}":
            raise
        try:
            return _export(model, inputs, {}, shapes, strict=False, pre_dispatch=False)
        except Exception:
            raise first from None


def _is_resolved(node: Node) -> bool:
    """Whether torch's dispatcher takes a step out: of `grad`, of `jvp`, or of autocast."""
    if node.target is AUTOCAST:
        return bool(node.args[2])
    module, name = (getattr(node.target, key, "") for key in ("__module__", "__name__"))
    return "_functorch" in module and ("grad" in name or "dual" in name)


def _trail(error: Exception) -> str:
    """The files that an error came through."""
    return " ".join(frame.filename for frame in traceback.extract_tb(error.__traceback__))


def inline_checkpoints(graph: Graph) -> None:
    """Have Dynamo's graph call checkpointed parts as modules; without gradients they are these."""
    for node in list(graph.nodes):
        if node.target is CHECKPOINT:
            _inline(graph, node)


def _inline(graph: Graph, node: Node) -> None:
    body: Any = node.args[0]
    _, options = CHECKPOINT.divide_kwargs(node.kwargs)
    with graph.inserting_before(node):
        called = graph.call_module(str(body.target), tuple(node.args[1:]), options)
    node.replace_all_uses_with(called)
    graph.erase_node(node)
