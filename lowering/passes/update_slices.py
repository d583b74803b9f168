"""Write a part of a carried tensor, instead of joining the update with what is around it.

Before (`%y` is what the next call or iteration finds as `%x`):

    %a = torsh.slice %x {starts = [0], sizes = [2]}
    %b = torsh.slice %x {starts = [3], sizes = [5]}
    %y = torsh.concat %a, %u, %b {axis = 0}
    func.return %y

After:

    %s = torsh.constant [2]
    %y = torsh.dynamic_update_slice %x, %s, %u

The result can then be in the memory of `%x` (`lowering.program.reuse`), and nothing but the
update is written. Only where nothing reads `%x` afterwards; elsewhere joining is as good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from torsh_dialect.attributes import extents_of, int_of, ints_of
from torsh_dialect.dims import Dim, provably_equal
from torsh_dialect.driver import rewrite
from torsh_dialect.dtypes import i64
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.control import LoopOp, YieldOp
from torsh_dialect.ops.join import ConcatOp
from torsh_dialect.ops.movement import SliceOp
from torsh_dialect.ops.scatter import DynamicUpdateSliceOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.types import dims_of


@dataclass(frozen=True)
class Box:
    """A part of a tensor: where it begins and how large it is along each axis."""

    starts: tuple[Dim, ...]
    sizes: tuple[Dim, ...]

    def part(self, axis: int, offset: Dim, size: Dim) -> Box:
        """`size` elements of it along `axis`, from `offset` on."""
        starts, sizes = list(self.starts), list(self.sizes)
        starts[axis], sizes[axis] = starts[axis] + offset, size
        return Box(tuple(starts), tuple(sizes))

    def is_same(self, other: Box) -> bool:
        """Whether both are the same part for all values of symbols."""
        pairs = zip((*self.starts, *self.sizes), (*other.starts, *other.sizes), strict=True)
        return all(provably_equal(a, b) for a, b in pairs)


def whole(x: SSAValue) -> Box:
    """All of a tensor."""
    dims = dims_of(x)
    return Box((0,) * len(dims), dims)


def box_of(value: SSAValue) -> tuple[SSAValue, Box]:
    """The tensor that a value is a part of, through slices of step 1, and the part."""
    if not isinstance(value, OpResult) or not isinstance(value.op, SliceOp):
        return value, whole(value)
    op = value.op
    if any(step != 1 for step in ints_of(op.steps)):
        return value, whole(value)
    base, box = box_of(op.x)
    starts = tuple(a + b for a, b in zip(box.starts, extents_of(op.starts), strict=True))
    return base, Box(starts, extents_of(op.sizes))


def update_of(value: SSAValue, x: SSAValue, box: Box) -> tuple[SSAValue, Box]:
    """What stands in `value` in place of part `box` of `x`, and the part that really differs."""
    if not isinstance(value, OpResult) or not isinstance(value.op, ConcatOp):
        return value, box
    axis = int_of(value.op.axis) % len(box.sizes)
    others: list[tuple[SSAValue, Box]] = []
    offset: Dim = 0
    for item in value.op.items:
        size = dims_of(item)[axis]
        part = box.part(axis, offset, size)
        base, own = box_of(item)
        if base is not x or not own.is_same(part):
            others.append((item, part))
        offset = offset + size
    return update_of(others[0][0], x, others[0][1]) if len(others) == 1 else (value, box)


def carried_argument(op: ConcatOp) -> BlockArgument | None:
    """The argument of the op's block that its result replaces in the next call or iteration."""
    for base in _bases(op.results[0]):
        if isinstance(base, BlockArgument) and _replaces(op, base):
            return base
    return None


def _replaces(op: ConcatOp, argument: BlockArgument) -> bool:
    y = op.results[0]
    return y.type == argument.type and _is_next(y, argument) and _is_last(op, argument)


def _bases(value: SSAValue) -> Iterator[SSAValue]:
    """What a value is joined from, through slices and inner joins; each once."""
    waiting, seen = [value], set[SSAValue]()
    while waiting:
        base = box_of(waiting.pop())[0]
        if base in seen:
            continue
        seen.add(base)
        if isinstance(base.owner, ConcatOp):
            waiting.extend(reversed(base.owner.operands))
        else:
            yield base


def _is_next(value: SSAValue, argument: BlockArgument) -> bool:
    """Whether a value is what the next call or iteration has for an argument."""
    parent = argument.block.parent_op()
    for use in value.uses:
        user = use.operation
        if isinstance(user, ReturnOp) and isinstance(parent, FuncOp):
            return user.parent_op() is parent
        if isinstance(user, YieldOp) and isinstance(parent, LoopOp) and use.index == argument.index:
            return user.parent_op() is parent and argument.index <= len(parent.carried)
    return False


def _is_last(op: ConcatOp, argument: BlockArgument) -> bool:
    """Whether all that reads the argument comes before the op, but for the parts that it joins."""
    order = {inner: n for n, inner in enumerate(argument.block.ops)}
    if op not in order:
        return False
    readers = [use.operation for use in argument.uses]
    while readers:
        reader = readers.pop()
        if isinstance(reader, SliceOp):
            readers.extend(use.operation for use in reader.results[0].uses)
            continue
        place = order.get(_ancestor(reader, argument.block))
        if place is None or (place > order[op] and reader is not op):
            return False
    return True


def _ancestor(op: Operation, block: Block) -> Operation:
    while op.parent_block() is not block:
        parent = op.parent_op()
        if parent is None:
            break
        op = parent
    return op


class UpdateSlice(RewritePattern):
    """See the module docstring."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ConcatOp, rewriter: PatternRewriter):
        x = carried_argument(op)
        if x is None:
            return
        update, box = update_of(op.results[0], x, whole(x))
        if update is op.results[0] or box.is_same(whole(x)):
            return
        starts = starts_of(Compose(RewriterBuilder(rewriter)), box)
        rewriter.replace(op, DynamicUpdateSliceOp.make(x, starts, update))


def starts_of(c: Compose, box: Box) -> SSAValue:
    """Where a part begins, as i64[rank]."""
    known = [start for start in box.starts if isinstance(start, int)]
    if len(known) == len(box.starts):
        return c.constant(np.asarray(known, np.int64), i64)
    return c.concat([c.reshape(c.dim(start), (1,)) for start in box.starts], 0)


@dataclass(frozen=True)
class UpdateSlicesPass(ModulePass):
    """See the module docstring."""

    name = "update-slices"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, UpdateSlice())
