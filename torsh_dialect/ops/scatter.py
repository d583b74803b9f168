"""Writing or folding in elements at positions that another operand gives.

Negative positions count from the end. A position outside its axis is an error of the caller.
Updates are folded in one by one, in row-major order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, DenseArrayBase, IntegerAttr, StringAttr
from xdsl.ir import SSAValue
from xdsl.irdl import operand_def, prop_def, var_operand_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, ints_of, str_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, broadcast_shapes, provably_different
from torsh_dialect.errors import InvalidArgumentError, ShapeError
from torsh_dialect.kinds import C, I, Indices, Pick, Read, Scatter
from torsh_dialect.ops.gather import (
    counted,
    element_places,
    indexed_axes,
    indexed_place,
    numpy_index,
    require_indices,
    require_starts,
)
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.ops.join import one_axis
from torsh_dialect.scalar import Scalar, V
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of

REDUCTIONS = ("none", "add", "mul", "max", "min")
"""`none` replaces; `max` and `min` give NaN if one is."""


class Folding(Scatter):
    """A scatter whose property `reduction` says how an update meets what is there.

    C1: `reduction` is one of `REDUCTIONS`. C2: x and updates have one element type.
    """

    reduction = prop_def(StringAttr)

    def mode(self) -> str:
        """The reduction.

        Raises:
            InvalidArgumentError: C1.
        """
        mode = str_of(self.reduction)
        if mode not in REDUCTIONS:
            raise InvalidArgumentError(f"C1: reduction is {mode!r}; use one of {REDUCTIONS}")
        return mode

    def checked(self, x: SSAValue, updates: SSAValue, expected: Sequence[Dim]) -> AnyTensor:
        """The result type, that of x, after checking the updates' type against `expected`."""
        self.mode()
        if element_type(x) != element_type(updates):
            raise ShapeError(f"C2: x is {x.type}, updates are {updates.type}")
        given = dims_of(updates)
        if len(given) != len(expected) or any(map(provably_different, given, expected)):
            raise ShapeError(f"updates have extents {list(given)}, expected {list(expected)}")
        return x.type  # pyright: ignore[reportReturnType]

    def folded(self, x: Array, places: tuple[Any, ...], updates: Array) -> Sequence[Array]:
        """The result in numpy: `ufunc.at` takes repeated places one after the other."""
        result = x.copy()
        if self.mode() == "none":
            result[places] = updates
            return (result,)
        ufuncs = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
        ufuncs[self.mode()].at(result, places, updates)
        return (result,)

    def fold(self, s: Scalar[V], old: V, update: V) -> V:
        if s.dtype(old) == dtypes.i1:
            logical = {"add": s.or_, "mul": s.and_, "max": s.or_, "min": s.and_}
            return update if self.mode() == "none" else logical[self.mode()](old, update)
        folds = {"add": s.add, "mul": s.mul, "max": s.max, "min": s.min}
        return update if self.mode() == "none" else folds[self.mode()](old, update)


