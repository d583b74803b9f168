"""Factorisations of stacks of matrices in a fixed number of steps, and what follows from them.

Gaussian elimination with partial pivoting, Cholesky by columns, Householder's QR with LAPACK's
signs (Golub and Van Loan, Matrix Computations, 3.4, 4.2 and 5.2), substitution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.kernels import whole_kernel
from lowering.generic.matrices import Element, Grid, MatrixKernel
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of
from torsh_dialect.dims import minimum
from torsh_dialect.ops.determinant import DeterminantOp
from torsh_dialect.ops.linalg import CholeskyOp, LuOp, QrOp, QrReflectionsOp, TriangularSolveOp
from torsh_dialect.types import dims_of, element_type


def eliminate(
    k: MatrixKernel,
    a: Grid,
    rows: Index,
    columns: Index,
    exchanged: Callable[[SSAValue, SSAValue], None],
) -> SSAValue:
    """Gaussian elimination in place; `exchanged(j, row)` is told each pivot.

    Returns:
        0, or the number of the first pivot that is 0, from 1 (index).
    """
    b = k.b

    def column(j: SSAValue, *status: SSAValue) -> Sequence[SSAValue]:
        row, _ = k.largest(j, rows, lambda i: a.get(i, j), least=-1.0)
        exchanged(j, row)
        a.swap_rows(j, row, columns)
        pivot = a.get(j, j)
        singular = b.eq(pivot, k.zero())
        after = b.add_index(j, 1)

        def below(i: SSAValue) -> None:
            factor = b.div(a.get(i, j), pivot)
            a.set(factor, i, j)
            b.lanes(
                after,
                columns,
                lambda c: a.set(b.sub(a.get(i, c), b.mul(factor, a.get(j, c))), i, c),
            )

        def divide() -> Sequence[SSAValue]:
            b.each(after, rows, below)
            return ()

        b.if_(b.not_(singular), divide)
        first = b.and_(singular, b.compare_index("eq", status[0], 0))
        return [b.index(b.select_index(first, after, status[0]))]

    return b.for_(0, b.min_index(rows, columns), column, [b.index(0)])[0]


@whole_kernel(LuOp)
def lu(op: Operation) -> Kernel:
    """LU with partial pivoting."""
    assert isinstance(op, LuOp)
    k, (*batch, rows, columns) = MatrixKernel(op), dims_of(op.x)
    b, room = k.b, k.room(batch, rows, columns)
    pivots, count = k.targets[1], b.dim(minimum(rows, columns))

    def matrix(index: list[Index], unit: SSAValue) -> None:
        a = room(unit)
        k.copy(k.source(0, index), a, b.dim(rows), b.dim(columns))

        def exchanged(j: SSAValue, row: SSAValue) -> None:
            place = b.add_index(b.mul_index(unit, count), j)
            number = b.cast(b.index(b.add_index(row, 1)), dtypes.i32)
            b.store(number, pivots, place)

        status = eliminate(k, a, b.dim(rows), b.dim(columns), exchanged)
        k.give(0, unit, a.get)
        k.give_status(2, unit, status)

    return k.each_matrix(batch, matrix)


@whole_kernel(DeterminantOp)
def determinant(op: Operation) -> Kernel:
    """The product of the pivots, with the sign of the exchanges."""
    assert isinstance(op, DeterminantOp)
    k, (*batch, rows, _) = MatrixKernel(op), dims_of(op.x)
    b, room, extent = k.b, k.room(batch, rows, rows), k.b.dim(rows)
    sign = k.room(batch, 1, 1)

    def matrix(index: list[Index], unit: SSAValue) -> None:
        a, s = room(unit), sign(unit)
        k.copy(k.source(0, index), a, extent, extent)
        s.set(b.const(1.0, k.wide), 0, 0)

        def exchanged(j: SSAValue, row: SSAValue) -> None:
            now = s.get(0, 0)
            s.set(b.select(b.compare_index("eq", j, row), now, b.neg(now)), 0, 0)

        eliminate(k, a, extent, extent, exchanged)

        def times(i: SSAValue, *value: SSAValue) -> Sequence[SSAValue]:
            return [b.mul(value[0], a.get(i, i))]

        (value,) = b.for_(0, extent, times, [s.get(0, 0)])
        b.store(b.cast(value, element_type(op.y)), k.targets[0], unit)

    return k.each_matrix(batch, matrix)


@whole_kernel(CholeskyOp)
def cholesky(op: Operation) -> Kernel:
    """Column by column; stops at the first pivot that is not positive."""
    assert isinstance(op, CholeskyOp)
    k, (*batch, rows, _) = MatrixKernel(op), dims_of(op.x)
    b, room, extent = k.b, k.room(batch, rows, rows), k.b.dim(rows)
    upper = bool_of(op.upper)

    def matrix(index: list[Index], unit: SSAValue) -> None:
        x, factor = k.source(0, index), room(unit)
        lower: Element = (lambda i, j: k.conj(x(j, i))) if upper else x
        k.copy(lambda i, j: k.zero(), factor, extent, extent)

        def column(j: SSAValue, *status: SSAValue) -> Sequence[SSAValue]:
            known = k.total(0, j, lambda c: k.squared(factor.get(j, c)), real=True)
            pivot = b.sub(k.real_of(lower(j, j)), known)
            root = b.sqrt(pivot)

            def below(i: SSAValue) -> None:
                done = k.total(0, j, lambda c: b.mul(factor.get(i, c), k.conj(factor.get(j, c))))
                factor.set(b.div(b.sub(lower(i, j), done), k.from_real(root)), i, j)

            def go_on() -> Sequence[SSAValue]:
                factor.set(k.from_real(root), j, j)
                b.each(b.add_index(j, 1), extent, below)
                return ()

            unbroken = b.compare_index("eq", status[0], 0)
            positive = b.gt(pivot, b.const(0.0, k.real))
            b.if_(b.and_(unbroken, positive), go_on)
            fails = b.and_(unbroken, b.not_(positive))
            return [b.index(b.select_index(fails, b.add_index(j, 1), status[0]))]

        (status,) = b.for_(0, extent, column, [b.index(0)])
        k.give(0, unit, (lambda i, j: k.conj(factor.get(j, i))) if upper else factor.get)
        k.give_status(1, unit, status)

    return k.each_matrix(batch, matrix)


@whole_kernel(TriangularSolveOp)
def triangular_solve(op: Operation) -> Kernel:
    """Substitution, row by row."""
    assert isinstance(op, TriangularSolveOp)
    k, (*batch, rows, columns) = MatrixKernel(op), dims_of(op.y)
    b, room = k.b, k.room(batch, rows, columns)
    upper, unit_diagonal = bool_of(op.upper), bool_of(op.unit)
    extent = b.dim(rows)

    def matrix(index: list[Index], unit: SSAValue) -> None:
        x, given, y = k.source(0, index), k.source(1, index), room(unit)

        def row(number: SSAValue) -> None:
            i = b.sub_index(b.sub_index(extent, 1), number) if upper else number
            done = (b.add_index(i, 1), extent) if upper else (0, i)

            def element(j: SSAValue) -> None:
                known = k.total(*done, lambda c: b.mul(x(i, c), y.get(c, j)))
                value = b.sub(given(i, j), known)
                y.set(value if unit_diagonal else b.div(value, x(i, i)), i, j)

            b.each(0, b.dim(columns), element)

        b.each(0, extent, row)
        k.give(0, unit, y.get)

    return k.each_matrix(batch, matrix)


class Householder:
    """QR of a matrix in place: R in the upper triangle, reflections below, their factors in `taus`.

    H = I - tau v v^H with v[0] = 1, so that H^H x = (beta, 0, ...) with real beta, whose sign is
    opposite to that of x[0] (LAPACK's larfg).
    """

    def __init__(self, k: MatrixKernel, a: Grid, taus: Grid, rows: Index, columns: Index):
        self.k, self.a, self.taus, self.rows = k, a, taus, rows
        b = k.b
        self.count = b.min_index(rows, columns)

        def step(j: SSAValue) -> None:
            tau = self._reflect(j)
            taus.set(tau, 0, j)
            self._apply(a, j, k.conj(tau), b.add_index(j, 1), columns)

        b.each(0, self.count, step)

    def _reflect(self, j: SSAValue) -> SSAValue:
        """Make the reflection of column j; returns its factor."""
        k, b, a = self.k, self.k.b, self.a
        after, alpha = b.add_index(j, 1), a.get(j, j)
        rest = k.total(after, self.rows, lambda i: k.squared(a.get(i, j)), real=True)
        zero = b.const(0.0, k.real)
        real, imaginary = k.real_of(alpha), k.imaginary_of(alpha)
        norm = b.sqrt(b.add(k.squared(alpha), rest))
        beta = b.select(b.ge(real, zero), b.neg(norm), norm)
        plain = b.and_(b.eq(rest, zero), b.eq(imaginary, zero))
        ratio = b.div(b.sub(beta, real), beta)
        tau = ratio
        if k.wide != k.real:
            tau = b.complex(ratio, b.neg(b.div(imaginary, beta)))

        def divide() -> Sequence[SSAValue]:
            head = b.sub(alpha, k.from_real(beta))
            b.each(after, self.rows, lambda i: a.set(b.div(a.get(i, j), head), i, j))
            a.set(k.from_real(beta), j, j)
            return ()

        b.if_(b.not_(plain), divide)
        return b.select(plain, k.zero(), tau)

    def _apply(self, to: Grid, j: SSAValue, tau: SSAValue, first: Index, last: Index) -> None:
        """Apply I - tau v v^H of reflection j to columns `first` to `last` of a matrix."""
        k, b, a = self.k, self.k.b, self.a
        after = b.add_index(j, 1)

        def column(c: SSAValue) -> None:
            below = k.total(after, self.rows, lambda i: b.mul(k.conj(a.get(i, j)), to.get(i, c)))
            weight = b.mul(tau, b.add(to.get(j, c), below))
            to.set(b.sub(to.get(j, c), weight), j, c)
            b.each(
                after,
                self.rows,
                lambda i: to.set(b.sub(to.get(i, c), b.mul(weight, a.get(i, j))), i, c),
            )

        b.each(first, last, column)

    def orthonormal(self, q: Grid, columns: Index) -> None:
        """Fill a matrix of as many rows with the first columns of Q."""
        k, b = self.k, self.k.b
        k.copy(k.identity, q, self.rows, columns)

        def back(number: SSAValue) -> None:
            j = b.index(b.sub_index(b.sub_index(self.count, 1), number))
            self._apply(q, j, self.taus.get(0, j), 0, columns)

        b.each(0, self.count, back)


@whole_kernel(QrReflectionsOp)
def qr_reflections(op: Operation) -> Kernel:
    """Householder's QR, whose reflections are the result."""
    assert isinstance(op, QrReflectionsOp)
    k, (*batch, rows, columns) = MatrixKernel(op), dims_of(op.x)
    b = k.b
    rooms = [k.room(batch, rows, columns), k.room(batch, 1, minimum(rows, columns))]

    def matrix(index: list[Index], unit: SSAValue) -> None:
        a, taus = (room(unit) for room in rooms)
        k.copy(k.source(0, index), a, b.dim(rows), b.dim(columns))
        Householder(k, a, taus, b.dim(rows), b.dim(columns))
        k.give(0, unit, a.get)
        k.give_vector(1, unit, lambda i: taus.get(0, i))

    return k.each_matrix(batch, matrix)


@whole_kernel(QrOp)
def qr(op: Operation) -> Kernel:
    """Householder's QR."""
    assert isinstance(op, QrOp)
    k, (*batch, rows, columns) = MatrixKernel(op), dims_of(op.x)
    b, inner = k.b, dims_of(op.q)[-1]
    rooms = [
        k.room(batch, *dims)
        for dims in ((rows, columns), (rows, inner), (1, minimum(rows, columns)))
    ]

    def matrix(index: list[Index], unit: SSAValue) -> None:
        a, q, taus = (room(unit) for room in rooms)
        k.copy(k.source(0, index), a, b.dim(rows), b.dim(columns))
        Householder(k, a, taus, b.dim(rows), b.dim(columns)).orthonormal(q, b.dim(inner))
        k.give(0, unit, q.get)

        def upper(i: Index, j: Index) -> SSAValue:
            return b.select(b.compare_index("le", i, j), a.get(i, j), k.zero())

        k.give(1, unit, upper)

    return k.each_matrix(batch, matrix)
