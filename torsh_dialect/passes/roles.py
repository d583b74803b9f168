"""What a value depends on: weights alone, or a call's inputs."""

from __future__ import annotations

from xdsl.ir import OpResult, SSAValue

from torsh_dialect.kinds import Random, TensorOp
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
