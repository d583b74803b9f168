"""Sorting, and the k best of each line."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import compute_type
from lowering.generic.introsort import RowPositions, words_of
from lowering.generic.kernels import whole_kernel
from lowering.generic.merge import merge_sort
from lowering.generic.whole import WORD_BYTES, WholeKernelBuilder, at_axis
from lowering.kern.builder import Index, KernBuilder
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of, extents_of
from torsh_dialect.dims import Dim
from torsh_dialect.ops.sort import SortOp, TopKOp
from torsh_dialect.types import dims_of, element_type

FEW = 32
"""Elements that are found by keeping the best so far in order, instead of sorting all."""

FEW_OF = 64
"""`introselect` takes the heap where `k` is at most this part of the elements."""


def precedes(b: KernBuilder, x: SSAValue, y: SSAValue, *, descending: bool) -> SSAValue:
    """Whether `x` comes strictly before `y`; NaN is above everything."""
    if descending:
        x, y = y, x
    less = b.lt(x, y)
    if b.is_float(x):
        return b.or_(less, b.and_(b.eq(x, x), b.ne(y, y)))
    return less


class _Order:
    """Compares and moves elements of one line."""

    def __init__(self, op: SortOp | TopKOp):
        self.op = op
        self.k = WholeKernelBuilder(op)
        self.b = self.k.b
        self.dims = dims_of(op.x)
        self.axis = op.axis.value.data % max(len(self.dims), 1)
        self.extent: Dim = self.dims[self.axis] if self.dims else 1
        self.wanted = _wanted(op, self.extent)
        self.descending = (
            bool_of(op.descending) if isinstance(op, SortOp) else not bool_of(op.smallest)
        )

    def value(self, index: Sequence[Index], place: Index) -> SSAValue:
        """The element at `place` of a line, as it is compared."""
        at = at_axis(index, self.axis, place) if self.dims else []
        return self.k.e.computed(self.op.x, at)

    def target(self, index: Sequence[Index], place: Index) -> Index:
        """Where `place` of a line of the results is in memory."""
        result = dims_of(self.op.results[0])
        return self.k.e.flat(result, at_axis(index, self.axis, place) if self.dims else [])

    def put(self, index: Sequence[Index], place: Index, value: SSAValue, source: Index) -> None:
        """Set both results at `place`."""
        b, flat = self.b, self.target(index, place)
        b.store(b.cast(value, element_type(self.op.x)), self.k.targets[0], flat)
        b.store(b.cast(b.index(source), dtypes.i64), self.k.targets[1], flat)

    def precedes(self, x: SSAValue, y: SSAValue) -> SSAValue:
        return precedes(self.b, x, y, descending=self.descending)


def _wanted(op: SortOp | TopKOp, extent: Dim) -> Dim:
    return extents_of(op.k)[0] if isinstance(op, TopKOp) and dims_of(op.x) else extent


@whole_kernel(SortOp, TopKOp)
def sort(op: Operation) -> Kernel:
    """A unit is one line."""
    assert isinstance(op, SortOp | TopKOp)
    order = _Order(op)
    if op.ties is not None:
        return _by_algorithm(order)
    if isinstance(op, TopKOp) and isinstance(order.wanted, int) and 0 < order.wanted <= FEW:
        return _best_few(order)
    return _merge_sorted(order)


def _merge_sorted(order: _Order) -> Kernel:
    """Sort positions, then move the elements that are wanted."""
    k, b = order.k, order.b
    lines = k.line_count(order.dims, order.axis)
    words = k.workspace(lines * order.extent * 2 * WORD_BYTES, b.index_type)
    count = b.dim(order.extent)

    def line(index: list[Index], unit: SSAValue) -> None:
        base = b.mul_index(b.mul_index(unit, count), 2)
        found = merge_sort(
            b,
            words,
            base,
            count,
            lambda p, q: order.precedes(order.value(index, p), order.value(index, q)),
        )

        def move(i: SSAValue) -> None:
            source = b.load_now(words, b.add_index(found, i))
            order.put(index, i, order.value(index, source), source)

        b.each(0, b.dim(order.wanted), move)

    k.lines(order.dims, order.axis, line)
    return k.finish(lines, 4096)


def _by_algorithm(order: _Order) -> Kernel:
    """Move positions as the algorithm that `ties` names does, then the elements wanted."""
    k, b = order.k, order.b
    lines, size = k.line_count(order.dims, order.axis), words_of(order.extent)
    words = k.workspace(lines * size * WORD_BYTES, b.index_type)

    def line(index: list[Index], unit: SSAValue) -> None:
        rows = RowPositions(
            b,
            words,
            b.mul_index(unit, b.dim(size)),
            b.dim(order.extent),
            lambda p, q: order.precedes(order.value(index, p), order.value(index, q)),
        )
        _arrange(order, rows)

        def move(i: SSAValue) -> None:
            source = rows.at(i)
            order.put(index, i, order.value(index, source), source)

        b.each(0, b.dim(order.wanted), move)

    k.lines(order.dims, order.axis, line)
    return k.finish(lines, 4096)


def _arrange(order: _Order, rows: RowPositions) -> None:
    op, b = order.op, order.b
    if isinstance(op, SortOp):
        rows.start(rows.count)
        return rows.sort(rows.count)
    wanted = b.dim(order.wanted)
    last = b.sub_index(wanted, 1)

    def select() -> Sequence[SSAValue]:
        rows.start(rows.count)
        rows.nth_element(last)
        if not bool_of(op.unsorted):
            rows.sort(last)
        return ()

    def partial() -> Sequence[SSAValue]:
        rows.start(wanted)
        rows.partial_sort(0, wanted, rows.count, fresh=True)
        return ()

    def some() -> Sequence[SSAValue]:
        if op.ties is not None and op.ties.data == "quickselect":
            rows.start(rows.count)
            rows.quickselect(last)
            return ()
        few = b.compare_index("le", b.mul_index(wanted, FEW_OF), rows.count)
        known = b.known_bool(few)
        if known is not None:
            return partial() if known else select()
        return b.if_(few, partial, select)

    b.if_(b.compare_index("gt", wanted, 0), some)
    return None


def _best_few(order: _Order) -> Kernel:
    """Keep the best so far in order in the results; most elements are worse than the last."""
    k, b, targets = order.k, order.b, order.k.targets
    wanted = b.dim(order.wanted)
    compute = compute_type(element_type(order.op.x))

    def line(index: list[Index], unit: SSAValue) -> None:
        def kept(place: Index) -> SSAValue:
            return b.cast(b.load_now(targets[0], order.target(index, place)), compute)

        def consider(i: SSAValue, *size: SSAValue) -> Sequence[SSAValue]:
            own = order.value(index, i)
            full = b.compare_index("ge", size[0], wanted)
            last = b.index(b.max_index(b.min_index(size[0], wanted), 1))
            worst = kept(b.sub_index(last, 1))
            worse = b.and_(full, b.not_(order.precedes(own, worst)))

            def insert() -> Sequence[SSAValue]:
                free = b.index(b.min_index(size[0], b.sub_index(wanted, 1)))

                def better(place: SSAValue) -> SSAValue:
                    before = b.index(b.max_index(b.sub_index(place, 1), 0))
                    some = b.compare_index("gt", place, 0)
                    return b.and_(some, order.precedes(own, kept(before)))

                def shift(place: SSAValue) -> Sequence[SSAValue]:
                    before = b.sub_index(place, 1)
                    moved = b.load_now(targets[1], order.target(index, before))
                    order.put(index, place, kept(before), b.cast(moved, b.index_type))
                    return [b.index(before)]

                place = b.while_([free], better, shift)[0]
                order.put(index, place, own, i)
                return [b.index(b.min_index(b.add_index(size[0], 1), wanted))]

            return b.if_(worse, lambda: [size[0]], insert)

        b.for_(0, b.dim(order.extent), consider, [b.index(0)])

    k.lines(order.dims, order.axis, line)
    return k.finish(k.line_count(order.dims, order.axis), 4096)
