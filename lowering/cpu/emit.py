"""`kern` functions to LLVM IR text: one emitter, dispatching on the op's class.

Outside `kern.lanes` everything is scalar. Inside, uniform values stay scalar and varying ones
become vectors of the loop's width; the last, partial group of lanes runs the same code masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Block, Region, SSAValue

# These fill the table of emitters.
import lowering.cpu.control  # pyright: ignore[reportUnusedImport]
import lowering.cpu.lanes  # pyright: ignore[reportUnusedImport]
import lowering.cpu.plain  # pyright: ignore[reportUnusedImport]
import lowering.cpu.reduce  # noqa: F401  # pyright: ignore[reportUnusedImport]
from lowering.cpu.emitter import EMITTERS, Emitter
from lowering.cpu.templates.epilogue import Epilogue, EpilogueBody, Hooks
from lowering.cpu.text import KERNEL_PARAMETERS, Module, Text, Value, lanes_of, vector_of
from lowering.cpu.values import Val, memory_type, register_type
from lowering.kern import dialect as kern
from torsh_dialect.attributes import str_of
from torsh_dialect.target import TargetInfo


def emit_function(module: Module, function: kern.FuncOp, target: TargetInfo) -> None:
    """Add one kernel or host function to an LLVM module."""
    name = str_of(function.properties["sym_name"])
    block = function.regions[0].block
    for op in block.ops:
        if isinstance(op, kern.TemplateOp):
            _template(module, name, op, target)
            return
    if str_of(function.properties["kind"]) == "host":
        _host(module, name, block, target)
        return
    text = Text(module, name, KERNEL_PARAMETERS)
    emitter = Emitter(text, target)
    _bind_range(emitter, block)
    _bind_words(emitter, block.args[3:])
    emitter.block(block)
    text.finish()


def _bind_range(e: Emitter, block: Block) -> None:
    for argument, parameter in zip(block.args, ("%lo", "%hi", "%worker"), strict=False):
        e.values[argument] = Val(parameter, "i64")


def _bind_words(e: Emitter, arguments: Sequence[SSAValue]) -> None:
    """Load the argument words that the code uses."""
    for place, argument in enumerate(arguments):
        if argument.first_use is not None:
            buffer = isinstance(argument.type, kern.BufferType)
            type = "ptr" if buffer else register_type(argument.type)
            e.values[argument] = Val(e.text.argument(place, type), type)


def _host(module: Module, name: str, block: Block, target: TargetInfo) -> None:
    types = ["ptr" if isinstance(a.type, kern.BufferType) else "i64" for a in block.args]
    parameters = ", ".join(f"{type} %a{n}" for n, type in enumerate(types))
    text = Text(module, name, parameters, "i32")
    emitter = Emitter(text, target)
    for place, (argument, type) in enumerate(zip(block.args, types, strict=True)):
        emitter.values[argument] = Val(f"%a{place}", type)
    (status,) = emitter.block(block)
    text.finish(emitter.scalar(status))


def _template(module: Module, name: str, op: kern.TemplateOp, target: TargetInfo) -> None:
    from lowering.cpu.templates.registry import EMITTERS as TEMPLATES

    attribute = op.properties["params"]
    assert isinstance(attribute, kern.TemplateAttr)
    hooks = Hooks(*(_hook(op, region, target) for region in op.hooks))
    TEMPLATES[str_of(op.properties["template"])](module, name, attribute.data, target, hooks)


def _hook(op: kern.TemplateOp, region: Region, target: TargetInfo) -> Epilogue:
    last = region.block.last_op
    assert last is not None
    stored = memory_type(last.operands[0].type)
    return Epilogue("fused", _hook_starter(op, region.block, target), stored)


def _hook_starter(
    op: kern.TemplateOp, block: Block, target: TargetInfo
) -> Callable[[Text], EpilogueBody]:
    """Turns a region of a template into the callable that templates want."""
    outer_block = op.parent_block()
    assert outer_block is not None

    def begin(text: Text) -> EpilogueBody:
        outer = Emitter(text, target)
        _bind_range(outer, outer_block)
        _bind_words(outer, outer_block.args[3:])
        for before in outer_block.ops:
            if before is op:
                break
            EMITTERS[type(before)](outer, before)

        def code(
            text: Text,
            type: str,
            value: Value,
            row: Value,
            column: Value,
            lanes: int,
            mask: Value | None,
        ) -> Value:
            whole = lanes_of(type)
            inner = Emitter(text, target, whole, mask, outer.values)
            element = register_type(block.args[0].type)
            inner.values[block.args[0]] = Val(value, element, whole)
            inner.values[block.args[1]] = Val(row, "i64")
            along = Val(column, "i64", whole, 1) if whole > 1 else Val(column, "i64")
            inner.values[block.args[2]] = along
            (result,) = inner.block(block)
            stored = inner.get(result).vector(text, whole)
            if register_type(result.type) == "i1":  # bytes in memory
                bits, memory = vector_of("i1", whole), vector_of(memory_type(result.type), whole)
                stored = text.let(f"zext {bits} {stored} to {memory}")
            return stored

        return code

    return begin
