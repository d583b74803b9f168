"""Loads and stores of the emitter: contiguous, strided by gather, masked, bools as bytes."""

from __future__ import annotations

from xdsl.ir import Attribute

from lowering.cpu.arithmetic import sub_byte
from lowering.cpu.spans import meet, where
from lowering.cpu.strided import is_spread, load_spread
from lowering.cpu.text import Text, Value, suffix_of, vector_of
from lowering.cpu.values import Val, element_bytes, memory_type, register_type, splat
from torsh_dialect.target import TargetInfo


def _mask(text: Text, given: Val | None, lanes: int, tail: Value | None) -> Value | None:
    """Both masks together, as a vector; None where all lanes take part."""
    if given is None:
        return tail
    if tail is None:
        return given.vector(text, lanes)
    found = where(text, given.text, tail, lanes) if given.lanes == 1 else None
    return found or meet(text, given.vector(text, lanes), tail, lanes)


def emit_load(
    text: Text,
    element: Attribute,
    buffer: Value,
    index: Val,
    given: Val | None,
    lanes: int,
    tail: Value | None,
    target: TargetInfo,
    other: Value | None = None,
) -> Val:
    """Element or elements `index` of `buffer`; masked lanes give 0 or `other`.

    Args:
        text: The function being written.
        element: Element type of the buffer.
        buffer: The buffer's address.
        index: Uniform, or varying with or without a step.
        given: The op's own mask, if it has one.
        lanes: Width of the lanes loop around.
        tail: Lanes that take part, where not all do.
        target: Decides what is better than a gather.
        other: What masked lanes give; None for 0.
    """
    varies = index.lanes > 1 or (given is not None and given.lanes > 1)
    if not varies:
        return _scalar_load(text, element, buffer, index.text, given, other)
    memory = memory_type(element)
    type = vector_of(memory, lanes)
    mask = _mask(text, given, lanes, tail)
    size = element_bytes(element)
    rest = "zeroinitializer" if other is None else splat(text, memory, other, lanes)
    if index.step == 1:
        address = text.at(buffer, index.text, memory)
        loaded = (
            text.load(type, address, size)
            if mask is None
            else text.masked_load(type, address, mask, rest, size)
        )
    elif index.step is not None and is_spread(index.step, size, mask is not None, target):
        loaded = load_spread(text, memory, buffer, index.text, index.step, lanes, mask, rest)
    else:
        loaded = _gather(text, type, buffer, index.vector(text, lanes), mask, size, lanes, rest)
    return _to_register(text, element, loaded, lanes)


def _to_register(text: Text, element: Attribute, loaded: Value, lanes: int) -> Val:
    register = register_type(element)
    if register == "i1":
        zero = "0" if lanes == 1 else "zeroinitializer"
        loaded = text.let(f"icmp ne {vector_of('i8', lanes)} {loaded}, {zero}")
    else:
        loaded = sub_byte(text, element, loaded, lanes)
    return Val(loaded, register, lanes)


def _scalar_load(
    text: Text,
    element: Attribute,
    buffer: Value,
    index: Value,
    given: Val | None,
    other: Value | None,
) -> Val:
    memory, size = memory_type(element), element_bytes(element)
    if given is None:
        return _to_register(
            text, element, text.load(memory, text.at(buffer, index, memory), size), 1
        )
    before, then, done = text.block, text.label("load"), text.label("loaded")
    text.branch_if(given.text, then, done)
    text.start(then)
    value = text.load(memory, text.at(buffer, index, memory), size)
    after = text.block
    text.branch(done)
    text.start(done)
    zero = "0.0" if memory in ("float", "double") else "0"
    merged = text.let(f"phi {memory} [ {other or zero}, %{before} ], [ {value}, %{after} ]")
    return _to_register(text, element, merged, 1)


def _addresses(text: Text, element: str, buffer: Value, index: Value, lanes: int) -> Value:
    return text.let(f"getelementptr inbounds {element}, ptr {buffer}, <{lanes} x i64> {index}", "p")


def _gather(
    text: Text,
    type: str,
    buffer: Value,
    index: Value,
    mask: Value | None,
    size: int,
    lanes: int,
    rest: Value,
) -> Value:
    element = type.split(" x ", 1)[1][:-1]
    addresses = _addresses(text, element, buffer, index, lanes)
    name = text.module.declare(
        f"llvm.masked.gather.{suffix_of(type)}.v{lanes}p0",
        type,
        (f"<{lanes} x ptr>", "i32", f"<{lanes} x i1>", type),
    )
    mask = mask or "splat (i1 true)"
    return text.let(
        f"call {type} {name}(<{lanes} x ptr> {addresses}, i32 {size}, "
        f"<{lanes} x i1> {mask}, {type} {rest})"
    )


def emit_store(
    text: Text,
    element: Attribute,
    buffer: Value,
    index: Val,
    value: Val,
    given: Val | None,
    lanes: int,
    tail: Value | None,
) -> None:
    """Set element or elements `index` of `buffer` where the masks hold."""
    memory, size = memory_type(element), element_bytes(element)
    if index.lanes == 1 and value.lanes == 1 and (given is None or given.lanes == 1):
        _scalar_store(text, element, buffer, index.text, value.text, given)
        return
    type = vector_of(memory, lanes)
    stored = value.vector(text, lanes)
    if value.type == "i1":
        stored = text.let(f"zext <{lanes} x i1> {stored} to {type}")
    mask = _mask(text, given, lanes, tail)
    if index.step == 1:
        address = text.at(buffer, index.text, memory)
        if mask is None:
            text.store(type, stored, address, size)
        else:
            text.masked_store(type, stored, address, mask, size)
        return
    addresses = _addresses(text, memory, buffer, index.vector(text, lanes), lanes)
    name = text.module.declare(
        f"llvm.masked.scatter.{suffix_of(type)}.v{lanes}p0",
        "void",
        (type, f"<{lanes} x ptr>", "i32", f"<{lanes} x i1>"),
    )
    text.put(
        f"call void {name}({type} {stored}, <{lanes} x ptr> {addresses}, i32 {size}, "
        f"<{lanes} x i1> {mask or 'splat (i1 true)'})"
    )


def _scalar_store(
    text: Text, element: Attribute, buffer: Value, index: Value, value: Value, given: Val | None
) -> None:
    memory, size = memory_type(element), element_bytes(element)

    def put() -> None:
        stored = value
        if register_type(element) == "i1":
            stored = text.let(f"zext i1 {value} to i8")
        text.store(memory, stored, text.at(buffer, index, memory), size)

    if given is None:
        put()
    else:
        text.when(given.text, put)
