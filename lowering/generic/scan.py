"""Running folds along an axis: one chain for each line, so that the order is the definition's."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import compute_type
from lowering.generic.kernels import whole_kernel_of_kind
from lowering.generic.whole import WholeKernelBuilder, at_axis
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of
from torsh_dialect.dims import product
from torsh_dialect.kinds import Scan
from torsh_dialect.ops.scan import PositionScan
from torsh_dialect.types import dims_of, element_type


@whole_kernel_of_kind(Scan)
def scan(op: Operation) -> Kernel:
    """A unit is a line along the innermost axis, or all lines side by side behind another."""
    assert isinstance(op, Scan)
    k = WholeKernelBuilder(op)
    b, dims = k.b, dims_of(op.x)
    result, compute = element_type(op.y), compute_type(element_type(op.x))
    axis = op.axis.value.data % max(len(dims), 1)
    extent: Index = b.dim(dims[axis]) if dims else 1

    def lifted(x: SSAValue, place: Index) -> tuple[SSAValue, ...]:
        if isinstance(op, PositionScan):
            return op.lift(b, x, b.cast(b.index(place), dtypes.i64))
        return (x,)

    def finished(total: tuple[SSAValue, ...]) -> SSAValue:
        value = op.finish(b, total) if isinstance(op, PositionScan) else total[0]
        return b.cast(value, result)

    def line(index: list[Index], unit: SSAValue) -> None:
        def step(i: SSAValue, *total: SSAValue) -> Sequence[SSAValue]:
            last = b.sub_index(b.sub_index(extent, 1), i)
            place = last if bool_of(op.reverse) else i
            at = at_axis(index, axis, place) if dims else []
            following = op.combine(b, total, lifted(k.e.computed(op.x, at), place))
            given = total if bool_of(op.exclusive) else following
            b.store(finished(tuple(given)), k.targets[0], k.e.flat(dims, at))
            return following

        b.for_(0, extent, step, op.identity(b, compute), nonempty=True)

    alone = axis >= len(dims) - 1

    def lines() -> Sequence[SSAValue]:
        (k.lines if alone else k.side_by_side)(dims, axis, line)
        return ()

    if isinstance(extent, int):
        lines()
    else:  # what is the same for all lines stands before them if each is sure to have an element
        b.if_(b.compare_index("gt", extent, 0), lines)
    return k.finish(*((k.line_count(dims, axis), 64) if alone else (product(dims[:axis]), 4096)))
