"""Rules of the kinds that give elements by formula: element-wise, movement, reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import (
    Evaluator,
    Groups,
    compute_type,
    merged_groups,
    region_values,
    result_element,
    rule,
)
from lowering.kern.builder import Index
from torsh_dialect import dtypes
from torsh_dialect.attributes import bool_of
from torsh_dialect.dims import Dim, product
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.kinds import Elementwise, Movement, Reduce
from torsh_dialect.ops.bits import BitcastOp
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.types import dims_of, element_type


@rule(Elementwise)
def elementwise(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """Apply the body to the operands' elements; round once when the op is done."""
    assert isinstance(op, Elementwise)
    result = e.dims(op.results[0])
    x = [e.computed(v, e.broadcast(v, index, result), where) for v in op.operands]
    return e.builder.cast(op.body(e.builder, *x), result_element(op))


@rule(BitcastOp)
def same_bits(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The operand's own bits: half precision is not widened on the way."""
    assert isinstance(op, BitcastOp)
    at = e.broadcast(op.x, index, e.dims(op.y))
    return e.builder.bitcast(e.element(op.x, at, where), op.to)


@rule(Movement)
def movement(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """Take the first source whose condition holds, else the fill value."""
    assert isinstance(op, Movement)
    b = e.builder
    assert e.groups is None, f"{op.name} cannot be read in grouped axes"
    found: list[tuple[SSAValue | None, SSAValue]] = []
    left = where
    for pick in op.pick(e.indices, index):
        known = None if pick.where is None else b.known_bool(pick.where)
        if known is False:
            continue
        always = pick.where is None or known is True
        # A later source may only be read where no earlier one holds: elsewhere its index is wild.
        mask = left if always else e.both(left, pick.where)
        value = e.element(op.operands[pick.operand], pick.index, mask)
        found.append((None if always else pick.where, value))
        if always or pick.where is None:
            break
        left = e.both(left, b.not_(pick.where))
    everywhere = bool(found) and found[-1][0] is None
    result = found.pop()[1] if everywhere else _fill(e, op)
    for condition, value in reversed(found):
        assert condition is not None
        result = b.select(condition, value, result)
    return result


def _fill(e: Evaluator, op: Movement) -> SSAValue:
    element = result_element(op)
    return e.builder.const(op.fill(), element)


@rule(Reduce)
def reduce(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """Fold the reduced axes: 32 lanes along the innermost, or chains inside other lanes."""
    assert isinstance(op, Reduce)
    b, axes, dims = e.builder, op.axis_list(), dims_of(op.x)
    inner = e.grouped(_reduce_groups(e, op, axes))
    partition = inner.groups or tuple((n,) for n in range(len(dims)))
    extents = dict(zip(partition, inner.dims(op.x), strict=True))
    fixed = _kept_indices(op, index, [n for n in range(len(dims)) if n not in axes])
    loops = [group for group in partition if group[0] in axes]

    def lift(position: Sequence[Index]) -> Sequence[SSAValue]:
        moving = dict(zip(loops, position, strict=True))
        place = [moving[g] if g in moving else fixed[g[0]] for g in partition]
        flat = e.flat([extents[g] for g in loops], position)
        return op.lift(b, inner.computed(op.x, place, where), b.cast(b.index(flat), dtypes.i64))

    total = _fold(e, op, [extents[g] for g in loops], lift, e.varies(list(fixed.values())))
    count = b.cast(b.index(b.dim(product(dims[a] for a in axes))), dtypes.i64)
    return b.cast(op.finish(b, tuple(total), count), result_element(op))


def _fold(
    e: Evaluator,
    op: Reduce,
    extents: Sequence[Dim],
    lift: Callable[[Sequence[Index]], Sequence[SSAValue]],
    varies: bool,
) -> Sequence[SSAValue]:
    b = e.builder
    identity = op.identity(b, compute_type(element_type(op.x)))
    size = len(identity)

    def combine(*both: SSAValue) -> Sequence[SSAValue]:
        return op.combine(b, both[:size], both[size:])

    def level(position: list[Index]) -> Sequence[SSAValue]:
        depth = len(position)
        if depth == len(extents):
            return lift(position)
        extent = b.dim(extents[depth])
        if depth == len(extents) - 1:
            lanes, block = (1, 256) if varies else (32, 4096)
            return b.reduce(
                0, extent, identity, lambda i: lift([*position, i]), combine, lanes=lanes,
                block=block,
            )  # fmt: skip
        return b.for_(
            0, extent, lambda i, *acc: combine(*acc, *level([*position, i])), identity, pure=True
        )

    return level([])


def _reduce_groups(e: Evaluator, op: Reduce, axes: Sequence[int]) -> Groups | None:
    """Adjacent reduced axes joined where all accesses allow it; None where an op forbids it."""
    dims = dims_of(op.x)
    values = region_values([op.x], e.buffers)
    if not all(v in e.buffers or is_plain(v) for v in values):
        return None
    border = [not (n in axes and n - 1 in axes) for n in range(len(dims))]
    return merged_groups(values, dims, border)


def is_plain(value: SSAValue) -> bool:
    """Whether a value can be read in grouped axes."""
    return isinstance(value.owner, Elementwise | ConstantOp)


def _kept_indices(op: Reduce, index: Sequence[Index], kept: Sequence[int]) -> dict[int, Index]:
    if bool_of(op.keepdims):
        return {axis: index[axis] for axis in kept}
    return dict(zip(kept, index, strict=True))


@rule(ConstantOp)
def constant(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """A scalar is a constant in the code; larger ones are in memory before lowering."""
    assert isinstance(op, ConstantOp)
    array = op.value.data.array()
    if array.size != 1:
        raise UnsupportedError("constants of several elements must be in memory")
    element = result_element(op)
    scalar = array.reshape(())
    kind = dtype_of(element).kind
    if kind == "complex":
        return e.builder.const(complex(scalar.astype(np.complex128)), element)
    value = float(scalar.astype(np.float64)) if kind == "float" else int(scalar.astype(np.int64))
    return e.builder.const(value, element)
