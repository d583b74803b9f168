"""Convolutions and their transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, DenseArrayBase, IntegerAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    operand_def,
    opt_operand_def,
    opt_prop_def,
    result_def,
)

from torsh_dialect.attributes import Array, ints_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Geometry
from torsh_dialect.ops.reference import Real, narrow, operands_by_value, precise, require_equal
from torsh_dialect.ops.window import (
    SlidingWindow,
    every,
    padded,
    static,
    window_count,
    windows,
)
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


def _groups(value: IntegerAttr[I64] | None) -> int:
    return 1 if value is None else value.value.data


def _require_bias(bias: SSAValue, filters: Dim) -> None:
    if rank_of(bias) != 1:
        raise ShapeError(f"the bias needs rank 1 (C1), got {list(dims_of(bias))}")
    require_equal("bias and filters (C1)", dims_of(bias)[0], filters)


def _same_elements(op: SlidingWindow) -> None:
    elements = {str(element_type(value)) for value in op.operands}
    if len(elements) > 1:
        raise ShapeError(f"operands have element types {', '.join(sorted(elements))} (C4)")


class Convolution(SlidingWindow):
    """What convolutions share, however their weights are stored."""

    x = operand_def()
    w = operand_def()
    bias = opt_operand_def()
    groups = opt_prop_def(IntegerAttr[I64])
    accumulate = opt_prop_def(Attribute)
    y = result_def()

    def geometry(self) -> Geometry:
        return self.slide(dims_of(self.w)[2:], self.split(self.x)[2])

    def infer(self) -> Sequence[AnyTensor]:
        if rank_of(self.x) != rank_of(self.w) or rank_of(self.x) < 3:
            raise ShapeError(
                f"x and w need one rank of 3 or more (C1), got {list(dims_of(self.x))} and "
                f"{list(dims_of(self.w))}"
            )
        batch, channels, spatial = self.split(self.x)
        filters, each = dims_of(self.w)[:2]
        groups = _groups(self.groups)
        require_equal(
            f"channels and filter channels * {groups} groups (C2)", channels, each * groups
        )
        if groups < 1 or (isinstance(filters, int) and filters % groups):
            raise ShapeError(f"{groups} groups do not divide {filters} filters (C2)")
        if self.bias is not None:
            _require_bias(self.bias, filters)
        if self.accumulate is None:
            _same_elements(self)
        g = self.geometry()
        counts = [window_count(g, axis, extent) for axis, extent in enumerate(spatial)]
        element = self.accumulate or element_type(self.x)
        return (tensor(element, self.joined(batch, filters, counts)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        if self.accumulate is None:
            x, w = precise(at(self.x)), precise(at(self.w))
            dtype = args[0].dtype
        else:
            dtype = dtype_of(self.accumulate).numpy
            x, w = (at(value).astype(dtype) for value in (self.x, self.w))
        x = np.moveaxis(x, -1, 1) if self.channels_last() else x
        g = self.slide(w.shape[2:], x.shape[2:])
        y = convolve(x, w, g, _groups(self.groups))
        if self.bias is not None:
            y = y + precise(at(self.bias)).reshape(-1, *[1] * (x.ndim - 2))
        y = np.moveaxis(y, 1, -1) if self.channels_last() else y
        return (np.ascontiguousarray(y.astype(dtype)),)


def convolve(x: Real, w: Real, g: Geometry, groups: int) -> Real:
    """The convolution of [N, C, *S] by [M, C / groups, *K], by windows and a sum of products."""
    counts = [int(str(window_count(g, axis, n))) for axis, n in enumerate(x.shape[2:])]
    view: Any = windows(padded(x, g, counts, 0), g, counts)
    rank, each = len(counts), w.shape[1]
    parts: list[Any] = []
    for group, filters in enumerate(np.split(w, groups)):
        mine = view[:, group * each : (group + 1) * each]
        taps = [1, *range(2 + rank, 2 + 2 * rank)]
        parts.append(np.tensordot(mine, filters, (taps, list(range(1, 2 + rank)))))
    return np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)


@op
class ConvOp(Convolution):
    """The cross-correlation of x with filters over one to three (or more) spatial axes.

    x is [N, C, *S], w is [M, C / groups, *K], bias is [M], the result [N, M, *T]:
    y[n, m, t] = bias[m] + sum over c, k of w[m, c, k] * x[n, group(m) * C / groups + c,
    t * stride + k * dilation - pad], with zeros outside. With `data_layout = "NHWC"` x is
    [N, *S, C] and the result [N, *T, M]; w stays as it is.

    C1: x and w have one rank, of 3 or more; bias has M elements.
    C2: C = groups * (w's second extent), and groups divides M.
    C3: the window fits in the padded axes; strides and dilations are positive.
    C4: operands have one element type; or `accumulate` gives the result's (integers).

    %r = torsh.conv %x, %w {pads = array<i64: 1, 1, 1, 1>} : (tensor<1x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<1x4x8x8xf32>
    """  # noqa: E501

    name = "torsh.conv"
    SPELLED: ClassVar = Spelled()


class TransposedConvolution(SlidingWindow):
    """What transposed convolutions share, however their weights are stored."""

    x = operand_def()
    w = operand_def()
    bias = opt_operand_def()
    groups = opt_prop_def(IntegerAttr[I64])
    output_padding = opt_prop_def(DenseArrayBase[I64])
    output_extents = opt_prop_def(DenseArrayBase[I64])
    y = result_def()

    def geometry(self) -> Geometry:
        return self._geometry(dims_of(self.w)[2:], self.split(self.x)[2])

    def _geometry(self, kernel: Sequence[Dim], spatial: Sequence[Dim]) -> Geometry:
        rank = len(spatial)
        mode = self.auto_pad
        if mode is None and self.output_extents is None:
            return self.slide(kernel, spatial)
        strides = ints_of(self.strides) if self.strides else (1,) * rank
        dilations = ints_of(self.dilations) if self.dilations else (1,) * rank
        extra = ints_of(self.output_padding) if self.output_padding else (0,) * rank
        wanted: Sequence[Dim] = [n * s for n, s in zip(spatial, strides, strict=True)]
        if self.output_extents is not None:
            wanted = ints_of(self.output_extents)
        begin: list[Dim] = []
        end: list[Dim] = []
        for n, k, s, d, o, t in zip(
            spatial, kernel, strides, dilations, extra, wanted, strict=True
        ):
            total = (n - 1) * s + (k - 1) * d + 1 + o - t
            less = floordiv(total, 2)
            upper = mode is not None and mode.data == "same_upper"
            begin.append(less if upper else total - less)
            end.append(total - begin[-1])
        return Geometry(tuple(kernel), strides, dilations, tuple(begin), tuple(end))

    def _extents(self, g: Geometry, spatial: Sequence[Dim]) -> list[Dim]:
        extra = ints_of(self.output_padding) if self.output_padding else (0,) * len(spatial)
        found: list[Dim] = []
        for axis, n in enumerate(spatial):
            whole = (n - 1) * g.strides[axis] + g.extent(axis) + extra[axis]
            found.append(whole - g.begin[axis] - g.end[axis])
        return found

    def infer(self) -> Sequence[AnyTensor]:
        if rank_of(self.x) != rank_of(self.w) or rank_of(self.x) < 3:
            raise ShapeError("x and w need one rank of 3 or more (C1)")
        batch, channels, spatial = self.split(self.x)
        require_equal("channels and the first extent of w (C2)", channels, dims_of(self.w)[0])
        groups = _groups(self.groups)
        if groups < 1 or (isinstance(channels, int) and channels % groups):
            raise ShapeError(f"{groups} groups do not divide {channels} channels (C2)")
        filters = dims_of(self.w)[1] * groups
        if self.bias is not None:
            _require_bias(self.bias, filters)
        _same_elements(self)
        extents = self._extents(self.geometry(), spatial)
        return (tensor(element_type(self.x), self.joined(batch, filters, extents)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        x, w = precise(at(self.x)), precise(at(self.w))
        x = np.moveaxis(x, -1, 1) if self.channels_last() else x
        g = self._geometry(w.shape[2:], x.shape[2:])
        groups, each = _groups(self.groups), w.shape[1]
        extents = [int(str(n)) for n in self._extents(g, x.shape[2:])]
        rows = static(g)
        full = [
            max((n - 1) * s + (k - 1) * d + 1, b + t)
            for n, (k, s, d, b, _), t in zip(x.shape[2:], rows, extents, strict=True)
        ]
        y = np.zeros((x.shape[0], each * groups, *full), x.dtype)
        for group, (part, filters) in enumerate(
            zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
        ):
            channels = slice(group * each, (group + 1) * each)
            for tap in every(w.shape[2:]):
                where = [
                    slice(k * d, k * d + (n - 1) * s + 1, s)
                    for k, n, (_, s, d, _, _) in zip(tap, x.shape[2:], rows, strict=True)
                ]
                share = np.tensordot(part, filters[(slice(None), slice(None), *tap)], ([1], [0]))
                y[(slice(None), channels, *where)] += np.moveaxis(share, -1, 1)
        y = cropped(y, [row[3] for row in rows], extents)
        if self.bias is not None:
            y = y + precise(at(self.bias)).reshape(-1, *[1] * len(rows))
        y = np.moveaxis(y, 1, -1) if self.channels_last() else y
        return (np.ascontiguousarray(narrow(y, args[0])),)


@op
class ConvTransposeOp(TransposedConvolution):
    """The transpose of a convolution: each element of x adds a scaled filter to the result.

    x is [N, C, *S], w is [C, M / groups, *K], bias is [M], the result [N, M, *T] with
    T = (S - 1) * stride + (K - 1) * dilation + 1 - pads + output_padding, or `output_extents`
    where given: y[n, m, s * stride + k * dilation - pad] += w[c, m, k] * x[n, c, s].

    C1: x and w have one rank, of 3 or more; bias has M elements.
    C2: C is w's first extent and a multiple of groups.
    C3: `auto_pad` needs `output_extents` or makes the result S * stride.

    %r = torsh.conv_transpose %x, %w {strides = array<i64: 2, 2>} : (tensor<1x3x4x4xf32>, tensor<3x2x2x2xf32>) -> tensor<1x2x8x8xf32>
    """  # noqa: E501

    name = "torsh.conv_transpose"


def cropped(y: Real, begin: Sequence[int], extents: Sequence[int]) -> Real:
    """The spatial part of `y` from `begin` on (zeros before 0) of the given extents."""
    for axis, (b, t) in enumerate(zip(begin, extents, strict=True), 2):
        before = max(-b, 0)
        widths = [(before, 0) if n == axis else (0, 0) for n in range(y.ndim)]
        y = np.take(np.pad(y, widths), np.arange(max(b, 0), max(b, 0) + t), axis=axis)
    return y
