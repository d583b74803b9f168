"""Layers: products, convolutions, pooling, norms, attention, resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, divide_exact, product
from torsh_dialect.ops import (
    attention,
    contract,
    conv,
    norm,
    pool,
    reduce,
    resize,
    sampling,
    softmax,
)
from torsh_dialect.ops.maths import RsqrtOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts


def used(c: NodeBuilder, number: int) -> bool:
    """Whether result `number` of the node is used."""
    return any(u.target.__name__ == "getitem" and u.args[1] == number for u in c.node.users)  # pyright: ignore


def spatial(value: Any, rank: int) -> list[int]:
    """One entry for each spatial axis; a single one stands for all."""
    values = [value] if isinstance(value, int) else [int(str(v)) for v in value]
    return values * rank if len(values) == 1 else values


# -- products


@converts("mm", "bmm", "matmul", "dot", "mv", "vdot", "inner")
def _matmul(c: NodeBuilder, a: SSAValue, b: SSAValue) -> SSAValue:
    return c.matmul(a, b)


@converts("linear")
def _linear(c: NodeBuilder, x: SSAValue, w: SSAValue, bias: SSAValue | None = None) -> SSAValue:
    if rank_of(w) == 1:
        y = c.matmul(x, w)
        return y if bias is None else c.add(y, bias)
    return c.linear(x, w, bias)


@converts("addmm", "addbmm", "baddbmm", "addmv", "addr")
def _addmm(
    c: NodeBuilder, x: SSAValue, a: SSAValue, b: SSAValue, *, beta: Scalar = 1, alpha: Scalar = 1
) -> SSAValue:
    name = str(c.node.target).split(".")[1]
    if name == "addr":
        y = c.mul(c.unsqueeze(a, 1), c.unsqueeze(b, 0))
    else:
        y = c.matmul(a, b)
    y = c.sum(y, [0]) if name == "addbmm" else y
    if alpha != 1:
        y = c.mul(y, c.tensor(alpha, element_type(y)))
    if beta == 0:
        return y
    x = x if beta == 1 else c.mul(x, c.tensor(beta, element_type(x)))
    return c.finished(c.add(c.cast(x, element_type(y)), y))


@converts("einsum")
def _einsum(
    c: NodeBuilder, equation: str, tensors: Sequence[SSAValue], path: Any = None
) -> SSAValue:
    return c.b(contract.EinsumOp, list(tensors), equation=equation)


# -- convolutions


@converts(
    "convolution",
    "_convolution",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv1d.padding",
    "conv2d.padding",
    "conv3d.padding",
    "conv_transpose1d",
    "conv_transpose2d.input",
    "conv_transpose3d.input",
)
def _convolution(c: NodeBuilder, x: SSAValue, w: SSAValue, *rest: Any, **options: Any) -> SSAValue:
    name = str(c.node.target)
    rank = rank_of(w) - 2
    (bias, stride, padding, dilation, transposed, extra, groups) = _conv_arguments(
        name, rest, options
    )
    batched = rank_of(x) == rank + 2
    x = x if batched else c.unsqueeze(x, 0)
    strides, dilations = spatial(stride, rank), spatial(dilation, rank)
    if transposed:
        pads = spatial(padding, rank)
        y = c.b(
            conv.ConvTransposeOp,
            x,
            w,
            bias,
            strides=strides,
            dilations=dilations,
            pads=pads * 2,
            groups=groups,
            output_padding=spatial(extra, rank),
        )
    else:
        begin, end = _conv_pads(padding, w, dilations, rank)
        y = c.b(
            conv.ConvOp,
            x,
            w,
            bias,
            strides=strides,
            dilations=dilations,
            pads=begin + end,
            groups=groups,
        )
    return y if batched else c.squeeze(y, 0)


def _conv_arguments(name: str, rest: Sequence[Any], options: dict[str, Any]) -> tuple[Any, ...]:
    if "convolution" in name:
        order = ("bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups")
    elif "transpose" in name:
        order = ("bias", "stride", "padding", "output_padding", "groups", "dilation")
    else:
        order = ("bias", "stride", "padding", "dilation", "groups")
    given = {
        "bias": None,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "transposed": "transpose" in name,
        "output_padding": 0,
        "groups": 1,
        **dict(zip(order, rest, strict=False)),
        **options,
    }
    keys = ("bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups")
    return tuple(given[k] for k in keys)


def _conv_pads(
    padding: Any, w: SSAValue, dilations: list[int], rank: int
) -> tuple[list[int], list[int]]:
    if padding == "valid":
        return [0] * rank, [0] * rank
    if padding == "same":
        total = [d * (int(str(k)) - 1) for k, d in zip(dims_of(w)[2:], dilations, strict=True)]
        return [t // 2 for t in total], [t - t // 2 for t in total]
    pads = spatial(padding, rank)
    return pads, pads


# -- pooling


def _pool_rank(c: NodeBuilder) -> int:
    return next(int(ch) for ch in str(c.node.target) if ch.isdigit())


def _batched(c: NodeBuilder, x: SSAValue, rank: int) -> tuple[SSAValue, bool]:
    lacking = rank_of(x) == rank + 1
    return (c.unsqueeze(x, 0) if lacking else x), lacking


@converts(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "max_pool1d_with_indices",
)
def _max_pool(
    c: NodeBuilder,
    x: SSAValue,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    rank = _pool_rank(c)
    x, lacking = _batched(c, x, rank)
    window = spatial(kernel, rank)
    options: dict[str, Any] = {
        "kernel": window,
        "strides": spatial(stride, rank) if stride else window,
        "pads": spatial(padding, rank) * 2,
        "dilations": spatial(dilation, rank),
        "ceil_mode": ceil_mode or None,
    }
    with_indices = "indices" in str(c.node.target)
    if with_indices and used(c, 1):
        pair = c.b.all(pool.MaxPoolIndicesOp, x, **options)
        return [c.squeeze(v, 0) if lacking else v for v in pair]
    y = c.b(pool.MaxPoolOp, x, **options)
    y = c.squeeze(y, 0) if lacking else y
    return (y, None) if with_indices else y


@converts("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(
    c: NodeBuilder,
    x: SSAValue,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> SSAValue:
    rank = _pool_rank(c)
    x, lacking = _batched(c, x, rank)
    window = spatial(kernel, rank)
    y = c.b(
        pool.AvgPoolOp,
        x,
        kernel=window,
        strides=spatial(stride, rank) if stride else window,
        pads=spatial(padding, rank) * 2,
        ceil_mode=ceil_mode or None,
        include_pad=count_include_pad or None,
        divisor=divisor_override,
    )
    return c.squeeze(y, 0) if lacking else y


@converts(
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
)
def _adaptive(c: NodeBuilder, x: SSAValue, output: Any) -> Any:
    rank = _pool_rank(c)
    x, lacking = _batched(c, x, rank)
    averages = "avg" in str(c.node.target)
    size = [int(str(o)) for o in c.out_dims(None if averages else 0)[-rank:]]
    if averages and size == [1] * rank:
        y = c.mean(x, list(range(rank_of(x) - rank, rank_of(x))), keep=True)
        return c.squeeze(y, 0) if lacking else y
    if averages:
        y = c.b(pool.AdaptiveAvgPoolOp, x, output=size)
        return c.squeeze(y, 0) if lacking else y
    pair = c.b.all(pool.AdaptiveMaxPoolOp, x, output=size)
    return [c.squeeze(v, 0) if lacking else v for v in pair]


@converts("max_unpool2d", "max_unpool3d")
def _max_unpool(
    c: NodeBuilder, x: SSAValue, indices: SSAValue, output: Any, *rest: Any
) -> SSAValue:
    rank = _pool_rank(c)
    x, lacking = _batched(c, x, rank)
    indices, _ = _batched(c, indices, rank)
    y = c.b(pool.MaxUnpoolOp, x, indices, output=spatial(output, rank))
    return c.squeeze(y, 0) if lacking else y


# -- norms


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

    meta = c.meta() if isinstance(c.meta(), torch.Tensor) else c.meta(0)
    small = float(torch.finfo(meta.dtype).eps) if eps is None else float(eps)
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
)
def _batch_norm(
    c: NodeBuilder, x: SSAValue, w: SSAValue | None, b: SSAValue | None, *rest: Any
) -> Any:
    name = str(c.node.target)
    if "no_stats" in name:
        (training, _, eps), mean, variance = rest[:3], None, None
    elif "no_training" in name or "no_update" in name:
        (mean, variance, _, eps), training = rest[:4], False
    else:
        mean, variance, training, _, eps = rest[:5]
    channels = dims_of(x)[1] if rank_of(x) > 1 else 1
    element = element_type(mean if mean is not None else w if w is not None else x)
    if training or mean is None:
        return _batch_statistics(c, x, w, b, (mean, variance, rest, float(eps)))
    scale = w if w is not None else c.full(1, [channels], element)
    shift = b if b is not None else c.full(0, [channels], element)
    y = c.b(norm.BatchNormOp, x, scale, shift, mean, variance, epsilon=float(eps))
    if name.startswith("aten.batch_norm"):
        return y
    empty = c.full(0, [0], element)
    return [y, *[empty] * (len(c.meta()) - 1)]


def _batch_statistics(
    c: NodeBuilder, x: SSAValue, w: SSAValue | None, b: SSAValue | None, state: tuple[Any, ...]
) -> Any:
    """Normalisation by the batch's own mean and variance, and the new running statistics."""
    running_mean, running_variance, rest, eps = state
    wide = c.wide(x)
    axes = [n for n in range(rank_of(x)) if n != 1]
    mean = c.mean(wide, axes, keep=True)
    centred = c.sub(wide, mean)
    variance = c.mean(c.mul(centred, centred), axes, keep=True)
    spread = c.b(RsqrtOp, c.add(variance, eps))
    y = c.mul(centred, spread)
    scale, shift = (
        None if v is None else c.cast_like(c.per_channel(v, rank_of(x)), y) for v in (w, b)
    )
    y = c.narrow(c.affine(y, scale, shift), x)
    if str(c.node.target).startswith("aten.batch_norm"):
        return y
    channels = [dims_of(x)[1]]
    found: list[Any] = [y, c.reshape(mean, channels), c.reshape(spread, channels)]
    if "functional" in str(c.node.target):
        count = c.cast(c.dim(product(dims_of(x)[n] for n in axes)), element_type(wide))
        unbiased = c.mul(c.reshape(variance, channels), c.div(count, c.sub(count, 1.0)))
        momentum = float(rest[3])
        for old, new in ((running_mean, found[1]), (running_variance, unbiased)):
            kept = c.mul(c.cast_like(old, new), 1 - momentum)
            found.append(c.cast(c.add(kept, c.mul(new, momentum)), element_type(old)))
    return found[: len(c.meta())]


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


