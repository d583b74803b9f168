"""Pooling: maximum, average and p-norm over windows, whole axes or adaptive bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, DenseArrayBase, IntegerAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect.attributes import Array, bool_of, extents_of, ints_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import Dim, divide_exact
from torsh_dialect.dtypes import dtype_of_numpy, i64, is_float
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Geometry, Window
from torsh_dialect.ops.reference import Real, narrow, positions, wide
from torsh_dialect.ops.window import (
    SlidingWindow,
    every,
    padded,
    static,
    window_count,
    windows,
)
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


class Pool(SlidingWindow):
    """A window of extents `kernel` over the spatial axes of x, one value for each."""

    x = operand_def()
    kernel = prop_def(DenseArrayBase[I64])
    ceil_mode = opt_prop_def(BoolAttr)
    y = result_def()

    def geometry(self) -> Geometry:
        return self.slide(ints_of(self.kernel), self.split(self.x)[2])

    def result_dims(self) -> tuple[Dim, ...]:
        """The extents of the result."""
        if rank_of(self.x) < 3:
            raise ShapeError(f"pooling needs a spatial axis, got {list(dims_of(self.x))} (C1)")
        batch, channels, spatial = self.split(self.x)
        g, ceil = self.geometry(), bool_of(self.ceil_mode)
        counts = [window_count(g, axis, n, ceil_mode=ceil) for axis, n in enumerate(spatial)]
        return self.joined(batch, channels, counts)

    def infer(self) -> Sequence[AnyTensor]:
        return (tensor(element_type(self.x), self.result_dims()),)

    def view(self, x: Array, fill: float) -> tuple[Any, Geometry, list[int]]:
        """Windows [N, C, *counts, *kernel] of x ([N, C, *S]), geometry and counts."""
        g, ceil = self.slide(ints_of(self.kernel), x.shape[2:]), bool_of(self.ceil_mode)
        counts = [
            int(str(window_count(g, axis, n, ceil_mode=ceil))) for axis, n in enumerate(x.shape[2:])
        ]
        return windows(padded(x, g, counts, fill), g, counts), g, counts

    def first(self, x: Array) -> Array:
        """`x` with channels second."""
        return np.moveaxis(x, -1, 1) if self.channels_last() else x

    def last(self, y: Array) -> Array:
        """The inverse of `first`."""
        return np.ascontiguousarray(np.moveaxis(y, 1, -1) if self.channels_last() else y)


def _unravelled(flat: Any, shape: Sequence[int]) -> list[Any]:
    """The index along each axis of flat row-major positions."""
    found: list[Any] = []
    for extent in reversed(shape):
        found.insert(0, flat % extent)
        flat = flat // extent
    return found


def lowest(x: Array) -> float:
    """The identity of the maximum: -inf, or the smallest integer."""
    row = dtype_of_numpy(x.dtype)
    return -np.inf if row.kind == "float" else _least(row.bits, row.kind)


def _least(bits: int, kind: str) -> int:
    return 0 if kind == "uint" else -(2 ** (bits - 1))


def _max_windows(op: Pool, x: Array) -> tuple[Any, Any]:
    """Maxima and their flat positions in the window; NaN wins, the first of equals too."""
    x = wide(x)
    view, g, _ = op.view(x, lowest(x))
    rank = len(g.kernel)
    flat = view.reshape(*view.shape[: 2 + rank], -1)
    best: Any = flat.argmax(axis=-1)
    return np.take_along_axis(flat, best[..., None], -1)[..., 0], best


@op
class MaxPoolOp(Pool):
    """The largest element of each window; padding never wins, NaN does.

    With `ceil_mode` a last window may reach beyond the padding, unless it would start there.

    C1: x has a batch, a channel and at least one spatial axis.
    C2: `kernel` and the entries of the other properties match the spatial axes.

    %r = torsh.max_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>} : (tensor<1x3x8x8xf32>) -> tensor<1x3x4x4xf32>
    """  # noqa: E501

    name = "torsh.max_pool"

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (self.last(narrow(_max_windows(self, self.first(args[0]))[0], args[0])),)


@op
class MaxPoolIndicesOp(Pool):
    """`torsh.max_pool` and, as i64, where each maximum was: its row-major position in the
    unpadded spatial axes of its channel.

    C1: x has a batch, a channel and at least one spatial axis.

    %r, %i = torsh.max_pool_indices %x {kernel = array<i64: 2>} : (tensor<1x3x8xf32>) -> (tensor<1x3x7xf32>, tensor<1x3x7xi64>)
    """  # noqa: E501

    name = "torsh.max_pool_indices"
    y = result_def()
    indices = result_def()
    SPELLED: ClassVar = Spelled()

    def infer(self) -> Sequence[AnyTensor]:
        dims = self.result_dims()
        return tensor(element_type(self.x), dims), tensor(i64, dims)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = self.first(args[0])
        values, best = _max_windows(self, x)
        rows = static(self.slide(ints_of(self.kernel), x.shape[2:]))
        taps = _unravelled(best, [row[0] for row in rows])
        position: Any = np.zeros(best.shape, np.int64)
        for axis, ((_, s, d, b, _), tap) in enumerate(zip(rows, taps, strict=True)):
            start = positions(best.shape[2 + axis]) * s - b
            start = start.reshape(-1, *[1] * (len(rows) - 1 - axis))
            position = position * x.shape[2 + axis] + start + tap * d
        return self.last(narrow(values, args[0])), self.last(position)


@op
class AvgPoolOp(Pool):
    """The mean of each window.

    The divisor is the number of elements inside x or, with `include_pad`, also those in the
    padding (but never those that `ceil_mode` adds beyond it); or `divisor` where given.

    C1: x has a batch, a channel and at least one spatial axis.

    %r = torsh.avg_pool %x {kernel = array<i64: 2, 2>, strides = array<i64: 2, 2>} : (tensor<1x3x8x8xf32>) -> tensor<1x3x4x4xf32>
    """  # noqa: E501

    name = "torsh.avg_pool"
    include_pad = opt_prop_def(BoolAttr)
    divisor = opt_prop_def(IntegerAttr[I64])

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = wide(self.first(args[0]))
        view, g, counts = self.view(x, 0)
        taps = tuple(range(x.ndim, view.ndim))
        total = view.sum(axis=taps)
        if self.divisor is not None:
            return (self.last(narrow(total / self.divisor.value.data, args[0])),)
        return (self.last(narrow(total / self.share(g, x.shape[2:], counts), args[0])),)

    def share(self, g: Geometry, spatial: Sequence[int], counts: Sequence[int]) -> Real:
        """How many elements each window's mean counts, as an array of `counts`."""
        result: Real = np.ones((), np.float64)
        for axis, (k, s, d, b, e) in enumerate(static(g)):
            taps = np.arange(counts[axis])[:, None] * s + np.arange(k) * d - b
            low, high = (-b, spatial[axis] + e) if bool_of(self.include_pad) else (0, spatial[axis])
            result = result[..., None] * ((taps >= low) & (taps < high)).sum(axis=1)
        return result


