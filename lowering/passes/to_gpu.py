"""Turn every `torsh.fused` region into a kernel of one `gpu.module` and its launch.

Before:

    %y = torsh.fused %x { %e = torsh.exp ...; torsh.yield %e } : (tensor<8x9xf32>) -> ...

After:

    gpu.module @kernels { gpu.func @k_0123 kernel (%in: !kern.buf<f32>, %out: !kern.buf<f32>) }
    ...
    %m = gpu.alloc : memref<8x9xf32>
    gpu.launch_func @kernels::@k_0123 blocks (8, 1, 1) threads (32, 1, 1) args(%x, %m)
    %y = builtin.unrealized_conversion_cast %m : memref<8x9xf32> to tensor<8x9xf32>

A kernel's body is the same `kern` code that CPUs get. Symbolic extents are computed on the host,
by `kern` index arithmetic from `tensor.dim`. Ops outside regions (views, constants) stay. A region
whose results are on `cpu` is the host's; any other is a kernel, or an error where an op of it has
no element-wise form. `torsh.to_device` between the two is the copy:

    %m = gpu.alloc : memref<8x9xf32>                       (memref.alloc, where it goes to the host)
    %s = builtin.unrealized_conversion_cast %x : tensor<8x9xf32, ...> to memref<8x9xf32>
    gpu.memcpy %m, %s
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects import gpu, memref, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
    UnknownLoc,
    UnrealizedConversionCastOp,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from lowering.generic.kernel import RegionKernel
from lowering.generic.kernels import is_whole_kernel
from lowering.gpu.from_kern import GpuKernel, gpu_kernel
from lowering.kern.builder import KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from lowering.kernel import Buffer, DimArgument, Kernel
from lowering.program.build import kernel_name
from torsh_dialect.attributes import text
from torsh_dialect.dims import Dim, symbol, symbols_of
from torsh_dialect.encodings import joined_device
from torsh_dialect.errors import DeviceError, UnsupportedError
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.storage import ToDeviceOp
from torsh_dialect.passes.place_on_host import values_in
from torsh_dialect.types import device_of, dims_of, element_type, is_stored, is_typed

HOST = "cpu"
"""The device of values that the host computes."""

KERNELS = "kernels"
"""The symbol of the module of kernels."""


class Host:
    """Code of the host before the ops of one block.

    Args:
        values: Tensors whose extents are known there: the function's arguments.
    """

    def __init__(self, values: Sequence[SSAValue]):
        self._builder = KernBuilder("host", "host")
        self._values = values

    def extent(self, dim: Dim, near: Sequence[SSAValue]) -> SSAValue:
        """An extent as an index; its symbols are those of `near` or of the function's arguments.

        Raises:
            UnsupportedError: A symbol is no extent of any of these.
        """
        b = self._builder
        for name in sorted(symbols_of(dim)):
            if symbol(name) not in b.known_dims:
                source, axis = _source_of(symbol(name), (*near, *self._values))
                b.define_dim(symbol(name), b.value(tensor.DimOp, INDEX, source, b.index(axis)))
        return b.index(b.dim(dim))

    def operation(self, op: Operation) -> SSAValue:
        """Append an op; gives its first result."""
        self._builder.append(op)
        return op.results[0]

    def insert_before(self, op: Operation) -> None:
        """Move what has been built since the last time before an op."""
        for built in list(self._builder.entry.ops):
            built.detach()
            Rewriter.insert_op(built, InsertPoint.before(op))


def _source_of(symbol: Dim, values: Sequence[SSAValue]) -> tuple[SSAValue, int]:
    for value in values:
        if is_typed(value) and symbol in dims_of(value):
            return value, dims_of(value).index(symbol)
    raise UnsupportedError(f"extent {symbol} depends on data; GPU programs need extents of inputs")


@dataclass
class Outliner:
    """Makes kernels and their launches for one function.

    Attributes:
        kernels: Kernels so far, by name: equal regions share one.
        hosts: The host's code by block.
    """

    function: FuncOp
    kernels: dict[str, GpuKernel]
    hosts: dict[Block, Host] = field(default_factory=dict[Block, Host])

    def outline(self, op: FusedOp) -> None:
        """Replace a region by the launch of its kernel.

        Raises:
            UnsupportedError: It has no kernel on a GPU; the message names the op and its place.
        """
        try:
            kernel = region_kernel(op)
            name = kernel_name(kernel.function, "k")
            kernel.function.properties["sym_name"] = text(name)
            if name not in self.kernels:
                self.kernels[name] = gpu_kernel(kernel.function)
            self._launch(op, kernel, name)
        except UnsupportedError as error:
            known = None if isinstance(op.location, UnknownLoc) else str(op.location)
            raise UnsupportedError(f"to-gpu: {error}", location=known) from error

    def copy(self, op: ToDeviceOp) -> None:
        """Replace a move to another device by a copy; on the device itself it is nothing."""
        source, block = op.operands[0], op.parent
        assert block is not None
        if is_stored(source.type) and device_of(source) == device_of(op.results[0]):
            Rewriter.replace_op(op, [], [source])
            return
        host = self.hosts.setdefault(block, Host(self.function.body.block.args))
        memory = _allocated(host, op.results[0], [source])
        there = _cast(host, source, memory.type)
        copied = gpu.MemcpyOp(there, memory)
        result = UnrealizedConversionCastOp.get([memory], [op.results[0].type])
        host.insert_before(op)
        Rewriter.replace_op(op, [copied, result], [result.results[0]])

    def _launch(self, op: FusedOp, kernel: Kernel, name: str) -> None:
        """Launch a kernel on operands and new memory for results, instead of the region."""
        block = op.parent
        assert block is not None
        host = self.hosts.setdefault(block, Host(self.function.body.block.args))
        tensors = [*op.operands, *op.results]
        memory = [_allocated(host, result, op.operands) for result in op.results]
        sources = [*op.operands, *memory]
        arguments: list[SSAValue] = []
        for number in self.kernels[name].used:
            argument = kernel.arguments[number]
            if isinstance(argument, Buffer):
                type = buffer_of(element_type(tensors[argument.position]))
                arguments.append(_cast(host, sources[argument.position], type))
            elif isinstance(argument, DimArgument):
                arguments.append(host.extent(argument.dim, op.operands))
            else:
                raise UnsupportedError("run-time checks have no lowering to GPUs")
        one = host.extent(1, ())
        blocks = host.extent(kernel.units, op.operands)
        threads = host.extent(self.kernels[name].threads, ())
        grid, shape = (blocks, one, one), (threads, one, one)
        symbol = SymbolRefAttr(KERNELS, [name])
        launch = gpu.LaunchFuncOp(symbol, grid, shape, kernelOperands=arguments)
        results = [
            UnrealizedConversionCastOp.get([m], [r.type])
            for m, r in zip(memory, op.results, strict=True)
        ]
        host.insert_before(op)
        Rewriter.replace_op(op, [launch, *results], [r.results[0] for r in results])


def _allocated(host: Host, value: SSAValue, near: Sequence[SSAValue]) -> SSAValue:
    """New memory for a result, on its device."""
    dims = dims_of(value)
    dynamic = [host.extent(dim, near) for dim in dims if not isinstance(dim, int)]
    static = [dim if isinstance(dim, int) else DYNAMIC_INDEX for dim in dims]
    type = MemRefType(element_type(value), static)
    if device_of(value) == HOST:
        return host.operation(memref.AllocOp(dynamic, (), type))
    return host.operation(gpu.AllocOp(type, dynamic))


def _is_host(op: Operation) -> bool:
    """Whether the op's results are on the CPU."""
    return any(is_stored(r.type) and device_of(r) == HOST for r in op.results)


