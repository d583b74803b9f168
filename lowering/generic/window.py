"""Convolutions and pools by element: loops over the window, masked where it leaves the input."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import UnitAttr
from xdsl.ir import Operation, SSAValue

from lowering.generic.contract import multiply_add
from lowering.generic.evaluator import Evaluator, compute_type, result_element, rule
from lowering.generic.sliding import joined, over_window, spatial_of
from lowering.kern.builder import Index
from lowering.kern.dialect import LoadOp
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.kinds import Geometry
from torsh_dialect.ops.conv import ConvOp, ConvTransposeOp
from torsh_dialect.ops.pool import AvgPoolOp, LpPoolOp, MaxPoolIndicesOp, MaxPoolOp, Pool
from torsh_dialect.types import dims_of, element_type


@rule(ConvOp)
def conv(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """One chain over channels and taps, outermost channel first."""
    assert isinstance(op, ConvOp)
    b = e.builder
    batch, filter_, place = spatial_of(op, index)
    filters, each = dims_of(op.w)[:2]
    groups = 1 if op.groups is None else op.groups.value.data
    compute = compute_type(result_element(op))
    first: Index = 0
    if groups > 1:
        group = b.floordiv(filter_, b.floordiv(b.dim(filters), groups))
        first = b.mul_index(group, b.dim(each))
    rank = len(place)

    def channel(c: SSAValue, *acc: SSAValue) -> Sequence[SSAValue]:
        def tap(
            at: Sequence[Index], inside: SSAValue | None, total: Sequence[SSAValue]
        ) -> Sequence[SSAValue]:
            x = _element(e, op, joined(op, batch, b.add_index(first, c), at[:rank]), inside, where)
            w = b.cast(e.computed(op.w, [filter_, c, *at[rank:]], where), compute)
            return [multiply_add(b, [b.cast(x, compute), w], total[0])]

        return over_window(e, op, place, acc, tap)

    total = b.for_(0, b.dim(each), channel, [b.const(0, compute)], pure=True)[0]
    if op.bias is not None:
        total = b.add(total, b.cast(e.computed(op.bias, [filter_], where), compute))
    return b.cast(total, result_element(op))


@rule(ConvTransposeOp)
def conv_transpose(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """One chain over channels and taps; a tap counts where it meets an element of x."""
    assert isinstance(op, ConvTransposeOp)
    b, g = e.builder, op.geometry()
    batch, filter_, place = spatial_of(op, index)
    _, channels, spatial = op.split(op.x)
    groups = 1 if op.groups is None else op.groups.value.data
    each = b.dim(dims_of(op.w)[1])
    group = 0 if groups == 1 else b.floordiv(filter_, each)
    own = b.sub_index(filter_, b.mul_index(group, each))
    share = b.floordiv(b.dim(channels), groups)
    compute, rank = compute_type(result_element(op)), len(place)

    def channel(c: SSAValue, *acc: SSAValue) -> Sequence[SSAValue]:
        at = b.add_index(b.mul_index(group, share), c)

        def tap(
            position: list[Index], taps: list[Index], inside: SSAValue | None, total: SSAValue
        ) -> SSAValue:
            axis = len(position)
            if axis == rank:
                x = _element(e, op, joined(op, batch, at, position), inside, where)
                w = b.cast(e.computed(op.w, [at, own, *taps], where), compute)
                return multiply_add(b, [b.cast(x, compute), w], total)

            def one(k: SSAValue, *carried: SSAValue) -> Sequence[SSAValue]:
                moved = b.add_index(place[axis], b.dim(g.begin[axis]))
                moved = b.sub_index(moved, b.mul_index(k, g.dilations[axis]))
                source = b.floordiv(moved, g.strides[axis])
                meets = b.compare_index("eq", b.mod(moved, g.strides[axis]), 0)
                meets = b.and_(meets, b.compare_index("ge", source, 0))
                meets = b.and_(meets, b.compare_index("lt", source, b.dim(spatial[axis])))
                both = meets if inside is None else b.and_(inside, meets)
                return [tap([*position, source], [*taps, k], both, carried[0])]

            return b.for_(0, b.dim(g.kernel[axis]), one, [total], pure=True)[0]

        return [tap([], [], None, acc[0])]

    total = b.for_(0, share, channel, [b.const(0, compute)], pure=True)[0]
    if op.bias is not None:
        total = b.add(total, b.cast(e.computed(op.bias, [filter_], where), compute))
    return b.cast(total, result_element(op))


def _element(
    e: Evaluator,
    op: ConvOp | ConvTransposeOp,
    index: Sequence[Index],
    inside: SSAValue | None,
    where: SSAValue | None,
) -> SSAValue:
    """An element of the input, 0 outside of it."""
    b = e.builder
    mask = e.both(where, inside)
    value = e.computed(op.x, index, mask)
    if inside is None or op.x in e.buffers:
        return value
    return b.select(inside, value, b.const(0, value.type))


def _pooled(
    e: Evaluator,
    op: Pool,
    index: Sequence[Index],
    at: Sequence[Index],
    inside: SSAValue | None,
    where: SSAValue | None,
    other: SSAValue,
) -> SSAValue:
    """The element at the position `at` of the window at `index`; `other` outside of the input."""
    b = e.builder
    batch, channel, place = spatial_of(op, index)
    position = joined(op, batch, channel, at[: len(place)])
    if place[0] in e.roomy:
        operands = [e.buffers[op.x], b.index(e.flat(e.dims(op.x), position))]
        x = b.pure(LoadOp, operands, element_type(op.x), roomy=UnitAttr())
        x = b.cast(x, other.type)
    else:
        x = e.computed(op.x, position, e.both(where, inside))
    return x if inside is None else b.select(inside, x, other)


@rule(MaxPoolOp)
def max_pool(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The first of the largest elements inside; the last NaN wins."""
    assert isinstance(op, MaxPoolOp)
    b = e.builder
    place = spatial_of(op, index)[2]
    low = b.const(lowest_of(compute_type(result_element(op))), compute_type(result_element(op)))

    def tap(
        at: Sequence[Index], inside: SSAValue | None, best: Sequence[SSAValue]
    ) -> Sequence[SSAValue]:
        x = _pooled(e, op, index, at, inside, where, low)
        if not b.is_float(x):
            return [b.max(best[0], x)]
        larger = b.select(b.gt(x, best[0]), x, best[0])
        return [b.select(b.ne(x, x), x, larger)]

    result = over_window(e, op, place, [low], tap, skips=True)[0]
    return b.cast(result, result_element(op))


