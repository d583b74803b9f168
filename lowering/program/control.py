"""Native `torsh.cond` and `torsh.loop` in the body of `run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from xdsl.ir import Block, SSAValue

from lowering.kern import dialect as kern
from lowering.kern.builder import KernBuilder
from lowering.program.storage import Storage, bytes_of
from torsh_dialect import dtypes
from torsh_dialect.ops.control import CondOp, LoopOp, yielded


class Body(Protocol):
    """What `control` needs of the function that is being built."""

    b: KernBuilder

    @property
    def storage(self) -> Storage: ...

    def buffer(self, value: SSAValue) -> SSAValue:
        """The memory of a value."""
        ...

    def block(self, block: Block) -> None:
        """Run the ops of a block."""
        ...


def copy(body: Body, target: SSAValue, source: SSAValue) -> None:
    """Copy the memory of one value to another of the same type; nothing if it is the same."""
    if body.storage.place(target) == body.storage.place(source):
        return
    size = body.b.index(body.b.dim(bytes_of(source)))
    body.b.effect(kern.CopyOp, body.buffer(target), body.buffer(source), size)


def run_cond(body: Body, op: CondOp) -> None:
    """Run one of the regions, and move what it yields into the results."""
    b = body.b
    condition = b.load_now(body.buffer(op.condition), 0)

    def arm(block: Block, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
        body.block(block)
        for result, value in zip(op.results, values, strict=True):
            copy(body, result, value)
        return ()

    regions = (op.then, op.otherwise)
    first, second = ((r.block, yielded(r)) for r in regions)
    b.if_(condition, lambda: arm(*first), lambda: arm(*second))


def run_loop(body: Body, op: LoopOp) -> None:
    """Run the region while trip count and condition say so; results are the loop's variables."""
    b, block = body.b, op.body.block
    carried = len(op.carried)
    for result, value in zip(op.results, op.carried, strict=False):
        copy(body, result, value)
    trips = b.cast(b.load_now(body.buffer(op.trips), 0), b.index_type)
    going = b.load_now(body.buffer(op.condition), 0)

    def continues(i: SSAValue, more: SSAValue) -> SSAValue:
        unlimited = b.compare_index("lt", trips, 0)
        return b.and_(more, b.or_(unlimited, b.compare_index("lt", i, trips)))

    def iteration(i: SSAValue, more: SSAValue) -> Sequence[SSAValue]:
        b.store(b.cast(i, dtypes.i64), body.buffer(block.args[0]), 0)
        body.block(block)
        condition, *values = yielded(op.body)
        _stack(body, op, i, values[carried:])
        following = b.load_now(body.buffer(condition), 0)
        _advance(body, op, values[:carried])
        return [b.index(b.add_index(i, 1)), following]

    b.while_([b.index(0), going], continues, iteration)


def _stack(body: Body, op: LoopOp, i: SSAValue, values: Sequence[SSAValue]) -> None:
    """Put this iteration's scanned values at its place in the stacks."""
    b = body.b
    for stack, value in zip(op.results[len(op.carried) :], values, strict=True):
        size = b.dim(bytes_of(value))
        place = b.value(
            kern.OffsetOp, body.buffer(stack).type, body.buffer(stack),
            b.index(b.mul_index(i, size)),
        )  # fmt: skip
        b.effect(kern.CopyOp, place, body.buffer(value), b.index(size))


def _advance(body: Body, op: LoopOp, values: Sequence[SSAValue]) -> None:
    """Move the next values into the loop's variables; `fuse` has made them no variables."""
    for target, source in zip(op.results, values, strict=False):
        copy(body, target, source)
