"""Resampling of a tensor along its axes: nearest, linear and cubic, as ONNX `Resize` defines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from xdsl.dialects.builtin import BoolAttr, Float64Type, FloatAttr, StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from torsh_dialect.attributes import Array, bool_of, extents_of, floats_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import f64, i64
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.reference import Real, narrow, operands_by_value, row_of, wide
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor

F64 = FloatAttr[Float64Type]
V = TypeVar("V")
MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


class Arithmetic(Protocol[V]):
    """What coordinates and weights are computed with: whole tensors of them, or each by itself."""

    def constant(self, value: float, element: Attribute, /) -> V: ...
    def like(self, value: float, x: V, /) -> V: ...
    def cast(self, x: V, element: Attribute, /) -> V: ...
    def add(self, a: V, b: V | float, /) -> V: ...
    def sub(self, a: V, b: V | float, /) -> V: ...
    def mul(self, a: V, b: V | float, /) -> V: ...
    def div(self, a: V, b: V | float, /) -> V: ...
    def maximum(self, a: V, b: V | float, /) -> V: ...
    def eq(self, a: V, b: V | float, /) -> V: ...
    def lt(self, a: V, b: V | float, /) -> V: ...
    def le(self, a: V, b: V | float, /) -> V: ...
    def ge(self, a: V, b: V | float, /) -> V: ...
    def either(self, a: V, b: V, /) -> V: ...
    def where(self, condition: V, a: V, b: V, /) -> V: ...
    def abs(self, x: V, /) -> V: ...
    def floor(self, x: V, /) -> V: ...
    def ceil(self, x: V, /) -> V: ...
    def dim(self, dim: Dim, /) -> V: ...
    def inside(self, index: V, extent: Dim, /) -> V: ...


@op
class ResizeOp(Composite):
    """x resampled to the extents `output`; axes are independent of each other.

    Along an axis of n elements, result i is taken at the coordinate u(i) of x. With s = scale
    (`scales`, else output / n) and m = s * n, by `coordinates`: half_pixel (i + 0.5) / s - 0.5;
    half_pixel_symmetric the same plus n / 2 * (1 - output / m); pytorch_half_pixel the same as
    half_pixel, but -0.5 if m is 1; align_corners i * (n - 1) / (m - 1), 0 if m is 1; asymmetric
    i / s; tf_crop_and_resize a + i * (b - a) / (m - 1) with a, b = roi * (n - 1), (a + b) / 2 if
    m is 1; what lies outside x there becomes `extrapolation`.

    By `mode`: nearest takes the element that `nearest` says (round_prefer_floor, ...); linear
    weighs two neighbours; cubic four, with the coefficient `cubic_a`. Neighbours outside are the
    edge's or, with `exclude_outside`, left out and the weights normalised. `antialias` widens
    linear and cubic filters by 1 / s where s < 1 and normalises them.

    The operands `factors` (f64, one for each axis) and `region` (f64, two halves) stand for
    `scales` and `roi` where these are data.

    C1: `output` has an entry for each axis; so have `scales` (f64) and `roi` (two halves).
    C2: x is floating-point unless the mode is nearest.
    C3: modes are among those named.

    %r = torsh.resize %x {coordinates = "half_pixel", mode = "linear", operandSegmentSizes = array<i32: 1, 0, 0>, output = #torsh.dims<[1, 1, 4, 6]>} : (tensor<1x1x2x3xf32>) -> tensor<1x1x4x6xf32>
    """  # noqa: E501

    name = "torsh.resize"
    x = operand_def()
    factors = opt_operand_def()
    region = opt_operand_def()
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    output = prop_def(Attribute)
    mode = prop_def(StringAttr)
    coordinates = prop_def(StringAttr)
    scales = opt_prop_def(Attribute)
    nearest = opt_prop_def(StringAttr)
    roi = opt_prop_def(Attribute)
    cubic_a = opt_prop_def(F64)
    exclude_outside = opt_prop_def(BoolAttr)
    antialias = opt_prop_def(BoolAttr)
    extrapolation = opt_prop_def(F64)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        output, rank = extents_of(self.output), rank_of(self.x)
        scales = floats_of(self.scales) if self.scales is not None else ()
        roi = floats_of(self.roi) if self.roi is not None else ()
        if len(output) != rank or len(scales) not in (0, rank) or len(roi) not in (0, 2 * rank):
            raise ShapeError(f"output {list(output)}, scales or roi do not have {rank} axes (C1)")
        for value, known in (
            (self.mode.data, MODES),
            (self.coordinates.data, COORDINATES),
            (self._nearest(), NEAREST),
        ):
            if value not in known:
                raise ShapeError(f"{value!r} is none of {', '.join(known)} (C3)")
        if self.mode.data != "nearest" and row_of(self.x).kind != "float":
            raise ShapeError(f"x is {row_of(self.x).name}; {self.mode.data} needs a float (C2)")
        return (tensor(element_type(self.x), output),)

    def _nearest(self) -> str:
        return "round_prefer_floor" if self.nearest is None else self.nearest.data

    def _cubic(self) -> float:
        return -0.75 if self.cubic_a is None else self.cubic_a.value.data

    def _outside(self) -> float:
        return 0.0 if self.extrapolation is None else self.extrapolation.value.data

    def _crops(self) -> bool:
        return self.coordinates.data == "tf_crop_and_resize"

    def _roi(self, axis: int) -> tuple[float, float]:
        roi = floats_of(self.roi) if self.roi is not None else ()
        return (roi[axis], roi[len(roi) // 2 + axis]) if roi else (0.0, 1.0)

    def _built_roi(self, c: Compose, axis: int) -> list[SSAValue]:
        if self.region is None:
            return [c.constant(r, f64) for r in self._roi(axis)]
        return [
            c.reshape(c.slice(self.region, 0, place, 1), ())
            for place in (axis, rank_of(self.x) + axis)
        ]

    def moves(self, axis: int, extent: Dim, output: Dim) -> bool:
        """Whether the axis is resampled at all."""
        if self.factors is not None or self.region is not None:
            return True
        if self._crops():
            return self._roi(axis) != (0.0, 1.0) or extent != output
        return extent != output or (self.scales is not None and floats_of(self.scales)[axis] != 1)

    def moving(self) -> list[int]:
        """The axes that are resampled."""
        pairs = zip(dims_of(self.x), extents_of(self.output), strict=True)
        return [
            axis for axis, (extent, count) in enumerate(pairs) if self.moves(axis, extent, count)
        ]

    def is_plain(self) -> bool:
        """Whether each element is a fixed number of elements of x, at places that are no data."""
        data = self.factors is not None or self.region is not None
        return not data and not self._crops() and not bool_of(self.antialias)

    # -- reference

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        factors, region = at(self.factors), at(self.region)
        output = [int(str(d)) for d in extents_of(self.output)]
        y: Any = wide(args[0]) if self.mode.data != "nearest" else args[0]
        outside = np.zeros((), np.bool_)
        for axis, (extent, count) in enumerate(zip(args[0].shape, output, strict=True)):
            if not self.moves(axis, extent, count):
                outside = outside[..., None]
                continue
            s = self._scale(axis, extent, count) if factors is None else float(factors[axis])
            roi = self._roi(axis) if region is None else (region[axis], region[len(output) + axis])
            u = self._coordinate(extent, count, s, roi)
            outside = outside[..., None] | ((u < 0) | (u > extent - 1) if self._crops() else False)
            y = self._resampled(y, axis, u, s)
        if self._crops():
            y = np.where(outside, np.asarray(self._outside()).astype(y.dtype), y)
        return (narrow(y, args[0]),)

    def _scale(self, axis: int, extent: int, count: int) -> float:
        return floats_of(self.scales)[axis] if self.scales is not None else count / extent

    def _coordinate(self, n: int, count: int, s: float, roi: tuple[float, float]) -> Real:
        i, m = np.arange(count, dtype=np.float64), s * n
        match self.coordinates.data:
            case "align_corners":
                return i * (n - 1) / (m - 1) if m != 1 else i * 0
            case "asymmetric":
                return i / s
            case "tf_crop_and_resize":
                a, b = (r * (n - 1) for r in roi)
                return a + i * (b - a) / (m - 1) if m != 1 else i * 0 + (a + b) / 2
            case "pytorch_half_pixel" if m == 1:
                return i * 0 - 0.5
            case "half_pixel_symmetric":
                return n / 2 * (1 - count / m) + (i + 0.5) / s - 0.5
            case _:
                return (i + 0.5) / s - 0.5

    def _resampled(self, y: Any, axis: int, u: Real, scale: float) -> Any:
        n = y.shape[axis]
        if self.mode.data == "nearest":
            return np.take(y, np.clip(_nearest_index(u, self._nearest()), 0, n - 1), axis=axis)
        shrink = min(scale, 1.0) if bool_of(self.antialias) else 1.0
        reach = 1 if self.mode.data == "linear" else 2
        half = int(np.ceil(reach / shrink))
        taps = np.floor(u)[:, None] + np.arange(-half, half + 2)
        weights = self._filter((taps - u[:, None]) * shrink)
        if bool_of(self.exclude_outside):
            weights = np.where((taps < 0) | (taps >= n), 0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
        index = np.clip(taps, 0, n - 1).astype(np.int64)
        parts = np.take(y, index, axis=axis)
        shape = [1] * parts.ndim
        shape[axis : axis + 2] = weights.shape
        return (parts * weights.reshape(shape)).sum(axis=axis + 1)

    def _filter(self, distance: Real) -> Real:
        d, a = np.abs(distance), self._cubic()
        if self.mode.data == "linear":
            return np.maximum(1 - d, 0)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((d - 5) * d + 8) * d * a - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))

    # -- expansion

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, output = Compose(b), extents_of(self.output)
        y = self.x if self.mode.data == "nearest" else c.wide(self.x)
        rank, outside = rank_of(self.x), None
        for axis, (extent, count) in enumerate(zip(dims_of(self.x), output, strict=True)):
            if not self.moves(axis, extent, count):
                continue
            u = self._built_coordinate(c, axis, extent, count)
            if self._crops():
                last = c.sub(c.cast(c.dim(extent), f64), 1.0)
                beyond = c.either(c.lt(u, c.like(0.0, u)), c.gt(u, last))
                beyond = c.per_channel(beyond, rank, axis)
                outside = beyond if outside is None else c.either(outside, beyond)
            y = self._built(c, y, axis, u, count)
        if outside is not None:
            y = c.where(outside, c.like(self._outside(), y), y)
        return (c.narrow(y, self.x),)

    def _built_scale(self, c: Compose, axis: int, extent: Dim, count: Dim) -> SSAValue:
        if self.factors is not None:
            return c.reshape(c.slice(self.factors, 0, axis, 1), ())
        return self.scale(c, axis, extent, count)

    def scale(self, c: Arithmetic[V], axis: int, extent: Dim, count: Dim) -> V:
        """The scale of an axis of `extent` elements that becomes `count`, where it is no data."""
        if self.scales is not None:
            return c.constant(floats_of(self.scales)[axis], f64)
        return c.div(c.cast(c.dim(count), f64), c.cast(c.dim(extent), f64))

    def _built_coordinate(self, c: Compose, axis: int, extent: Dim, count: Dim) -> SSAValue:
        i, n = c.cast(c.iota(count), f64), c.cast(c.dim(extent), f64)
        s = self._built_scale(c, axis, extent, count)
        if not self._crops():
            return self.coordinate(c, i, s, extent, count)
        single, last = c.eq(c.mul(s, n), 1.0), c.sub(n, 1.0)
        safe = c.where(single, c.like(1.0, s), c.sub(c.mul(s, n), 1.0))
        first, end = (c.mul(r, last) for r in self._built_roi(c, axis))
        slope = c.div(c.sub(end, first), safe)
        middle = c.mul(c.add(first, end), 0.5)
        return c.where(single, middle, c.add(first, c.mul(i, slope)))

    def coordinate(self, c: Arithmetic[V], i: V, s: V, extent: Dim, count: Dim) -> V:
        """u(i) for an axis of `extent` elements that becomes `count` by scale s, without a roi."""
        n = c.cast(c.dim(extent), f64)
        m = c.mul(s, n)
        single = c.eq(m, 1.0)
        half = c.sub(c.div(c.add(i, 0.5), s), 0.5)
        match self.coordinates.data:
            case "align_corners":
                safe = c.where(single, c.like(1.0, m), c.sub(m, 1.0))
                return c.where(single, c.like(0.0, i), c.div(c.mul(i, c.sub(n, 1.0)), safe))
            case "asymmetric":
                return c.div(i, s)
            case "pytorch_half_pixel":
                return c.where(single, c.like(-0.5, i), half)
            case "half_pixel_symmetric":
                share = c.div(c.cast(c.dim(count), f64), m)
                shift = c.mul(c.mul(n, 0.5), c.sub(c.like(1.0, share), share))
                return c.add(half, shift)
            case _:
                return half

    def _built(self, c: Compose, y: SSAValue, axis: int, u: SSAValue, count: Dim) -> SSAValue:
        extent = dims_of(y)[axis]
        if self.mode.data == "nearest":
            return c.take(y, self.nearest_place(c, u, extent), axis)
        if bool_of(self.antialias):
            return self._built_dense(c, y, axis, u, count)
        result = None
        for index, weight in self.taps(c, u, extent):
            share = c.per_channel(c.cast_like(weight, y), rank_of(y), axis)
            term = c.mul(c.take(y, index, axis), share)
            result = term if result is None else c.add(result, term)
        assert result is not None
        return result

    def nearest_place(self, c: Arithmetic[V], u: V, extent: Dim) -> V:
        """The place (i64) of the element that is nearest to a coordinate."""
        match self._nearest():
            case "round_prefer_floor":
                place = c.ceil(c.sub(u, 0.5))
            case "round_prefer_ceil":
                place = c.floor(c.add(u, 0.5))
            case "floor":
                place = c.floor(u)
            case _:
                place = c.ceil(u)
        return c.inside(c.cast(place, i64), extent)

    def taps(self, c: Arithmetic[V], u: V, extent: Dim) -> list[tuple[V, V]]:
        """Places (i64) and weights (f64) of the elements that make the one at a coordinate."""
        start, total, parts = c.floor(u), None, list[tuple[V, V]]()
        for tap in (0, 1) if self.mode.data == "linear" else (-1, 0, 1, 2):
            place = c.add(start, float(tap))
            weight = self._built_filter(c, c.abs(c.sub(place, u)))
            index = c.cast(place, i64)
            if bool_of(self.exclude_outside):
                outside = c.either(c.lt(index, c.dim(0)), c.ge(index, c.dim(extent)))
                weight = c.where(outside, c.like(0.0, weight), weight)
                total = weight if total is None else c.add(total, weight)
            parts.append((c.inside(index, extent), weight))
        if total is not None:
            parts = [(index, c.div(weight, total)) for index, weight in parts]
        return parts

    def _built_dense(self, c: Compose, y: SSAValue, axis: int, u: SSAValue, count: Dim) -> SSAValue:
        """The filter as a matrix [output, places], where places reach over the edges."""
        extent = dims_of(y)[axis]
        scale = self._built_scale(c, axis, extent, count)
        shrink = c.minimum(scale, 1.0)
        beyond = 0 if bool_of(self.exclude_outside) else self._reach(axis, extent)
        places = c.sub(c.iota(extent + beyond * 2), c.dim(beyond))
        row = c.reshape(c.cast(places, f64), (1, extent + beyond * 2))
        distance = c.abs(c.mul(c.sub(row, c.reshape(u, (count, 1))), shrink))
        weight = self._built_filter(c, distance)
        weight = c.div(weight, c.sum(weight, [1], keep=True))
        source = y if beyond == 0 else c.take(y, c.inside(places, extent), axis)
        return c.contract_axis(source, c.cast_like(weight, y), axis)

    def _reach(self, axis: int, extent: Dim) -> Dim:
        """How far the filter can reach over an edge: all of it, as no scale is under 1 / extent."""
        factor = 1 if self.mode.data == "linear" else 2
        if self.scales is not None:
            return int(np.ceil(factor / min(floats_of(self.scales)[axis], 1.0))) + 1
        return extent * factor + 1

    def _built_filter(self, c: Arithmetic[V], d: V) -> V:
        if self.mode.data == "linear":
            return c.maximum(c.sub(c.like(1.0, d), d), 0.0)
        a = self._cubic()
        near = c.add(c.mul(c.mul(c.sub(c.mul(d, a + 2), a + 3), d), d), 1.0)
        far = c.sub(c.mul(c.mul(c.add(c.mul(c.sub(d, 5.0), d), 8.0), d), a), 4 * a)
        tail = c.where(c.lt(d, c.like(2.0, d)), far, c.like(0.0, d))
        return c.where(c.le(d, c.like(1.0, d)), near, tail)


def _nearest_index(u: Real, mode: str) -> Any:
    match mode:
        case "round_prefer_floor":
            y = np.ceil(u - 0.5)
        case "round_prefer_ceil":
            y = np.floor(u + 0.5)
        case "floor":
            y = np.floor(u)
        case _:
            y = np.ceil(u)
    return y.astype(np.int64)
