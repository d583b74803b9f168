"""What a value depends on: weights alone, or a call's inputs."""

from __future__ import annotations

from weakref import WeakSet

from xdsl.ir import OpResult, SSAValue

from torsh_dialect.kinds import Random, TensorOp, contents_of
from torsh_dialect.ops.constant import ConstantOp, WeightOp

_DEPENDENT: WeakSet[SSAValue] = WeakSet()
"""Values that were found to depend on a call's inputs.

Passes ask again and again, and each answer would otherwise walk back to the inputs. A rewrite that
takes such a dependence away makes a new value, or loses an optimisation.
"""


def is_weight_only(value: SSAValue) -> bool:
    """Whether a value depends on weights and constants alone."""
    work, seen = [value], set[SSAValue]()
    while work:
        current = work.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in _DEPENDENT or not _is_from_weights(current):
            _DEPENDENT.add(value)
            return False
        if isinstance(current, OpResult):
            work.extend(current.op.operands)
    return True


def _is_from_weights(value: SSAValue) -> bool:
    """Whether the value's op alone does not keep it from depending on weights only."""
    if not isinstance(value, OpResult) or not isinstance(value.op, TensorOp):
        return False
    op = value.op
    if isinstance(op, WeightOp | ConstantOp):
        return True
    return bool(op.operands) and not op.regions and not isinstance(op, Random)


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
