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
with an op that has no element-wise form is an error: `to-gpu` never leaves a region behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects import gpu, tensor
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
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.types import dims_of, element_type, is_typed

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
    """New memory for a result."""
    dims = dims_of(value)
    dynamic = [host.extent(dim, near) for dim in dims if not isinstance(dim, int)]
    static = [dim if isinstance(dim, int) else DYNAMIC_INDEX for dim in dims]
    return host.operation(gpu.AllocOp(MemRefType(element_type(value), static), dynamic))


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
        for function in op.ops:
            if isinstance(function, FuncOp):
                outliner = Outliner(function, kernels)
                for inner in list(function.walk()):
                    if isinstance(inner, FusedOp):
                        outliner.outline(inner)
        if kernels:
            op.attributes["gpu.container_module"] = UnitAttr()
            body = Region(Block([kernel.function for kernel in kernels.values()]))
            module = gpu.ModuleOp.create(
                properties={"sym_name": StringAttr(KERNELS)}, regions=[body]
            )
            Rewriter.insert_op(module, InsertPoint.at_start(op.body.block))
