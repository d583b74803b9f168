"""The host's part of a program after `to-gpu`, interpreted op by op on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
from xdsl.dialects import arith, gpu
from xdsl.dialects.builtin import ModuleOp, UnrealizedConversionCastOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from torsh_dialect.attributes import int_of, str_of
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import InputError, UnsupportedError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.constant import WeightOp

Array = np.ndarray[Any, np.dtype[Any]]
M = TypeVar("M")


class Device(Protocol[M]):
    """Memory of type `M` and kernels by name."""

    def put(self, array: Array) -> M:
        """An array in the device's memory."""
        ...

    def empty(self, dims: Sequence[int], dtype: np.dtype[Any]) -> M:
        """New memory."""
        ...

    def get(self, memory: M) -> Array:
        """What is in the memory."""
        ...

    def launch(self, name: str, blocks: int, threads: int, arguments: Sequence[M]) -> None:
        """Run a kernel on a line of blocks."""
        ...


class GpuProgram(Generic[M]):
    """Runs `@main` of a module: launches on the device, other ops by their `evaluate`.

    Args:
        module: A module after the pass `to-gpu`.
        device: Has the module's kernels.
        weights: Data of the weights by name.
    """

    def __init__(
        self, module: ModuleOp, device: Device[M], weights: Mapping[str, Array] | None = None
    ):
        self.device = device
        self.weights = weights or {}
        functions = [op for op in module.ops if isinstance(op, FuncOp)]
        (self.main,) = (f for f in functions if f.sym_name.data == "main")

    def __call__(self, *inputs: Array) -> list[Array]:
        """The outputs for these inputs.

        Raises:
            InputError: There are too few or too many.
        """
        parameters = self.main.body.block.args
        if len(inputs) != len(parameters):
            raise InputError(f"{len(inputs)} inputs are given, but @main has {len(parameters)}")
        memory: dict[SSAValue, M] = {}
        for parameter, array in zip(parameters, inputs, strict=True):
            memory[parameter] = self.device.put(array)
        for op in self.main.body.block.ops:
            if isinstance(op, ReturnOp):
                return [self.device.get(memory[v]) for v in op.operands]
            self._run(op, memory)
        return []

    def _run(self, op: Operation, memory: dict[SSAValue, M]) -> None:
        match op:
            case arith.ConstantOp():
                pass
            case gpu.AllocOp():
                type = op.result.type
                dtype = np.dtype(dtype_of(type.element_type).numpy)
                memory[op.result] = self.device.empty(type.get_shape(), dtype)
            case UnrealizedConversionCastOp():
                memory[op.results[0]] = memory[op.operands[0]]
            case gpu.LaunchFuncOp():
                arguments = [memory[v] for v in op.kernelOperands]
                self.device.launch(*launch_of(op), arguments)
            case WeightOp():
                memory[op.results[0]] = self.device.put(self.weights[str_of(op.id)])
            case TensorOp():
                arrays = [self.device.get(memory[v]) for v in op.operands]
                results = map(self.device.put, map(np.asarray, op.evaluate(*arrays)))
                memory.update(zip(op.results, results, strict=True))
            case _:
                raise UnsupportedError(f"{op.name} is no op of a GPU program's host part")


def launch_of(op: gpu.LaunchFuncOp) -> tuple[str, int, int]:
    """The kernel of a launch, how many blocks, and the threads of a block."""
    (name,) = (part.data for part in op.kernel.nested_references)
    return name, _constant(op.gridSizeX), _constant(op.blockSizeX)


def _constant(value: SSAValue) -> int:
    constant = cast("arith.ConstantOp", value.owner)
    return int_of(constant.value)
