"""`kern` functions to LLVM IR text: one emitter, dispatching on the op's class.

Outside `kern.lanes` everything is scalar. Inside, uniform values stay scalar and varying ones
become vectors of the loop's width; the last, partial group of lanes runs the same code masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, SymbolRefAttr
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue

from lowering.cpu import arithmetic
from lowering.cpu.memory import emit_load, emit_store
from lowering.cpu.templates.epilogue import Epilogue, EpilogueBody, Hooks
from lowering.cpu.text import KERNEL_PARAMETERS, Module, Text, Value, lanes_of, vector_of
from lowering.cpu.values import Val, element_bytes, memory_type, register_type
from lowering.kern import dialect as kern
from torsh_dialect.attributes import int_of, str_of
from torsh_dialect.errors import CodegenError
from torsh_dialect.target import TargetInfo

VIRTUAL_BYTES = 128
"""Bytes of a virtual vector: several registers, so that latencies overlap (cpu_codegen 3)."""


@dataclass
class Emitter:
    """Emits one function body.

    Attributes:
        text: The LLVM function being written.
        lanes: Width of the lanes loop around the current place; 1 outside.
        mask: Which lanes take part, where not all do.
    """

    text: Text
    target: TargetInfo
    lanes: int = 1
    mask: Value | None = None
    values: dict[SSAValue, Val] = field(default_factory=dict[SSAValue, Val])

    # -- access to values

    def get(self, value: SSAValue) -> Val:
        """What a `kern` value has become."""
        return self.values[value]

    def scalar(self, value: SSAValue) -> Value:
        """A uniform value.

        Raises:
            CodegenError: It varies over the lanes.
        """
        val = self.values[value]
        if val.lanes != 1:
            raise CodegenError(f"a value of {value.owner} varies over lanes where it may not")
        return val.text

    def operands(self, values: Sequence[SSAValue]) -> tuple[list[Value], int]:
        """Operands of one width: scalars if all are uniform, else vectors."""
        vals = [self.values[v] for v in values]
        lanes = max(v.lanes for v in vals)
        return [v.vector(self.text, lanes) for v in vals], lanes

    def set(self, result: SSAValue, text: Value, lanes: int) -> None:
        """Record a result."""
        self.values[result] = Val(text, register_type(result.type), lanes)

    # -- blocks

    def block(self, block: Block) -> list[SSAValue]:
        """Emit the ops of a block; returns what its terminator yields."""
        for op in block.ops:
            if isinstance(op, kern.YieldOp | kern.ReturnOp):
                return list(op.operands)
            EMITTERS[type(op)](self, op)
        return []

    def inner(self, lanes: int, mask: Value | None) -> Emitter:
        """An emitter for code nested in other lanes; sees all values of this one."""
        return Emitter(self.text, self.target, lanes, mask, self.values)


# -- plain ops


def _const(e: Emitter, op: Operation) -> None:
    attribute = op.properties["value"]
    assert isinstance(attribute, IntegerAttr | FloatAttr)
    result = op.results[0]
    value = attribute.value.data
    e.values[result] = Val(arithmetic.constant(result.type, value, 1), register_type(result.type))


def _binary(e: Emitter, op: Operation) -> None:
    kind, result = str_of(op.properties["kind"]), op.results[0]
    if isinstance(result.type, IndexType) and (val := _index_binary(e, kind, op)) is not None:
        e.values[result] = val
        return
    (a, b), lanes = e.operands(op.operands)
    e.set(result, arithmetic.binary(e.text, kind, result.type, a, b, lanes), lanes)


def _index_binary(e: Emitter, kind: str, op: Operation) -> Val | None:
    """Index arithmetic that keeps the form base + lane * step; None where it does not."""
    a, b = (e.get(v) for v in op.operands)
    if kind in ("add", "sub") and a.is_affine and b.is_affine:
        base = (e.text.add if kind == "add" else e.text.sub)(a.text, b.text)
        other = (b.step or 0) if kind == "add" else -(b.step or 0)
        step = (a.step or 0) + other
        lanes = max(a.lanes, b.lanes)
        return Val(base, "i64", lanes, step) if lanes > 1 else Val(base, "i64")
    if kind == "mul":
        if b.is_literal and a.step is not None:
            return Val(e.text.mul(a.text, b.text), "i64", a.lanes, a.step * int(b.text))
        if a.is_literal and b.step is not None:
            return Val(e.text.mul(a.text, b.text), "i64", b.lanes, b.step * int(a.text))
        if a.lanes == b.lanes == 1:
            return Val(e.text.mul(a.text, b.text), "i64")
    return None


def _unary(e: Emitter, op: Operation) -> None:
    (x,), lanes = e.operands(op.operands)
    kind, element = str_of(op.properties["kind"]), op.results[0].type
    e.set(op.results[0], arithmetic.unary(e.text, kind, element, x, lanes), lanes)


def _fma(e: Emitter, op: Operation) -> None:
    (a, b, c), lanes = e.operands(op.operands)
    type = vector_of(register_type(op.results[0].type), lanes)
    e.set(op.results[0], e.text.fma(type, a, b, c), lanes)


def _compare(e: Emitter, op: Operation) -> None:
    (a, b), lanes = e.operands(op.operands)
    kind, element = str_of(op.properties["kind"]), op.operands[0].type
    e.set(op.results[0], arithmetic.compare(e.text, kind, element, a, b, lanes), lanes)


def _select(e: Emitter, op: Operation) -> None:
    condition, a, b = (e.get(v) for v in op.operands)
    lanes = max(condition.lanes, a.lanes, b.lanes)
    type = vector_of(a.type, lanes)
    texts = [v.vector(e.text, lanes) for v in (a, b)]
    test = condition.text if condition.lanes == 1 else condition.vector(e.text, lanes)
    mask = vector_of("i1", condition.lanes)
    chosen = e.text.let(f"select {mask} {test}, {type} {texts[0]}, {type} {texts[1]}")
    e.set(op.results[0], chosen, lanes)


def _cast(e: Emitter, op: Operation) -> None:
    (x,), lanes = e.operands(op.operands)
    source, target = op.operands[0].type, op.results[0].type
    e.set(op.results[0], arithmetic.cast(e.text, source, target, x, lanes), lanes)


def _bitcast(e: Emitter, op: Operation) -> None:
    (x,), lanes = e.operands(op.operands)
    source, target = op.operands[0].type, op.results[0].type
    e.set(op.results[0], arithmetic.bitcast(e.text, source, target, x, lanes), lanes)


def _clock(e: Emitter, op: Operation) -> None:
    """Read the counter that user programs may read: the time stamp, or ARM's virtual timer."""
    x86 = e.target.triple.startswith("x86")
    name = "llvm.readcyclecounter" if x86 else "llvm.readsteadycounter"
    e.text.module.declare(name, "i64", ())
    e.set(op.results[0], e.text.let(f"call i64 @{name}()"), 1)


