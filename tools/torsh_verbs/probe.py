"""What an op takes, asked of the op itself: element types, and extents that are symbols.

The example in an op's docstring is parsed, its data operands get each element type in turn (those
that have the element type of its first floating-point operand, else of its first one), then each
extent a symbol of its own, and `infer`, the op's only rule, says whether it takes them. Complex
numbers have no order, which only the lowering finds, so that these are lowered too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import cast

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from lowering.passes.outline_native import needs_host
from lowering.program.build import lower_module
from torsh_dialect import dtypes
from torsh_dialect.context import Context
from torsh_dialect.dims import Dim, symbol, symbols_of
from torsh_dialect.errors import ShapeError, TorshError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.symbols import set_symbols
from torsh_dialect.target import target_named
from torsh_dialect.types import dims_of, element_type, tensor
from torsh_fx.importers.model import set_names
from torsh_fx.pipeline import optimise

EXAMPLE = re.compile(r"^\s*(?:%\w+(?:, %\w+)* = )?torsh\.", re.MULTILINE)
TARGET = "x86-64-v3"
"""What programs are lowered for; no code is made for it."""

C64 = dtypes.c64
PROBED = tuple(row for row in dtypes.DTYPES if row.kind != "string")
"""The element types that ops are asked for."""


@cache
def taken_dtypes(cls: type[Operation]) -> tuple[str, ...]:
    """Names of the element types that the data operands may have; empty where there are none."""
    example = example_of(cls)
    if example is None:
        return ()
    data = data_element(example)
    if data is None:
        return ()
    found = [row for row in PROBED if takes(example, cast_to(data, row.element))]
    if any(row.kind == "complex" for row in found) and not lowers(example, cast_to(data, C64)):
        found = [row for row in found if row.kind != "complex"]
    return tuple(row.name for row in found)


@cache
def takes_symbols(cls: type[Operation]) -> bool | None:
    """Whether all extents of operands may be symbols; None where no operand has one."""
    example = example_of(cls)
    if example is None or not any(map(_extents, example.operands)):
        return None
    return takes(example, as_symbols)


def example_of(cls: type[Operation]) -> Operation | None:
    """The op of the example in a docstring; None where that holds regions or values alone."""
    doc = cls.__doc__ or ""
    found = EXAMPLE.search(doc)
    if found is None or not issubclass(cls, TensorOp):
        return None
    example = " ".join(doc[found.start() :].split())
    operands, types = _signature(example)
    if len(operands) != len(types):
        return None
    pairs = dict(zip(operands, types, strict=True))
    arguments = ", ".join(f"{name}: {type}" for name, type in pairs.items())
    text = f"func.func @main({arguments}) {{\n{example}\nfunc.return\n}}"
    try:
        module = Parser(Context(), text).parse_module()
    except (ParseError, VerifyException, TorshError):
        return None
    found_ops = (op for op in _body(module).ops if isinstance(op, cls) and not op.regions)
    return next(found_ops, None)


def _body(module: ModuleOp) -> Block:
    (function,) = (op for op in module.ops if isinstance(op, FuncOp))
    return function.body.block


def _signature(example: str) -> tuple[list[str], list[str]]:
    """Operands of an example and their types."""
    start, end = example.rfind(" : ("), example.rfind(" -> ")
    if start < 0 or end < start:
        return [], []
    head = example.split("=", 1)[1] if "=" in example[: example.find("torsh.")] else example
    operands = re.findall(r"%\w+", re.split(r"[{:]", head, maxsplit=1)[0])
    return operands, list(_split(example[start + 4 : end].strip().removesuffix(")")))


def _split(text: str) -> Iterator[str]:
    depth, part = 0, ""
    for character in text:
        depth += (character in "<[(") - (character in ">])")
        if character == "," and not depth:
            yield part.strip()
            part = ""
        else:
            part += character
    if part.strip():
        yield part.strip()


def data_element(example: Operation) -> dtypes.Element | None:
    """The element type that stands for the op's data."""
    elements = [element_type(v.type) for v in example.operands if _is_tensor(v.type)]
    floats = [e for e in elements if dtypes.is_float(e)]
    return next(iter([*floats, *elements]), None)


def cast_to(old: dtypes.Element, new: dtypes.Element) -> Callable[[Attribute], Attribute]:
    """From a type to the same with another element type, where it has the old one."""

    def change(type: Attribute) -> Attribute:
        if not _is_tensor(type) or element_type(type) != old:
            return type
        return tensor(new, dims_of(type))

    return change


def as_symbols(type: Attribute) -> Attribute:
    """Equal extents become equal symbols; 1 stays, as it broadcasts."""
    if not _is_tensor(type):
        return type
    dims: list[Dim] = [
        symbol(f"n{d}") if isinstance(d, int) and d > 1 else d for d in dims_of(type)
    ]
    return tensor(element_type(type), dims)


def takes(example: Operation, change: Callable[[Attribute], Attribute]) -> bool:
    """Whether the op infers result types when its operands' types are changed."""
    return changed(example, change) is not None


def changed(
    example: Operation, change: Callable[[Attribute], Attribute]
) -> tuple[TensorOp, Sequence[Attribute]] | None:
    """The op on operands of other types, with its result types; None where it refuses them."""
    block = Block(arg_types=[change(v.type) for v in example.operands])
    cls = cast("type[TensorOp]", type(example))
    properties = dict(example.properties)
    op = cls.create(operands=block.args, properties=properties, location=example.location)
    try:
        return op, list(op.implied_types())
    except TorshError:
        return None


def lowers(example: Operation, change: Callable[[Attribute], Attribute]) -> bool:
    """Whether a program of the op alone, on operands of other types, becomes native code.

    Raises:
        TorshError: The op refuses the types.
    """
    found = changed(example, change)
    if found is None:
        raise ShapeError(f"{example.name} does not take these types")
    op, types = found
    block = Block(arg_types=[v.type for v in op.operands])
    cls = type(op)
    made = cls.create(operands=block.args, properties=dict(op.properties), result_types=types)
    block.add_ops([made, ReturnOp(*made.results)])
    function = FuncOp("main", ([a.type for a in block.args], types), Region(block))
    set_names(
        function, [f"x{n}" for n in range(len(block.args))], list(map(str, range(len(types))))
    )
    names = {s for type in (*function.function_type.inputs, *types) for s in _symbols(type)}
    set_symbols(function, dict.fromkeys(sorted(names), (0, None)))
    module = ModuleOp([function])
    if needs_host(module):
        return True  # host functions know no element types
    context = Context(target=target_named(TARGET))
    try:
        optimise(module, context)
        lower_module(module, context.target)
    except TorshError:
        return False
    return True


def _symbols(type: Attribute) -> set[str]:
    return {s for d in dims_of(type) for s in symbols_of(d)} if _is_tensor(type) else set()


def _is_tensor(type: Attribute) -> bool:
    return hasattr(type, "element_type") and hasattr(type, "shape")


def _extents(value: object) -> bool:
    type = getattr(value, "type", None)
    return type is not None and _is_tensor(type) and any(d != 1 for d in dims_of(type))
