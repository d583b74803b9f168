"""The template for a fused region, if one computes it."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.ir import Operation, SSAValue

from lowering.cpu.templates import (
    batched,
    conv,
    conv_transposed,
    depthwise,
    gemm,
    pool,
    winograd,
)
from lowering.cpu.templates.schedule import Extent
from lowering.cpu.templates.window import Axis
from lowering.kernel import Kernel
from lowering.passes.schedule import ELEMENTS, transposed_axis, window_axis
from lowering.templates.choose_attention import strided_attention
from lowering.templates.choose_integer import (
    matmul_integer,
    packed_conv_integer,
    packed_linear_blocks,
    packed_linear_integer,
)
from lowering.templates.choose_rows import norm_rows, softmax_rows
from lowering.templates.choose_transpose import transposed
from lowering.templates.shell import TemplateShell, is_alone, rows_of, static_or
from torsh_dialect.attributes import bool_of, int_of, str_of
from torsh_dialect.dims import Dim, ceildiv, product
from torsh_dialect.dtypes import i8, ui8
from torsh_dialect.ops.contract import MatMulOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.movement import TransposeOp
from torsh_dialect.ops.norm import LayerNormOp, RmsNormOp
from torsh_dialect.ops.packed import (
    PackedConvOp,
    PackedConvTransposeOp,
    PackedLinearOp,
    WinogradFiltersOp,
)
from torsh_dialect.ops.packed_blocks import PackedLinearBlocksOp
from torsh_dialect.ops.packed_integer import PackedConvIntegerOp, PackedLinearIntegerOp
from torsh_dialect.ops.pool import AvgPoolOp, MaxPoolOp, Pool
from torsh_dialect.ops.reduce import MeanOp
from torsh_dialect.ops.softmax import LogSoftmaxOp, SoftmaxOp
from torsh_dialect.ops.strided_attention import StridedAttentionOp
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type, rank_of

LEAST_ROWS = 4
"""Rows of A for which packing a whole B that all of them multiply pays."""

Chooser = Callable[[FusedOp, Operation, TargetInfo], Kernel | None]


def template_kernel(fused: FusedOp, target: TargetInfo) -> Kernel | None:
    """The kernel of a template that computes the region; None where there is none."""
    for op in fused.body.block.ops:
        chooser = CHOOSERS.get(type(op))
        kernel = None if chooser is None else chooser(fused, op, target)
        if kernel is not None:
            return kernel
    return None


def units_of(extent: Extent, rows: Dim) -> Dim:
    """The parallel range of a template as an extent."""
    return ceildiv(rows, extent.divisor) * extent.factor


def packed_linear(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """GEMM with packed weights."""
    assert isinstance(op, PackedLinearOp)
    k, rows = dims_of(op.x)[-1], rows_of(op.x)
    assert isinstance(k, int)
    static_rows = rows if isinstance(rows, int) else None
    element = ELEMENTS[element_type(op.x)]
    params = gemm.GemmParams(int_of(op.columns), k, static_rows, element=element)
    shell = _product(fused, op, op.x, op.w)
    shell.extent(rows)
    units = units_of(gemm.parallel_extent(params, target), rows)
    some = static_or(rows, 64)
    count = gemm.parallel_extent(params, target).value(some)
    return shell.finish("gemm", params, units, gemm.flops(params, some) / max(1, count))


def _product(fused: FusedOp, op: Operation, a: SSAValue, b: SSAValue) -> TemplateShell:
    """A shell whose first arguments are the factors and the result."""
    shell = TemplateShell(fused, op)
    shell.operand(a)
    shell.operand(b)
    shell.result()
    return shell


def image_dims(dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """[N, H, W, C] of an activation; H is 1 where there is one spatial axis."""
    return dims if len(dims) == 4 else (dims[0], 1, *dims[1:])


def _image(
    shell: TemplateShell, dims: tuple[Dim, ...]
) -> tuple[int | None, int | None, int | None]:
    """Static N, H and W of an activation [N, H, W, C]; they become arguments of the kernel."""
    for dim in dims[:3]:
        shell.extent(dim)
    batch, down, across = (d if isinstance(d, int) else None for d in dims[:3])
    return batch, down, across


def packed_conv(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """Convolution in NHWC: indirect GEMM, depthwise or Winograd."""
    assert isinstance(op, PackedConvOp)
    dims, g = image_dims(dims_of(op.x)), op.geometry()
    channels, filters = dims[3], int_of(op.filters)
    windows = [window_axis(g, n) for n in range(len(g.kernel))]
    vertical, horizontal = windows if len(windows) == 2 else (Axis(1), windows[0])
    assert isinstance(channels, int)
    assert vertical is not None
    assert horizontal is not None
    shell = _product(fused, op, op.x, op.w)
    image = _image(shell, dims)
    algorithm = str_of(op.algorithm)
    element = ELEMENTS[element_type(op.x)]
    if algorithm == "depthwise":
        return _depthwise(shell, op, depthwise.DepthwiseParams(
            channels, vertical, horizontal, image, element=element), target)  # fmt: skip
    if algorithm == "winograd":
        wino = winograd.WinogradParams(channels, filters, vertical, horizontal, image)
        return _winograd(shell, op, wino, target)
    groups = 1 if op.groups is None else int_of(op.groups)
    params = conv.ConvParams(
        channels, filters, vertical, horizontal, groups, image, element=element
    )
    return _indirect(shell, op, params, target)


def _some(dims: tuple[Dim, ...]) -> tuple[int, int, int]:
    return static_or(dims[0], 1), static_or(dims[1], 64), static_or(dims[2], 64)


def _indirect(
    shell: TemplateShell, op: PackedConvOp, params: conv.ConvParams, target: TargetInfo
) -> Kernel | None:
    batch, down, across, _ = image_dims(dims_of(op.y))
    scratch = conv.scratch_bytes(params)
    shell.scratch(scratch)
    rows = batch * down if params.strip else batch * down * across
    extent = conv.parallel_extent(params, target)
    some = _some(image_dims(dims_of(op.x)))
    count = extent.value(static_or(rows, 64 * 64))
    flops = conv.flops(params, *some) / max(1, count)
    return shell.finish("conv", params, units_of(extent, rows), flops, scratch)


def _depthwise(
    shell: TemplateShell,
    op: PackedConvOp,
    params: depthwise.DepthwiseParams,
    target: TargetInfo,
) -> Kernel:
    shell.scratch(0)
    batch, down, _, _ = image_dims(dims_of(op.y))
    extent = depthwise.parallel_extent(params, target)
    some = _some(image_dims(dims_of(op.x)))
    flops = depthwise.flops(params, *some) / max(1, extent.value(some[0] * some[1]))
    return shell.finish("depthwise", params, units_of(extent, batch * down), flops)


def _winograd(
    shell: TemplateShell, op: PackedConvOp, params: winograd.WinogradParams, target: TargetInfo
) -> Kernel:
    scratch = -(-winograd.scratch_bytes(params, target) // 64) * 64
    shell.scratch(scratch)
    batch, down, across, _ = image_dims(dims_of(op.y))
    tiles = batch * ceildiv(down, 2) * ceildiv(across, 2)
    extent = winograd.parallel_extent(params, target)
    some = _some(image_dims(dims_of(op.x)))
    flops = winograd.flops(params, *some) / max(1, extent.value(params.tiles(*some)))
    return shell.finish("winograd", params, units_of(extent, tiles), flops, scratch)


def packed_conv_transpose(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """Transposed convolution in NHWC, by output phases."""
    assert isinstance(op, PackedConvTransposeOp)
    dims, (batch, down, across, _) = dims_of(op.x), dims_of(op.y)
    channels, filters = dims[3], int_of(op.filters)
    vertical, horizontal = transposed_axis(op, 0), transposed_axis(op, 1)
    assert isinstance(channels, int)
    assert vertical is not None
    assert horizontal is not None
    shell = _product(fused, op, op.x, op.w)
    image = _image(shell, dims)
    shell.scratch(0)
    params = conv_transposed.TransposedConvParams(
        channels,
        filters,
        vertical,
        horizontal,
        1 if op.groups is None else int_of(op.groups),
        image,
        element=ELEMENTS[element_type(op.x)],
    )
    rows = batch * ceildiv(down, vertical.stride) * ceildiv(across, horizontal.stride)
    extent = conv_transposed.parallel_extent(params, target)
    some = _some(dims)
    flops = conv_transposed.flops(params, *some) / max(1, extent.value(static_or(rows, 4096)))
    return shell.finish("conv_transposed", params, units_of(extent, rows), flops)


def winograd_filters(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """Filters under Winograd's transform, at compile time."""
    assert isinstance(op, WinogradFiltersOp)
    filters, channels = dims_of(op.w)[:2]
    if not isinstance(filters, int) or not isinstance(channels, int):
        return None
    params = winograd.WinogradParams(channels, filters, Axis(3), Axis(3))
    shell = TemplateShell(fused, op)
    shell.operand(op.w)
    shell.result()
    panels = dims_of(op.y)[0]
    return shell.finish("winograd_pack", params, panels, 1e9)