def _math(e: Emitter, op: Operation) -> None:
    operands, lanes = e.operands(op.operands)
    function, element = str_of(op.properties["function"]), op.results[0].type
    e.set(op.results[0], arithmetic.math(e.text, function, element, tuple(operands), lanes), lanes)


# -- memory


def _load(e: Emitter, op: Operation) -> None:
    buffer, index = e.scalar(op.operands[0]), e.get(op.operands[1])
    given = e.get(op.operands[2]) if len(op.operands) > 2 else None
    element = op.results[0].type
    e.values[op.results[0]] = emit_load(e.text, element, buffer, index, given, e.lanes, e.mask)


def _store(e: Emitter, op: Operation) -> None:
    value, index = e.get(op.operands[0]), e.get(op.operands[2])
    given = e.get(op.operands[3]) if len(op.operands) > 3 else None
    buffer = e.scalar(op.operands[1])
    element = op.operands[0].type
    emit_store(e.text, element, buffer, index, value, given, e.lanes, e.mask)


def _scratch(e: Emitter, op: Operation) -> None:
    pointer = e.text.alloca("i8", int_of(op.properties["bytes"]), role="scratch")
    e.values[op.results[0]] = Val(pointer, "ptr")


def _pointer(e: Emitter, op: Operation) -> None:
    slot = e.text.at(e.scalar(op.operands[0]), e.scalar(op.operands[1]), "i64")
    e.values[op.results[0]] = Val(e.text.load("ptr", slot, 8, "buffer"), "ptr")


