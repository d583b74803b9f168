"""The same `kern` body as the CPU's, as a kernel of the `gpu` dialect.

The range [lo, hi) of units becomes one unit for each block: lo = block id, hi = lo + 1. In it

- `kern.lanes` is divided among the block's threads: thread t takes iterations t, t + T, ...;
- `kern.reduce` with 32 virtual lanes is done by warps, lane for lane: warp w folds blocks w,
  w + W, ... of 4,096 elements, shuffles are the tree over the lanes, and block results are
  combined in order. So the bits are those of every other target;
- all other code is uniform: every thread of the block runs it, one of them stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects import gpu
from xdsl.dialects.builtin import DenseArrayBase, FunctionType, StringAttr, UnitAttr, i1, i32
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.traits import Pure

from lowering.gpu.dialect import ShuffleOp, WorkgroupMemoryOp
from lowering.kern import dialect as kern
from lowering.kern.builder import Index, KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from torsh_dialect.attributes import int_of, integer, str_of, text
from torsh_dialect.errors import UnsupportedError

WARP = 32
"""Threads of a warp, and the virtual lanes of the numerics contract."""

MOST_THREADS = 256
"""Threads of a block: a good occupancy on every card with up to 255 registers a thread."""

X = gpu.DimensionAttr(gpu.DimensionEnum.X)


@dataclass(frozen=True)
class GpuKernel:
    """A kernel and what it needs of a launch.

    Attributes:
        function: The `gpu.func`.
        threads: Threads of a block, a multiple of 32.
        used: The arguments of the `kern.func` (after lo, hi, worker) that it takes.
    """

    function: gpu.FuncOp
    threads: int
    used: tuple[int, ...]


def gpu_kernel(function: kern.FuncOp) -> GpuKernel:
    """Convert one kernel.

    Raises:
        UnsupportedError: It has an op that needs more than independent threads and warps.
    """
    block = function.body.block
    converter = Converter(KernBuilder(str_of(function.sym_name)), threads_of(block))
    used = [n for n, argument in enumerate(block.args[3:]) if argument.first_use is not None]
    for number in used:
        argument = block.args[3 + number]
        converter.values[argument] = converter.b.argument(argument.type, argument.name_hint)
    return GpuKernel(converter.convert(block), converter.threads, tuple(used))


def threads_of(block: Block) -> int:
    """Threads for a block of a kernel: a warp for each 4,096 elements of its longest reduction.

    Without reductions a thread for each iteration of its longest `kern.lanes`; 256 at most.
    """
    reductions = [op for op in block.walk() if is_warp_reduction(op)]
    lanes = [op for op in block.walk() if isinstance(op, kern.LanesOp)]
    if reductions:
        longest = max(_blocks(op) or MOST_THREADS // WARP for op in reductions)
        return min(MOST_THREADS, WARP * longest)
    longest = max((static_extent(op) or MOST_THREADS for op in lanes), default=1)
    return min(MOST_THREADS, -(-longest // WARP) * WARP)


def _blocks(op: Operation) -> int:
    """Blocks of elements of a reduction; 0 if that is not known."""
    return -(-(static_extent(op) or 0) // int_of(op.properties["block"]))


def static_extent(op: Operation) -> int | None:
    """The number of iterations of a loop op, where both bounds are constants."""
    bounds = [value.owner for value in op.operands[:2]]
    constants = [int_of(b.properties["value"]) for b in bounds if isinstance(b, kern.ConstOp)]
    return max(0, constants[1] - constants[0]) if len(constants) == 2 else None


def is_warp_reduction(op: Operation) -> bool:
    """Whether the op folds with 32 virtual lanes."""
    return isinstance(op, kern.ReduceOp) and int_of(op.lanes) == WARP


def known(value: SSAValue) -> Index:
    """An index as an integer, if it is a constant."""
    owner = value.owner
    return int_of(owner.value) if isinstance(owner, kern.ConstOp) else value


@dataclass
class Converter:
    """Rebuilds one function for the threads of a block.

    Attributes:
        b: Builds the new body.
        threads: Threads of a block.
        values: What values of the `kern.func` have become.
        divergent: Whether threads run the current place on their own.
        reductions: Those converted so far: equal ones, which fusing makes, are done once.
    """

    b: KernBuilder
    threads: int
    values: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    divergent: bool = False
    reductions: list[kern.ReduceOp] = field(default_factory=list[kern.ReduceOp])

    def convert(self, block: Block) -> gpu.FuncOp:
        """The `gpu.func` of a kernel whose used arguments are in `values`."""
        b = self.b
        inputs = [argument.type for argument in b.entry.args]
        unit = self._number(gpu.BlockIdOp, "unit", dimension=X)
        self.thread = self._number(gpu.ThreadIdOp, "thread", dimension=X)
        for argument, value in zip(block.args, (unit, b.add_index(unit, 1)), strict=False):
            self.values[argument] = b.index(value)
        self.block(block)
        body = b.finish()
        (returned,) = (op for op in body.body.block.ops if isinstance(op, kern.ReturnOp))
        body.body.block.add_op(gpu.ReturnOp([]))
        returned.detach()
        return gpu.FuncOp.create(
            properties={"function_type": FunctionType.from_lists(inputs, []), "kernel": UnitAttr()},
            attributes={
                "sym_name": StringAttr(b.name),
                "gpu.known_block_size": DenseArrayBase.from_list(i32, [self.threads, 1, 1]),
            },
            regions=[body.detach_region(0)],
        )

    def _number(self, cls: type[Operation], name: str, **properties: Attribute) -> SSAValue:
        """The number of this block, thread, lane or warp; read once."""
        value = self.b.pure(cls, (), INDEX, **properties)
        value.name_hint = name
        return value

    # -- blocks and ops

    def block(self, block: Block, arguments: Sequence[SSAValue] = ()) -> list[SSAValue]:
        """Convert the ops of a block here; gives what its terminator yields."""
        if arguments:
            self.values.update(zip(block.args, arguments, strict=True))
        for op in block.ops:
            if isinstance(op, kern.YieldOp | kern.ReturnOp):
                return self.all(op.operands)
            self.op(op)
        return []

    def all(self, values: Sequence[SSAValue]) -> list[SSAValue]:
        return [self.values[v] for v in values]

    def op(self, op: Operation) -> None:
        """Convert one op.

        Raises:
            UnsupportedError: There is no way to run it on threads.
        """
        match op:
            case kern.LanesOp():
                self._lanes(op)
            case kern.ReduceOp():
                self.values.update(zip(op.results, self._reduce(op), strict=True))
            case kern.ForOp():
                self._for(op)
            case kern.IfOp():
                self._if(op)
            case kern.StoreOp():
                self._store(op)
            case kern.WhileOp():
                self._while(op)
            case kern.LoadOp() | kern.OffsetOp():
                self.values[op.y] = self.b.value(type(op), op.y.type, *self.all(op.operands))
            case kern.ConstOp() if op.y.type == INDEX:
                self.values[op.y] = self.b.index(int_of(op.value))
            case _ if op.has_trait(Pure) and len(op.results) == 1:
                operands = self.all(op.operands)
                result = op.results[0]
                made = self.b.pure(type(op), operands, result.type, **op.properties)
                self.values[result] = made
            case _:
                raise UnsupportedError(
                    f"{op.name} has no lowering to GPUs: element-wise regions and reductions have"
                )

    def _store(self, op: kern.StoreOp) -> None:
        value, buffer, index, *mask = self.all(op.operands)
        if self.divergent:
            self.b.store(value, buffer, index, *mask)
            return

        def store() -> Sequence[SSAValue]:
            self.b.store(value, buffer, index, *mask)
            return ()

        self.b.if_(self.b.compare_index("eq", self.thread, 0), store)

    def _for(self, op: kern.ForOp) -> None:
        lower, upper, *init = self.all(op.operands)

        def body(i: SSAValue, *carried: SSAValue) -> Sequence[SSAValue]:
            return self.block(op.body.block, (i, *carried))

        results = self.b.for_(lower, upper, body, init, int_of(op.step))
        self.values.update(zip(op.results, results, strict=True))

    def _while(self, op: kern.WhileOp) -> None:
        def condition(*carried: SSAValue) -> SSAValue:
            return self.block(op.condition.block, carried)[0]

        def body(*carried: SSAValue) -> Sequence[SSAValue]:
            return self.block(op.body.block, carried)

        results = self.b.while_(self.all(op.operands), condition, body)
        self.values.update(zip(op.results, results, strict=True))

    def _if(self, op: kern.IfOp) -> None:
        arms = [lambda r=region: self.block(r.block) for region in op.regions]
        results = self.b.if_(self.values[op.condition], *arms)
        self.values.update(zip(op.results, results, strict=True))

    # -- lanes and reductions

    def _range(self, op: kern.ReduceOp) -> tuple[Index, Index, Sequence[SSAValue]]:
        lower, upper, *init = self.all(op.operands)
        return known(lower), known(upper), init

    def _lanes(self, op: kern.LanesOp) -> None:
        lower, upper = map(known, self.all(op.operands))
        outer, self.divergent = self.divergent, True

        def body(i: SSAValue, *_: SSAValue) -> Sequence[SSAValue]:
            self.block(op.body.block, (i,))
            return ()

        self.b.for_(self.b.add_index(lower, self.thread), upper, body, step=self.threads)
        self.divergent = outer

    def _reduce(self, op: kern.ReduceOp) -> Sequence[SSAValue]:
        here = op.parent
        assert here is not None
        for before in self.reductions:
            if before.parent is here and op.is_structurally_equivalent(before, {here: here}):
                return self.all(before.results)
        self.reductions.append(op)
        return self._warps(op) if is_warp_reduction(op) else self._chains(op)

    def _chain(
        self, op: kern.ReduceOp, first: Index, end: Index, init: Sequence[SSAValue], step: int
    ) -> Sequence[SSAValue]:
        """Elements first, first + step, ... one after the other, in this thread."""
        outer, self.divergent = self.divergent, True

        def fold(i: SSAValue, *sums: SSAValue) -> Sequence[SSAValue]:
            return self.block(op.combine.block, [*sums, *self.block(op.element.block, (i,))])

        results = self.b.for_(first, end, fold, init, step)
        self.divergent = outer
        return results

    def _chains(self, op: kern.ReduceOp) -> Sequence[SSAValue]:
        """One chain a block, blocks in order, in every thread on its own."""
        b, size = self.b, int_of(op.block)
        if int_of(op.lanes) != 1:
            raise UnsupportedError(f"a reduction over {int_of(op.lanes)} lanes fits no warp of 32")
        lower, upper, init = self._range(op)

        def one_block(first: SSAValue, *totals: SSAValue) -> Sequence[SSAValue]:
            end = b.min_index(b.add_index(first, size), upper)
            return self.block(op.combine.block, [*totals, *self._chain(op, first, end, init, 1)])

        return b.for_(lower, upper, one_block, init, size)

    def _warps(self, op: kern.ReduceOp) -> Sequence[SSAValue]:
        """Rounds of one block of elements for each warp; see the module docstring."""
        if self.divergent:
            raise UnsupportedError("a reduction over 32 lanes inside others has no warp for itself")
        b, size, warps = self.b, int_of(op.block), self.threads // WARP
        lower, upper, init = self._range(op)
        lane = self._number(gpu.LaneIdOp, "lane")
        warp: Index = 0 if warps == 1 else self._number(gpu.SubgroupIdOp, "warp")
        shared = [self._shared(v.type, warps) for v in init] if warps > 1 else []

        def one_round(first: SSAValue, *totals: SSAValue) -> Sequence[SSAValue]:
            start = b.add_index(first, b.mul_index(warp, size))
            end = b.min_index(b.add_index(start, size), upper)
            lanes = self._chain(op, b.add_index(start, lane), end, init, WARP)
            partial = self._tree(op, lanes)
            if warps == 1:
                return self.block(op.combine.block, [*totals, *partial])
            rest = b.floordiv(b.add_index(b.sub_index(upper, first), size - 1), size)
            self._leave(partial, shared, lane, warp)
            return self._in_order(op, totals, shared, b.min_index(warps, rest))

        return b.for_(lower, upper, one_round, init, warps * size)

    def _shared(self, element: Attribute, count: int) -> SSAValue:
        return self.b.value(WorkgroupMemoryOp, buffer_of(element), count=integer(count))

    def _tree(self, op: kern.ReduceOp, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
        """Lane n with lane n + 16, then 8, 4, 2, 1; every lane gets lane 0's result."""
        for distance in (16, 8, 4, 2, 1):
            others = [self._shuffle(v, distance, "down") for v in values]
            values = self.block(op.combine.block, [*values, *others])
        return [self._shuffle(v, 0, "idx") for v in values]

    def _shuffle(self, value: SSAValue, offset: int, mode: str) -> SSAValue:
        b = self.b
        op = ShuffleOp.create(
            operands=[value, b.const(offset, i32), b.const(WARP, i32)],
            result_types=[value.type, i1],
            properties={"mode": text(mode)},
        )
        b.append(op)
        return op.shuffle_result

    def _leave(
        self, partial: Sequence[SSAValue], shared: Sequence[SSAValue], lane: SSAValue, warp: Index
    ) -> None:
        """Every warp's results in the memory of the block."""

        def leave() -> Sequence[SSAValue]:
            for value, buffer in zip(partial, shared, strict=True):
                self.b.store(value, buffer, warp)
            return ()

        self.b.if_(self.b.compare_index("eq", lane, 0), leave)
        self.b.effect(gpu.BarrierOp)

    def _in_order(
        self,
        op: kern.ReduceOp,
        totals: Sequence[SSAValue],
        shared: Sequence[SSAValue],
        count: Index,
    ) -> Sequence[SSAValue]:
        """The totals with the results of the first `count` warps, in every thread."""
        b = self.b

        def add(w: SSAValue, *sums: SSAValue) -> Sequence[SSAValue]:
            return self.block(op.combine.block, [*sums, *(b.load_now(m, w) for m in shared)])

        totals = b.for_(0, count, add, totals)
        b.effect(gpu.BarrierOp)  # before the next round writes
        return totals
