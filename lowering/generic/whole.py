"""What kernels that write whole buffers share: arguments, lines along an axis, launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Attribute, Operation, SSAValue

from lowering.generic.evaluator import Evaluator
from lowering.kern.builder import Index, KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from lowering.kernel import (
    WORK_PER_THREAD,
    Argument,
    Buffer,
    DimArgument,
    Kernel,
    Record,
    Workspace,
)
from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, product
from torsh_dialect.types import dims_of, element_type

WORD_BYTES = 8
"""Bytes of an `index` in memory."""

LineBody = Callable[[list[Index], SSAValue], None]
"""Builds what a unit does, from the index of its line and its number."""


class WholeKernelBuilder:
    """A kernel for one op, with a buffer for each operand and result.

    Attributes:
        b: The builder.
        sources: Buffers of the operands.
        targets: Buffers of the results.
        e: Reads elements of the operands.
    """

    def __init__(self, op: Operation, *, writes: bool = True):
        self.op = op
        self.b = KernBuilder("kernel")
        self.lo, self.hi, self.worker = (self.b.argument(INDEX, n) for n in ("lo", "hi", "worker"))
        self.inputs = list(dict.fromkeys(op.operands))
        buffers = {v: self.b.argument(buffer_of(element_type(v)), "in") for v in self.inputs}
        self.sources = [buffers[v] for v in op.operands]
        results = op.results if writes else ()
        self.targets = [self.b.argument(buffer_of(element_type(v)), "out") for v in results]
        self.record = self.b.argument(buffer_of(dtypes.i64), "error")
        self.workspaces: list[Dim] = []
        given = [*buffers.values(), *self.targets]
        self._arguments: dict[SSAValue, Argument] = {v: Buffer(n) for n, v in enumerate(given)}
        self._arguments[self.record] = Record()
        self.e = Evaluator(self.b, buffers, self.record)

    def workspace(self, size: Dim, element: Attribute) -> SSAValue:
        """Memory of `size` bytes that all workers share while the kernel (or a pair of it) runs.

        Kernels of one pair ask for the same workspaces in the same order.
        """
        words = self.b.argument(buffer_of(element), "work")
        self._arguments[words] = Workspace(len(self.workspaces))
        self.workspaces.append(size)
        return words

    def finish(
        self, units: Dim, work: int, measure: Kernel | None = None, symbols: tuple[str, ...] = ()
    ) -> Kernel:
        """The kernel; `work` is roughly the element operations of one unit."""
        dims = iter(self.b.dim_arguments)
        arguments = [
            self._arguments.get(value) or DimArgument(next(dims)) for value in self.b.entry.args[3:]
        ]
        grain = max(1, WORK_PER_THREAD // max(1, work))
        return Kernel(
            self.b.finish(),
            units,
            grain,
            tuple(arguments),
            workspaces=tuple(self.workspaces),
            measure=measure,
            symbols=symbols,
        )

    def nest(self, dims: Sequence[Dim], body: Callable[[list[Index]], None]) -> None:
        """Loop over all indices of extents `dims`, row-major."""

        def level(index: list[Index]) -> None:
            if len(index) == len(dims):
                body(index)
            else:
                self.b.each(0, self.b.dim(dims[len(index)]), lambda i: level([*index, i]))

        level([])

    def lines(self, dims: Sequence[Dim], axis: int, body: LineBody) -> None:
        """One unit for each line along `axis`: `body` gets its index, with 0 for the axis."""
        b = self.b
        others = [d for n, d in enumerate(dims) if n != axis]

        def line(unit: SSAValue) -> None:
            index = self.b.unravel(unit, others)
            index[axis:axis] = [0] * (len(dims) - len(others))
            body(index, unit)

        b.each(self.lo, self.hi, line)

    def side_by_side(self, dims: Sequence[Dim], axis: int, body: LineBody) -> None:
        """The lines along `axis` of one place in the axes before it are lanes of one unit."""
        b, inner = self.b, dims[axis + 1 :]

        def unit(number: SSAValue) -> None:
            before = self.b.unravel(number, dims[:axis])

            def row(place: SSAValue) -> None:
                outer = self.b.unravel(place, inner[:-1])
                b.lanes(0, b.dim(inner[-1]), lambda i: body([*before, 0, *outer, i], number))

            b.each(0, b.dim(product(inner[:-1])), row)

        b.each(self.lo, self.hi, unit)

    def line_count(self, dims: Sequence[Dim], axis: int) -> Dim:
        """How many lines along `axis` there are."""
        return product(d for n, d in enumerate(dims) if n != axis)


def at_axis(index: Sequence[Index], axis: int, place: Index) -> list[Index]:
    """`index` with another place along `axis`."""
    return [place if n == axis else i for n, i in enumerate(index)]


def size_of(value: SSAValue) -> Dim:
    """The number of elements of a value."""
    return product(dims_of(value))
