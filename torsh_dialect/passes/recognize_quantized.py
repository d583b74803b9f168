"""Contract dequantised integers as integers.

Before:

    %x = torsh.dequantize_linear %a, %sa, %za : (tensor<2x64xui8>, ...) -> tensor<2x64xf32>
    %w = torsh.dequantize_linear %b, %sb {axis = 0} : (tensor<16x64xi8>, ...) -> tensor<16x64xf32>
    %y = torsh.linear %x, %w, %bias : ...

After:

    %t = torsh.matmul_integer %a, (transpose of %b), %za : ... -> tensor<2x16xi32>
    %y = torsh.add (torsh.mul (torsh.cast %t), (torsh.mul %sa, %sb)), %bias : ...

The sum is exact where the floats were rounded in every step, so values change by rounding: it is
the rewrite `recognize-quantized` of the settings. A quantisation of such a result multiplies by
the reciprocal of its scale, which goes into the factor and the bias where there is one.

Three changes keep all values: a matrix of 8-bit weights that is cast to f32 for a product is
dequantised with the scale 1, by which kernels of bytes are found; quantising what was dequantised
with the same scale and zero point gives the integers back, also through ops that move elements or
take the largest of them, which then move bytes; and a dequantisation with one use stands before
it, so that a residual is read as bytes where it is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast as typed

from xdsl.context import Context as XdslContext
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import OpResult, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import InsertPoint, Rewriter

from torsh_dialect.attributes import int_of, ints_of
from torsh_dialect.context import Context
from torsh_dialect.driver import rewrite
from torsh_dialect.dtypes import dtype_of, f32, i8, i32, ui8
from torsh_dialect.kinds import Elementwise, TensorOp, rebuilt
from torsh_dialect.ops.activation import ReluOp
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.ops.contract import LinearOp, MatMulOp
from torsh_dialect.ops.conv import ConvOp
from torsh_dialect.ops.elementwise import AddOp, MulOp
from torsh_dialect.ops.join import ConcatOp
from torsh_dialect.ops.movement import ReshapeOp, SliceOp, TransposeOp
from torsh_dialect.ops.pool import MaxPoolOp
from torsh_dialect.ops.quant import (
    ConvIntegerOp,
    DequantizeLinearOp,
    MatMulIntegerOp,
    QuantizeLinearOp,
    saturated,
)
from torsh_dialect.ops.select import CastOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.passes.roles import integer_of, is_weight_only
from torsh_dialect.types import dims_of, element_type, rank_of

REWRITE = "recognize-quantized"

MOVES = (ConcatOp, MaxPoolOp, ReshapeOp, SliceOp, TransposeOp)
"""Ops that quantisation by one scale commutes with."""

MOST_OPS = 64
"""Element-wise ops that are looked through for integers."""


@dataclass(frozen=True)
class Quantised:
    """An operand (integers - zero) * scale of at most 8 bits.

    Attributes:
        x: The integers.
        scale: One element, or one for each index of `axis`, or one for each row.
        zero: Shaped like the scale; None is 0.
        axis: The axis of the scale; None where it has one element.
        rows: Whether there is a scale for each row: [..., 1].
        perm: How the operand's axes are permuted; `axis` is the operand's.
    """

    x: SSAValue
    scale: SSAValue
    zero: SSAValue | None
    axis: int | None = None
    rows: bool = False
    perm: tuple[int, ...] | None = None


def dequantised(value: SSAValue) -> Quantised | None:
    """What an f32 value was dequantised from; None if it was not, or not from 8 bits."""
    if not isinstance(value, OpResult) or element_type(value) != f32:
        return None
    if isinstance(value.op, TransposeOp):
        source, perm = dequantised(value.op.x), ints_of(value.op.perm)
        if source is None or source.rows:
            return None
        axis = None if source.axis is None else perm.index(source.axis)
        earlier = source.perm
        return replace(source, axis=axis, perm=tuple(earlier[p] for p in perm) if earlier else perm)
    if not isinstance(value.op, DequantizeLinearOp):
        return None
    op, row = value.op, dtype_of(element_type(value.op.x))
    if row.kind not in ("int", "uint") or row.bits > 8:
        return None
    if op.single():
        return Quantised(op.x, op.scale, op.zero)
    axis = op.normal_axis()
    if op.block_size is None:
        return Quantised(op.x, op.scale, op.zero, axis)
    whole = axis == rank_of(op.x) - 1 and int_of(op.block_size) == dims_of(op.x)[-1]
    return Quantised(op.x, op.scale, op.zero, rows=True) if whole else None


def integers(c: Compose, q: Quantised) -> SSAValue:
    """The integers of an operand, in 8 bits."""
    kind = dtype_of(element_type(q.x)).kind
    x = c.cast(q.x, i8 if kind == "int" else ui8)
    return x if q.perm is None else c.transpose(x, list(q.perm))


def _zero(c: Compose, q: Quantised, like: SSAValue) -> SSAValue | None:
    """The zero point with the element type of its integers; one element is a scalar."""
    if q.zero is None:
        return None
    zero = c.cast_like(q.zero, like)
    return c.reshape(zero, ()) if q.axis is None and not q.rows else zero


def _factor(c: Compose, x: Quantised, w: Quantised) -> SSAValue:
    """The product of the scales, as f32; one element of a scale is a scalar."""
    scales = [
        c.cast(c.reshape(q.scale, ()) if q.axis is None and not q.rows else q.scale, f32)
        for q in (x, w)
    ]
    return c.mul(*scales)


MOST_STEPS = (2**31 - 1) // (255 * 255)
"""Steps of a product whose 32-bit sums of differences of bytes cannot overflow."""


def contracts(left: SSAValue, right: SSAValue, *, linear: bool) -> bool:
    """Whether the extents are those of integer kernels: a matrix or an equal stack at the right."""
    a, b = dims_of(left), dims_of(right)
    if not a or len(b) < 2 or not isinstance(a[-1], int) or a[-1] > MOST_STEPS:
        return False
    if a[-1] != b[-1 if linear else -2]:
        return False
    return len(b) == 2 or a[:-2] == b[:-2]


class ContractProduct(RewritePattern):
    """`linear` or `matmul` of dequantised operands."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: LinearOp | MatMulOp, rewriter: PatternRewriter):
        linear = isinstance(op, LinearOp)
        left, right = (op.x, op.w) if isinstance(op, LinearOp) else (op.a, op.b)
        if not contracts(left, right, linear=linear) or is_weight_only(left):
            return
        x, w = dequantised(left), dequantised(right)
        if x is None or w is None or x.axis is not None or w.rows:
            return
        columns = 0 if linear else rank_of(right) - 1
        if w.axis not in (None, columns) or element_type(op.results[0]) != f32:
            return
        if x.rows and rank_of(right) > 2:
            return
        c = Compose(RewriterBuilder(rewriter))
        a, b = integers(c, x), integers(c, w)
        b = c.transpose(b, [1, 0]) if isinstance(op, LinearOp) else b
        total = c.b(MatMulIntegerOp, a, b, _zero(c, x, a), _zero(c, w, b))
        y = c.mul(c.cast(total, f32), _factor(c, x, w))
        if isinstance(op, LinearOp) and op.bias is not None:
            y = c.add(y, op.bias)
        rewriter.replace(op, (), [y])


