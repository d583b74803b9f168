"""Results of an `If` whose branches give one value in two ranks, as `[]` and `[1]`.

The lower rank is widened by axes of extent 1 in front, so that both branches have one type. Nobody
can tell, as long as the value only meets others of the higher rank in element-wise ops: these add
the same axes. `is_rank_seen` looks for a use that could tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from xdsl.ir import Operation, SSAValue

from torsh_dialect.dims import provably_equal
from torsh_dialect.kinds import Elementwise
from torsh_dialect.types import dims_of, element_type, rank_of


def equal_but_for_ones(a: SSAValue, b: SSAValue) -> bool:
    """Whether two tensors have one element type, and extents that differ by ones in front."""
    if not hasattr(a.type, "element_type") or not hasattr(b.type, "element_type"):
        return False
    if element_type(a) != element_type(b):
        return False
    short, long = sorted((dims_of(a), dims_of(b)), key=len)
    ahead = len(long) - len(short)
    return all(d == 1 for d in long[:ahead]) and all(map(provably_equal, long[ahead:], short))


def is_rank_seen(widened: Iterable[SSAValue], outputs: Collection[SSAValue]) -> bool:
    """Whether something could tell the rank that a widened value would have had."""
    uncertain = list(dict.fromkeys(widened))
    while True:
        users = [use.operation for value in uncertain for use in value.uses]
        if not all(isinstance(op, Elementwise) for op in users):
            return True
        known = set(uncertain)
        new = [r for op in users if _depends(op, known) for r in op.results if r not in known]
        if not new:
            return not known.isdisjoint(outputs)
        uncertain += dict.fromkeys(new)


def _depends(op: Operation, uncertain: set[SSAValue]) -> bool:
    """Whether no operand of a rank that is certain gives the results theirs."""
    certain = (rank_of(operand) for operand in op.operands if operand not in uncertain)
    return max(certain, default=-1) < rank_of(op.results[0])
