"""The kernels of softmax and norms over rows."""

from __future__ import annotations

from xdsl.ir import Operation, SSAValue

from lowering.cpu.templates import norm, softmax
from lowering.cpu.templates.rows import RowShape
from lowering.kernel import Kernel
from lowering.passes.fit_composites import fits
from lowering.passes.schedule import ELEMENTS
from lowering.templates.shell import TemplateShell, rows_of, static_or
from torsh_dialect.dims import Dim
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.norm import LayerNormOp, RmsNormOp
from torsh_dialect.ops.softmax import LogSoftmaxOp, SoftmaxOp
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type

SOME_COLUMNS = 256
"""Columns of a row for the estimate of its cost, where they are dynamic."""


def softmax_rows(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """Softmax or its logarithm along the last axis."""
    assert isinstance(op, SoftmaxOp | LogSoftmaxOp)
    del target
    if not fits(op):
        return None
    shell, shape, columns = _row_shell(fused, op, op.x)
    params = softmax.SoftmaxParams(shape, log=isinstance(op, LogSoftmaxOp))
    flops = softmax.flops(1, static_or(columns, SOME_COLUMNS))
    return shell.finish("softmax", params, rows_of(op.x), flops, prologue_of=op.x)


def norm_rows(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """Layer norm or RMS norm along the last axis."""
    assert isinstance(op, LayerNormOp | RmsNormOp)
    del target
    if not fits(op) or len(op.axes()) > 1:
        return None
    bias = op.bias if isinstance(op, LayerNormOp) else None
    shell, shape, columns = _row_shell(fused, op, op.x)
    for value in (op.scale, bias):
        shell.optional(value)
    shell.extent(0)
    shell.extent(0)
    params = norm.NormParams(
        shape,
        op.epsilon.value.data,
        "layer" if isinstance(op, LayerNormOp) else "rms",
        scale=op.scale is not None,
        bias=bias is not None,
    )
    flops = norm.flops(params, 1, static_or(columns, SOME_COLUMNS))
    return shell.finish("norm", params, rows_of(op.x), flops, prologue_of=op.x)


def _row_shell(fused: FusedOp, op: Operation, x: SSAValue) -> tuple[TemplateShell, RowShape, Dim]:
    """A shell with the words that all templates over rows begin with, their shape and columns."""
    shell = TemplateShell(fused, op)
    columns = dims_of(x)[-1]
    element = "double" if ELEMENTS[element_type(x)] == "double" else "float"
    shape = RowShape(columns if isinstance(columns, int) else None, element, element)
    shell.operand(shell.main_input(x))
    shell.result()
    shell.extent(columns)
    shell.extent(0)
    return shell, shape, columns