def _offset(e: Emitter, op: Operation) -> None:
    moved = e.text.at(e.scalar(op.operands[0]), e.scalar(op.operands[1]), "i8")
    e.values[op.results[0]] = Val(moved, "ptr")


def _copy(e: Emitter, op: Operation) -> None:
    """Copies nothing where both are the same memory."""
    target, source, count = (e.scalar(v) for v in op.operands)
    name = e.text.module.declare("llvm.memmove.p0.p0.i64", "void", ("ptr", "ptr", "i64", "i1"))
    same = e.text.let(f"icmp eq ptr {target}, {source}", "same")
    count = e.text.let(f"select i1 {same}, i64 0, i64 {count}", "count")
    e.text.put(f"call void {name}(ptr {target}, ptr {source}, i64 {count}, i1 false)")


# -- control flow


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
    finals = e.text.loop(lower, upper, step, body, carried)
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


# -- lanes and reductions


def lane_width(block: Block, extent: int | None) -> int:
    """How many lanes a loop over `block` gets; 1 where its code cannot be vectorised."""
    widest, bytes_ = 4, VIRTUAL_BYTES
    varying: set[SSAValue] = {block.args[0]}
    for op in block.walk():
        if isinstance(op, kern.WhileOp) or _branches_on(op, varying):
            return 1
        if isinstance(op, kern.ReduceOp):
            if int_of(op.properties["lanes"]) != 1:
                return 1
            bytes_ = 2 * VIRTUAL_BYTES
        if any(v in varying for v in op.operands):
            varying.update(op.results)
        for region in op.regions:
            varying.update(a for a in region.block.args if not isinstance(a.type, IndexType))
        values = (*op.operands, *op.results)
        if not isinstance(op, kern.PointerOp | kern.OffsetOp):
            sizes = (_value_bytes(v.type) for v in values if not isinstance(v.type, IndexType))
            widest = max(widest, *sizes, 0)
    width = bytes_ // widest
    while extent is not None and width > 1 and width // 2 >= extent:
        width //= 2
    return width


def _value_bytes(type: Attribute) -> int:
    return element_bytes(type.element if isinstance(type, kern.BufferType) else type)


def _branches_on(op: Operation, varying: set[SSAValue]) -> bool:
    if isinstance(op, kern.ForOp | kern.ReduceOp):
        return any(v in varying for v in op.operands[:2])
    return isinstance(op, kern.IfOp) and op.operands[0] in varying


def static_extent(op: Operation) -> int | None:
    """The number of iterations of a loop op, where both bounds are constants."""
    bounds: list[int] = []
    for value in op.operands[:2]:
        if not isinstance(value, OpResult) or not isinstance(value.op, kern.ConstOp):
            return None
        bounds.append(int_of(value.op.properties["value"]))
    return max(0, bounds[1] - bounds[0])


def _lanes(e: Emitter, op: Operation) -> None:
    block, text = op.regions[0].block, e.text
    width = lane_width(block, static_extent(op)) if e.lanes == 1 else 1
    lower, upper = (e.scalar(v) for v in op.operands)

    def run(index: Value, mask: Value | None) -> None:
        e.values[block.args[0]] = Val(index, "i64") if width == 1 else Val(index, "i64", width, 1)
        e.inner(width, mask).block(block)

    lane_loop(text, lower, upper, width, run)


