"""Move what depends on weights alone from `@main` to `@prepare`, which runs at compile time.

Before:

    func.func @main(%x) { %w = torsh.weight {id = "w"}; %t = torsh.transpose %w; ... use %t }

After:

    func.func @prepare(%w) -> ... { %t = torsh.transpose %w; func.return %t }
    func.func @main(%x) { %t = torsh.weight {id = "prepared.0"}; ... use %t }

`@prepare` takes raw weights (attribute `arg_names`) and gives prepared ones (`result_names`). It
is compiled like `@main` and runs again when weights are replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, OpResult, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from torsh_dialect.attributes import names_attribute, str_of
from torsh_dialect.dims import symbols_of
from torsh_dialect.kinds import Control, DataDependent, Random, TensorOp
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.types import DimsAttr, dims_of


def function_named(module: ModuleOp, name: str) -> FuncOp | None:
    """The function of that name, if there is one."""
    for op in module.ops:
        if isinstance(op, FuncOp) and op.sym_name.data == name:
            return op
    return None


def is_movable(op: Operation, moved: set[Operation]) -> bool:
    """Whether the op's value depends on weights and constants alone."""
    if not isinstance(op, TensorOp) or isinstance(op, Control | Random | DataDependent | YieldOp):
        return False
    if isinstance(op, WeightOp | ConstantOp):
        return True
    owners = [v.op if isinstance(v, OpResult) else None for v in op.operands]
    return bool(owners) and all(owner in moved for owner in owners) and not depends_on_symbols(op)


def depends_on_symbols(op: Operation) -> bool:
    """Whether an extent of a result or in a property is symbolic, and so not known before a run."""
    named = [v.data for v in op.properties.values() if isinstance(v, DimsAttr)]
    found = [*named, *(dims_of(r) for r in op.results if hasattr(r.type, "element_type"))]
    return any(symbols_of(dim) for dims in found for dim in dims)


def hoist(block: Block) -> None:
    """Move ops that depend on weights alone out of the regions of control ops."""
    moved: set[Operation] = set()
    for op in list(block.walk()):
        if is_movable(op, moved):
            moved.add(op)
            outer = op
            while outer.parent_block() is not block:
                parent = outer.parent_op()
                assert parent is not None
                outer = parent
            if outer is not op:
                op.detach()
                block.insert_op_before(op, outer)


def needed(moved: set[Operation]) -> list[SSAValue]:
    """Results of moved ops, beyond weights and constants, that other ops use."""
    return [
        result
        for op in moved
        if not isinstance(op, WeightOp | ConstantOp)
        for result in op.results
        if any(use.operation not in moved for use in result.uses)
    ]


@dataclass(frozen=True)
class PreparePass(ModulePass):
    """See the module docstring. A module without weight-only ops gets no `@prepare`."""

    name = "prepare"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        main = function_named(op, "main")
        if main is None:
            return
        hoist(main.body.block)
        order = list(main.body.block.ops)
        moved: set[Operation] = set()
        for inner in order:
            if is_movable(inner, moved):
                moved.add(inner)
        places = {inner: place for place, inner in enumerate(order)}
        results = sorted(needed(moved), key=lambda v: places[v.owner])  # pyright: ignore[reportArgumentType]
        if results:
            wanted = _ancestors(results)
            _split(op, main, [inner for inner in order if inner in wanted], results)


def _ancestors(values: list[SSAValue]) -> set[Operation]:
    found: set[Operation] = set()
    work = list(values)
    while work:
        value = work.pop()
        if isinstance(value, OpResult) and value.op not in found:
            found.add(value.op)
            work.extend(value.op.operands)
    return found


def _split(module: ModuleOp, main: FuncOp, ops: list[Operation], results: list[SSAValue]) -> None:
    """Build `@prepare` from copies of `ops`, and weights in `@main` for its results."""
    block = Block()
    copies: dict[SSAValue, SSAValue] = {}
    names: dict[str, SSAValue] = {}
    for op in ops:
        if isinstance(op, WeightOp):
            name = str_of(op.id)
            if name not in names:
                names[name] = block.insert_arg(op.y.type, len(block.args))
            copies[op.y] = names[name]
            continue
        copy = op.clone(value_mapper=copies)
        block.add_op(copy)
        copies.update(zip(op.results, copy.results, strict=True))
    block.add_op(ReturnOp(*(copies[v] for v in results)))
    prepared = [f"prepared.{n}" for n in range(len(results))]
    types = ([a.type for a in block.args], [v.type for v in results])
    function = FuncOp("prepare", types, Region(block))
    function.attributes["arg_names"] = names_attribute(names)
    function.attributes["result_names"] = names_attribute(prepared)
    Rewriter.insert_op(function, InsertPoint.before(main))
    for name, value in zip(prepared, results, strict=True):
        weight = WeightOp.make(id=name, type=value.type)
        weight.location = value.owner.location  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        Rewriter.insert_op(weight, InsertPoint.before(value.owner))  # pyright: ignore[reportArgumentType]
        value.replace_all_uses_with(weight.y)
    for op in reversed(ops):
        if not any(r.uses for r in op.results):
            op.detach()
            op.erase()
