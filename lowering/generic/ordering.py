"""Sorting and the k best of each line: every element is put at its rank, in n^2 comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import compute_type
from lowering.generic.kernels import whole_kernel
from lowering.generic.whole import WholeKernelBuilder, at_axis
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of, extents_of
from torsh_dialect.dims import Dim
from torsh_dialect.ops.sort import SortOp, TopKOp
from torsh_dialect.types import dims_of, element_type


class _Order:
    """Compares and moves elements of one line."""

    def __init__(self, op: SortOp | TopKOp):
        self.op = op
        self.k = WholeKernelBuilder(op)
        self.dims = dims_of(op.x)
        self.axis = op.axis.value.data % max(len(self.dims), 1)
        self.descending = (
            bool_of(op.descending) if isinstance(op, SortOp) else not bool_of(op.smallest)
        )

    def value(self, index: Sequence[Index], place: Index) -> SSAValue:
        """The element at `place` of a line, as it is compared."""
        at = at_axis(index, self.axis, place) if self.dims else []
        return self.k.e.computed(self.op.x, at)

    def precedes(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """Whether `a` comes strictly before `b`; NaN is above everything."""
        s = self.k.b
        if self.descending:
            a, b = b, a
        less = s.lt(a, b)
        if s.is_float(a):
            return s.or_(less, s.and_(s.eq(a, a), s.ne(b, b)))
        return less


def _rank_of(order: _Order, index: Sequence[Index], place: SSAValue, extent: Index) -> SSAValue:
    """How many elements of the line come before the one at `place`: its place when sorted."""
    b = order.k.b
    own = order.value(index, place)

    def count(i: SSAValue, *total: SSAValue) -> Sequence[SSAValue]:
        other = order.value(index, i)
        ties = b.not_(b.or_(order.precedes(own, other), order.precedes(other, own)))
        earlier = b.and_(ties, b.compare_index("lt", i, place))
        before = b.or_(order.precedes(other, own), earlier)
        return [b.add(total[0], b.select(before, b.const(1, dtypes.i64), b.const(0, dtypes.i64)))]

    return b.for_(0, extent, count, [b.const(0, dtypes.i64)])[0]


@whole_kernel(SortOp, TopKOp)
def sort(op: Operation) -> Kernel:
    """A unit is one line; every element is put at its rank if that is wanted."""
    assert isinstance(op, SortOp | TopKOp)
    order = _Order(op)
    k, b, dims, axis = order.k, order.k.b, order.dims, order.axis
    extent: Index = b.dim(dims[axis]) if dims else 1
    wanted = _wanted(op, dims, axis)
    result = dims_of(op.results[0])

    def line(index: list[Index]) -> None:
        def place_it(i: SSAValue) -> None:
            rank = b.cast(_rank_of(order, index, i, extent), b.index_type)
            at = at_axis(index, axis, rank) if dims else []
            mask = b.compare_index("lt", rank, b.dim(wanted))
            flat = k.e.flat(result, at)
            value = b.cast(order.value(index, i), compute_type(element_type(op.x)))
            b.store(b.cast(value, element_type(op.x)), k.targets[0], flat, mask)
            b.store(b.cast(i, dtypes.i64), k.targets[1], flat, mask)

        b.each(0, extent, place_it)

    k.lines(dims, axis, line)
    return k.finish(k.line_count(dims, axis), 4096)


def _wanted(op: SortOp | TopKOp, dims: Sequence[Dim], axis: int) -> Dim:
    if not dims:
        return 1
    return extents_of(op.k)[0] if isinstance(op, TopKOp) else dims[axis]
