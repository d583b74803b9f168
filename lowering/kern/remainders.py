"""Loops that count `i % n` instead of dividing in each turn, for extents n that only the run knows.

    for i in range(lower, upper):          for i in range(lower, upper), r from lower % n:
        use(i % n)                   ->        use(r)
                                               r = r + 1 if r + 1 < n else 0

`n` may be 0 where the loop has no turn.
"""

from __future__ import annotations

from typing import Protocol

from xdsl.ir import Attribute, Block, Operation, SSAValue

from lowering.kern import dialect as kern
from lowering.kern.dialect import INDEX
from torsh_dialect import dtypes
from torsh_dialect.attributes import text


class Outside(Protocol):
    """What builds the code around the loop."""

    def index(self, value: int) -> SSAValue: ...

    def pure(
        self,
        cls: type[Operation],
        operands: list[SSAValue],
        type: Attribute,
        **properties: Attribute,
    ) -> SSAValue: ...


def count_remainders(outside: Outside, body: Block, lower: SSAValue) -> list[SSAValue]:
    """Let a finished loop of steps of 1, without carried values, count its remainders.

    Args:
        outside: Builds what the counts begin with.
        body: The loop's block; it carries one value more for each extent.
        lower: Where the loop begins.

    Returns:
        What the values that the loop carries begin with.
    """
    end, first = body.last_op, list[SSAValue]()
    assert end is not None
    zero, one = outside.index(0), outside.index(1)
    following: list[SSAValue] = []
    for remainder in [op for op in body.ops if _is_remainder(op, body.args[0])]:
        extent = remainder.operands[1]
        some = outside.pure(kern.BinaryOp, [extent, one], INDEX, kind=text("max"))
        first.append(outside.pure(kern.BinaryOp, [lower, some], INDEX, kind=text("mod")))
        count = body.insert_arg(INDEX, len(body.args))
        remainder.results[0].replace_all_uses_with(count)
        remainder.detach()
        remainder.erase()
        after = _before(end, kern.BinaryOp, [count, one], INDEX, "add")
        inside = _before(end, kern.CompareOp, [after, extent], dtypes.i1, "lt")
        following.append(_before(end, kern.SelectOp, [inside, after, zero], INDEX))
    end.operands = following
    return first


def _is_remainder(op: Operation, index: SSAValue) -> bool:
    return (
        isinstance(op, kern.BinaryOp)
        and op.kind == text("mod")
        and op.a is index
        and not isinstance(op.b.owner, kern.ConstOp)
    )


def _before(
    end: Operation, cls: type[Operation], operands: list[SSAValue], type: Attribute, kind: str = ""
) -> SSAValue:
    properties = {"kind": text(kind)} if kind else {}
    made = cls.create(operands=operands, result_types=[type], properties=properties)
    block = end.parent_block()
    assert block is not None
    block.insert_op_before(made, end)
    return made.results[0]
