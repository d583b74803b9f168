"""Exporting a module so that an axis that was asked to be symbolic is, whatever the example."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree
from torch.utils._sympy.value_ranges import ValueRanges

from torsh_dialect.errors import ImportModelError
from torsh_fx.importers.torch_recurrent import WholeRecurrent
from torsh_fx.importers.torch_trace import trace
from torsh_fx.importers.torch_types import layout_of_tensor

ENLARGED = 3
"""Extent of a symbolic axis of the example that had 0 or 1: no other size that code tests for."""


def export(model: torch.nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any) -> ExportedProgram:
    """The module as `torch.export` traces it.

    Torch takes an extent 0 or 1 of an example as fixed, even where the axis was asked to be
    symbolic, because code often treats them specially. Such a module is traced with a larger
    example; and once more with the one given, all sizes fixed. Where both traces are the same
    program, the symbol may be 0 or 1 as asked; otherwise it is at least 2.

    Raises:
        ImportModelError: Torch cannot trace the module; its message is included.
    """
    larger = enlarged(inputs, dynamic_shapes) if dynamic_shapes else None
    try:
        program = _export(model, larger or inputs, dynamic_shapes)
    except Exception as error:
        raise ImportModelError(f"torch.export cannot trace the model: {error}") from error
    if larger is not None:
        _bound(program, larger, inputs, is_general=_is_general(program, model, inputs))
    if dynamic_shapes:
        _bound_roots(program, model, inputs, dynamic_shapes)
    return program


def _export(model: torch.nn.Module, inputs: tuple[Any, ...], shapes: Any) -> ExportedProgram:
    with torch.no_grad(), WholeRecurrent() if shapes else nullcontext():
        return trace(model, inputs, shapes)


def enlarged(inputs: tuple[Any, ...], dynamic_shapes: Any) -> tuple[Any, ...] | None:
    """The example with symbolic extents of 0 and 1 made larger; None where there are none.

    Left alone where `dynamic_shapes` does not describe one positional tensor after the other.
    """
    leaves, spec = pytree.tree_flatten(inputs)
    described = _described(dynamic_shapes, len(leaves))
    if described is None:
        return None
    found = [_enlarged(x, rows) for x, rows in zip(leaves, described, strict=True)]
    if all(new is old for new, old in zip(found, leaves, strict=True)):
        return None
    return cast("tuple[Any, ...]", pytree.tree_unflatten(found, spec))


def _described(dynamic_shapes: Any, count: int) -> list[dict[int, Any]] | None:
    """What is said of the axes of each tensor; None where that is not one after the other."""
    given: Any = dynamic_shapes
    if isinstance(dynamic_shapes, dict):
        given = list(cast("dict[Any, Any]", dynamic_shapes).values())
    rows = pytree.tree_leaves(given, is_leaf=describes_one_tensor)
    if len(rows) != count:
        return None
    return [row if isinstance(row, dict) else dict(enumerate(row or ())) for row in rows]


def _enlarged(example: Any, named: dict[int, Any]) -> Any:
    if not isinstance(example, torch.Tensor) or not named:
        return example
    shape = [
        _extent(named[axis]) if _is_fixed_by(size, named.get(axis)) else size
        for axis, size in enumerate(example.shape)
    ]
    return _resized(example, shape)


def _resized(example: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Zeros like an example, of other extents; itself where they are the same."""
    if shape == list(example.shape):
        return example
    order = layout_of_tensor(example) or range(len(shape))
    return (
        cast(Any, torch)
        .empty_permuted(shape, tuple(order), dtype=example.dtype, device=example.device)
        .zero_()
    )


def _is_fixed_by(size: int, dim: Any) -> bool:
    """Whether torch would take the size of a symbolic axis, or what it derives from, as fixed."""
    if not _is_symbolic(dim):
        return False
    return size < 2 or (hasattr(dim, "fn") and size in (int(dim.fn(0)), int(dim.fn(1))))


def _is_symbolic(dim: Any) -> bool:
    return dim is not None and not isinstance(dim, int) and dim not in (Dim.STATIC, Dim.AUTO)


