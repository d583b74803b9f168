"""Movement with a skewed index map: diagonals, triangles, sliding windows, strided views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, DenseArrayBase, IntegerAttr
from xdsl.irdl import operand_def, prop_def

from torsh_dialect.attributes import Array, bool_of, extents_of, int_of, ints_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, floordiv, maximum, minimum, product
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import C, I, Indices, Movement, Pick
from torsh_dialect.ops.join import one_axis
from torsh_dialect.ops.movement import fixed, unflat_index
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, rank_of, tensor


@op
class DiagonalOp(Movement):
    """The elements x[.., i, .., i + offset, ..] of axes `axis1` and `axis2`, in a new last axis.

    C1: the axes differ.

    %r = torsh.diagonal %x {offset = 0 : i64, axis1 = 0 : i64, axis2 = 1 : i64}
        : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.diagonal"
    x = operand_def()
    offset = prop_def(IntegerAttr[I64])
    axis1 = prop_def(IntegerAttr[I64])
    axis2 = prop_def(IntegerAttr[I64])

    def axes(self) -> tuple[int, int]:
        """Both axes, normalised.

        Raises:
            ShapeError: C1.
        """
        rank = rank_of(self.x)
        first, second = one_axis(self.axis1, rank), one_axis(self.axis2, rank)
        if first == second or rank < 2:
            raise ShapeError(f"C1: axes {first} and {second} of rank {rank} span no diagonal")
        return first, second

    def infer(self) -> Sequence[AnyTensor]:
        (first, second), dims, offset = self.axes(), dims_of(self.x), int_of(self.offset)
        rows = dims[first] + min(offset, 0)
        columns = dims[second] - max(offset, 0)
        length = maximum(minimum(rows, columns), 0)
        rest = [d for n, d in enumerate(dims) if n not in (first, second)]
        return (tensor(element_type(self.x), (*rest, length)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.diagonal(args[0], int_of(self.offset), *self.axes()).copy(),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        (first, second), offset = self.axes(), int_of(self.offset)
        rest, along = iter(index[:-1]), index[-1]
        places = {
            first: ix.add(along, ix.dim(-offset)) if offset < 0 else along,
            second: ix.add(along, ix.dim(offset)) if offset > 0 else along,
        }
        source = [places[n] if n in places else next(rest) for n in range(rank_of(self.x))]
        return (Pick(0, source),)


@op
class DiagEmbedOp(Movement):
    """A square of zeros in axes `axis1` and `axis2` of the result, its diagonal x's last axis.

    C1: x has an axis, and the axes differ.

    %r = torsh.diag_embed %x {offset = 0 : i64, axis1 = 0 : i64, axis2 = 1 : i64}
        : (tensor<2xf32>) -> tensor<2x2xf32>
    """

    name = "torsh.diag_embed"
    x = operand_def()
    offset = prop_def(IntegerAttr[I64])
    axis1 = prop_def(IntegerAttr[I64])
    axis2 = prop_def(IntegerAttr[I64])

    def axes(self) -> tuple[int, int]:
        """Both axes of the result, normalised.

        Raises:
            ShapeError: C1.
        """
        rank = rank_of(self.x) + 1
        first, second = one_axis(self.axis1, rank), one_axis(self.axis2, rank)
        if first == second or rank < 2:
            raise ShapeError(f"C1: axes {first} and {second} of rank {rank} span no diagonal")
        return first, second

    def infer(self) -> Sequence[AnyTensor]:
        axes, dims = self.axes(), dims_of(self.x)
        side = dims[-1] + abs(int_of(self.offset))
        rest = iter(dims[:-1])
        target = [side if n in axes else next(rest) for n in range(len(dims) + 1)]
        return (tensor(element_type(self.x), target),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, offset = args[0], int_of(self.offset)
        side = x.shape[-1] + abs(offset)
        square = np.zeros((*x.shape[:-1], side, side), x.dtype)
        steps: Any = np.indices((x.shape[-1],))[0]
        square[..., steps - min(offset, 0), steps + max(offset, 0)] = x
        return (np.moveaxis(square, (-2, -1), self.axes()),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        (first, second), offset = self.axes(), int_of(self.offset)
        row, column = index[first], index[second]
        on = ix.eq(ix.add(row, ix.dim(offset)), column)
        along = ix.sub(row, ix.dim(-offset)) if offset < 0 else row
        within = ix.both(ix.ge(along, ix.dim(0)), ix.lt(along, ix.dim(dims_of(self.x)[-1])))
        rest = [i for n, i in enumerate(index) if n not in (first, second)]
        return (Pick(0, (*rest, along), ix.both(on, within)),)


@op
class TriangleOp(Movement):
    """x with zeros below (`upper`) or above the k-th diagonal of the last two axes.

    C1: x has two axes. C2: `k` is one extent expression.

    %r = torsh.triangle %x {upper = true, k = #torsh.dims<[0]>}
        : (tensor<2x3xf32>) -> tensor<2x3xf32>
    """

    name = "torsh.triangle"
    x = operand_def()
    upper = prop_def(BoolAttr)
    k = prop_def(DimsAttr)

    def infer(self) -> Sequence[AnyTensor]:
        if rank_of(self.x) < 2 or len(extents_of(self.k)) != 1:
            raise ShapeError(f"C1: {self.x.type} has no last two axes")
        return (tensor(element_type(self.x), dims_of(self.x)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        (k,) = fixed(self.k)
        return (np.triu(args[0], k) if bool_of(self.upper) else np.tril(args[0], k),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        diagonal = ix.add(index[-2], ix.dim(extents_of(self.k)[0]))
        kept = ix.ge(index[-1], diagonal) if bool_of(self.upper) else ix.ge(diagonal, index[-1])
        return (Pick(0, index, kept),)


@op
class WindowsOp(Movement):
    """All runs of `size` elements along `axis`, `step` apart, each in a new last axis.

    C1: a run fits into the axis; the step is positive.

    %r = torsh.windows %x {axis = 0 : i64, size = 3 : i64, step = 1 : i64}
        : (tensor<5xf32>) -> tensor<3x3xf32>
    """

    name = "torsh.windows"
    x = operand_def()
    axis = prop_def(IntegerAttr[I64])
    size = prop_def(IntegerAttr[I64])
    step = prop_def(IntegerAttr[I64])

    def infer(self) -> Sequence[AnyTensor]:
        dims = dims_of(self.x)
        size, step = int_of(self.size), int_of(self.step)
        if not dims:
            return (tensor(element_type(self.x), (size,)),)
        axis = one_axis(self.axis, len(dims))
        extent = dims[axis]
        if step < 1 or (isinstance(extent, int) and size > extent):
            raise ShapeError(f"C1: runs of {size}, {step} apart, in an axis of {extent}")
        count = floordiv(extent - size, step) + 1
        target = (*dims[:axis], count, *dims[axis + 1 :], size)
        return (tensor(element_type(self.x), target),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = args[0]
        if x.ndim == 0:
            return (np.broadcast_to(x, (int_of(self.size),)),)
        axis = one_axis(self.axis, x.ndim)
        runs = np.lib.stride_tricks.sliding_window_view(x, int_of(self.size), axis)
        return (np.take(runs, range(0, runs.shape[axis], int_of(self.step)), axis),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        if rank_of(self.x) == 0:
            return (Pick(0, ()),)
        source = list(index[:-1])
        axis = one_axis(self.axis, len(source))
        source[axis] = ix.add(ix.mul(source[axis], ix.dim(int_of(self.step))), index[-1])
        return (Pick(0, source),)


@op
class AsStridedOp(Movement):
    """Element i of the result is x's row-major element offset + sum(i * strides).

    C1: one stride for each extent of `target`. C2: every element lies in x.

    %r = torsh.as_strided %x {target = #torsh.dims<[2, 2]>, strides = array<i64: 1, 1>, offset = #torsh.dims<[0]>}
        : (tensor<3xf32>) -> tensor<2x2xf32>
    """  # noqa: E501

    name = "torsh.as_strided"
    x = operand_def()
    target = prop_def(DimsAttr)
    strides = prop_def(DenseArrayBase[I64])
    offset = prop_def(DimsAttr)

    def infer(self) -> Sequence[AnyTensor]:
        target, strides = extents_of(self.target), ints_of(self.strides)
        if len(target) != len(strides):
            raise ShapeError(f"C1: {len(strides)} strides for {len(target)} extents")
        last: Dim = extents_of(self.offset)[0]
        for extent, stride in zip(target, strides, strict=True):
            last = last + (extent - 1) * stride
        beyond = last - product(dims_of(self.x)) + 1
        if 0 not in target and isinstance(beyond, int) and beyond > 0:
            raise ShapeError(f"C2: element {last} is {beyond} behind the last of {self.x.type}")
        return (tensor(element_type(self.x), target),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        target, (offset,) = fixed(self.target), fixed(self.offset)
        places: Any = np.full(target, offset, np.int64)
        grid = np.indices(target, np.int64)
        for steps, stride in zip(grid, ints_of(self.strides), strict=True):
            places = places + steps * stride
        return (np.asarray(args[0].reshape(-1)[places]),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        flat = ix.dim(extents_of(self.offset)[0])
        for position, stride in zip(index, ints_of(self.strides), strict=True):
            flat = ix.add(flat, ix.mul(position, ix.dim(stride)))
        return (Pick(0, unflat_index(ix, flat, dims_of(self.x))),)
