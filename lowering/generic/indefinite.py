"""LDL^H of symmetric and Hermitian matrices with pivots of Bunch and Kaufman, and its solver.

LAPACK's sytf2, hetf2, sytrs and hetrs for the lower triangle (netlib.org/lapack, 3.12): the order
of the exchanges is the same, so pivots are.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.kernels import whole_kernel
from lowering.generic.matrices import Grid, MatrixKernel
from lowering.kern.builder import Index
from lowering.kern.scopes import part_of
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of
from torsh_dialect.ops.ldl import ALPHA, LdlOp, LdlSolveOp
from torsh_dialect.types import dims_of


class Indefinite:
    """The steps of the factorisation of one matrix in place.

    Args:
        k: The kernel.
        a: The matrix, of which the lower triangle is used.
        count: Its rows.
        hermitian: Whether the other triangle is the conjugate.
    """

    def __init__(self, k: MatrixKernel, a: Grid, count: Index, hermitian: bool):
        self.k, self.b, self.a, self.count = k, k.b, a, count
        self.hermitian = hermitian and part_of(k.wide) is not None

    def other(self, x: SSAValue) -> SSAValue:
        """The element opposite to x."""
        return self.k.conj(x) if self.hermitian else x

    def diagonal(self, i: Index) -> SSAValue:
        """A diagonal element, which is real in a Hermitian matrix."""
        x = self.a.get(i, i)
        return self.k.from_real(self.k.real_of(x)) if self.hermitian else x

    def pivot(self, k: SSAValue) -> tuple[SSAValue, SSAValue, SSAValue]:
        """The row to exchange, whether the block is 2 x 2, and whether the column is 0."""
        b, a, alpha = self.b, self.a, self.b.const(ALPHA, self.k.real)
        own = self.k.size(self.diagonal(k))
        row, most = self.k.largest(b.add_index(k, 1), self.count, lambda i: a.get(i, k))
        zero = b.eq(b.max(own, most), b.const(0.0, self.k.real))

        def look() -> Sequence[SSAValue]:
            _, left = self.k.largest(k, row, lambda j: a.get(row, j))
            after = b.add_index(row, 1)
            _, below = self.k.largest(after, self.count, lambda i: a.get(i, row))
            beside = b.max(left, below)
            stays = b.ge(own, b.mul(b.mul(alpha, most), b.div(most, beside)))
            single = b.ge(self.k.size(self.diagonal(row)), b.mul(alpha, beside))
            chosen = b.index(b.select_index(stays, k, row))
            return [chosen, b.and_(b.not_(stays), b.not_(single))]

        def stay() -> Sequence[SSAValue]:
            return [b.index(k), b.const(False, dtypes.i1)]

        row, double = b.if_(b.lt(own, b.mul(alpha, most)), look, stay)
        return row, double, zero

    def exchange(self, k: SSAValue, last: Index, row: SSAValue, double: SSAValue) -> None:
        """Exchange rows and columns `last` and `row` of the part from k on."""
        b, a = self.b, self.a

        def swap(x: tuple[Index, Index], y: tuple[Index, Index], turned: bool = False) -> None:
            first, second = a.get(*x), a.get(*y)
            a.set(self.other(second) if turned else second, *x)
            a.set(self.other(first) if turned else first, *y)

        def go() -> Sequence[SSAValue]:
            after = b.add_index(last, 1)
            b.each(b.add_index(row, 1), self.count, lambda i: swap((i, last), (i, row)))
            b.each(after, row, lambda i: swap((i, last), (row, i), turned=True))
            a.set(self.other(a.get(row, last)), row, last)
            swap((last, last), (row, row))

            def beside() -> Sequence[SSAValue]:
                swap((last, k), (row, k))
                return ()

            b.if_(double, beside)
            return ()

        b.if_(b.compare_index("ne", last, row), go)

    def single(self, k: SSAValue) -> None:
        """Eliminate behind a pivot of 1 x 1."""
        b, a, after = self.b, self.a, self.b.add_index(k, 1)
        pivot = self.diagonal(k)
        a.set(pivot, k, k)

        def column(j: SSAValue) -> None:
            factor = b.div(a.get(j, k), pivot)
            turned = self.other(a.get(j, k))

            def row(i: SSAValue) -> None:
                part = b.mul(b.div(a.get(i, k), pivot), turned)
                a.set(b.sub(a.get(i, j), part), i, j)

            b.each(b.add_index(j, 1), self.count, row)
            a.set(b.sub(self.diagonal(j), b.mul(factor, turned)), j, j)
            a.set(self.diagonal(j), j, j)

        b.each(after, self.count, column)
        b.each(after, self.count, lambda i: a.set(b.div(a.get(i, k), pivot), i, k))

    def double(self, k: SSAValue) -> None:
        """Eliminate behind a pivot of 2 x 2."""
        b, a = self.b, self.a
        second, after = b.add_index(k, 1), b.add_index(k, 2)
        for i in (k, second):
            a.set(self.diagonal(i), i, i)
        below, above = a.get(second, k), self.other(a.get(second, k))
        first, last = b.div(a.get(k, k), above), b.div(a.get(second, second), below)
        one = b.const(1.0, self.k.wide)
        # (x, y) [[p, c'], [c, q]]^-1 = ((q/c x - y) / c', (p/c' y - x) / c) / (p/c' q/c - 1)
        scale = b.div(one, b.sub(b.mul(first, last), one))

        def column(j: SSAValue) -> None:
            x, y = a.get(j, k), a.get(j, second)
            left = b.mul(b.sub(b.mul(last, x), y), b.div(scale, above))
            right = b.mul(b.sub(b.mul(first, y), x), b.div(scale, below))

            def row(i: SSAValue) -> None:
                part = b.add(
                    b.mul(a.get(i, k), self.other(left)), b.mul(a.get(i, second), self.other(right))
                )
                a.set(b.sub(a.get(i, j), part), i, j)

            b.each(j, self.count, row)
            a.set(self.diagonal(j), j, j)
            a.set(left, j, k)
            a.set(right, j, second)

        b.each(after, self.count, column)


@whole_kernel(LdlOp)
def ldl(op: Operation) -> Kernel:
    """One block of D after the other."""
    assert isinstance(op, LdlOp)
    k, (*batch, rows, _) = MatrixKernel(op), dims_of(op.x)
    b, room, count = k.b, k.room(batch, rows, rows), k.b.dim(rows)

    def matrix(index: list[Index], unit: SSAValue) -> None:
        a = room(unit)
        k.copy(k.source(0, index), a, count, count)
        steps = Indefinite(k, a, count, bool_of(op.hermitian))
        start = b.mul_index(unit, count)

        def number(place: Index, value: Index) -> None:
            b.store(b.cast(b.index(value), dtypes.i32), k.targets[1], b.add_index(start, place))

        def step(at: SSAValue, status: SSAValue) -> Sequence[SSAValue]:
            row, double, zero = steps.pivot(at)
            second = b.add_index(at, 1)
            last = b.index(b.select_index(double, second, at))
            steps.exchange(at, last, row, double)
            from_one = b.add_index(row, 1)
            signed = b.index(b.select_index(double, b.sub_index(0, from_one), from_one))
            number(at, signed)

            def two() -> Sequence[SSAValue]:
                number(second, signed)
                steps.double(at)
                return ()

            def one() -> Sequence[SSAValue]:
                b.if_(b.not_(zero), lambda: (steps.single(at), ())[1])
                return ()

            b.if_(double, two, one)
            first = b.and_(zero, b.compare_index("eq", status, 0))
            following = b.add_index(last, 1)
            return [b.index(following), b.index(b.select_index(first, second, status))]

        def unfinished(at: SSAValue, _: SSAValue) -> SSAValue:
            return b.compare_index("lt", at, count)

        _, status = b.while_([b.index(0), b.index(0)], unfinished, step)
        above = k.zero()
        k.give(0, unit, lambda i, j: b.select(b.compare_index("ge", i, j), a.get(i, j), above))
        k.give_status(2, unit, status)

    return k.each_matrix(batch, matrix)


@whole_kernel(LdlSolveOp)
def ldl_solve(op: Operation) -> Kernel:
    """Substitution down the blocks, division by them, and substitution up."""
    assert isinstance(op, LdlSolveOp)
    k, (*batch, rows, columns) = MatrixKernel(op), dims_of(op.y)
    b, room, count, width = k.b, k.room(batch, rows, columns), k.b.dim(rows), k.b.dim(columns)
    factors = k.room(batch, rows, rows)
    hermitian = bool_of(op.hermitian)
    own = dims_of(op.pivots)[:-1]

    def matrix(index: list[Index], unit: SSAValue) -> None:
        y, a = room(unit), factors(unit)
        k.copy(k.source(2, index), y, count, width)
        k.copy(k.source(0, index), a, count, count)
        place = [
            0 if dim == 1 else i for dim, i in zip(own, index[len(index) - len(own) :], strict=True)
        ]

        def pivot(i: Index) -> SSAValue:
            return b.index(b.cast(k.e.computed(op.pivots, [*place, i]), b.index_type))

        solver = Substitution(k, a, y, count, width, hermitian)
        zero = b.index(0)

        def down(at: SSAValue) -> Sequence[SSAValue]:
            value = pivot(at)
            double = b.compare_index("lt", value, 0)
            second = b.add_index(at, 1)

            def two() -> Sequence[SSAValue]:
                y.swap_rows(second, b.sub_index(b.sub_index(0, value), 1), width)
                solver.down(at, second)
                solver.divide_two(at)
                return ()

            def one() -> Sequence[SSAValue]:
                y.swap_rows(at, b.sub_index(value, 1), width)
                solver.down(at, at)
                solver.divide_one(at)
                return ()

            b.if_(double, two, one)
            return [b.index(b.add_index(b.select_index(double, second, at), 1))]

        def above(at: SSAValue) -> SSAValue:
            return b.compare_index("lt", at, count)

        b.while_([zero], above, down)

        def up(left: SSAValue) -> Sequence[SSAValue]:
            last = b.sub_index(left, 1)
            value = pivot(last)
            double = b.compare_index("lt", value, 0)
            first = b.index(b.select_index(double, b.sub_index(last, 1), last))
            solver.up(first, last)
            row = b.select_index(double, b.sub_index(0, value), value)
            y.swap_rows(last, b.sub_index(row, 1), width)
            return [first]

        def below(left: SSAValue) -> SSAValue:
            return b.compare_index("gt", left, 0)

        b.while_([b.index(count)], below, up)
        k.give(0, unit, y.get)

    return k.each_matrix(batch, matrix)


class Substitution:
    """Solves with the factors of one matrix, in place on its right-hand sides."""

    def __init__(
        self, k: MatrixKernel, a: Grid, y: Grid, count: Index, width: Index, hermitian: bool
    ):
        self.k, self.b, self.a, self.y, self.count, self.width = k, k.b, a, y, count, width
        self.hermitian = hermitian and part_of(k.wide) is not None

    def other(self, x: SSAValue) -> SSAValue:
        """The element opposite to x."""
        return self.k.conj(x) if self.hermitian else x

    def down(self, first: Index, last: Index) -> None:
        """Subtract the shares of the rows `first` to `last` from those behind them."""
        b, a, y = self.b, self.a, self.y
        after = b.add_index(last, 1)

        def column(c: SSAValue) -> None:
            def row(i: SSAValue) -> None:
                share = self.k.total(first, after, lambda j: b.mul(a.get(i, j), y.get(j, c)))
                y.set(b.sub(y.get(i, c), share), i, c)

            b.each(after, self.count, row)

        b.each(0, self.width, column)

    def up(self, first: Index, last: Index) -> None:
        """Subtract the shares of the rows behind `last` from the rows `first` to `last`."""
        b, a, y = self.b, self.a, self.y
        after = b.add_index(last, 1)

        def row(j: SSAValue) -> None:
            def column(c: SSAValue) -> None:
                share = self.k.total(
                    after, self.count, lambda i: b.mul(self.other(a.get(i, j)), y.get(i, c))
                )
                y.set(b.sub(y.get(j, c), share), j, c)

            b.each(0, self.width, column)

        b.each(first, after, row)

    def divide_one(self, i: Index) -> None:
        """Divide a row by its block of 1 x 1."""
        b, pivot = self.b, self.a.get(i, i)
        b.each(0, self.width, lambda c: self.y.set(b.div(self.y.get(i, c), pivot), i, c))

    def divide_two(self, i: Index) -> None:
        """Divide two rows by their block of 2 x 2."""
        b, a, y = self.b, self.a, self.y
        j = b.add_index(i, 1)
        below, above = a.get(j, i), self.other(a.get(j, i))
        first, last = b.div(a.get(i, i), above), b.div(a.get(j, j), below)
        scale = b.sub(b.mul(first, last), b.const(1.0, self.k.wide))

        def column(c: SSAValue) -> None:
            upper, lower = b.div(y.get(i, c), above), b.div(y.get(j, c), below)
            y.set(b.div(b.sub(b.mul(last, upper), lower), scale), i, c)
            y.set(b.div(b.sub(b.mul(first, lower), upper), scale), j, c)

        b.each(0, self.width, column)