def _extent(dim: Any) -> int:
    """An extent within the bounds of a `Dim`; of a derived one (`2*n`) for n = `ENLARGED`."""
    if hasattr(dim, "fn"):
        return int(dim.fn(ENLARGED))
    least, most = getattr(dim, "min", None), getattr(dim, "max", None)
    bounded = min(ENLARGED, most) if isinstance(most, int) else ENLARGED
    return max(bounded, least) if isinstance(least, int) else bounded


def describes_one_tensor(value: Any) -> bool:
    """Whether a node of `dynamic_shapes` is the description of one tensor's axes."""
    if isinstance(value, dict):
        return all(isinstance(key, int) for key in cast("dict[Any, Any]", value))
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        return all(item is None or not isinstance(item, dict | list | tuple) for item in items)
    return value is None


def _is_general(program: ExportedProgram, model: torch.nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Whether the trace of the given example, with all sizes fixed, is the same program."""
    try:
        with torch.no_grad(), WholeRecurrent():
            fixed = trace(model, inputs)
    except Exception:  # torch names many; the example cannot be traced, so it proves nothing
        return False
    return Comparison().is_same(program.graph, fixed.graph)


def small_sizes(
    program: ExportedProgram, model: torch.nn.Module, inputs: tuple[Any, ...], shapes: Any
) -> tuple[int, ...]:
    """Which of the sizes 1 and 0 leave the program what it is, for axes of `Dim.AUTO`.

    Torch starts these at 2, and settles what the model asks of smaller sizes without a guard. So
    a trace with all of them so small, and fixed, tells.
    """
    leaves, spec = pytree.tree_flatten(inputs)
    described = _described(shapes, len(leaves)) if shapes else None
    wanted = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in wanted]
    if described is None or len(nodes) != len(leaves):
        return ()
    automatic = [[axis for axis, dim in row.items() if dim == Dim.AUTO] for row in described]
    found: list[int] = []
    for size in (1, 0) if any(automatic) else ():
        smaller = [
            _of_size(example, node, axes, size)
            for example, node, axes in zip(leaves, nodes, automatic, strict=True)
        ]
        if not _is_general(program, model, pytree.tree_unflatten(smaller, spec)):
            break
        found.append(size)
    return tuple(found)


def _of_size(example: Any, node: Node, axes: list[int], size: int) -> Any:
    """An example whose `axes` have a size, where they are symbols of the program."""
    if not isinstance(example, torch.Tensor) or not axes:
        return example
    shape = list(example.shape)
    for axis in axes:
        extent: Any = node.meta["val"].shape[axis]
        if _is_symint(extent) and extent.node.expr.is_Symbol:
            shape[axis] = size
    return _resized(example, shape)


MOVES = ("aten.slice.", "aten.expand.", "aten.view.", "aten.reshape.", "aten.contiguous.")


@dataclass
class Comparison:
    """Compares a graph with symbolic sizes and one without, node by node.

    A graph of fixed sizes has no nodes about sizes, and none of those that change nothing (`x[:]`)
    where torch knows that from the sizes.

    Attributes:
        matches: Nodes of the first graph and what they are in the second.
    """

    matches: dict[Node, Node] = field(default_factory=dict[Node, Node])

    def is_same(self, ours: Graph, theirs: Graph) -> bool:
        """Whether both graphs compute the same but for sizes."""
        left, right = _tensors(ours), _tensors(theirs)
        while left and right:
            if self._matches(left[0], right[0]):
                left, right = left[1:], right[1:]
            elif self._passes_on(left[0]):
                left = left[1:]
            else:
                return False
        return not left and not right

    def _passes_on(self, ours: Node) -> bool:
        """Whether the fixed graph lacks this node, e.g. the expansion of 1 to n for n = 1."""
        source = ours.args[0] if str(ours.target).startswith(MOVES) else None
        if not isinstance(source, Node) or _source(source) not in self.matches:
            return False
        theirs = self.matches[ours] = self.matches[_source(source)]
        return len(ours.meta["val"].shape) == len(theirs.meta["val"].shape)

    def _matches(self, ours: Node, theirs: Node) -> bool:
        if ours.op != theirs.op or (ours.op == "call_function" and ours.target != theirs.target):
            return False
        rows = [pytree.tree_leaves((node.args, node.kwargs)) for node in (ours, theirs)]
        same = len(rows[0]) == len(rows[1]) and all(map(self._agree, *rows))
        if same:
            self.matches[ours] = theirs
        return same

    def _agree(self, ours: Any, theirs: Any) -> bool:
        if not isinstance(ours, Node):
            return type(ours) is type(theirs) and ours == theirs
        if _is_size(ours):
            return isinstance(theirs, int)
        return isinstance(theirs, Node) and self.matches.get(_source(ours)) is _source(theirs)


def _tensors(graph: Graph) -> list[Node]:
    """The nodes that make a difference, but for those about sizes."""
    return [n for n in graph.nodes if n.op != "call_function" or (n.users and _is_proper(n))]


def _is_proper(node: Node) -> bool:
    return not _is_size(node) and _source(node) is node


def _is_size(node: Node) -> bool:
    size = int | float | torch.SymInt | torch.SymFloat | None
    return node.op == "call_function" and isinstance(node.meta.get("val"), size)


def _source(node: Node) -> Node:
    """The node itself, or the one whose value it only passes on."""
    while str(node.target).startswith(MOVES):
        source = cast(Node, node.args[0])
        if node.meta["val"].shape != source.meta["val"].shape:
            break
        node = source
    return node


def _bound(
    program: ExportedProgram, larger: tuple[Any, ...], given: tuple[Any, ...], *, is_general: bool
) -> None:
    """Set the least value of symbols that stand for an extent of the example of 0 or 1."""
    wanted = set(program.graph_signature.user_inputs)
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in wanted]
    ranges = cast(Any, program).range_constraints
    leaves = (pytree.tree_leaves(larger), pytree.tree_leaves(given))
    for node, new, old in zip(placeholders, *leaves, strict=True):
        if new is old:
            continue
        for size, extent, was in zip(node.meta["val"].shape, new.shape, old.shape, strict=True):
            symbol: Any = cast(Any, size).node.expr if isinstance(size, torch.SymInt) else None
            if extent != was and symbol in ranges:
                low, high = ranges[symbol].lower, ranges[symbol].upper
                ranges[symbol] = ValueRanges(min(int(low), was) if is_general else 2, high)


def _bound_roots(
    program: ExportedProgram, model: torch.nn.Module, inputs: tuple[Any, ...], shapes: Any
) -> None:
    """Set the least value of the symbols of derived axes (`8*n`) as it was asked of `n`.

    Torch starts them at 2, because an extent made of `n` inside may be treated specially where it
    is 0 or 1. Where the trace with all of them at their least is the same program, it is not.
    """
    leaves, spec = pytree.tree_flatten(inputs)
    described = _described(shapes, len(leaves))
    wanted = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in wanted]
    if described is None or len(nodes) != len(leaves):
        return
    ranges = cast(Any, program).range_constraints
    asked: dict[Any, int] = {}
    smallest: list[Any] = []
    for node, example, named in zip(nodes, leaves, described, strict=True):
        derived = {axis: dim for axis, dim in named.items() if hasattr(dim, "fn")}
        shape: list[int] = list(getattr(example, "shape", cast("list[int]", [])))
        for axis, dim in derived.items():
            size = node.meta["val"].shape[axis]
            symbols: Any = size.node.expr.free_symbols if _is_symint(size) else ()
            least = max(int(dim.root.min), 1)
            for symbol in symbols:
                if symbol in ranges and int(ranges[symbol].lower) > least:
                    asked[symbol], shape[axis] = least, int(dim.fn(least))
        smallest.append(_resized(example, shape) if derived else example)
    if asked and _is_general(program, model, pytree.tree_unflatten(smallest, spec)):
        for symbol, least in asked.items():
            ranges[symbol] = ValueRanges(least, ranges[symbol].upper)


def _is_symint(size: object) -> bool:
    return isinstance(size, torch.SymInt)
