"""Ops without control flow: arithmetic, comparisons, casts, buffers."""

from __future__ import annotations

from dataclasses import replace

from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr
from xdsl.ir import Operation, OpResult

from lowering.cpu import arithmetic
from lowering.cpu.emitter import Emitter, emits
from lowering.cpu.memory import emit_load, emit_store
from lowering.cpu.spans import meet, where
from lowering.cpu.strided import compare_spread
from lowering.cpu.text import Value, vector_of
from lowering.cpu.values import Val, is_place, register_type
from lowering.kern import dialect as kern
from torsh_dialect import dtypes
from torsh_dialect.attributes import int_of, str_of
from torsh_dialect.dtypes import i1

FAR = 1 << 31
"""Constants below this are near: sums of them and indices, of which there are few, stay in i64."""

TRUTH = ("false", "true")
"""Bools that are the same for all lanes and known."""

FILLED = ("float", "double", "i32", "i64")
"""Types that are the same in memory and in registers."""


@emits(kern.ConstOp)
def _const(e: Emitter, op: Operation) -> None:
    attribute = op.properties["value"]
    assert isinstance(attribute, IntegerAttr | FloatAttr)
    result = op.results[0]
    value = attribute.value.data
    literal = arithmetic.constant(result.type, value, 1)
    near = result.type == dtypes.i64 and abs(value) < FAR
    e.values[result] = Val(literal, register_type(result.type), near=near)


@emits(kern.BinaryOp)
def _binary(e: Emitter, op: Operation) -> None:
    kind, result = str_of(op.properties["kind"]), op.results[0]
    if isinstance(result.type, IndexType) and (val := _index_binary(e, kind, op)) is not None:
        e.values[result] = val
        return
    near = kind in ("add", "sub") and all(e.get(v).near for v in op.operands)
    if near and (val := _index_binary(e, kind, op)) is not None:
        e.values[result] = replace(val, near=True)
        return
    if kind == "and" and result.type == i1 and (val := _neighbours(e, op)) is not None:
        e.values[result] = val
        return
    (a, b), lanes = e.operands(op.operands)
    e.set(result, arithmetic.binary(e.text, kind, result.type, a, b, lanes), lanes)


def _neighbours(e: Emitter, op: Operation) -> Val | None:
    """Both of two conditions where one is known or holds in neighbouring lanes, else None."""
    a, b = sorted((e.get(v) for v in op.operands), key=lambda v: v.lanes)
    for known, other in ((a, b), (b, a)):
        if known.text in TRUTH:
            return other if known.text == TRUTH[True] else known
    if b.lanes == 1 or b.step is not None:
        return None
    if a.lanes > 1:
        return Val(meet(e.text, a.text, b.text, b.lanes), "i1", b.lanes)
    found = where(e.text, a.text, b.text, b.lanes)
    return None if found is None else Val(found, "i1", b.lanes)


def _index_binary(e: Emitter, kind: str, op: Operation) -> Val | None:
    """Index arithmetic that keeps the form base + lane * step; None where it does not."""
    a, b = (e.get(v) for v in op.operands)
    if kind in ("add", "sub") and a.is_affine and b.is_affine:
        write = e.text.add if kind == "add" else e.text.sub
        both = (a.text, b.text)
        base = e.text.outside((kind, both), both, lambda: write(*both))
        other = (b.step or 0) if kind == "add" else -(b.step or 0)
        step = (a.step or 0) + other
        lanes = max(a.lanes, b.lanes)
        return Val(base, "i64", lanes, step) if lanes > 1 else Val(base, "i64")
    if kind in ("floordiv", "mod") and (
        quotient := e.quotients.get((op.operands[0], op.operands[1]))
    ):
        base = quotient if kind == "floordiv" else e.text.sub(a.text, e.text.mul(quotient, b.text))
        return Val(base, "i64") if kind == "floordiv" else Val(base, "i64", a.lanes, a.step)
    if kind in ("floordiv", "mod") and a.step and b.lanes == 1:
        found = arithmetic.stepped_division(e.text, kind, a.text, a.step, a.lanes, b.text)
        return None if found is None else Val(found, "i64", a.lanes)
    if kind == "mul":
        if b.is_literal and a.step is not None:
            return Val(e.text.mul(a.text, b.text), "i64", a.lanes, a.step * int(b.text))
        if a.is_literal and b.step is not None:
            return Val(e.text.mul(a.text, b.text), "i64", b.lanes, b.step * int(a.text))
        if a.lanes == b.lanes == 1:
            return Val(e.text.mul(a.text, b.text), "i64")
    return None


@emits(kern.UnaryOp)
def _unary(e: Emitter, op: Operation) -> None:
    (x,), lanes = e.operands(op.operands)
    kind, element = str_of(op.properties["kind"]), op.results[0].type
    if kind == "not" and x in TRUTH:
        e.set(op.results[0], TRUTH[x == TRUTH[False]], 1)
        return
    e.set(op.results[0], arithmetic.unary(e.text, kind, element, x, lanes), lanes)


@emits(kern.FmaOp)
def _fma(e: Emitter, op: Operation) -> None:
    (a, b, c), lanes = e.operands(op.operands)
    type = vector_of(register_type(op.results[0].type), lanes)
    e.set(op.results[0], e.text.fma(type, a, b, c), lanes)


