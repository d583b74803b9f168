"""Normalisations and softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, divide_exact, product
from torsh_dialect.dtypes import Element
from torsh_dialect.ops import norm, softmax
from torsh_dialect.ops.maths import RsqrtOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts, used
from torsh_fx.importers.torch_ops.reduce import vector_norm


@converts("layer_norm", "native_layer_norm")
def _layer_norm(
    c: NodeBuilder,
    x: SSAValue,
    shape: Sequence[Dim],
    w: SSAValue | None = None,
    b: SSAValue | None = None,
    eps: float = 1e-5,
    *rest: Any,
) -> Any:
    axis = rank_of(x) - len(shape)
    y = c.b(norm.LayerNormOp, x, w, b, axis=axis, epsilon=float(eps))
    if "native" not in str(c.node.target):
        return y
    axes = list(range(axis, rank_of(x)))
    return (y, *_statistics(c, x, axes, eps))


def _statistics(c: NodeBuilder, x: SSAValue, axes: list[int], eps: float) -> tuple[Any, Any]:
    """The mean and the inverse deviation over axes, where the node's results 1 and 2 are used."""
    if not used(c, 1) and not used(c, 2):
        return None, None
    wide = c.wide(x)
    mean = c.mean(wide, axes, keep=True)
    centred = c.sub(wide, mean)
    spread = c.b(RsqrtOp, c.add(c.mean(c.mul(centred, centred), axes, keep=True), float(eps)))
    return tuple(
        c.cast(c.reshape(v, c.out_dims(n)), c.out_element(n)) for n, v in ((1, mean), (2, spread))
    )  # pyright: ignore[reportReturnType]


@converts("rms_norm", "_fused_rms_norm")
def _rms_norm(
    c: NodeBuilder,
    x: SSAValue,
    shape: Sequence[Dim],
    w: SSAValue | None = None,
    eps: float | None = None,
) -> Any:
    import torch

    default = torch.float64 if element_type(x) == dtypes.f64 else torch.float32
    small = float(torch.finfo(default).eps) if eps is None else float(eps)
    y = c.b(norm.RmsNormOp, x, w, axis=rank_of(x) - len(shape), epsilon=small)
    if "fused" not in str(c.node.target):
        return y
    if used(c, 1):
        wide = c.wide(x)
        axes = list(range(rank_of(x) - len(shape), rank_of(x)))
        square = c.mean(c.mul(wide, wide), axes, keep=True)
        return y, c.cast(c.b(RsqrtOp, c.add(square, small)), c.out_element(1))
    return y, None


@converts(
    "batch_norm",
    "_native_batch_norm_legit_no_training",
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit.no_stats",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
    "_native_batch_norm_legit_functional",
    "_batch_norm_with_update_functional",
)
def _batch_norm(
    c: NodeBuilder, x: SSAValue, w: SSAValue | None, b: SSAValue | None, *rest: Any
) -> Any:
    name = str(c.node.target)
    if "with_update" in name:
        (mean, variance, momentum, eps), training = rest[:4], True
        rest = (mean, variance, True, momentum, eps)
    elif "no_stats" in name:
        (training, _, eps), mean, variance = rest[:3], None, None
    elif "no_training" in name or "no_update" in name:
        (mean, variance, _, eps), training = rest[:4], False
    else:
        mean, variance, training, _, eps = rest[:5]
    if 0 in dims_of(x) and rank_of(x) < 2:
        return c.finished(x)  # no channels, and no elements that would need one
    channels = dims_of(x)[1] if rank_of(x) > 1 else 1
    element = element_type(mean if mean is not None else w if w is not None else x)
    if training or mean is None:
        return _batch_statistics(c, x, w, b, (mean, variance, rest, float(eps)))
    scale = w if w is not None else c.full(1, [channels], element)
    shift = b if b is not None else c.full(0, [channels], element)
    y = c.b(norm.BatchNormOp, x, scale, shift, mean, variance, epsilon=float(eps))
    if name.startswith("aten.batch_norm"):
        return y
    count = 3 if "functional" in name else len(c.meta())
    empty = [c.full(0, [0], c.out_element(number)) for number in range(1, count)]
    return [y, *empty, mean, variance] if "functional" in name else [y, *empty]


