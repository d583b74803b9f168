"""Expand the composite ops that no template computes; bring the others into a template's form.

Before:

    %q = torsh.transpose %x {perm = array<i64: 0, 2, 1, 3>} : (tensor<1x128x12x64xf32>) -> ...
    %a = torsh.attention %q, %k, %v : ...
    %y = torsh.softmax %s {axis = 1 : i64} : (tensor<8x1000xf32>) -> tensor<8x1000xf32>
    %z = torsh.softmax %s {axis = 0 : i64} : (tensor<8x1000xf32>) -> tensor<8x1000xf32>

After: the attention is a `torsh.strided_attention` that reads `%x` where it stands, `%y` stays
as it is, and `%z`, which is not along rows, is the maximum, difference, exponential, sum and
quotient that it means. A norm over several last axes becomes one over rows. A resampling stays
whole, one op for each axis where its elements are sums.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from lowering.passes.schedule import reshape
from lowering.passes.views import View, contiguous, view_of
from torsh_dialect import dtypes
from torsh_dialect.attributes import PropertyValue, dims_attribute, floats_of, ints_of
from torsh_dialect.dims import Dim, evaluate_dim, product, symbols_of
from torsh_dialect.driver import rewrite
from torsh_dialect.ops.attention import AttentionOp
from torsh_dialect.ops.movement import TransposeOp
from torsh_dialect.ops.norm import LayerNormOp, RmsNormOp
from torsh_dialect.ops.resize import ResizeOp
from torsh_dialect.ops.softmax import LogSoftmaxOp, SoftmaxOp
from torsh_dialect.ops.strided_attention import StridedAttentionOp
from torsh_dialect.passes.expand_composites import Expand, RewriterBuilder
from torsh_dialect.types import DimsAttr, dims_of, element_type, rank_of

ROW_ELEMENTS = (dtypes.f32, dtypes.f64)
"""Element types of the templates over rows."""

MOST_HEAD = 4096
"""Greatest size of a head that the template computes: it unrolls over the vectors of a row."""

MOST_FACTOR = 9
"""Images are made larger by less than this, where that needs to be seen."""

HEADS_LAST = (0, 2, 1, 3)
"""The permutation that puts the rows of an attention's result before its heads."""


def fits(op: Operation) -> bool:
    """Whether a template computes the op, perhaps after this pass has changed its form."""
    match op:
        case SoftmaxOp() | LogSoftmaxOp():
            x = op.x
            return element_type(x) in ROW_ELEMENTS and op.normal_axis() == rank_of(x) - 1
        case LayerNormOp():
            return _rows_fit(op, op.scale, op.bias)
        case RmsNormOp():
            return _rows_fit(op, op.scale)
        case AttentionOp():
            return _attention_fits(op)
        case ResizeOp():
            return _resize_fits(op)
        case _:
            return False


def _resize_fits(op: ResizeOp) -> bool:
    """Whether elements are computed one by one: each from places that there are."""
    rounded = op.mode.data != "nearest" and element_type(op.x) not in ROW_ELEMENTS
    pairs = [(dims_of(op.x)[axis], dims_of(op.y)[axis]) for axis in op.moving()]
    return op.is_plain() and not rounded and all(_has_source(*pair) for pair in pairs)


def _has_source(extent: Dim, count: Dim) -> bool:
    """Whether there is an element for each of `count` results, even where the extent is 0."""
    if any(count == extent * factor for factor in range(1, MOST_FACTOR)):
        return True
    if isinstance(extent, int):
        return extent > 0 or count == 0
    if isinstance(count, int):
        return count == 0
    if symbols_of(extent) != symbols_of(count):
        return False
    empty = dict.fromkeys(symbols_of(extent), 0)
    return evaluate_dim(extent, empty) == 0 and evaluate_dim(count, empty) == 0


def _rows_fit(op: LayerNormOp | RmsNormOp, *others: SSAValue | None) -> bool:
    """Whether the axes of a norm are whole rows with a factor and summand for each column."""
    element, axes = element_type(op.x), op.axes()
    columns = dims_of(op.x)[axes[0] :]
    return element in ROW_ELEMENTS and all(
        v is None or (dims_of(v) == columns and element_type(v) == element) for v in others
    )


def _attention_fits(op: AttentionOp) -> bool:
    (_, h, _, e), (_, g, keys, f) = dims_of(op.q), dims_of(op.v)
    if element_type(op.q) != dtypes.f32 or not all(isinstance(d, int) and d for d in (h, g, e, f)):
        return False
    if any(isinstance(d, int) and d > MOST_HEAD for d in (e, f)):
        return False
    if op.mask is None:
        return True
    # Along an axis a mask has one entry or all of them; which, must be known, and along keys
    # they are read as vectors.
    scores = (*dims_of(op.q)[:3], keys)
    mask = (*(1,) * (4 - rank_of(op.mask)), *dims_of(op.mask))
    repeated = all(m in (1, s) for m, s in zip(mask, scores, strict=True))
    return repeated and mask[3] == keys


