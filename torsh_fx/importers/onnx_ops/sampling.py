"""Resize, grids, regions of interest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, Expr, floordiv, product
from torsh_dialect.dtypes import dtype_of, f32, f64, i64
from torsh_dialect.ops.quant import saturated
from torsh_dialect.ops.reduce import AnyOp
from torsh_dialect.ops.resize import ResizeOp
from torsh_dialect.ops.roi import RoiAlignOp, held
from torsh_dialect.ops.sampling import GridSampleOp
from torsh_dialect.types import dims_of, element_type
from torsh_fx.importers.onnx_ops.movement import normal
from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter

GRID_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@converter("Resize")
def resize(n: Node) -> SSAValue:
    """Sizes or scales, for all axes or `axes`; opset 10 knows scales only."""
    rank, region, factors = n.rank(), None, None
    axes = normal(n.ints("axes", list(range(rank))), rank)
    mode = {"cubic": "cubic", "linear": "linear"}.get(n.str("mode", "nearest"), "nearest")
    if n.version < 11:
        return _resize_10(n, axes, mode)
    coordinates = n.str("coordinate_transformation_mode", "half_pixel")
    more: dict[str, Any] = {
        "nearest": n.str("nearest_mode", "round_prefer_floor"),
        "cubic_a": n.float("cubic_coeff_a", -0.75),
        "exclude_outside": bool(n.int("exclude_outside", 0)) or None,
        "antialias": bool(n.int("antialias", 0)) or None,
    }
    if coordinates == "tf_crop_and_resize":
        more["extrapolation"] = n.float("extrapolation_value", 0.0)
        region = _spread(n, 1, axes, 2, [0.0] * rank + [1.0] * rank)
        if n.array(1) is not None:
            more["roi"], region = _roi(n, axes), None
    if n.optional(2) is not None and dims_of(n.input(2)) != (0,):
        output, scales = _scaled(n, 2, axes)
        if scales is None:
            factors = _spread(n, 2, axes, 1, [1.0] * rank)
    else:
        output, scales, factors = _sized(n, axes)
    if coordinates == "half_pixel_symmetric" and scales is None and factors is None:
        coordinates = "half_pixel"
    data = (factors, region)
    return _resize(n, output, scales, mode, coordinates, data, **more)


def _resize_10(n: Node, axes: Sequence[int], mode: str) -> SSAValue:
    """Opset 10: result i lies at i / scale; the nearest is the element after it where axes shrink.

    Its specification does not say which element is nearest; the case `resize_downsample_nearest`
    of ONNX 1.5 (scale 0.6: elements 1 and 3 of 4) and onnxruntime do.
    """
    output, scales = _scaled(n, 1, axes)
    if scales is None and mode == "nearest":
        return _nearest_by_data(n, output)
    if scales is None:
        data = (n.c.cast(n.input(1), f64), None)
        return _resize(n, output, None, mode, "asymmetric", data)
    if mode == "nearest" and 0 < sum(scale < 1 for scale in scales) < len(scales):
        first = [min(scale, 1.0) for scale in scales]
        between = [o if s < 1 else d for o, s, d in zip(output, scales, n.dims(), strict=True)]
        small = _resize(n, between, first, mode, "asymmetric", nearest="ceil")
        rest = [max(scale, 1.0) for scale in scales]
        return _resize(n, output, rest, mode, "asymmetric", x=small, nearest="floor")
    nearest = "ceil" if scales and min(scales) < 1 else "floor"
    return _resize(n, output, scales, mode, "asymmetric", nearest=nearest)


def _nearest_by_data(n: Node, output: Sequence[Dim]) -> SSAValue:
    """The same where the scales are data."""
    c, y, dims = n.c, n.input(0), n.dims()
    given = c.cast(n.input(1), f64)
    for axis, count in enumerate(output):
        scale = n.scalar(c.slice(given, 0, axis, 1))
        place = c.div(c.cast(c.iota(count), f64), scale)
        place = c.where(c.lt(scale, 1.0), c.ceil(place), c.floor(place))
        y = c.take(y, c.inside(c.cast(place, i64), dims[axis]), axis)
    return y


def _spread(n: Node, index: int, axes: Sequence[int], parts: int, plain: list[float]) -> SSAValue:
    """An input with `parts` values for each of `axes`, as one with values for all axes (f64)."""
    given, rank = n.c.cast(n.input(index), f64), n.rank()
    if list(axes) == list(range(rank)):
        return given
    pieces: list[SSAValue] = []
    for place in range(parts * rank):
        part, axis = divmod(place, rank)
        if axis in axes:
            pieces.append(n.c.slice(given, 0, part * len(axes) + list(axes).index(axis), 1))
        else:
            pieces.append(n.constant(np.asarray([plain[place]])))
    return n.c.concat(pieces, 0)


def _resize(
    n: Node, output: Sequence[Dim], scales: Sequence[float] | None, mode: str, coordinates: str,
    data: tuple[SSAValue | None, SSAValue | None] = (None, None), x: SSAValue | None = None,
    **more: Any,
) -> SSAValue:  # fmt: skip
    x, c = n.input(0) if x is None else x, n.c
    between = mode != "nearest" and n.kind() != "float"
    y = n(
        ResizeOp, c.cast(x, f64) if between else x, *data, output=dims_attribute(output), mode=mode,
        coordinates=coordinates, scales=None if scales is None else list(scales), **more,
    )  # fmt: skip
    # Integers are rounded, as the reference evaluator does; cubic weights may leave their range.
    return saturated(c, c.round(y), dtype_of(element_type(x))) if between else y


def _scaled(n: Node, index: int, axes: Sequence[int]) -> tuple[list[Dim], list[float] | None]:
    """Extents floor(extent * scale), and the scales."""
    given, dims = n.array(index), n.dims()
    if given is None:
        return _scaled_by_data(n, index, axes), None
    if np.any(~(np.asarray(given, np.float64) > 0)):
        raise NotSupported(
            f"the scales are {np.asarray(given).tolist()}, expected more than 0", "repair the model"
        )
    factors = np.ones(len(dims), np.float64)
    factors[list(axes)] = np.asarray(given, np.float64)
    return [_times(n, d, float(f)) for d, f in zip(dims, factors, strict=True)], factors.tolist()


def _times(n: Node, dim: Dim, factor: float) -> Dim:
    """floor(dim * factor), exact where the factor is a short fraction."""
    if isinstance(dim, int):
        return int(np.floor(np.float64(dim) * factor))
    top, bottom = factor.as_integer_ratio()
    if bottom <= 2**16:
        return floordiv(dim * top, bottom)
    product = n.c.mul(n.c.cast(n.c.dim(dim), f64), factor)
    return n.extents(n.c.cast(n.c.floor(product), i64))[0]


def _scaled_by_data(n: Node, index: int, axes: Sequence[int]) -> list[Dim]:
    c, dims = n.c, list(n.dims())
    for place, axis in enumerate(axes):
        factor = n.scalar(c.slice(c.cast(n.input(index), f64), 0, place, 1))
        extent = c.cast(c.dim(dims[axis]), f64)
        dims[axis] = n.extents(c.cast(c.floor(c.mul(extent, factor)), i64))[0]
    return dims


def _sized(n: Node, axes: Sequence[int]) -> tuple[list[Dim], list[float] | None, SSAValue | None]:
    """Extents given as sizes; a policy may keep the aspect ratio."""
    output, sizes = list(n.dims()), n.extents(n.input(3))
    policy = n.str("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        for axis, size in zip(axes, sizes, strict=True):
            output[axis] = size
        return output, None, None
    pairs = [(s, output[a]) for s, a in zip(sizes, axes, strict=True)]
    if any(isinstance(v, Expr) for pair in pairs for v in pair):
        return _sized_by_data(n, axes, pairs, policy)
    ratios = [float(str(s)) / float(str(d)) for s, d in pairs]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    scales = [1.0] * len(output)
    for axis in axes:
        scales[axis] = scale
        output[axis] = int(np.floor(float(str(output[axis])) * scale + 0.5))
    return output, scales, None


def _sized_by_data(
    n: Node, axes: Sequence[int], pairs: Sequence[tuple[Dim, Dim]], policy: str
) -> tuple[list[Dim], None, SSAValue]:
    """One scale for all axes, the least or greatest that the sizes ask for, as data."""
    c, output = n.c, list(n.dims())
    scale: SSAValue | None = None
    for size, extent in pairs:
        ratio = c.div(c.cast(c.dim(size), f64), c.cast(c.dim(extent), f64))
        choose = c.minimum if policy == "not_larger" else c.maximum
        scale = ratio if scale is None else choose(scale, ratio)
    assert scale is not None
    one = n.constant(np.ones(1))
    factors = [c.reshape(scale, (1,)) if a in axes else one for a in range(len(output))]
    for axis in axes:
        size = c.floor(c.add(c.mul(c.cast(c.dim(output[axis]), f64), scale), 0.5))
        output[axis] = n.extents(c.cast(size, i64))[0]
    return output, None, c.concat(factors, 0)


def _roi(n: Node, axes: Sequence[int]) -> list[float]:
    given, rank = n.array(1), n.rank()
    if given is None:
        raise NotSupported("a region of interest that depends on data")
    roi = [0.0] * rank + [1.0] * rank
    for place, axis in enumerate(axes):
        roi[axis] = float(given[place])
        roi[rank + axis] = float(given[len(axes) + place])
    return roi


@converter("Upsample")
def upsample(n: Node) -> SSAValue:
    """Scales are an attribute before opset 9, an input in it."""
    mode = "linear" if n.str("mode", "nearest") in ("linear", "bilinear") else "nearest"
    axes = list(range(n.rank()))
    if n.version >= 9:
        output, scales = _scaled(n, 1, axes)
    else:
        scales = n.floats("scales")
        output = [_times(n, d, f) for d, f in zip(n.dims(), scales, strict=True)]
    return _resize(n, output, scales, mode, "asymmetric", nearest="floor")


@converter("GridSample")
def grid_sample(n: Node) -> SSAValue:
    """Positions keep the grid's precision at least; values between integers are cut off."""
    mode = n.str("mode", "linear" if n.version >= 20 else "bilinear")
    mode, kind, c = GRID_MODES.get(mode, mode), n.kind(), n.c
    if kind in ("complex", "string"):
        raise NotSupported(f"grids over elements of kind {kind}", "convert outside the model")
    x = n.input(0)
    if kind != "float":
        x = c.cast(x, f64 if mode != "nearest" else i64 if kind == "bool" else element_type(x))
    grid = n.input(1)
    if element_type(x) == f64:
        grid = c.cast(grid, f64)
    y = n(
        GridSampleOp, x, grid,
        mode=mode, padding=n.str("padding_mode", "zeros"),
        align_corners=bool(n.int("align_corners", 0)) or None, clamp=_clamps(n) or None,
    )  # fmt: skip
    return c.cast_like(y, n.input(0))


