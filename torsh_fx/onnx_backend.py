"""ONNX's backend interface (`onnx.backend.base`) over compiled models.

from torsh_fx.onnx_backend import TorshBackend

prepared = TorshBackend.prepare(model)
(y,) = prepared.run([x])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from onnx import ModelProto, NodeProto, checker
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from torsh_dialect.attributes import Array
from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError, TorshError
from torsh_fx.compiled import CompiledModule
from torsh_fx.compiler import compile as compile_model
from torsh_fx.importers.onnx import import_onnx

OPTIONS = ("dynamic_shapes", "threads", "flush_denormals", "cache", "settings", "target")


class TorshBackendRep(BackendRep):
    """A compiled model as ONNX's tests call it."""

    def __init__(self, compiled: CompiledModule):
        self.compiled = compiled

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, in the model's order.

        Args:
            inputs: Arrays in order, by name, or one array.
            kwargs: None are known.

        Raises:
            InvalidArgumentError: An option is given.
            InputError: The inputs break the model's signature.
        """
        if kwargs:
            raise InvalidArgumentError(f"run has no options {', '.join(kwargs)}")
        if isinstance(inputs, np.ndarray):
            inputs = [cast("Array", inputs)]
        given = cast("Sequence[Array] | Mapping[str, Array]", inputs)
        if not self.compiled.states:
            outputs = self.compiled.run(given)
        elif isinstance(given, Mapping):
            outputs = self.compiled.flat_outputs((), given)
        else:
            outputs = self.compiled.flat_outputs(given, {})
        return cast("tuple[Any, ...]", _named(self.compiled.output_names)(*outputs))


def _named(names: Sequence[str]) -> Any:
    return namedtupledict("Outputs", list(names))


class TorshBackend(Backend):
    """Compiles and runs ONNX models on the CPU."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether every node of the model is known."""
        if not cls.supports_device(device):
            return False
        try:
            import_onnx(model, Context())
        except TorshError:
            return False
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> TorshBackendRep:
        """Compile a model.

        Args:
            model: The model; it is checked by onnx first.
            device: `CPU`.
            kwargs: Options of `torsh_fx.compile`.

        Raises:
            InvalidArgumentError: Another device, or an unknown option.
            UnsupportedError: Nodes that the compiler does not know.
        """
        if not cls.supports_device(device):
            raise InvalidArgumentError(f"the device {device!r} is not supported; use CPU")
        if unknown := sorted(kwargs.keys() - set(OPTIONS)):
            raise InvalidArgumentError(
                f"prepare has no options {', '.join(unknown)}; those it has: {', '.join(OPTIONS)}"
            )
        cast(Any, checker).check_model(model)
        return TorshBackendRep(compile_model(model, **kwargs))

    @classmethod
    def run_model(
        cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Compile a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node of the newest operator set, or `opset_version`, on arrays.

        Args:
            node: The node.
            inputs: Arrays for its inputs, in order.
            device: `CPU`.
            outputs_info: Not needed.
            kwargs: `opset_version`, and options of `torsh_fx.compile`.
        """
        options = dict(kwargs)
        version = options.pop("opset_version", None)
        arrays = [np.asarray(one) for one in inputs]
        if not cls.supports_device(device):
            raise InvalidArgumentError(f"the device {device!r} is not supported; use CPU")
        compiled = compile_model(_model_of(node, arrays, version), **options)
        return TorshBackendRep(compiled).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the device is the CPU."""
        return Device(device).type == DeviceType.CPU


def _model_of(node: NodeProto, arrays: Sequence[Array], version: int | None) -> ModelProto:
    from onnx import IR_VERSION, defs, helper

    names = [name for name in node.input if name]
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(cast(Any, array.dtype)), array.shape
        )
        for name, array in zip(names, arrays, strict=True)
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, outputs)
    opset = helper.make_opsetid(node.domain, version or defs.onnx_opset_version())
    return helper.make_model(graph, opset_imports=[opset], ir_version=min(IR_VERSION, 13))


prepare = TorshBackend.prepare
run = TorshBackend.run_model
run_node = TorshBackend.run_node
supports_device = TorshBackend.supports_device
is_compatible = TorshBackend.is_compatible