class ContractConv(RewritePattern):
    """`conv` of a dequantised image by dequantised weight filters."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConvOp, rewriter: PatternRewriter):
        x, w = dequantised(op.x), dequantised(op.w)
        if x is None or w is None or x.rows or w.rows or x.axis is not None:
            return
        if w.axis not in (None, 0) or not is_weight_only(op.w) or op.accumulate is not None:
            return
        c = Compose(RewriterBuilder(rewriter))
        a, b = integers(c, x), integers(c, w)
        names = ("strides", "dilations", "pads", "auto_pad", "data_layout", "groups")
        kept = {name: op.properties[name] for name in names if name in op.properties}
        total = c.b(ConvIntegerOp, a, b, _zero(c, x, a), _zero(c, w, b), **kept)
        axis = rank_of(op.x) - 1 if op.channels_last() else 1
        factor, bias = _factor(c, x, w), op.bias
        factor = factor if rank_of(factor) == 0 else c.per_channel(factor, rank_of(total), axis)
        y = c.mul(c.cast(total, f32), factor)
        y = y if bias is None else c.add(y, c.per_channel(bias, rank_of(total), axis))
        rewriter.replace(op, (), [y])


class DequantizeCastWeights(RewritePattern):
    """A cast of a matrix of 8-bit weights whose uses are right factors alone."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: CastOp, rewriter: PatternRewriter):
        row = dtype_of(element_type(op.x))
        if row.kind not in ("int", "uint") or row.bits > 8 or element_type(op.y) != f32:
            return
        if rank_of(op.x) != 2 or not _are_right_factors(op.y) or not is_weight_only(op.x):
            return
        c = Compose(RewriterBuilder(rewriter))
        rewriter.replace(op, (), [c.b(DequantizeLinearOp, op.x, c.constant(1.0, f32), None)])


