"""Choose templates for products and convolutions with weights, and pack those weights.

Before:

    %y = torsh.linear %x, %w, %b : (tensor<?x784xf32>, tensor<512x784xf32>, tensor<512xf32>) -> ...

After:

    %p = (pad, reshape and transpose of %w into [1, panels, 784, NR])
    %l = torsh.packed_linear %x, %p {columns = 512 : i64} : ...
    %y = torsh.add %l, %b : ...

The packing is ordinary torsh ops on weights, which `prepare` moves to compile time. Nothing is
chosen by the batch extent. Convolutions must be in NHWC (see choose-layout); Winograd's F(2, 3)
changes values slightly and is the rewrite `winograd` of the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from xdsl.context import Context as XdslContext
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from lowering.cpu.templates import winograd
from lowering.cpu.templates.conv_transposed import TransposedAxis, TransposedConvParams
from lowering.cpu.templates.schedule import register_tile
from lowering.cpu.templates.window import Axis
from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute, int_of, ints_of, literal
from torsh_dialect.context import Context
from torsh_dialect.dims import Dim
from torsh_dialect.driver import rewrite
from torsh_dialect.kinds import Builder, Geometry
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.ops.contract import LinearOp, MatMulOp
from torsh_dialect.ops.conv import ConvOp, ConvTransposeOp, TransposedConvolution
from torsh_dialect.ops.elementwise import AddOp
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.join import PadOp
from torsh_dialect.ops.movement import ReshapeOp, TransposeOp
from torsh_dialect.ops.packed import (
    PackedConvOp,
    PackedConvTransposeOp,
    PackedLinearOp,
    WinogradFiltersOp,
)
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.passes.roles import is_weight_only
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type, is_static, rank_of

ELEMENTS: dict[Attribute, str] = {dtypes.f32: "float", dtypes.f64: "double"}
"""Element types that the templates compute in."""


def reshape(b: Builder, x: SSAValue, *dims: Dim) -> SSAValue:
    """`x` with other extents."""
    return b(ReshapeOp, x, target=dims_attribute(dims))


def pack_panels(b: Builder, matrix: SSAValue, width: int) -> SSAValue:
    """`[groups, columns, K]` as panels `[groups, panels, K, width]`."""
    groups, columns, k = (d for d in dims_of(matrix) if isinstance(d, int))
    panels = -(-columns // width)
    padded = matrix
    if panels * width != columns:
        low, high = dims_attribute([0, 0, 0]), dims_attribute([0, panels * width - columns, 0])
        padded = b(PadOp, matrix, low=low, high=high, mode="constant")
    split = reshape(b, padded, groups, panels, width, k)
    return b(TransposeOp, split, perm=[0, 1, 3, 2])


@dataclass
class PackLinear(RewritePattern):
    """`linear` with a weight becomes `packed_linear` and an addition of the bias."""

    target: TargetInfo

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: LinearOp, rewriter: PatternRewriter):
        element = ELEMENTS.get(element_type(op.x))
        if element is None or not is_weight_only(op.w) or not is_static(op.w):
            return
        n, k = dims_of(op.w)
        if dims_of(op.x)[-1] != k:  # equal only at run time, which the op's own kernel checks
            return
        b = RewriterBuilder(rewriter)
        matrix = reshape(b, op.w, 1, n, k)
        y = _packed_product(b, op.x, matrix, element, self.target)
        if op.bias is not None:
            y = b(AddOp, y, op.bias)
        rewriter.replace(op, (), [y])


@dataclass
class PackMatMul(RewritePattern):
    """`matmul` by a weight matrix becomes `packed_linear`."""

    target: TargetInfo

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: MatMulOp, rewriter: PatternRewriter):
        element = ELEMENTS.get(element_type(op.a))
        if element is None or op.accumulate is not None or rank_of(op.b) != 2:
            return
        if not is_weight_only(op.b) or not is_static(op.b) or is_weight_only(op.a):
            return
        k, n = dims_of(op.b)
        if dims_of(op.a)[-1] != k:
            return
        b = RewriterBuilder(rewriter)
        matrix = reshape(b, b(TransposeOp, op.b, perm=[1, 0]), 1, n, k)
        rewriter.replace(op, (), [_packed_product(b, op.a, matrix, element, self.target)])


def _packed_product(
    b: Builder, x: SSAValue, matrix: SSAValue, element: str, target: TargetInfo
) -> SSAValue:
    columns = dims_of(matrix)[1]
    assert isinstance(columns, int)
    packed = pack_panels(b, matrix, register_tile(columns, target, element).width)
    return b(PackedLinearOp, x, packed, columns=columns)


def window_axis(g: Geometry, axis: int) -> Axis | None:
    """A template's window along a spatial axis; None where it has no static form."""
    kernel, begin, end = g.kernel[axis], g.begin[axis], g.end[axis]
    if not isinstance(kernel, int) or not isinstance(begin, int) or not isinstance(end, int):
        return None
    if begin < 0 or end < 0:
        return None
    return Axis(kernel, g.strides[axis], g.dilations[axis], begin, end)


