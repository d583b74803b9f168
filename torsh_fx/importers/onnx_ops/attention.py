"""Attention, rotary embedding, key-value caches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.dtypes import i1, i64
from torsh_dialect.ops.attention import AttentionOp, RotaryEmbeddingOp
from torsh_dialect.ops.join import PadOp
from torsh_dialect.ops.scatter import ScatterNdOp
from torsh_dialect.ops.softmax import SoftmaxOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter


def heads_apart(n: Node, x: SSAValue, heads: int) -> SSAValue:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    batch, length, hidden = dims_of(x)
    split = n.c.reshape(x, (batch, length, heads, floordiv(hidden, heads)))
    return n.c.transpose(split, [0, 2, 1, 3])


def heads_together(n: Node, x: SSAValue) -> SSAValue:
    """The inverse of `heads_apart`."""
    batch, heads, length, size = dims_of(x)
    return n.c.reshape(n.c.transpose(x, [0, 2, 1, 3]), (batch, length, heads * size))


@converter("Attention")
def attention(n: Node) -> Sequence[SSAValue | None]:
    """ONNX Attention 23 to 25: caches, masks, causal frontiers, windows, score outputs."""
    q, k, v = (n.input(i) for i in range(3))
    flat = rank_of(q) == 3
    if flat:
        queries, keys = n.int("q_num_heads"), n.int("kv_num_heads")
        q = heads_apart(n, q, queries)
        k, v = (heads_apart(n, t, keys) for t in (k, v))
    past = n.optional(4)
    if past is not None:
        k, v = n.c.concat([past, k], 2), n.c.concat([n.input(5), v], 2)
    used = n.optional(6)
    causal = bool(n.int("is_causal", 0))
    offset: Dim = 0 if past is None else dims_of(past)[2]
    mask = _mask(n, q, k, used, causal=causal, offset=offset)
    simple = causal and used is None
    scale = n.float("scale") if n.has("scale") else None
    cap = n.float("softcap", 0.0)
    y = n(
        AttentionOp, q, k, v, mask, causal=True if simple else None,
        offset=dims_attribute([offset]) if simple and offset != 0 else None,
        scale=scale, softcap=cap or None,
    )  # fmt: skip
    scores = _scores(n, q, k, mask, simple, offset) if n.wants(3) else None
    return [heads_together(n, y) if flat else y, k, v, scores]


def _mask(
    n: Node, q: SSAValue, k: SSAValue, used: SSAValue | None, *, causal: bool, offset: Dim
) -> SSAValue | None:
    """The mask that `torsh.attention` does not make itself, or None."""
    c, mask = n.c, n.optional(3)
    length, reach = dims_of(q)[2], dims_of(k)[2]
    # Since opset 24 one column is a mask that is too short; before, it broadcasts.
    whole = (reach, 1) if n.version < 24 else (reach,)
    if mask is not None and (last := dims_of(mask)[-1]) not in whole:
        hidden = False if element_type(mask) == i1 else -math.inf
        high: list[Dim] = [*[0] * (rank_of(mask) - 1), reach - last]
        low = dims_attribute([0] * rank_of(mask))
        filler = c.like(hidden, mask)
        mask = n(PadOp, mask, filler, low=low, high=dims_attribute(high), mode="constant")
    left, right = n.int("left_window_size", -1), n.int("right_window_size", -1)
    if used is None and left < 0 and right < 0:
        return mask
    keys = c.iota(reach)
    rows = c.reshape(c.iota(length), (length, 1))
    shown: list[SSAValue] = []
    if used is None:
        places = c.add(rows, c.dim(offset))
    else:
        count = c.reshape(c.cast(used, i64), (dims_of(used)[0], 1, 1, 1))
        places = c.add(rows, c.sub(count, c.dim(length)))
        shown.append(c.lt(keys, count))
        if causal:
            shown.append(c.le(keys, places))
    if left >= 0:
        shown.append(c.le(c.sub(places, keys), left))
    if right >= 0:
        shown.append(c.le(c.sub(keys, places), right))
    seen = shown[0]
    for more in shown[1:]:
        seen = c.both(seen, more)
    if mask is None:
        return seen
    if element_type(mask) == i1:
        return c.both(mask, seen)
    return c.where(seen, mask, c.like(-math.inf, mask))


def _scores(
    n: Node, q: SSAValue, k: SSAValue, mask: SSAValue | None, causal: bool, offset: Dim
) -> SSAValue:
    """What attention computes on its way, as `qk_matmul_output_mode` asks."""
    c, mode, cap = n.c, n.int("qk_matmul_output_mode", 0), n.float("softcap", 0.0)
    size, groups = dims_of(q)[3], dims_of(k)[1]
    wide, k = c.wide(q), c.wide(k)
    if n.has("scale"):
        scale = c.like(n.float("scale"), wide)
    else:
        scale = c.div(c.like(1.0, wide), c.sqrt(c.cast_like(c.dim(size), wide)))
    if dims_of(q)[1] != groups:
        batch, _, *rest = dims_of(k)
        each = floordiv(dims_of(q)[1], groups)
        k = c.broadcast(c.reshape(k, (batch, groups, 1, *rest)), (batch, groups, each, *rest))
        k = c.reshape(k, (batch, dims_of(q)[1], *rest))
    scores = c.mul(c.matmul(wide, c.transpose(k, [0, 1, 3, 2])), scale)
    if mode >= 1 and cap:
        scores = c.mul(c.tanh(c.div(scores, cap)), cap)
    bias = c.like(0.0, scores)
    if mask is not None:
        shown = element_type(mask) == i1
        bias = (
            c.where(mask, bias, c.like(-math.inf, scores)) if shown else c.cast_like(mask, scores)
        )
    if causal:
        length, reach = dims_of(scores)[2:]
        rows = c.add(c.reshape(c.iota(length), (length, 1)), c.dim(offset))
        bias = c.where(c.le(c.iota(reach), rows), bias, c.like(-math.inf, scores))
    if mode >= 2:
        scores = c.add(scores, bias)
    if mode == 3:
        bias = c.broadcast(bias, dims_of(scores))
        unseen = c.eq(c.max(bias, [3], keep=True), -math.inf)
        scores = c.where(unseen, c.like(0.0, scores), n(SoftmaxOp, scores, axis=3))
    return c.cast_like(scores, q)


@converter("RotaryEmbedding")
def rotary_embedding(n: Node) -> SSAValue:
    """Caches are looked up by position ids where these are given."""
    x, c = n.input(0), n.c
    cos, sin, positions = n.input(1), n.input(2), n.optional(3)
    flat = rank_of(x) == 3
    if flat:
        x = heads_apart(n, x, n.int("num_heads"))
    if positions is not None:
        cos, sin = c.take(cos, positions, 0), c.take(sin, positions, 0)
    y = n(RotaryEmbeddingOp, x, cos, sin, interleaved=bool(n.int("interleaved", 0)) or None)
    return heads_together(n, y) if flat else y


@converter("RotaryEmbedding", domain=MS)
def ms_rotary_embedding(n: Node) -> SSAValue:
    """Onnxruntime's form: position ids come second and may be one offset."""
    x, c = n.input(0), n.c
    positions, cos, sin = n.input(1), n.input(2), n.input(3)
    if n.float("scale", 1.0) != 1 or n.int("is_packed_batching", 0):
        raise NotSupported("scaled or packed rotary embedding")
    flat = rank_of(x) == 3
    if flat:
        width = dims_of(cos)[1] * 2
        partial = n.int("rotary_embedding_dim", 0)
        size = floordiv(dims_of(x)[2], n.int("num_heads")) if partial else width
        x = heads_apart(n, x, n.int("num_heads", 0) or int(str(floordiv(dims_of(x)[2], size))))
    batch, length = dims_of(x)[0], dims_of(x)[2]
    if rank_of(positions) == 1:
        positions = c.add(c.reshape(c.iota(length), (1, length)), n.scalar(positions))
        positions = c.broadcast(positions, (batch, length))
    cos, sin = c.take(cos, positions, 0), c.take(sin, positions, 0)
    y = n(RotaryEmbeddingOp, x, cos, sin, interleaved=bool(n.int("interleaved", 0)) or None)
    return heads_together(n, y) if flat else y


