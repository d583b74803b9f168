"""Loops, branches, checks and calls."""

from __future__ import annotations

from xdsl.dialects.builtin import IndexType, SymbolRefAttr
from xdsl.ir import Operation, SSAValue

from lowering.cpu.emitter import Emitter, emits
from lowering.cpu.text import Value, vector_of
from lowering.cpu.values import Val, register_type
from lowering.kern import dialect as kern
from torsh_dialect.attributes import int_of


@emits(kern.ForOp)
def _for(e: Emitter, op: Operation) -> None:
    lower, upper = (e.scalar(v) for v in op.operands[:2])
    block = op.regions[0].block
    carried = [
        (vector_of(register_type(v.type), _carried_lanes(e, v)), _carried(e, v))
        for v in op.operands[2:]
    ]

    def body(index: Value, phis: list[Value]) -> list[Value]:
        e.values[block.args[0]] = Val(index, "i64")
        for argument, init, phi in zip(block.args[1:], op.operands[2:], phis, strict=True):
            e.set(argument, phi, _carried_lanes(e, init))
        yielded = e.block(block)
        return [
            _widen(e, value, _carried_lanes(e, init))
            for value, init in zip(yielded, op.operands[2:], strict=True)
        ]

    step = int_of(op.properties["step"])
    guarded = False if "nonempty" in op.properties else None
    finals = e.text.loop(lower, upper, step, body, carried, guarded=guarded)
    for result, init, final in zip(op.results, op.operands[2:], finals, strict=True):
        e.set(result, final, _carried_lanes(e, init))


def _carried_lanes(e: Emitter, value: SSAValue) -> int:
    return 1 if isinstance(value.type, IndexType) else e.lanes


def _carried(e: Emitter, value: SSAValue) -> Value:
    return _widen(e, value, _carried_lanes(e, value))


def _widen(e: Emitter, value: SSAValue, lanes: int) -> Value:
    val = e.get(value)
    if lanes == 1:
        return e.scalar(value)
    return val.vector(e.text, lanes)


@emits(kern.WhileOp)
def _while(e: Emitter, op: Operation) -> None:
    text, types = e.text, [register_type(v.type) for v in op.operands]
    head, inside, done = text.label("while"), text.label("body"), text.label("done")
    before, inits = text.block, [e.scalar(v) for v in op.operands]
    text.branch(head)
    text.start(head)
    phis = [text.fresh("state") for _ in types]
    place = len(text.lines)
    text.lines.append("")
    for region in op.regions:
        for argument, phi in zip(region.block.args, phis, strict=True):
            e.set(argument, phi, 1)
    (condition,) = e.block(op.regions[0].block)
    text.branch_if(e.scalar(condition), inside, done)
    text.start(inside)
    following = [e.scalar(v) for v in e.block(op.regions[1].block)]
    latch = text.block
    text.branch(head)
    rows = zip(phis, types, inits, following, strict=True)
    text.lines[place] = "\n".join(
        f"  {phi} = phi {type} [ {init}, %{before} ], [ {later}, %{latch} ]"
        for phi, type, init, later in rows
    )
    text.start(done)
    for result, phi in zip(op.results, phis, strict=True):
        e.set(result, phi, 1)


@emits(kern.IfOp)
def _if(e: Emitter, op: Operation) -> None:
    text = e.text
    then, other, done = text.label("then"), text.label("else"), text.label("done")
    text.branch_if(e.scalar(op.operands[0]), then, other)
    arms: list[tuple[list[Val], str]] = []
    for label, region in zip((then, other), op.regions, strict=True):
        text.start(label)
        yielded = [e.get(v) for v in e.block(region.block)]
        widths = [_carried_lanes(e, r) for r in op.results]
        vals = [Val(v.vector(text, n), v.type, n) for v, n in zip(yielded, widths, strict=True)]
        arms.append((vals, text.block))
        text.branch(done)
    text.start(done)
    for result, a, b in zip(op.results, arms[0][0], arms[1][0], strict=True):
        type = vector_of(a.type, a.lanes)
        phi = f"phi {type} [ {a.text}, %{arms[0][1]} ], [ {b.text}, %{arms[1][1]} ]"
        e.set(result, text.let(phi, "out"), a.lanes)


