"""Outputs of a Dynamo graph that share memory: with an input (a view of it, or itself), or twice.

A compiled program has memory of its own for each output. A caller of the graph may rely on views,
so an output that is one in the graph is made one again: of the input that the call was given, or of
the output that has all of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class View:
    """An output that is a view of an input, or of another output.

    Attributes:
        source: The position of what it is a view of.
        value: The output as Dynamo knows it: a fake tensor.
        base: What it is a view of, likewise.
    """

    source: int
    value: torch.Tensor
    base: torch.Tensor

    def of(self, tensor: torch.Tensor, sizes: Mapping[Any, int]) -> torch.Tensor:
        """The view of the tensor that a call was given."""
        moved = self.value.storage_offset() - self.base.storage_offset()
        offset = tensor.storage_offset() + _number(moved, sizes)
        shape = tuple(_number(size, sizes) for size in self.value.shape)
        strides = tuple(_number(stride, sizes) for stride in self.value.stride())
        layout = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        plain = tensor.detach() if tensor.requires_grad else tensor
        if plain.dtype == self.value.dtype:  # a view has the version counter of its base
            same = layout == (offset, shape, strides)
            return plain if same else plain.as_strided(shape, strides, offset)
        empty = torch.empty(0, dtype=self.value.dtype)
        return empty.set_(tensor.untyped_storage(), offset, shape, strides)  # pyright: ignore[reportArgumentType]

    def is_laid_out(self, tensor: torch.Tensor, sizes: Mapping[Any, int]) -> bool:
        """Whether a result has the strides, and hence the storage, that the base has."""
        return list(tensor.stride()) == [_number(step, sizes) for step in self.base.stride()]


@dataclass(frozen=True)
class Aliases:
    """What the outputs of a graph share memory with.

    Attributes:
        views: Outputs that are views of inputs, or inputs, by position.
        parts: Outputs that are views of other outputs, by position.
        same: Outputs that are the same tensor as an earlier one, by position.
        inputs: The graph's inputs as Dynamo knows them.
    """

    views: dict[int, View] = field(default_factory=dict[int, View])
    parts: dict[int, View] = field(default_factory=dict[int, View])
    same: dict[int, int] = field(default_factory=dict[int, int])
    inputs: Sequence[Any] = ()

    @classmethod
    def of(cls, graph: Graph) -> Aliases:
        """The aliases of a graph of Dynamo, from the fake tensors of its nodes."""
        inputs = [n.meta.get("example_value") for n in graph.nodes if n.op == "placeholder"]
        storages = {
            value.untyped_storage()._cdata: position
            for position, value in enumerate(inputs)
            if _has_storage(value)
        }
        last = next(node for node in graph.nodes if node.op == "output")
        results: list[Any] = [
            node.meta.get("example_value") if isinstance(node, Node) else None
            for node in pytree.tree_leaves(last.args[0])
        ]
        bases = {
            value.untyped_storage()._cdata: position
            for position, value in reversed(list(enumerate(results)))
            if _has_storage(value) and not value._is_view()
        }
        views: dict[int, View] = {}
        parts: dict[int, View] = {}
        same: dict[int, int] = {}
        first: dict[Node, int] = {}
        for position, node in enumerate(pytree.tree_leaves(last.args[0])):
            if not isinstance(node, Node):
                continue
            value: Any = node.meta.get("example_value")
            if node in first:
                same[position] = first[node]
            first.setdefault(node, position)
            if value is None or not _has_storage(value) or value.is_conj() or value.is_neg():
                continue
            storage = value.untyped_storage()._cdata
            if (source := storages.get(storage)) is not None:
                views[position] = View(source, value, inputs[source])
            elif (source := bases.get(storage, position)) != position:
                parts[position] = View(source, value, results[source])
        return cls(views, parts, same, inputs)

    def restored(self, args: Sequence[Any], outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The outputs of a call, with the views that the graph has."""
        if not self.views and not self.parts and not self.same:
            return outputs
        found, sizes = list(outputs), self._sizes(args)
        for position, view in self.views.items():
            found[position] = view.of(args[view.source], sizes)
        for position, view in self.parts.items():
            if view.is_laid_out(found[view.source], sizes):
                found[position] = view.of(found[view.source], sizes)
        for position, earlier in self.same.items():
            found[position] = found[earlier]
        return tuple(found)

    def _sizes(self, args: Sequence[Any]) -> dict[Any, int]:
        """The values of Dynamo's symbols in a call."""
        sizes: dict[Any, int] = {}
        for fake, given in zip(self.inputs, args, strict=True):
            if isinstance(fake, torch.SymInt):
                sizes[_expression(fake)] = int(given)
            elif isinstance(fake, torch.Tensor):
                for size, extent in zip(fake.shape, given.shape, strict=True):
                    if isinstance(size, torch.SymInt):
                        sizes[_expression(size)] = extent
        return sizes


def _has_storage(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided


def _expression(size: torch.SymInt) -> Any:
    return cast(Any, size).node.expr


def _number(size: Any, sizes: Mapping[Any, int]) -> int:
    """The value of a size, which may be symbolic."""
    return int(_expression(size).subs(sizes)) if isinstance(size, torch.SymInt) else int(size)