def _clamps(n: Node) -> bool:
    """ONNX moves positions to the border before it reads, torch each element that it reads."""
    return n.str("padding_mode", "zeros") == "border"


@converter("RoiAlign")
def roi_align(n: Node) -> SSAValue:
    """`half_pixel` is the default since opset 16."""
    coordinates = n.str(
        "coordinate_transformation_mode",
        "half_pixel" if n.version >= 16 else "output_half_pixel",
    )
    rois = n.fitted(n.input(1), (dims_of(n.input(1))[0], 4))
    return n(
        RoiAlignOp, n.input(0), rois, n.c.cast(n.fitted(n.input(2), dims_of(rois)[:1]), i64),
        height=n.int("output_height", 1), width=n.int("output_width", 1),
        mode=n.str("mode", "avg"), sampling=n.int("sampling_ratio", 0),
        spatial_scale=n.float("spatial_scale", 1.0), half_pixel=coordinates == "half_pixel",
    )  # fmt: skip


@converter("MaxRoiPool")
def max_roi_pool(n: Node) -> SSAValue:
    """The largest element of each cell of a grid over each region; 0 where a cell is empty.

    The formula is that of the layer the operator is named after: R. Girshick, "Fast R-CNN", 2015,
    and its implementation in Caffe. A region [batch, x1, y1, x2, y2] is rounded to whole elements
    and holds those of its border; a cell reaches from the floor of its start to the ceiling of its
    end.
    """
    c, x = n.c, n.input(0)
    rois = n.fitted(n.input(1), (dims_of(n.input(1))[0], 5))
    count, pooled = dims_of(rois)[0], n.ints("pooled_shape")
    if len(pooled) != 2 or min(pooled) < 1:
        raise NotSupported(f"'pooled_shape' is {pooled}, expected two extents of 1 or more")
    place = rois if element_type(rois) == f64 else c.cast(rois, f32)

    def column(index: int) -> SSAValue:
        return c.reshape(c.slice(place, 1, index, 1), (count, 1, 1))

    scale = n.float("spatial_scale", 1.0)
    x1, y1, x2, y2 = (_nearest(n, c.mul(column(i), scale)) for i in (1, 2, 3, 4))
    _, channels, height, width = dims_of(x)
    rows, columns = held(c, y1, y2, pooled[0], height), held(c, x1, x2, pooled[1], width)
    found = c.take(x, c.reshape(c.cast(column(0), i64), (count,)), 0)
    found = c.reshape(found, (count, channels, 1, height, width))
    mask = c.reshape(columns, (count, 1, pooled[1], 1, width))
    least = c.like(-math.inf, x)
    found = c.max(c.where(mask, found, least), [4])
    found = c.reshape(found, (count, channels, 1, pooled[1], height))
    mask = c.reshape(rows, (count, 1, pooled[0], 1, height))
    found = c.max(c.where(mask, found, least), [4])
    some = [n(AnyOp, mask, axes=[2]) for mask in (rows, columns)]
    filled = c.both(
        c.reshape(some[0], (count, 1, pooled[0], 1)), c.reshape(some[1], (count, 1, 1, pooled[1]))
    )
    return c.where(filled, found, c.like(0.0, x))