@op
class ScatterElementsOp(Folding):
    """x with the update at each place folded in at its index along `axis`.

    result[i, indices[i, j, k], k] meets updates[i, j, k] for axis 1.
    C3: indices are integers, of the rank of x; updates have their extents.

    %r = torsh.scatter_elements %x, %i, %u {axis = 0 : i64, reduction = "none"}
        : (tensor<5x3xf32>, tensor<2x3xi64>, tensor<2x3xf32>) -> tensor<5x3xf32>
    """

    name = "torsh.scatter_elements"
    x = operand_def()
    indices = operand_def()
    updates = operand_def()
    axis = prop_def(IntegerAttr[I64])

    def infer(self) -> Sequence[AnyTensor]:
        require_indices(self.indices)
        if rank_of(self.x) != rank_of(self.indices):
            raise ShapeError(f"C3: x is {self.x.type}, indices are {self.indices.type}")
        one_axis(self.axis, rank_of(self.x))
        return (self.checked(self.x, self.updates, dims_of(self.indices)),)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, indices, updates = args
        if x.ndim == 0:
            (result,) = self.folded(x[None], (indices[None],), updates[None])
            return (result[0],)
        return self.folded(x, element_places(x, indices, one_axis(self.axis, x.ndim)), updates)

    def place(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Pick[I, C]:
        dims, target = dims_of(self.x), list(index)
        if dims:
            axis = one_axis(self.axis, len(dims))
            target[axis] = counted(ix, read(1, index), dims[axis])
        return Pick(0, target)


@op
class ScatterNdOp(Folding):
    """x with slices folded in at index tuples, the last axis of `indices`.

    C3: indices are integers with a static last extent, at most the rank of x; updates have the
    indices' extents without the last, then those of a slice.

    %r = torsh.scatter_nd %x, %i, %u {reduction = "none"}
        : (tensor<5x3xf32>, tensor<2x1xi64>, tensor<2x3xf32>) -> tensor<5x3xf32>
    """

    name = "torsh.scatter_nd"
    x = operand_def()
    indices = operand_def()
    updates = operand_def()

    def infer(self) -> Sequence[AnyTensor]:
        require_indices(self.indices)
        dims, places = dims_of(self.x), dims_of(self.indices)
        depth = places[-1] if places else None
        if not isinstance(depth, int) or depth > len(dims):
            raise ShapeError(f"C3: indices are {self.indices.type} for {self.x.type}")
        return (self.checked(self.x, self.updates, (*places[:-1], *dims[depth:])),)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, indices, updates = args
        if indices.shape[-1] == 0:
            places: tuple[Any, ...] = (np.zeros(indices.shape[:-1], np.int64),)
            (result,) = self.folded(x[None], places, updates)
            return (result[0],)
        return self.folded(x, tuple(np.moveaxis(indices, -1, 0)), updates)

    def place(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Pick[I, C]:
        dims, tuples = dims_of(self.x), rank_of(self.indices) - 1
        depth = dims_of(self.indices)[-1]
        assert isinstance(depth, int)
        places = [counted(ix, read(1, (*index[:tuples], ix.dim(n))), dims[n]) for n in range(depth)]
        return Pick(0, (*places, *index[tuples:]))


@op
class IndexPutOp(Folding):
    """x with updates folded in where `torsh.index` with these `indices` and `axes` would read.

    C3: as for `torsh.index`; updates have the extents that it would give.

    %r = torsh.index_put %x, %i, %u {axes = array<i64: 0>, reduction = "add"}
        : (tensor<5x3xf32>, tensor<2xi64>, tensor<2x3xf32>) -> tensor<5x3xf32>
    """

    name = "torsh.index_put"
    x = operand_def()
    indices = var_operand_def()
    updates = operand_def()
    axes = prop_def(DenseArrayBase[I64])

    def infer(self) -> Sequence[AnyTensor]:
        axes = indexed_axes(self.x, self.indices, self.axes)
        picked = broadcast_shapes(*map(dims_of, self.indices))
        begin = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
        rest = [d for n, d in enumerate(dims_of(self.x)) if n not in axes]
        expected = (*rest[:begin], *picked, *rest[begin:])
        return (self.checked(self.x, self.updates, expected),)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, *indices, updates = args
        return self.folded(x, numpy_index(x.ndim, ints_of(self.axes), indices), updates)

    def place(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Pick[I, C]:
        return Pick(0, indexed_place(ix, index, read, self.x, self.indices, ints_of(self.axes)))


@op
class DynamicUpdateSliceOp(Scatter):
    """x with `updates` written over it from the position that `starts` holds.

    A start is moved so that the updates lie inside.
    C1: `starts` holds one integer for each axis. C2: updates have the element type and rank of x
    and are nowhere larger.

    %r = torsh.dynamic_update_slice %x, %s, %u
        : (tensor<5xf32>, tensor<1xi64>, tensor<2xf32>) -> tensor<5xf32>
    """

    name = "torsh.dynamic_update_slice"
    x = operand_def()
    starts = operand_def()
    updates = operand_def()

    def infer(self) -> Sequence[AnyTensor]:
        dims, sizes = dims_of(self.x), dims_of(self.updates)
        require_starts(self.starts, len(dims))
        larger = any(
            isinstance(a, int) and isinstance(b, int) and a > b
            for a, b in zip(sizes, dims, strict=False)
        )
        same = element_type(self.x) == element_type(self.updates) and len(dims) == len(sizes)
        if larger or not same:
            raise ShapeError(f"C2: updates are {self.updates.type} for {self.x.type}")
        return (self.x.type,)  # pyright: ignore[reportReturnType]

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, starts, updates = args
        begins = np.clip(starts.astype(np.int64), 0, np.subtract(x.shape, updates.shape))
        result = x.copy()
        spans = zip(begins, updates.shape, strict=True)
        result[tuple(slice(b, b + size) for b, size in spans)] = updates
        return (result,)

    def place(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Pick[I, C]:
        rows = zip(index, dims_of(self.x), dims_of(self.updates), strict=True)
        target: list[I] = []
        for axis, (position, extent, size) in enumerate(rows):
            start = ix.min(ix.max(read(1, (ix.dim(axis),)), ix.dim(0)), ix.dim(extent - size))
            target.append(ix.add(start, position))
        return Pick(0, target)

    def fold(self, s: Scalar[V], old: V, update: V) -> V:
        return update
