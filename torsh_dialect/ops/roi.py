"""Pooling of regions of interest from linear samples."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, Float64Type, FloatAttr, IntegerAttr, StringAttr
from xdsl.ir import SSAValue
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect.attributes import Array, bool_of
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import i1, i64
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.control import LoopOp
from torsh_dialect.ops.reference import narrow, row_of, wide
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


@op
class RoiAlignOp(Composite):
    """The mean (or maximum) of linear samples of x in each of OH x OW bins of each region.

    x is [N, C, H, W], rois [R, 4] (x1, y1, x2, y2, times `spatial_scale`), batch [R] (i64) names
    the entry of x. A bin has `sampling` samples along each axis, or ceil(its extent) for 0, at the
    centres of equal parts. Samples beyond -1 or the extent are 0. With `half_pixel` 0.5 is taken
    off the corners; without it regions are at least 1 x 1. `mode` is avg or max; max takes the
    largest product of a weight and an element, as ONNX defines.

    C1: x has rank 4, rois rank 2, batch rank 1.

    %r = torsh.roi_align %x, %r0, %b {height = 2 : i64, mode = "avg", sampling = 2 : i64, spatial_scale = 1.0 : f64, width = 2 : i64} : (tensor<1x1x4x4xf32>, tensor<3x4xf32>, tensor<3xi64>) -> tensor<3x1x2x2xf32>
    """  # noqa: E501

    name = "torsh.roi_align"
    x = operand_def()
    rois = operand_def()
    batch = operand_def()
    height = prop_def(IntegerAttr[I64])
    width = prop_def(IntegerAttr[I64])
    mode = prop_def(StringAttr)
    sampling = prop_def(IntegerAttr[I64])
    spatial_scale = prop_def(FloatAttr[Float64Type])
    half_pixel = opt_prop_def(BoolAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        x, rois = dims_of(self.x), dims_of(self.rois)
        if len(x) != 4 or len(rois) != 2 or rank_of(self.batch) != 1:
            raise ShapeError("x needs rank 4, rois rank 2 and batch rank 1 (C1)")
        if self.mode.data not in ("avg", "max") or row_of(self.x).kind != "float":
            raise ShapeError(f"mode is {self.mode.data!r}, x is {self.x.type}")
        return (tensor(element_type(self.x), (rois[0], x[1], *self._output())),)

    def _output(self) -> tuple[int, int]:
        return self.height.value.data, self.width.value.data

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, rois, batch = wide(args[0]), wide(args[1]), args[2]
        y = np.zeros((len(rois), x.shape[1], *self._output()), x.dtype)
        shift = 0.5 if bool_of(self.half_pixel) else 0.0
        for r, (roi, image) in enumerate(zip(rois, x[batch.astype(np.int64)], strict=True)):
            low, high = (roi * self.spatial_scale.value.data - shift).reshape(2, 2)[:, ::-1]
            size = high - low if bool_of(self.half_pixel) else np.maximum(high - low, 1)
            bins = size / np.asarray(self._output(), x.dtype)
            counts = [self.sampling.value.data or int(np.ceil(n)) for n in bins]
            for place in np.ndindex(*self._output()):
                samples = [
                    self._sample(
                        image, low + bins * (np.asarray(place) + (np.asarray(s) + 0.5) / counts)
                    )
                    for s in np.ndindex(*counts)
                ]
                y[(r, slice(None), *place)] = self._pooled(samples, x.shape[1])
        return (narrow(y, args[0]),)

    def _pooled(self, samples: list[list[Any]], channels: int) -> Any:
        if not samples:
            return np.zeros(channels)
        if self.mode.data == "max":
            return np.max([np.max(parts, axis=0) for parts in samples], axis=0)
        return np.sum([np.sum(parts, axis=0) for parts in samples], axis=0) / len(samples)

    def _sample(self, image: Any, at: Any) -> list[Any]:
        """The four products of a weight and an element (for each channel)."""
        extents = image.shape[1:]
        if any(u < -1 or u > n for u, n in zip(at, extents, strict=True)):
            return [np.zeros(image.shape[0])]
        ends: list[list[tuple[int, float]]] = []
        for u, n in zip(np.maximum(at, 0), extents, strict=True):
            low = min(int(u), n - 1)
            part = u - low if low < n - 1 else 0.0
            ends.append([(low, 1 - part), (min(low + 1, n - 1), part)])
        return [image[:, i, j] * (a * b) for (i, a), (j, b) in itertools.product(*ends)]

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        x = c.take(c.wide(self.x), self.batch, 0)
        rois = c.mul(c.wide(self.rois), self.spatial_scale.value.data)
        if bool_of(self.half_pixel):
            rois = c.sub(rois, 0.5)
        axes = [self._built_axis(c, rois, axis) for axis in range(2)]
        loops = [c.cast(c.max(count, [0, 1]), i64) for _, _, count in axes]
        regions, channels = dims_of(self.rois)[0], dims_of(self.x)[1]
        shape = (regions, channels, *self._output())
        top = self.mode.data == "max"
        first = c.broadcast(c.like(-np.inf if top else 0.0, x), shape)

        def body(inner: BlockBuilder, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
            k = Compose(inner)
            row = k.floordiv(args[0], loops[1])
            steps = (row, k.sub(args[0], k.mul(row, loops[1])))
            y = self._built_sample(k, x, axes, steps, args[1])
            return [k.constant(True, i1), y]

        trips = c.mul(*loops)
        region = c.region([trips.type, first.type], body)
        (y,) = c.loop(LoopOp, trips, c.constant(True, i1), [first], region, extent=None, scans=0)
        counts = c.reshape(c.mul(axes[0][2], axes[1][2]), (regions, 1, 1, 1))
        if top:
            y = c.where(c.eq(y, c.like(-np.inf, y)), c.like(0.0, y), y)
        else:
            y = c.div(y, c.maximum(counts, 1.0))
        return (c.narrow(y, self.x),)

    def _built_axis(
        self, c: Compose, rois: SSAValue, axis: int
    ) -> tuple[SSAValue, SSAValue, SSAValue]:
        """Start, bin size and samples in a bin, each [R, 1], along rows (0) or columns (1)."""
        low, high = c.slice(rois, 1, 1 - axis, 1), c.slice(rois, 1, 3 - axis, 1)
        size = c.sub(high, low)
        if not bool_of(self.half_pixel):
            size = c.maximum(size, 1.0)
        bins = c.div(size, float(self._output()[axis]))
        if self.sampling.value.data:
            return low, bins, c.broadcast(c.like(self.sampling.value.data, bins), dims_of(bins))
        return low, bins, c.maximum(c.ceil(bins), 0.0)

    def _built_sample(
        self, c: Compose, x: SSAValue, axes: Sequence[tuple[SSAValue, SSAValue, SSAValue]],
        steps: Sequence[SSAValue], pooled: SSAValue,
    ) -> SSAValue:  # fmt: skip
        """One sample of every bin added to (or maximised with) what is pooled so far."""
        ends, regions = list[list[tuple[SSAValue, SSAValue]]](), dims_of(pooled)[0]
        live: SSAValue | None = None
        known: SSAValue | None = None
        for axis, (low, bins, count) in enumerate(axes):
            extent = dims_of(x)[2 + axis]
            step = c.cast_like(steps[axis], low)
            part = c.div(c.add(step, 0.5), c.maximum(count, 1.0))
            place = c.cast_like(
                c.reshape(c.iota(self._output()[axis]), (1, self._output()[axis])), low
            )
            u = c.add(low, c.mul(bins, c.add(place, part)))
            size = c.cast(c.dim(extent), element_type(u))
            inside = c.both(c.ge(u, c.like(-1.0, u)), c.le(u, size))
            shape = (
                (regions, 1, self._output()[0], 1)
                if axis == 0
                else (regions, 1, 1, self._output()[1])
            )
            inside = c.reshape(inside, shape)
            mine = c.reshape(c.lt(step, count), (regions, 1, 1, 1))
            live = inside if live is None else c.both(live, inside)
            known = mine if known is None else c.both(known, mine)
            u = c.maximum(u, 0.0)
            last = c.sub(size, 1.0)
            floor = c.minimum(c.floor(u), last)
            part = c.where(c.lt(floor, last), c.sub(u, floor), c.like(0.0, u))
            above = c.minimum(c.add(floor, 1.0), last)
            ends.append([
                (c.reshape(floor, shape), c.reshape(c.sub(c.like(1.0, part), part), shape)),
                (c.reshape(above, shape), c.reshape(part, shape)),
            ])  # fmt: skip
        assert live is not None
        assert known is not None
        for (i, a), (j, b) in itertools.product(*ends):
            term = c.mul(self._built_read(c, x, i, j), c.mul(a, b))
            term = c.where(live, term, c.like(0.0, term))
            joined = c.maximum(pooled, term) if self.mode.data == "max" else c.add(pooled, term)
            pooled = c.where(known, joined, pooled)
        return pooled

    def _built_read(self, c: Compose, x: SSAValue, i: SSAValue, j: SSAValue) -> SSAValue:
        regions, channels, height, width = dims_of(x)
        oh, ow = self._output()
        index = c.add(c.mul(c.cast(i, i64), c.dim(width)), c.cast(j, i64))
        index = c.inside(index, height * width)
        index = c.reshape(index, (regions, 1, oh * ow))
        index = c.broadcast(index, (regions, channels, oh * ow))
        read = c.take_along(c.reshape(x, (regions, channels, height * width)), index, 2)
        return c.reshape(read, (regions, channels, oh, ow))


def held(c: Compose, first: SSAValue, last: SSAValue, bins: int, extent: Dim) -> SSAValue:
    """Which elements of an axis each bin of each region holds, for pooling by whole elements.

    A bin reaches from the floor of its start to the ceiling of its end: R. Girshick, "Fast R-CNN",
    2015, and its implementation in Caffe.

    Args:
        c: Builds the ops.
        first: The first element of each region, a whole number: [regions, 1, 1].
        last: The last one, likewise.
        bins: Of each region, which has one element at least.
        extent: Of the axis.

    Returns:
        Booleans, [regions, bins, extent].
    """
    step = c.div(c.maximum(c.add(c.sub(last, first), 1.0), 1.0), float(bins))
    number = c.reshape(c.cast_like(c.iota(bins), step), (1, bins, 1))
    start = c.add(c.floor(c.mul(number, step)), first)
    stop = c.add(c.ceil(c.mul(c.add(number, 1.0), step)), first)
    place = c.reshape(c.cast_like(c.iota(extent), step), (1, 1, extent))
    return c.both(c.ge(place, start), c.lt(place, stop))
