"""The host's part of a program after `to-gpu`, interpreted op by op on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from xdsl.dialects import gpu, memref, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    MemRefType,
    ModuleOp,
    UnrealizedConversionCastOp,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from lowering.kern import dialect as kern
from torsh_dialect.attributes import int_of, str_of
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import InputError, UnsupportedError
from torsh_dialect.evaluate import Evaluator, Scope, evaluate_op
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.passes.materialize_layouts import ARGUMENTS, RESULTS, inverse, layouts_in
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
        layouts = layouts_in(self.main, ARGUMENTS, len(parameters))
        for parameter, array, layout in zip(parameters, inputs, layouts, strict=True):
            call.set(parameter, array.transpose(layout) if layout else array)
        for op in self.main.body.block.ops:
            if isinstance(op, ReturnOp):
                found = [call.array(v) for v in op.operands]
                layouts = layouts_in(self.main, RESULTS, len(found))
                rows = zip(found, layouts, strict=True)
                return [a.transpose(inverse(layout)) if layout else a for a, layout in rows]
            call.run(op)
        return []


@dataclass
class Call(Generic[M]):
    """One run of a program.

    Attributes:
        memory: Tensors and buffers on the device so far.
        host: Those on the host so far; what any device may have is copied when it is needed.
        dims: Extents of tensors so far.
        index: Indices so far.
        symbols: Symbolic extents so far.
        evaluator: Runs the host's regions.
    """

    device: Device[M]
    weights: Mapping[str, Array]
    memory: dict[SSAValue, M] = field(default_factory=dict[SSAValue, M])
    host: dict[SSAValue, Array] = field(default_factory=dict[SSAValue, Array])
    dims: dict[SSAValue, tuple[int, ...]] = field(default_factory=dict[SSAValue, tuple[int, ...]])
    index: dict[SSAValue, int] = field(default_factory=dict[SSAValue, int])
    symbols: dict[str, int] = field(default_factory=dict[str, int])
    evaluator: Evaluator = field(default_factory=lambda: Evaluator(ModuleOp([])))

    def set(self, value: SSAValue, array: Array) -> None:
        """A tensor computed by the host."""
        self.host[value], self.dims[value] = array, array.shape
        bind(dims_of(value), array.shape, self.symbols, f"the tensor %{value.name_hint}")

    def array(self, value: SSAValue) -> Array:
        """A tensor for the host."""
        if value not in self.host:
            self.host[value] = self.device.get(self.memory[value])
        return self.host[value]

    def on_device(self, value: SSAValue) -> M:
        """A tensor or buffer for a kernel."""
        if value not in self.memory:
            self.memory[value] = self.device.put(self.host[value])
        return self.memory[value]

    def run(self, op: Operation) -> None:
        """Run one op.

        Raises:
            UnsupportedError: The host has no such op.
        """
        match op:
            case gpu.AllocOp():
                self._allocate(op)
            case memref.AllocOp():
                self.dims[op.memref] = self._extents(op.memref.type, op.dynamic_sizes)
            case gpu.MemcpyOp():
                self._copy(op)
            case UnrealizedConversionCastOp():
                self._cast(op)
            case gpu.LaunchFuncOp():
                self._launch(op)
            case WeightOp():
                self.set(op.results[0], self.weights[str_of(op.id)])
            case TensorOp():
                results = self._evaluate(op)
                for result, array in zip(op.results, results, strict=True):
                    self.set(result, np.asarray(array))
            case _:
                self.index[op.results[0]] = self._index(op)

    def _evaluate(self, op: TensorOp) -> Sequence[Array]:
        arrays = [self.array(v) for v in op.operands]
        if not isinstance(op, FusedOp):
            return evaluate_op(op, arrays, self.symbols)
        return self.evaluator.run_block(op.body.block, arrays, Scope({}, self.symbols), "a region")

    def _cast(self, op: UnrealizedConversionCastOp) -> None:
        """The same memory under another type: on the device for a kernel, else where it is."""
        (source,), (result,) = op.operands, op.results
        if isinstance(result.type, kern.BufferType):
            self.memory[result] = self.on_device(source)
            return
        self.dims[result] = self.dims[source]
        for there in (self.memory, self.host):
            if source in there:
                there[result] = there[source]  # pyright: ignore[reportArgumentType]

    def _copy(self, op: gpu.MemcpyOp) -> None:
        """A copy to a buffer of the device, or of the host."""
        if isinstance(op.dst.owner, memref.AllocOp):
            self.host[op.dst] = self.array(op.src)
        else:
            self.memory[op.dst] = self.device.put(self.array(op.src))

    def _extents(self, type: MemRefType[Any], sizes: Sequence[SSAValue]) -> tuple[int, ...]:
        given = iter(sizes)
        shape = type.get_shape()
        return tuple(self.index[next(given)] if n == DYNAMIC_INDEX else n for n in shape)

    def _allocate(self, op: gpu.AllocOp) -> None:
        type = op.result.type
        dims = self._extents(type, op.dynamicSizes)
        dtype = np.dtype(dtype_of(type.element_type).numpy)
        self.memory[op.result], self.dims[op.result] = self.device.empty(dims, dtype), dims

    def _launch(self, op: gpu.LaunchFuncOp) -> None:
        name = kernel_of(op)
        blocks, threads = self.index[op.gridSizeX], self.index[op.blockSizeX]
        arguments = [
            self.index[v] if v in self.index else self.on_device(v) for v in op.kernelOperands
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
