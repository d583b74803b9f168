"""Products and convolutions whose weights are packed into panels for a target's kernels.

Packed weights are `[groups, panels, K, NR]`: panel p holds the columns p * NR .. p * NR + NR - 1
of the [K, N] matrix of a group, zeros past the last one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import I64, DenseArrayBase, IntegerAttr, StringAttr
from xdsl.irdl import operand_def, prop_def, result_def

from torsh_dialect.attributes import Array, int_of, ints_of, str_of
from torsh_dialect.declare import op
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Geometry, TensorOp
from torsh_dialect.ops.conv import Convolution, TransposedConvolution
from torsh_dialect.ops.reference import narrow, wide
from torsh_dialect.ops.window import window_count
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor

UNTRANSFORM = np.array([[1, 0, 0, 0], [0, 1, -1, 0], [0, 0, 0, 1]], np.float64)
"""Takes filters back out of Winograd's F(2, 3) transform: the inverse of G."""


def unpacked(packed: Array, columns: int) -> Array:
    """The `[groups, columns, K]` matrix of packed panels."""
    groups, panels, k, width = packed.shape
    return packed.transpose(0, 1, 3, 2).reshape(groups, panels * width, k)[:, :columns]


@op
class PackedLinearOp(TensorOp):
    """x @ w with a packed w: x is [..., K], the result [..., columns].

    C1: the packed weight is [1, panels, K, NR] with room for `columns` columns.
    C2: the last axis of x has K elements.

    %r = torsh.packed_linear %x, %w {columns = 10 : i64} : (tensor<2x3xf32>, tensor<1x1x3x16xf32>) -> tensor<2x10xf32>
    """  # noqa: E501

    name = "torsh.packed_linear"
    x = operand_def()
    w = operand_def()
    columns = prop_def(IntegerAttr[I64])
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        x, w = dims_of(self.x), dims_of(self.w)
        if len(w) != 4 or w[0] != 1 or not isinstance(w[1], int) or not isinstance(w[3], int):
            raise ShapeError(f"the packed weight is [1, panels, K, NR] (C1), got {list(w)}")
        if w[1] * w[3] < int_of(self.columns):
            raise ShapeError(f"{w[1]} panels of {w[3]} do not hold {int_of(self.columns)} (C1)")
        if not x or x[-1] != w[2]:
            raise ShapeError(f"the last axis of x has {w[2]} elements (C2), got {list(x)}")
        return (tensor(element_type(self.x), (*x[:-1], int_of(self.columns))),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        weight = unpacked(args[1], int_of(self.columns))[0]
        return (narrow(np.matmul(wide(args[0]), wide(weight).T), args[0]),)


@op
class PackedConvOp(Convolution):
    """`torsh.conv` in NHWC with a packed weight, without bias, over one or two spatial axes.

    `algorithm` says how the weight is packed: `indirect` ([groups, panels, KH * KW * C, NR]),
    `depthwise` ([1, panels, KH * KW, NR]) or `winograd` ([panels, 16, C, NR], the filters under
    F(2, 3)'s transform).

    C1: x is [N, H, W, C] or [N, W, C] and `data_layout` is NHWC.
    C2: `kernel` has an entry for each spatial axis; `filters` output channels fit the panels.

    %r = torsh.packed_conv %x, %w {algorithm = "indirect", data_layout = "NHWC", filters = 4 : i64, kernel = array<i64: 1, 1>} : (tensor<1x8x8x3xf32>, tensor<1x1x3x16xf32>) -> tensor<1x8x8x4xf32>
    """  # noqa: E501

    name = "torsh.packed_conv"
    kernel = prop_def(DenseArrayBase[I64])
    filters = prop_def(IntegerAttr[I64])
    algorithm = prop_def(StringAttr)

    def geometry(self) -> Geometry:
        return self.slide(ints_of(self.kernel), self.split(self.x)[2])

    def infer(self) -> Sequence[AnyTensor]:
        if rank_of(self.x) not in (3, 4) or not self.channels_last():
            raise ShapeError("x is [N, H, W, C] or [N, W, C] in NHWC (C1)")
        batch, _, spatial = self.split(self.x)
        g = self.geometry()
        counts = [window_count(g, axis, extent) for axis, extent in enumerate(spatial)]
        return (tensor(element_type(self.x), (batch, *counts, int_of(self.filters))),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return Convolution.evaluate(self, args[0], self.filters_of(args[1]))

    def filters_of(self, packed: Array) -> Array:
        """The filters [M, C / groups, KH, KW] of a packed weight."""
        kernel = ints_of(self.kernel)
        filters = int_of(self.filters)
        if str_of(self.algorithm) == "winograd":
            panels, _, channels, columns = packed.shape
            grid = packed.reshape(panels, 4, 4, channels, columns).astype(np.float64)
            back = np.einsum("ai,pijcn,bj->pncab", UNTRANSFORM, grid, UNTRANSFORM)
            flat = back.reshape(panels * columns, channels, 3, 3)[:filters]
            return flat.astype(packed.dtype)
        groups = packed.shape[0]
        matrix = unpacked(packed, filters // groups)
        return np.moveaxis(matrix.reshape(filters, *kernel, -1), -1, 1)


@op
class WinogradFiltersOp(TensorOp):
    """Filters [M, C, 3, 3] under F(2, 3)'s transform, packed into panels of `width` columns.

    C1: w is [M, C, 3, 3].

    %r = torsh.winograd_filters %w {width = 16 : i64} : (tensor<4x2x3x3xf32>) -> tensor<1x16x2x16xf32>
    """  # noqa: E501

    name = "torsh.winograd_filters"
    w = operand_def()
    width = prop_def(IntegerAttr[I64])
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        filters, channels, *kernel = dims_of(self.w)
        if kernel != [3, 3] or not isinstance(filters, int):
            raise ShapeError(f"filters are [M, C, 3, 3] (C1), got {list(dims_of(self.w))}")
        width = int_of(self.width)
        return (tensor(element_type(self.w), (-(-filters // width), 16, channels, width)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float64)
        width = int_of(self.width)
        filters, channels = args[0].shape[:2]
        panels = -(-filters // width)
        padded = np.zeros((panels * width, channels, 3, 3), np.float64)
        padded[:filters] = args[0]
        moved = np.einsum("ia,ncab,jb->ijcn", g, padded, g).reshape(16, channels, panels, width)
        return (moved.transpose(2, 0, 1, 3).astype(args[0].dtype),)


@op
class PackedConvTransposeOp(TransposedConvolution):
    """`torsh.conv_transpose` in NHWC with packed filters, without bias, over two spatial axes.

    Packed filters are [groups, panels, taps, C / groups, NR]; `taps` says which tap (kh * KW + kw)
    stands at each place.

    C1: x is [N, H, W, C] and `data_layout` is NHWC.
    C2: `kernel` has two entries, `taps` one for each tap; `filters` fit the panels.

    %r = torsh.packed_conv_transpose %x, %w {data_layout = "NHWC", filters = 4 : i64, kernel = array<i64: 1, 1>, taps = array<i64: 0>} : (tensor<1x8x8x3xf32>, tensor<1x1x1x3x16xf32>) -> tensor<1x8x8x4xf32>
    """  # noqa: E501

    name = "torsh.packed_conv_transpose"
    kernel = prop_def(DenseArrayBase[I64])
    taps = prop_def(DenseArrayBase[I64])
    filters = prop_def(IntegerAttr[I64])

    def geometry(self) -> Geometry:
        return self._geometry(ints_of(self.kernel), self.split(self.x)[2])

    def infer(self) -> Sequence[AnyTensor]:
        if rank_of(self.x) != 4 or not self.channels_last():
            raise ShapeError("x is [N, H, W, C] in NHWC (C1)")
        batch, _, spatial = self.split(self.x)
        extents = self._extents(self.geometry(), spatial)
        return (tensor(element_type(self.x), (batch, *extents, int_of(self.filters))),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        groups, panels, taps, channels, width = args[1].shape
        columns = int_of(self.filters) // groups
        moved = args[1].transpose(0, 3, 1, 4, 2).reshape(groups, channels, panels * width, taps)
        filters = np.empty((groups, channels, columns, taps), args[1].dtype)
        filters[..., list(ints_of(self.taps))] = moved[:, :, :columns]
        shape = (groups * channels, columns, *ints_of(self.kernel))
        return TransposedConvolution.evaluate(self, args[0], filters.reshape(shape))