def lane_loop(
    text: Text, lower: Value, upper: Value, width: int, run: Callable[[Value, Value | None], None]
) -> None:
    """`run(first index, None)` for whole groups, `run(index, mask)` for what is left."""
    count = text.sub(upper, lower)
    if width == 1:
        text.loop(lower, upper, 1, lambda i, _: run(i, None))
        return
    if count.lstrip("-").isdigit():
        whole = str(int(count) // width * width)
    else:
        whole = text.binary("and", "i64", count, str(-width))
    end = text.add(lower, whole)
    text.loop(lower, end, width, lambda i, _: run(i, None))
    rest = text.sub(count, whole)
    if rest.lstrip("-").isdigit():
        if int(rest) > 0:
            run(end, first_lanes(text, rest, width))
        return
    some = text.compare("sgt", rest, 0)
    text.when(some, lambda: run(end, first_lanes(text, rest, width)))


def first_lanes(text: Text, count: Value, width: int) -> Value:
    """The mask of the first `count` lanes."""
    if count.isdigit():
        return "<" + ", ".join(f"i1 {int(n < int(count))}" for n in range(width)) + ">"
    narrow = text.let(f"trunc i64 {count} to i32")
    type = f"<{width} x i32>"
    lanes = ", ".join(f"i32 {n}" for n in range(width))
    return text.let(f"icmp ult {type} <{lanes}>, {text.splat(type, narrow)}", "mask")


def _launch(e: Emitter, op: Operation) -> None:
    """Store the argument words, then go through the host's `parallel`.

    It calls the kernel at once where there is one thread or little work; profiles see every kernel.
    """
    assert isinstance(op, kern.LaunchOp)
    text = e.text
    host, extent, *arguments = op.operands
    symbol = op.properties["kernel"]
    assert isinstance(symbol, SymbolRefAttr)
    kernel = text.module.declare(symbol.root_reference.data, "void", ("ptr", "i64", "i64", "i64"))
    words = text.alloca("i64", max(len(arguments), 1), role="words")
    for place, argument in enumerate(arguments):
        val = e.get(argument)
        text.store(val.type, val.text, text.at(words, place, "i64"), 8)
    n, grain = e.scalar(extent), int_of(op.properties["grain"])
    table = e.scalar(host)
    function = text.load("ptr", text.at(table, 8, "i8"), 8, "parallel")
    listed = f"ptr {table}, ptr {kernel}, ptr {words}, i64 {n}, i64 {grain}"
    text.put(f"call void {function}({listed})")


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


from lowering.cpu.reduce import emit_reduce  # noqa: E402

EMITTERS: dict[type[Operation], Callable[[Emitter, Operation], None]] = {
    kern.ConstOp: _const,
    kern.BinaryOp: _binary,
    kern.UnaryOp: _unary,
    kern.FmaOp: _fma,
    kern.CompareOp: _compare,
    kern.SelectOp: _select,
    kern.CastOp: _cast,
    kern.BitcastOp: _bitcast,
    kern.ClockOp: _clock,
    kern.MathOp: _math,
    kern.LoadOp: _load,
    kern.StoreOp: _store,
    kern.ScratchOp: _scratch,
    kern.PointerOp: _pointer,
    kern.OffsetOp: _offset,
    kern.CopyOp: _copy,
    kern.ForOp: _for,
    kern.WhileOp: _while,
    kern.IfOp: _if,
    kern.CheckOp: _check,
    kern.GuardOp: _guard,
    kern.AllocateOp: _allocate,
    kern.LanesOp: _lanes,
    kern.ReduceOp: emit_reduce,
    kern.LaunchOp: _launch,
    kern.CallOp: _call,
}
"""How each op is emitted."""


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
