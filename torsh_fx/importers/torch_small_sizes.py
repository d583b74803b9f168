"""Sizes 0 and 1 of exported programs.

`torch.export` takes symbolic sizes to be 2 or more: code often treats 0 and 1 specially, and the
rules for sizes become simpler. Torch's own module of a program runs at 0 and 1 nevertheless. Here
the program is followed there without data: where each value has the extents that the program
says, in terms of its symbols, it may run there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import sympy  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx import Interpreter, Node
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from torsh_dialect.dims import Bounds

USUAL = 7
"""A size of the other symbols: no other size that code tests for."""
LEAST = 2
"""What `torch.export` takes as the least size where nothing is said."""


def admit_small(
    ep: ExportedProgram, bounds: Mapping[str, Bounds], sizes: Sequence[int] = (1, 0)
) -> dict[str, Bounds]:
    """The bounds of a program's symbols, those that torch starts at 2 from where it can run.

    Args:
        ep: The program.
        bounds: Of its symbols, as torch says.
        sizes: Those to try, the larger first; none is tried of a symbol that refuses one.
    """
    usual = _usual(ep, bounds)
    least = {symbol: max(1, bounds.get(str(symbol), (0, None))[0]) for symbol in usual}
    smallest = least if _runs(ep, least) else dict(usual)
    raised = [symbol for symbol in usual if bounds.get(str(symbol), (0, None))[0] == LEAST]
    for size in sizes:
        raised = [s for s in raised if _admits(ep, usual, smallest, s, size)]
    found = dict(bounds)
    for symbol, size in smallest.items():
        if str(symbol) in bounds and size < bounds[str(symbol)][0]:
            found[str(symbol)] = (size, bounds[str(symbol)][1])
    return found


def _admits(
    ep: ExportedProgram, usual: Mapping[Any, int], smallest: dict[Any, int], symbol: Any, size: int
) -> bool:
    """Whether a symbol may be so small, alone and with the others small; noted in `smallest`."""
    if not _runs(ep, {**usual, symbol: size}) or not _runs(ep, {**smallest, symbol: size}):
        return False
    smallest[symbol] = size
    return True


def _usual(ep: ExportedProgram, bounds: Mapping[str, Bounds]) -> dict[Any, int]:
    """Sizes at which the program certainly runs: those it was traced with, where it knows them."""
    found: dict[Any, int] = {}
    for symbol, hint in sorted(_symbols(ep).items(), key=str):
        low, high = bounds.get(str(symbol), (0, None))
        size = max(USUAL, low) if hint is None else hint
        found[symbol] = size if high is None else min(size, high)
    return found


def _symbols(ep: ExportedProgram) -> dict[Any, int | None]:
    """The symbols of the extents of inputs, with the sizes that they were traced with."""
    values = (node.meta.get("val") for node in ep.graph.nodes if node.op == "placeholder")
    sizes = (size for v in values if isinstance(v, torch.Tensor) for size in v.shape)
    found: dict[Any, int | None] = {}
    for node in (cast(Any, size).node for size in sizes if isinstance(size, torch.SymInt)):
        for symbol in node.expr.free_symbols:
            hint: Any = node.hint if node.expr == symbol else None
            found[symbol] = found.get(symbol) or (int(hint) if isinstance(hint, int) else None)
    return found


def _runs(ep: ExportedProgram, sizes: Mapping[Any, int]) -> bool:
    """Whether all values have the extents that the program says, where symbols have `sizes`."""
    follower = Follower(ep.graph_module, sizes)
    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    try:
        with mode, torch.no_grad():
            inputs = [
                _sized(node.meta.get("val"), sizes)
                for node in ep.graph.nodes
                if node.op == "placeholder"
            ]
            follower.run(*inputs)
    except Exception:  # torch names many; the program cannot be followed there
        return False
    return True


class Follower(Interpreter):
    """Runs a graph on tensors without data and compares their extents with those it says.

    Args:
        module: The graph.
        sizes: Of its symbols.
    """

    def __init__(self, module: torch.fx.GraphModule, sizes: Mapping[Any, int]):
        super().__init__(module)
        self._sizes = sizes

    def run_node(self, n: Node) -> Any:
        """The value of a node.

        Raises:
            ValueError: It is not what the program says.
        """
        value = super().run_node(n)
        said = pytree.tree_leaves(n.meta.get("val"))
        for expected, found in zip(said, pytree.tree_leaves(value), strict=False):
            if not all(_agree(a, b, self._sizes) for a, b in _pairs(expected, found)):
                raise ValueError(f"{n.name} is {found}, not {expected}")
        return value


def _pairs(expected: Any, found: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(expected, torch.Tensor):
        return zip(expected.shape, found.shape, strict=True)
    return [(expected, found)]


def _agree(expected: Any, found: Any, sizes: Mapping[Any, int]) -> bool:
    """Whether a number is what was said; what only the data say, is not known."""
    value = _evaluated(expected, sizes)
    return value is None or not isinstance(found, int) or value == found


def _evaluated(size: Any, sizes: Mapping[Any, int]) -> int | None:
    if not isinstance(size, torch.SymInt):
        return size if isinstance(size, int) else None
    known = {symbol: sympy.Integer(number) for symbol, number in sizes.items()}
    number: Any = cast(Any, size).node.expr.xreplace(known)
    return int(number) if number.is_Integer else None


def _sized(value: Any, sizes: Mapping[Any, int]) -> Any:
    """An input of the extents that the symbols give it."""
    if not isinstance(value, torch.Tensor):
        return _evaluated(value, sizes) if isinstance(value, torch.SymInt) else value
    shape = [_evaluated(size, sizes) for size in value.shape]
    return torch.empty(cast("list[int]", shape), dtype=value.dtype, device=value.device)
