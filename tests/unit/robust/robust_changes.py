"""Changes to ONNX models: each takes a model and dice and breaks (or bends) one thing in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from robust_parents import constant_of

Change = Callable[[onnx.ModelProto, random.Random], None]
CHANGES: dict[str, Change] = {}
KINDS = (TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32,
         TensorProto.BOOL, TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT64,
         TensorProto.BFLOAT16, TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.FLOAT,
         0, 999)  # fmt: skip
NUMBERS = (-(1 << 63), -(1 << 31), -7, -2, -1, 0, 1, 2, 3, 5, 8, 1 << 20, 1 << 62, (1 << 63) - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"))
TEXTS = (b"edge", b"reflect", b"wrap", b"constant", b"linear", b"SAME_UPPER", b"VALID", b"bogus",
         b"", b"add", b"none", b"\xff")  # fmt: skip


def change(function: Change) -> Change:
    CHANGES[function.__name__] = function
    return function


# -- what a model holds


def graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The graph and all subgraphs."""
    found = [model.graph]
    for graph in found:
        for node in graph.node:
            found += [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
    return found


def nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes of all graphs and functions."""
    return [*_of(graphs(model)), *_of(model.functions)]


def _of(holders: object) -> Iterator[onnx.NodeProto]:
    for holder in holders:  # type: ignore[attr-defined]
        yield from holder.node


@cache
def operators() -> tuple[str, ...]:
    """Operators of the default domain."""
    return tuple(sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}))


# -- attributes


@change
def change_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another value in an attribute."""
    found = [a for node in nodes(model) for a in node.attribute]
    if not found:
        return
    attribute = dice.choice(found)
    if attribute.type == AttributeProto.INT:
        attribute.i = dice.choice(NUMBERS)
    elif attribute.type == AttributeProto.INTS and attribute.ints:
        attribute.ints[dice.randrange(len(attribute.ints))] = dice.choice(NUMBERS)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = dice.choice(REALS)
    elif attribute.type == AttributeProto.FLOATS and attribute.floats:
        attribute.floats[dice.randrange(len(attribute.floats))] = dice.choice(REALS)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = dice.choice(TEXTS)


@change
def resize_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    """A list attribute one longer or shorter."""
    found = [a for node in nodes(model) for a in node.attribute if a.ints]
    if found:
        values = dice.choice(found).ints
        values.append(dice.choice(NUMBERS)) if dice.random() < 0.5 else values.pop()


@change
def retype_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    """An attribute of another kind."""
    holders = [node for node in nodes(model) if node.attribute]
    if holders:
        node = dice.choice(holders)
        position = dice.randrange(len(node.attribute))
        name = node.attribute[position].name
        other = dice.choice([1, 1.5, [1, 2], [0.5], "edge", ["a", "b"]])
        node.attribute[position].CopyFrom(helper.make_attribute(name, other))


@change
def drop_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    """One attribute fewer."""
    node = dice.choice(nodes(model))
    if node.attribute:
        node.attribute.pop(dice.randrange(len(node.attribute)))


@change
def add_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    """An attribute that other operators have."""
    name = dice.choice(["axis", "axes", "keepdims", "group", "mode", "to", "alpha", "bogus"])
    value = dice.choice([0, 1, -1, [0, 1], "edge", 0.5])
    dice.choice(nodes(model)).attribute.append(helper.make_attribute(name, value))


# -- nodes


@change
def change_operator(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another operator with the same operands."""
    dice.choice(nodes(model)).op_type = dice.choice(operators())


@change
def change_operands(model: onnx.ModelProto, dice: random.Random) -> None:
    """One operand more, fewer or missing, or all reversed."""
    node = dice.choice(nodes(model))
    if not node.input:
        return
    way = dice.randrange(4)
    if way == 0:
        node.input.append(dice.choice(node.input))
    elif way == 1:
        node.input.pop()
    elif way == 2:
        node.input[dice.randrange(len(node.input))] = ""
    else:
        node.input[:] = list(reversed(node.input))


@change
def change_results(model: onnx.ModelProto, dice: random.Random) -> None:
    """One result more, fewer or unnamed."""
    node = dice.choice(nodes(model))
    way = dice.randrange(3)
    if way == 0:
        node.output.append(f"more_{dice.randrange(1000)}")
    elif way == 1 and node.output:
        node.output.pop()
    elif node.output:
        node.output[dice.randrange(len(node.output))] = ""


@change
def change_edge(model: onnx.ModelProto, dice: random.Random) -> None:
    """An operand that is another value."""
    graph = dice.choice(graphs(model))
    values = [v.name for v in (*model.graph.input, *model.graph.initializer)]
    values += [name for other in (*model.graph.node, *graph.node) for name in other.output]
    if graph.node and values:
        node = dice.choice(graph.node)
        if node.input:
            node.input[dice.randrange(len(node.input))] = dice.choice(values)


@change
def drop_node(model: onnx.ModelProto, dice: random.Random) -> None:
    """One node fewer; its readers read its first operand, or nothing that exists."""
    graph = dice.choice(graphs(model))
    if not graph.node:
        return
    gone = graph.node.pop(dice.randrange(len(graph.node)))
    if gone.input and gone.output and dice.random() < 0.7:
        for node in graph.node:
            for position, name in enumerate(node.input):
                if name == gone.output[0]:
                    node.input[position] = gone.input[0]


@change
def repeat_node(model: onnx.ModelProto, dice: random.Random) -> None:
    """A node twice: of the same results, or once more behind itself."""
    graph = dice.choice(graphs(model))
    if not graph.node:
        return
    position = dice.randrange(len(graph.node))
    copy = onnx.NodeProto()
    copy.CopyFrom(graph.node[position])
    if dice.random() < 0.7 and copy.output and copy.input:
        first = graph.node[position]
        inner = f"{first.output[0]}_again"
        copy.input[0] = inner
        first.output[0] = inner
    graph.node.insert(position + 1, copy)


@change
def move_node(model: onnx.ModelProto, dice: random.Random) -> None:
    """A node at another place in the order."""
    graph = dice.choice(graphs(model))
    if len(graph.node) > 1:
        node = graph.node.pop(dice.randrange(len(graph.node)))
        graph.node.insert(dice.randrange(len(graph.node) + 1), node)


@change
def change_domain(model: onnx.ModelProto, dice: random.Random) -> None:
    """A node of another domain."""
    dice.choice(nodes(model)).domain = dice.choice(["com.microsoft", "ai.onnx.ml", "bogus", ""])


@change
def change_opset(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another version of an operator set."""
    dice.choice(model.opset_import).version = dice.choice([*range(1, 29), 0, -1, 999])


# -- types and shapes


@change
def change_extent(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another extent of an input."""
    declared = [v for v in model.graph.input if v.type.tensor_type.shape.dim]
    if declared:
        dim = dice.choice(dice.choice(declared).type.tensor_type.shape.dim)
        if dice.random() < 0.4:
            dim.dim_param = dice.choice(["n", "m"])
        else:
            dim.dim_value = dice.choice([0, 1, 2, 3, 7, 17, 1 << 34, -1])


@change
def change_rank(model: onnx.ModelProto, dice: random.Random) -> None:
    """An input of one axis more or fewer."""
    declared = [v for v in model.graph.input if v.type.HasField("tensor_type")]
    if declared:
        dims = dice.choice(declared).type.tensor_type.shape.dim
        if dims and dice.random() < 0.5:
            dims.pop(dice.randrange(len(dims)))
        else:
            dims.add().dim_value = dice.choice([1, 2, 3])


@change
def change_type(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another element type of an input."""
    declared = [v for v in model.graph.input if v.type.HasField("tensor_type")]
    if declared:
        dice.choice(declared).type.tensor_type.elem_type = dice.choice(KINDS)


@change
def change_output(model: onnx.ModelProto, dice: random.Random) -> None:
    """An output (of the model or a subgraph) declared otherwise, missing, or given twice."""
    graph = dice.choice(graphs(model))
    if not graph.output:
        return
    position, way = dice.randrange(len(graph.output)), dice.randrange(4)
    if way == 0:
        graph.output[position].type.tensor_type.elem_type = dice.choice(KINDS)
    elif way == 1:
        graph.output.pop(position)
    elif way == 2:
        graph.output.add().CopyFrom(graph.output[position])
    else:
        graph.output[position].name = dice.choice([v.name for v in model.graph.input] or ["y"])


# -- subgraphs


@change
def change_subgraph(model: onnx.ModelProto, dice: random.Random) -> None:
    """Branches exchanged or equal, an input more or fewer, one subgraph in another's place."""
    holders = [a for n in nodes(model) for a in n.attribute if a.type == AttributeProto.GRAPH]
    if not holders:
        return change_operator(model, dice)
    one, other = dice.choice(holders), dice.choice(holders)
    way = dice.randrange(4)
    if way == 0:
        copy = onnx.GraphProto()
        copy.CopyFrom(other.g)
        one.g.CopyFrom(copy)
    elif way == 1:
        one.g.input.add().CopyFrom(
            helper.make_tensor_value_info("more", TensorProto.FLOAT, [dice.choice([1, 3])])
        )
    elif way == 2 and one.g.input:
        one.g.input.pop(dice.randrange(len(one.g.input)))
    else:
        one.name = dice.choice(["then_branch", "else_branch", "body", "bogus"])


# -- initializers


@change
def change_weight(model: onnx.ModelProto, dice: random.Random) -> None:
    """Another shape, type or content of an initializer."""
    if not model.graph.initializer:
        return freeze_input(model, dice)
    stored = dice.choice(model.graph.initializer)
    try:
        array = numpy_helper.to_array(stored)
    except (ValueError, TypeError, KeyError):
        return
    if array.dtype.kind not in "fiub":
        return
    way = dice.randrange(4)
    if way == 0:
        array = np.swapaxes(array, 0, -1) if array.ndim else array.reshape(1)
    elif way == 1:
        kinds = [np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_]
        array = array.astype(dice.choice(kinds))
    elif way == 2 and array.size:
        array = array.copy()
        numbers = [0, -1, 1, 3, 1 << 20, (1 << 62), -(1 << 62)]
        number = dice.choice(numbers if array.dtype.kind in "iub" else REALS)
        with np.errstate(all="ignore"):
            cast = np.asarray(number).astype(array.dtype)
        array.reshape(-1)[dice.randrange(array.size)] = cast
    else:
        array = array[:-1] if array.ndim and len(array) else array.reshape(())
    stored.CopyFrom(constant_of(array, stored.name))


@change
def damage_weight(model: onnx.ModelProto, dice: random.Random) -> None:
    """An initializer whose dims, type, data or name do not fit together."""
    if not model.graph.initializer:
        return
    stored = dice.choice(model.graph.initializer)
    way = dice.randrange(5)
    if way == 0 and stored.dims:
        stored.dims[dice.randrange(len(stored.dims))] = dice.choice(NUMBERS)
    elif way == 1:
        stored.data_type = dice.choice(KINDS)
    elif way == 2:
        stored.raw_data = stored.raw_data[: len(stored.raw_data) // 2]
    elif way == 3:
        stored.name = dice.choice([t.name for t in model.graph.initializer])
    else:
        model.graph.initializer.remove(stored)


@change
def freeze_input(model: onnx.ModelProto, dice: random.Random) -> None:
    """An input that becomes an initializer, so that converters know what it holds."""
    declared = [
        v for v in model.graph.input
        if v.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.INT64)
        and all(d.dim_value > 0 for d in v.type.tensor_type.shape.dim)
    ]  # fmt: skip
    if not declared:
        return
    chosen = dice.choice(declared)
    type = chosen.type.tensor_type
    shape = [min(d.dim_value, 64) for d in type.shape.dim]
    rng = np.random.default_rng(dice.randrange(1 << 30))
    array = rng.normal(size=shape) * 2
    dtype = np.int64 if type.elem_type == TensorProto.INT64 else np.float32
    model.graph.initializer.append(constant_of(array.astype(dtype), chosen.name))
    if dice.random() < 0.8:
        model.graph.input.remove(chosen)


# -- bytes


def flipped(data: bytes, dice: random.Random) -> bytes:
    """One to three bytes changed, or the end missing."""
    damaged = bytearray(data)
    if dice.random() < 0.1:
        return bytes(damaged[: dice.randrange(len(damaged) + 1)])
    for _ in range(dice.choice([1, 1, 2, 3])):
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
    return bytes(damaged)
