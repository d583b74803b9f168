"""The different elements or slices of a tensor: positions are sorted, equal neighbours counted."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.kernels import whole_kernel
from lowering.generic.merge import merge_sort
from lowering.generic.ordering import precedes
from lowering.generic.whole import WORD_BYTES, WholeKernelBuilder, size_of
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of, str_of
from torsh_dialect.dims import Dim, product
from torsh_dialect.ops.datadependent import UniqueOp
from torsh_dialect.ops.join import one_axis
from torsh_dialect.types import dims_of


class _Slices:
    """The things that are compared: elements of a flat tensor, or slices along an axis.

    Workspaces: how many differ; positions in sorted order, and room to sort; the number of each
    one's value among those that differ.
    """

    def __init__(self, op: UniqueOp, *, writes: bool):
        self.op = op
        self.k = WholeKernelBuilder(op, writes=writes)
        self.b = self.k.b
        dims = dims_of(op.x)
        axis = None if op.axis is None else one_axis(op.axis, len(dims))
        self.extent: Dim = size_of(op.x) if axis is None else dims[axis]
        self.before: Dim = 1 if axis is None else product(dims[:axis])
        self.after: Dim = 1 if axis is None else product(dims[axis + 1 :])
        words = self.b.index_type
        self.found = self.k.workspace(2 * WORD_BYTES, words)
        self.sorted = self.k.workspace(self.extent * 2 * WORD_BYTES, words)
        self.numbers = self.k.workspace(self.extent * WORD_BYTES, words)
        self.count = self.b.dim(self.extent)

    def value(self, slice_: Index, place: Index) -> SSAValue:
        """Element `place` of a slice."""
        b, after = self.b, self.b.dim(self.after)
        outer, inner = (0, place) if self.before == 1 else (b.floordiv(place, after), None)
        inner = b.mod(place, after) if inner is None else inner
        row = b.add_index(b.mul_index(outer, self.count), slice_)
        flat = b.add_index(b.mul_index(row, after), inner)
        x = b.load(self.k.sources[0], flat)
        return b.cast(x, dtypes.f32) if _is_half(x) else x

    def size(self) -> Index:
        """Elements of a slice."""
        return self.b.mul_index(self.b.dim(self.before), self.b.dim(self.after))

    def precedes(self, p: SSAValue, q: SSAValue) -> SSAValue:
        """Whether slice p comes before slice q, lexicographically."""
        b = self.b
        if self.size() == 1:
            return precedes(b, self.value(p, 0), self.value(q, 0), descending=False)
        false = b.const(False, dtypes.i1)

        def undecided(i: SSAValue, less: SSAValue, more: SSAValue) -> SSAValue:
            decided = b.or_(less, more)
            return b.and_(b.compare_index("lt", i, self.size()), b.not_(decided))

        def step(i: SSAValue, less: SSAValue, more: SSAValue) -> Sequence[SSAValue]:
            x, y = self.value(p, i), self.value(q, i)
            following = b.index(b.add_index(i, 1))
            less = precedes(b, x, y, descending=False)
            return [following, less, precedes(b, y, x, descending=False)]

        return b.while_([b.index(0), false, false], undecided, step)[1]

    def differ(self, p: SSAValue, q: SSAValue) -> SSAValue:
        """Whether two slices differ in an element; NaN differs from NaN."""
        b = self.b

        def step(i: SSAValue, *any_: SSAValue) -> Sequence[SSAValue]:
            return [b.or_(any_[0], b.ne(self.value(p, i), self.value(q, i)))]

        return b.for_(0, self.size(), step, [b.const(False, dtypes.i1)])[0]


def _is_half(x: SSAValue) -> bool:
    row = dtypes.dtype_of(x.type)
    return row.kind == "float" and row.bits < 32


def _measure(op: UniqueOp) -> Kernel:
    """Sort positions; number the values in sorted order; count them."""
    s = _Slices(op, writes=False)
    b = s.b

    def unit(_: SSAValue) -> None:
        start = merge_sort(b, s.sorted, 0, s.count, s.precedes)
        b.store(start, s.found, 1)

        def number(i: SSAValue, *seen: SSAValue) -> Sequence[SSAValue]:
            own = b.load_now(s.sorted, b.add_index(start, i))
            last = b.index(b.max_index(b.sub_index(i, 1), 0))
            other = b.load_now(s.sorted, b.add_index(start, last))
            new = b.or_(b.compare_index("eq", i, 0), s.differ(other, own))
            total = b.index(b.add_index(seen[0], b.cast(new, b.index_type)))
            b.store(b.index(b.sub_index(total, 1)), s.numbers, own)
            return [total]

        b.store(b.for_(0, s.count, number, [b.index(0)])[0], s.found, 0)

    b.each(s.k.lo, s.k.hi, unit)
    return s.k.finish(1, 1)


@whole_kernel(UniqueOp)
def unique(op: Operation) -> Kernel:
    """The sorting kernel, and one that writes the four results from its workspaces."""
    assert isinstance(op, UniqueOp)
    s = _Slices(op, writes=True)
    b, (values, first, numbers, counts) = s.b, s.k.targets
    different = b.dim(dims_of(op.first)[0])
    zero, one = b.const(0, dtypes.i64), b.const(1, dtypes.i64)

    def unit(_: SSAValue) -> None:
        b.each(0, different, lambda i: b.store(zero, counts, i))
        if bool_of(op.sorted):
            start = b.load_now(s.found, 1)
            final = s.numbers
        else:
            start, final = None, s.sorted
            _renumber(s, different)

        def place(i: SSAValue) -> None:
            own = b.index(i) if start is None else b.load_now(s.sorted, b.add_index(start, i))
            group = b.load_now(final, own)
            b.store(b.cast(group, dtypes.i64), numbers, own)
            before = b.load_now(counts, group)
            b.store(b.add(before, one), counts, group)
            b.if_(b.eq(before, zero), lambda: _first(group, own))

        def _first(group: SSAValue, own: SSAValue) -> Sequence[SSAValue]:
            b.store(b.cast(own, dtypes.i64), first, group)
            after = b.dim(s.after)

            def row(outer: SSAValue) -> None:
                source = b.add_index(b.mul_index(outer, s.count), own)
                target = b.add_index(b.mul_index(outer, different), group)
                source, target = b.mul_index(source, after), b.mul_index(target, after)

                def move(i: SSAValue) -> None:
                    x = b.load(s.k.sources[0], b.add_index(source, i))
                    b.store(x, values, b.add_index(target, i))

                b.lanes(0, after, move)

            b.each(0, b.dim(s.before), row)
            return ()

        b.each(0, s.count, place)

    b.each(s.k.lo, s.k.hi, unit)
    return s.k.finish(1, 1, _measure(op), (str_of(op.count),))


def _renumber(s: _Slices, different: Index) -> None:
    """Number values in order of appearance: in `sorted`, whose order is not needed any more.

    Its second half maps numbers in sorted order to the new ones, or -1.
    """
    b = s.b
    none = b.index(-1)
    b.each(0, different, lambda i: b.store(none, s.sorted, b.add_index(s.count, i)))

    def step(i: SSAValue, *seen: SSAValue) -> Sequence[SSAValue]:
        place = b.add_index(s.count, b.load_now(s.numbers, i))
        known = b.load_now(s.sorted, place)
        new = b.compare_index("lt", known, 0)
        number = b.index(b.select_index(new, seen[0], known))
        b.store(number, s.sorted, place)
        b.store(number, s.sorted, i)
        return [b.index(b.add_index(seen[0], b.cast(new, b.index_type)))]

    b.for_(0, s.count, step, [b.index(0)])