def _batch_statistics(
    c: NodeBuilder, x: SSAValue, w: SSAValue | None, b: SSAValue | None, state: tuple[Any, ...]
) -> Any:
    """Normalisation by the batch's own mean and variance, and the new running statistics.

    ATen computes the results `save_mean` and `save_invstd` first and normalises by what they
    hold, rounded to their type (`batch_norm_cpu_transform_input_template`).
    """
    running_mean, running_variance, rest, eps = state
    held = _Held(c, element_type(next((v for v in (running_mean, w) if v is not None), x)))
    wide = c.wide(x)
    axes = [n for n in range(rank_of(x)) if n != 1]
    mean = c.mean(wide, axes, keep=True)
    centred = c.sub(wide, mean)
    squares = held.step(c.sum(c.mul(centred, centred), axes, keep=True))
    count = c.cast(c.dim(product(dims_of(x)[n] for n in axes)), element_type(wide))
    variance = held.step(c.div(squares, count))
    saved = [held.result(v) for v in (mean, c.b(RsqrtOp, c.add(variance, eps)))]
    y = c.mul(c.sub(wide, saved[0]), saved[1])
    scale, shift = (
        None if v is None else c.cast_like(c.per_channel(v, rank_of(x)), y) for v in (w, b)
    )
    y = c.narrow(c.affine(y, scale, shift), x)
    if str(c.node.target).startswith("aten.batch_norm"):
        return y
    channels = [dims_of(x)[1]]
    found = [y, *(c.reshape(v, channels) for v in saved)]
    if "functional" in str(c.node.target):
        part = held.step(c.like(float(rest[3]), mean))
        change = held.step(c.mul(held.step(mean), part))
        found.append(held.moved(running_mean, c.reshape(change, channels), part))
        change = c.mul(held.step(c.div(squares, c.sub(count, 1.0))), part)
        found.append(held.moved(running_variance, c.reshape(change, channels), part))
    if "with_update" in str(c.node.target):
        found.insert(3, c.full(0, [0], c.out_element(3)))
    return [c.finished(v, n) for n, v in enumerate(found[: len(c.meta())])]


@dataclass(frozen=True)
class _Held:
    """Statistics of a batch as torch holds them: computed in f32 or f64, kept in another type.

    With parameters of bf16 torch also keeps the sum of squares and what follows from it in bf16;
    with those of f16, where such a sum would overflow, in f32.

    Attributes:
        c: Builds.
        element: The type of the parameters, and of the results.
    """

    c: NodeBuilder
    element: Element

    def result(self, x: SSAValue) -> SSAValue:
        """What a result of the op holds."""
        return self.c.cast(self.c.cast(x, self.element), element_type(x))

    def step(self, x: SSAValue) -> SSAValue:
        """What a step on the way holds."""
        return self.result(x) if self.element == dtypes.bf16 else x

    def moved(self, old: SSAValue, change: SSAValue, part: SSAValue) -> SSAValue:
        """The running statistic `old` times 1 - `part`, with `change` added."""
        c = self.c
        rest = self.step(c.sub(c.like(1.0, part), part))
        return c.add(self.step(c.mul(c.cast_like(old, change), rest)), change)


@converts("group_norm")
def _group_norm(
    c: NodeBuilder,
    x: SSAValue,
    groups: int,
    w: SSAValue | None = None,
    b: SSAValue | None = None,
    eps: float = 1e-5,
    *rest: Any,
) -> SSAValue:
    return c.b(norm.GroupNormOp, x, w, b, groups=groups, epsilon=float(eps))


@converts("native_group_norm")
def _native_group_norm(
    c: NodeBuilder,
    x: SSAValue,
    w: SSAValue | None,
    b: SSAValue | None,
    n: Dim,
    channels: Dim,
    area: Dim,
    groups: int,
    eps: float,
) -> Any:
    y = c.b(norm.GroupNormOp, x, w, b, groups=groups, epsilon=float(eps))
    if not used(c, 1) and not used(c, 2):
        return y, None, None
    each = divide_exact(channels, groups)
    rows = c.reshape(x, [n, groups, (each or 1) * area])
    return (y, *_statistics(c, rows, [2], eps))


@converts("instance_norm")
def _instance_norm(
    c: NodeBuilder,
    x: SSAValue,
    w: Any,
    b: Any,
    mean: Any,
    variance: Any,
    use_input: bool,
    momentum: float,
    eps: float,
    *rest: Any,
) -> SSAValue:
    channels = [dims_of(x)[1]]
    one = w if w is not None else c.full(1, channels, element_type(x))
    zero = b if b is not None else c.full(0, channels, element_type(x))
    if not use_input:
        return c.b(norm.BatchNormOp, x, one, zero, mean, variance, epsilon=float(eps))
    return c.b(norm.InstanceNormOp, x, one, zero, epsilon=float(eps))


@converts("softmax.int", "_softmax", "_safe_softmax", "log_softmax.int", "_log_softmax")
def _softmax(c: NodeBuilder, x: SSAValue, dim: int, *rest: Any, **options: Any) -> SSAValue:
    name = str(c.node.target)
    x = c.finished(x)
    if rank_of(x) == 0:
        zero = c.sub(x, x)
        return zero if "log" in name else c.add(zero, 1.0)
    cls = softmax.LogSoftmaxOp if "log" in name else softmax.SoftmaxOp
    y = c.b(cls, x, axis=dim % rank_of(x))
    if "safe" in name:
        hidden = c.eq(c.max(x, [dim % rank_of(x)], keep=True), -math.inf)
        y = c.where(hidden, c.like(0.0, y), y)
    return y


@converts("renorm")
def _renorm(c: NodeBuilder, x: SSAValue, p: Scalar, dim: int, maxnorm: Scalar) -> SSAValue:
    axes = [n for n in range(rank_of(x)) if n != dim % rank_of(x)]
    size = vector_norm(c, x, float(str(p)), axes, keepdim=True)
    limit = float(str(maxnorm))
    factor = c.div(c.like(limit, x), c.add(size, 1e-7))
    return c.mul(x, c.where(c.gt(size, limit), factor, c.like(1.0, x)))
