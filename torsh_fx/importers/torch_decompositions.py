"""What ops mean in plain ops that torch has no decomposition for, or a wrong one.

In eval mode without gradients, `nn.TransformerEncoderLayer` and `nn.MultiheadAttention` call
fused ops. Their definitions follow aten/native/transformers/
transformer.cpp and attention.cpp of torch 2.13: a mask that is not zero hides a key.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND as KIND
from torch._prims_common import elementwise_dtypes  # pyright: ignore[reportUnknownVariableType]


def _hidden(mask: Tensor, mask_type: int | None) -> Tensor:
    """The mask as bools over [batch, head, query, key]; type 1 is [batch, key]."""
    hidden = mask.to(torch.bool)
    return hidden[:, None, None, :] if mask_type == 1 else hidden


def _heads(x: Tensor, count: int) -> Tensor:
    """[batch, length, features] as [batch, head, length, features of a head]."""
    batch, length, features = x.shape
    return x.reshape(batch, length, count, features // count).transpose(1, 2)


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`aten._native_multi_head_attention`."""
    weights, biases = qkv_weight.chunk(3), qkv_bias.chunk(3)
    q, k, v = (
        _heads(torch.nn.functional.linear(x, w, b), num_head)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    scores = (q / math.sqrt(embed_dim // num_head)) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(_hidden(mask, mask_type), -math.inf)
    attention = torch.softmax(scores, -1)
    joined = (attention @ v).transpose(1, 2).flatten(2)
    result = torch.nn.functional.linear(joined, proj_weight, proj_bias)
    if not need_weights:
        return result, query.new_empty(0)
    return result, attention.mean(1) if average_attn_weights else attention


def encoder_layer(
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    """`aten._transformer_encoder_layer_fwd`."""
    linear = torch.nn.functional.linear

    def first(x: Tensor) -> Tensor:
        return torch.layer_norm(x, [embed_dim], norm_weight_1, norm_bias_1, eps)

    def second(x: Tensor) -> Tensor:
        return torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)

    def attend(x: Tensor) -> Tensor:
        found = multi_head_attention(
            x, x, x, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias,
            mask, need_weights=False, mask_type=mask_type,
        )  # fmt: skip
        return found[0]

    def feed_forward(x: Tensor) -> Tensor:
        y = linear(x, ffn_weight_1, ffn_bias_1)
        y = torch.nn.functional.gelu(y) if use_gelu else torch.relu(y)
        return linear(y, ffn_weight_2, ffn_bias_2)

    if norm_first:
        x = src + attend(first(src))
        return x + feed_forward(second(x))
    x = first(src + attend(src))
    return second(x + feed_forward(x))


def _weighted_loss(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    ignore_index: int,
    acc_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The loss of each row times the weight of its class, and these weights.

    As of torch/nn/modules/linear_cross_entropy.py of torch 2.13; rows that are ignored weigh 0.
    """
    logits = input.to(acc_dtype) @ linear_weight.to(acc_dtype).T
    logits = logits if linear_bias is None else logits + linear_bias.to(acc_dtype)
    ignored = target == ignore_index
    known = torch.where(ignored, 0, target)
    weights = (~ignored).to(acc_dtype)
    if weight is not None:
        weights = weights * weight.index_select(0, known).to(acc_dtype)
    picked = torch.log_softmax(logits, 1).gather(1, known.unsqueeze(1)).squeeze(1)
    return -picked * weights, weights


def chunked_linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
    batch_chunk_size: int,
    acc_policy: str,
    acc_dtype: torch.dtype,
    allow_retain_graph: bool,
    *gradients: bool,
) -> Any:
    """`torch_nn._linear_cross_entropy_batch_chunked`, where no gradients are asked for."""
    if any(gradients):
        return NotImplemented
    loss, weights = _weighted_loss(
        input, linear_weight, target, linear_bias, weight, ignore_index, acc_dtype
    )
    total = loss.sum() if reduction == "sum" else loss.sum() / weights.sum()
    empty = input.new_empty(0, 0)
    return total.to(input.dtype), empty, empty, input.new_empty(0)


def linear_cross_entropy_of_rows(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    ignore_index: int,
    batch_chunk_size: int,
    acc_policy: str,
    acc_dtype: torch.dtype,
) -> Tensor:
    """`torch_nn._linear_cross_entropy_batch_chunked_no_reduction`."""
    loss, _ = _weighted_loss(
        input, linear_weight, target, linear_bias, weight, ignore_index, acc_dtype
    )
    return loss.to(input.dtype)


def renormalised_embedding(
    weight: Tensor, indices: Tensor, max_norm: float, norm_type: float
) -> Tensor:
    """`aten.embedding_renorm`: rows that are looked up get a norm of at most `max_norm`."""
    norms: Tensor = cast(Any, torch.linalg).vector_norm(weight, norm_type, dim=1, keepdim=True)
    scale = torch.where(norms > max_norm, max_norm / (norms + 1e-7), 1.0)
    rows = torch.zeros(weight.shape[0], dtype=torch.bool, device=weight.device)
    named = rows.index_fill(0, indices.reshape(-1), True)
    return torch.where(named.unsqueeze(1), weight * scale, weight)


def multilabel_margin_loss(input: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    """`aten.multilabel_margin_loss`; labels behind the first -1 count nowhere.

    torch 2.13 decomposes it so that each place behind the -1 counts as the label 0.
    """
    x, labels = (v if v.ndim > 1 else v.unsqueeze(0) for v in (input, target))
    given = torch.cumsum((labels == -1).to(torch.int64), 1) == 0
    known = torch.where(given, labels, 0)
    hits = torch.zeros_like(x).scatter_add(1, known, given.to(x.dtype))
    margins = (1 - x.gather(1, known).unsqueeze(2) + x.unsqueeze(1)).clamp_min(0)
    counted = given.unsqueeze(2) & (hits == 0).unsqueeze(1)
    loss = torch.where(counted, margins, 0.0).sum((1, 2)) / x.shape[1]
    if reduction == 1:
        return loss.mean()
    return loss.sum() if reduction == 2 or input.ndim < 2 else loss


def fractional_max_pool(
    input: Tensor, kernel_size: list[int], output_size: list[int], random_samples: Tensor
) -> tuple[Tensor, Tensor]:
    """`aten.fractional_max_pool2d` and `3d`: windows that begin at pseudo-random places.

    As of aten/native/FractionalMaxPool2d.cpp: `random_samples` [n, c, axes] counts the axes from
    the last one in two dimensions, from the first one in three.
    """
    rank = len(kernel_size)
    extents = list(input.shape[-rank:])
    flat = torch.zeros([1] * (2 * rank), dtype=torch.int64, device=input.device)
    for axis, (extent, window, count) in enumerate(
        zip(extents, kernel_size, output_size, strict=True)
    ):
        sample = random_samples[..., rank - 1 - axis if rank == 2 else axis].unsqueeze(-1)
        starts = _window_starts(sample, extent, window, count)
        places = starts.unsqueeze(-1) + torch.arange(window, device=input.device)
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = count, window
        flat = flat * extent + places.reshape([*places.shape[:-2], *shape])
    flat = flat.reshape(*random_samples.shape[:-1], math.prod(output_size), -1)
    flat = flat.reshape(*input.shape[:-rank], *flat.shape[-2:])
    rows = input.flatten(-rank).unsqueeze(-2).expand(*flat.shape[:-1], -1)
    values = rows.gather(-1, flat)
    best = values.argmax(-1, keepdim=True)
    found = (values.gather(-1, best), flat.gather(-1, best))
    y, indices = (v.reshape(*input.shape[:-rank], *output_size) for v in found)
    return y, indices


def _window_starts(sample: Tensor, extent: int, window: int, count: int) -> Tensor:
    """Where the windows along one axis begin; the last one at the end."""
    alpha = (extent - window) / max(count - 1, 1)
    steps = torch.arange(count, device=sample.device)
    starts = ((steps + sample) * alpha).to(torch.int64) - (sample * alpha).to(torch.int64)
    return torch.where(steps == count - 1, extent - window, starts)


def time_first_convolution(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """`aten.conv_tbc`: x [time, batch, channels], w [taps, channels, results]."""
    x, w = input.permute(1, 2, 0), weight.permute(2, 1, 0)
    return torch.conv1d(x, w, bias, padding=pad).permute(2, 0, 1)


def with_result_type(op: Any, output_dtype: torch.dtype, *arguments: Any) -> Tensor:
    """`out_dtype`: an op of its arguments promoted together with the result's type.

    The product of int8 matrices in int32 is that of `aten._int_mm`.
    """
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    bytes_alone = all(t.dtype == torch.int8 for t in tensors)
    if op is torch.ops.aten.mm.default and bytes_alone and output_dtype == torch.int32:
        return torch.ops.aten._int_mm.default(*tensors)
    numbers = [a for a in arguments if isinstance(a, Tensor | int | float)]
    like = torch.ones(1, dtype=output_dtype)
    working, _ = elementwise_dtypes(*numbers, like, type_promotion_kind=KIND.DEFAULT)
    cast_arguments = [a.to(working) if isinstance(a, Tensor) else a for a in arguments]
    return op(*cast_arguments).to(output_dtype)


def product_with_int8_weight(self: Tensor, mat2: Tensor, scales: Tensor) -> Tensor:
    """`aten._weight_int8pack_mm`: w [results, features] in int8 with a scale for each row."""
    return (self @ mat2.to(self.dtype).T) * scales


import_module("torch.nn.modules.linear_cross_entropy")  # defines ops of torch.ops.torch_nn
_LIBRARY: Any = torch.ops.torch_nn
DECOMPOSITIONS: dict[Any, Any] = {
    _LIBRARY._linear_cross_entropy_batch_chunked.default: chunked_linear_cross_entropy,
    _LIBRARY._linear_cross_entropy_batch_chunked_no_reduction.default: linear_cross_entropy_of_rows,
    torch.ops.aten._transformer_encoder_layer_fwd.default: encoder_layer,
    torch.ops.aten._native_multi_head_attention.default: multi_head_attention,
    torch.ops.aten.embedding_renorm.default: renormalised_embedding,
    torch.ops.aten.multilabel_margin_loss.default: multilabel_margin_loss,
    torch.ops.aten.fractional_max_pool2d.default: fractional_max_pool,
    torch.ops.aten.fractional_max_pool3d.default: fractional_max_pool,
    torch.ops.aten.conv_tbc.default: time_first_convolution,
    torch.ops.higher_order.out_dtype: with_result_type,
    torch.ops.aten._weight_int8pack_mm.default: product_with_int8_weight,
}
"""Ops and functions of the same arguments that compute the same."""
