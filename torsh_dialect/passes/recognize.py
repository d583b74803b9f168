"""Find attention and norms that a model writes out, and make one op of each.

Before:

    %s = torsh.matmul %q, %kt : ...
    %a = torsh.add %s, %mask : ...
    %p = torsh.softmax %a {axis = -1 : i64} : ...
    %y = torsh.matmul %p, %v : ...

After, with `%k` the transpose of `%kt`:

    %y = torsh.attention %q, %k, %v, %mask {nan_unseen = true, scale = 1.0 : f64} : ...

`(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)` becomes `torsh.layer_norm`, the same
without the mean `torsh.rms_norm`, and a factor and a summand for each column join them. The
order of roundings changes: it is the rewrite `recognize` of the settings. Only f32 is touched,
where no rounding between the ops is part of what the model says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from xdsl.context import Context as XdslContext
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, OpResult, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect.attributes import Array, bool_of, dims_attribute, ints_of
from torsh_dialect.context import Context
from torsh_dialect.dims import Dim, product
from torsh_dialect.driver import rewrite
from torsh_dialect.dtypes import f32
from torsh_dialect.kinds import Builder, Elementwise
from torsh_dialect.ops.attention import AttentionOp
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.ops.contract import MatMulOp
from torsh_dialect.ops.elementwise import (
    AddOp,
    DivOp,
    MulOp,
    PowOp,
    ReciprocalOp,
    SquareOp,
    SubOp,
)
from torsh_dialect.ops.logic import LogicalNotOp
from torsh_dialect.ops.maths import RsqrtOp, SqrtOp
from torsh_dialect.ops.movement import ReshapeOp, TransposeOp
from torsh_dialect.ops.norm import LayerNormOp, RmsNormOp
from torsh_dialect.ops.reduce import MeanOp
from torsh_dialect.ops.select import WhereOp
from torsh_dialect.ops.softmax import SoftmaxOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.types import dims_of, element_type, rank_of

T = TypeVar("T", bound=Operation)

MOST_STEPS = 8
"""Ops between constants and a number: exporters write a scale as 1 / sqrt(sqrt(cast(64)))."""


def source(value: SSAValue, cls: type[T]) -> T | None:
    """The op of class `cls` that computes a value, if one does."""
    return value.op if isinstance(value, OpResult) and isinstance(value.op, cls) else None


def number(value: SSAValue) -> float | None:
    """The value of one element that constants alone give."""
    array = _constant(value, MOST_STEPS)
    return None if array is None else float(array.reshape(-1)[0])


def _constant(value: SSAValue, steps: int) -> Array | None:
    """What constants alone give in a chain of so many ops, each with one operand but constants."""
    if product(dims_of(value)) != 1 or not isinstance(value, OpResult):
        return None
    op = value.op
    if isinstance(op, ConstantOp):
        return op.value.data.array()
    if not steps or not isinstance(op, Elementwise | ReshapeOp):
        return None
    computed = [operand for operand in op.operands if source(operand, ConstantOp) is None]
    if len(computed) > 1:
        return None
    operands = [_constant(operand, steps - 1) for operand in op.operands]
    known = [array for array in operands if array is not None]
    return op.evaluate(*known)[value.index] if len(known) == len(operands) else None


def other_than_number(a: SSAValue, b: SSAValue) -> tuple[SSAValue, float] | None:
    """The operand of a commutative op that is no number, and the number beside it."""
    for value, beside in ((a, b), (b, a)):
        found = number(beside)
        if found is not None and rank_of(beside) <= rank_of(value):
            return value, found
    return None


# -- attention


@dataclass(frozen=True)
class Scaled:
    """`factor * transpose(value, perm)`."""

    value: SSAValue
    factor: float
    perm: tuple[int, ...]

    def turned(self, b: Builder, *, swap: bool = False) -> SSAValue:
        """The value under its permutation; with `swap`, the last two axes change places."""
        perm = (*self.perm[:-2], self.perm[-1], self.perm[-2]) if swap else self.perm
        return b(TransposeOp, self.value, perm=list(perm))


def scaled(value: SSAValue) -> Scaled:
    """A value without the numbers that it is multiplied with or divided by."""
    factor, perm = 1.0, tuple(range(rank_of(value)))
    while value.has_one_use():
        if (times := source(value, MulOp)) is not None:
            found = other_than_number(times.a, times.b)
            if found is None:
                break
            value, factor = found[0], factor * found[1]
        elif (over := source(value, DivOp)) is not None:
            divisor = number(over.b)
            if not divisor or rank_of(over.b) > rank_of(over.a):
                break
            value, factor = over.a, factor / divisor
        elif (turned := source(value, TransposeOp)) is not None:
            inner = ints_of(turned.perm)
            value, perm = turned.x, tuple(inner[p] for p in perm)
        else:
            break
    return Scaled(value, factor, perm)


@dataclass(frozen=True)
class Scores:
    """What a softmax is taken of: `factor * q @ kt`, and a mask or what is hidden."""

    q: Scaled
    kt: Scaled
    factor: float
    mask: SSAValue | None = None
    is_hidden: bool = False

    def dims(self) -> tuple[tuple[Dim, ...], tuple[Dim, ...]]:
        """Extents of q and of kt."""
        q, kt = (tuple(dims_of(x.value)[p] for p in x.perm) for x in (self.q, self.kt))
        return q, kt


def scores_of(value: SSAValue) -> Scores | None:
    """The parts of an attention's scores; None where they are something else."""
    if not value.has_one_use():
        return None
    if (sum_ := source(value, AddOp)) is not None:
        for inner, mask in ((sum_.a, sum_.b), (sum_.b, sum_.a)):
            found = _product(inner)
            if found is not None and dims_of(inner) == dims_of(value):
                return replace(found, mask=mask)
        return None
    if (chosen := source(value, WhereOp)) is not None:
        for inner, beside in ((chosen.a, chosen.b), (chosen.b, chosen.a)):
            if number(beside) == float("-inf") and dims_of(inner) == dims_of(value):
                found = _product(inner)
                hidden = inner is chosen.b
                return found and replace(found, mask=chosen.condition, is_hidden=hidden)
        return None
    return _product(value)


