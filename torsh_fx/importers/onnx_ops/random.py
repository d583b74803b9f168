"""Random numbers. A node with a seed draws the same in every call, others from the model's stream.

The specification leaves the generator open; all numbers here are of Philox4x32-10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx import NodeProto
from xdsl.ir import Attribute, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import f32, is_float
from torsh_dialect.types import dims_of, element_type
from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter
from torsh_fx.importers.random import Philox, Spread, Stream, computed_in, within
from torsh_fx.random import first_state


def _stream(n: Node) -> Stream:
    """The node's own stream, or the model's."""
    block, stream = n.scope.builder.block, n.scope.importing.stream
    if not n.has("seed"):
        if block is not stream.block:
            raise NotSupported("random numbers in a nested graph of this kind", "give a seed")
        return stream
    given = n.value("seed")
    if not math.isfinite(given):
        raise NotSupported(f"the seed is {given}", "give a finite number, or none")
    state = first_state("philox", int(given))
    return Philox(lambda: n.constant(state), block)


RANDOM = frozenset(
    ("RandomUniform", "RandomUniformLike", "RandomNormal", "RandomNormalLike", "Bernoulli",
     "Multinomial", "Dropout")
)  # fmt: skip


def draws(n: Node) -> bool:
    """Whether the node's graphs, or those in them, may draw from the model's stream."""
    from torsh_fx.importers.onnx_graph import normal_domain, subgraphs

    functions = n.scope.importing.functions
    work, seen = [node for graph in subgraphs(n.proto) for node in graph.node], set[object]()
    while work:
        node = work.pop()
        if _may_draw(node, n.version):
            return True
        work += [inner for graph in subgraphs(node) for inner in graph.node]
        key = (normal_domain(node.domain), node.op_type, node.overload)
        if key in functions and key not in seen:
            seen.add(key)
            work += functions[key].node
    return False


def _may_draw(node: NodeProto, version: int) -> bool:
    """Whether it may draw from the model's stream; not so for Dropout that is always inference."""
    if node.op_type == "Dropout" and version < 7:
        return not any(a.name == "is_test" and a.i for a in node.attribute)
    if node.op_type == "Dropout" and not (len(node.input) > 2 and node.input[2]):
        return False
    return node.op_type in RANDOM and not any(a.name == "seed" for a in node.attribute)


def _element(n: Node) -> Attribute:
    """The attribute `dtype`, or the element type of the input that is imitated."""
    if n.has("dtype"):
        return n.element(n.int("dtype"))
    return element_type(n.input(0)) if n.proto.input else f32


def _drawn_element(n: Node) -> Attribute:
    element = _element(n)
    if not is_float(element):
        raise NotSupported(f"random numbers of type {element}", "draw floats, and cast them")
    return element


def _dims(n: Node) -> Sequence[Dim]:
    return n.dims() if n.op_type.endswith("Like") else n.ints("shape")


def _uniform(n: Node, dims: Sequence[Dim], element: Attribute) -> SSAValue:
    """Numbers in [0, 1) as f32 or f64."""
    return _stream(n).uniform(n.c, dims, computed_in(element))


@converter("RandomUniform", "RandomUniformLike")
def random_uniform(n: Node) -> SSAValue:
    """Rounding may give `high`, which is excluded."""
    c, element, low, high = n.c, _drawn_element(n), n.float("low", 0.0), n.float("high", 1.0)
    if not low <= high:
        raise NotSupported(f"low is {low}, high {high}", "low is at most high")
    wide = c.cast(_uniform(n, _dims(n), element), dtypes.f64)
    drawn = c.cast(c.add(c.mul(wide, high - low), low), element)
    return c.where(c.ge(drawn, c.like(high, drawn)), c.like(low, drawn), drawn)


@converter("RandomNormal", "RandomNormalLike")
def random_normal(n: Node) -> SSAValue:
    element, spread = _drawn_element(n), Spread(n.float("mean", 0.0), n.float("scale", 1.0))
    return _stream(n).normal(n.c, _dims(n), element, spread, dense=True)


@converter("Bernoulli")
def bernoulli(n: Node) -> SSAValue:
    x, c = n.input(0), n.c
    drawn = _uniform(n, dims_of(x), element_type(x))
    return c.cast(c.lt(drawn, c.cast_like(within(c, x, 0.0, 1.0), drawn)), _element(n))


@converter("Multinomial")
def multinomial(n: Node) -> SSAValue:
    """Classes drawn by the Gumbel maximum of log probabilities."""
    x, c, count = n.input(0), n.c, n.int("sample_size", 1)
    batch, classes = dims_of(x)
    drawn = _uniform(n, (batch, count, classes), f32)
    inside = c.minimum(c.add(drawn, 2.0**-25), 1 - 2.0**-24)  # never 0 nor 1
    noise = c.neg(c.log(c.neg(c.log(inside))))
    wide = c.cast_like(x, noise)
    best = c.argmax(c.add(c.reshape(wide, (batch, 1, classes)), noise), 2)
    to = n.element(n.int("dtype")) if n.has("dtype") else dtypes.i32
    return c.cast(c.reshape(best, (batch, count)), to)


@converter("Dropout")
def dropout(n: Node) -> list[SSAValue | None]:
    """The identity in inference; in training zeros at random, where the mask is false (or 0)."""
    x, c, training = n.input(0), n.c, _training(n)
    kind = dtypes.i1 if n.version >= 10 else element_type(x)
    if training is None:
        mask = c.broadcast(n.constant(True, dtypes.i1), n.dims()) if n.wants(1) else None
        return [x, None if mask is None else c.cast(mask, kind)]
    off = c.eq(training, n.constant(False, dtypes.i1))
    ratio = _ratio(n, x, off)
    drawn = _uniform(n, n.dims(), element_type(x))
    kept = c.either(c.ge(drawn, c.cast_like(ratio, drawn)), off)
    scaled = c.div(x, c.sub(c.like(1.0, ratio), ratio))
    return [c.where(off, x, c.where(kept, scaled, c.like(0.0, x))), c.cast(kept, kind)]


def _training(n: Node) -> SSAValue | None:
    """Whether numbers are drawn: an input since opset 12, an attribute before 7; None for never."""
    if n.version < 7:
        return None if n.int("is_test", 0) else n.constant(True, dtypes.i1)
    mode = n.optional(2) if n.version >= 12 else None
    if mode is None:
        return None
    known = n.array(2)
    return n.scalar(mode) if known is None or known.any() else None


def _ratio(n: Node, x: SSAValue, off: SSAValue) -> SSAValue:
    """The part of x that becomes 0, in x's type; checked when the program runs if it is a value."""
    c = n.c
    ratio = n.optional(1) if n.version >= 12 else None
    if ratio is None:
        given = [0.5 if n.version >= 12 else n.float("ratio", 0.5)]
    else:
        known = n.array(1)
        given = [] if known is None else [float(one) for one in known.flat]
    if not all(0 <= one < 1 for one in given):
        raise NotSupported(f"the ratio is {given[0]}", "give one in [0, 1)")
    if given:
        return c.like(given[0], x)
    assert ratio is not None
    value = c.cast(n.scalar(ratio), dtypes.f64)
    used = c.where(off, c.like(0.0, value), value)
    return c.cast_like(within(c, used, 0.0, math.nextafter(1.0, 0.0)), x)
