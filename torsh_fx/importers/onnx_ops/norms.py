"""Normalisation, softmax, attention, losses."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import floordiv, product
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.norm import (
    BatchNormOp,
    GroupNormOp,
    InstanceNormOp,
    LayerNormOp,
    LpNormalizeOp,
    LrnOp,
    MeanVarianceNormOp,
    RmsNormOp,
)
from torsh_dialect.ops.softmax import HardmaxOp, LogSoftmaxOp, SoftmaxOp
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter

SOFTMAXES: dict[str, type[TensorOp]] = {
    "Softmax": SoftmaxOp,
    "LogSoftmax": LogSoftmaxOp,
    "Hardmax": HardmaxOp,
}


@converter(*SOFTMAXES)
def softmax(n: Node) -> SSAValue:
    """Before opset 13 all axes from `axis` on were one."""
    cls, x = SOFTMAXES[n.op_type], n.input(0)
    if n.version >= 13:
        return n(cls, x, axis=n.axis(-1))
    axis, dims = n.axis(1), n.dims()
    if axis == len(dims) - 1:
        return n(cls, x, axis=axis)
    flat = n.c.reshape(x, (*dims[:axis], product(dims[axis:])))
    return n.c.reshape(n(cls, flat, axis=axis), dims)


@converter("BatchNormalization")
def batch_norm(n: Node) -> SSAValue | Sequence[SSAValue | None]:
    """`training_mode` computes statistics over the batch and also gives running ones."""
    operands = [n.input(i) for i in range(5)]
    epsilon = n.float("epsilon", 1e-5)
    if n.version < 7 and not n.int("is_test", 0):
        raise NotSupported("batch normalisation in training mode", "export for inference")
    if not n.int("spatial", 1):
        raise NotSupported("statistics for each element (spatial = 0)", "convert to opset 9")
    if not n.int("training_mode", 0):
        return n(BatchNormOp, *operands, epsilon=epsilon)
    x, _, _, mean, variance = operands
    c, axes = n.c, [a for a in range(rank_of(x)) if a != 1]
    wide = c.wide(x)
    now = c.mean(wide, axes)
    centred = c.sub(wide, c.per_channel(now, rank_of(x)))
    spread = c.mean(c.mul(centred, centred), axes)
    momentum = n.float("momentum", 0.9)
    batch = [c.cast_like(now, mean), c.cast_like(spread, variance)]
    y = n(BatchNormOp, *operands[:3], *batch, epsilon=epsilon)
    running = [
        c.add(c.mul(old, momentum), c.mul(new, 1 - momentum))
        for old, new in zip((mean, variance), batch, strict=True)
    ]
    return [y, *running]


@converter("InstanceNormalization")
def instance_norm(n: Node) -> SSAValue:
    operands = [n.input(i) for i in range(3)]
    return n(InstanceNormOp, *operands, epsilon=n.float("epsilon", 1e-5))


@converter("GroupNormalization")
def group_norm(n: Node) -> SSAValue:
    """Scale and bias are one per group in opset 18, one per channel since 21."""
    x, scale, bias = (n.input(i) for i in range(3))
    groups = n.int("num_groups")
    channels = dims_of(x)[1]
    if n.version < 21:
        each = (groups, floordiv(channels, groups))
        scale, bias = (
            v
            if dims_of(v)[0] == channels
            else n.c.reshape(n.c.broadcast(n.c.reshape(v, (groups, 1)), each), (channels,))
            for v in (scale, bias)
        )
    return n(GroupNormOp, x, scale, bias, groups=groups, epsilon=n.float("epsilon", 1e-5))


@converter("LayerNormalization")
def layer_norm(n: Node) -> Sequence[SSAValue | None]:
    """Also the mean and the inverse spread, where somebody wants them."""
    x, axis, epsilon = n.input(0), n.axis(-1), n.float("epsilon", 1e-5)
    y = n(LayerNormOp, x, n.input(1), n.optional(2), axis=axis, epsilon=epsilon)
    return [y, *_statistics(n, x, axis, epsilon)]


def _statistics(n: Node, x: SSAValue, axis: int, epsilon: float) -> list[SSAValue | None]:
    if not n.wants(1) and not n.wants(2):
        return [None, None]
    c, axes = n.c, range(axis, rank_of(x))
    wide = c.wide(x)
    mean = c.mean(wide, axes, keep=True)
    centred = c.sub(wide, mean)
    variance = c.mean(c.mul(centred, centred), axes, keep=True)
    return [mean, c.div(c.like(1.0, variance), c.sqrt(c.add(variance, epsilon)))]


@converter("RMSNormalization")
def rms_norm(n: Node) -> SSAValue:
    axis, epsilon = n.axis(-1), n.float("epsilon", 1e-5)
    return n(RmsNormOp, n.input(0), n.input(1), axis=axis, epsilon=epsilon)


@converter("SimplifiedLayerNormalization", domain="")
@converter("SimplifiedLayerNormalization", domain=MS)
def simplified_layer_norm(n: Node) -> SSAValue:
    return rms_norm(n)


@converter("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MS)
def skip_layer_norm(n: Node) -> Sequence[SSAValue | None]:
    """Layer norm of input + skip + bias; the fourth result is that sum."""
    c, simple = n.c, n.op_type == "SkipSimplifiedLayerNormalization"
    bias = n.optional(3 if simple else 4)
    total = c.add(n.input(0), n.input(1))
    total = total if bias is None else c.add(total, bias)
    epsilon = n.float("epsilon", 1e-12)
    if simple:
        y = n(RmsNormOp, total, n.input(2), axis=-1, epsilon=epsilon)
    else:
        y = n(LayerNormOp, total, n.input(2), n.optional(3), axis=-1, epsilon=epsilon)
    if n.wants(1) or n.wants(2):
        return [y, *_statistics(n, total, rank_of(total) - 1, epsilon), total]
    return [y, None, None, total]


@converter("LpNormalization")
def lp_normalization(n: Node) -> SSAValue:
    return n(LpNormalizeOp, n.input(0), axis=n.axis(-1), p=n.int("p", 2), epsilon=0.0)


@converter("LRN")
def lrn(n: Node) -> SSAValue:
    values = {"alpha": n.float("alpha", 1e-4), "beta": n.float("beta", 0.75)}
    return n(LrnOp, n.input(0), size=n.int("size"), bias=n.float("bias", 1.0), **values)


@converter("MeanVarianceNormalization")
def mean_variance_norm(n: Node) -> SSAValue:
    return n(MeanVarianceNormOp, n.input(0), axes=n.ints("axes", [0, 2, 3]), epsilon=1e-9)


# -- losses


@converter("NegativeLogLikelihoodLoss")
def nll_loss(n: Node) -> SSAValue:
    return _nll(n, n.input(0), n.input(1), n.optional(2))


@converter("SoftmaxCrossEntropyLoss")
def cross_entropy(n: Node) -> Sequence[SSAValue | None]:
    scores = n(LogSoftmaxOp, n.input(0), axis=1)
    return [_nll(n, scores, n.input(1), n.optional(2)), scores]


def _nll(n: Node, scores: SSAValue, target: SSAValue, weight: SSAValue | None) -> SSAValue:
    """-weight[t] * scores[n, t, ...], ignored classes left out, then reduced."""
    c, dims = n.c, dims_of(target)
    ignore = n.int("ignore_index") if n.has("ignore_index") else None
    target = c.cast(target, dtypes.i64)
    keep = None if ignore is None else c.eq(c.eq(target, ignore), c.constant(False, dtypes.i1))
    safe = target if keep is None else c.where(keep, target, c.like(0, target))
    picked = c.take_along(scores, c.reshape(safe, (dims[0], 1, *dims[1:])), 1)
    loss = c.neg(c.reshape(picked, dims))
    share = None if weight is None else c.take(weight, safe, 0)
    if keep is not None:
        one = c.like(1.0, loss) if share is None else share
        share = c.where(keep, one, c.like(0.0, loss))
        loss = c.where(keep, loss, c.like(0.0, loss))
    if share is not None:
        loss = c.mul(loss, share)
    return _reduced(n, loss, share)


def _reduced(n: Node, loss: SSAValue, share: SSAValue | None) -> SSAValue:
    """The losses, their sum, or their mean weighted by `share`."""
    c, dims = n.c, dims_of(loss)
    axes, reduction = range(len(dims)), n.str("reduction", "mean")
    if reduction not in ("none", "sum", "mean"):
        raise NotSupported(f"reduction {reduction!r}", "use none, sum or mean")
    if reduction == "none":
        return loss
    if reduction == "sum":
        return c.sum(loss, axes)
    if share is None:
        return c.mean(loss, axes)
    return c.div(c.sum(loss, axes), c.sum(c.broadcast(share, dims), axes))