def _product(value: SSAValue) -> Scores | None:
    outer = scaled(value)
    matmul = source(outer.value, MatMulOp)
    if matmul is None or not outer.value.has_one_use() or matmul.accumulate is not None:
        return None
    if outer.perm != tuple(range(len(outer.perm))):
        return None
    q, kt = scaled(matmul.a), scaled(matmul.b)
    return Scores(q, kt, outer.factor * q.factor * kt.factor)


class RecognizeAttention(RewritePattern):
    """`matmul(softmax(scores), v)` over rank 3 or 4 becomes `attention`."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: MatMulOp, rewriter: PatternRewriter):
        softmax = source(op.a, SoftmaxOp)
        if softmax is None or not op.a.has_one_use() or op.accumulate is not None:
            return
        if element_type(op.a) != f32 or softmax.normal_axis() != rank_of(op.a) - 1:
            return
        scores = scores_of(softmax.x)
        if scores is None or not _whole(scores, op.b):
            return
        b = RewriterBuilder(rewriter)
        q, k = scores.q.turned(b), scores.kt.turned(b, swap=True)
        mask = scores.mask
        if mask is not None:
            shown = b(LogicalNotOp, mask) if scores.is_hidden else mask
            mask = _with_heads(b, shown, rank_of(op.a))
        operands = (_with_heads(b, value, rank_of(op.a)) for value in (q, k, op.b))
        y = b(AttentionOp, *operands, mask, scale=scores.factor, nan_unseen=True)
        rewriter.replace(op, (), [_reshaped(b, y, dims_of(op.y))])


def _whole(scores: Scores, v: SSAValue) -> bool:
    """Whether the operands have the extents of an attention, without broadcasting."""
    (q, kt), values = scores.dims(), dims_of(v)
    if not len(q) == len(kt) == len(values) or len(q) not in (3, 4):
        return False
    if not (q[:-2] == kt[:-2] == values[:-2] and q[-1] == kt[-2] and kt[-1] == values[-2]):
        return False
    if scores.mask is None:
        return True
    wanted = (*q[:-1], kt[-1])
    mask = (1,) * (len(wanted) - rank_of(scores.mask)) + dims_of(scores.mask)
    return len(mask) == len(wanted) and all(m in (1, w) for m, w in zip(mask, wanted, strict=True))


def _with_heads(b: Builder, value: SSAValue, rank: int) -> SSAValue:
    """A value of a product of `rank` axes with an axis of heads: batch of rank 3 is kept."""
    dims = dims_of(value)
    if rank == 4 or len(dims) < 3:
        return value
    return b(ReshapeOp, value, target=dims_attribute((dims[0], 1, *dims[1:])))


def _reshaped(b: Builder, value: SSAValue, dims: Sequence[Dim]) -> SSAValue:
    if dims_of(value) == tuple(dims):
        return value
    return b(ReshapeOp, value, target=dims_attribute(dims))


# -- norms


@dataclass(frozen=True)
class Spread:
    """`sqrt(mean(of^2) + epsilon)` over the axes from `axis` on."""

    of: SSAValue
    axis: int
    epsilon: float


def spread(value: SSAValue) -> Spread | None:
    """The spread that a value is; None where it is something else."""
    root = source(value, SqrtOp)
    return None if root is None else _mean_square(root.x)


def inverse_spread(value: SSAValue) -> Spread | None:
    """The spread that a value is one over; None where it is something else."""
    if (root := source(value, RsqrtOp)) is not None:
        return _mean_square(root.x)
    if (one_over := source(value, ReciprocalOp)) is not None:
        return spread(one_over.x)
    if (over := source(value, DivOp)) is not None and number(over.a) == 1.0:
        return spread(over.b)
    return None


def _mean_square(value: SSAValue) -> Spread | None:
    total = source(value, AddOp)
    found = None if total is None else other_than_number(total.a, total.b)
    mean = None if found is None else source(found[0], MeanOp)
    axis = None if mean is None else last_axes(mean)
    if found is None or mean is None or axis is None:
        return None
    of = _squared(mean.x)
    return None if of is None else Spread(of, axis, found[1])


def _squared(value: SSAValue) -> SSAValue | None:
    if (square := source(value, SquareOp)) is not None:
        return square.x
    if (times := source(value, MulOp)) is not None and times.a is times.b:
        return times.a
    if (power := source(value, PowOp)) is not None and number(power.b) == 2.0:
        return power.a
    return None


def last_axes(op: MeanOp) -> int | None:
    """The first of the axes of a mean that keeps them, if they are the last ones."""
    axes, rank = op.axis_list(), rank_of(op.x)
    if not axes or axes != tuple(range(axes[0], rank)) or not bool_of(op.keepdims):
        return None
    return axes[0]


def centred(value: SSAValue, axis: int) -> SSAValue | None:
    """Returns x where a value is `x - mean(x)` over the axes from `axis` on."""
    difference = source(value, SubOp)
    mean = None if difference is None else source(difference.b, MeanOp)
    if difference is None or mean is None or mean.x is not difference.a:
        return None
    return difference.a if last_axes(mean) == axis else None


class RecognizeNorm(RewritePattern):
    """`x / spread` or `x * (1 / spread)` becomes `layer_norm` or `rms_norm`."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: DivOp | MulOp, rewriter: PatternRewriter):
        if element_type(op.y) != f32:
            return
        pairs = ((op.a, op.b),) if isinstance(op, DivOp) else ((op.a, op.b), (op.b, op.a))
        for x, beside in pairs:
            found = spread(beside) if isinstance(op, DivOp) else inverse_spread(beside)
            if found is not None and found.of is x:
                self._replace(op, found, rewriter)
                return

    def _replace(self, op: Operation, found: Spread, rewriter: PatternRewriter) -> None:
        b, x = RewriterBuilder(rewriter), centred(found.of, found.axis)
        where = {"axis": found.axis, "epsilon": found.epsilon}
        y = b(RmsNormOp, found.of, **where) if x is None else b(LayerNormOp, x, **where)
        rewriter.replace(op, (), [y])