def require_one_gpu(module: ModuleOp) -> None:
    """Refuse values on several GPUs: a program runs on one.

    Raises:
        UnsupportedError: With the value and both devices.
    """
    first: str | None = None
    for value in values_in(module):
        device = device_of(value) if is_stored(value.type) else None
        if device in (None, HOST):
            continue
        try:
            first = joined_device(first, device)
        except DeviceError:
            raise UnsupportedError(
                f"%{value.name_hint or '?'} is on {device}, other values are on {first}; a program "
                "runs on one GPU: split the model, or move it to one"
            ) from None


def _cast(host: Host, value: SSAValue, type: Attribute) -> SSAValue:
    return host.operation(UnrealizedConversionCastOp.get([value], [type]))


def region_kernel(op: FusedOp) -> Kernel:
    """The kernel of a region, element by element.

    Raises:
        UnsupportedError: An op of the region has no form by element.
    """
    last = op.body.block.last_op
    assert isinstance(last, YieldOp)
    for inner in op.body.block.ops:
        if is_whole_kernel(inner):
            raise UnsupportedError(f"{inner.name} has no lowering to GPUs")
    return RegionKernel(op.body.block.args, last.operands).build()


@dataclass(frozen=True)
class ToGpuPass(ModulePass):
    """See the module docstring."""

    name = "to-gpu"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        kernels: dict[str, GpuKernel] = {}
        require_one_gpu(op)
        for function in op.ops:
            if isinstance(function, FuncOp):
                outliner = Outliner(function, kernels)
                for inner in list(function.walk()):
                    if isinstance(inner, FusedOp) and not _is_host(inner):
                        outliner.outline(inner)
                    elif isinstance(inner, ToDeviceOp):
                        outliner.copy(inner)
        if kernels:
            op.attributes["gpu.container_module"] = UnitAttr()
            body = Region(Block([kernel.function for kernel in kernels.values()]))
            module = gpu.ModuleOp.create(
                properties={"sym_name": StringAttr(KERNELS)}, regions=[body]
            )
            Rewriter.insert_op(module, InsertPoint.at_start(op.body.block))
