"""Ops whose result extents are data: one kernel finds the extents, a second fills the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from xdsl.ir import Operation, SSAValue

from lowering.generic.kernels import whole_kernel
from lowering.generic.whole import WORD_BYTES, WholeKernelBuilder
from lowering.kern.builder import Index, KernBuilder
from lowering.kernel import Kernel
from lowering.program.checks import Checks
from torsh_dialect import dtypes
from torsh_dialect.attributes import str_of
from torsh_dialect.dims import Dim, broadcast_shapes
from torsh_dialect.ops.datadependent import MaskedSelectOp, NonzeroOp
from torsh_dialect.ops.shape import RangeOp
from torsh_dialect.types import dims_of, element_type

Visit = Callable[[list[Index], SSAValue], None]
"""Builds what is done for an element that counts: from its index and how many came before."""


def visited(
    k: WholeKernelBuilder,
    dims: Sequence[Dim],
    counts: Callable[[list[Index]], SSAValue],
    visit: Visit,
) -> None:
    """Visit, in row-major order, the elements that count."""
    b = k.b

    def level(index: list[Index], total: SSAValue) -> SSAValue:
        if len(index) == len(dims):
            some = counts(index)
            b.if_(some, lambda: visit(index, total) or ())
            return b.index(b.add_index(total, b.cast(some, b.index_type)))
        extent = b.dim(dims[len(index)])
        return b.for_(0, extent, lambda i, *t: [level([*index, i], t[0])], [total])[0]

    level([], b.index(0))


def count(
    k: WholeKernelBuilder, dims: Sequence[Dim], counts: Callable[[list[Index]], SSAValue]
) -> SSAValue:
    """How many elements count, rows side by side in lanes."""
    b = k.b
    if not dims:
        return b.cast(counts([]), b.index_type)
    zero = b.const(0, dtypes.i64)

    def together(*both: SSAValue) -> Sequence[SSAValue]:
        return [b.add(*both)]

    def row(index: list[Index]) -> SSAValue:
        def one(i: SSAValue) -> Sequence[SSAValue]:
            return [b.cast(counts([*index, i]), dtypes.i64)]

        return b.reduce(0, b.dim(dims[-1]), [zero], one, together)[0]

    def level(index: list[Index], total: SSAValue) -> SSAValue:
        if len(index) == len(dims) - 1:
            return b.add(total, row(index))
        extent = b.dim(dims[len(index)])
        return b.for_(0, extent, lambda i, *t: [level([*index, i], t[0])], [total])[0]

    return b.cast(level([], zero), b.index_type)


def measured(
    op: Operation,
    symbol: str,
    build: Callable[[WholeKernelBuilder, SSAValue | None], None],
) -> Kernel:
    """The two kernels of an op with one extent; `build` gets the word for it, or None to fill."""
    first, second = WholeKernelBuilder(op, writes=False), WholeKernelBuilder(op)
    found = first.workspace(WORD_BYTES, first.b.index_type)
    second.workspace(WORD_BYTES, second.b.index_type)
    first.b.each(first.lo, first.hi, lambda _: build(first, found))
    second.b.each(second.lo, second.hi, lambda _: build(second, None))
    return second.finish(1, 1, first.finish(1, 1), (symbol,))


def picked(
    op: NonzeroOp | MaskedSelectOp,
    dims: Sequence[Dim],
    counts: Callable[[WholeKernelBuilder, list[Index]], SSAValue],
    visit: Callable[[WholeKernelBuilder, list[Index], SSAValue], None],
) -> Kernel:
    """Elements that count (a bool) are counted in lanes, then visited in order, with a number."""

    def build(k: WholeKernelBuilder, found: SSAValue | None) -> None:
        if found is None:
            visited(k, dims, partial(counts, k), partial(visit, k))
        else:
            k.b.store(count(k, dims, partial(counts, k)), found, 0)

    return measured(op, str_of(op.count), build)


@whole_kernel(NonzeroOp)
def nonzero(op: Operation) -> Kernel:
    """The index of each element that is not 0."""
    assert isinstance(op, NonzeroOp)
    dims = dims_of(op.x)

    def counts(k: WholeKernelBuilder, index: list[Index]) -> SSAValue:
        x = k.e.computed(op.x, index)
        return x if x.type == dtypes.i1 else k.b.ne(x, k.b.const(0, x.type))

    def visit(k: WholeKernelBuilder, index: list[Index], row: SSAValue) -> None:
        b = k.b
        start = b.mul_index(row, len(dims))
        for axis, at in enumerate(index):
            value = b.cast(b.index(at), dtypes.i64)
            b.store(value, k.targets[0], b.add_index(start, axis))

    return picked(op, dims, counts, visit)


@whole_kernel(MaskedSelectOp)
def masked_select(op: Operation) -> Kernel:
    """Each element where the mask is set, both broadcast."""
    assert isinstance(op, MaskedSelectOp)
    dims = broadcast_shapes(dims_of(op.x), dims_of(op.mask))

    def counts(k: WholeKernelBuilder, index: list[Index]) -> SSAValue:
        return k.e.element(op.mask, k.e.broadcast(op.mask, index, dims))

    def visit(k: WholeKernelBuilder, index: list[Index], place: SSAValue) -> None:
        value = k.e.element(op.x, k.e.broadcast(op.x, index, dims))
        k.b.store(value, k.targets[0], place)

    return picked(op, dims, counts, visit)


@whole_kernel(RangeOp)
def range_(op: Operation) -> Kernel:
    """Counted first where the extent is not known; floats are computed in f64."""
    assert isinstance(op, RangeOp)
    if op.length is not None:
        return measured(op, str_of(op.length), lambda k, found: _range(op, k, found))
    k = WholeKernelBuilder(op)
    k.b.each(k.lo, k.hi, lambda _: _range(op, k, None))
    return k.finish(1, 1)


def _range(op: RangeOp, k: WholeKernelBuilder, found: SSAValue | None) -> None:
    b, element = k.b, element_type(op.y)
    floating = dtypes.is_float(element)
    compute = dtypes.f64 if floating else dtypes.i64
    start, limit, step = (b.cast(k.e.computed(v, []), compute) for v in op.operands)
    if found is not None:
        zero = b.const(0, compute)
        known = b.ne(step, zero)
        b.check(k.record, known, 0, 0, Checks.STEP)
        count = b.max_index(_steps(b, start, limit, step), 0)
        b.store(b.index(count), found, 0)
        return
    count = b.dim(dims_of(op.y)[0])

    def put(i: SSAValue) -> None:
        place = b.cast(b.index(i), compute)
        b.store(b.cast(b.add(start, b.mul(step, place)), element), k.targets[0], i)

    b.lanes(0, count, put)


def _steps(b: KernBuilder, start: SSAValue, limit: SSAValue, step: SSAValue) -> SSAValue:
    """ceil((limit - start) / step)."""
    span = b.sub(limit, start)
    if b.is_float(span):
        return b.cast(b.ceil(b.div(span, step)), b.index_type)
    zero = b.const(0, span.type)
    whole, rest = b.div(span, step), b.rem(span, step)
    along = b.eq(b.lt(rest, zero), b.lt(step, zero))
    up = b.and_(b.ne(rest, zero), along)
    count = b.add(whole, b.cast(up, span.type))
    # A span of 2^63 and more wraps to the other sign; so many elements are refused as any are.
    wrapped = b.ne(b.lt(span, zero), b.lt(limit, start))
    forward = b.eq(b.lt(limit, start), b.lt(step, zero))
    far = b.select(forward, b.const((1 << 63) - 1, span.type), zero)
    return b.cast(b.select(wrapped, far, count), b.index_type)
