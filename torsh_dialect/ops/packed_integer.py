"""Integer products and convolutions whose 8-bit weights are packed for a target's kernels.

Packed weights are `[groups, panels, taps, words, NR, G]`: panel p of a group holds its columns
p * NR .. p * NR + NR - 1; a word is G neighbouring steps of the contraction, which one
instruction takes at once. What is past the last column or step is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, DenseArrayBase, IntegerAttr
from xdsl.ir import SSAValue
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect.attributes import Array, int_of, ints_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import i8, i32, ui8
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Geometry, TensorOp
from torsh_dialect.ops.conv import convolve
from torsh_dialect.ops.window import SlidingWindow, window_count
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


def unpacked(packed: Array, columns: int, steps: int) -> Array:
    """The `[groups, columns, taps, steps]` filters of packed weights."""
    groups, panels, taps, words, width, each = packed.shape
    moved = packed.transpose(0, 1, 4, 2, 3, 5).reshape(groups, panels * width, taps, words * each)
    return moved[:, :columns, :, :steps]


def require_packed(x: SSAValue, w: SSAValue, columns: int, steps: Dim) -> None:
    """Refuse element types or a packed weight that do not fit.

    Raises:
        ShapeError: Naming the constraint (C1 or C2) of the op.
    """
    if element_type(x) not in (i8, ui8) or element_type(w) != i8:
        raise ShapeError(f"x is {x.type} and w {w.type}, expected 8-bit integers and i8 (C1)")
    dims = [d for d in dims_of(w) if isinstance(d, int)]
    if len(dims) != 6 or len(dims_of(w)) != 6:
        raise ShapeError(f"the packed weight has rank 6 (C2), got {list(dims_of(w))}")
    groups, panels, _, words, width, each = dims
    if groups * panels * width < columns:
        raise ShapeError(f"{groups} x {panels} panels of {width} do not hold {columns} (C2)")
    if not isinstance(steps, int) or not (words - 1) * each < steps <= words * each:
        raise ShapeError(f"{steps} steps do not fit {words} words of {each} (C2)")


@op
class PackedLinearIntegerOp(TensorOp):
    """x @ w in i32 with a packed w: x is [..., K], the result [..., columns].

    C1: x is i8 or ui8, w i8.
    C2: the packed weight is [1, panels, 1, words, NR, G], with room for `columns` columns and K.

    %r = torsh.packed_linear_integer %x, %w {columns = 5 : i64} : (tensor<2x3xui8>, tensor<1x1x1x2x8x2xi8>) -> tensor<2x5xi32>
    """  # noqa: E501

    name = "torsh.packed_linear_integer"
    x = operand_def()
    w = operand_def()
    columns = prop_def(IntegerAttr[I64])
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        x, columns = dims_of(self.x), int_of(self.columns)
        if not x:
            raise ShapeError("x needs rank 1 or more (C2)")
        require_packed(self.x, self.w, columns, x[-1])
        return (tensor(i32, (*x[:-1], columns)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        weight = unpacked(args[1], int_of(self.columns), args[0].shape[-1])[0, :, 0]
        return (np.matmul(args[0].astype(np.int32), weight.astype(np.int32).T),)


@op
class PackedConvIntegerOp(SlidingWindow):
    """The convolution in i32 of x in NHWC, over one or two spatial axes, with a packed w.

    Outside of the image stands `outside`, 0 if missing: x's zero point. A packed w has a tap for
    each element of `kernel`, of C / `groups` steps; or, where the last spatial axis has no
    padding and no dilation and there is one group, a tap for each row of the kernel, whose
    KW * C steps are neighbours in memory (`runs`).

    C1: x is i8 or ui8 and [N, H, W, C] or [N, W, C], `data_layout` is NHWC; w is i8.
    C2: the packed weight has room for `filters` / `groups` columns, and for taps and steps.

    %r = torsh.packed_conv_integer %x, %w {data_layout = "NHWC", filters = 4 : i64, kernel = array<i64: 1, 1>} : (tensor<1x8x8x3xui8>, tensor<1x1x1x2x8x2xi8>) -> tensor<1x8x8x4xi32>
    """  # noqa: E501

    name = "torsh.packed_conv_integer"
    x = operand_def()
    w = operand_def()
    kernel = prop_def(DenseArrayBase[I64])
    filters = prop_def(IntegerAttr[I64])
    groups = opt_prop_def(IntegerAttr[I64])
    outside = opt_prop_def(IntegerAttr[I64])
    y = result_def()

    def geometry(self) -> Geometry:
        return self.slide(ints_of(self.kernel), self.split(self.x)[2])

    def runs(self) -> bool:
        """Whether a tap is a row of the kernel."""
        kernel = ints_of(self.kernel)
        return kernel[-1] > 1 and dims_of(self.w)[2] == prod(kernel[:-1])

    def group_count(self) -> int:
        """Groups of channels."""
        return 1 if self.groups is None else int_of(self.groups)

    def infer(self) -> Sequence[AnyTensor]:
        if rank_of(self.x) not in (3, 4) or not self.channels_last():
            raise ShapeError("x is [N, H, W, C] or [N, W, C] in NHWC (C1)")
        batch, channels, spatial = self.split(self.x)
        filters, groups = int_of(self.filters), self.group_count()
        g = self.geometry()
        each = channels // groups if isinstance(channels, int) else channels
        across = ints_of(self.kernel)[-1] if self.runs() else 1
        if self.runs() and (groups, g.dilations[-1], g.begin[-1], g.end[-1]) != (1, 1, 0, 0):
            raise ShapeError("runs need one group, no padding and no dilation across (C2)")
        require_packed(self.x, self.w, filters, each * across)
        if dims_of(self.w)[2] * across != prod(ints_of(self.kernel)):
            raise ShapeError(f"{dims_of(self.w)[2]} taps do not fit the kernel (C2)")
        counts = [window_count(g, axis, extent) for axis, extent in enumerate(spatial)]
        return (tensor(i32, (batch, *counts, filters)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        groups, filters = self.group_count(), int_of(self.filters)
        steps, outside = args[0].shape[-1] // groups, self.outside_value()
        kernel = ints_of(self.kernel)
        run = steps * kernel[-1] if self.runs() else steps
        matrix = unpacked(args[1], filters // groups, run).astype(np.int32)
        w: Any = np.moveaxis(matrix.reshape(filters, *kernel, steps), -1, 1)
        x: Any = np.moveaxis(args[0].astype(np.int32) - outside, -1, 1)
        y = convolve(x, w, self.slide(kernel, x.shape[2:]), groups)
        sums = w.reshape(filters, -1).sum(axis=1) * outside
        return (np.ascontiguousarray(np.moveaxis(y, 1, -1) + sums).astype(np.int32),)

    def outside_value(self) -> int:
        """What stands outside of the image."""
        return 0 if self.outside is None else int_of(self.outside)