def pooling(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """Pooling in NHWC over two axes."""
    assert isinstance(op, MaxPoolOp | AvgPoolOp)
    if not op.channels_last() or rank_of(op.x) != 4 or op.x not in fused.body.block.args:
        return None
    element, channels = ELEMENTS.get(element_type(op.x)), dims_of(op.x)[3]
    if element_type(op.x) in (i8, ui8) and isinstance(op, MaxPoolOp):
        element = "i8"
    axes = [_pool_axis(op, n) for n in range(2)]
    if element is None or not isinstance(channels, int) or axes[0] is None or axes[1] is None:
        return None
    average = isinstance(op, AvgPoolOp)
    shell = TemplateShell(fused, op)
    shell.operand(op.x)
    shell.extent(0)
    shell.result()
    image = _image(shell, dims_of(op.x))
    shell.scratch(0)
    params = pool.PoolParams(
        "avg" if average else "max",
        channels,
        axes[0],
        axes[1],
        isinstance(op, AvgPoolOp) and bool_of(op.include_pad),
        int_of(op.divisor) if isinstance(op, AvgPoolOp) and op.divisor is not None else None,
        image,
        element=element,
        unsigned=element_type(op.x) == ui8,
    )
    batch, down, _, _ = dims_of(op.y)
    extent = pool.parallel_extent(params, target)
    some = _some(image_dims(dims_of(op.x)))
    flops = pool.flops(params, *some) / max(1, extent.value(some[0] * some[1]))
    return shell.finish("pool", params, units_of(extent, batch * down), flops)


def global_mean(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """The mean over H and W of an activation in NHWC, alone in its region."""
    assert isinstance(op, MeanOp)
    element = ELEMENTS.get(element_type(op.x))
    over_image = rank_of(op.x) == 4 and op.axis_list() == (1, 2)
    if element is None or not is_alone(fused, op.x) or not over_image:
        return None
    dims = dims_of(op.x)
    if not isinstance(dims[3], int):
        return None
    shell = TemplateShell(fused, op)
    shell.operand(op.x)
    shell.extent(0)
    shell.result()
    params = pool.GlobalMeanParams(dims[3], _image(shell, dims), element=element)
    extent = pool.parallel_extent(params, target)
    _, down, across = _some(dims)
    flops = down * across * dims[3] / extent.value(1)
    return shell.finish("global_mean", params, units_of(extent, dims[0]), flops)


def _pool_axis(op: Pool, axis: int) -> Axis | None:
    found = window_axis(op.geometry(), axis)
    if found is None:
        return None
    return Axis(
        found.kernel, found.stride, found.dilation, found.before, found.after,
        bool_of(op.ceil_mode),
    )  # fmt: skip


def matmul(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """The product of two activations: B is packed on the fly."""
    assert isinstance(op, MatMulOp)
    if element_type(op.a) in (i8, ui8):
        return matmul_integer(fused, op, target)
    a, b, y = dims_of(op.a), dims_of(op.b), dims_of(op.y)
    element = ELEMENTS.get(element_type(op.a))
    stacks = len(a) == len(b) == len(y) and len(y) >= 2 and a[:-2] == b[:-2]
    one_matrix = len(a) > len(b) == 2  # all rows of A are those of one product
    arguments = fused.body.block.args
    if element is None or op.a not in arguments or op.b not in arguments:
        return None
    if not stacks and not one_matrix:
        return None
    m, k, n = product(a[:-1]) if one_matrix else a[-2], a[-1], b[-1]
    if one_matrix and 1 < static_or(m, LEAST_ROWS) < LEAST_ROWS:
        return None
    static_n, static_k = (dim if isinstance(dim, int) else None for dim in (n, k))
    one_row, shared = m == 1, static_k is None and m != 1
    params = batched.BatchedGemmParams(
        n=static_n, k=static_k, inner=1, shared=shared, element=element, one_row=one_row
    )
    batch = 1 if one_matrix else product(y[:-2])
    shell = _product(fused, op, op.a, op.b)
    for dim in (m, n, k, 1, k, m * k, 0, n, k * n, 0, n, m * n, 0):
        shell.extent(dim)
    bytes_each = ceildiv(batched.scratch_bytes(params, target, k), 64) * 64
    width = batched.registers_of(params, target).width * batched.GROUP_PANELS
    units = batch * ceildiv(n, width)
    flops = 2.0 * static_or(m, 64) * static_or(k, 64) * min(static_or(n, 64), width)
    if isinstance(bytes_each, int):
        shell.scratch(bytes_each)
        return shell.finish("batched_gemm", params, units, flops, bytes_each)
    shell.workspace(bytes_each)
    room = (units * bytes_each,)
    return shell.finish("batched_gemm", params, units, flops, workspaces=room)


CHOOSERS: dict[type[Operation], Chooser] = {
    PackedLinearOp: packed_linear,
    PackedConvOp: packed_conv,
    PackedConvTransposeOp: packed_conv_transpose,
    PackedLinearIntegerOp: packed_linear_integer,
    PackedConvIntegerOp: packed_conv_integer,
    PackedLinearBlocksOp: packed_linear_blocks,
    WinogradFiltersOp: winograd_filters,
    MaxPoolOp: pooling,
    AvgPoolOp: pooling,
    MeanOp: global_mean,
    MatMulOp: matmul,
    StridedAttentionOp: strided_attention,
    SoftmaxOp: softmax_rows,
    LogSoftmaxOp: softmax_rows,
    LayerNormOp: norm_rows,
    RmsNormOp: norm_rows,
    TransposeOp: transposed,
}
"""Templates by the op that is their root."""
