"""Reading a tensor at computed positions: grid sampling, deformable convolution, ROI align."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, Float64Type, FloatAttr, IntegerAttr, StringAttr
from xdsl.ir import SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from torsh_dialect.attributes import Array, bool_of
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import Dim, product
from torsh_dialect.dtypes import i1, i64
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite, Geometry
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.control import LoopOp
from torsh_dialect.ops.reference import (
    Real,
    narrow,
    operands_by_value,
    positions,
    require_equal,
    row_of,
    wide,
)
from torsh_dialect.ops.window import SlidingWindow, static, window_count
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor

MODES = ("nearest", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")


@dataclass(frozen=True)
class Reading:
    """How elements between and beyond the given ones are read.

    Attributes:
        mode: `nearest` (ties to even), `linear` or `cubic` (coefficient -0.75).
        padding: Beyond the edges: `zeros`, the `border` element, or `reflection`.
        corners: Reflection is about the centres of edge elements, not about their outer edges.
    """

    mode: str = "linear"
    padding: str = "zeros"
    corners: bool = False

    # -- reference

    def numpy(self, x: Any, at: Sequence[Real]) -> Any:
        """`x` [A, B, *S] at coordinates `at` (one array [A, *T] for each axis of S): [A, B, *T]."""
        total: Any = 0
        taps = [list(self._taps(u)) for u in at]
        first = positions(x.shape[0]).reshape(-1, *[1] * (at[0].ndim - 1))
        for choice in itertools.product(*taps):
            weight, keep, index = 1.0, True, list[Any]()
            for (place, share), extent in zip(choice, x.shape[2:], strict=True):
                place, inside = self._placed(place, extent)
                weight, keep = weight * share, keep & inside
                index.append(place)
            values = np.moveaxis(x, 1, -1)[(first, *index)]
            total = total + np.where(keep[..., None], values, 0) * np.asarray(weight)[..., None]  # pyright: ignore
        return np.moveaxis(total, -1, 1)

    def _taps(self, u: Real):
        if self.mode == "nearest":
            yield np.rint(u), np.ones_like(u)
            return
        start = np.floor(u)
        for tap in (0, 1) if self.mode == "linear" else (-1, 0, 1, 2):
            d = np.abs(u - start - tap)
            if self.mode == "linear":
                yield start + tap, 1 - d
            else:
                near = (1.25 * d - 2.25) * d * d + 1
                far = -0.75 * (((d - 5) * d + 8) * d - 4)
                yield start + tap, np.where(d <= 1, near, far)

    def _placed(self, place: Real, extent: int) -> tuple[Any, Any]:
        inside = (place >= 0) & (place <= extent - 1)
        if self.padding != "zeros":
            inside = np.ones_like(inside)
        if self.padding == "reflection":
            low, span = (0.0, extent - 1) if self.corners else (-0.5, extent)
            span = max(span, 1)
            turn = np.mod(place - low, 2 * span)
            place = np.minimum(turn, 2 * span - turn) + low
        finite = np.nan_to_num(place, nan=-1, posinf=extent, neginf=-1)
        return np.clip(finite, 0, extent - 1).astype(np.int64), inside

    # -- expansion

    def built(self, c: Compose, x: SSAValue, at: Sequence[SSAValue]) -> SSAValue:
        """`numpy` in torsh ops; coordinates are [A, P], the result is [A, B, P]."""
        dims = dims_of(x)
        flat = c.reshape(x, (*dims[:2], product(dims[2:])))
        points, total = dims_of(at[0])[1], None
        for choice in itertools.product(*(self._built_taps(c, u) for u in at)):
            weight, index = None, None
            for (place, share), extent in zip(choice, dims[2:], strict=True):
                whole, inside = self._built_placed(c, place, extent)
                if inside is not None:
                    share = c.where(inside, share, c.like(0.0, share))
                weight = share if weight is None else c.mul(weight, share)
                whole = c.inside(whole, extent)
                index = whole if index is None else c.add(c.mul(index, c.dim(extent)), whole)
            assert weight is not None
            assert index is not None
            index = c.broadcast(c.reshape(index, (dims[0], 1, points)), (*dims[:2], points))
            read = c.take_along(flat, index, 2)
            term = c.mul(read, c.reshape(c.cast_like(weight, read), (dims[0], 1, points)))
            total = term if total is None else c.add(total, term)
        assert total is not None
        return total

    def _built_taps(self, c: Compose, u: SSAValue) -> list[tuple[SSAValue, SSAValue]]:
        if self.mode == "nearest":
            return [(c.round(u), c.broadcast(c.like(1.0, u), dims_of(u)))]
        start, found = c.floor(u), list[tuple[SSAValue, SSAValue]]()
        for tap in (0, 1) if self.mode == "linear" else (-1, 0, 1, 2):
            place = c.add(start, float(tap))
            d = c.abs(c.sub(u, place))
            if self.mode == "linear":
                found.append((place, c.sub(c.like(1.0, d), d)))
                continue
            near = c.add(c.mul(c.mul(c.sub(c.mul(d, 1.25), 2.25), d), d), 1.0)
            far = c.mul(c.sub(c.mul(c.add(c.mul(c.sub(d, 5.0), d), 8.0), d), 4.0), -0.75)
            found.append((place, c.where(c.le(d, c.like(1.0, d)), near, far)))
        return found

    def _built_placed(
        self, c: Compose, place: SSAValue, extent: Dim
    ) -> tuple[SSAValue, SSAValue | None]:
        size = c.cast(c.dim(extent), element_type(place))
        if self.padding == "zeros":
            above = c.ge(place, c.like(0.0, place))
            return c.cast(place, i64), c.both(above, c.le(place, c.sub(size, 1.0)))
        if self.padding == "reflection":
            low = 0.0 if self.corners else -0.5
            span = c.maximum(c.sub(size, 1.0) if self.corners else size, 1.0)
            twice = c.mul(span, 2.0)
            turn = c.remainder(c.sub(place, low), twice)
            place = c.add(c.minimum(turn, c.sub(twice, turn)), low)
        last = c.sub(size, 1.0)
        return c.cast(c.minimum(c.maximum(place, 0.0), last), i64), None


@op
class GridSampleOp(Composite):
    """x read at the positions of a grid; -1 and 1 are the ends of each axis.

    x is [N, C, *S], the grid [N, *T, len(S)] with the last axis of S first, the result
    [N, C, *T]. With `align_corners` the ends are the centres of the edge elements: u = (g + 1) / 2
    * (n - 1); else their outer edges: u = ((g + 1) * n - 1) / 2. With `clamp`, positions beyond
    the edges are moved there first, which only shows where cubic meets border.

    C1: the grid has x's rank, its batch and as many coordinates as x has spatial axes.
    C2: `mode` is nearest, linear or cubic; `padding` zeros, border or reflection.

    %r = torsh.grid_sample %x, %g {mode = "linear", padding = "zeros"} : (tensor<1x2x4x5xf32>, tensor<1x3x3x2xf32>) -> tensor<1x2x3x3xf32>
    """  # noqa: E501

    name = "torsh.grid_sample"
    x = operand_def()
    grid = operand_def()
    mode = prop_def(StringAttr)
    padding = prop_def(StringAttr)
    align_corners = opt_prop_def(BoolAttr)
    clamp = opt_prop_def(BoolAttr)
    y = result_def()
    SPELLED: ClassVar = Spelled()

    def infer(self) -> Sequence[AnyTensor]:
        x, grid = dims_of(self.x), dims_of(self.grid)
        if len(grid) != len(x) or len(x) < 3:
            raise ShapeError(f"x is {list(x)}, the grid {list(grid)} (C1)")
        require_equal("coordinates and spatial axes (C1)", grid[-1], len(x) - 2)
        require_equal("batches of x and the grid (C1)", x[0], grid[0])
        if self.mode.data not in MODES or self.padding.data not in PADDINGS:
            raise ShapeError(f"mode {self.mode.data!r}, padding {self.padding.data!r} (C2)")
        return (tensor(element_type(self.x), (*x[:2], *grid[1:-1])),)

    def _reading(self) -> Reading:
        return Reading(self.mode.data, self.padding.data, bool_of(self.align_corners))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, grid = map(wide, args)
        at: list[Real] = []
        for axis, extent in enumerate(x.shape[2:]):
            g = grid[..., -1 - axis] + 1
            u = g / 2 * (extent - 1) if bool_of(self.align_corners) else (g * extent - 1) / 2
            at.append(np.clip(u, 0, extent - 1) if bool_of(self.clamp) else u)
        return (narrow(self._reading().numpy(x, at), args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        x, grid = c.wide(self.x), c.wide(self.grid)
        dims, target = dims_of(x), dims_of(grid)[1:-1]
        points = product(target)
        flat = c.reshape(grid, (dims[0], points, len(target)))
        at: list[SSAValue] = []
        for axis, extent in enumerate(dims[2:]):
            g = c.add(
                c.reshape(c.slice(flat, 2, len(target) - 1 - axis, 1), (dims[0], points)), 1.0
            )
            size = c.cast(c.dim(extent), element_type(g))
            if bool_of(self.align_corners):
                u = c.mul(c.mul(g, 0.5), c.sub(size, 1.0))
            else:
                u = c.mul(c.sub(c.mul(g, size), 1.0), 0.5)
            if bool_of(self.clamp):
                u = c.minimum(c.maximum(u, 0.0), c.sub(size, 1.0))
            at.append(u)
        y = self._reading().built(c, x, at)
        return (c.narrow(c.reshape(y, (*dims[:2], *target)), self.x),)


@op
class DeformConvOp(SlidingWindow, Composite):
    """A two-dimensional convolution whose window elements are displaced by `offset`.

    Shapes are as in `torsh.conv`. offset is [N, G * KH * KW * 2, OH, OW]: for each of the G
    `offset_groups` of input channels, for each window element, rows then columns to move by; x is
    read there linearly, zeros outside. mask [N, G * KH * KW, OH, OW] multiplies what is read.

    C1: x and w have rank 4; offset and mask have the extents above.

    %r = torsh.deform_conv %x, %w, %o {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0>} : (tensor<1x1x3x3xf32>, tensor<1x1x2x2xf32>, tensor<1x8x2x2xf32>) -> tensor<1x1x2x2xf32>
    """  # noqa: E501

    name = "torsh.deform_conv"
    x = operand_def()
    w = operand_def()
    offset = operand_def()
    bias = opt_operand_def()
    mask = opt_operand_def()
    groups = opt_prop_def(IntegerAttr[I64])
    offset_groups = opt_prop_def(IntegerAttr[I64])
    y = result_def()
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def geometry(self) -> Geometry:
        return self.slide(dims_of(self.w)[2:], dims_of(self.x)[2:])

    def _counts(self) -> tuple[int, int]:
        groups = 1 if self.groups is None else self.groups.value.data
        return groups, 1 if self.offset_groups is None else self.offset_groups.value.data

    def infer(self) -> Sequence[AnyTensor]:
        x, w, offset = dims_of(self.x), dims_of(self.w), dims_of(self.offset)
        if len(x) != 4 or len(w) != 4 or len(offset) != 4:
            raise ShapeError("x, w and offset need rank 4 (C1)")
        g, (groups, offset_groups) = self.geometry(), self._counts()
        target = [window_count(g, axis, n) for axis, n in enumerate(x[2:])]
        require_equal("channels of x and w (C1)", x[1], w[1] * groups)
        require_equal("offsets (C1)", offset[1], w[2] * w[3] * 2 * offset_groups)
        for axis in range(2):
            require_equal("extents of the offset (C1)", offset[2 + axis], target[axis])
        return (tensor(element_type(self.x), (x[0], w[0], *target)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        x, w, offset = (wide(at(v)) for v in (self.x, self.w, self.offset))
        (groups, parts), rows = self._counts(), static(self.slide(w.shape[2:], x.shape[2:]))
        n, (kh, kw), (oh, ow) = x.shape[0], w.shape[2:], offset.shape[2:]
        offset = offset.reshape(n, parts, kh, kw, 2, oh, ow)
        places: list[Any] = []
        for axis, (k, s, d, begin, _) in enumerate(rows):
            base = positions(k)[:, None] * d + positions((oh, ow)[axis]) * s - begin
            base = base[:, None, :, None] if axis == 0 else base[None, :, None, :]
            places.append(offset[:, :, :, :, axis] + base)
        each = x.shape[1] // parts
        columns = np.empty((n, x.shape[1], kh, kw, oh, ow), x.dtype)
        for part in range(parts):
            mine = slice(part * each, (part + 1) * each)
            columns[:, mine] = Reading().numpy(x[:, mine], [p[:, part] for p in places])
        if self.mask is not None:
            mask = wide(at(self.mask)).reshape(n, parts, kh, kw, oh, ow)
            columns = columns * np.repeat(mask, each, axis=1)
        y = [
            np.einsum("ncijhw,mcij->nmhw", c, f)
            for c, f in zip(np.split(columns, groups, 1), np.split(w, groups), strict=True)
        ]
        y = np.concatenate(y, axis=1)
        if self.bias is not None:
            y = y + wide(at(self.bias)).reshape(-1, 1, 1)
        return (narrow(y, args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        """Build reads of x at the displaced positions and one product with the filters."""
        c, (groups, parts) = Compose(b), self._counts()
        x, w, offset = (c.wide(v) for v in (self.x, self.w, self.offset))
        (n, channels, *_), (filters, each, kh, kw) = dims_of(x), dims_of(w)
        (oh, ow), g = dims_of(offset)[2:], self.geometry()
        offset = c.reshape(offset, (n * parts, kh, kw, 2, oh, ow))
        places: list[SSAValue] = []
        for axis, (size, count) in enumerate(((kh, oh), (kw, ow))):
            window = c.mul(c.iota(size), g.dilations[axis])
            start = c.sub(c.mul(c.iota(count), g.strides[axis]), c.dim(g.begin[axis]))
            window = c.reshape(window, (size, 1, 1, 1) if axis == 0 else (size, 1, 1))
            start = c.reshape(start, (count, 1) if axis == 0 else (count,))
            base = c.cast_like(c.add(window, start), offset)
            mine = c.reshape(c.slice(offset, 3, axis, 1), (n * parts, kh, kw, oh, ow))
            points = c.broadcast(c.add(mine, base), (n * parts, kh, kw, oh, ow))
            places.append(c.reshape(points, (n * parts, kh * kw * oh * ow)))
        share = channels // parts if isinstance(channels, int) else channels.floordiv(parts)
        split = c.reshape(x, (n * parts, share, *dims_of(x)[2:]))
        read = Reading().built(c, split, places)
        read = c.reshape(read, (n, parts, share, kh * kw, oh * ow))
        if self.mask is not None:
            mask = c.reshape(c.wide(self.mask), (n, parts, 1, kh * kw, oh * ow))
            read = c.mul(read, mask)
        columns = c.reshape(read, (n, groups, each * kh * kw, oh * ow))
        rows = filters // groups if isinstance(filters, int) else filters.floordiv(groups)
        y = c.matmul(c.reshape(w, (groups, rows, each * kh * kw)), columns)
        y = c.reshape(y, (n, filters, oh, ow))
        if self.bias is not None:
            y = c.add(y, c.per_channel(c.wide(self.bias), 4))
        return (c.narrow(y, self.x),)


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
