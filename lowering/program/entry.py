"""The native entry of a function: `NAME_plan` and `NAME_run` as `kern` host functions.

`run` checks nothing that `plan` has checked; see `run.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from itertools import chain, groupby
from operator import itemgetter

from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from lowering.kern import dialect as kern
from lowering.kern.builder import KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from lowering.kernel import Kernel
from lowering.passes.fuse import is_view
from lowering.program.checks import Checks
from lowering.program.empty_sums import empty_calls
from lowering.program.memory import Arena, Lifetime, aligned, plan
from lowering.program.relations import Relation, relations
from lowering.program.run import Run, assumed, location_of, pointer
from lowering.program.storage import SLOTS, Key, Storage, bytes_of, is_computed
from lowering.runtime.abi import Word
from torsh_dialect import dtypes
from torsh_dialect.attributes import strs_of
from torsh_dialect.dims import LARGEST_EXTENT, Dim, Expr, symbol, symbols_of
from torsh_dialect.ops.control import CondOp, LoopOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.shape import AssumeOp, BindOp
from torsh_dialect.symbols import symbols_in
from torsh_dialect.types import dims_of

WORDS = buffer_of(INDEX)
KernelOf = Callable[[FusedOp], Kernel]

SLOT_BYTES = 16
"""A slot is the address of a buffer and its size."""


@dataclass
class Entry:
    """One function on its way to native code.

    Attributes:
        function: Straight-line `torsh.fused`, views, weights, constants and control flow.
        symbol: Prefix of the native functions.
        weight_index: Position of a weight or constant in the call's table, by its op.
        kernel_of: The kernel of a fused op, with its final name.
        scratch: Where kernels' memory for each thread begins in the arena.
    """

    function: FuncOp
    symbol: str
    weight_index: Callable[[Operation], int]
    kernel_of: KernelOf
    checks: Checks = field(default_factory=Checks)

    def __post_init__(self) -> None:
        self.block = self.function.body.block
        last = self.block.last_op
        assert isinstance(last, ReturnOp)
        self.results: Sequence[SSAValue] = last.operands
        self.storage = Storage(self.block)
        self.known = {n for a in self.function.args for d in dims_of(a) if (n := _defined(d))}
        self.kernels: dict[Operation, Kernel] = {
            op: self.kernel_of(op) for op in self.storage.order if isinstance(op, FusedOp)
        }
        self.owned = self._outputs_in_place()
        needed = self.storage.lifetimes(set(self.owned), self.kernels)
        late = [buffer for buffer in needed if self.is_late(buffer.size)]
        self.slots: dict[Key, int] = {buffer.key: n for n, buffer in enumerate(late)}
        planned = [buffer for buffer in needed if not self.is_late(buffer.size)]
        if late:
            planned.append(Lifetime(SLOTS, SLOT_BYTES * len(late), 0, len(self.storage.order)))
        self.arena: Arena[Key] = plan(planned)
        self.scratch: Dim = aligned(self.arena.size)
        self.fills = self._fills()

    # -- what lives where

    def root(self, value: SSAValue) -> SSAValue:
        """The value whose memory `value` is part of."""
        return self.storage.place(value)[0]

    def _outputs_in_place(self) -> dict[SSAValue, int]:
        """Values that are computed straight into the caller's outputs."""
        owned: dict[SSAValue, int] = {}
        for position, value in enumerate(self.results):
            root = self.root(value)
            whole = bytes_of(root) == bytes_of(value)
            if not (is_computed(root) and root.owner.parent is self.block and whole):
                continue
            if self.is_late_output(root) and not self._is_placeable(root, value):
                continue
            owned.setdefault(root, position)
        return owned

    def _is_placeable(self, root: SSAValue, value: SSAValue) -> bool:
        """Whether an output of late extents can be made when its root is computed."""
        known = self.known.union(*(symbols_of(d) for d in dims_of(root)))
        return isinstance(root.owner, FusedOp) and all(
            symbols_of(d) <= known for d in dims_of(value)
        )

    def _fills(self) -> dict[str, list[tuple[FusedOp, Kernel]]]:
        """What fills the results where a symbol is 0, by symbol: see `empty_sums`."""
        found: dict[str, list[tuple[FusedOp, Kernel]]] = {}
        for name, regions in empty_calls(self.block, self.results, symbols_in(self.function)):
            if name in self.known:
                for position, region in enumerate(regions):
                    self.owned[region.results[0]] = position
                found[name] = [(region, self.kernel_of(region)) for region in regions]
        return found

    def in_place(self) -> tuple[tuple[int, int], ...]:
        """Pairs of an input and an output that may be the same memory in a call."""
        return tuple(
            (argument.index, self.owned[result])
            for result, argument in self.storage.overwriting.items()
            if result in self.owned
        )

    # -- what is known when

    def is_late(self, size: Dim) -> bool:
        """Whether a size is not known before the program runs."""
        return not symbols_of(size) <= self.known

    def is_late_output(self, value: SSAValue) -> bool:
        """Whether an output has an extent that is not known before the program runs."""
        return any(self.is_late(dim) for dim in dims_of(value))

    def is_planned(self, relation: Relation) -> bool:
        """Whether `plan` can check a relation."""
        return relation.symbols() <= self.known

    # -- symbols

    def _symbols(self, b: KernBuilder, call: SSAValue) -> None:
        """Give every symbol of the inputs its value from the input extents."""
        extents = pointer(b, call, Word.INPUT_DIMS, INDEX)
        position = 0
        for argument in self.function.args:
            for dim in dims_of(argument):
                if isinstance(dim, Expr):
                    _define(b, dim, b.load(extents, position))
                position += 1

    def _offsets(self, b: KernBuilder) -> None:
        """Compute each symbolic offset in the arena from the one before."""
        for offset, (before, size) in self.arena.sums.items():
            b.define_dim(offset, b.index(b.add_index(b.dim(before), b.dim(size))))

    # -- plan

    def plan_function(self) -> kern.FuncOp:
        """`i32 NAME_plan(call)`: checks input extents, fills output extents and arena bytes."""
        b = KernBuilder(f"{self.symbol}_plan", "host")
        call = b.argument(WORDS, "call")
        record = self._reset(b, call)
        self._symbols(b, call)
        self._check_relations(b, record)
        self._check_inputs(b, call, record)
        outputs = pointer(b, call, Word.OUTPUT_DIMS, INDEX)
        position = 0
        for value in self.results:
            for dim in dims_of(value):
                extent = -1 if self.is_late(dim) else b.dim(dim)
                b.store(b.index(extent), outputs, position)
                position += 1
        self._offsets(b)
        b.store(b.index(b.dim(self.arena.size)), call, Word.ARENA_BYTES)
        return b.finish(self._status(b, record))

    def _reset(self, b: KernBuilder, call: SSAValue) -> SSAValue:
        record = pointer(b, call, Word.ERROR, dtypes.i64)
        b.store(b.const(0, dtypes.i64), record, Checks.CODE)
        return record

    def _status(self, b: KernBuilder, record: SSAValue) -> SSAValue:
        return b.cast(b.load_now(record, Checks.CODE), dtypes.i32)

    def _check_inputs(self, b: KernBuilder, call: SSAValue, record: SSAValue) -> None:
        extents = pointer(b, call, Word.INPUT_DIMS, INDEX)
        position = 0
        for number, argument in enumerate(self.function.args):
            for axis, dim in enumerate(dims_of(argument)):
                given, wanted = b.load(extents, position), b.dim(dim)
                code = self.checks.input_extent(self.input_names[number], axis, dim)
                b.check(record, b.compare_index("eq", given, wanted), given, wanted, code)
                position += 1
        bounds = symbols_in(self.function)
        for known in list(b.known_dims):
            name = str(known)
            if not name.isidentifier():
                continue
            low, high = bounds.get(name, (0, None))
            value, most = b.dim(known), LARGEST_EXTENT if high is None else high
            code = self.checks.upper_bound(name)
            b.check(record, b.compare_index("le", value, most), value, most, code)
            if low > 0:
                code = self.checks.lower_bound(name)
                b.check(record, b.compare_index("ge", value, low), value, low, code)

    def _check_relations(self, b: KernBuilder, record: SSAValue) -> None:
        """What ops need of the input's extents, for ops that run whatever the data are.

        The record keeps the last check that fails, so those of the first op come last.
        """
        ops: dict[Relation, Operation] = {}
        for op in self.block.ops:
            if isinstance(op, AssumeOp):
                ops.setdefault(assumed(op), op)
            elif isinstance(op, FusedOp) or is_view(op):
                for relation, inner in relations(op):
                    ops.setdefault(relation, inner)
        found = [(relation, op) for relation, op in ops.items() if self.is_planned(relation)]
        by_op = [list(group) for _, group in groupby(found, itemgetter(1))]
        for relation, op in chain.from_iterable(reversed(by_op)):
            code = self.checks.relation(relation, "input", location_of(op))
            left, right = b.dim(relation.left), b.dim(relation.right)
            b.check(record, relation.build(b), left, right, code)

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The user's names of the inputs."""
        names = self.function.attributes.get("arg_names")
        if names is None:
            return tuple(f"input{number}" for number in range(len(self.function.args)))
        return strs_of(names)

    # -- run

    def run_function(self) -> kern.FuncOp:
        """`i32 NAME_run(host, call)`: launches everything."""
        b = KernBuilder(f"{self.symbol}_run", "host")
        host, call = b.argument(buffer_of(dtypes.i8), "host"), b.argument(WORDS, "call")
        record = self._reset(b, call)
        self._symbols(b, call)
        self._offsets(b)
        run = Run(self, b, host, call, record)
        if self._may_be_nothing():
            sizes = (b.compare_index("ne", b.dim(bytes_of(v)), 0) for v in self.results)
            b.if_(reduce(b.or_, sizes), lambda: self._something(run, list(self.fills)))
        else:
            self._something(run, list(self.fills))
        return b.finish(self._status(b, record))

    def _something(self, run: Run, empty: Sequence[str]) -> Sequence[SSAValue]:
        """Fill the results where one of the symbols `empty` is 0, else run everything."""
        if not empty:
            return run.whole()
        b, (name, *others) = run.b, empty
        is_empty = b.compare_index("eq", b.dim(symbol(name)), 0)
        fill, rest = partial(run.fill, self.fills[name]), partial(self._something, run, others)
        return b.if_(is_empty, fill, rest)

    def _may_be_nothing(self) -> bool:
        """Whether calls without an element to compute exist, and need no op for its checks."""
        checking = BindOp | CondOp | LoopOp
        return bool(self.results) and not (
            any(isinstance(op, checking) for op in self.block.ops)
            or any(isinstance(bytes_of(v), int) or self.is_late_output(v) for v in self.results)
        )


def _define(b: KernBuilder, dim: Expr, value: SSAValue) -> None:
    """Give the symbol of `n` or `c*n` its value, if it has none."""
    name = _defined(dim)
    if name is not None and symbol(name) not in b.known_dims:
        coefficient = dim.terms[0][1]
        b.define_dim(symbol(name), b.index(b.floordiv(value, coefficient)))


def _defined(dim: Dim) -> str | None:
    """The symbol that an extent `n` or `c*n` of an input gives a value to."""
    if isinstance(dim, int) or len(dim.terms) != 1 or len(dim.terms[0][0]) != 1:
        return None
    (atom,), _ = dim.terms[0]
    return None if atom.arguments else atom.name
