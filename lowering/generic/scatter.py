"""Scatters: fold the updates, one after the other, into a copy of the operand.

The host makes the copy before the kernel runs, unless the result has the operand's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation

from lowering.generic.evaluator import compute_type
from lowering.generic.kernels import whole_kernel, whole_kernel_of_kind
from lowering.generic.whole import WholeKernelBuilder
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from lowering.program.checks import Checks
from torsh_dialect.kinds import Scatter
from torsh_dialect.ops.scatter import DynamicUpdateSliceOp
from torsh_dialect.types import dims_of, element_type

USUAL_LINE = 64
"""Elements of a line whose length is not known."""


@whole_kernel_of_kind(Scatter)
def scatter(op: Operation) -> Kernel:
    """One unit, so that updates to one place are folded in their order."""
    assert isinstance(op, Scatter)
    k = WholeKernelBuilder(op)
    b, target = k.b, k.targets[0]
    updates, element = op.operands[-1], element_type(op.results[0])
    dims, compute = dims_of(op.results[0]), compute_type(element_type(op.results[0]))

    def read(operand: int, at: Sequence[Index]) -> Index:
        return b.cast(k.e.element(op.operands[operand], at), b.index_type)

    def update(index: list[Index]) -> None:
        pick = op.place(k.e.indices, index, read)
        mask = pick.where
        for dim, at in zip(dims, pick.index, strict=True):
            extent = b.dim(dim)
            inside = b.and_(b.compare_index("ge", at, 0), b.compare_index("lt", at, extent))
            asked = inside if mask is None else b.or_(inside, b.not_(mask))
            b.check(k.record, asked, at, extent, Checks.INDEX)
            mask = inside if mask is None else b.and_(mask, inside)
        place = k.e.flat(dims, pick.index)
        old = b.cast(b.load_now(target, place, mask), compute)
        new = op.fold(b, old, k.e.computed(updates, index))
        b.store(b.cast(new, element), target, place, mask)

    def all_updates(_: object) -> None:
        k.nest(dims_of(updates), update)

    b.each(k.lo, k.hi, all_updates)
    return k.finish(1, 1)


@whole_kernel(DynamicUpdateSliceOp)
def update_slice(op: Operation) -> Kernel:
    """No two updates meet: each line of them is copied by itself."""
    assert isinstance(op, DynamicUpdateSliceOp)
    dims, sizes = dims_of(op.x), dims_of(op.updates)
    if not dims:
        return scatter(op)
    k = WholeKernelBuilder(op)
    b, starts = k.b, list[Index]()
    for axis, (extent, size) in enumerate(zip(dims, sizes, strict=True)):
        asked = b.cast(b.load(k.sources[1], axis), b.index_type)
        starts.append(b.max_index(b.min_index(asked, b.dim(extent - size)), 0))

    def line(index: list[Index], _: object) -> None:
        source = k.e.flat(sizes, index)
        target = k.e.flat(dims, [b.add_index(s, i) for s, i in zip(starts, index, strict=True)])

        def move(i: Index) -> None:
            value = b.load(k.sources[2], b.add_index(source, i))
            b.store(value, k.targets[0], b.add_index(target, i))

        b.lanes(0, b.dim(sizes[-1]), move)

    last = len(sizes) - 1
    k.lines(sizes, last, line)
    width = sizes[last]
    work = width if isinstance(width, int) else USUAL_LINE
    return k.finish(k.line_count(sizes, last), work)
