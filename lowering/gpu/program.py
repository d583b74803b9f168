"""The host's part of a program after `to-gpu`, interpreted op by op on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from xdsl.dialects import gpu, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, UnrealizedConversionCastOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from lowering.kern import dialect as kern
from torsh_dialect.attributes import int_of, str_of
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import InputError, UnsupportedError
from torsh_dialect.evaluate import evaluate_op
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.symbols import bind
from torsh_dialect.types import dims_of

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

    def launch(self, name: str, blocks: int, threads: int, arguments: Sequence[M | int]) -> None:
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
            InputError: There are too few or too many, or one has other extents than its type.
        """
        parameters = self.main.body.block.args
        if len(inputs) != len(parameters):
            raise InputError(f"{len(inputs)} inputs are given, but @main has {len(parameters)}")
        call = Call(self.device, self.weights)
        for parameter, array in zip(parameters, inputs, strict=True):
            call.set(parameter, array)
        for op in self.main.body.block.ops:
            if isinstance(op, ReturnOp):
                return [self.device.get(call.memory[v]) for v in op.operands]
            call.run(op)
        return []


@dataclass
class Call(Generic[M]):
    """One run of a program.

    Attributes:
        memory: Tensors and buffers so far.
        dims: Extents of tensors so far.
        index: Indices so far.
        symbols: Symbolic extents so far.
    """

    device: Device[M]
    weights: Mapping[str, Array]
    memory: dict[SSAValue, M] = field(default_factory=dict[SSAValue, M])
    dims: dict[SSAValue, tuple[int, ...]] = field(default_factory=dict[SSAValue, tuple[int, ...]])
    index: dict[SSAValue, int] = field(default_factory=dict[SSAValue, int])
    symbols: dict[str, int] = field(default_factory=dict[str, int])

    def set(self, value: SSAValue, array: Array) -> None:
        """A tensor computed by the host."""
        self.memory[value], self.dims[value] = self.device.put(array), array.shape
        bind(dims_of(value), array.shape, self.symbols, f"the tensor %{value.name_hint}")

    def run(self, op: Operation) -> None:
        """Run one op.

        Raises:
            UnsupportedError: The host has no such op.
        """
        match op:
            case gpu.AllocOp():
                self._allocate(op)
            case UnrealizedConversionCastOp():
                (source,), (result,) = op.operands, op.results
                self.memory[result], self.dims[result] = self.memory[source], self.dims[source]
            case gpu.LaunchFuncOp():
                self._launch(op)
            case WeightOp():
                self.set(op.results[0], self.weights[str_of(op.id)])
            case TensorOp():
                arrays = [self.device.get(self.memory[v]) for v in op.operands]
                results = evaluate_op(op, arrays, self.symbols)
                for result, array in zip(op.results, results, strict=True):
                    self.set(result, np.asarray(array))
            case _:
                self.index[op.results[0]] = self._index(op)

    def _allocate(self, op: gpu.AllocOp) -> None:
        type = op.result.type
        sizes = iter(op.dynamicSizes)
        dims = tuple(self.index[next(sizes)] if n == DYNAMIC_INDEX else n for n in type.get_shape())
        dtype = np.dtype(dtype_of(type.element_type).numpy)
        self.memory[op.result], self.dims[op.result] = self.device.empty(dims, dtype), dims

    def _launch(self, op: gpu.LaunchFuncOp) -> None:
        name = kernel_of(op)
        blocks, threads = self.index[op.gridSizeX], self.index[op.blockSizeX]
        arguments = [
            self.index[v] if v in self.index else self.memory[v] for v in op.kernelOperands
        ]
        if blocks:
            self.device.launch(name, blocks, threads, arguments)

    def _index(self, op: Operation) -> int:
        match op:
            case kern.ConstOp():
                return int_of(op.value)
            case tensor.DimOp():
                return self.dims[op.source][self.index[op.index]]
            case kern.BinaryOp() if str_of(op.kind) in INDEX_ARITHMETIC:
                return INDEX_ARITHMETIC[str_of(op.kind)](self.index[op.a], self.index[op.b])
            case kern.CompareOp() if str_of(op.kind) == "eq":
                return int(self.index[op.a] == self.index[op.b])
            case kern.SelectOp():
                return self.index[op.a if self.index[op.condition] else op.b]
            case _:
                raise UnsupportedError(f"{op.name} is no op of a GPU program's host part")


def saturated(value: int) -> int:
    """The nearest index of 64 bits."""
    return max(-(1 << 63), min((1 << 63) - 1, value))


INDEX_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "add_sat": lambda a, b: saturated(a + b),
    "sub_sat": lambda a, b: saturated(a - b),
    "mul_sat": lambda a, b: saturated(a * b),
    "min": min,
    "max": max,
}
"""Kinds of `kern.binary` on indices."""


def kernel_of(op: gpu.LaunchFuncOp) -> str:
    """The name of the kernel that an op launches."""
    (name,) = (part.data for part in op.kernel.nested_references)
    return name
