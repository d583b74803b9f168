"""The native entry of a function: `NAME_plan` and `NAME_run` as `kern` host functions.

`run` checks nothing that `plan` has checked; it computes symbols, finds buffers, and launches
kernels in order. Control flow is native.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, OpResult, SSAValue

from lowering.kern import dialect as kern
from lowering.kern.builder import Index, KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from lowering.kernel import Argument, Buffer, DimArgument, Kernel, Record, Scratch
from lowering.passes.fuse import is_view
from lowering.program.checks import Checks
from lowering.program.control import run_cond, run_loop
from lowering.program.memory import Arena, aligned, plan
from lowering.program.storage import Storage, bytes_of, is_computed
from lowering.runtime.abi import Word
from torsh_dialect import dtypes
from torsh_dialect.attributes import integer, strs_of
from torsh_dialect.dims import LARGEST_EXTENT, Expr, symbol
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import CondOp, LoopOp, YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.symbols import symbols_in
from torsh_dialect.types import dims_of, element_type

WORDS = buffer_of(INDEX)
KernelOf = Callable[[FusedOp], "tuple[str, Kernel]"]


@dataclass
class Entry:
    """One function on its way to native code.

    Attributes:
        function: Straight-line `torsh.fused`, views, weights, constants and control flow.
        symbol: Prefix of the native functions.
        weight_index: Position of a weight or constant in the call's table, by its op.
        kernel_of: The name and kernel of a fused op.
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
        self.owned = self._outputs_in_place()
        self.arena = plan(self.storage.lifetimes(set(self.owned)))

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
            if is_computed(root) and root.owner.parent is self.block and whole:
                owned.setdefault(root, position)
        return owned

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

    # -- plan

    def plan_function(self) -> kern.FuncOp:
        """`i32 NAME_plan(call)`: checks input extents, fills output extents and arena bytes."""
        b = KernBuilder(f"{self.symbol}_plan", "host")
        call = b.argument(WORDS, "call")
        record = self._reset(b, call)
        self._symbols(b, call)
        self._check_inputs(b, call, record)
        outputs = pointer(b, call, Word.OUTPUT_DIMS, INDEX)
        position = 0
        for value in self.results:
            for dim in dims_of(value):
                b.store(b.index(b.dim(dim)), outputs, position)
                position += 1
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
                code = self.checks.input_extent(self.input_name(number), axis, dim)
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

    def input_name(self, number: int) -> str:
        """The user's name of an input."""
        names = self.function.attributes.get("arg_names")
        return f"input{number}" if names is None else strs_of(names)[number]

    # -- run

    def run_function(self) -> kern.FuncOp:
        """`i32 NAME_run(host, call)`: launches everything."""
        b = KernBuilder(f"{self.symbol}_run", "host")
        host, call = b.argument(buffer_of(dtypes.i8), "host"), b.argument(WORDS, "call")
        record = self._reset(b, call)
        self._symbols(b, call)
        run = _Run(self, b, host, call, record)
        run.block(self.block)
        run.copy_outputs()
        return b.finish(self._status(b, record))


def _define(b: KernBuilder, dim: Expr, value: SSAValue) -> None:
    """Give the symbol of `n` or `c*n` its value, if it has none."""
    if len(dim.terms) != 1 or len(dim.terms[0][0]) != 1 or dim.terms[0][0][0].arguments:
        return
    (atom,), coefficient = dim.terms[0]
    name = symbol(atom.name)
    if name not in b.known_dims:
        b.define_dim(name, b.index(b.floordiv(value, coefficient)))


def pointer(b: KernBuilder, table: SSAValue, index: Index, element: Attribute) -> SSAValue:
    """The buffer whose address is word `index` of a table."""
    return b.pure(kern.PointerOp, [table, b.index(index)], buffer_of(element))


@dataclass
class _Run:
    """Builds the body of `run`: finds buffers and launches kernels."""

    entry: Entry
    b: KernBuilder
    host: SSAValue
    call: SSAValue
    record: SSAValue

    @property
    def arena(self) -> Arena[SSAValue]:
        return self.entry.arena

    @property
    def storage(self) -> Storage:
        return self.entry.storage

    def buffer(self, value: SSAValue) -> SSAValue:
        """The memory of a value."""
        root, offset = self.storage.place(value)
        whole = self._whole(root, element_type(value))
        if offset == 0:
            return whole
        b = self.b
        return b.pure(kern.OffsetOp, [whole, b.index(b.dim(offset))], whole.type)

    def _whole(self, root: SSAValue, element: Attribute) -> SSAValue:
        """The memory of a value that is no view."""
        b = self.b
        if root in self.entry.owned:
            outputs = pointer(b, self.call, Word.OUTPUTS, INDEX)
            return pointer(b, outputs, self.entry.owned[root], element)
        if root in self.arena.offsets:
            base = pointer(b, self.call, Word.ARENA, dtypes.i8)
            offset = b.index(b.dim(self.arena.offsets[root]))
            return b.pure(kern.OffsetOp, [base, offset], buffer_of(element))
        if isinstance(root, OpResult):
            weights = pointer(b, self.call, Word.WEIGHTS, INDEX)
            return pointer(b, weights, self.entry.weight_index(root.op), element)
        inputs = pointer(b, self.call, Word.INPUTS, INDEX)
        assert isinstance(root, BlockArgument)
        return pointer(b, inputs, root.index, element)

    def block(self, block: Block) -> None:
        for op in block.ops:
            if isinstance(op, FusedOp):
                self.launch(op)
            elif isinstance(op, CondOp):
                run_cond(self, op)
            elif isinstance(op, LoopOp):
                run_loop(self, op)
            elif not (is_view(op) or isinstance(op, WeightOp | ConstantOp | ReturnOp | YieldOp)):
                raise UnsupportedError(f"{op.name} has no lowering")

    def launch(self, op: FusedOp) -> None:
        """Run the kernel of a fused op."""
        name, kernel = self.entry.kernel_of(op)
        b = self.b
        values = (*op.operands, *op.results)
        arguments = [self.argument(argument, values) for argument in kernel.arguments]
        units = b.index(b.dim(kernel.units))
        b.effect(
            kern.LaunchOp,
            self.host,
            units,
            *arguments,
            kernel=b.symbol(name),
            grain=integer(kernel.grain),
        )

    def argument(self, argument: Argument, values: Sequence[SSAValue]) -> SSAValue:
        """The word that stands for an argument of a kernel."""
        b = self.b
        match argument:
            case Buffer(position):
                return self.buffer(values[position])
            case DimArgument(dim):
                return b.index(b.dim(dim))
            case Record():
                return self.record
            case Scratch():
                base = pointer(b, self.call, Word.ARENA, dtypes.i8)
                offset = b.index(b.dim(aligned(self.arena.size)))
                return b.pure(kern.OffsetOp, [base, offset], buffer_of(dtypes.i8))

    def copy_outputs(self) -> None:
        """Copy results that are inputs, weights, or returned twice."""
        b = self.b
        for position, value in enumerate(self.entry.results):
            if self.entry.owned.get(self.entry.root(value)) == position:
                continue
            outputs = pointer(b, self.call, Word.OUTPUTS, INDEX)
            target = pointer(b, outputs, position, element_type(value))
            size = b.index(b.dim(bytes_of(value)))
            b.effect(kern.CopyOp, target, self.buffer(value), size)
