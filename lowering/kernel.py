"""A kernel and how the host launches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from lowering.kern.dialect import FuncOp
from torsh_dialect.attributes import str_of
from torsh_dialect.dims import Dim, floordiv, maximum

WORK_PER_THREAD = 32_768
"""Element operations under which a second thread costs more than it gives."""


def grain_of(work: Dim) -> Dim:
    """Least units for one thread, of `work` element operations each."""
    return maximum(floordiv(WORK_PER_THREAD, maximum(work, 1)), 1)


@dataclass(frozen=True)
class Buffer:
    """The memory of operand `position` of the fused op, results counted after operands."""

    position: int


@dataclass(frozen=True)
class DimArgument:
    """An extent, computed by the host."""

    dim: Dim


@dataclass(frozen=True)
class Record:
    """The error record of the call."""


@dataclass(frozen=True)
class Scratch:
    """The memory that the workers share out among themselves."""


@dataclass(frozen=True)
class Workspace:
    """Memory `position` of the kernel's own, shared by all workers."""

    position: int


Argument: TypeAlias = Buffer | DimArgument | Record | Scratch | Workspace


@dataclass(frozen=True)
class Kernel:
    """A kernel and how the host launches it.

    Attributes:
        function: The `kern.func`; its name is set when kernels are made unique.
        units: Extent of the parallel range.
        grain: Least units for one thread; the host computes it where extents decide.
        arguments: What the host stores in the argument words, in order.
        scratch_bytes: Memory that each worker needs, a multiple of 64.
        workspaces: Bytes of each memory that all workers share while the kernel runs.
        measure: For results whose extents are data: the kernel that runs first, on the same
            workspaces, and leaves the values of `symbols` as i64 in workspace 0.
        symbols: The extents that `measure` finds.
        versions: Kernels that do the same, with these workspaces or none, where extents are 1.
    """

    function: FuncOp
    units: Dim
    grain: Dim
    arguments: tuple[Argument, ...]
    scratch_bytes: int = 0
    workspaces: tuple[Dim, ...] = ()
    measure: Kernel | None = None
    symbols: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ()

    @property
    def name(self) -> str:
        """The kernel's symbol, once it has been made unique."""
        return str_of(self.function.properties["sym_name"])

    @property
    def parts(self) -> tuple[Kernel, ...]:
        """The kernel, the one that measures before it if there is one, and those of versions."""
        others = (part for version in self.versions for part in version.kernel.parts)
        return (self, *(() if self.measure is None else (self.measure,)), *others)


@dataclass(frozen=True)
class Version:
    """The kernel for calls in which all `symbols` are 1."""

    symbols: tuple[str, ...]
    kernel: Kernel
