"""Windows over spatial axes: geometry and numpy reference that convolutions and pools share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, DenseArrayBase, StringAttr
from xdsl.ir import SSAValue
from xdsl.irdl import opt_prop_def

from torsh_dialect.attributes import Array, ints_of
from torsh_dialect.dims import Dim, ceildiv, floordiv, maximum, minimum
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Geometry, Window
from torsh_dialect.ops.reference import positions
from torsh_dialect.types import dims_of

SAME = ("same_upper", "same_lower")


class SlidingWindow(Window):
    """Strides, dilations and padding of a window; each has one entry for each spatial axis.

    `pads` is all begins, then all ends, and defaults to none; `auto_pad` (`same_upper`,
    `same_lower`) pads so that the result has ceil(extent / stride) elements, with the odd
    element of padding behind or before. `data_layout` is `NCHW` (channels second, whatever the
    rank) or `NHWC` (channels last).
    """

    strides = opt_prop_def(DenseArrayBase[I64])
    dilations = opt_prop_def(DenseArrayBase[I64])
    pads = opt_prop_def(DenseArrayBase[I64])
    auto_pad = opt_prop_def(StringAttr)
    data_layout = opt_prop_def(StringAttr)

    def channels_last(self) -> bool:
        """Whether the layout is NHWC."""
        layout = self.data_layout.data if self.data_layout else "NCHW"
        if layout not in ("NCHW", "NHWC"):
            raise ShapeError(f"data_layout is {layout!r}, expected NCHW or NHWC")
        return layout == "NHWC"

    def split(self, value: SSAValue) -> tuple[Dim, Dim, tuple[Dim, ...]]:
        """Batch, channels and spatial extents of an activation in this op's layout."""
        dims = dims_of(value)
        if len(dims) < 2:
            raise ShapeError(f"needs a batch and a channel axis, got {list(dims)}")
        if self.channels_last():
            return dims[0], dims[-1], dims[1:-1]
        return dims[0], dims[1], dims[2:]

    def joined(self, batch: Dim, channels: Dim, spatial: Sequence[Dim]) -> tuple[Dim, ...]:
        """The inverse of `split`."""
        if self.channels_last():
            return (batch, *spatial, channels)
        return (batch, channels, *spatial)

    def slide(self, kernel: Sequence[Dim], spatial: Sequence[Dim]) -> Geometry:
        """The geometry for a window of `kernel` over `spatial` extents.

        Raises:
            ShapeError: A property has the wrong number of entries or an unusable value.
        """
        rank = len(spatial)
        if len(kernel) != rank:
            raise ShapeError(f"a window of rank {len(kernel)} slides over {rank} spatial axes")
        strides = _entries("strides", self.strides, rank, 1)
        dilations = _entries("dilations", self.dilations, rank, 1)
        if min((*strides, *dilations), default=1) < 1:
            raise ShapeError(f"strides {strides} and dilations {dilations} must be positive")
        pads: tuple[Dim, ...] = _entries("pads", self.pads, 2 * rank, 0)
        geometry = Geometry(
            tuple(kernel), strides, dilations, tuple(pads[:rank]), tuple(pads[rank:])
        )
        return self._same(geometry, spatial) if self.auto_pad is not None else geometry

    def _same(self, g: Geometry, spatial: Sequence[Dim]) -> Geometry:
        mode = self.auto_pad.data if self.auto_pad else ""
        if mode not in SAME:
            raise ShapeError(f"auto_pad is {mode!r}, expected {' or '.join(SAME)}")
        begin: list[Dim] = []
        end: list[Dim] = []
        for axis, (extent, stride) in enumerate(zip(spatial, g.strides, strict=True)):
            total = maximum((ceildiv(extent, stride) - 1) * stride + g.extent(axis) - extent, 0)
            less = floordiv(total, 2)
            begin.append(less if mode == "same_upper" else total - less)
            end.append(total - begin[-1])
        return Geometry(g.kernel, g.strides, g.dilations, tuple(begin), tuple(end))


def _entries(name: str, value: DenseArrayBase[I64] | None, count: int, default: int):
    if value is None:
        return (default,) * count
    entries = ints_of(value)
    if len(entries) != count:
        raise ShapeError(f"{name} has {len(entries)} entries, expected {count}")
    return entries


def window_count(g: Geometry, axis: int, extent: Dim, *, ceil_mode: bool = False) -> Dim:
    """How many windows fit along a spatial axis.

    With `ceil_mode` a last window may reach beyond the padding, but must not start in the
    padding at the end.

    Raises:
        ShapeError: The window is longer than the padded axis.
    """
    room = extent + g.begin[axis] + g.end[axis] - g.extent(axis)
    stride = g.strides[axis]
    if isinstance(room, int) and room < 0 and not (ceil_mode and room > -stride):
        raise ShapeError(
            f"a window over {g.extent(axis)} elements does not fit in an axis of {extent} "
            f"padded by {g.begin[axis]} and {g.end[axis]}"
        )
    if not ceil_mode:
        return floordiv(room, stride) + 1
    return minimum(ceildiv(room, stride) + 1, ceildiv(extent + g.begin[axis], stride))


def static(g: Geometry) -> list[tuple[int, int, int, int, int]]:
    """Kernel, stride, dilation, begin and end of each axis, as numbers."""
    rows = zip(g.kernel, g.strides, g.dilations, g.begin, g.end, strict=True)
    return [(_int(k), s, d, _int(b), _int(e)) for k, s, d, b, e in rows]


def _int(dim: Dim) -> int:
    assert isinstance(dim, int), f"{dim} is not a number"
    return dim


def padded(x: Array, g: Geometry, counts: Sequence[int], fill: Any) -> Array:
    """`x` ([N, C, *S]) padded so that all `counts` windows of each axis lie inside."""
    widths: list[tuple[int, int]] = [(0, 0), (0, 0)]
    for (k, s, d, b, _), extent, count in zip(static(g), x.shape[2:], counts, strict=True):
        last = (count - 1) * s + (k - 1) * d + 1
        widths.append((max(b, 0), max(last - extent - b, 0)))
        if b < 0:
            x = np.take(x, positions(-b, extent), axis=len(widths) - 1)
    return np.pad(x, widths, constant_values=fill)


def windows(x: Array, g: Geometry, counts: Sequence[int]) -> Array:
    """A view [N, C, *counts, *kernel] on the windows of a padded `x`."""
    rows = static(g)
    spatial = x.strides[2:]
    steps = [stride * s for stride, (_, s, _, _, _) in zip(spatial, rows, strict=True)]
    taps = [stride * d for stride, (_, _, d, _, _) in zip(spatial, rows, strict=True)]
    kernel = [row[0] for row in rows]
    shape = (*x.shape[:2], *counts, *kernel)
    return np.lib.stride_tricks.as_strided(x, shape, (*x.strides[:2], *steps, *taps))


def every(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every index of an array of `shape`, row-major."""
    return itertools.product(*map(range, shape))
