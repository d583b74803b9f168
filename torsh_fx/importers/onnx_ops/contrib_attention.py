"""Attention and MultiHeadAttention of com.microsoft: key masks, biases, caches, packed operands.

Source: onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.dtypes import i1, i64
from torsh_dialect.ops.attention import AttentionOp
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.onnx_ops.attention import heads_apart, heads_together
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter


def hidden_keys(
    n: Node, mask: SSAValue | None, keys: Dim, batch: Dim, q: SSAValue
) -> SSAValue | None:
    """What is added to the scores of keys that a mask hides, or None.

    The mask is [batch, keys] or [batch, queries, keys], 0 where a key is hidden; or [batch], how
    many keys of each entry count; or [2 * batch], behind which key the last of them stands, then
    where the first does.
    """
    if mask is None:
        return None
    c = n.c
    match rank_of(mask):
        case 1:
            bounds, entries = c.cast(mask, i64), dims_of(mask)[0]
            twice = entries == 2 * batch if isinstance(entries, int) else False
            ends = c.reshape(c.slice(bounds, 0, 0, batch) if twice else bounds, (batch, 1, 1, 1))
            shown = c.lt(c.iota(keys), ends)
            if twice:
                starts = c.reshape(c.slice(bounds, 0, batch, batch), (batch, 1, 1, 1))
                shown = c.both(shown, c.ge(c.iota(keys), starts))
        case 2:
            rows, columns = dims_of(mask)
            shown = c.reshape(c.cast(mask, i1), (rows, 1, 1, columns))
        case 3:
            rows, queries, columns = dims_of(mask)
            shown = c.reshape(c.cast(mask, i1), (rows, 1, queries, columns))
        case rank:
            raise NotSupported(f"a key mask of rank {rank}", "give one of rank 1, 2 or 3")
    filler = n.float("mask_filter_value", -10000.0)
    return c.where(shown, c.like(0.0, q), c.like(filler, q))


def attended(
    n: Node, q: SSAValue, k: SSAValue, v: SSAValue, mask: int, bias: SSAValue | None, past: Dim
) -> SSAValue:
    """The result [batch, length, hidden] of q, k and v [batch, heads, length, size].

    Args:
        n: The node, whose input `mask` is the key mask.
        q: Queries.
        k: Keys, those of the cache first.
        v: Values.
        mask: Position of an input.
        bias: What is added to the scores, if anything.
        past: How many keys of a cache come before the first query.
    """
    added = hidden_keys(n, n.optional(mask), dims_of(k)[2], dims_of(q)[0], q)
    if bias is not None:
        added = bias if added is None else n.c.add(added, bias)
    causal = bool(n.int("unidirectional", 0))
    y = n(
        AttentionOp, q, k, v, added, causal=causal or None, scale=n.float("scale", 0.0) or None,
        offset=dims_attribute([past]) if causal and past != 0 else None,
    )  # fmt: skip
    return heads_together(n, y)


@converter("MultiHeadAttention", domain=MS)
def multi_head_attention(n: Node) -> Sequence[SSAValue | None]:
    """Separate q, k, v, or q, k, v (or k, v) in one; their bias, a cache, a bias of the scores."""
    c, heads = n.c, n.int("num_heads")
    q, k, v = _operands(n, heads)
    past = n.optional(6)
    kept: Dim = 0
    if past is not None:
        kept = dims_of(past)[2]
        k, v = c.concat([past, k], 2), c.concat([n.input(7), v], 2)
    return [attended(n, q, k, v, 4, n.optional(5), kept), k, v]


def _operands(n: Node, heads: int) -> tuple[SSAValue, SSAValue, SSAValue]:
    """Queries, keys and values [batch, heads, length, size]."""
    c, bias = n.c, n.optional(3)
    first, second, third = n.input(0), n.optional(1), n.optional(2)
    if second is None:
        packed = _unpacked(n, first, 3)
        return packed[0], packed[1], packed[2]
    if third is None:
        key, value = _unpacked(n, second, 2)
        return heads_apart(n, first, heads), key, value
    if bias is not None:
        width = dims_of(first)[2]
        first = c.add(first, c.slice(bias, 0, 0, width))
        if rank_of(second) == 3:
            second = c.add(second, c.slice(bias, 0, width, width))
            third = c.add(third, c.slice(bias, 0, width * 2, dims_of(third)[2]))
    key, value = (t if rank_of(t) == 4 else heads_apart(n, t, heads) for t in (second, third))
    return heads_apart(n, first, heads), key, value


def _unpacked(n: Node, x: SSAValue, count: int) -> list[SSAValue]:
    """[batch, length, heads, count, size] as `count` times [batch, heads, length, size]."""
    if rank_of(x) != 5:
        raise NotSupported(f"packed operands of rank {rank_of(x)}", "give rank 5")
    batch, length, heads, _, size = dims_of(x)
    parts = (n.c.slice(x, 3, i, 1) for i in range(count))
    flat = (n.c.reshape(part, (batch, length, heads, size)) for part in parts)
    return [n.c.transpose(part, [0, 2, 1, 3]) for part in flat]


@converter("Attention", domain=MS)
def ms_attention(n: Node) -> Sequence[SSAValue | None]:
    """Self-attention whose q, k and v are one product."""
    c = n.c
    packed = c.matmul(n.input(0), n.input(1))
    if n.optional(2) is not None:
        packed = c.add(packed, n.input(2))
    return self_attention(n, packed, 3, 4, n.optional(5))


def self_attention(
    n: Node, packed: SSAValue, mask: int, past: int, bias: SSAValue | None
) -> Sequence[SSAValue | None]:
    """The result and the cache [2, batch, heads, keys, size], from q, k and v side by side.

    Args:
        n: The node; input `mask` is its key mask, input `past` its cache.
        packed: [batch, length, the widths of q, k and v].
        mask: Position of an input.
        past: Position of an input.
        bias: What is added to the scores, if anything.
    """
    c, heads = n.c, n.int("num_heads")
    third = floordiv(dims_of(packed)[2], 3)
    widths: Sequence[Dim] = n.ints("qkv_hidden_sizes", []) or [third] * 3
    if len(widths) != 3:
        raise NotSupported(f"{len(widths)} hidden sizes", "give those of q, k and v")
    starts = (0, widths[0], widths[0] + widths[1])
    parts = (c.slice(packed, 2, s, w) for s, w in zip(starts, widths, strict=True))
    q, k, v = (heads_apart(n, part, heads) for part in parts)
    before, kept = n.optional(past), 0
    if before is not None:
        kept = dims_of(before)[3]
        old = (c.reshape(c.slice(before, 0, i, 1), dims_of(before)[1:]) for i in (0, 1))
        k, v = (c.concat([o, new], 2) for o, new in zip(old, (k, v), strict=True))
    y = attended(n, q, k, v, mask, bias, kept)
    if not n.wants(1):
        return [y, None]
    return [y, c.concat([c.reshape(t, (1, *dims_of(t))) for t in (k, v)], 0)]
