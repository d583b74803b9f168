"""Python floats that Dynamo made inputs of a graph.

With `torch.compile(dynamic=True)`, or after a second value, Dynamo passes a float as a tensor of
one number, and its graph reads it with `item`. Arithmetic may go on with such a number; what
decides by it (the probability of a dropout, the momentum of a norm) needs its value. As the
inductor backend does (`torch/fx/passes/_tensorify_python_scalars.py`), the latter are made
constants, which Dynamo guards: its analysis is started again with their names noted.
"""

from __future__ import annotations

import operator
from typing import Any, cast

import torch
from torch.fx import Graph, Node

_OPERATORS = "add sub mul truediv neg iadd isub imul itruediv"
_METHODS = "add sub mul div add_ sub_ mul_ div_"
ARITHMETIC: frozenset[Any] = frozenset(
    {
        *(getattr(operator, name) for name in _OPERATORS.split()),
        *(torch.add, torch.sub, torch.mul, torch.div),
        *_METHODS.split(),
    }
)
"""Functions and methods of a tensor or number and a number whose result follows any value."""


def specialize_floats(graph: Graph) -> None:
    """Have Dynamo trace again where an input float is more than an operand of arithmetic.

    Raises:
        TensorifyScalarRestartAnalysis: There is one; Dynamo catches it.
    """
    from torch._dynamo.exc import TensorifyScalarRestartAnalysis
    from torch._dynamo.symbolic_convert import TensorifyState

    names = {
        name
        for node in graph.nodes
        if node.op == "placeholder" and (name := _float_symbol(node)) is not None
        if not all(_follows(user) for read in node.users for user in read.users)
    }
    new = [name for name in sorted(names) if not TensorifyState.should_specialize(name)]
    for name in new:
        TensorifyState.specialize(name)
    if new:
        raise TensorifyScalarRestartAnalysis


def _float_symbol(node: Node) -> str | None:
    """The symbol of the float that a placeholder carries, if only `item` reads it."""
    memo: Any = getattr(node.meta.get("example_value"), "item_memo", None)
    number = isinstance(memo, torch.SymFloat)
    if not number or any(user.target != "item" for user in node.users):
        return None
    inner: Any = cast(Any, memo).node
    return getattr(inner._expr, "name", None)


def _follows(node: Node) -> bool:
    """Whether a use of a number is arithmetic, and all uses of a number that it gives."""
    if node.op == "output":
        return True
    if node.target not in ARITHMETIC:
        return False
    value = node.meta.get("example_value")
    return isinstance(value, torch.Tensor) or all(_follows(user) for user in node.users)
