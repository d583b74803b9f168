"""Operators of com.microsoft that language models use beside attention: experts, repeated n-grams.

Source: onnxruntime's docs/ContribOperators.md; where that is silent, its CPU kernels.
"""

from __future__ import annotations

import math

from xdsl.ir import SSAValue

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, product
from torsh_dialect.dtypes import i64
from torsh_dialect.ops.activation import GeluOp, ReluOp
from torsh_dialect.ops.scatter import ScatterElementsOp
from torsh_dialect.ops.softmax import SoftmaxOp
from torsh_dialect.ops.sort import TopKOp
from torsh_dialect.types import dims_of
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter


@converter("NGramRepeatBlock", domain=MS)
def ngram_repeat_block(n: Node) -> SSAValue:
    """Scores of tokens that would repeat an n-gram of their sequence become -inf.

    A token follows each of the windows of n - 1 tokens that are the sequence's last. What stands
    before the sequence is no token, so that no window with a part of it is.
    """
    c, size = n.c, n.int("ngram_size")
    scores = n.input(1)
    ids = c.cast(n.input(0), i64)
    batch, length = dims_of(ids)
    before = c.broadcast(c.like(-1, ids), (batch, size))
    ids = c.concat([before, ids], 1)
    windows, last = length + 1, length + 1  # the last n - 1 of length + n tokens
    tokens = c.slice(ids, 1, size - 1, windows)
    repeats = c.ge(tokens, 0)
    for place in range(size - 1):
        same = c.eq(c.slice(ids, 1, place, windows), c.slice(ids, 1, last + place, 1))
        repeats = c.both(repeats, same)
    least = c.where(repeats, c.like(-math.inf, scores), c.like(math.inf, scores))
    place = c.where(repeats, tokens, c.like(0, tokens))
    return n(ScatterElementsOp, scores, place, least, axis=1, reduction="min")


@converter("MoE", domain=MS)
def mixture_of_experts(n: Node) -> SSAValue:
    """The sum of what the best experts of each token make of it, by their probabilities.

    Every expert sees every token, and those that were not chosen count 0 times.
    """
    c, x = n.c, n.input(0)
    dims = dims_of(x)
    tokens: Dim = product(dims[:-1])
    flat = c.reshape(x, (1, tokens, dims[-1]))
    hidden = _activated(n, _projected(n, flat, 2), flat)
    y = _projected(n, hidden, 4)
    share = c.reshape(c.transpose(_shares(n, tokens), [1, 0]), (dims_of(y)[0], tokens, 1))
    return c.reshape(c.sum(c.mul(y, share), [0]), dims)


def _projected(n: Node, x: SSAValue, index: int) -> SSAValue:
    """X [1 or experts, tokens, k] times each expert's weights [experts, m, k], plus its bias."""
    c, w, bias = n.c, n.input(index), n.optional(index + 1)
    y = c.matmul(x, c.transpose(w, [0, 2, 1]))
    experts, size = dims_of(w)[:2]
    return y if bias is None else c.add(y, c.reshape(bias, (experts, 1, size)))


def _shares(n: Node, tokens: Dim) -> SSAValue:
    """How much each expert counts for each token: [tokens, experts], 0 but for the best k."""
    c, logits = n.c, n.input(1)
    experts, best = dims_of(logits)[1], n.int("k", 1)
    logits = n.fitted(logits, (tokens, experts))
    values, places = n.all(TopKOp, n(SoftmaxOp, logits, axis=1), axis=1, k=dims_attribute([best]))
    if n.int("normalize_routing_weights", 0):
        values = c.div(values, c.sum(values, [1], keep=True))
    zeros = c.broadcast(c.like(0, logits), dims_of(logits))
    return n(ScatterElementsOp, zeros, places, values, axis=1, reduction="none")


def _activated(n: Node, z: SSAValue, x: SSAValue) -> SSAValue:
    """The activation of the first projection; for swiglu with the gate's partner."""
    c, name = n.c, n.str("activation_type", "relu")
    if name != "swiglu" and n.optional(6) is not None:
        raise NotSupported(f"a third projection with the activation {name!r}", "use swiglu")
    match name:
        case "relu":
            return n(ReluOp, z)
        case "gelu":
            return n(GeluOp, z, approximate="tanh")
        case "silu":
            return c.mul(z, c.sigmoid(z))
        case "identity":
            return z
        case "swiglu":
            return _swiglu(n, *_gate_and_partner(n, z, x))
        case _:
            raise NotSupported(
                f"the activation {name!r}", "use relu, gelu, silu, identity or swiglu"
            )


def _gate_and_partner(n: Node, z: SSAValue, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """As `swiglu_fusion` says: two projections, interleaved ones, or one behind the other."""
    c, fusion = n.c, n.int("swiglu_fusion", 0)
    if fusion == 0:
        n.input(6)
        return z, _projected(n, x, 6)
    experts, tokens, both = dims_of(z)
    if fusion not in (1, 2) or not isinstance(both, int) or both % 2:
        raise NotSupported(f"swiglu_fusion {fusion} of {both} columns", "use 0, 1 or 2")
    if n.optional(6) is not None:
        raise NotSupported("a third projection beside fused ones", "set swiglu_fusion to 0")
    if fusion == 2:
        first, second = (c.slice(z, 2, start, both // 2) for start in (0, both // 2))
        return first, second
    pairs = c.reshape(z, (experts, tokens, both // 2, 2))
    first, second = (
        c.reshape(c.slice(pairs, 3, part, 1), (experts, tokens, both // 2)) for part in (0, 1)
    )
    return first, second


def _swiglu(n: Node, gate: SSAValue, partner: SSAValue) -> SSAValue:
    """Gate * sigmoid(alpha * gate) * (partner + beta), both cut at the limit if there is one."""
    c = n.c
    alpha, beta = n.float("activation_alpha", 1.0), n.float("activation_beta", 0.0)
    if n.has("swiglu_limit"):
        limit = n.float("swiglu_limit")
        gate = c.minimum(gate, limit)
        partner = c.maximum(c.minimum(partner, limit), -limit)
    return c.mul(c.mul(gate, c.sigmoid(c.mul(gate, alpha))), c.add(partner, beta))
