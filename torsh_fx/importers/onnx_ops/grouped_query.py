"""GroupQueryAttention of com.microsoft: cached attention over a batch of sequences of own lengths.

Entry i of the batch has `seqlens_k[i] + 1` keys in all; `total_sequence_length` is the greatest
count. Where that is the number of queries, they are a whole prompt, padded on the right, and the
cache is empty; otherwise the last queries of each entry, which come behind the keys that its cache
holds. The caches that are given back are as long as those given, or as the longest entry.

Source: onnxruntime, contrib_ops/cpu/bert/gqa_attention_base.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, floordiv, maximum, product
from torsh_dialect.dtypes import i1, i64
from torsh_dialect.ops.attention import AttentionOp, RotaryEmbeddingOp
from torsh_dialect.ops.join import PadOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.attention import heads_apart, heads_together, written
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter

QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, LAST, TOTAL, COS, SIN, POSITIONS, BIAS, SINK = range(12)
"""Inputs that are supported, by position."""


@dataclass(frozen=True)
class Places:
    """Where queries stand in their sequences.

    Attributes:
        first: Place of the first query of each entry: i64 [batch], or [1] where all are alike.
        total: How many keys the longest entry has.
        prompt: Whether the queries are known to be whole prompts.
    """

    first: SSAValue
    total: Dim
    prompt: bool


@converter("GroupQueryAttention", domain=MS)
def group_query_attention(n: Node) -> Sequence[SSAValue | None]:
    """Rotates queries and keys, writes keys and values into the caches, attends causally."""
    heads, groups = n.int("num_heads"), n.int("kv_num_heads")
    q, k, v = _split(n, heads, groups)
    q, k, v = heads_apart(n, q, heads), heads_apart(n, k, groups), heads_apart(n, v, groups)
    length, total = dims_of(q)[2], _total(n)
    if n.optional(PAST_KEY) is None and total != length:
        q = n.assume(q, total, "eq", length)  # a prompt: there is nothing else to attend to
    places = _places(n, length, total)
    if n.int("do_rotary", 0):
        q, k = _rotated(n, q, places), _rotated(n, k, places)
    if n.optional(PAST_KEY) is not None:
        k = _cached(n, n.input(PAST_KEY), k, places)
        v = _cached(n, n.input(PAST_VALUE), v, places)
    window = n.int("local_window_size", -1)
    if window == 0 or window < -1:
        raise NotSupported(f"a local window of {window} keys", "give at least 1, or -1 for none")
    bias, sink = n.optional(BIAS), _sink(n, heads)
    simple = places.prompt and window < 0 and bias is None and sink is None
    mask = None if simple else _seen(n, places, length, dims_of(k)[2], window)
    if mask is not None and bias is not None:
        mask = _biased(n, mask, bias)
    seen = (k, v, mask) if sink is None or mask is None else _with_sink(n, k, v, mask, sink)
    y = n(
        AttentionOp, q, *seen, causal=simple or None,
        scale=n.float("scale", 0.0) or None, softcap=n.float("softcap", 0.0) or None,
    )  # fmt: skip
    return [heads_together(n, y), k, v]


def _biased(n: Node, seen: SSAValue, bias: SSAValue) -> SSAValue:
    """A bias [batch or 1, heads or 1, length, total] where keys are seen; -inf elsewhere.

    Places of the cache behind the last key of the longest entry have no bias, and nobody sees them.
    """
    c, missing = n.c, dims_of(seen)[-1] - dims_of(bias)[-1]
    bias = bias if missing == 0 else c.pad(bias, 3, 0, missing)
    return c.where(seen, bias, c.like(-math.inf, bias))


def _sink(n: Node, heads: int) -> SSAValue | None:
    """What each softmax's sum has beside its keys: [1, heads or 1, 1, 1], as a score."""
    sink = n.optional(SINK)
    if sink is not None:
        return n.c.reshape(n.fitted(sink, (heads,)), (1, heads, 1, 1))
    if n.int("smooth_softmax", 0) != 1:  # -1 is that nothing is said
        return None
    return n.c.reshape(n.c.like(0.0, n.input(QUERY)), (1, 1, 1, 1))


