"""`torch.export` for models whose `forward` differentiates, autocasts, checkpoints, or writes the
statistics of an instance norm.
"""

from __future__ import annotations

import inspect
import traceback
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.export._trace import _export  # pyright: ignore[reportPrivateUsage]
from torch.fx import Graph, GraphModule, Node
from torch.overrides import TorchFunctionMode

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
    with _WritingStatistics():
        return _trace(model, inputs, shapes)


def _trace(model: torch.nn.Module, inputs: tuple[Any, ...], shapes: Any) -> ExportedProgram:
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


class _WritingStatistics(TorchFunctionMode):
    """Instance norms of training in ops that say what they write.

    `aten.instance_norm` writes its running statistics, which its schema does not say: a traced
    program would lose them. What is computed follows aten/native/Normalization.cpp of torch 2.13.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: dict[str, Any] = kwargs or {}
        if func is torch.nn.functional.instance_norm:
            names = inspect.signature(func).bind(*args, **given)
            names.apply_defaults()
            if names.arguments["use_input_stats"] and names.arguments["running_mean"] is not None:
                return _instance_norm(**names.arguments)
        return func(*args, **given)


def _instance_norm(
    input: torch.Tensor,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """The batch norm of every channel of every entry; the statistics become the entries' mean."""
    count, channels = input.shape[:2]
    scale, shift = (None if v is None else v.repeat(count) for v in (weight, bias))
    means, variances = running_mean.repeat(count), running_var.repeat(count)
    rows = input.reshape(1, count * channels, *input.shape[2:])
    y = torch.nn.functional.batch_norm(
        rows, means, variances, scale, shift, use_input_stats, momentum, eps
    )
    running_mean.copy_(means.view(count, channels).mean(0))
    running_var.copy_(variances.view(count, channels).mean(0))
    return y.reshape(input.shape)


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
