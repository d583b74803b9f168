"""Known contents of small integer results: how ops compute them from their operands' contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import SSAValue

from torsh_dialect.dims import Dim, product
from torsh_dialect.kinds import Contents, TensorOp, contents_of
from torsh_dialect.types import dims_of

LIMIT = 1024
"""Most elements of a tensor whose contents are followed."""

Symbolic = npt.NDArray[np.object_]
"""An array of extents (integers and expressions)."""


def symbolic(value: SSAValue) -> Symbolic | None:
    """The known contents of an operand in its shape; None where they are unknown."""
    shape = static_shape(value)
    contents = contents_of(value)
    if contents is None or shape is None or product(shape) != len(contents):
        return None
    array = np.empty(len(contents), np.object_)
    array[:] = contents
    return array.reshape(shape)


def static_shape(value: SSAValue) -> tuple[int, ...] | None:
    """The shape of a value as integers; None if an extent is symbolic."""
    dims = dims_of(value)
    whole = tuple(d for d in dims if isinstance(d, int))
    return whole if len(whole) == len(dims) else None


def flattened(array: Any) -> Contents | None:
    """The contents of an array of extents; None if it is too large to follow."""
    array = np.asarray(array, np.object_)
    return None if array.size > LIMIT else tuple(array.reshape(-1))


def mapped1(op: TensorOp, function: Callable[[Dim], Dim]) -> Contents | None:
    """The contents of an element-wise result of one operand."""
    array = symbolic(op.operands[0])
    return None if array is None else tuple(function(x) for x in array.reshape(-1))


def mapped2(op: TensorOp, function: Callable[[Dim, Dim], Dim]) -> Contents | None:
    """The contents of an element-wise result of two operands."""
    arrays = symbolics(op.operands)
    return None if arrays is None else tuple(function(a, b) for a, b in np.broadcast(*arrays))


def moved(op: TensorOp) -> Contents | None:
    """The contents of a result that `evaluate` makes by moving elements."""
    arrays = symbolics(op.operands)
    if arrays is None or any(static_shape(result) is None for result in op.results):
        return None
    return flattened(op.evaluate(*arrays)[0])


def symbolics(values: Sequence[SSAValue]) -> list[Symbolic] | None:
    """The known contents of all operands; None where one is unknown."""
    found: list[Symbolic] = []
    for value in values:
        array = symbolic(value)
        if array is None:
            return None
        found.append(array)
    return found
