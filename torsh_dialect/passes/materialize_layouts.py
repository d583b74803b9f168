"""Arguments and results that are not stored row-major become tensors as they lie in memory.

Before:

    func.func @main(%x: tensor<1x3x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1]>>) { ... %x ... }

After:

    func.func @main(%x: tensor<1x8x8x3xf32>) attributes {torsh.arg_layouts = [array<i64: 0, 2,
      3, 1>]} { %0 = torsh.transpose %x {perm = array<i64: 0, 3, 1, 2>} : ...; ... %0 ... }

A result of another layout is transposed before the return. Inside a function a layout is nothing
that anyone sees: `torsh.to_layout` goes. `choose-layout` then moves the transposes to where they
meet others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import InsertPoint, Rewriter

from torsh_dialect.attributes import integers, ints_of
from torsh_dialect.driver import rewrite
from torsh_dialect.encodings import Layout
from torsh_dialect.ops.movement import TransposeOp
from torsh_dialect.ops.storage import ToLayoutOp
from torsh_dialect.placement import row_major
from torsh_dialect.types import device_of, dims_of, element_type, is_stored, layout_of, tensor

ARGUMENTS, RESULTS = "torsh.arg_layouts", "torsh.result_layouts"
"""Attributes of a function: the layouts that its arguments and results had; empty: row-major."""


def layouts_in(function: FuncOp, attribute: str, count: int) -> tuple[Layout, ...]:
    """The layouts of `count` arguments or results; () for row-major."""
    value = function.attributes.get(attribute)
    return tuple(map(ints_of, value)) if isinstance(value, ArrayAttr) else ((),) * count  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def inverse(layout: Layout) -> Layout:
    """For each axis, where it stands in the layout."""
    return tuple(layout.index(axis) for axis in range(len(layout)))


def in_memory(type: Attribute, layout: Layout) -> Attribute:
    """The row-major type of what a value of `type` is in memory."""
    dims = dims_of(type)
    return tensor(element_type(type), [dims[axis] for axis in layout], device=device_of(type))


class DropToLayout(RewritePattern):
    """Inside a function the layout is the compiler's choice."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ToLayoutOp, rewriter: PatternRewriter):
        rewriter.replace(op, (), [op.x])


class BorderInMemoryOrder(RewritePattern):
    """The function takes and gives what lies in memory, and transposes inside."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: FuncOp, rewriter: PatternRewriter):
        results = [_layout(type) for type in op.function_type.outputs]
        arguments = [_layout(value.type) for value in op.args]
        if not any((*arguments, *results)):
            return
        block = op.body.block
        for value, layout in zip(list(block.args), arguments, strict=True):
            if layout:
                _argument(block, value, layout)
        last = block.last_op
        assert isinstance(last, ReturnOp)
        for number, layout in enumerate(results):
            if layout:
                turned = TransposeOp.make(last.operands[number], perm=layout, location=op.location)
                Rewriter.insert_op(turned, InsertPoint.before(last))
                last.operands[number] = turned.results[0]
        types = ([v.type for v in block.args], [v.type for v in last.operands])
        op.properties["function_type"] = FunctionType.from_lists(*types)
        for name, layouts in ((ARGUMENTS, arguments), (RESULTS, results)):
            if any(layouts):
                op.attributes[name] = ArrayAttr([integers(layout) for layout in layouts])
        rewriter.handle_operation_modification(op)


def _layout(type: Attribute) -> Layout:
    return (layout_of(type) or ()) if is_stored(type) else ()


def _argument(block: Block, value: SSAValue, layout: Layout) -> None:
    """Let an argument be what lies in memory; what used it uses its transpose."""
    hint = value.name_hint
    physical = Rewriter.replace_value_with_new_type(value, in_memory(value.type, layout))
    physical.name_hint = hint
    uses = list(physical.uses)
    turned = TransposeOp.make(physical, perm=inverse(layout))
    first = block.first_op
    assert first is not None
    Rewriter.insert_op(turned, InsertPoint.before(first))
    for use in uses:
        use.operation.operands[use.index] = turned.results[0]


def _row_major_inside(function: FuncOp) -> None:
    """Drop the layouts of arguments of regions, whose values come from outside."""
    for op in list(function.walk()):
        for region in op.regions if op is not function else ():
            for argument in [a for block in region.blocks for a in block.args]:
                if _layout(argument.type):
                    Rewriter.replace_value_with_new_type(argument, row_major(argument.type))


@dataclass(frozen=True)
class MaterializeLayoutsPass(ModulePass):
    """See the module docstring."""

    name = "materialize-layouts"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        functions: Sequence[FuncOp] = [f for f in op.ops if isinstance(f, FuncOp)]
        if rewrite(op, BorderInMemoryOrder(), DropToLayout()):
            for function in functions:
                _row_major_inside(function)