@op
class LpPoolOp(Pool):
    """The p-norm of each window: (sum of |x|^p)^(1/p), zeros in the padding.

    C1: x has a batch, a channel and at least one spatial axis; p is 1 or more. C2: x is
    floating-point.

    %r = torsh.lp_pool %x {kernel = array<i64: 2>, p = 2 : i64} : (tensor<1x3x8xf32>) -> tensor<1x3x7xf32>
    """  # noqa: E501

    name = "torsh.lp_pool"
    p = prop_def(IntegerAttr[I64])

    def infer(self) -> Sequence[AnyTensor]:
        if not is_float(element_type(self.x)):
            raise ShapeError(f"C2: {element_type(self.x)} is no float type; insert torsh.cast")
        return super().infer()

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = wide(self.first(args[0]))
        view, _, _ = self.view(np.abs(x), 0)
        p = self.p.value.data
        total = (view**p).sum(axis=tuple(range(x.ndim, view.ndim)))
        return (self.last(narrow(total ** (1 / p), args[0])),)


class AdaptivePool(Window):
    """Bins of nearly equal size: bin i of m over n elements is [i*n // m, ceil((i+1)*n / m)).

    C1: x has a batch, a channel and as many spatial axes as `output` has entries.
    """

    x = operand_def()
    output = prop_def(DenseArrayBase[I64])
    y = result_def()

    def geometry(self) -> Geometry:
        """Equal windows, where the bins divide every axis.

        Raises:
            ShapeError: They do not: bins then differ in size.
        """
        spatial, output = dims_of(self.x)[2:], ints_of(self.output)
        kernel: list[Dim] = []
        for extent, bins in zip(spatial, output, strict=True):
            size = divide_exact(extent, bins)
            if size is None:
                raise ShapeError(f"{bins} bins do not divide an axis of {extent}")
            kernel.append(size)
        if not all(isinstance(size, int) for size in kernel):
            raise ShapeError(f"strides {kernel} are not known numbers")
        ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
        strides = tuple(size for size in kernel if isinstance(size, int))
        return Geometry(tuple(kernel), strides, ones, zeros, zeros)

    def infer(self) -> Sequence[AnyTensor]:
        dims, output = dims_of(self.x), ints_of(self.output)
        if len(dims) != len(output) + 2:
            raise ShapeError(f"{len(output)} bins for an input of rank {len(dims)} (C1)")
        return (tensor(element_type(self.x), (*dims[:2], *output)),)

    def bins(self, x: Array):
        """Pairs of a result's spatial index and its bin of x."""
        output = ints_of(self.output)
        for index in every(output):
            where = [
                slice(i * n // m, -(-(i + 1) * n // m))
                for i, n, m in zip(index, x.shape[2:], output, strict=True)
            ]
            yield index, x[(slice(None), slice(None), *where)]


@op
class AdaptiveAvgPoolOp(AdaptivePool):
    """The mean of each adaptive bin.

    C1: x has a batch, a channel and as many spatial axes as `output` has entries.

    %r = torsh.adaptive_avg_pool %x {output = array<i64: 3>} : (tensor<1x2x8xf32>) -> tensor<1x2x3xf32>
    """  # noqa: E501

    name = "torsh.adaptive_avg_pool"

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = wide(args[0])
        y = np.empty((*x.shape[:2], *ints_of(self.output)), x.dtype)
        for index, part in self.bins(x):
            y[(slice(None), slice(None), *index)] = part.mean(axis=tuple(range(2, x.ndim)))
        return (narrow(y, args[0]),)


@op
class AdaptiveMaxPoolOp(AdaptivePool):
    """The largest element of each adaptive bin and its row-major position in the spatial axes.

    C1: x has a batch, a channel and as many spatial axes as `output` has entries.

    %r, %i = torsh.adaptive_max_pool %x {output = array<i64: 3>} : (tensor<1x2x8xf32>) -> (tensor<1x2x3xf32>, tensor<1x2x3xi64>)
    """  # noqa: E501

    name = "torsh.adaptive_max_pool"
    y = result_def()
    indices = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        (y,) = super().infer()
        return y, tensor(i64, dims_of(y))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = wide(args[0])
        shape = (*x.shape[:2], *ints_of(self.output))
        y, indices = np.empty(shape, x.dtype), np.empty(shape, np.int64)
        places = np.arange(np.prod(x.shape[2:])).reshape(1, 1, *x.shape[2:])
        for (index, part), (_, place) in zip(self.bins(x), self.bins(places), strict=True):
            best = part.reshape(*x.shape[:2], -1).argmax(axis=-1)
            at = (slice(None), slice(None), *index)
            y[at] = np.take_along_axis(part.reshape(*x.shape[:2], -1), best[..., None], -1)[..., 0]
            indices[at] = place.reshape(-1)[best]
        return narrow(y, args[0]), indices


@op
class MaxUnpoolOp(Window):
    """Puts each element of x at its row-major position `indices` in otherwise zero spatial axes.

    The positions count within the channel, as `torsh.max_pool_indices` gives them.

    C1: x and indices have equal dims; indices is i64; `output` has an entry for each spatial axis.

    %r = torsh.max_unpool %x, %i {output = #torsh.dims<[8]>} : (tensor<1x2x4xf32>, tensor<1x2x4xi64>) -> tensor<1x2x8xf32>
    """  # noqa: E501

    name = "torsh.max_unpool"
    x = operand_def()
    indices = operand_def()
    output = prop_def(Attribute)
    y = result_def()

    def geometry(self) -> Geometry:
        raise ShapeError("positions are data, not windows")

    def infer(self) -> Sequence[AnyTensor]:
        dims, output = dims_of(self.x), extents_of(self.output)
        if len(dims) != len(output) + 2 or element_type(self.indices) != i64:
            raise ShapeError(f"x {list(dims)}, output {list(output)}: ranks or index type (C1)")
        return (tensor(element_type(self.x), (*dims[:2], *output)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        indices: Any = args[1]
        output = [int(str(d)) for d in extents_of(self.output)]
        y = np.zeros((*x.shape[:2], int(np.prod(output))), x.dtype)
        np.put_along_axis(
            y, indices.reshape(*x.shape[:2], -1), x.reshape(*x.shape[:2], -1), axis=-1
        )
        return (y.reshape(*x.shape[:2], *output),)


def spatial_axes(x: SSAValue) -> list[int]:
    """The axes of x behind batch and channels."""
    return list(range(2, rank_of(x)))