def _are_right_factors(value: SSAValue) -> bool:
    """Whether products alone use a matrix, at their right, perhaps transposed."""
    users = [(use.operation, use.index) for use in value.uses]
    return bool(users) and all(
        _are_right_factors(user.y)
        if isinstance(user, TransposeOp)
        else isinstance(user, LinearOp | MatMulOp) and index == 1
        for user, index in users
    )


class ScaleBeforeRounding(RewritePattern):
    """A quantisation of relu(integers * factor + bias) scales the factor and the bias."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: QuantizeLinearOp, rewriter: PatternRewriter):
        if not op.single() or op.precision is not None or not is_weight_only(op.scale):
            return
        to = dtype_of(op.to)
        if to.kind not in ("int", "uint") or element_type(op.scale) != f32:
            return
        inner, relu = op.x, _only(op.x, ReluOp)
        inner = relu.operands[0] if relu is not None else inner
        added = _only(inner, AddOp)
        if added is not None and not is_weight_only(added.operands[1]):
            return
        product = _only(inner if added is None else added.operands[0], MulOp)
        if product is None or not is_weight_only(product.operands[1]):
            return
        whole = product.operands[0].owner
        if not isinstance(whole, CastOp) or element_type(whole.x) != i32:
            return
        c = Compose(RewriterBuilder(rewriter))
        scale = c.reshape(op.scale, ())
        y = c.mul(whole.y, c.div(product.operands[1], scale))
        if added is not None:
            y = c.add(y, c.div(added.operands[1], scale))
        y = c.round(c.b(ReluOp, y) if relu is not None else y)
        if integer_of(op.zero) != 0:
            assert op.zero is not None
            y = c.add(y, c.cast(c.reshape(op.zero, ()), f32))
        rewriter.replace(op, (), [saturated(c, y, to)])


class MultiplyByReciprocal(RewritePattern):
    """Another quantisation of what was computed from integers multiplies too."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: QuantizeLinearOp, rewriter: PatternRewriter):
        to = dtype_of(op.to)
        if to.kind not in ("int", "uint") or not op.single() or op.precision is not None:
            return
        if element_type(op.scale) != f32 or element_type(op.x) != f32:
            return
        if not is_weight_only(op.scale) or not _from_integers(op.x):
            return
        c = Compose(RewriterBuilder(rewriter))
        scale = c.reshape(op.scale, ())
        y = c.round(c.mul(op.x, c.div(c.like(1.0, scale), scale)))
        if integer_of(op.zero) != 0:
            assert op.zero is not None
            y = c.add(y, c.cast(c.reshape(op.zero, ()), f32))
        rewriter.replace(op, (), [saturated(c, y, to)])