class JoinScale(RewritePattern):
    """A factor for each column of a norm's rows becomes its scale."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: MulOp, rewriter: PatternRewriter):
        for value, scale in ((op.a, op.b), (op.b, op.a)):
            norm = source(value, LayerNormOp) or source(value, RmsNormOp)
            if norm is None or len(norm.operands) > 1 or not _is_per_column(norm, scale):
                continue
            new = type(norm).make(
                norm.x, scale, axis=norm.axis, epsilon=norm.epsilon, location=norm.location
            )
            rewriter.insert(new)
            rewriter.replace(op, (), list(new.results))
            return


class JoinBias(RewritePattern):
    """A summand for each column of a layer norm's rows becomes its bias."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: AddOp, rewriter: PatternRewriter):
        for value, bias in ((op.a, op.b), (op.b, op.a)):
            norm = source(value, LayerNormOp)
            if norm is None or norm.bias is not None or not _is_per_column(norm, bias):
                continue
            new = LayerNormOp.make(
                norm.x, norm.scale, bias, axis=norm.axis, epsilon=norm.epsilon,
                location=norm.location,
            )  # fmt: skip
            rewriter.insert(new)
            rewriter.replace(op, (), list(new.results))
            return


def _is_per_column(norm: LayerNormOp | RmsNormOp, value: SSAValue) -> bool:
    """Whether a value has one element for each column, and the norm no other user."""
    columns = dims_of(norm.x)[norm.axes()[0] :]
    return norm.y.has_one_use() and dims_of(value) == columns and element_type(norm.x) == f32


@dataclass(frozen=True)
class RecognizePass(ModulePass):
    """See the module docstring."""

    name = "recognize"

    def apply(self, ctx: XdslContext, op: ModuleOp) -> None:
        assert isinstance(ctx, Context)
        if ctx.settings.allows("recognize"):
            rewrite(op, RecognizeAttention(), RecognizeNorm(), JoinScale(), JoinBias())
