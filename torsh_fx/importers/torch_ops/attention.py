"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from torch.fx import GraphModule
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import divide_exact
from torsh_dialect.ops import (
    attention,
    softmax,
)
from torsh_dialect.ops.statistics import LogSumExpOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import CONVERTERS, NodeBuilder, converts, used


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


def _flex_attention(
    c: NodeBuilder,
    q: SSAValue,
    k: SSAValue,
    v: SSAValue,
    score_mod: GraphModule,
    block_mask: Sequence[Any],
    scale: float,
    options: Any = None,
    score_buffers: Sequence[Any] = (),
    mask_buffers: Sequence[Any] = (),
) -> Any:
    """Attention whose scores and mask are graphs of (score,) batch, head, query, key.

    Torch writes the graphs for single elements; here they take all of them at once, with
    positions that broadcast against the scores.
    """
    heads = dims_of(q)[1]
    if dims_of(k)[1] != heads:
        group = divide_exact(heads, dims_of(k)[1])
        if not isinstance(group, int):
            raise c.refuse(f"{dims_of(k)[1]} key heads for {heads} query heads")
        k, v = c.repeat(k, group, 1), c.repeat(v, group, 1)
    wide = [c.wide(x) for x in (q, k, v)]
    scores = c.mul(c.matmul(wide[0], c.transpose(wide[1], [0, 1, 3, 2])), float(scale))
    places = [
        c.per_channel(c.cast(c.iota(extent), dtypes.i32), 4, axis)
        for axis, extent in enumerate(dims_of(scores))
    ]
    scores = _elementwise(c, score_mod, [scores, *places, *score_buffers])
    seen = _elementwise(c, block_mask[-1], [*places, *mask_buffers])
    scores = c.where(seen, scores, c.like(-math.inf, scores))
    weights = c.b(softmax.SoftmaxOp, scores, axis=3)
    top = c.max(scores, [3], keep=True)
    weights = c.where(c.eq(top, -math.inf), c.like(0.0, weights), weights)
    y = c.narrow(c.matmul(weights, wide[2]), q)
    sums = c.b(LogSumExpOp, scores, axes=[3]) if used(c, 1) else None
    return y, sums, c.squeeze(top, 3) if used(c, 2) else None


def _elementwise(c: NodeBuilder, graph: GraphModule, inputs: Sequence[Any]) -> SSAValue:
    found = c.graph.nested(graph, cast(BlockBuilder, c.b), inputs, exact=False)
    return cast(Any, found)[0] if isinstance(found, list) else found


CONVERTERS["flex_attention"] = _flex_attention
