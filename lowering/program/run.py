"""The body of `NAME_run`: finds buffers, checks extents, and launches kernels in order.

An extent that depends on data gets its value when the op that names it has run. Buffers of such
extents are not in the arena: each has a slot of two words (address, bytes) that is filled from the
host's `alloc`, and refilled when a larger one is needed; the memory lasts until the call ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

from xdsl.dialects.func import ReturnOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, OpResult, SSAValue

from lowering.generic.kernel import CHUNK
from lowering.kern import dialect as kern
from lowering.kern.builder import Index, KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from lowering.kernel import (
    WORK_PER_THREAD,
    Argument,
    Buffer,
    DimArgument,
    Kernel,
    Record,
    Scratch,
    Version,
    Workspace,
)
from lowering.passes.fuse import is_view
from lowering.program.control import copy, run_cond, run_loop
from lowering.program.relations import Relation, relations
from lowering.program.reuse import beginnings
from lowering.program.storage import SLOTS, Key, Storage, bytes_of
from lowering.runtime.abi import ALIGNMENT, Word
from torsh_dialect import dtypes
from torsh_dialect.attributes import extents_of, int_of, integer, str_of, strs_of
from torsh_dialect.dims import LARGEST_EXTENT, symbol
from torsh_dialect.driver import words_of
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import CondOp, LoopOp, YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.shape import AssumeOp, BindOp
from torsh_dialect.types import dims_of, element_type

if TYPE_CHECKING:
    from lowering.program.entry import Entry

FILL_GRAIN = WORK_PER_THREAD // CHUNK
"""Units of a kernel that fills a row with one value, which it computes once, for one thread."""

NO_OUTPUT = -1
"""The number that asks `alloc` for memory that lasts until the call ends."""


def pointer(b: KernBuilder, table: SSAValue, index: Index, element: Attribute) -> SSAValue:
    """The buffer whose address is word `index` of a table that is not written meanwhile."""
    return b.pure(kern.PointerOp, [table, b.index(index)], buffer_of(element))


def pointer_now(b: KernBuilder, table: SSAValue, index: Index, element: Attribute) -> SSAValue:
    """The buffer whose address is word `index` of a table at this point of the program."""
    return b.value(kern.PointerOp, buffer_of(element), table, b.index(index))


def location_of(op: Operation) -> str:
    """Where in the user's model an op comes from; empty if unknown."""
    return words_of(op.location)


