"""Models in float64: what a conversion is judged against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import DictionaryAttr, FunctionType, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, LiteralAttr, literal
from torsh_dialect.dtypes import dtype_of_numpy
from torsh_dialect.passes.infer_types import set_type
from torsh_dialect.types import device_of, dims_of, element_type, layout_of, tensor

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto, TypeProto

NARROW = (dtypes.f16, dtypes.bf16, dtypes.f32)
"""Element types that become float64."""


def wide_array(array: Array) -> Array:
    """The array in float64 (complex128) if it holds shorter floats; else the array itself."""
    kind = dtype_of_numpy(array.dtype).kind
    if kind == "float":
        return array.astype(np.float64)
    return array.astype(np.complex128) if kind == "complex" else array


def wide_attribute(attribute: Attribute) -> Attribute:
    """A type or constant with f64 for shorter floats."""
    if attribute in NARROW:
        return dtypes.f64
    if attribute == dtypes.c64:
        return dtypes.c128
    match attribute:
        case TensorType():
            wide = wide_attribute(element_type(attribute))
            return tensor(wide, dims_of(attribute), layout_of(attribute), device_of(attribute))
        case LiteralAttr() if dtype_of_numpy(attribute.data.array().dtype).element in NARROW:
            return literal(wide_array(attribute.data.array()))
        case DictionaryAttr():
            return DictionaryAttr({k: wide_attribute(v) for k, v in attribute.data.items()})
        case _:
            return attribute


def wide_module(module: ModuleOp) -> ModuleOp:
    """A copy of a module that computes in float64."""
    copy = module.clone()
    for op in copy.walk():
        for name, value in list(op.properties.items()):
            op.properties[name] = wide_attribute(value)
        for index in range(len(op.results)):
            set_type(op.results[index], wide_attribute(op.results[index].type))
        for region in op.regions:
            for block in region.blocks:
                for index in range(len(block.args)):
                    set_type(block.args[index], wide_attribute(block.args[index].type))
        if isinstance(op, FuncOp):
            kinds = op.function_type
            op.properties["function_type"] = FunctionType.from_lists(
                [wide_attribute(t) for t in kinds.inputs],
                [wide_attribute(t) for t in kinds.outputs],
            )
    return copy


def wide_onnx(model: ModelProto) -> ModelProto:
    """A copy of an ONNX model in float64: initializers, constants, types and casts."""
    from onnx import ModelProto

    copy = ModelProto()
    copy.CopyFrom(model)
    _wide_graph(copy.graph)
    for function in copy.functions:
        for node in function.node:
            _wide_node(node)
    return copy


def _narrow_kinds() -> tuple[int, ...]:
    from onnx import TensorProto

    return (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def _wide_graph(graph: GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        _wide_type(value.type)
    for one in graph.initializer:
        _wide_tensor(one)
    for node in graph.node:
        _wide_node(node)


def _wide_type(proto: TypeProto) -> None:
    from onnx import TensorProto

    match proto.WhichOneof("value"):
        case "tensor_type":
            if proto.tensor_type.elem_type in _narrow_kinds():
                proto.tensor_type.elem_type = TensorProto.DOUBLE
        case "sequence_type":
            _wide_type(proto.sequence_type.elem_type)
        case "optional_type":
            _wide_type(proto.optional_type.elem_type)
        case _:
            return


def _wide_tensor(proto: TensorProto) -> None:
    from onnx import numpy_helper

    if proto.data_type in _narrow_kinds():
        array: Any = numpy_helper.to_array(proto)
        proto.CopyFrom(numpy_helper.from_array(array.astype(np.float64), proto.name))


def _wide_node(node: Any) -> None:
    from onnx import AttributeProto, TensorProto, helper

    for attribute in list(node.attribute):
        is_type = attribute.name in ("to", "dtype", "stash_type", "output_dtype")
        if is_type and attribute.type == AttributeProto.INT and attribute.i in _narrow_kinds():
            attribute.i = TensorProto.DOUBLE
        elif attribute.type == AttributeProto.TENSOR:
            _wide_tensor(attribute.t)
        elif attribute.type == AttributeProto.GRAPH:
            _wide_graph(attribute.g)
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            value: Any = helper.get_attribute_value(attribute)
            array = np.asarray(value, np.float64)
            node.attribute.remove(attribute)
            from onnx import numpy_helper

            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(array)))
    no_value = node.op_type == "ConstantOfShape" and not node.attribute
    if no_value:
        zero: Any = helper.make_tensor("value", TensorProto.DOUBLE, [1], [0.0])
        node.attribute.append(helper.make_attribute("value", zero))