def lowest_of(element: object) -> float | int:
    """The identity of the maximum in an element type."""
    row = dtype_of(element)  # pyright: ignore[reportArgumentType]
    if row.kind == "float":
        return float("-inf")
    return 0 if row.kind in ("uint", "bool") else -(1 << (row.bits - 1))


@rule(MaxPoolIndicesOp)
def max_pool_indices(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The largest element (result 0), or the position of the first of the largest (result 1)."""
    assert isinstance(op, MaxPoolIndicesOp)
    b = e.builder
    place = spatial_of(op, index)[2]
    compute = compute_type(result_element(op))
    low = b.const(lowest_of(compute), compute)
    spatial = op.split(op.x)[2]
    nowhere = b.const(-1, dtypes.i64)

    def tap(
        at: Sequence[Index], inside: SSAValue | None, best: Sequence[SSAValue]
    ) -> Sequence[SSAValue]:
        position = at[: len(place)]
        x = _pooled(e, op, index, at, inside, where, low)
        flat = b.cast(b.index(e.flat(spatial, position)), dtypes.i64)
        wins = b.or_(b.gt(x, best[0]), b.lt(best[1], b.const(0, dtypes.i64)))
        if b.is_float(x):
            wins = b.or_(wins, b.and_(b.ne(x, x), b.eq(best[0], best[0])))
        if inside is not None:
            wins = b.and_(wins, inside)
        return [b.select(wins, x, best[0]), b.select(wins, flat, best[1])]

    values = over_window(e, op, place, [low, nowhere], tap, skips=True)
    return b.cast(values[0], result_element(op)) if number == 0 else values[1]


@rule(AvgPoolOp, LpPoolOp)
def avg_pool(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The sum (of powers) over the window, divided by the elements that count (or rooted)."""
    assert isinstance(op, AvgPoolOp | LpPoolOp)
    b = e.builder
    place = spatial_of(op, index)[2]
    spatial = op.split(op.x)[2]
    compute = compute_type(result_element(op))
    zero, one = b.const(0, compute), b.const(1, compute)
    padded = isinstance(op, AvgPoolOp) and bool_of(op.include_pad)
    beyond = bool_of(op.ceil_mode)

    def tap(
        at: Sequence[Index], inside: SSAValue | None, acc: Sequence[SSAValue]
    ) -> Sequence[SSAValue]:
        position = at[: len(place)]
        x = _pooled(e, op, index, at, inside, where, zero)
        if isinstance(op, LpPoolOp):
            return [b.add(acc[0], b.math("pow", b.abs(x), b.const(op.p.value.data, compute)))]
        counted = inside
        if padded:
            counted = _padded_inside(e, op.geometry(), spatial, position) if beyond else None
        count = one if counted is None else b.select(counted, one, zero)
        return [b.add(acc[0], x), b.add(acc[1], count)]

    init = [zero] if isinstance(op, LpPoolOp) else [zero, zero]
    sums = over_window(e, op, place, init, tap, skips=not padded)
    if isinstance(op, LpPoolOp):
        root = b.math("pow", sums[0], b.const(1 / op.p.value.data, compute))
        return b.cast(root, result_element(op))
    divisor = sums[1] if op.divisor is None else b.const(op.divisor.value.data, compute)
    return b.cast(b.div(sums[0], divisor), result_element(op))


def _padded_inside(
    e: Evaluator, g: Geometry, spatial: Sequence[Dim], position: Sequence[Index]
) -> SSAValue | None:
    """Whether a position lies in the input or its padding."""
    b = e.builder
    result: SSAValue | None = None
    for axis, at in enumerate(position):
        end = b.add_index(b.dim(spatial[axis]), b.dim(g.end[axis]))
        ok = b.compare_index("lt", at, end)
        result = ok if result is None else b.and_(result, ok)
    return result
