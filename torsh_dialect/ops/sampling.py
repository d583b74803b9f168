"""Reading a tensor at computed positions: grid sampling, deformable convolution, ROI align."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, IntegerAttr, StringAttr
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
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import Dim, product
from torsh_dialect.dtypes import i64
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite, Geometry
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.reference import (
    Real,
    narrow,
    operands_by_value,
    positions,
    require_equal,
    wide,
)
from torsh_dialect.ops.window import SlidingWindow, static, window_count
from torsh_dialect.types import AnyTensor, dims_of, element_type, tensor

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
