"""The kernel of a `torsh.strided_attention`."""

from __future__ import annotations

from xdsl.ir import Operation, SSAValue

from lowering.cpu.templates.attention_params import AttentionParams, scratch_bytes, unit_rows
from lowering.kernel import Kernel
from lowering.templates.shell import TemplateShell, static_or
from torsh_dialect.attributes import bool_of, extents_of, float_of
from torsh_dialect.dims import Dim, ceildiv
from torsh_dialect.dtypes import i1
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.strided_attention import StridedAttentionOp
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type


def strided_attention(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel:
    """Attention in blocks of keys, on operands and results wherever they stand."""
    assert isinstance(op, StridedAttentionOp)
    params = attention_params(op)
    batch, _, _, rows, keys, *_ = extents_of(op.extents)
    q, k, v = op.views()
    shell = TemplateShell(fused, op)
    for value in (op.q, op.k, op.v):
        shell.operand(value)
    shell.result()
    shell.optional(op.mask)
    for dim in (batch, rows, keys):
        shell.extent(dim)
    shell.plain_scratch()
    shell.extent(op.first_offset())
    mask = (0, 0, 0) if op.mask is None else mask_strides(op.mask)
    strides = (*q[1:], *k[1:], *v[1:], *result_strides(op), *mask)
    for dim in (*strides, q[0], k[0], v[0]):
        shell.extent(dim)
    matrix = rows * params.group
    blocks = ceildiv(matrix, unit_rows(target))
    some = min(static_or(matrix, 64), unit_rows(target)), static_or(keys, 64)
    flops = 2.0 * some[0] * some[1] * (params.depth + params.width)
    units = batch * params.key_heads * blocks
    return shell.finish("attention", params, units, flops, scratch_bytes(params, target))


def attention_params(op: StridedAttentionOp) -> AttentionParams:
    """What the template is asked to do."""
    _, heads, key_heads, _, _, depth, width = extents_of(op.extents)
    assert isinstance(heads, int)
    assert isinstance(key_heads, int)
    assert isinstance(depth, int)
    assert isinstance(width, int)
    assert op.scale is not None
    kind = "none"
    if op.mask is not None:
        kind = "boolean" if element_type(op.mask) == i1 else "additive"
    return AttentionParams(
        heads=heads,
        kv_heads=key_heads,
        depth=depth,
        value_depth=width,
        scale=float_of(op.scale),
        causal=bool_of(op.causal),
        mask=kind,
        softcap=op.cap(),
        nan_unseen=bool_of(op.nan_unseen),
    )


def result_strides(op: StridedAttentionOp) -> tuple[Dim, Dim, Dim]:
    """Elements between batch entries, heads and rows of the result."""
    _, second, third, width = dims_of(op.y)
    outer, inner = third * width, width
    batch = second * outer
    return (batch, inner, outer) if bool_of(op.rows_first) else (batch, outer, inner)


def mask_strides(mask: SSAValue) -> tuple[Dim, ...]:
    """Elements between a mask's entries for batch entries, heads and rows; 0 where one repeats."""
    dims = (*(1,) * (4 - len(dims_of(mask))), *dims_of(mask))
    strides: list[Dim] = []
    size: Dim = 1
    for dim in reversed(dims):
        strides.append(0 if dim == 1 else size)
        size = size * dim
    return tuple(reversed(strides[1:]))