def _nearest(n: Node, x: SSAValue) -> SSAValue:
    """The nearest whole numbers, halves away from zero."""
    size = n.c.abs(x)
    whole = n.c.floor(size)
    whole = n.c.where(n.c.ge(n.c.sub(size, whole), 0.5), n.c.add(whole, 1.0), whole)
    return n.c.where(n.c.lt(x, 0.0), n.c.neg(whole), whole)


@converter("AffineGrid")
def affine_grid(n: Node) -> SSAValue:
    """Theta [N, d, d + 1] applied to the points of a regular grid of the given extents."""
    theta, c = n.input(0), n.c
    size = n.extents(n.input(1))
    spatial, element = size[2:], element_type(theta)
    corners, rank = bool(n.int("align_corners", 0)), len(size) - 2
    points: list[SSAValue] = []
    for axis in reversed(range(rank)):
        extent = c.cast(c.dim(spatial[axis]), element)
        place = c.cast(c.iota(spatial[axis]), element)
        if corners:
            step = c.div(c.like(2.0, extent), c.maximum(c.sub(extent, 1.0), 1.0))
            line = c.sub(c.mul(place, step), 1.0)
        else:
            line = c.sub(c.div(c.add(c.mul(place, 2.0), 1.0), extent), 1.0)
        line = c.reshape(line, [spatial[axis] if a == axis else 1 for a in range(rank)])
        points.append(c.reshape(c.broadcast(line, spatial), (*spatial, 1)))
    points.append(c.broadcast(c.like(1.0, points[0]), (*spatial, 1)))
    whole = c.concat(points, rank)
    flat = c.reshape(whole, (product(spatial), rank + 1))
    y = c.matmul(flat, c.transpose(theta, [0, 2, 1]))
    return c.reshape(y, (dims_of(theta)[0], *spatial, rank))
