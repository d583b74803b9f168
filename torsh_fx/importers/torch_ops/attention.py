"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.ops import (
    attention,
    softmax,
)
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts


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
        given: list[Any] = [*rest, *(0.0, False)[len(rest) :]]
        dropout_p, is_causal = given[:2]
    else:
        given = [*rest, *(attn_mask, dropout_p, is_causal)[len(rest) :]]
        attn_mask, dropout_p, is_causal = given[:3]
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
