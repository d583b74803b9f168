"""What a value depends on: weights alone, or a call's inputs."""

from __future__ import annotations

from xdsl.ir import OpResult, SSAValue

from torsh_dialect.kinds import Random, TensorOp, contents_of
from torsh_dialect.ops.constant import ConstantOp, WeightOp


def is_weight_only(value: SSAValue) -> bool:
    """Whether a value depends on weights and constants alone."""
    work, seen = [value], set[SSAValue]()
    while work:
        current = work.pop()
        if current in seen:
            continue
        seen.add(current)
        if not isinstance(current, OpResult) or not isinstance(current.op, TensorOp):
            return False
        if isinstance(current.op, WeightOp | ConstantOp):
            continue
        if not current.op.operands or current.op.regions or isinstance(current.op, Random):
            return False
        work.extend(current.op.operands)
    return True


def integer_of(value: SSAValue | None) -> int | None:
    """What all elements of a constant are; None if they differ or are not known.

    A missing value is 0.
    """
    if value is None:
        return 0
    contents = contents_of(value)
    if contents is None or len(set(contents)) != 1 or not isinstance(contents[0], int):
        return None
    return contents[0]