class NormOverRows(RewritePattern):
    """A norm over several axes is one over rows of as many elements."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: LayerNormOp | RmsNormOp, rewriter: PatternRewriter):
        axes, dims = op.axes(), dims_of(op.x)
        if len(axes) == 1:
            return
        b = RewriterBuilder(rewriter)
        columns = product(dims[axes[0] :])
        others = [reshape(b, value, columns) for value in op.operands[1:]]
        x = reshape(b, op.x, *dims[: axes[0]], columns)
        if isinstance(op, LayerNormOp):
            scale = None if op.scale is None else others[0]
            bias = None if op.bias is None else others[-1]
            y = b(LayerNormOp, x, scale, bias, axis=-1, epsilon=op.epsilon)
        else:
            y = b(RmsNormOp, x, *others, axis=-1, epsilon=op.epsilon)
        rewriter.replace(op, (), [reshape(b, y, *dims)])


def row_view(value: SSAValue) -> View:
    """A value as a view whose last axis has no gaps."""
    view = view_of(value)
    return view if view.strides[-1] == 1 or view.dims[-1] == 1 else contiguous(value)


def position(view: View) -> DimsAttr:
    """Where the rows of a view stand, as `torsh.strided_attention` has it."""
    return dims_attribute((view.offset, *view.strides[:3]))


class StrideAttention(RewritePattern):
    """An attention reads its operands, and writes its result, where they stand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: AttentionOp, rewriter: PatternRewriter):
        if not _attention_fits(op):
            return
        (batch, h, rows, e), (_, g, keys, f) = dims_of(op.q), dims_of(op.v)
        assert isinstance(e, int)
        views = [row_view(value) for value in (op.q, op.k, op.v)]
        strided = StridedAttentionOp.make(
            *(view.base for view in views),
            op.mask,
            extents=dims_attribute((batch, h, g, rows, keys, e, f)),
            q_view=position(views[0]),
            k_view=position(views[1]),
            v_view=position(views[2]),
            scale=op.factor(e),
            causal=op.causal,
            offset=op.offset,
            softcap=op.softcap,
            nan_unseen=op.nan_unseen,
            location=op.location,
        )
        rewriter.insert(strided)
        rewriter.replace(op, (), list(strided.results))


class WriteRowsFirst(RewritePattern):
    """An attention whose result is only wanted with its rows before its heads writes it so."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: TransposeOp, rewriter: PatternRewriter):
        source = op.x.owner
        if not isinstance(source, StridedAttentionOp) or not op.x.has_one_use():
            return
        if source.rows_first is not None or ints_of(op.perm) != HEADS_LAST:
            return
        kept = {k: v for k, v in source.properties.items() if k != "operandSegmentSizes"}
        turned = StridedAttentionOp.make(
            source.q, source.k, source.v, source.mask,
            rows_first=True, location=source.location, regions=(), **kept,
        )  # fmt: skip
        rewriter.insert(turned)
        rewriter.replace(op, (), list(turned.results))


def _grows(op: ResizeOp, axis: int) -> bool:
    """Whether a resampling is known to leave no element of an axis out."""
    if op.scales is not None:
        return floats_of(op.scales)[axis] >= 1
    extent, count = dims_of(op.x)[axis], dims_of(op.y)[axis]
    return isinstance(extent, int) and isinstance(count, int) and count >= extent


class ResizeByAxis(RewritePattern):
    """A resampling whose elements are sums is done axis after axis, the first axis first.

    Where elements are only repeated, the order is that which looks for the fewest: along rows
    before there are more of them.
    """

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ResizeOp, rewriter: PatternRewriter):
        moving = op.moving()
        if len(moving) == 1 or not _resize_fits(op):
            return
        if op.mode.data == "nearest":
            if not all(_grows(op, axis) for axis in moving):
                return
            moving.reverse()
        y, output, b = op.x, list(dims_of(op.x)), RewriterBuilder(rewriter)
        factors = () if op.scales is None else floats_of(op.scales)
        kept: dict[str, PropertyValue] = dict(op.properties)
        del kept["operandSegmentSizes"]
        for axis in moving:
            output[axis] = dims_of(op.y)[axis]
            kept["output"] = dims_attribute(output)
            if factors:
                kept["scales"] = [f if n == axis else 1.0 for n, f in enumerate(factors)]
            y = b(ResizeOp, y, None, None, **kept)
        rewriter.replace(op, (), [y])


@dataclass(frozen=True)
class FitCompositesPass(ModulePass):
    """See the module docstring."""

    name = "fit-composites"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, Expand(fits))
        rewrite(op, NormOverRows(), StrideAttention(), ResizeByAxis())
        rewrite(op, WriteRowsFirst())
