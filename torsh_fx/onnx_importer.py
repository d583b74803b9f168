"""`OnnxImporter` and `OnnxOperationMapper`: ONNX models as graphs, with the guide's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdsl.ir import Attribute, SSAValue

from torsh_dialect.attributes import TRUE, text
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.context import Context
from torsh_dialect.operations import VOCABULARY
from torsh_dialect.ops.call import CallOp
from torsh_dialect.plain import Value, options_attribute
from torsh_dialect.types import untyped
from torsh_dialect.vocabulary import Call, Vocabulary
from torsh_fx.graph.graph import FxGraph

if TYPE_CHECKING:
    from onnx import ModelProto

    from torsh_fx.importers.onnx_ops.node import Node

MAPPINGS: dict[str, str] = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "MatMul": "matmul",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "Conv": "conv2d",
    "MaxPool": "max_pool2d",
    "GlobalAveragePool": "global_avg_pool2d",
    "BatchNormalization": "batch_norm",
    "Reshape": "reshape",
    "Transpose": "transpose",
    "Concat": "concat",
    "Split": "split",
}
"""ONNX operators and the operations that they are."""

CustomOp = Callable[[list[str], dict[str, Any]], "str | Callable[[Call], SSAValue]"]
"""Gets the names of a node's inputs and its attributes; gives the operation that it is, by name,
or a function that builds it."""


class OnnxOperationMapper:
    """Names of ONNX operators as operations.

    Attributes:
        mappings: Operator to operation.
    """

    def __init__(self) -> None:
        self.mappings = dict(MAPPINGS)

    def map_operation(self, onnx_op: str) -> str | None:
        """The operation of an operator; None if it is not known."""
        return self.mappings.get(onnx_op)


class OnnxImporter:
    """Imports ONNX models as graphs.

    Args:
        dynamic_shapes: Extents or bounds of symbolic extents, as `torsh_fx.compile` takes them.
    """

    def __init__(
        self, dynamic_shapes: Mapping[str, int | tuple[int, int | None]] | None = None
    ) -> None:
        self._dynamic_shapes = dynamic_shapes
        self._custom: dict[tuple[str | None, str], CustomOp] = {}
        self._vocabulary = VOCABULARY

    def register_custom_op(self, name: str, meaning: CustomOp, domain: str | None = None) -> None:
        """Say what a custom operator is.

        Args:
            name: The operator.
            meaning: Called for each node with the names of its inputs and its attributes.
            domain: The operator's domain; None for any.
        """
        self._custom[domain, name] = meaning

    def register_operation(self, name: str, build: Callable[[Call], SSAValue]) -> None:
        """Give an operation, which `register_custom_op` names, a meaning."""
        self._vocabulary = self._vocabulary.with_operation(name, build)

    def import_from_file(self, path: str | Path) -> FxGraph:
        """The model in a file.

        Raises:
            ImportModelError: The file is no ONNX model, or damaged.
            UnsupportedError: Nodes that nobody knows; lists all of them.
        """
        return self._import(Path(path))

    def import_model(self, model: ModelProto | bytes) -> FxGraph:
        """The model in a message or its bytes; raises as `import_from_file`."""
        return self._import(model)

    def _import(self, model: Any) -> FxGraph:
        from torsh_fx.importers.onnx import import_onnx

        extra = {key: self._converter(meaning) for key, meaning in self._custom.items()}
        imported = import_onnx(model, Context(), self._dynamic_shapes, custom=extra)
        return FxGraph(imported.module, imported.weights, vocabulary=self._vocabulary)

    def _converter(self, meaning: CustomOp) -> Callable[[Node], Sequence[SSAValue]]:
        def convert(node: Node) -> Sequence[SSAValue]:
            values = node.inputs
            attributes = {one.name: node.value(one.name) for one in node.proto.attribute}
            names = [name for name in node.proto.input if name]
            chosen = meaning(names, attributes)
            builder = node.scope.builder
            vocabulary: Vocabulary = self._vocabulary
            operation = chosen
            if not isinstance(chosen, str):
                operation = node.op_type
                vocabulary = vocabulary.with_operation(operation, chosen)
            assert isinstance(operation, str)
            return build_custom(builder, vocabulary, operation, node.name, values, attributes)

        return convert


def build_custom(
    builder: BlockBuilder,
    vocabulary: Vocabulary,
    operation: str,
    node: str,
    values: Sequence[SSAValue],
    attributes: Mapping[str, Value],
) -> list[SSAValue]:
    """Build the operation that a custom node is; what nobody knows becomes a call by its name."""
    if vocabulary.knows(operation):
        return vocabulary.build(Call(operation, node, tuple(values), builder, attributes))
    properties: dict[str, Attribute] = {"operation": text(operation), "foreign": TRUE}
    if (options := options_attribute(attributes)) is not None:
        properties["options"] = options
    call = CallOp.create(operands=list(values), properties=properties, result_types=[untyped])
    return list(builder.put(call).results)