@emits(kern.CompareOp)
def _compare(e: Emitter, op: Operation) -> None:
    if op.results[0] in e.known:
        e.values[op.results[0]] = Val(TRUTH[e.known[op.results[0]]], "i1")
        return
    kind = str_of(op.properties["kind"])
    is_index = isinstance(op.operands[0].type, IndexType)
    near = all(e.get(v).near for v in op.operands)
    if is_index or near:
        found = compare_spread(e.text, kind, *(e.get(v) for v in op.operands), near=near)
        if found is not None:
            e.values[op.results[0]] = found
            return
    (a, b), lanes = e.operands(op.operands)
    element = op.operands[0].type
    e.set(op.results[0], arithmetic.compare(e.text, kind, element, a, b, lanes), lanes)


@emits(kern.SelectOp)
def _select(e: Emitter, op: Operation) -> None:
    known, chosen = e.get(op.operands[0]).text, op.operands[1]
    if known in TRUTH:
        e.values[op.results[0]] = e.get(op.operands[2 - TRUTH.index(known)])
        return
    if isinstance(chosen, OpResult) and chosen.op in e.filled:
        e.values[op.results[0]] = e.get(chosen)
        return
    condition, a, b = (e.get(v) for v in op.operands)
    lanes = max(condition.lanes, a.lanes, b.lanes)
    type = vector_of(a.type, lanes)
    texts = [v.vector(e.text, lanes) for v in (a, b)]
    test = condition.text if condition.lanes == 1 else condition.vector(e.text, lanes)
    mask = vector_of("i1", condition.lanes)
    chosen = e.text.let(f"select {mask} {test}, {type} {texts[0]}, {type} {texts[1]}")
    e.set(op.results[0], chosen, lanes)


@emits(kern.CastOp)
def _cast(e: Emitter, op: Operation) -> None:
    source, target = op.operands[0].type, op.results[0].type
    if isinstance(source, IndexType) and target == dtypes.i64 and is_place(op.operands[0]):
        e.values[op.results[0]] = replace(e.get(op.operands[0]), near=True)
        return
    (x,), lanes = e.operands(op.operands)
    e.set(op.results[0], arithmetic.cast(e.text, source, target, x, lanes), lanes)


@emits(kern.BitcastOp)
def _bitcast(e: Emitter, op: Operation) -> None:
    (x,), lanes = e.operands(op.operands)
    source, target = op.operands[0].type, op.results[0].type
    e.set(op.results[0], arithmetic.bitcast(e.text, source, target, x, lanes), lanes)


@emits(kern.MathOp)
def _math(e: Emitter, op: Operation) -> None:
    operands, lanes = e.operands(op.operands)
    function, element = str_of(op.properties["function"]), op.results[0].type
    e.set(op.results[0], arithmetic.math(e.text, function, element, tuple(operands), lanes), lanes)


@emits(kern.LoadOp)
def _load(e: Emitter, op: Operation) -> None:
    buffer, index = e.scalar(op.operands[0]), e.get(op.operands[1])
    given = e.get(op.operands[2]) if len(op.operands) > 2 else None
    if given is not None and given.text in TRUTH:
        if given.text == TRUTH[False]:
            nothing = arithmetic.constant(op.results[0].type, 0, 1)
            e.set(op.results[0], nothing, 1)
            return
        given = None
    other = None if given is None else _fill(e, op)
    if other is not None:
        e.filled.add(op)
    mask = None if "roomy" in op.properties else e.mask
    e.values[op.results[0]] = emit_load(
        e.text, op.results[0].type, buffer, index, given, e.lanes, mask, e.target, other
    )


def _fill(e: Emitter, load: Operation) -> Value | None:
    """The constant that is selected, by the load's own mask, where nothing is loaded."""
    loaded = load.results[0]
    user = loaded.get_user_of_unique_use()
    if not isinstance(user, kern.SelectOp) or register_type(loaded.type) not in FILLED:
        return None
    mask, chosen, other = user.operands
    constant = e.values.get(other)
    if mask is not load.operands[2] or chosen is not loaded or constant is None:
        return None
    return constant.text if isinstance(other.owner, kern.ConstOp) else None


@emits(kern.StoreOp)
def _store(e: Emitter, op: Operation) -> None:
    value, index = e.get(op.operands[0]), e.get(op.operands[2])
    given = e.get(op.operands[3]) if len(op.operands) > 3 else None
    buffer = e.scalar(op.operands[1])
    element = op.operands[0].type
    emit_store(e.text, element, buffer, index, value, given, e.lanes, e.mask)


@emits(kern.ScratchOp)
def _scratch(e: Emitter, op: Operation) -> None:
    pointer = e.text.alloca("i8", int_of(op.properties["bytes"]), role="scratch")
    e.values[op.results[0]] = Val(pointer, "ptr")


@emits(kern.PointerOp)
def _pointer(e: Emitter, op: Operation) -> None:
    slot = e.text.at(e.scalar(op.operands[0]), e.scalar(op.operands[1]), "i64")
    e.values[op.results[0]] = Val(e.text.load("ptr", slot, 8, "buffer"), "ptr")


@emits(kern.OffsetOp)
def _offset(e: Emitter, op: Operation) -> None:
    moved = e.text.at(e.scalar(op.operands[0]), e.scalar(op.operands[1]), "i8")
    e.values[op.results[0]] = Val(moved, "ptr")


@emits(kern.CopyOp)
def _copy(e: Emitter, op: Operation) -> None:
    """Copies nothing where both are the same memory."""
    target, source, count = (e.scalar(v) for v in op.operands)
    name = e.text.module.declare("llvm.memmove.p0.p0.i64", "void", ("ptr", "ptr", "i64", "i1"))
    same = e.text.let(f"icmp eq ptr {target}, {source}", "same")
    count = e.text.let(f"select i1 {same}, i64 0, i64 {count}", "count")
    e.text.put(f"call void {name}(ptr {target}, ptr {source}, i64 {count}, i1 false)")