@dataclass
class PackConv(RewritePattern):
    """A convolution in NHWC with a weight becomes `packed_conv` and an addition of the bias."""

    target: TargetInfo
    allow_winograd: bool

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConvOp, rewriter: PatternRewriter):
        if not op.channels_last() or rank_of(op.x) not in (3, 4):
            return
        element = ELEMENTS.get(element_type(op.x))
        if element is None or op.accumulate is not None or not is_static(op.w):
            return
        g = op.geometry()
        axes = [window_axis(g, n) for n in range(len(g.kernel))]
        if None in axes or not is_weight_only(op.w) or not isinstance(dims_of(op.x)[-1], int):
            return
        b = RewriterBuilder(rewriter)
        y = self._convolve(b, op, element, [a for a in axes if a is not None])
        if op.bias is not None:
            y = b(AddOp, y, op.bias)
        rewriter.replace(op, (), [y])

    def _convolve(self, b: Builder, op: ConvOp, element: str, axes: Sequence[Axis]) -> SSAValue:
        filters, each, *kernel = (d for d in dims_of(op.w) if isinstance(d, int))
        groups, taps = 1 if op.groups is None else int_of(op.groups), prod(kernel)
        algorithm = self._algorithm(filters, each, groups, axes, element)
        if algorithm == "winograd":
            width = register_tile(filters, self.target).width
            packed = b(WinogradFiltersOp, op.w, width=width)
        elif algorithm == "depthwise":
            matrix = reshape(b, op.w, 1, filters, taps)
            packed = pack_panels(b, matrix, register_tile(filters, self.target, element).width)
        else:
            last = b(TransposeOp, op.w, perm=[0, *range(2, rank_of(op.w)), 1])
            matrix = reshape(b, last, groups, filters // groups, each * taps)
            width = register_tile(filters // groups, self.target, element).width
            packed = pack_panels(b, matrix, width)
        return b(
            PackedConvOp, op.x, packed, None,
            algorithm=algorithm, data_layout="NHWC", filters=filters, kernel=kernel,
            groups=groups, strides=[a.stride for a in axes], dilations=[a.dilation for a in axes],
            pads=[*(a.before for a in axes), *(a.after for a in axes)],
        )  # fmt: skip

    def _algorithm(
        self, filters: int, each: int, groups: int, axes: Sequence[Axis], element: str
    ) -> str:
        """By the filters' shape alone, never by the batch or the image."""
        if each == 1 and groups == filters and groups > 1:
            return "depthwise"
        plain = all((a.kernel, a.stride, a.dilation) == (3, 1, 1) for a in axes)
        if len(axes) == 2 and plain and groups == 1 and element == "float" and self.allow_winograd:
            params = winograd.WinogradParams(each, filters, axes[0], axes[1])
            if winograd.suits(params):
                return "winograd"
        return "indirect"


def transposed_axis(op: TransposedConvolution, axis: int) -> TransposedAxis | None:
    """A template's transposed window along a spatial axis; None where it has no static form."""
    g = op.geometry()
    kernel, begin, end = g.kernel[axis], g.begin[axis], g.end[axis]
    if not isinstance(kernel, int) or not isinstance(begin, int) or not isinstance(end, int):
        return None
    extra = 0 if op.output_padding is None else ints_of(op.output_padding)[axis]
    if begin < 0 or end < 0:
        return None
    return TransposedAxis(kernel, g.strides[axis], g.dilations[axis], begin, end, extra)


@dataclass
class PackConvTranspose(RewritePattern):
    """A transposed convolution in NHWC with a weight becomes one with packed filters."""

    target: TargetInfo

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConvTransposeOp, rewriter: PatternRewriter):
        if not op.channels_last() or rank_of(op.x) != 4 or op.output_extents is not None:
            return
        element = ELEMENTS.get(element_type(op.x))
        if element is None or not is_static(op.w) or not is_weight_only(op.w):
            return
        down, across = transposed_axis(op, 0), transposed_axis(op, 1)
        if down is None or across is None or op.auto_pad is not None:
            return
        b = RewriterBuilder(rewriter)
        groups = 1 if op.groups is None else int_of(op.groups)
        channels, columns, *kernel = (d for d in dims_of(op.w) if isinstance(d, int))
        params = TransposedConvParams(channels, columns * groups, down, across, groups)
        order = [
            kh * kernel[1] + kw
            for phase in params.phases
            for kh, kw, _, _ in params.phase_taps(phase)
        ]
        each, taps = channels // groups, prod(kernel)
        split = reshape(b, op.w, groups, each, columns, taps)
        indices = b(ConstantOp, value=literal(np.asarray(order, np.int64)))
        ordered = b(GatherOp, split, indices, axis=3)
        last = reshape(b, b(TransposeOp, ordered, perm=[0, 2, 3, 1]), groups, columns, taps * each)
        width = register_tile(columns, self.target, element).width
        panels = pack_panels(b, last, width)
        packed = reshape(b, panels, groups, -(-columns // width), taps, each, width)
        kept = ("strides", "dilations", "pads", "output_padding", "groups", "data_layout")
        properties = {k: op.properties[k] for k in kept if k in op.properties}
        y = b(
            PackedConvTransposeOp, op.x, packed, None,
            kernel=kernel, taps=order, filters=columns * groups, **properties,
        )  # fmt: skip
        if op.bias is not None:
            y = b(AddOp, y, op.bias)
        rewriter.replace(op, (), [y])


@dataclass(frozen=True)
class SchedulePass(ModulePass):
    """See the module docstring."""

    name = "schedule"

    def apply(self, ctx: XdslContext, op: ModuleOp) -> None:
        assert isinstance(ctx, Context)
        allow = ctx.settings.allows("winograd")
        target = ctx.target
        rewrite(
            op,
            PackLinear(target),
            PackMatMul(target),
            PackConv(target, allow),
            PackConvTranspose(target),
        )
