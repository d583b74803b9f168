"""Which extents the constant places of an op need: `x[:, 5]` needs six columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from xdsl.ir import OpResult, SSAValue

from lowering.program.relations import Relation
from torsh_dialect.attributes import Array, extents_of, int_of, ints_of
from torsh_dialect.dims import Dim
from torsh_dialect.errors import TorshError
from torsh_dialect.kinds import TensorOp, contents_of
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.gather import GatherElementsOp, GatherNdOp, GatherOp, IndexOp
from torsh_dialect.ops.join import one_axis
from torsh_dialect.ops.movement import (
    BroadcastToOp,
    ReshapeOp,
    SliceOp,
    SqueezeOp,
    TransposeOp,
    UnsqueezeOp,
)
from torsh_dialect.ops.scatter import IndexPutOp, ScatterElementsOp, ScatterNdOp
from torsh_dialect.ops.select import CastOp
from torsh_dialect.types import dims_of

MOVES = (CastOp, ReshapeOp, SqueezeOp, UnsqueezeOp, TransposeOp)
"""Ops of one operand whose reference gives the same integers in another place or type."""


class Constants:
    """Integers that a program holds.

    Args:
        weights: The arrays of the program's weights by name.
    """

    def __init__(self, weights: Mapping[str, Array]):
        self._weights = weights

    def of(self, value: SSAValue) -> Array | None:
        """The value as an array of integers; None where it depends on inputs."""
        if not isinstance(value, OpResult):
            return None
        op = value.op
        if isinstance(op, WeightOp):
            return self._weights.get(op.id.data)
        if isinstance(op, ConstantOp):
            return op.evaluate()[0]
        if isinstance(op, BroadcastToOp):
            return self.of(op.x)  # the same integers, some of them more often
        if isinstance(op, MOVES):
            array = self.of(op.operands[0])
            return None if array is None else self._moved(op, array)
        known = contents_of(value)
        if known is None or not all(isinstance(entry, int) for entry in known):
            return None
        return np.array(known, np.int64).reshape([d for d in dims_of(value) if isinstance(d, int)])

    @staticmethod
    def _moved(op: TensorOp, array: Array) -> Array | None:
        try:
            return op.evaluate(array)[0]
        except (TorshError, ValueError):
            return None  # broadcast before, which kept its shape


def places_read(op: TensorOp, constants: Constants) -> Iterator[Relation]:
    """What an op's constant places ask of the extents of the operand that it reads or writes."""
    for kinds, rule in RULES.items():
        if isinstance(op, kinds):
            yield from rule(op, constants)


def _sliced(op: SliceOp, constants: Constants) -> Iterator[Relation]:
    rows = (extents_of(op.starts), extents_of(op.sizes), ints_of(op.steps), dims_of(op.x))
    for start, size, step, extent in zip(*rows, strict=True):
        if not isinstance(size, int) or size == 0:
            continue
        if isinstance(start, int):
            yield Relation(max(start, start + (size - 1) * step) + 1, "le", extent)
        elif isinstance(back := extent - start, int):  # counted from the end
            yield Relation(max(back, back - (size - 1) * step), "le", extent)


def _along_axis(op: Any, constants: Constants) -> Iterator[Relation]:
    if dims := dims_of(op.x):
        yield from _inside(constants.of(op.indices), dims[one_axis(op.axis, len(dims))])


def _tuples(op: Any, constants: Constants) -> Iterator[Relation]:
    indices = constants.of(op.indices)
    if indices is None or not indices.ndim:
        return
    batch = int_of(op.batch_dims) if isinstance(op, GatherNdOp) else 0
    extents = dims_of(op.x)[batch : batch + indices.shape[-1]]
    for column, extent in enumerate(extents):
        yield from _inside(indices[..., column], extent)


def _indexed(op: Any, constants: Constants) -> Iterator[Relation]:
    for axis, index in zip(ints_of(op.axes), op.indices, strict=True):
        yield from _inside(constants.of(index), dims_of(op.x)[axis])


def _inside(indices: Array | None, extent: Dim) -> Iterator[Relation]:
    """Indices lie in -extent..extent-1."""
    if indices is not None and indices.size:
        yield Relation(max(int(indices.max()) + 1, -int(indices.min())), "le", extent)


RULES: Mapping[tuple[type[TensorOp], ...], Callable[[Any, Constants], Iterator[Relation]]] = {
    (SliceOp,): _sliced,
    (GatherOp, GatherElementsOp, ScatterElementsOp): _along_axis,
    (GatherNdOp, ScatterNdOp): _tuples,
    (IndexOp, IndexPutOp): _indexed,
}
"""What each op reads or writes where constants say."""
