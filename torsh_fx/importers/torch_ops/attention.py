"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
from torsh_fx.importers.torch_ops.control import Drawing
from torsh_fx.importers.torch_ops.random import dropped, number


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
    dropout_mask: SSAValue | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """By `torsh.attention`, or by its definition where numbers are dropped or weights are asked."""
    name = str(c.node.target)
    if "flash" in name:
        given: list[Any] = [*rest, *(0.0, False)[len(rest) :]]
        dropout_p, is_causal = given[:2]
        if dropout_p:
            raise c.refuse("torch has no dropout in this kernel: Currently do not support dropout")
    else:
        given = [*rest, *(attn_mask, dropout_p, is_causal, dropout_mask)[len(rest) :]]
        attn_mask, dropout_p, is_causal, dropout_mask = given[:4]
    batch, by_weights = dims_of(q)[:-3], "attention_math." in name and used(c, 1)
    uneven = rank_of(q) != 4 or dims_of(k)[:-3] != batch or dims_of(v)[:-3] != batch
    if uneven or dropout_p or by_weights:
        dropped_by = Dropping(dropout_p, dropout_mask if "attention_math." in name else None)
        found = _composed_attention(c, (q, k, v), attn_mask, is_causal, scale, dropped_by)
        return found if "attention_math." in name else _with_statistics(name, found[0])
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


@dataclass(frozen=True)
class Dropping:
    """Dropout of attention weights.

    Attributes:
        chance: The probability of being dropped.
        kept: Which weights (i1) are kept; None to draw them.
    """

    chance: float
    kept: SSAValue | None

    def apply(self, c: NodeBuilder, weights: SSAValue, v: SSAValue) -> tuple[SSAValue, SSAValue]:
        """Weights and values; by a mask that is given torch scales the values instead."""
        if self.kept is None or not self.chance:
            return dropped(c, weights, self.chance), v
        chance = number(c, self.chance, "the probability of dropout", least=0, most=1)
        if chance == 1:
            raise c.refuse("a mask of dropout with the probability 1, which scales by 1 / 0")
        return c.where(self.kept, weights, c.like(0.0, weights)), c.mul(v, 1 / (1 - chance))


def _composed_attention(
    c: NodeBuilder,
    qkv: Sequence[SSAValue],
    mask: SSAValue | None,
    causal: bool,
    scale: float | None,
    dropping: Dropping,
) -> tuple[SSAValue, SSAValue]:
    """Attention of any rank by its definition, and its weights; a query without keys gives 0."""
    q, k, v = (c.wide(x) for x in qkv)
    k, v = (_for_heads(c, x, q) for x in (k, v))
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
    weights, v = dropping.apply(c, c.where(blind, c.like(0.0, weights), weights), v)
    return c.narrow(c.matmul(weights, v), qkv[0]), c.narrow(weights, qkv[0])


def _for_heads(c: NodeBuilder, x: SSAValue, q: SSAValue) -> SSAValue:
    """Keys or values repeated for groups of query heads."""
    if rank_of(x) < 3 or rank_of(q) < 3 or 1 in (heads := (dims_of(q)[-3], dims_of(x)[-3])):
        return x
    group = divide_exact(*heads)
    return x if group == 1 or not isinstance(group, int) else c.repeat(x, group, rank_of(x) - 3)


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
    positions that broadcast against the scores. Statistics are those of powers of 2.

    Raises:
        UnsupportedError: A graph draws random numbers, which eager torch refuses.
    """
    if Drawing.of(c, score_mod, block_mask[-1]).stream is not None:
        raise c.refuse(
            "random numbers for single scores; torch's own flex_attention refuses them (vmap: "
            "called random operation while in randomness error mode). Draw them before it, and "
            "let the function pick them by its positions"
        )
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
    most = c.squeeze(top, 3) if used(c, 2) else None
    twos = (None if v is None else c.mul(v, 1 / math.log(2)) for v in (sums, most))
    return y, *twos


def _elementwise(c: NodeBuilder, graph: GraphModule, inputs: Sequence[Any]) -> SSAValue:
    found = c.graph.nested(graph, cast(BlockBuilder, c.b), inputs, exact=False)
    return cast(Any, found)[0] if isinstance(found, list) else found


CONVERTERS["flex_attention"] = _flex_attention
