"""Sequences and optional values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import TensorType, UnrankedTensorType
from xdsl.ir import Attribute, SSAValue

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import Dim, symbol
from torsh_dialect.dtypes import i1, i64
from torsh_dialect.ops.sequence import (
    UNKNOWN,
    ConcatFromSequenceOp,
    OptionalGetElementOp,
    OptionalHasElementOp,
    OptionalOp,
    SequenceAtOp,
    SequenceConstructOp,
    SequenceEraseOp,
    SequenceInsertOp,
    SequenceLengthOp,
    SplitToSequenceOp,
    item_of,
)
from torsh_dialect.types import OptionalType, SequenceType, dims_of, rank_of
from torsh_fx.importers.onnx_ops.control import build_loop
from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter


@converter("SequenceConstruct")
def construct(n: Node) -> SSAValue:
    return n(SequenceConstructOp, n.inputs)


@converter("SequenceEmpty")
def empty(n: Node) -> SSAValue:
    element = n.element(n.int("dtype")) if n.has("dtype") else n.element(1)
    return n(SequenceConstructOp, [], item=UnrankedTensorType(element))


def _position(n: Node, index: int) -> SSAValue | None:
    value = n.optional(index)
    return None if value is None else n.c.cast(n.scalar(value), i64)


@converter("SequenceInsert")
def insert(n: Node) -> SSAValue:
    return n(SequenceInsertOp, n.input(0), n.input(1), _position(n, 2))


@converter("SequenceErase")
def erase(n: Node) -> SSAValue:
    return n(SequenceEraseOp, n.input(0), _position(n, 1))


@converter("SequenceLength")
def length(n: Node) -> SSAValue:
    return n(SequenceLengthOp, n.input(0))


def _names(n: Node, item: Attribute) -> list[str] | None:
    """Names for the extents of an item that are not known."""
    if not isinstance(item, TensorType):
        return None
    count = sum(d == UNKNOWN for d in dims_of(item))  # pyright: ignore[reportUnknownArgumentType]
    return [n.fresh("u") for _ in range(count)] or None


@converter("SequenceAt")
def at(n: Node) -> SSAValue:
    position = n.c.cast(n.scalar(n.input(1)), i64)
    value = n.input(0)
    # What a sequence made here holds at a known place needs no sequence.
    known, owner = n.array(position), value.owner
    if known is not None and isinstance(owner, SequenceConstructOp) and owner.items:
        place = int(known)
        if -len(owner.items) <= place < len(owner.items):
            return owner.items[place]
    return n(SequenceAtOp, value, position, symbols=_names(n, item_of(value)))


@converter("SplitToSequence")
def split(n: Node) -> SSAValue:
    sizes = n.optional(1)
    squeeze = sizes is None and not n.int("keepdims", 1)
    sizes = None if sizes is None else n.c.cast(sizes, i64)
    return n(SplitToSequenceOp, n.input(0), sizes, axis=n.axis(0), squeeze=squeeze or None)


@converter("ConcatFromSequence")
def concat(n: Node) -> SSAValue:
    value, new = n.input(0), bool(n.int("new_axis", 0))
    owner = value.owner
    item = item_of(value)
    if not isinstance(item, TensorType):
        raise NotSupported("items of unknown rank are joined", "declare the items' shape")
    rank = rank_of(item) + new  # pyright: ignore[reportUnknownArgumentType]
    axis = n.int("axis") % rank
    if isinstance(owner, SequenceConstructOp) and owner.items:
        items: list[SSAValue] = list(owner.items)
        if new:
            items = [n.c.reshape(v, (*dims_of(v)[:axis], 1, *dims_of(v)[axis:])) for v in items]
        return n.c.concat(items, axis)
    dims: list[Dim] = list(dims_of(item))  # pyright: ignore[reportUnknownArgumentType]
    if new:
        dims.insert(axis, UNKNOWN)
    else:
        dims[axis] = UNKNOWN
    names = [n.fresh("u") for d in dims if d == UNKNOWN]
    unused = iter(names)
    dims = [symbol(next(unused)) if d == UNKNOWN else d for d in dims]
    return n(
        ConcatFromSequenceOp, value, axis=axis, new_axis=new or None,
        target=dims_attribute(dims), symbols=names,
    )  # fmt: skip


@converter("SequenceMap")
def sequence_map(n: Node) -> Sequence[SSAValue]:
    """A loop over the first sequence; the body sees the names around the node, as in `Loop`.

    That is why this is not the function which defines the operator: a function sees none.
    """
    from torsh_fx.importers.onnx_graph import convert_graph

    graph, name, values = n.graph("body"), n.proto.name or "SequenceMap", n.inputs
    kinds = [n.element(v.type.tensor_type.elem_type) for v in graph.output]
    empty = [n(SequenceConstructOp, [], item=UnrankedTensorType(kind)) for kind in kinds]

    def body(builder: BlockBuilder, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
        parts = [
            builder(SequenceAtOp, v, args[0], symbols=_names(n, item_of(v)))
            if position == 0 or isinstance(v.type, SequenceType)
            else v
            for position, v in enumerate(values)
        ]
        found = convert_graph(n.scope, graph, parts, builder, name)
        pairs = zip(args[1:], found, strict=True)
        longer = [builder(SequenceInsertOp, made, value, None) for made, value in pairs]
        return [builder.constant(True, i1), *longer]

    count, going = n(SequenceLengthOp, values[0]), n.constant(True, i1)
    return build_loop(n, count, going, empty, 0, body)


# -- optional values


@converter("Optional")
def optional(n: Node) -> SSAValue:
    value = n.optional(0)
    if value is not None:
        return n(OptionalOp, value)
    item = n.scope.importing.type_of(n.value("type"), "an optional value")
    return n(OptionalOp, None, item=item)


@converter("OptionalHasElement")
def has_element(n: Node) -> SSAValue:
    value = n.optional(0)
    if value is None or not isinstance(value.type, OptionalType):
        return n.constant(np.asarray(value is not None))
    return n(OptionalHasElementOp, value)


@converter("OptionalGetElement")
def get_element(n: Node) -> SSAValue:
    value = n.input(0)
    if not isinstance(value.type, OptionalType):
        return value
    return n(OptionalGetElementOp, value, symbols=_names(n, value.type.item))