@converter("TensorScatter")
def tensor_scatter(n: Node) -> SSAValue:
    """Writes an update of some length into a cache, from a position of each batch entry on."""
    past, update, start = n.input(0), n.input(1), n.optional(2)
    first = n.constant(np.zeros(1, np.int64)) if start is None else n.c.cast(start, i64)
    circular = n.str("mode", "linear") == "circular"
    return written(n, past, update, first, n.axis(-2), circular=circular)


def written(
    n: Node, past: SSAValue, update: SSAValue, first: SSAValue, axis: int, *, circular: bool = False
) -> SSAValue:
    """A cache with `update` in it along `axis`, from place `first` of each batch entry on."""
    c, dims, length = n.c, dims_of(past), dims_of(update)[axis]
    batch = dims[0]
    first = c.broadcast(c.reshape(first, (dims_of(first)[0], 1)), (batch, 1))
    places = c.add(c.iota(length), first)
    if circular:
        places = c.remainder(places, c.dim(dims[axis]))
    order = [0, axis, *(a for a in range(len(dims)) if a not in (0, axis))]
    back = [order.index(a) for a in range(len(dims))]
    entries = c.broadcast(c.reshape(c.iota(batch), (batch, 1)), (batch, length))
    index = c.concat([c.reshape(t, (batch, length, 1)) for t in (entries, places)], 2)
    moved = [c.transpose(t, order) for t in (past, update)]
    return c.transpose(n(ScatterNdOp, moved[0], index, moved[1], reduction="none"), back)
