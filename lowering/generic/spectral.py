"""Eigenvalues of Hermitian matrices and singular values, by Jacobi's rotations.

Cyclic sweeps (Golub and Van Loan, Matrix Computations, 8.5 and 8.6): each rotation makes one pair
of columns orthogonal, in the inner product of the matrix (eigenvalues) or the plain one (singular
values). Small values come out with high relative accuracy. Vectors are unique up to signs or phases
only; those here need not be LAPACK's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.factor import Householder
from lowering.generic.kernels import whole_kernel
from lowering.generic.matrices import Element, Grid, MatrixKernel
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of
from torsh_dialect.dims import Dim, minimum
from torsh_dialect.ops.linalg import EighOp, SvdOp
from torsh_dialect.types import dims_of

MOST_SWEEPS = 60
"""Sweeps after which iteration stops; 6 to 10 are usual, and NaN never converges."""

TINY = 2.0**-52
"""Cosine of the angle under which two columns are orthogonal."""

Pair = tuple[SSAValue, SSAValue]


class Rotations:
    """Jacobi rotations of the columns p and q of matrices."""

    def __init__(self, k: MatrixKernel):
        self.k = k

    def sweeps(self, count: Index, rotate: Callable[[SSAValue, SSAValue], SSAValue]) -> None:
        """Run `rotate(p, q)` over all pairs until a whole sweep says that none turned."""
        b = self.k.b

        def pairs(sweep: SSAValue, _: SSAValue) -> Sequence[SSAValue]:
            def row(p: SSAValue, *turned: SSAValue) -> Sequence[SSAValue]:
                def column(q: SSAValue, *own: SSAValue) -> Sequence[SSAValue]:
                    return [b.or_(own[0], rotate(p, q))]

                return b.for_(b.add_index(p, 1), count, column, turned)

            (turned,) = b.for_(0, count, row, [b.const(False, dtypes.i1)])
            return [b.index(b.add_index(sweep, 1)), turned]

        def unfinished(sweep: SSAValue, turned: SSAValue) -> SSAValue:
            return b.and_(turned, b.compare_index("lt", sweep, MOST_SWEEPS))

        b.while_([b.index(0), b.const(True, dtypes.i1)], unfinished, pairs)

    def angle(self, first: SSAValue, second: SSAValue, inner: SSAValue) -> tuple[Pair, SSAValue]:
        """Cosine and sine that diagonalise [[first, inner], [conj(inner), second]], and its phase.

        The diagonal is real; `inner` is not 0. The phase is that of `inner`.
        """
        k, b = self.k, self.k.b
        size = b.sqrt(k.squared(inner))
        one, zero = b.const(1.0, k.real), b.const(0.0, k.real)
        ratio = b.div(b.sub(second, first), b.add(size, size))
        root = b.sqrt(b.add(b.mul(ratio, ratio), one))
        tangent = b.div(one, b.add(b.abs(ratio), root))
        tangent = b.select(b.lt(ratio, zero), b.neg(tangent), tangent)
        cosine = b.div(one, b.sqrt(b.add(b.mul(tangent, tangent), one)))
        phase = k.scaled(inner, b.div(one, size))
        return (cosine, b.mul(tangent, cosine)), phase

    def turn(self, x: SSAValue, y: SSAValue, by: Pair, phase: SSAValue) -> Pair:
        """(c x - s phase y, s x + c phase y)."""
        k, b = self.k, self.k.b
        cosine, sine = by
        y = b.mul(phase, y)
        return (
            b.sub(k.scaled(x, cosine), k.scaled(y, sine)),
            b.add(k.scaled(x, sine), k.scaled(y, cosine)),
        )

    def columns(self, a: Grid, rows: Index, p: Index, q: Index, by: Pair, phase: SSAValue) -> None:
        """Turn two columns of a matrix."""

        def row(i: SSAValue) -> None:
            x, y = self.turn(a.get(i, p), a.get(i, q), by, phase)
            a.set(x, i, p)
            a.set(y, i, q)

        self.k.b.each(0, rows, row)

    def rows(self, a: Grid, columns: Index, p: Index, q: Index, by: Pair, phase: SSAValue) -> None:
        """Turn two rows of a matrix."""

        def column(j: SSAValue) -> None:
            x, y = self.turn(a.get(p, j), a.get(q, j), by, phase)
            a.set(x, p, j)
            a.set(y, q, j)

        self.k.b.each(0, columns, column)


def order(
    k: MatrixKernel,
    count: Index,
    before: Callable[[SSAValue, SSAValue], SSAValue],
    value: Callable[[SSAValue], SSAValue],
    exchange: Callable[[SSAValue, SSAValue], None],
) -> None:
    """Selection sort: `exchange(i, j)` places so that `before(value(i), value(i + 1))` holds."""
    b = k.b

    def place(i: SSAValue) -> None:
        def look(j: SSAValue, *best: SSAValue) -> Sequence[SSAValue]:
            own = value(j)
            better = before(own, best[1])
            return [
                b.index(b.select_index(better, j, best[0])),
                b.select(better, own, best[1]),
            ]

        found, _ = b.for_(b.add_index(i, 1), count, look, [i, value(i)])
        exchange(i, found)

    b.each(0, count, place)


def swap_columns(k: MatrixKernel, a: Grid, rows: Index, p: SSAValue, q: SSAValue) -> None:
    """Exchange two columns of a matrix."""

    def row(i: SSAValue) -> None:
        x, y = a.get(i, p), a.get(i, q)
        a.set(y, i, p)
        a.set(x, i, q)

    k.b.each(0, rows, row)


@whole_kernel(EighOp)
def eigh(op: Operation) -> Kernel:
    """Two-sided rotations; then the diagonal holds the eigenvalues."""
    assert isinstance(op, EighOp)
    k, (*batch, rows, _) = MatrixKernel(op), dims_of(op.x)
    b, extent, rotations = k.b, k.b.dim(rows), Rotations(k)
    matrices, bases = k.room(batch, rows, rows), k.room(batch, rows, rows)
    upper = bool_of(op.upper)

    def matrix(index: list[Index], unit: SSAValue) -> None:
        a, v, x = matrices(unit), bases(unit), k.source(0, index)
        k.copy(_hermitian(k, x, upper), a, extent, extent)
        k.copy(k.identity, v, extent, extent)

        def rotate(p: SSAValue, q: SSAValue) -> SSAValue:
            first, second, inner = k.real_of(a.get(p, p)), k.real_of(a.get(q, q)), a.get(p, q)
            turns = _matters(k, k.squared(inner), b.abs(first), b.abs(second))

            def turn() -> Sequence[SSAValue]:
                by, phase = rotations.angle(first, second, inner)
                rotations.columns(a, extent, p, q, by, k.conj(phase))
                rotations.rows(a, extent, p, q, by, phase)
                rotations.columns(v, extent, p, q, by, k.conj(phase))
                a.set(k.zero(), p, q)
                a.set(k.zero(), q, p)
                return ()

            b.if_(turns, turn)
            return turns

        rotations.sweeps(extent, rotate)

        def exchange(i: SSAValue, j: SSAValue) -> None:
            low, high = a.get(i, i), a.get(j, j)
            a.set(high, i, i)
            a.set(low, j, j)
            swap_columns(k, v, extent, i, j)

        order(k, extent, b.lt, lambda i: k.real_of(a.get(i, i)), exchange)
        k.give_vector(0, unit, lambda i: k.real_of(a.get(i, i)))
        k.give(1, unit, v.get)

    return k.each_matrix(batch, matrix)


def _hermitian(k: MatrixKernel, x: Element, upper: bool) -> Element:
    """The Hermitian matrix of which one triangle is given."""
    b = k.b

    def element(i: Index, j: Index) -> SSAValue:
        kind = "le" if upper else "ge"
        given = b.select(b.compare_index(kind, i, j), x(i, j), k.conj(x(j, i)))
        real = k.from_real(k.real_of(given))
        return b.select(b.compare_index("eq", i, j), real, given)

    return element


def _matters(k: MatrixKernel, squared: SSAValue, first: SSAValue, second: SSAValue) -> SSAValue:
    """Whether an inner product is not negligible beside the two sizes it belongs to."""
    b = k.b
    limit = b.mul(b.const(TINY * TINY, k.real), b.mul(first, second))
    smallest = b.const(2.0**-1000, k.real)  # squares of less underflow, and never converge
    return b.gt(squared, b.max(limit, smallest))


@whole_kernel(SvdOp)
def svd(op: Operation) -> Kernel:
    """One-sided rotations of the columns of x, or of x^H where x is known to be wide.

    A matrix of unknown extents may be wide: then the last columns become 0, and sort last.
    """
    assert isinstance(op, SvdOp)
    k, (*batch, rows, columns) = MatrixKernel(op), dims_of(op.x)
    wide = isinstance(rows, int) and isinstance(columns, int) and rows < columns
    tall, narrow = (columns, rows) if wide else (rows, columns)
    left = dims_of(op.vh)[-2] if wide else dims_of(op.u)[-1]
    count, b = minimum(rows, columns), k.b
    shapes: list[tuple[Dim, Dim]] = [(tall, narrow), (narrow, narrow), (tall, left), (1, count)]
    rooms = [k.room(batch, *dims) for dims in shapes]

    def matrix(index: list[Index], unit: SSAValue) -> None:
        w, v, u, taus = (room(unit) for room in rooms)
        x = k.source(0, index)
        k.copy((lambda i, j: k.conj(x(j, i))) if wide else x, w, b.dim(tall), b.dim(narrow))
        k.copy(k.identity, v, b.dim(narrow), b.dim(narrow))
        _orthogonalise(k, w, v, b.dim(tall), b.dim(narrow))
        Householder(k, w, taus, b.dim(tall), b.dim(narrow)).orthonormal(u, b.dim(left))
        signed = _signed(k, w, u, b.dim(count))

        def turned(i: Index, j: Index) -> SSAValue:
            return k.conj(signed(j, i))

        k.give_vector(1, unit, lambda i: b.abs(k.real_of(w.get(i, i))))
        k.give(0, unit, v.get if wide else signed)
        k.give(2, unit, turned if wide else lambda i, j: k.conj(v.get(j, i)))

    return k.each_matrix(batch, matrix)


def _orthogonalise(k: MatrixKernel, w: Grid, v: Grid, tall: Index, narrow: Index) -> None:
    """Turn columns of w until they are orthogonal, and v with them; longest column first."""
    b, rotations = k.b, Rotations(k)

    def size(j: SSAValue) -> SSAValue:
        return k.total(0, tall, lambda i: k.squared(w.get(i, j)), real=True)

    def rotate(p: SSAValue, q: SSAValue) -> SSAValue:
        inner = k.total(0, tall, lambda i: b.mul(k.conj(w.get(i, p)), w.get(i, q)))
        first, second = size(p), size(q)
        turns = _matters(k, k.squared(inner), first, second)

        def turn() -> Sequence[SSAValue]:
            by, phase = rotations.angle(first, second, inner)
            rotations.columns(w, tall, p, q, by, k.conj(phase))
            rotations.columns(v, narrow, p, q, by, k.conj(phase))
            return ()

        b.if_(turns, turn)
        return turns

    rotations.sweeps(narrow, rotate)

    def exchange(i: SSAValue, j: SSAValue) -> None:
        swap_columns(k, w, tall, i, j)
        swap_columns(k, v, narrow, i, j)

    order(k, narrow, b.gt, size, exchange)


def _signed(k: MatrixKernel, r: Grid, q: Grid, count: Index) -> Element:
    """Columns of Q with the signs of R's diagonal, so that the diagonal becomes positive."""
    b = k.b

    def element(i: Index, j: Index) -> SSAValue:
        own = b.max_index(b.min_index(j, b.sub_index(count, 1)), 0)
        diagonal = k.real_of(r.get(own, own))
        flips = b.and_(b.compare_index("lt", j, count), b.lt(diagonal, b.const(0.0, k.real)))
        value = q.get(i, j)
        return b.select(flips, b.neg(value), value)

    return element