@dataclass
class Run:
    """Builds the body of `run`."""

    entry: Entry
    b: KernBuilder
    host: SSAValue
    call: SSAValue
    record: SSAValue

    @property
    def storage(self) -> Storage:
        return self.entry.storage

    def whole(self) -> Sequence[SSAValue]:
        """Run everything."""
        self.start()
        self.block(self.entry.block)
        self.copy_outputs()
        return ()

    def fill(self, regions: Sequence[tuple[FusedOp, Kernel]]) -> Sequence[SSAValue]:
        """Run only these regions, which make every result."""
        for region, kernel in regions:
            self._launch(region, replace(kernel, grain=FILL_GRAIN))
        return ()

    def start(self) -> None:
        """Empty all slots."""
        if not self.entry.slots:
            return
        slots = self._slots()
        words = 2 * len(self.entry.slots)
        self.b.each(0, words, lambda i: self.b.store(self.b.index(0), slots, i))

    # -- memory

    def buffer(self, value: SSAValue) -> SSAValue:
        """The memory of a value."""
        root, offset = self.storage.place(value)
        whole = self._whole(root, element_type(value))
        if offset == 0:
            return whole
        b = self.b
        return b.value(kern.OffsetOp, whole.type, whole, b.index(b.dim(offset)))

    def _whole(self, root: SSAValue, element: Attribute) -> SSAValue:
        """The memory of a value that is no view."""
        b, entry = self.b, self.entry
        if root in entry.owned:
            outputs = pointer(b, self.call, Word.OUTPUTS, INDEX)
            find = pointer_now if entry.is_late_output(root) else pointer
            return find(b, outputs, entry.owned[root], element)
        if root in entry.slots or root in entry.arena.offsets:
            return self.memory(root, element)
        if isinstance(root, OpResult):
            weights = pointer(b, self.call, Word.WEIGHTS, INDEX)
            return pointer(b, weights, entry.weight_index(root.op), element)
        inputs = pointer(b, self.call, Word.INPUTS, INDEX)
        assert isinstance(root, BlockArgument)
        return pointer(b, inputs, root.index, element)

    def memory(self, key: Key, element: Attribute) -> SSAValue:
        """A buffer in a slot or in the arena."""
        b = self.b
        if key in self.entry.slots:
            return pointer_now(b, self._slots(), 2 * self.entry.slots[key], element)
        base = pointer(b, self.call, Word.ARENA, dtypes.i8)
        offset = b.index(b.dim(self.entry.arena.offsets[key]))
        return b.pure(kern.OffsetOp, [base, offset], buffer_of(element))

    def _slots(self) -> SSAValue:
        return self.memory(SLOTS, INDEX)

    def reserve(self, value: SSAValue) -> None:
        """Make memory for a computed value, if its size is not planned."""
        entry = self.entry
        if value in entry.owned and entry.is_late_output(value):
            self.allocate_output(entry.owned[value])
        elif value in entry.slots:
            self.grow(value, self.b.dim(bytes_of(value)))

    def grow(self, key: Key, size: Index, kept: Index = 0) -> None:
        """Make a slot hold at least `size` bytes; its first `kept` bytes stay."""
        b, slots, place = self.b, self._slots(), 2 * self.entry.slots[key]
        capacity = b.load_now(slots, place + 1)

        def refill() -> Sequence[SSAValue]:
            twice = b.max_index(b.mul_index(capacity, 2), ALIGNMENT)
            wanted = b.index(b.max_index(twice, size))
            address = self._allocated(NO_OUTPUT, wanted)
            if kept != 0:
                old = pointer_now(b, slots, place, dtypes.i8)
                b.store(address, slots, place)
                new = pointer_now(b, slots, place, dtypes.i8)
                b.effect(kern.CopyOp, new, old, b.index(kept))
            b.store(address, slots, place)
            b.store(wanted, slots, place + 1)
            return ()

        b.if_(b.compare_index("lt", capacity, b.max_index(size, 1)), refill)

    def allocate_output(self, position: int) -> None:
        """Ask the host for the memory of an output whose extents are known now."""
        b, value = self.b, self.entry.results[position]
        dims = [b.index(b.dim(dim)) for dim in dims_of(value)]
        address = self._allocated(position, b.index(b.dim(bytes_of(value))), dims)
        b.store(address, pointer(b, self.call, Word.OUTPUTS, INDEX), position)

    def _allocated(self, output: int, size: SSAValue, dims: Sequence[SSAValue] = ()) -> SSAValue:
        b = self.b
        number = integer(output)
        address = b.value(kern.AllocateOp, INDEX, self.host, size, *dims, output=number)
        given = b.compare_index("ne", address, 0)
        b.guard(self.record, given, size, 0, self.entry.checks.memory())
        return address

    # -- ops

    def block(self, block: Block) -> None:
        """Run the ops of a block."""
        for op in block.ops:
            if isinstance(op, FusedOp):
                self.launch(op)
            elif isinstance(op, CondOp):
                run_cond(self, op)
            elif isinstance(op, LoopOp):
                run_loop(self, op)
            elif isinstance(op, BindOp):
                self.bind(op)
            elif isinstance(op, AssumeOp):
                self.require(assumed(op), op)
            elif is_view(op):
                self.check(op)
            elif not isinstance(op, WeightOp | ConstantOp | ReturnOp | YieldOp):
                raise UnsupportedError(f"{op.name} has no lowering", location=location_of(op))

    def bind(self, op: BindOp) -> None:
        """Give the symbols of a `torsh.bind` their values."""
        b, source = self.b, self.buffer(op.x)
        low = 0 if op.low is None else int_of(op.low)
        high = LARGEST_EXTENT if op.high is None else int_of(op.high)
        for position, name in enumerate(strs_of(op.names)):
            value = b.cast(b.load_now(source, position), INDEX)
            checks, where = self.entry.checks, location_of(op)
            said = None if op.condition is None else checks.broken(str_of(op.condition), where)
            code = said or checks.below(name, where)
            b.guard(self.record, b.compare_index("ge", value, low), value, low, code)
            code = said or checks.above(name, where)
            b.guard(self.record, b.compare_index("le", value, high), value, high, code)
            b.define_dim(symbol(name), value)

    def require(self, relation: Relation, op: Operation) -> None:
        """End the run where a relation of extents does not hold, unless `plan` has seen to it."""
        entry, b = self.entry, self.b
        if op.parent is entry.block and entry.is_planned(relation):
            return
        code = entry.checks.relation(relation, "execution", location_of(op))
        left, right = b.dim(relation.left), b.dim(relation.right)
        b.guard(self.record, relation.build(b), left, right, code)

    def check(self, op: Operation) -> None:
        """End the run where extents do not stand as an op needs them to."""
        entry = self.entry
        for relation, inner in relations(op):
            if not (op.parent is entry.block and entry.is_planned(relation)):
                self.require(relation, inner)

    def launch(self, op: FusedOp) -> None:
        """Run the kernels of a fused op."""
        b, kernel = self.b, self.entry.kernels[op]
        self.check(op)
        for position, size in enumerate(kernel.workspaces):
            if (op, position) in self.entry.slots:
                self.grow((op, position), b.dim(size))
        if kernel.measure is not None:
            self._launch_best(op, kernel, measuring=True)
            found = self.memory((op, 0), INDEX)
            for position, name in enumerate(kernel.symbols):
                b.define_dim(symbol(name), b.load_now(found, position))
        for result in op.results:
            self.reserve(result)
        for number, result in beginnings(op):
            copy(self, result, op.operands[number])
        self._launch_best(op, kernel)

    def _launch_best(self, op: FusedOp, kernel: Kernel, *, measuring: bool = False) -> None:
        """Launch the first version whose extents are 1, or else the kernel for all extents."""
        b = self.b

        def launch(one: Kernel) -> Sequence[SSAValue]:
            part = one.measure if measuring else one
            assert part is not None
            self._launch(op, part)
            return ()

        def best(versions: Sequence[Version]) -> Sequence[SSAValue]:
            if not versions:
                return launch(kernel)
            first, *others = versions
            ones = [b.compare_index("eq", b.dim(symbol(n)), 1) for n in first.symbols]
            return b.if_(reduce(b.and_, ones), lambda: launch(first.kernel), lambda: best(others))

        best(kernel.versions)

    def _launch(self, op: FusedOp, kernel: Kernel) -> None:
        b = self.b
        arguments = [self.argument(argument, op) for argument in kernel.arguments]
        name, grain = b.symbol(kernel.name), b.index(b.dim(kernel.grain))
        units = b.index(b.dim(kernel.units))
        b.effect(kern.LaunchOp, self.host, units, grain, *arguments, kernel=name)

    def argument(self, argument: Argument, op: FusedOp) -> SSAValue:
        """The word that stands for an argument of a kernel."""
        b = self.b
        match argument:
            case Buffer(position):
                return self.buffer((*op.operands, *op.results)[position])
            case DimArgument(dim):
                return b.index(b.dim(dim))
            case Record():
                return self.record
            case Scratch():
                base = pointer(b, self.call, Word.ARENA, dtypes.i8)
                offset = b.index(b.dim(self.entry.scratch))
                return b.pure(kern.OffsetOp, [base, offset], buffer_of(dtypes.i8))
            case Workspace(position):
                return self.memory((op, position), dtypes.i8)

    def copy_outputs(self) -> None:
        """Copy results that are inputs, weights, or returned twice."""
        b, entry = self.b, self.entry
        for position, value in enumerate(entry.results):
            if entry.owned.get(entry.root(value)) == position:
                continue
            if entry.is_late_output(value):
                self.allocate_output(position)
            outputs = pointer(b, self.call, Word.OUTPUTS, INDEX)
            target = pointer_now(b, outputs, position, element_type(value))
            size = b.index(b.dim(bytes_of(value)))
            b.effect(kern.CopyOp, target, self.buffer(value), size)


def assumed(op: AssumeOp) -> Relation:
    """The relation that a `torsh.assume` states."""
    (left,), (right,) = extents_of(op.left), extents_of(op.right)
    return Relation(left, str_of(op.relation), right)
