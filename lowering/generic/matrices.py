"""Matrices in a kernel's memory: what the factorisations of `factor` and `spectral` share.

A unit is one matrix of the batch. It is copied to a workspace in f64 (or complex of f64), worked on
there, and each result is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute, Operation, SSAValue

from lowering.generic.whole import WholeKernelBuilder
from lowering.kern.builder import Index, KernBuilder
from lowering.kern.scopes import part_of
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, product
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.types import dims_of, element_type

Element = Callable[[Index, Index], SSAValue]

CUBE = 4096
"""Work of a unit as `finish` wants it: more than moving its elements."""


def wide_type(element: Attribute) -> Attribute:
    """The type that matrices of `element` are worked on in."""
    return dtypes.f64 if part_of(element) is None else dtypes.c128


@dataclass(frozen=True)
class Grid:
    """A matrix in memory, row-major from `base`."""

    b: KernBuilder
    buffer: SSAValue
    base: Index
    columns: Index

    def _at(self, i: Index, j: Index) -> Index:
        b = self.b
        return b.add_index(self.base, b.add_index(b.mul_index(i, self.columns), j))

    def get(self, i: Index, j: Index) -> SSAValue:
        """Element (i, j)."""
        return self.b.load_now(self.buffer, self._at(i, j))

    def set(self, value: SSAValue, i: Index, j: Index) -> None:
        """Set element (i, j)."""
        self.b.store(value, self.buffer, self._at(i, j))

    def swap_rows(self, i: Index, j: Index, columns: Index) -> None:
        """Exchange two rows, in the first columns."""

        def column(c: SSAValue) -> None:
            first, second = self.get(i, c), self.get(j, c)
            self.set(second, i, c)
            self.set(first, j, c)

        self.b.each(0, columns, column)


class MatrixKernel(WholeKernelBuilder):
    """A kernel whose unit is one matrix of a batch.

    Attributes:
        wide: The type that matrices are worked on in.
        real: The type of magnitudes.
    """

    def __init__(self, op: Operation):
        super().__init__(op)
        self.wide = wide_type(element_type(op.operands[0]))
        self.real = dtypes.f64

    def each_matrix(
        self, batch: Sequence[Dim], body: Callable[[list[Index], SSAValue], None]
    ) -> Kernel:
        """The kernel that runs `body(index in the batch, number)` for each matrix of its part."""
        self.b.each(self.lo, self.hi, lambda unit: body(self.b.unravel(unit, batch), unit))
        return self.finish(product(batch), CUBE)

    def room(
        self, batch: Sequence[Dim], rows: Dim, columns: Dim, element: Attribute | None = None
    ) -> Callable[[Index], Grid]:
        """Workspace for a matrix of each unit."""
        element = element or self.wide
        size = product([*batch, rows, columns]) * dtype_of(element).bytes
        buffer = self.workspace(size, element)
        b = self.b
        each = b.mul_index(b.dim(rows), b.dim(columns))
        return lambda unit: Grid(b, buffer, b.mul_index(unit, each), b.dim(columns))

    def source(self, operand: int, index: Sequence[Index]) -> Element:
        """Elements of a matrix of an operand, whose batch is broadcast to that of `index`."""
        value = self.op.operands[operand]
        dims = dims_of(value)[:-2]
        own = [
            0 if dim == 1 else place
            for dim, place in zip(dims, index[len(index) - len(dims) :], strict=True)
        ]
        return lambda i, j: self.b.cast(self.e.computed(value, [*own, i, j]), self.wide)

    def copy(self, source: Element, target: Grid, rows: Index, columns: Index) -> None:
        """Copy a matrix to memory."""
        b = self.b
        b.each(0, rows, lambda i: b.each(0, columns, lambda j: target.set(source(i, j), i, j)))

    def give(self, result: int, unit: Index, source: Element) -> None:
        """Store a matrix as a result, rounded to its type."""
        b, value = self.b, self.op.results[result]
        element, (rows, columns) = element_type(value), map(b.dim, dims_of(value)[-2:])
        target = Grid(
            b, self.targets[result], b.mul_index(unit, b.mul_index(rows, columns)), columns
        )
        self.copy(lambda i, j: b.cast(source(i, j), element), target, rows, columns)

    def give_vector(self, result: int, unit: Index, source: Callable[[Index], SSAValue]) -> None:
        """Store a vector as a result, rounded to its type."""
        b, value = self.b, self.op.results[result]
        element, count = element_type(value), b.dim(dims_of(value)[-1])
        start = b.mul_index(unit, count)

        def place(i: SSAValue) -> None:
            b.store(b.cast(source(i), element), self.targets[result], b.add_index(start, i))

        b.each(0, count, place)

    def give_status(self, result: int, unit: Index, status: Index) -> None:
        """Store a count as an i32 result."""
        b = self.b
        b.store(b.cast(b.index(status), dtypes.i32), self.targets[result], unit)

    # -- arithmetic that differs between real and complex numbers

    def zero(self) -> SSAValue:
        """0 of the wide type."""
        return self.b.const(0.0, self.wide)

    def identity(self, i: Index, j: Index) -> SSAValue:
        """Element (i, j) of the identity."""
        b = self.b
        same = b.compare_index("eq", i, j)
        return b.select(same, b.const(1.0, self.wide), self.zero())

    def real_of(self, x: SSAValue) -> SSAValue:
        """The real part."""
        return x if part_of(x.type) is None else self.b.pair(x)[0]

    def imaginary_of(self, x: SSAValue) -> SSAValue:
        """The imaginary part; 0 for real numbers."""
        return self.b.const(0.0, self.real) if part_of(x.type) is None else self.b.pair(x)[1]

    def conj(self, x: SSAValue) -> SSAValue:
        """The complex conjugate."""
        if part_of(x.type) is None:
            return x
        real, imaginary = self.b.pair(x)
        return self.b.complex(real, self.b.neg(imaginary))

    def from_real(self, x: SSAValue) -> SSAValue:
        """A real number in the wide type."""
        return x if self.wide == self.real else self.b.complex(x, self.b.const(0.0, self.real))

    def squared(self, x: SSAValue) -> SSAValue:
        """The squared magnitude."""
        b = self.b
        if part_of(x.type) is None:
            return b.mul(x, x)
        real, imaginary = b.pair(x)
        return b.add(b.mul(real, real), b.mul(imaginary, imaginary))

    def size(self, x: SSAValue) -> SSAValue:
        """A magnitude that takes no root: the sum of those of the parts."""
        return self.b.add(self.b.abs(self.real_of(x)), self.b.abs(self.imaginary_of(x)))

    def scaled(self, x: SSAValue, by: SSAValue) -> SSAValue:
        """A number times a real one."""
        b = self.b
        if part_of(x.type) is None:
            return b.mul(x, by)
        real, imaginary = b.pair(x)
        return b.complex(b.mul(real, by), b.mul(imaginary, by))

    def total(
        self, lower: Index, upper: Index, term: Callable[[SSAValue], SSAValue], real: bool = False
    ) -> SSAValue:
        """The sum of `term(i)` over a range, in order."""
        b = self.b
        start = b.const(0.0, self.real if real else self.wide)

        def step(i: SSAValue, *sum_: SSAValue) -> Sequence[SSAValue]:
            return [b.add(sum_[0], term(i))]

        return b.for_(lower, upper, step, [start])[0]

    def largest(
        self,
        lower: Index,
        upper: Index,
        element: Callable[[SSAValue], SSAValue],
        least: float = 0.0,
    ) -> Sequence[SSAValue]:
        """The first place of a range whose `element(i)` has the largest `size`, and that size.

        `lower` and `least` where no size is above `least`.
        """
        b = self.b

        def look(i: SSAValue, *best: SSAValue) -> Sequence[SSAValue]:
            own = self.size(element(i))
            larger = b.gt(own, best[1])
            return [b.index(b.select_index(larger, i, best[0])), b.select(larger, own, best[1])]

        return b.for_(lower, upper, look, [b.index(lower), b.const(least, self.real)])
