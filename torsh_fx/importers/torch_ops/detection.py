"""Torchvision's ops: boxes, regions that are pooled, deformed windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.ops.detection import NonMaxSuppressionOp
from torsh_dialect.ops.roi import held
from torsh_dialect.ops.rounding import TruncOp
from torsh_dialect.ops.sampling import DeformConvOp
from torsh_dialect.types import dims_of, element_type
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts


@converts("torchvision.nms.default")
def _nms(c: NodeBuilder, boxes: SSAValue, scores: SSAValue, threshold: float) -> SSAValue:
    """Torchvision compares overlaps with the f64 number; a box of negative extent meets none."""
    if threshold < 0:
        raise c.refuse(f"non-maximum suppression with the negative threshold {threshold}")
    element = element_type(boxes)
    if element == dtypes.f32:
        threshold = _down(threshold)
    low = c.cut(boxes, 1, 0, 2)
    solid = c.concat([low, c.maximum(c.cut(boxes, 1, 2, 2), low)], 1)
    rows = c.b(
        NonMaxSuppressionOp,
        c.unsqueeze(solid, 0),
        c.unsqueeze(scores, 0, 1),
        c.tensor(2**62, dtypes.i64),
        c.tensor(threshold, element),
        None,
        count=str(c.out_dims()[0]),
    )
    return c.squeeze(c.cut(rows, 1, 2, 1), 1)


def _down(number: float) -> float:
    """The largest f32 that is no larger."""
    nearest = np.float32(number)
    below = np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > number else nearest
    return float(below)


def _entries(c: NodeBuilder, rois: SSAValue) -> SSAValue:
    """The entry of the batch that each region lies in, [R] (i64)."""
    return c.cast(c.squeeze(c.cut(rois, 1, 0, 1), 1), dtypes.i64)


@converts("torchvision.roi_pool.default")
def _roi_pool(
    c: NodeBuilder, x: SSAValue, rois: SSAValue, spatial_scale: float, height: int, width: int
) -> list[SSAValue]:
    """The maximum of each bin of each region, whose corners are rounded; 0 of an empty bin."""
    readers: Any = c.node.users
    if any(reader.args[1] == 1 and reader.users for reader in readers):
        raise c.refuse("the positions of the maxima, which only training reads")
    corners = c.mul(c.cut(rois, 1, 1, 4), float(spatial_scale))
    corners = c.b(TruncOp, c.add(corners, c.where(c.lt(corners, 0.0), c.like(-0.5, corners),
                                                  c.like(0.5, corners))))  # fmt: skip
    regions, (_, channels, rows, columns) = dims_of(rois)[0], dims_of(x)
    lowest = c.like(-math.inf, x)
    down = _bins(c, corners, 1, rows, height)  # [R, height, rows]
    y = c.take(x, _entries(c, rois), 0)
    y = c.reshape(y, (regions, channels, 1, rows, columns))
    down = c.reshape(down, (regions, 1, height, rows, 1))
    y = c.max(c.where(down, y, lowest), [3])
    across = c.reshape(_bins(c, corners, 0, columns, width), (regions, 1, 1, width, columns))
    y = c.max(c.where(across, c.unsqueeze(y, 3), lowest), [4])
    empty = c.eq(y, lowest)
    return [c.where(empty, c.like(0.0, y), y), c.full(0, dims_of(y), dtypes.i32)]


def _bins(c: NodeBuilder, corners: SSAValue, axis: int, extent: Any, count: int) -> SSAValue:
    """Which elements of an axis (0: columns) each bin of each region has, [R, count, extent]."""
    low = c.unsqueeze(c.cut(corners, 1, axis, 1), 2)
    return held(c, low, c.unsqueeze(c.cut(corners, 1, axis + 2, 1), 2), count, extent)


@converts("torchvision.deform_conv2d.default")
def _deform_conv(
    c: NodeBuilder,
    x: SSAValue,
    weight: SSAValue,
    offset: SSAValue,
    mask: SSAValue,
    bias: SSAValue,
    *window: Any,
) -> SSAValue:
    down, right, top, left, tall, wide, groups, offset_groups, masked = window
    return c.b(
        DeformConvOp,
        x,
        weight,
        offset,
        bias,
        mask if masked else None,
        groups=groups,
        offset_groups=offset_groups,
        strides=[down, right],
        pads=[top, left, top, left],
        dilations=[tall, wide],
    )
