"""Eigenvalues and eigenvectors of general matrices, by Hessenberg form and shifted QR steps.

Complex arithmetic throughout: rotations make the matrix zero below its first subdiagonal, QR steps
with Wilkinson's shifts make it triangular, and back substitution gives the vectors (Golub and Van
Loan, Matrix Computations, 7.4 to 7.6; shifts and tests of LAPACK's zlahqr). As there, a vector has
length 1 and its largest element is real and positive.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.kernels import whole_kernel
from lowering.generic.matrices import Grid, MatrixKernel
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.ops.linalg import EigOp
from torsh_dialect.types import dims_of

MOST_STEPS = 90
"""QR steps for one eigenvalue after which it is taken as it is; 2 or 3 are usual."""

EXCEPTIONAL = (10, 20)
"""Steps whose shift is another one, for matrices that Wilkinson's leaves as they are."""

EPSILON = 2.0**-52
SMALLEST = 2.0**-1000
"""Sizes that count as 0: relative to the neighbours on the diagonal, and in all cases."""


class Schur:
    """Makes a matrix triangular by rotations from both sides; `z` collects them.

    Args:
        k: The kernel, which works in complex numbers.
        h: The matrix.
        z: A matrix of as many rows, at first the identity.
        count: Rows.
    """

    def __init__(self, k: MatrixKernel, h: Grid, z: Grid, count: Index):
        self.k, self.b, self.h, self.z, self.count = k, k.b, h, z, count

    def rotation(self, f: SSAValue, g: SSAValue) -> tuple[SSAValue, SSAValue]:
        """Cosine (real) and sine with `-conj(s) f + c g = 0`."""
        k, b = self.k, self.b
        one, zero = b.const(1.0, k.real), b.const(0.0, k.real)
        own = b.sqrt(k.squared(f))
        length = b.sqrt(b.add(k.squared(f), k.squared(g)))
        nothing, alone = b.eq(length, zero), b.eq(own, zero)
        phase = k.scaled(f, b.div(one, b.select(alone, one, own)))
        phase = b.select(alone, b.const(1.0, k.wide), phase)
        inverse = b.div(one, b.select(nothing, one, length))
        cosine = b.select(nothing, one, b.mul(own, inverse))
        return cosine, k.scaled(b.mul(phase, k.conj(g)), inverse)

    def turn(
        self, p: Index, q: Index, by: tuple[SSAValue, SSAValue], first: Index, last: Index
    ) -> None:
        """Rotate the rows p and q from column `first` on, and the columns up to row `last`."""
        k, b, h, z = self.k, self.b, self.h, self.z
        cosine, sine = by
        turned = k.conj(sine)

        def row(j: SSAValue) -> None:
            x, y = h.get(p, j), h.get(q, j)
            h.set(b.add(k.scaled(x, cosine), b.mul(sine, y)), p, j)
            h.set(b.sub(k.scaled(y, cosine), b.mul(turned, x)), q, j)

        def column(to: Grid, i: SSAValue) -> None:
            x, y = to.get(i, p), to.get(i, q)
            to.set(b.add(k.scaled(x, cosine), b.mul(turned, y)), i, p)
            to.set(b.sub(k.scaled(y, cosine), b.mul(sine, x)), i, q)

        b.each(first, self.count, row)
        b.each(0, last, lambda i: column(h, i))
        b.each(0, self.count, lambda i: column(z, i))

    def hessenberg(self) -> None:
        """Make the elements below the first subdiagonal 0."""
        b, h = self.b, self.h

        def column(j: SSAValue) -> None:
            pivot = b.add_index(j, 1)

            def below(i: SSAValue) -> None:
                by = self.rotation(h.get(pivot, j), h.get(i, j))
                self.turn(pivot, i, by, j, self.count)
                h.set(self.k.zero(), i, j)

            b.each(b.add_index(j, 2), self.count, below)

        b.each(0, self.count, column)

    def triangular(self) -> None:
        """QR steps until all elements below the diagonal are negligible."""
        b = self.b

        def step(left: SSAValue, steps: SSAValue) -> Sequence[SSAValue]:
            last = b.index(b.sub_index(left, 1))
            first = self._start(last)
            done = b.or_(
                b.compare_index("eq", first, last), b.compare_index("ge", steps, MOST_STEPS)
            )

            def sweep() -> Sequence[SSAValue]:
                self._sweep(first, last, self._shift(first, last, steps))
                return ()

            b.if_(b.not_(done), sweep)
            following = b.select_index(done, 0, b.add_index(steps, 1))
            return [b.index(b.select_index(done, last, left)), b.index(following)]

        def unfinished(left: SSAValue, _: SSAValue) -> SSAValue:
            return b.compare_index("gt", left, 0)

        b.while_([b.index(self.count), b.index(0)], unfinished, step)

    def _start(self, last: SSAValue) -> SSAValue:
        """The first row of the block that ends at `last` and has no negligible subdiagonal."""
        b, h = self.b, self.h

        def look(i: SSAValue, *found: SSAValue) -> Sequence[SSAValue]:
            before = b.sub_index(i, 1)
            own = self.k.size(h.get(i, before))
            beside = b.add(self.k.size(h.get(before, before)), self.k.size(h.get(i, i)))
            limit = b.max(
                b.mul(b.const(EPSILON, self.k.real), beside), b.const(SMALLEST, self.k.real)
            )
            small = b.le(own, limit)

            def clear() -> Sequence[SSAValue]:
                h.set(self.k.zero(), i, before)
                return ()

            b.if_(small, clear)
            return [b.index(b.select_index(small, i, found[0]))]

        return b.for_(1, b.add_index(last, 1), look, [b.index(0)])[0]

    def _shift(self, first: SSAValue, last: SSAValue, steps: SSAValue) -> SSAValue:
        """The eigenvalue of the last 2 x 2 block that is nearer to its last element."""
        k, b, h = self.k, self.b, self.h
        before = b.sub_index(last, 1)
        end, zero = h.get(last, last), b.const(0.0, k.real)
        product_ = b.mul(b.sqrt(h.get(before, last)), b.sqrt(h.get(last, before)))
        half = k.scaled(b.sub(h.get(before, before), end), b.const(0.5, k.real))
        size = b.max(self.k.size(product_), self.k.size(half))
        unit = b.div(b.const(1.0, k.real), b.select(b.eq(size, zero), b.const(1.0, k.real), size))
        x, u = k.scaled(half, unit), k.scaled(product_, unit)
        root = k.scaled(b.sqrt(b.add(b.mul(x, x), b.mul(u, u))), size)
        along = b.add(
            b.mul(k.real_of(x), k.real_of(root)), b.mul(k.imaginary_of(x), k.imaginary_of(root))
        )
        root = b.select(b.lt(along, zero), b.neg(root), root)
        nearer = b.sub(end, b.mul(product_, b.div(product_, b.add(half, root))))
        shift = b.select(b.eq(self.k.size(product_), zero), end, nearer)
        for number, (i, j) in zip(
            EXCEPTIONAL, ((b.add_index(first, 1), first), (last, before)), strict=True
        ):
            base = h.get(first, first) if number == EXCEPTIONAL[0] else end
            away = b.mul(b.const(0.75, k.real), b.abs(k.real_of(h.get(i, j))))
            other = b.add(base, k.from_real(away))
            shift = b.select(b.compare_index("eq", steps, number), other, shift)
        return shift

    def _sweep(self, first: SSAValue, last: SSAValue, shift: SSAValue) -> None:
        """One QR step of the block: a bulge is chased down its subdiagonal."""
        b, h = self.b, self.h

        def step(i: SSAValue) -> None:
            following, before = b.add_index(i, 1), b.max_index(b.sub_index(i, 1), 0)
            starts = b.compare_index("eq", i, first)
            f = b.select(starts, b.sub(h.get(i, i), shift), h.get(i, before))
            g = b.select(starts, h.get(following, i), h.get(following, before))
            by = self.rotation(f, g)
            left = b.select_index(starts, i, before)
            bottom = b.min_index(b.add_index(i, 3), b.add_index(last, 1))
            self.turn(i, following, by, left, bottom)

        b.each(first, last, step)

    def vectors(self, x: Grid) -> None:
        """Fill the columns of `x` with the eigenvectors of the triangular matrix, times z."""
        k, b, h = self.k, self.b, self.h

        def column(j: SSAValue) -> None:
            value = h.get(j, j)
            least = b.mul(b.const(EPSILON, k.real), self.k.size(value))
            least = b.max(least, b.const(SMALLEST, k.real))
            b.each(0, self.count, lambda i: x.set(k.identity(i, j), i, j))

            def back(number: SSAValue) -> None:
                i = b.sub_index(b.sub_index(j, 1), number)
                known = k.total(
                    b.add_index(i, 1), b.add_index(j, 1), lambda c: b.mul(h.get(i, c), x.get(c, j))
                )
                gap = b.sub(value, h.get(i, i))
                gap = b.select(b.lt(self.k.size(gap), least), k.from_real(least), gap)
                x.set(b.div(known, gap), i, j)

            b.each(0, j, back)

        b.each(0, self.count, column)

    def normal(self, x: Grid, v: Grid) -> None:
        """The columns of z x with length 1, the largest element real and positive."""
        k, b, z = self.k, self.b, self.z

        def column(j: SSAValue) -> None:
            def row(i: SSAValue, *best: SSAValue) -> Sequence[SSAValue]:
                value = k.total(0, self.count, lambda c: b.mul(z.get(i, c), x.get(c, j)))
                v.set(value, i, j)
                size = k.squared(value)
                larger = b.gt(size, best[1])
                return [
                    b.add(best[0], size),
                    b.select(larger, size, best[1]),
                    b.select(larger, value, best[2]),
                ]

            zero = b.const(0.0, k.real)
            total, most, top = b.for_(0, self.count, row, [zero, zero, b.const(1.0, k.wide)])
            scale = b.div(b.const(1.0, k.real), b.sqrt(b.mul(total, most)))
            factor = k.scaled(k.conj(top), scale)
            b.each(0, self.count, lambda i: v.set(b.mul(v.get(i, j), factor), i, j))

        b.each(0, self.count, column)


@whole_kernel(EigOp)
def eig(op: Operation) -> Kernel:
    """Eigenvalues in the order of the triangular form's diagonal."""
    assert isinstance(op, EigOp)
    k, (*batch, rows, _) = MatrixKernel(op), dims_of(op.x)
    k.wide = dtypes.c128
    count = k.b.dim(rows)
    rooms = [k.room(batch, rows, rows) for _ in range(3)]

    def matrix(index: list[Index], unit: SSAValue) -> None:
        h, z, x = (room(unit) for room in rooms)
        k.copy(k.source(0, index), h, count, count)
        k.copy(k.identity, z, count, count)
        schur = Schur(k, h, z, count)
        schur.hessenberg()
        schur.triangular()
        k.give_vector(0, unit, lambda i: h.get(i, i))
        schur.vectors(x)
        schur.normal(x, h)
        k.give(1, unit, h.get)

    return k.each_matrix(batch, matrix)
