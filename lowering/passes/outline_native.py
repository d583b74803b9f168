"""Split functions that hold sequences, optional values or strings: the tensor code moves out.

Before:

    func.func @main(%s : !torsh.seq<tensor<2xf32>>, %i : tensor<i64>) {
      %x = torsh.sequence_at %s, %i
      %y = torsh.relu %x
      %z = torsh.exp %y
      %r = torsh.sequence_insert %s, %z
      func.return %r }

After:

    func.func @native_0(%x : tensor<2xf32>) { %y = torsh.relu %x; %z = torsh.exp %y; func.return %z }
    func.func @main(...) {
      %x = torsh.sequence_at %s, %i
      %z = func.call @native_0(%x)
      %r = torsh.sequence_insert %s, %z
      func.return %r }

The functions are compiled; what is left of `@main` are calls of them, and host functions. A module
without such values stays as it is. Constants and weights are copied to where they are used.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import (
    ModuleOp,
    SymbolRefAttr,
    TensorType,
    UnrankedTensorType,
)
from xdsl.dialects.func import CallOp, FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.traits import IsTerminator

from torsh_dialect.attributes import names_attribute, strs_of
from torsh_dialect.dims import Expr, symbols_of
from torsh_dialect.dtypes import StringType
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.kinds import DefinesSymbols
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.shape import BindOp, DimOp
from torsh_dialect.symbols import set_symbols, symbols_in
from torsh_dialect.types import DimsAttr, MapType, OptionalType, SequenceType, dims_of

PREFIX = "native_"
"""Names of the functions that hold tensor code."""


def is_host_type(type: Attribute) -> bool:
    """Whether values of the type live in the host: sequences, optional values, maps, strings."""
    if isinstance(type, TensorType | UnrankedTensorType):
        return isinstance(type.element_type, StringType)  # pyright: ignore[reportUnknownMemberType]
    return isinstance(type, SequenceType | OptionalType | MapType)


def is_hosted(op: Operation) -> bool:
    """Whether the op, or one in its regions, takes or gives values that live in the host."""
    values = (*op.operands, *op.results, *(a for r in op.regions for b in r.blocks for a in b.args))
    return any(is_host_type(value.type) for value in values) or any(
        is_hosted(inner) for region in op.regions for block in region.blocks for inner in block.ops
    )


def needs_host(module: ModuleOp) -> bool:
    """Whether the module holds values that live in the host."""
    return any(is_hosted(op) for op in module.ops)


@dataclass
class Outliner:
    """Moves runs of native ops of one function into functions of their own."""

    function: FuncOp
    made: list[FuncOp] = field(default_factory=list[FuncOp])

    def block(self, block: Block) -> None:
        """Outline the runs of a block, and those in the regions of its hosted ops."""
        run: list[Operation] = []
        for op in list(block.ops):
            if is_hosted(op) or op.has_trait(IsTerminator):
                self._outline(run)
                run = []
                for region in op.regions:
                    for inner in region.blocks:
                        self.block(inner)
            elif isinstance(op, BindOp):
                self._outline(run)  # what it binds is known to later runs only
                run = []
            elif not isinstance(op, ConstantOp | WeightOp):
                run.append(op)
        self._outline(run)

    def _outline(self, run: Sequence[Operation]) -> None:
        if not run:
            return
        results = [r for op in run for r in op.results if _used_outside(r, run)]
        if not results:
            return
        inputs, copies = self._sources(run)
        block = Block(arg_types=[value.type for value in inputs])
        inside: dict[SSAValue, SSAValue] = dict(zip(inputs, block.args, strict=True))
        for copy in copies:
            clone = copy.clone(inside)
            block.add_op(clone)
            inside.update(zip(copy.results, clone.results, strict=True))
        name = f"{PREFIX}{len(self.made)}"
        call = CallOp.create(
            operands=inputs,
            result_types=[r.type for r in results],
            properties={"callee": SymbolRefAttr(name)},
            location=run[0].location,
        )
        Rewriter.insert_op(call, InsertPoint.before(run[0]))
        for old, new in zip(results, call.results, strict=True):
            new.name_hint = old.name_hint
            old.replace_all_uses_with(new)
        for op in run:
            op.detach()
            block.add_op(op)
            for nested in op.walk():
                nested.operands = [inside.get(v, v) for v in nested.operands]
        # uses inside the run go back to the ops' own results
        own: dict[SSAValue, SSAValue] = dict(zip(call.results, results, strict=True))
        for op in run:
            for nested in op.walk():
                nested.operands = [own.get(v, v) for v in nested.operands]
        block.add_op(ReturnOp(*results))
        self.made.append(self._function(name, block, results))

    def _function(self, name: str, block: Block, results: Sequence[SSAValue]) -> FuncOp:
        types = [a.type for a in block.args], [r.type for r in results]
        function = FuncOp(name, types, Region(block))
        function.attributes["arg_names"] = names_attribute([f"a{n}" for n in range(len(types[0]))])
        function.attributes["result_names"] = names_attribute(
            [f"r{n}" for n in range(len(types[1]))]
        )
        mentioned = {s for op in block.walk() for s in _symbols(op)}
        mentioned |= {s for a in block.args for s in _symbols_of_type(a.type)}
        bounds = symbols_in(self.function)
        set_symbols(function, {n: b for n, b in bounds.items() if n in mentioned})
        return function

    def _sources(self, run: Sequence[Operation]) -> tuple[list[SSAValue], list[Operation]]:
        """Values that the run takes, and the ops whose copies it needs."""
        inputs: dict[SSAValue, None] = {}
        copies: dict[Operation, None] = {}
        for op in run:
            for nested in op.walk():
                for value in nested.operands:
                    if _is_inside(value, run):
                        continue
                    if isinstance(value, OpResult) and isinstance(value.op, ConstantOp | WeightOp):
                        copies[value.op] = None
                    else:
                        inputs[value] = None
        for name in sorted(self._unbound(run, list(inputs))):
            binder = _binder(name, run[0])
            if isinstance(binder, BindOp):
                inputs[binder.x] = None
                copies[binder] = None
            else:
                inputs[binder] = None
        return list(inputs), list(copies)

    def _unbound(self, run: Sequence[Operation], inputs: Sequence[SSAValue]) -> set[str]:
        """Symbols that the run uses and neither makes nor can read off its inputs."""
        nested = [inner for op in run for inner in op.walk()]
        needed = {s for op in nested for s in _symbols(op)}
        needed |= {s for value in inputs for s in _symbols_of_type(value.type)}
        bound = {str(d) for v in inputs for d in _dims(v.type) if _is_bare(d)}
        return needed - bound - {name for op in nested for name in _introduced(op)}


def _used_outside(value: SSAValue, run: Sequence[Operation]) -> bool:
    return any(_ancestor_in(use.operation, run) is None for use in value.uses)


def _is_inside(value: SSAValue, run: Sequence[Operation]) -> bool:
    owner = value.owner
    operation = owner.parent_op() if isinstance(owner, Block) else owner
    return operation is not None and _ancestor_in(operation, run) is not None


def _ancestor_in(op: Operation, run: Sequence[Operation]) -> Operation | None:
    at: Operation | None = op
    while at is not None and at not in run:
        at = at.parent_op()
    return at


def _dims(type: Attribute) -> tuple[int | Expr, ...]:
    return dims_of(type) if isinstance(type, TensorType) else ()  # pyright: ignore[reportUnknownArgumentType]


def _is_bare(dim: int | Expr) -> bool:
    return isinstance(dim, Expr) and str(dim).isidentifier()


def _symbols_of_type(type: Attribute) -> set[str]:
    return {s for dim in _dims(type) for s in symbols_of(dim)}


def _symbols(op: Operation) -> Iterator[str]:
    """Symbols in an op's properties, and in the types of its results and arguments."""
    for value in op.properties.values():
        if isinstance(value, DimsAttr):
            yield from (s for dim in value.data for s in symbols_of(dim))
    arguments = [a for region in op.regions for block in region.blocks for a in block.args]
    for value in (*op.results, *arguments):
        yield from _symbols_of_type(value.type)


