"""Results that begin as a copy of an operand, and when they can be in its memory instead.

A scatter writes updates over a copy of its operand, and the variables of a loop begin as its
carried operands. Where nothing reads the operand afterwards, the result has its memory: a cache
that a loop or a session carries along is then updated in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue, Use

from lowering.passes.fuse import is_view
from torsh_dialect.kinds import Scatter
from torsh_dialect.ops.control import CondOp, LoopOp, YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.types import dims_of

if TYPE_CHECKING:
    from lowering.program.storage import Storage


def beginnings(op: Operation) -> Iterator[tuple[int, OpResult]]:
    """The results of an op that begin as a copy of an operand, each with that operand's number."""
    if isinstance(op, FusedOp) and (number := overwritten(op)) is not None:
        yield number, op.results[0]
    elif isinstance(op, LoopOp):
        first = len(op.operands) - len(op.carried)
        for number, result in enumerate(op.results[: len(op.carried)]):
            if hasattr(result.type, "element_type") and op.carried[number].type == result.type:
                yield first + number, result


def overwritten(op: FusedOp) -> int | None:
    """The operand of a fused scatter that the updates are written over."""
    last = op.body.block.last_op
    assert isinstance(last, YieldOp)
    root = last.operands[0].owner
    if not isinstance(root, Scatter):
        return None
    target = root.operands[0]
    return target.index if isinstance(target, BlockArgument) else None


class Reuse:
    """Decides for one storage; its `roots` must be known for all values before the op.

    Args:
        storage: Memory and order of the values.
    """

    def __init__(self, storage: Storage):
        self.storage = storage

    def takes_over(self, op: Operation, number: int, result: OpResult) -> bool:
        """Whether a result of `op` can be in the memory of operand `number`."""
        operand = op.operands[number]
        root, offset = self.storage.place(operand)
        block = op.parent_block()
        if offset != 0 or dims_of(root) != dims_of(result) or not isinstance(root, OpResult):
            return False
        if not isinstance(root.op, FusedOp | CondOp | LoopOp):
            return False  # a constant or weight: its memory is the program's, for all calls
        if root.op.parent_block() is block and not is_view(root.op):
            family = self._family(root)
        elif self._is_variable(root, block):
            family = [v for v in self._family(root) if v is not root]
            assert isinstance(root.op, LoopOp)
            if not self._stays(result, root.op, root.index):
                return False
        else:
            return False
        return self._is_free(op, number, family)

    def begins_as_argument(self, op: Operation, number: int) -> BlockArgument | None:
        """The argument of the function, all of it, that a result could write over."""
        root, offset = self.storage.place(op.operands[number])
        if offset != 0 or not isinstance(root, BlockArgument):
            return None
        if root.block is not self.storage.block:
            return None
        return root if self._is_free(op, number, self._family(root)) else None

    def _family(self, root: SSAValue) -> list[SSAValue]:
        return [root, *(v for v, (own, _) in self.storage.roots.items() if own is root)]

    def _is_variable(self, root: OpResult, block: Block | None) -> bool:
        """Whether it is the memory of a variable of the loop whose body `block` is."""
        return isinstance(root.op, LoopOp) and root.op.body.block is block

    def _is_free(self, op: Operation, number: int, family: Iterable[SSAValue]) -> bool:
        """Whether `op` is the last to read these values, by operand `number` alone.

        A fused scatter must not take updates from it, which would change while they are written.
        """
        if isinstance(op, FusedOp) and not op.body.block.args[number].has_one_use():
            return False
        return all(
            self._is_before(use, op) or (use.operation is op and use.index == number)
            for value in family
            for use in value.uses
        )

    def _is_before(self, use: Use, op: Operation) -> bool:
        """Whether a use is over when `op` begins; a view's own uses are looked at by themselves."""
        block = op.parent_block()
        user: Operation | None = use.operation
        while user is not None and user.parent_block() is not block:
            user = user.parent_op()
        return user is not None and self.storage.order[user] < self.storage.order[op]

    def _stays(self, value: OpResult, loop: LoopOp, variable: int) -> bool:
        """Whether a new value of a loop's variable is not also the next value of another one."""
        for use in value.uses:
            user = use.operation
            if isinstance(user, YieldOp) and user.parent_op() is loop:
                if 0 < use.index <= len(loop.carried) and use.index != variable + 1:
                    return False
                continue
            same = is_view(user) or any(n == use.index for n, _ in beginnings(user))
            if same and not all(self._stays(r, loop, variable) for r in user.results):
                return False
        return True
