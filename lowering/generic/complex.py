"""Complex numbers by element: made of parts, taken apart, and seen as pairs of reals."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from lowering.generic.evaluator import Evaluator, rule
from lowering.kern.builder import Index
from torsh_dialect.ops.complex import (
    AngleOp,
    ComplexAbsOp,
    ComplexOp,
    ConjOp,
    ImagOp,
    RealOp,
    ViewAsComplexOp,
    ViewAsRealOp,
)


@rule(ComplexOp)
def make(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """Both parts, broadcast."""
    assert isinstance(op, ComplexOp)
    result = e.dims(op.y)
    parts = (e.element(v, e.broadcast(v, index, result), where) for v in (op.a, op.b))
    return e.builder.complex(*parts)


@rule(RealOp, ImagOp, ConjOp, ComplexAbsOp, AngleOp)
def part(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """One number from both parts."""
    b = e.builder
    real, imaginary = b.pair(e.element(op.operands[0], index, where))
    if isinstance(op, RealOp):
        return real
    if isinstance(op, ImagOp):
        return imaginary
    if isinstance(op, ConjOp):
        return b.complex(real, b.neg(imaginary))
    if isinstance(op, ComplexAbsOp):
        return b.math("hypot", real, imaginary)
    return b.math("atan2", imaginary, real)


@rule(ViewAsRealOp)
def as_real(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The part that the last index says."""
    b = e.builder
    real, imaginary = b.pair(e.element(op.operands[0], index[:-1], where))
    return b.select(b.compare_index("eq", index[-1], 0), real, imaginary)


@rule(ViewAsComplexOp)
def as_complex(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The pair along the last axis."""
    parts = (e.element(op.operands[0], [*index, n], where) for n in (0, 1))
    return e.builder.complex(*parts)