def _with_sink(
    n: Node, k: SSAValue, v: SSAValue, mask: SSAValue, sink: SSAValue
) -> tuple[SSAValue, SSAValue, SSAValue]:
    """One more key, of zeros, that all queries see with the sink as its score; its value is 0."""
    c, heads = n.c, dims_of(sink)[1]
    if element_type(mask) == i1:
        mask = c.where(mask, c.like(0.0, k), c.like(-math.inf, k))
    batch, rows, length, keys = dims_of(mask)
    rows = heads if rows == 1 else rows
    scores = [
        c.broadcast(mask, (batch, rows, length, keys)),
        c.broadcast(sink, (batch, rows, length, 1)),
    ]
    mask = c.concat(scores, 3)
    return c.pad(k, 2, 0, 1), c.pad(v, 2, 0, 1), mask


def _split(n: Node, heads: int, groups: int) -> tuple[SSAValue, SSAValue, SSAValue]:
    """Queries, keys and values [batch, length, heads * size]; the first input may hold all."""
    q, k, v = n.input(QUERY), n.optional(KEY), n.optional(VALUE)
    if k is not None and v is not None:
        return q, k, v
    size = floordiv(dims_of(q)[2], heads + 2 * groups)
    starts = (0, size * heads, size * (heads + groups))
    widths = (size * heads, size * groups, size * groups)
    first, second, third = (n.c.slice(q, 2, *part) for part in zip(starts, widths, strict=True))
    return first, second, third


def _total(n: Node) -> Dim:
    total = n.extents(n.input(TOTAL))
    if len(total) != 1:
        raise NotSupported(f"total_sequence_length has {len(total)} elements, expected one")
    return total[0]


def _places(n: Node, length: Dim, total: Dim) -> Places:
    """Where the queries stand, as the lengths of the sequences say."""
    c, last = n.c, n.input(LAST)
    if n.optional(PAST_KEY) is None or total == length:
        return Places(n.constant(np.zeros(1, np.int64)), total, prompt=True)
    ends = c.add(c.cast(c.reshape(last, (product(dims_of(last)),)), i64), 1)
    is_prompt = c.eq(c.dim(total), c.dim(length))
    first = c.where(is_prompt, c.like(0, ends), c.sub(ends, c.dim(length)))
    return Places(first, total, prompt=False)


def _cached(n: Node, past: SSAValue, new: SSAValue, places: Places) -> SSAValue:
    """A cache [batch, groups, keys, size] with new entries; zeros stand where nothing is yet."""
    kept, keys = dims_of(past)[2], maximum(dims_of(past)[2], places.total)
    if keys != kept:
        low, high = dims_attribute([0] * 4), dims_attribute([0, 0, keys - kept, 0])
        past = n(PadOp, past, n.c.like(0, past), low=low, high=high, mode="constant")
    return written(n, past, new, places.first, 2)


def _seen(n: Node, places: Places, length: Dim, keys: Dim, window: int) -> SSAValue:
    """Which keys each query sees, itself among the `window` last: [batch or 1, 1, length, keys]."""
    c = n.c
    first = c.reshape(places.first, (dims_of(places.first)[0], 1, 1, 1))
    rows = c.add(c.reshape(c.iota(length), (1, 1, length, 1)), first)
    seen = c.le(c.iota(keys), rows)
    return seen if window < 0 else c.both(seen, c.lt(c.sub(rows, c.iota(keys)), window))


def _rotated(n: Node, x: SSAValue, places: Places) -> SSAValue:
    """X [batch, heads, length, size] turned by its places; the caches' width says how much."""
    c, mixed = n.c, bool(n.int("rotary_interleaved", 0)) or None
    positions = n.optional(POSITIONS)
    if positions is None:
        first = c.reshape(places.first, (dims_of(places.first)[0], 1))
        positions = c.add(c.iota(dims_of(x)[2]), first)
    if rank_of(positions) != 2:
        raise NotSupported(f"position ids of rank {rank_of(positions)}, expected 2")
    cos, sin = (c.take(n.input(i), positions, 0) for i in (COS, SIN))
    return n(RotaryEmbeddingOp, x, cos, sin, interleaved=mixed)