# -- attention


@converts(
    "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_fused_attention_overrideable",
)
def _sdpa(
    c: NodeBuilder,
    q: SSAValue,
    k: SSAValue,
    v: SSAValue,
    *rest: Any,
    attn_mask: SSAValue | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    name = str(c.node.target)
    if "flash" in name:
        dropout_p, is_causal = (*rest, *(0.0, False)[len(rest) :])[:2]
    else:
        attn_mask, dropout_p, is_causal = (*rest, *(attn_mask, dropout_p, is_causal)[len(rest) :])[
            :3
        ]
    if dropout_p:
        raise c.refuse("attention with dropout draws random numbers; call model.eval()")
    batch = dims_of(q)[:-3]
    if rank_of(q) != 4 or dims_of(k)[:-3] != batch or dims_of(v)[:-3] != batch:
        return _with_statistics(
            name, _composed_attention(c, (q, k, v), attn_mask, is_causal, scale)
        )
    mask = attn_mask
    if mask is not None and element_type(mask) != dtypes.i1:
        mask = c.cast(mask, element_type(q))
    y = c.b(
        attention.AttentionOp,
        q,
        k,
        v,
        mask,
        causal=is_causal or None,
        scale=None if scale is None else float(str(scale)),
    )
    return _with_statistics(name, y)


def _with_statistics(name: str, y: SSAValue) -> Any:
    return (y, None) if name.startswith("aten._") else y


def _composed_attention(
    c: NodeBuilder,
    qkv: Sequence[SSAValue],
    mask: SSAValue | None,
    causal: bool,
    scale: float | None,
) -> SSAValue:
    """Attention of any rank by its definition; a query that sees no key gives 0."""
    q, k, v = (c.wide(x) for x in qkv)
    width = dims_of(q)[-1]
    size = c.div(c.like(1.0, q), c.sqrt(c.cast(c.dim(width), element_type(q))))
    factor = size if scale is None else c.like(float(str(scale)), q)
    perm = [*range(rank_of(k) - 2), rank_of(k) - 1, rank_of(k) - 2]
    scores = c.matmul(c.mul(q, factor), c.transpose(k, perm))
    rows, columns = dims_of(scores)[-2:]
    hidden = c.like(-math.inf, scores)
    if causal:
        seen = c.ge(c.unsqueeze(c.iota(rows), 1), c.unsqueeze(c.iota(columns), 0))
        scores = c.where(seen, scores, hidden)
    if mask is not None and element_type(mask) == dtypes.i1:
        scores = c.where(mask, scores, hidden)
    elif mask is not None:
        scores = c.add(scores, c.cast(mask, element_type(scores)))
    last = rank_of(scores) - 1
    weights = c.b(softmax.SoftmaxOp, scores, axis=last)
    blind = c.eq(c.max(scores, [last], keep=True), -math.inf)
    weights = c.where(blind, c.like(0.0, weights), weights)
    return c.narrow(c.matmul(weights, v), qkv[0])


# -- resampling


def _resize(
    c: NodeBuilder,
    x: SSAValue,
    mode: str,
    coordinates: str,
    scales: Sequence[float | None] = (),
    **more: Any,
) -> SSAValue:
    output, rank = c.out_dims(), rank_of(x)
    if (
        len(scales) == rank - 2
        and all(s is not None for s in scales)
        and coordinates != "align_corners"
    ):
        more["scales"] = [1.0, 1.0, *(float(str(s)) for s in scales)]
    return c.b(
        resize.ResizeOp,
        x,
        output=dims_attribute(output),
        mode=mode,
        coordinates=coordinates,
        **more,
    )


def _scales(rest: Sequence[Any]) -> Sequence[Any]:
    given = [r for r in rest if r is not None]
    return given[0] if len(given) == 1 and isinstance(given[0], list) else rest


@converts(*(f"upsample_nearest{n}d{v}" for n in (1, 2, 3) for v in ("", ".vec")))
def _nearest(c: NodeBuilder, x: SSAValue, output: Any, *rest: Any, **options: Any) -> SSAValue:
    scales = _scales([*rest, *options.values()])
    return _resize(c, x, "nearest", "asymmetric", scales, nearest="floor")


@converts(*(f"_upsample_nearest_exact{n}d{v}" for n in (1, 2, 3) for v in ("", ".vec")))
def _nearest_exact(
    c: NodeBuilder, x: SSAValue, output: Any, *rest: Any, **options: Any
) -> SSAValue:
    scales = _scales([*rest, *options.values()])
    return _resize(c, x, "nearest", "half_pixel", scales, nearest="round_prefer_ceil")


@converts(
    *(
        f"{name}{v}"
        for v in ("", ".vec")
        for name in (
            "upsample_linear1d",
            "upsample_bilinear2d",
            "upsample_trilinear3d",
            "upsample_bicubic2d",
            "_upsample_bilinear2d_aa",
            "_upsample_bicubic2d_aa",
        )
    )
)
def _interpolate(
    c: NodeBuilder, x: SSAValue, output: Any, align: bool, *rest: Any, **options: Any
) -> SSAValue:
    name = str(c.node.target)
    cubic, smooth = "cubic" in name, "_aa" in name
    more: dict[str, Any] = {"antialias": smooth or None}
    if cubic:
        more["cubic_a"] = -0.5 if smooth else -0.75
    way = "align_corners" if align else "half_pixel"
    scales = _scales([*rest, *options.values()])
    return _resize(c, x, "cubic" if cubic else "linear", way, scales, **more)


@converts("grid_sampler_2d", "grid_sampler_3d", "grid_sampler", "_grid_sampler_2d_cpu_fallback")
def _grid_sample(
    c: NodeBuilder,
    x: SSAValue,
    grid: SSAValue,
    mode: int = 0,
    padding: int = 0,
    align: bool = False,
) -> SSAValue:
    modes, pads = ("linear", "nearest", "cubic"), ("zeros", "border", "reflection")
    return c.b(
        sampling.GridSampleOp,
        x,
        grid,
        mode=modes[mode],
        padding=pads[padding],
        align_corners=align or None,
    )


@converts("renorm")
def _renorm(c: NodeBuilder, x: SSAValue, p: Scalar, dim: int, maxnorm: Scalar) -> SSAValue:
    axes = [n for n in range(rank_of(x)) if n != dim % rank_of(x)]
    size = c.b(reduce.LpNormOp, x, axes=axes, keepdims=True, p=float(str(p)))
    limit = float(str(maxnorm))
    factor = c.div(c.like(limit, x), c.add(size, 1e-7))
    return c.mul(x, c.where(c.gt(size, limit), factor, c.like(1.0, x)))


# -- torchvision


@converts("torchvision.roi_align.default")
def _roi_align(
    c: NodeBuilder,
    x: SSAValue,
    rois: SSAValue,
    spatial_scale: float,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> SSAValue:
    batch = c.cast(c.squeeze(c.cut(rois, 1, 0, 1), 1), dtypes.i64)
    boxes = c.cut(rois, 1, 1, 4)
    return c.b(
        sampling.RoiAlignOp,
        x,
        boxes,
        batch,
        height=height,
        width=width,
        mode="avg",
        sampling=max(sampling_ratio, 0),
        spatial_scale=float(spatial_scale),
        half_pixel=aligned or None,
    )
