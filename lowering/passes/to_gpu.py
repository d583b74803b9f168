"""Turn every `torsh.fused` region into a kernel of one `gpu.module` and its launch.

Before:

    %y = torsh.fused %x { %e = torsh.exp ...; torsh.yield %e } : (tensor<8x9xf32>) -> ...

After:

    gpu.module @kernels { gpu.func @k_0123 kernel (%in: !kern.buf<f32>, %out: !kern.buf<f32>) }
    ...
    %m = gpu.alloc : memref<8x9xf32>
    gpu.launch_func @kernels::@k_0123 blocks (8, 1, 1) threads (32, 1, 1) args(%x, %m)
    %y = builtin.unrealized_conversion_cast %m : memref<8x9xf32> to tensor<8x9xf32>

A kernel's body is the same `kern` code that CPUs get. Ops outside regions (views, constants)
stay. Regions with an op that has no element-wise form are an error, and so are extents that are
not known: `to-gpu` never leaves a region behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects import arith, gpu
from xdsl.dialects.builtin import (
    IndexType,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
    UnknownLoc,
    UnrealizedConversionCastOp,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from lowering.generic.kernel import RegionKernel
from lowering.generic.kernels import is_whole_kernel
from lowering.gpu.from_kern import GpuKernel, gpu_kernel
from lowering.kern.builder import buffer_of
from lowering.kernel import Buffer, Kernel
from lowering.program.build import kernel_name
from torsh_dialect.attributes import text
from torsh_dialect.dims import Dim
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.types import dims_of, element_type

KERNELS = "kernels"
"""The symbol of the module of kernels."""


@dataclass
class Outliner:
    """Kernels so far, by name: equal regions share one."""

    kernels: dict[str, GpuKernel] = field(default_factory=dict[str, GpuKernel])

    def outline(self, op: FusedOp) -> None:
        """Replace a region by the launch of its kernel.

        Raises:
            UnsupportedError: It has no kernel on a GPU; the message names the op and its place.
        """
        try:
            kernel = region_kernel(op)
            name = kernel_name(kernel.function)
            kernel.function.properties["sym_name"] = text(name)
            found = self.kernels.get(name) or gpu_kernel(kernel.function)
            operands = [kernel.arguments[n] for n in found.used]
            launched = Launch(op, name, static(kernel.units), found.threads)
            launched.replace([_position(argument) for argument in operands])
        except UnsupportedError as error:
            known = None if isinstance(op.location, UnknownLoc) else str(op.location)
            raise UnsupportedError(f"to-gpu: {error}", location=known) from error
        self.kernels[name] = found

    def module(self) -> gpu.ModuleOp:
        """The module with all kernels."""
        body = Region(Block([kernel.function for kernel in self.kernels.values()]))
        return gpu.ModuleOp.create(properties={"sym_name": StringAttr(KERNELS)}, regions=[body])


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


def static(dim: Dim) -> int:
    """An extent that is known.

    Raises:
        UnsupportedError: It is symbolic.
    """
    if not isinstance(dim, int):
        raise UnsupportedError(f"extent {dim} is not known; GPU programs need known extents")
    return dim


def _position(argument: object) -> int:
    if not isinstance(argument, Buffer):
        raise UnsupportedError("run-time checks and symbolic extents have no lowering to GPUs")
    return argument.position


@dataclass
class Launch:
    """The host's code for one region."""

    op: FusedOp
    name: str
    blocks: int
    threads: int

    def insert(self, op: Operation) -> SSAValue:
        Rewriter.insert_op(op, InsertPoint.before(self.op))
        return op.results[0]

    def constant(self, value: int) -> SSAValue:
        return self.insert(arith.ConstantOp(IntegerAttr(value, IndexType())))

    def cast(self, value: SSAValue, type: Attribute) -> SSAValue:
        return self.insert(UnrealizedConversionCastOp.get([value], [type]))

    def replace(self, positions: Sequence[int]) -> None:
        """Launch the kernel on operands and new memory for results, instead of the region."""
        memory = [self.insert(gpu.AllocOp(_memory_type(result))) for result in self.op.results]
        tensors = [*self.op.operands, *self.op.results]
        sources = [*self.op.operands, *memory]
        buffers = [self.cast(sources[n], buffer_of(element_type(tensors[n]))) for n in positions]
        one = self.constant(1)
        sizes = [self.constant(self.blocks), one, one, self.constant(self.threads), one, one]
        kernel = SymbolRefAttr(KERNELS, [self.name])
        if self.blocks:
            launch = gpu.LaunchFuncOp(kernel, sizes[:3], sizes[3:], kernelOperands=buffers)
            Rewriter.insert_op(launch, InsertPoint.before(self.op))
        results = [self.cast(m, r.type) for m, r in zip(memory, self.op.results, strict=True)]
        Rewriter.replace_op(self.op, [], results)


def _memory_type(value: SSAValue) -> MemRefType:
    return MemRefType(element_type(value), [static(dim) for dim in dims_of(value)])


@dataclass(frozen=True)
class ToGpuPass(ModulePass):
    """See the module docstring."""

    name = "to-gpu"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        outliner = Outliner()
        for inner in list(op.walk()):
            if isinstance(inner, FusedOp):
                outliner.outline(inner)
        if outliner.kernels:
            op.attributes["gpu.container_module"] = UnitAttr()
            Rewriter.insert_op(outliner.module(), InsertPoint.at_start(op.body.block))
