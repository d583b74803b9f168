"""Non-maximum suppression: boxes in order of score, each kept if it overlaps no kept one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.kernels import whole_kernel
from lowering.generic.merge import merge_sort
from lowering.generic.whole import WORD_BYTES, WholeKernelBuilder
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of, str_of
from torsh_dialect.ops.detection import NonMaxSuppressionOp
from torsh_dialect.types import dims_of

Group = Callable[[SSAValue, SSAValue, Index], None]
"""Builds what is done for a batch entry, a class, and the place of their list."""

Corners = tuple[SSAValue, SSAValue, SSAValue, SSAValue]
"""The smaller and the larger coordinate along the first axis, then along the second."""


class _Boxes:
    """Reads boxes and scores.

    Workspaces: how many boxes are kept; those of each group (batch entry and class) one after the
    other; positions by score, and room to sort.
    """

    def __init__(self, op: NonMaxSuppressionOp, *, writes: bool):
        self.op = op
        self.k = WholeKernelBuilder(op, writes=writes)
        self.b = self.k.b
        self.batches, self.classes, self.boxes = dims_of(op.scores)
        words = self.b.index_type
        groups = self.batches * self.classes
        self.found = self.k.workspace(WORD_BYTES, words)
        self.kept = self.k.workspace(groups * (self.boxes + 1) * WORD_BYTES, words)
        self.sorted = self.k.workspace(self.boxes * 2 * WORD_BYTES, words)
        self.count = self.b.dim(self.boxes)

    def each_group(self, body: Group) -> None:
        """`body(batch, class, place)` with the place of the group's list of kept boxes."""
        b = self.b

        def group(batch: SSAValue, kind: SSAValue) -> None:
            number = b.add_index(b.mul_index(batch, b.dim(self.classes)), kind)
            body(batch, kind, b.mul_index(number, b.add_index(self.count, 1)))

        def entry(batch: SSAValue) -> None:
            b.each(0, b.dim(self.classes), lambda kind: group(batch, kind))

        b.each(0, b.dim(self.batches), entry)

    def corners(self, batch: Index, box: Index) -> Corners:
        b, e = self.b, self.k.e
        p, q, r, t = (e.computed(self.op.boxes, [batch, box, n]) for n in range(4))
        if bool_of(self.op.centred):
            half = b.const(0.5, p.type)
            r, t = b.mul(r, half), b.mul(t, half)
            return b.sub(p, r), b.add(p, r), b.sub(q, t), b.add(q, t)
        return b.min(p, r), b.max(p, r), b.min(q, t), b.max(q, t)

    def overlap(self, batch: Index, first: Index, second: Index) -> SSAValue:
        """Intersection over union; 0 for boxes that do not meet or are empty."""
        b = self.b
        x, y = self.corners(batch, first), self.corners(batch, second)
        zero = b.const(0.0, x[0].type)

        def shared(axis: int) -> SSAValue:
            return b.sub(b.min(x[axis + 1], y[axis + 1]), b.max(x[axis], y[axis]))

        def area(box: Corners) -> SSAValue:
            return b.mul(b.sub(box[1], box[0]), b.sub(box[3], box[2]))

        common = b.mul(shared(0), shared(2))
        whole = b.sub(b.add(area(x), area(y)), common)
        meet = b.and_(b.gt(shared(0), zero), b.gt(shared(2), zero))
        solid = b.and_(b.and_(b.gt(area(x), zero), b.gt(area(y), zero)), b.gt(whole, zero))
        return b.select(b.and_(meet, solid), b.div(common, whole), zero)


@whole_kernel(NonMaxSuppressionOp)
def non_max_suppression(op: Operation) -> Kernel:
    """The kernel that chooses, and one that lists what it chose."""
    assert isinstance(op, NonMaxSuppressionOp)
    s = _Boxes(op, writes=True)
    b, target = s.b, s.k.targets[0]

    def unit(_: SSAValue) -> None:
        b.store(b.index(0), s.found, 0)

        def listed(batch: SSAValue, kind: SSAValue, place: Index) -> None:
            def row(i: SSAValue) -> None:
                total = b.load_now(s.found, 0)
                box = b.load_now(s.kept, b.add_index(b.add_index(place, 1), i))
                for column, value in enumerate((batch, kind, box)):
                    at = b.add_index(b.mul_index(total, 3), column)
                    b.store(b.cast(value, dtypes.i64), target, at)
                b.store(b.index(b.add_index(total, 1)), s.found, 0)

            b.each(0, b.load_now(s.kept, place), row)

        s.each_group(listed)

    b.each(s.k.lo, s.k.hi, unit)
    return s.k.finish(1, 1, _choose(op), (str_of(op.count),))


def _choose(op: NonMaxSuppressionOp) -> Kernel:
    s = _Boxes(op, writes=False)
    b, e = s.b, s.k.e
    most = b.cast(e.element(op.most, []), b.index_type)
    limit = e.computed(op.overlap, [])

    def score(batch: Index, kind: Index, box: Index) -> SSAValue:
        return e.computed(op.scores, [batch, kind, box])

    def chosen(batch: SSAValue, kind: SSAValue, place: Index) -> None:
        def before(p: SSAValue, q: SSAValue) -> SSAValue:
            x, y = score(batch, kind, p), score(batch, kind, q)
            return b.or_(b.gt(x, y), b.and_(b.eq(x, x), b.ne(y, y)))

        start = merge_sort(b, s.sorted, 0, s.count, before)

        def consider(i: SSAValue, *size: SSAValue) -> Sequence[SSAValue]:
            box = b.load_now(s.sorted, b.add_index(start, i))
            fits = b.compare_index("lt", size[0], most)
            if op.least is not None:
                least = e.computed(op.least, [])
                fits = b.and_(fits, b.gt(score(batch, kind, box), least))
            kept = b.add_index(place, 1)

            def going(j: SSAValue, free: SSAValue) -> SSAValue:
                return b.and_(free, b.compare_index("lt", j, size[0]))

            def compare(j: SSAValue, free: SSAValue) -> Sequence[SSAValue]:
                other = b.load_now(s.kept, b.add_index(kept, j))
                clear = b.le(s.overlap(batch, box, other), limit)
                return [b.index(b.add_index(j, 1)), clear]

            taken = b.while_([b.index(0), fits], going, compare)[1]
            b.store(box, s.kept, b.add_index(kept, size[0]), taken)
            return [b.index(b.add_index(size[0], b.cast(taken, b.index_type)))]

        total = b.for_(0, s.count, consider, [b.index(0)])[0]
        b.store(total, s.kept, place)
        b.store(b.index(b.add_index(b.load_now(s.found, 0), total)), s.found, 0)

    def unit(_: SSAValue) -> None:
        b.store(b.index(0), s.found, 0)
        s.each_group(chosen)

    b.each(s.k.lo, s.k.hi, unit)
    return s.k.finish(1, 1)
