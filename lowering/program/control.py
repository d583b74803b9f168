"""Native `torsh.cond` and `torsh.loop` in the body of `run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdsl.ir import Block, SSAValue

from lowering.kern import dialect as kern
from lowering.program.storage import bytes_of
from torsh_dialect import dtypes
from torsh_dialect.attributes import ints_of, strs_of
from torsh_dialect.dims import Expr
from torsh_dialect.ops.control import CondOp, LoopOp, yielded
from torsh_dialect.types import dims_of

if TYPE_CHECKING:
    from lowering.program.run import Run

Place = tuple[int, int]
"""A result and one of its axes."""


def copy(run: Run, target: SSAValue, source: SSAValue) -> None:
    """Copy the memory of one value to another of the same type; nothing if it is the same."""
    if run.storage.place(target) == run.storage.place(source):
        return
    size = run.b.index(run.b.dim(bytes_of(source)))
    run.b.effect(kern.CopyOp, run.buffer(target), run.buffer(source), size)


def fresh_places(op: CondOp | LoopOp) -> dict[Place, Expr]:
    """The axes of results whose extents the op names, each with its symbol."""
    names = set(strs_of(op.symbols)) if op.symbols is not None else set[str]()
    return {
        (number, axis): dim
        for number, result in enumerate(op.results)
        if hasattr(result.type, "element_type")
        for axis, dim in enumerate(dims_of(result))
        if isinstance(dim, Expr) and str(dim) in names
    }


def run_cond(run: Run, op: CondOp) -> None:
    """Run one of the regions, and move what it yields into the results."""
    b, places = run.b, fresh_places(op)
    condition = b.load_now(run.buffer(op.condition), 0)

    def arm(block: Block, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
        run.block(block)
        extents = [b.index(b.dim(dims_of(values[n])[axis])) for n, axis in places]
        for dim, extent in zip(places.values(), extents, strict=True):
            b.define_dim(dim, extent)
        for result, value in zip(op.results, values, strict=True):
            run.reserve(result)
            copy(run, result, value)
        return extents

    regions = (op.then, op.otherwise)
    first, second = ((r.block, yielded(r)) for r in regions)
    found = b.if_(condition, lambda: arm(*first), lambda: arm(*second))
    for dim, extent in zip(places.values(), found, strict=True):
        b.define_dim(dim, extent)


class Loop:
    """Builds one loop.

    Attributes:
        places: The axes of results whose extents are known only when the loop is done.
        changing: Those of carried values, with the symbols that their variables have.
        inner: Those of stacked values, behind the axis of iterations.
    """

    def __init__(self, run: Run, op: LoopOp):
        self.run, self.op, self.b = run, op, run.b
        self.block = op.body.block
        self.carried = len(op.carried)
        self.places = fresh_places(op)
        flat = ints_of(op.changing) if op.changing is not None else ()
        self.changing = list(zip(flat[::2], flat[1::2], strict=True))
        self.inner = [p for p in self.places if p[0] >= self.carried and p[1] > 0]

    def build(self) -> None:
        """Run the region while trip count and condition say so."""
        b, op = self.b, self.op
        extents = [b.index(b.dim(dims_of(op.carried[n])[axis])) for n, axis in self.changing]
        for result, value in zip(op.results, op.carried, strict=False):
            self._reserve(result, value)
            copy(self.run, result, value)
        trips = b.cast(b.load_now(self.run.buffer(op.trips), 0), b.index_type)
        going = b.load_now(self.run.buffer(op.condition), 0)

        def continues(i: SSAValue, more: SSAValue, *_: SSAValue) -> SSAValue:
            unlimited = b.compare_index("lt", trips, 0)
            return b.and_(more, b.or_(unlimited, b.compare_index("lt", i, trips)))

        init = [b.index(0), going, *extents, *(b.index(0) for _ in self.inner)]
        count, _, *extents = b.while_(init, continues, self._iteration)
        self._finish(count, extents)

    def _reserve(self, result: SSAValue, value: SSAValue) -> None:
        """Make room in a variable for a value that may have other extents than the result."""
        if result in self.run.entry.slots:
            self.run.grow(result, self.b.dim(bytes_of(value)))

    def _iteration(self, i: SSAValue, more: SSAValue, *extents: SSAValue) -> Sequence[SSAValue]:
        run, b, block = self.run, self.b, self.block
        variables = block.args[1:]
        for (number, axis), extent in zip(self.changing, extents, strict=False):
            dim = dims_of(variables[number])[axis]
            if isinstance(dim, Expr):
                b.define_dim(dim, extent)
        b.store(b.cast(i, dtypes.i64), run.buffer(block.args[0]), 0)
        run.block(block)
        condition, *values = yielded(self.op.body)
        following = b.load_now(run.buffer(condition), 0)
        known = extents[len(self.changing) :]
        inner = self._stack(i, values[self.carried :], known)
        moved = [b.index(b.dim(dims_of(values[n])[axis])) for n, axis in self.changing]
        self._advance(values[: self.carried])
        return [b.index(b.add_index(i, 1)), following, *moved, *inner]

    def _stack(
        self, i: SSAValue, values: Sequence[SSAValue], known: Sequence[SSAValue]
    ) -> Sequence[SSAValue]:
        """Put this iteration's scanned values at its place in the stacks; gives their extents."""
        run, b, inner = self.run, self.b, list[SSAValue]()
        for (number, axis), extent in zip(self.inner, known, strict=True):
            found = b.index(b.dim(dims_of(values[number - self.carried])[axis - 1]))
            same = b.or_(b.compare_index("eq", i, 0), b.compare_index("eq", found, extent))
            code = run.entry.checks.uneven_stack()
            b.guard(run.record, same, found, extent, code)
            inner.append(found)
        for stack, value in zip(self.op.results[self.carried :], values, strict=True):
            size = b.dim(bytes_of(value))
            start = b.mul_index(i, size)
            if stack in run.entry.slots:
                run.grow(stack, b.add_index(start, size), start)
            target = run.buffer(stack)
            place = b.value(kern.OffsetOp, target.type, target, b.index(start))
            b.effect(kern.CopyOp, place, run.buffer(value), b.index(size))
        return inner

    def _advance(self, values: Sequence[SSAValue]) -> None:
        """Move the next values into the loop's variables; `fuse` has made them no variables."""
        for target, source in zip(self.op.results, values, strict=False):
            if self.run.storage.place(target) != self.run.storage.place(source):
                self._reserve(target, source)
            copy(self.run, target, source)

    def _finish(self, count: SSAValue, extents: Sequence[SSAValue]) -> None:
        """Give the symbols of the results their values."""
        b, places = self.b, self.places
        for place, extent in zip([*self.changing, *self.inner], extents, strict=True):
            if place in places:
                b.define_dim(places[place], extent)
        for (number, axis), dim in places.items():
            if number >= self.carried and axis == 0:
                b.define_dim(dim, count)
        for stack in self.op.results[self.carried :]:
            if stack in self.run.entry.slots:
                self.run.grow(stack, b.dim(bytes_of(stack)))


def run_loop(run: Run, op: LoopOp) -> None:
    """Run a loop; its results are its variables and stacks."""
    Loop(run, op).build()
