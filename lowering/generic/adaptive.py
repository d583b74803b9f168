"""Pools over bins of nearly equal size, and the inverse of max pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import Evaluator, compute_type, result_element, rule
from lowering.generic.kernels import whole_kernel
from lowering.generic.whole import WholeKernelBuilder
from lowering.generic.window import lowest_of
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from lowering.program.checks import Checks
from torsh_dialect import dtypes
from torsh_dialect.attributes import ints_of
from torsh_dialect.dims import Dim, product
from torsh_dialect.ops.pool import AdaptiveAvgPoolOp, AdaptiveMaxPoolOp, AdaptivePool, MaxUnpoolOp
from torsh_dialect.types import dims_of, element_type

Tap = Callable[[Sequence[Index], Sequence[SSAValue]], Sequence[SSAValue]]
"""From a position and the carried values to the next ones."""


def over_bin(
    e: Evaluator,
    op: AdaptivePool,
    place: Sequence[Index],
    init: Sequence[SSAValue],
    tap: Tap,
) -> Sequence[SSAValue]:
    """Loop over the elements of bin `place`."""
    b, output = e.builder, ints_of(op.output)
    extents = [b.dim(d) for d in dims_of(op.x)[2:]]

    def level(position: list[Index], carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        axis = len(position)
        if axis == len(output):
            return tap(position, carried)
        count, bins = extents[axis], output[axis]
        start = b.floordiv(b.mul_index(place[axis], count), bins)
        last = b.mul_index(b.add_index(place[axis], 1), count)
        end = b.floordiv(b.add_index(last, bins - 1), bins)
        return b.for_(start, end, lambda i, *acc: level([*position, i], acc), carried, pure=True)

    return level([], init)


@rule(AdaptiveAvgPoolOp)
def adaptive_avg_pool(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The sum over the bin divided by its size."""
    assert isinstance(op, AdaptiveAvgPoolOp)
    b, compute = e.builder, compute_type(result_element(op))

    def tap(position: Sequence[Index], acc: Sequence[SSAValue]) -> Sequence[SSAValue]:
        x = e.computed(op.x, [*index[:2], *position], where)
        return [b.add(acc[0], x), b.add(acc[1], b.const(1, compute))]

    zero = b.const(0, compute)
    total, count = over_bin(e, op, index[2:], [zero, zero], tap)
    return b.cast(b.div(total, count), result_element(op))


@rule(AdaptiveMaxPoolOp)
def adaptive_max_pool(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The first of the largest elements (result 0) or its position (result 1); NaN is largest."""
    assert isinstance(op, AdaptiveMaxPoolOp)
    b, compute = e.builder, compute_type(element_type(op.x))
    spatial = dims_of(op.x)[2:]

    def tap(position: Sequence[Index], best: Sequence[SSAValue]) -> Sequence[SSAValue]:
        x = e.computed(op.x, [*index[:2], *position], where)
        flat = b.cast(b.index(e.flat(spatial, position)), dtypes.i64)
        wins = b.or_(b.gt(x, best[0]), b.lt(best[1], b.const(0, dtypes.i64)))
        if b.is_float(x):
            wins = b.or_(wins, b.and_(b.ne(x, x), b.eq(best[0], best[0])))
        return [b.select(wins, x, best[0]), b.select(wins, flat, best[1])]

    init = [b.const(lowest_of(compute), compute), b.const(-1, dtypes.i64)]
    values = over_bin(e, op, index[2:], init, tap)
    return b.cast(values[0], result_element(op)) if number == 0 else values[1]


@whole_kernel(MaxUnpoolOp)
def max_unpool(op: Operation) -> Kernel:
    """A unit is one channel: zeros, then its elements one after the other."""
    assert isinstance(op, MaxUnpoolOp)
    k = WholeKernelBuilder(op)
    b, target = k.b, k.targets[0]
    size = b.dim(_spatial(op.y))
    count = b.dim(_spatial(op.x))
    zero = b.const(0, element_type(op.y))

    def channel(unit: SSAValue) -> None:
        start = b.mul_index(unit, size)
        b.lanes(0, size, lambda i: b.store(zero, target, b.add_index(start, i)))
        first = b.mul_index(unit, count)

        def put(i: SSAValue) -> None:
            at = b.cast(b.load(k.sources[1], b.add_index(first, i)), b.index_type)
            inside = b.and_(b.compare_index("ge", at, 0), b.compare_index("lt", at, size))
            b.check(k.record, inside, at, size, Checks.PLACE)
            value = b.load(k.sources[0], b.add_index(first, i))
            b.store(value, target, b.add_index(start, at), inside)

        b.each(0, count, put)

    b.each(k.lo, k.hi, channel)
    return k.finish(product(dims_of(op.x)[:2]), 256)


def _spatial(value: SSAValue) -> Dim:
    return product(dims_of(value)[2:])