@emits(kern.CheckOp)
def _check(e: Emitter, op: Operation) -> None:
    record, condition, value, limit = op.operands
    text, val = e.text, e.get(condition)
    failed = text.binary(
        "xor", vector_of("i1", val.lanes), val.text, "true" if val.lanes == 1 else "splat (i1 true)"
    )
    shown, most = e.get(value), e.get(limit)
    if val.lanes > 1:
        if e.mask is not None:
            failed = text.binary("and", vector_of("i1", val.lanes), failed, e.mask)
        shown, most = (_failing_lane(e, v, failed, val.lanes) for v in (shown, most))
        type = vector_of("i1", val.lanes)
        failed = text.intrinsic("llvm.vector.reduce.or", type, failed, result="i1")
    base, code = e.scalar(record), int_of(op.properties["code"])

    def record_it() -> None:
        for place, entry in ((0, shown.text), (1, most.text), (3, str(code))):
            text.store("i64", entry, text.at(base, place, "i64"), 8)

    text.when(failed, record_it)


@emits(kern.GuardOp)
def _guard(e: Emitter, op: Operation) -> None:
    text = e.text
    record, condition, value, limit = (e.scalar(v) for v in op.operands)
    code = int_of(op.properties["code"])
    refused, passed = text.label("refused"), text.label("passed")
    text.branch_if(condition, passed, refused)
    text.start(refused)
    for place, entry in ((0, value), (1, limit), (3, str(code))):
        text.store("i64", entry, text.at(record, place, "i64"), 8)
    text.put(f"ret i32 {code}")
    text.start(passed)


@emits(kern.AllocateOp)
def _allocate(e: Emitter, op: Operation) -> None:
    """Call the host table's `alloc` (byte 16) with its context (byte 32)."""
    text = e.text
    host, count, *dims = (e.scalar(v) for v in op.operands)
    listed = text.alloca("i64", max(len(dims), 1), role="dims")
    for place, dim in enumerate(dims):
        text.store("i64", dim, text.at(listed, place, "i64"), 8)
    function = text.load("ptr", text.at(host, 16, "i8"), 8, "alloc")
    context = text.load("ptr", text.at(host, 32, "i8"), 8, "context")
    number = int_of(op.properties["output"])
    given = text.let(
        f"call ptr {function}(ptr {context}, i64 {number}, i64 {len(dims)}, ptr {listed}, "
        f"i64 {count})"
    )
    e.set(op.results[0], text.let(f"ptrtoint ptr {given} to i64"), 1)


def _failing_lane(e: Emitter, val: Val, failed: Value, lanes: int) -> Val:
    """The value in the first lane where `failed` is set (lane 0 where none is)."""
    if val.lanes == 1:
        return val
    bits = e.text.let(f"bitcast <{lanes} x i1> {failed} to i{lanes}")
    name = e.text.module.declare(f"llvm.cttz.i{lanes}", f"i{lanes}", (f"i{lanes}", "i1"))
    lane = e.text.let(f"call i{lanes} {name}(i{lanes} {bits}, i1 false)")
    most = e.text.intrinsic("llvm.umin", f"i{lanes}", lane, str(lanes - 1))
    vector = val.vector(e.text, lanes)
    return Val(e.text.let(f"extractelement <{lanes} x i64> {vector}, i{lanes} {most}"), "i64")


@emits(kern.LaunchOp)
def _launch(e: Emitter, op: Operation) -> None:
    """Store the argument words, then go through the host's `parallel`.

    It calls the kernel at once where there is one thread or little work; profiles see every kernel.
    """
    assert isinstance(op, kern.LaunchOp)
    text = e.text
    host, extent, least, *arguments = op.operands
    symbol = op.properties["kernel"]
    assert isinstance(symbol, SymbolRefAttr)
    kernel = text.module.declare(symbol.root_reference.data, "void", ("ptr", "i64", "i64", "i64"))
    words = text.alloca("i64", max(len(arguments), 1), role="words")
    for place, argument in enumerate(arguments):
        val = e.get(argument)
        text.store(val.type, val.text, text.at(words, place, "i64"), 8)
    n, grain = e.scalar(extent), e.scalar(least)
    table = e.scalar(host)
    function = text.load("ptr", text.at(table, 8, "i8"), 8, "parallel")
    listed = f"ptr {table}, ptr {kernel}, ptr {words}, i64 {n}, i64 {grain}"
    text.put(f"call void {function}({listed})")


@emits(kern.CallOp)
def _call(e: Emitter, op: Operation) -> None:
    symbol = op.properties["callee"]
    assert isinstance(symbol, SymbolRefAttr)
    types = [e.get(v).type for v in op.operands]
    result = register_type(op.results[0].type) if op.results else "void"
    name = e.text.module.declare(symbol.root_reference.data, result, types)
    listed = ", ".join(f"{type} {e.scalar(v)}" for type, v in zip(types, op.operands, strict=True))
    if not op.results:
        e.text.put(f"call void {name}({listed})")
        return
    e.set(op.results[0], e.text.let(f"call {result} {name}({listed})"), 1)
