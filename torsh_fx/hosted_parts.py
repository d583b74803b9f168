"""Native functions of hosted models, as functions that can be entered.

Where a model is entered, each extent of an argument is read off the arguments' own extents. A
native function may take a tensor of which only one of its ops tells the extent:

    func.func @main(%x : tensor<?xf32, [3*u]>, %n : tensor<1xi64>) { %b = torsh.bind %n {u}; ... }

Such an extent gets a name, and is checked behind the op:

    func.func @main(%x : tensor<?xf32, [extent_0]>, %n : tensor<1xi64>) {
      %b = torsh.bind %n {u}
      %0 = torsh.assume %x {extent_0 = 3*u}
      %1 = torsh.reshape %0 to [3*u]; ... }
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import Rewriter

from torsh_dialect.attributes import dims_attribute, strs_of
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import Dim, symbol, symbols_of
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.shape import AssumeOp, BindOp
from torsh_dialect.symbols import set_symbols, symbols_in
from torsh_dialect.types import dims_of, element_type, tensor


def name_extents(function: FuncOp) -> None:
    """Name the extents of arguments that only ops of the function tell. See the module."""
    block, bounds = function.body.block, symbols_in(function)
    told = {str(d) for a in block.args for d in _dims(a.type) if str(d).isidentifier()}
    for argument in list(block.args):
        dims = _dims(argument.type)
        untold = {s for dim in dims for s in symbols_of(dim)} - told
        binders = [op for op in block.ops if isinstance(op, BindOp)]
        last = next((b for b in reversed(binders) if untold & set(strs_of(b.names))), None)
        if not untold or last is None:
            continue
        named: list[Dim] = list(dims)
        for axis, dim in enumerate(dims):
            if symbols_of(dim) & untold:
                name = f"extent_{sum(n.startswith('extent_') for n in bounds)}"
                bounds[name] = (0, None)
                named[axis] = symbol(name)
        _check_behind(last, argument, named)
    function.update_function_type()
    set_symbols(function, bounds)


def _check_behind(last: Operation, argument: SSAValue, named: Sequence[Dim]) -> None:
    """Give an argument other extents, and its own ones to what stands behind an op."""
    block = last.parent_block()
    assert block is not None
    dims = _dims(argument.type)
    argument = Rewriter.replace_value_with_new_type(argument, tensor(element_type(argument), named))
    behind = [use for use in argument.uses if _is_behind(use.operation, last)]
    builder = BlockBuilder(block, before=last.next_op, location=last.location)
    x = argument
    for new, old in zip(named, dims, strict=True):
        if new != old:
            sides = {"left": dims_attribute([new]), "right": dims_attribute([old])}
            x = builder(AssumeOp, x, relation="eq", **sides)
    y = Compose(builder).reshape(x, dims)
    for use in behind:
        use.operation.operands[use.index] = y


def _is_behind(op: Operation, last: Operation) -> bool:
    """Whether an op, or the one around it in `last`'s block, stands behind `last`."""
    at: Operation | None = op
    while at is not None and at.parent_block() is not last.parent_block():
        at = at.parent_op()
    return at is not None and last.is_before_in_block(at)


def _dims(type: Attribute) -> tuple[Dim, ...]:
    return dims_of(type) if isinstance(type, TensorType) else ()  # pyright: ignore[reportUnknownArgumentType]
