"""Gathers, shape ops and positions by element."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import Evaluator, result_element, rule
from lowering.kern.builder import Index
from lowering.program.checks import Checks
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of
from torsh_dialect.kinds import Gather, Pick, contents_of
from torsh_dialect.ops.join import one_axis
from torsh_dialect.ops.shape import AssumeOp, DimOp, ExtentsOp, IotaOp, ShapeOfOp, SizeOp
from torsh_dialect.ops.sort import SearchSortedOp
from torsh_dialect.types import dims_of, rank_of


@rule(Gather)
def gather(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """Read where the indices say; an index outside is recorded, and reads nothing."""
    assert isinstance(op, Gather)
    b = e.builder

    def read(operand: int, at: Sequence[Index]) -> Index:
        return b.cast(e.element(op.operands[operand], at, where), b.index_type)

    result: SSAValue | None = None
    for pick in reversed(list(op.pick(e.indices, index, read))):
        value, condition = _guarded(e, op, pick, where)
        if condition is None:
            result = value
        else:
            other = b.const(0, value.type) if result is None else result
            result = b.select(condition, value, other)
    assert result is not None
    return result


def _guarded(
    e: Evaluator, op: Gather, pick: Pick[Index, SSAValue], where: SSAValue | None
) -> tuple[SSAValue, SSAValue | None]:
    """An element whose index is checked against the operand's extents."""
    b = e.builder
    source = op.operands[pick.operand]
    mask = e.both(where, pick.where)
    for dim, at in zip(e.dims(source), pick.index, strict=True):
        if not isinstance(at, SSAValue) or b.is_loop_index(at):
            continue
        extent = b.dim(dim)
        inside = b.and_(b.compare_index("ge", at, 0), b.compare_index("lt", at, extent))
        if e.record is not None:
            asked = inside if mask is None else b.or_(inside, b.not_(mask))
            b.check(e.record, asked, at, extent, Checks.INDEX)
        mask = inside if mask is None else b.and_(mask, inside)
    value = e.element(source, pick.index, mask)
    if source not in e.buffers and mask is not None and pick.where is None:
        value = b.select(mask, value, b.const(0, value.type))
    return value, pick.where


@rule(ShapeOfOp, DimOp, SizeOp, ExtentsOp)
def extents(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """Extents are arguments of the kernel."""
    b = e.builder
    known = contents_of(op.results[0])
    assert known is not None
    values = [b.cast(b.index(b.dim(dim)), dtypes.i64) for dim in known]
    result = values[0] if values else b.const(0, dtypes.i64)
    for position, value in enumerate(values[1:], 1):
        here = b.compare_index("eq", index[0], position)
        result = b.select(here, value, result)
    return result


@rule(IotaOp)
def iota(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The index along the axis."""
    assert isinstance(op, IotaOp)
    at = e.builder.index(index[one_axis(op.axis, rank_of(op.y))])
    wide = e.builder.cast(at, dtypes.i64)
    return e.builder.cast(wide, result_element(op))


@rule(AssumeOp)
def assume(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The operand's element; the host checks the relation."""
    return e.element(op.operands[0], index, where)


@rule(SearchSortedOp)
def searchsorted(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """Binary search for the first element that does not precede the value."""
    assert isinstance(op, SearchSortedOp)
    b = e.builder
    value = e.computed(op.values, index, where)
    leading = list(index[:-1]) if rank_of(op.row) > 1 else []
    extent = b.index(b.dim(dims_of(op.row)[-1]))

    def unfinished(low: SSAValue, high: SSAValue) -> SSAValue:
        return b.compare_index("lt", low, high)

    def halve(low: SSAValue, high: SSAValue) -> Sequence[SSAValue]:
        middle = b.floordiv(b.add_index(low, high), 2)
        entry = e.computed(op.row, [*leading, middle], where)
        before = b.not_(b.gt(entry, value) if bool_of(op.right) else b.ge(entry, value))
        after = b.index(b.add_index(middle, 1))
        return [b.select(before, after, low), b.select(before, high, b.index(middle))]

    low, _ = b.while_([b.index(0), extent], unfinished, halve)
    return b.cast(low, dtypes.i64)
