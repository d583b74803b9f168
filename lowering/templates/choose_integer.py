"""Templates for quantised regions: products and convolutions of bytes, weights in blocks."""

from __future__ import annotations

from xdsl.ir import Operation

from lowering.cpu.templates import conv_int8, gemm_blocks, int8, int8_batched
from lowering.cpu.templates.window import Axis
from lowering.kernel import Kernel
from lowering.passes.schedule import window_axis
from lowering.templates.shell import TemplateShell, rows_of, static_or
from torsh_dialect.attributes import int_of
from torsh_dialect.dims import ceildiv, product
from torsh_dialect.dtypes import i8, i32
from torsh_dialect.ops.contract import MatMulOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.packed_blocks import PackedLinearBlocksOp
from torsh_dialect.ops.packed_integer import PackedConvIntegerOp, PackedLinearIntegerOp
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type


def packed_linear_integer(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """Integer GEMM with packed weights."""
    assert isinstance(op, PackedLinearIntegerOp)
    k, rows = dims_of(op.x)[-1], rows_of(op.x)
    assert isinstance(k, int)
    params = int8.Int8GemmParams(
        int_of(op.columns), k, element_type(op.x) == i8, rows if isinstance(rows, int) else None
    )
    shell = TemplateShell(fused, op)
    shell.operand(op.x)
    shell.operand(op.w)
    shell.result()
    shell.extent(rows)
    extent = int8.parallel_extent(params, target)
    some = static_or(rows, 64)
    operations = int8.operations(params, some) / max(1, extent.value(some))
    units = ceildiv(rows, extent.divisor) * extent.factor
    return shell.finish("int8_gemm", params, units, operations)


def packed_conv_integer(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """Integer convolution in NHWC."""
    assert isinstance(op, PackedConvIntegerOp)
    dims, out, g = dims_of(op.x), dims_of(op.y), op.geometry()
    dims, out = (d if len(d) == 4 else (d[0], 1, *d[1:]) for d in (dims, out))
    windows = [window_axis(g, n) for n in range(len(g.kernel))]
    vertical, horizontal = windows if len(windows) == 2 else (Axis(1), windows[0])
    channels = dims[3]
    assert isinstance(channels, int)
    assert vertical is not None
    assert horizontal is not None
    shell = TemplateShell(fused, op)
    shell.operand(op.x)
    shell.operand(op.w)
    shell.result()
    for dim in dims[:3]:
        shell.extent(dim)
    shell.scratch(0)
    batch, down, across = (d if isinstance(d, int) else None for d in dims[:3])
    params = conv_int8.Int8ConvParams(
        channels, int_of(op.filters), vertical, horizontal, element_type(op.x) == i8,
        op.outside_value(), op.group_count(), (batch, down, across), op.runs(),
    )  # fmt: skip
    extent = conv_int8.parallel_extent(params, target)
    rows = out[0] * out[1] * out[2]
    size = static_or(dims[0], 1), static_or(dims[1], 64), static_or(dims[2], 64)
    operations = conv_int8.operations(params, *size)
    operations /= max(1, extent.value(static_or(rows, 4096)))
    units = ceildiv(rows, extent.divisor) * extent.factor
    return shell.finish("int8_conv", params, units, operations)


def matmul_integer(fused: FusedOp, op: MatMulOp, target: TargetInfo) -> Kernel | None:
    """The product of two activations in bytes, as `schedule-integer` makes it: B is i8."""
    a, b = dims_of(op.a), dims_of(op.b)
    if min(len(a), len(b)) < 2:
        return None
    m, k, n = a[-2], a[-1], b[-1]
    signed = element_type(op.a) == i8
    static_k, static_n = (dim if isinstance(dim, int) else None for dim in (k, n))
    fits = (static_k is None or 0 < static_k <= int8.MAXIMUM_K) and a[:-2] == b[:-2]
    types = element_type(op.b) == i8 and element_type(op.y) == i32
    arguments = fused.body.block.args
    if not fits or not types or op.a not in arguments or op.b not in arguments:
        return None
    params = int8_batched.Int8BatchedParams(static_k, signed, static_n)
    shell = TemplateShell(fused, op)
    shell.operand(op.a)
    shell.operand(op.b)
    shell.result()
    shell.extent(m)
    shell.extent(n)
    columns = int8_batched.group_columns(params, target)
    units = product(a[:-2]) * ceildiv(n, columns)
    operations = 2.0 * static_or(m, 64) * static_or(k, 64) * min(static_or(n, 64), columns)
    bytes_each = int8_batched.scratch_bytes(params, target, k)
    if isinstance(bytes_each, int):
        shell.scratch(bytes_each)
        shell.extent(0)
        return shell.finish("int8_batched", params, units, operations, bytes_each)
    shell.workspace(bytes_each)
    shell.extent(k)
    room = (units * bytes_each,)
    return shell.finish("int8_batched", params, units, operations, workspaces=room)


def packed_linear_blocks(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """GEMM with weights of 8 or 4 bits in scaled blocks."""
    assert isinstance(op, PackedLinearBlocksOp)
    k, rows = dims_of(op.x)[-1], rows_of(op.x)
    assert isinstance(k, int)
    columns, block, bits = map(int_of, (op.columns, op.block, op.bits))
    params = gemm_blocks.BlocksGemmParams(
        columns, k, block, bits, rows if isinstance(rows, int) else None
    )
    shell = TemplateShell(fused, op)
    shell.operand(op.x)
    shell.operand(op.w)
    shell.result()
    shell.extent(rows)
    shell.operand(op.scale)
    extent = gemm_blocks.parallel_extent(params, target)
    some = static_or(rows, 1)
    operations = gemm_blocks.flops(params, some) / max(1, extent.value(some))
    units = ceildiv(rows, extent.divisor) * extent.factor
    return shell.finish("gemm_blocks", params, units, operations)
