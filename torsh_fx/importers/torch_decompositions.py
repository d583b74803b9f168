"""What torch's fused ops mean in plain ops.

In eval mode without gradients, `nn.TransformerEncoderLayer` and `nn.MultiheadAttention` call ops
that torch has no decomposition for. The definitions follow aten/native/transformers/
transformer.cpp and attention.cpp of torch 2.13: a mask that is not zero hides a key.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import torch
from torch import Tensor


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


import_module("torch.nn.modules.linear_cross_entropy")  # defines ops of torch.ops.torch_nn
_LIBRARY: Any = torch.ops.torch_nn
DECOMPOSITIONS: dict[Any, Any] = {
    _LIBRARY._linear_cross_entropy_batch_chunked.default: chunked_linear_cross_entropy,
    _LIBRARY._linear_cross_entropy_batch_chunked_no_reduction.default: linear_cross_entropy_of_rows,
    torch.ops.aten._transformer_encoder_layer_fwd.default: encoder_layer,
    torch.ops.aten._native_multi_head_attention.default: multi_head_attention,
}
"""Ops and functions of the same arguments that compute the same."""
