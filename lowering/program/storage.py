"""Which memory each value has: views and loop variables share it, lifetimes say for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue

from lowering.kernel import Kernel
from lowering.passes.fuse import is_view
from lowering.program.memory import Lifetime
from lowering.program.reuse import Reuse, beginnings
from torsh_dialect import dtypes
from torsh_dialect.attributes import extents_of
from torsh_dialect.dims import Dim, product
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.ops.control import CondOp, LoopOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.movement import SliceOp
from torsh_dialect.types import dims_of, element_type

Key: TypeAlias = "SSAValue | tuple[Operation, int] | str"
"""What has memory of its own: a value, a workspace of a fused op, or the table of slots."""

SLOTS = "slots"
"""The table of buffers whose size is not known before the program runs."""

COUNTER = dtype_of(dtypes.i64).bytes
"""Bytes of a loop's iteration number, which its body reads from memory."""


def bytes_of(value: SSAValue) -> Dim:
    """How many bytes a tensor takes."""
    return product(dims_of(value)) * dtype_of(element_type(value)).bytes


def view_offset(op: Operation) -> Dim:
    """Bytes from the start of a view's operand to the view."""
    if not isinstance(op, SliceOp):
        return 0
    dims = dims_of(op.x)
    total: Dim = 0
    for axis, start in enumerate(extents_of(op.starts)):
        total = total + start * product(dims[axis + 1 :])
    return total * dtype_of(element_type(op.x)).bytes


def schedule(block: Block) -> Iterator[Operation]:
    """The ops of a block and of the regions of its control ops, in the order in which they run."""
    for op in block.ops:
        yield op
        if isinstance(op, CondOp | LoopOp):
            for region in op.regions:
                yield from schedule(region.block)


class Storage:
    """The memory of every value of a function's block.

    Attributes:
        roots: For values without memory of their own (views, loop variables, results that take
            over an operand's): the value whose memory they are, and the offset in it.
        overwriting: Results that begin as a copy of an argument, all of it, that nothing reads
            from then on: they may be given the argument's memory when the program is called.
    """

    def __init__(self, block: Block):
        self.block = block
        self.order = {op: n for n, op in enumerate(schedule(block))}
        self.ends = {op: self._end(op) for op in self.order}
        self.roots: dict[SSAValue, tuple[SSAValue, Dim]] = {}
        self.overwriting: dict[SSAValue, BlockArgument] = {}
        reuse = Reuse(self)
        for op in self.order:
            if is_view(op):
                root, offset = self.place(op.operands[0])
                self.roots[op.results[0]] = root, offset + view_offset(op)
                continue
            for number, result in beginnings(op):
                if reuse.takes_over(op, number, result):
                    self.roots[result] = self.place(op.operands[number])
                elif (argument := reuse.begins_as_argument(op, number)) is not None:
                    self.overwriting[result] = argument
            if isinstance(op, LoopOp):
                variables = op.body.block.args[1:]
                for variable, result in zip(variables, op.results, strict=False):
                    self.roots[variable] = self.place(result)

    def place(self, value: SSAValue) -> tuple[SSAValue, Dim]:
        """The value whose memory `value` is part of, and the offset in bytes."""
        return self.roots.get(value, (value, 0))

    def lifetimes(
        self, elsewhere: set[SSAValue], kernels: Mapping[Operation, Kernel]
    ) -> list[Lifetime[Key]]:
        """Buffers that the program needs, but for those in `elsewhere`."""
        aliases: dict[SSAValue, list[SSAValue]] = {}
        for value, (root, _) in self.roots.items():
            aliases.setdefault(root, []).append(value)
        found: list[Lifetime[Key]] = []
        for op, first in self.order.items():
            if isinstance(op, LoopOp):
                counter = op.body.block.args[0]
                found.append(Lifetime(counter, COUNTER, first, self.ends[op]))
            if op in kernels:
                sizes = enumerate(kernels[op].workspaces)
                found.extend(Lifetime((op, n), size, first, first) for n, size in sizes)
            if not isinstance(op, FusedOp | CondOp | LoopOp):
                continue
            for result in op.results:
                if result not in elsewhere and result not in self.roots:
                    names = [result, *aliases.get(result, ())]
                    last = max(self._last_use(v) for v in names)
                    found.append(Lifetime(result, bytes_of(result), first, last))
        return found

    def _last_use(self, value: SSAValue) -> int:
        """The last step that reads or writes a value.

        A read inside a loop lasts as long as the loop, and so does a write to its variable.
        """
        block = value.owner if isinstance(value.owner, Block) else value.owner.parent_block()
        owner = value.owner.parent_op() if isinstance(value.owner, Block) else value.owner
        last = self.ends.get(owner, -1) if owner is not None else -1
        for use in value.uses:
            op: Operation | None = use.operation
            while op is not None and op.parent_block() is not block:
                op = op.parent_op()
            if op is not None and op in self.ends:
                last = max(last, self.ends[op])
        return last

    def _end(self, op: Operation) -> int:
        inner = [self.order[o] for r in op.regions for o in schedule(r.block) if o in self.order]
        return max([self.order[op], *inner]) if isinstance(op, CondOp | LoopOp) else self.order[op]


def is_computed(value: SSAValue) -> bool:
    """Whether an op of the program writes the value's memory."""
    return isinstance(value, OpResult) and isinstance(value.op, FusedOp | CondOp | LoopOp)