def _from_integers(value: SSAValue) -> bool:
    """Whether element-wise ops compute a value from dequantised or summed integers."""
    work, seen = [value], set[SSAValue]()
    while work and len(seen) < MOST_OPS:
        current = work.pop()
        owner = current.owner
        if isinstance(owner, DequantizeLinearOp) and not is_weight_only(owner.x):
            return True
        if isinstance(owner, CastOp) and element_type(owner.x) == i32:
            return True
        if isinstance(owner, Elementwise) and current not in seen:
            seen.add(current)
            work.extend(owner.operands)
    return False


def _only(value: SSAValue, cls: type[ReluOp | AddOp | MulOp]):
    """The op of class `cls` that gives a value with one use; None if another one does."""
    found = value.has_one_use() and isinstance(value.owner, cls)
    return typed("ReluOp | AddOp | MulOp", value.owner) if found else None


class DropRoundTrip(RewritePattern):
    """Integers that are dequantised, moved or compared, and quantised alike need no floats.

    Quantising keeps the order of numbers, so the largest one of a window is that of its integers.
    """

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: QuantizeLinearOp, rewriter: PatternRewriter):
        if not op.single() or dtype_of(op.to).bits > 8 or op.precision is not None:
            return
        if _comes_from_integers(op.x, op):
            rewriter.replace(op, (), [_on_integers(op.x, rewriter)])


def _comes_from_integers(value: SSAValue, op: QuantizeLinearOp) -> bool:
    """Whether movements and maxima alone make a value of what was dequantised as `op` undoes it."""
    source = value.owner
    if isinstance(source, DequantizeLinearOp):
        alike = _same(op.scale, source.scale) and _same(op.zero, source.zero)
        return alike and source.single() and element_type(source.x) == op.to
    return (
        isinstance(source, MOVES)
        and value.has_one_use()
        and all(_comes_from_integers(operand, op) for operand in source.operands)
    )


def _on_integers(value: SSAValue, rewriter: PatternRewriter) -> SSAValue:
    source = value.owner
    if isinstance(source, DequantizeLinearOp):
        return source.x
    assert isinstance(source, TensorOp)
    moved = rebuilt(source, [_on_integers(operand, rewriter) for operand in source.operands])
    rewriter.insert(moved)
    return moved.results[0]


def sink_dequantised(module: ModuleOp) -> None:
    """Move a dequantised activation to its use, where it joins what is behind a product."""
    for op in list(module.walk()):
        if not isinstance(op, DequantizeLinearOp) or is_weight_only(op.x):
            continue
        users = [use.operation for use in op.y.uses]
        if len(users) == 1 and users[0].parent_block() is op.parent_block():
            op.detach()
            Rewriter.insert_op(op, InsertPoint.before(users[0]))


def _same(a: SSAValue | None, b: SSAValue | None) -> bool:
    """Whether two optional parameters are one value, or equal constants."""
    if a is None or b is None:
        return a is b
    if isinstance(a.owner, ConstantOp) and isinstance(b.owner, ConstantOp):
        return a.owner.value == b.owner.value
    return a is b


@dataclass(frozen=True)
class RecognizeQuantizedPass(ModulePass):
    """See the module docstring."""

    name = "recognize-quantized"

    def apply(self, ctx: XdslContext, op: ModuleOp) -> None:
        assert isinstance(ctx, Context)
        rewrite(op, DropRoundTrip(), DequantizeCastWeights())
        if ctx.settings.allows(REWRITE):
            rewrite(op, ContractProduct(), ContractConv())
            rewrite(op, ScaleBeforeRounding())
            rewrite(op, MultiplyByReciprocal())
        sink_dequantised(op)
