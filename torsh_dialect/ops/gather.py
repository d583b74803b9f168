"""Reading elements at positions that another operand gives. Negative positions count from the end.

A position outside its axis is an error of the caller: the reference raises, lowering checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, DenseArrayBase, IntegerAttr
from xdsl.ir import SSAValue
from xdsl.irdl import (
    operand_def,
    prop_def,
    var_operand_def,
)

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, extents_of, int_of, ints_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, broadcast_shapes, conflict
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import (
    C,
    Contents,
    Gather,
    I,
    Indices,
    Pick,
    Read,
    contents_of,
    normal_axes,
)
from torsh_dialect.ops.half import where
from torsh_dialect.ops.join import one_axis
from torsh_dialect.ops.known import symbolic
from torsh_dialect.ops.movement import fixed
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, rank_of, tensor


def require_indices(value: SSAValue) -> None:
    """Refuse indices that are not integers.

    Raises:
        ShapeError: The element type is another.
    """
    if not dtypes.is_integer(element_type(value)):
        raise ShapeError(f"indices are {element_type(value)}, not integers")


def counted(ix: Indices[I, C], place: I, extent: Dim) -> I:
    """A place that counts from the end where it is negative."""
    return ix.select(ix.lt(place, ix.dim(0)), ix.add(place, ix.dim(extent)), place)


@op
class GatherOp(Gather):
    """Whole slices of x along `axis`, one for each index: the axis becomes the indices' axes.

    result[i.., j.., k..] = x[i.., indices[j..], k..].
    C1: indices are integers.

    %r = torsh.gather %x, %i {axis = 0 : i64} : (tensor<5x3xf32>, tensor<2xi64>) -> tensor<2x3xf32>
    """

    name = "torsh.gather"
    x = operand_def()
    indices = operand_def()
    axis = prop_def(IntegerAttr[I64])

    def infer(self) -> Sequence[AnyTensor]:
        require_indices(self.indices)
        dims = dims_of(self.x)
        if not dims:
            raise ShapeError("C1: a scalar has no axis to gather along")
        axis = one_axis(self.axis, len(dims))
        return (
            tensor(element_type(self.x), (*dims[:axis], *dims_of(self.indices), *dims[axis + 1 :])),
        )

    def evaluate(self, *args: Array) -> Sequence[Array]:
        indices: Any = args[1]
        return (np.take(args[0], indices, one_axis(self.axis, args[0].ndim)),)

    def contents(self) -> Contents | None:
        array, indices = symbolic(self.x), contents_of(self.indices)
        if array is None or indices is None or array.ndim != 1:
            return None
        whole = [i for i in indices if isinstance(i, int) and -array.size <= i < array.size]
        return tuple(array[whole]) if len(whole) == len(indices) else None

    def pick(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Sequence[Pick[I, C]]:
        dims = dims_of(self.x)
        axis, depth = one_axis(self.axis, len(dims)), rank_of(self.indices)
        place = counted(ix, read(1, index[axis : axis + depth]), dims[axis])
        return (Pick(0, (*index[:axis], place, *index[axis + depth :])),)


@op
class GatherElementsOp(Gather):
    """One element of x for each index: at the index along `axis`, at its own place along others.

    result[i, j, k] = x[i, indices[i, j, k], k] for axis 1.
    C1: indices are integers and have the rank of x. C2: along the other axes there are no more
    indices than elements.

    %r = torsh.gather_elements %x, %i {axis = 0 : i64}
        : (tensor<5x3xf32>, tensor<2x3xi64>) -> tensor<2x3xf32>
    """

    name = "torsh.gather_elements"
    x = operand_def()
    indices = operand_def()
    axis = prop_def(IntegerAttr[I64])

    def infer(self) -> Sequence[AnyTensor]:
        require_indices(self.indices)
        if rank_of(self.x) != rank_of(self.indices):
            raise ShapeError(f"C1: x is {self.x.type}, indices are {self.indices.type}")
        axis = one_axis(self.axis, rank_of(self.x))
        for n, (own, count) in enumerate(zip(dims_of(self.x), dims_of(self.indices), strict=True)):
            if n != axis and isinstance(own, int) and isinstance(count, int) and count > own:
                raise ShapeError(f"C2: {count} indices along axis {n}, whose extent is {own}")
        return (tensor(element_type(self.x), dims_of(self.indices)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, indices = args
        if x.ndim == 0:
            return (x,)
        return (x[element_places(x, indices, one_axis(self.axis, x.ndim))],)

    def pick(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Sequence[Pick[I, C]]:
        dims, source = dims_of(self.x), list(index)
        if dims:
            axis = one_axis(self.axis, len(dims))
            source[axis] = counted(ix, read(1, index), dims[axis])
        return (Pick(0, source),)


def element_places(x: Array, indices: Any, axis: int) -> tuple[Any, ...]:
    """The numpy index of each element that `gather_elements` names."""
    places: list[Any] = list(np.indices(indices.shape, sparse=True))  # pyright: ignore[reportUnknownArgumentType]
    places[axis] = where(indices < 0, indices + x.shape[axis], indices)
    return tuple(places)


@op
class GatherNdOp(Gather):
    """Slices of x at index tuples, the last axis of `indices`, after `batch_dims` shared axes.

    C1: indices are integers with a static last extent, at most the rank of x less batch_dims.
    C2: the shared axes have equal extents.

    %r = torsh.gather_nd %x, %i {batch_dims = 0 : i64}
        : (tensor<5x3xf32>, tensor<2x1xi64>) -> tensor<2x3xf32>
    """

    name = "torsh.gather_nd"
    x = operand_def()
    indices = operand_def()
    batch_dims = prop_def(IntegerAttr[I64])

    def infer(self) -> Sequence[AnyTensor]:
        require_indices(self.indices)
        batch, dims, places = int_of(self.batch_dims), dims_of(self.x), dims_of(self.indices)
        depth = places[-1] if places else None
        if not isinstance(depth, int) or batch + depth > len(dims) or batch >= len(places):
            raise ShapeError(f"C1: indices are {self.indices.type} for {self.x.type}")
        if any(conflict(a, b) for a, b in zip(dims[:batch], places, strict=False)):
            raise ShapeError(f"C2: batches of {self.indices.type} are not those of {self.x.type}")
        return (tensor(element_type(self.x), (*places[:-1], *dims[batch + depth :])),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, indices = args
        batch = int_of(self.batch_dims)
        grid = np.indices(indices.shape[:-1], sparse=True)[:batch]
        tuples: Any = np.moveaxis(indices, -1, 0)
        return (x[(*grid, *tuples)],)

    def pick(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Sequence[Pick[I, C]]:
        batch, dims = int_of(self.batch_dims), dims_of(self.x)
        tuples = rank_of(self.indices) - 1
        depth = dims_of(self.indices)[-1]
        assert isinstance(depth, int)
        places = [
            counted(ix, read(1, (*index[:tuples], ix.dim(n))), dims[batch + n])
            for n in range(depth)
        ]
        return (Pick(0, (*index[:batch], *places, *index[tuples:])),)


@op
class IndexOp(Gather):
    """Advanced indexing: `indices[i]` picks along `axes[i]`, all broadcast against each other.

    The broadcast axes stand where the first indexed axis was if the indexed axes are adjacent,
    else in front, as in numpy.
    C1: as many index tensors as axes; integers. C2: axes ascend.

    %r = torsh.index %x, %i, %j {axes = array<i64: 0, 1>}
        : (tensor<5x3xf32>, tensor<2xi64>, tensor<2xi64>) -> tensor<2xf32>
    """

    name = "torsh.index"
    x = operand_def()
    indices = var_operand_def()
    axes = prop_def(DenseArrayBase[I64])

    def infer(self) -> Sequence[AnyTensor]:
        dims, axes = dims_of(self.x), indexed_axes(self.x, self.indices, self.axes)
        picked = broadcast_shapes(*map(dims_of, self.indices))
        place = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
        rest = [d for n, d in enumerate(dims) if n not in axes]
        return (tensor(element_type(self.x), (*rest[:place], *picked, *rest[place:])),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (args[0][numpy_index(args[0].ndim, ints_of(self.axes), args[1:])],)

    def pick(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Sequence[Pick[I, C]]:
        return (Pick(0, indexed_place(ix, index, read, self.x, self.indices, ints_of(self.axes))),)


def indexed_axes(
    x: SSAValue, indices: Sequence[SSAValue], axes: DenseArrayBase[I64]
) -> tuple[int, ...]:
    """The checked axes of `torsh.index` and `torsh.index_put`.

    Raises:
        ShapeError: C1 or C2 is broken.
    """
    for index in indices:
        require_indices(index)
    given = ints_of(axes)
    if len(given) != len(indices) or not given:
        raise ShapeError(f"C1: {len(indices)} index tensors for {len(given)} axes")
    if normal_axes(given, rank_of(x)) != given:
        raise ShapeError(f"C2: axes {list(given)} do not ascend from 0")
    return given


def indexed_place(
    ix: Indices[I, C],
    index: Sequence[I],
    read: Read[I],
    x: SSAValue,
    indices: Sequence[SSAValue],
    axes: Sequence[int],
) -> Sequence[I]:
    """The place in x that `index` of the indexed view of x means; index operands start at 1."""
    dims = dims_of(x)
    picked = len(broadcast_shapes(*map(dims_of, indices)))
    begin = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
    shared = index[begin : begin + picked]
    rest = iter((*index[:begin], *index[begin + picked :]))
    places: dict[int, I] = {}
    for number, (axis, value) in enumerate(zip(axes, indices, strict=True), 1):
        extents = dims_of(value)
        own = shared[picked - len(extents) :]
        at = [ix.min(i, ix.dim(d - 1)) for i, d in zip(own, extents, strict=True)]
        places[axis] = counted(ix, read(number, at), dims[axis])
    return [places[n] if n in places else next(rest) for n in range(len(dims))]


def numpy_index(rank: int, axes: Sequence[int], indices: Sequence[Array]) -> tuple[Any, ...]:
    """The numpy index with arrays at `axes` and full slices elsewhere."""
    index: list[Any] = [slice(None)] * rank
    for axis, array in zip(axes, indices, strict=True):
        index[axis] = array
    return tuple(index)


@op
class DynamicSliceOp(Gather):
    """`sizes[i]` consecutive elements of each axis from the position that `starts` holds.

    A start is moved so that the slice lies inside.
    C1: `starts` holds one integer for each axis. C2: no size exceeds its axis.

    %r = torsh.dynamic_slice %x, %s {sizes = #torsh.dims<[2]>}
        : (tensor<5xf32>, tensor<1xi64>) -> tensor<2xf32>
    """

    name = "torsh.dynamic_slice"
    x = operand_def()
    starts = operand_def()
    sizes = prop_def(DimsAttr)

    def infer(self) -> Sequence[AnyTensor]:
        dims, sizes = dims_of(self.x), extents_of(self.sizes)
        require_starts(self.starts, len(dims))
        if len(sizes) != len(dims) or any(map(_exceeds, sizes, dims)):
            raise ShapeError(f"C2: sizes {list(sizes)} of extents {list(dims)}")
        return (tensor(element_type(self.x), sizes),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, sizes = args[0], fixed(self.sizes)
        limits = np.subtract(x.shape, sizes)
        begins = np.clip(args[1].astype(np.int64), 0, limits)
        return (x[tuple(slice(b, b + s) for b, s in zip(begins, sizes, strict=True))],)

    def pick(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Sequence[Pick[I, C]]:
        rows = zip(index, dims_of(self.x), extents_of(self.sizes), strict=True)
        source: list[I] = []
        for axis, (position, extent, size) in enumerate(rows):
            start = ix.min(ix.max(read(1, (ix.dim(axis),)), ix.dim(0)), ix.dim(extent - size))
            source.append(ix.add(start, position))
        return (Pick(0, source),)


def require_starts(starts: SSAValue, rank: int) -> None:
    """Refuse start positions that are not one integer for each axis (C1).

    Raises:
        ShapeError: They are not.
    """
    require_indices(starts)
    if rank_of(starts) != 1 or conflict(dims_of(starts)[0], rank):
        raise ShapeError(f"C1: starts are {starts.type} for a tensor of rank {rank}")


def _exceeds(size: Dim, extent: Dim) -> bool:
    return isinstance(size, int) and isinstance(extent, int) and size > extent


@op
class OneHotOp(Gather):
    """`on` where the index equals the position along the new axis `axis`, else `off`.

    An index outside 0..depth-1 after counting negative ones from the end gives `off` throughout.
    C1: indices are integers; `off` and `on` are scalars of one type.

    %r = torsh.one_hot %i, %off, %on {axis = -1 : i64, depth = #torsh.dims<[4]>}
        : (tensor<3xi64>, tensor<f32>, tensor<f32>) -> tensor<3x4xf32>
    """

    name = "torsh.one_hot"
    indices = operand_def()
    off = operand_def()
    on = operand_def()
    axis = prop_def(IntegerAttr[I64])
    depth = prop_def(DimsAttr)

    def infer(self) -> Sequence[AnyTensor]:
        require_indices(self.indices)
        scalar = rank_of(self.off) == rank_of(self.on) == 0
        if element_type(self.off) != element_type(self.on) or not scalar:
            raise ShapeError(f"C1: off is {self.off.type}, on is {self.on.type}")
        dims = list(dims_of(self.indices))
        dims.insert(one_axis(self.axis, len(dims) + 1), extents_of(self.depth)[0])
        return (tensor(element_type(self.on), dims),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        indices: Any = args[0]
        (depth,) = fixed(self.depth)
        axis = one_axis(self.axis, indices.ndim + 1)
        places = where(indices < 0, indices + depth, indices)
        steps = np.arange(depth).reshape([-1 if n == axis else 1 for n in range(indices.ndim + 1)])
        return (where(np.expand_dims(places, axis) == steps, args[2], args[1]),)

    def pick(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Sequence[Pick[I, C]]:
        axis = one_axis(self.axis, len(index))
        place = read(0, (*index[:axis], *index[axis + 1 :]))
        hit = ix.eq(counted(ix, place, extents_of(self.depth)[0]), index[axis])
        return (Pick(2, (), hit), Pick(1, ()))