def _introduced(op: Operation) -> Iterator[str]:
    """Symbols that an op gives a value when it runs."""
    yield from DefinesSymbols.named(op)
    for region in op.regions:
        for block in region.blocks:
            yield from (str(d) for a in block.args for d in _dims(a.type) if _is_bare(d))


def _visible(op: Operation) -> Iterator[SSAValue]:
    """Values that are defined before an op, in its block and in those around it."""
    at: Operation | None = op
    while at is not None:
        block = at.parent_block()
        if block is None:
            return
        yield from block.args
        for before in block.ops:
            if before is at:
                break
            yield from before.results
        at = block.parent_op()


def _binder(name: str, op: Operation) -> SSAValue | BindOp:
    """What tells the value of a symbol: a tensor with that extent, or the op that binds it.

    A tensor of strings cannot go to native code; its extent is taken by a host function.

    Raises:
        UnsupportedError: Nothing does.
    """
    strings: list[SSAValue] = []
    for value in _visible(op):
        if any(_is_bare(d) and str(d) == name for d in _dims(value.type)):
            if not is_host_type(value.type):
                return value
            strings.append(value)
        owner = value.owner
        if isinstance(owner, BindOp) and name in strs_of(owner.names):
            return owner
    for value in strings:
        axis = next(n for n, d in enumerate(_dims(value.type)) if str(d) == name)
        extent = DimOp.make(value, axis=axis, location=op.location)
        bind = BindOp.make(extent, names=[name], location=op.location)
        Rewriter.insert_op([extent, bind], InsertPoint.before(op))
        return bind
    raise UnsupportedError(
        f"the extent {name} is not known where tensor code between sequences or strings needs it; "
        "make it static"
    )


@dataclass(frozen=True)
class OutlineNativePass(ModulePass):
    """See the module docstring."""

    name = "outline-native"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if not needs_host(op):
            return
        for function in [f for f in op.ops if isinstance(f, FuncOp)]:
            outliner = Outliner(function)
            outliner.block(function.body.block)
            for made in outliner.made:
                op.body.block.add_op(made)
