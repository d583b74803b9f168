"""Emits `kern.reduce`: the order of operations that the numerics contract fixes.

With 32 virtual lanes: elements go to the lanes in turn; every block of 4,096 starts from nothing
and ends in a balanced tree over the lanes; block results are added in order. With one virtual
lane (the reduction runs inside other lanes): one chain a block, blocks in order.
"""

from __future__ import annotations

from xdsl.dialects.builtin import IndexType
from xdsl.ir import Block, Operation, SSAValue

from lowering.cpu.emitter import Emitter, emits
from lowering.cpu.lanes import first_lanes
from lowering.cpu.rests import either, remainder, rest_step
from lowering.cpu.text import Text, Value, is_literal, vector_of
from lowering.cpu.values import Val, register_type
from lowering.kern import dialect as kern
from torsh_dialect.attributes import int_of, str_of
from torsh_dialect.dtypes import dtype_of

CHEAP_OPS = 4
"""Ops of a combination (its yield among them) of which there may be one in vain."""

Accumulators = list[Value]


@emits(kern.ReduceOp)
def emit_reduce(e: Emitter, op: Operation) -> None:
    """Emit one reduction; see the module docstring for the order."""
    width = int_of(op.properties["lanes"])
    block = int_of(op.properties["block"])
    (_blocks if width > 1 else _chains)(e, op, width, block)


def _types(op: Operation, lanes: int) -> list[str]:
    return [vector_of(register_type(r.type), lanes) for r in op.results]


def _combined(
    e: Emitter, block: Block, first: Accumulators, second: Accumulators, lanes: int
) -> Accumulators:
    inner = e.inner(lanes, None)
    for argument, value in zip(block.args, [*first, *second], strict=True):
        inner.set(argument, value, lanes)
    return [inner.get(v).vector(e.text, lanes) for v in inner.block(block)]


def _inits(e: Emitter, op: Operation, lanes: int) -> Accumulators:
    return [e.get(v).vector(e.text, lanes) for v in op.operands[2:]]


def _blocks(e: Emitter, op: Operation, width: int, size: int) -> None:
    lower, upper = (e.scalar(v) for v in op.operands[:2])
    count = e.text.sub(upper, lower)
    if is_literal(count) or not (_is_costly(op) or _sums_bytes(op)):
        finals = _all_blocks(e, op, (lower, upper), width, size)
    else:
        finals = either(
            e.text,
            e.text.compare("ult", e.text.sub(count, 1), width // 2),
            lambda: _few(e, op, lower, count, width),
            lambda: _all_blocks(e, op, (lower, upper), width, size),
            _types(op, 1),
        )
    for result, final in zip(op.results, finals, strict=True):
        e.set(result, final, 1)


def _is_costly(op: Operation) -> bool:
    """Whether to combine elements with the known first ones is much less than with others."""
    return len(op.regions[1].block.ops) > CHEAP_OPS


def _sums_bytes(op: Operation) -> bool:
    """Whether it adds consecutive bytes as they are in memory: masked ones, 0, add nothing.

    Targets have instructions for such sums of a vector. Wider elements gain less than what one
    more way costs the longer rows.
    """
    element, combine = (region.block for region in op.regions)
    sum_, last = combine.first_op, element.last_op
    if not isinstance(sum_, kern.BinaryOp) or str_of(sum_.properties["kind"]) != "add":
        return False
    if sum_.next_op is not combine.last_op or not _is_integer(sum_.y) or last is None:
        return False
    value = last.operands[0]
    while _is_integer(value) and isinstance(value.owner, kern.CastOp):
        value = value.owner.operands[0]
    load = value.owner
    if not isinstance(load, kern.LoadOp) or not _is_integer(value) or load.parent is not element:
        return False
    plain = load.mask is None and load.roomy is None and _is_next(load.index, element)
    return plain and dtype_of(value.type).bits == 8


def _is_next(index: SSAValue, element: Block) -> bool:
    """Whether an index is the element's own, at most behind something that stays."""
    own, add = element.args[0], index.owner
    if not isinstance(add, kern.BinaryOp):
        return index is own
    outside = any(v is not own and v.owner not in (element, *element.ops) for v in add.operands)
    return str_of(add.properties["kind"]) == "add" and own in add.operands and outside


def _is_integer(value: SSAValue) -> bool:
    type = value.type
    return not isinstance(type, IndexType) and dtype_of(type).kind in ("int", "uint")


def _few(e: Emitter, op: Operation, lower: Value, count: Value, width: int) -> Accumulators:
    """Some elements, at most half of the lanes: LLVM knows what the other half holds."""
    text, combine = e.text, op.regions[1].block
    first, half = _inits(e, op, width // 2), width // 2
    mask = first_lanes(text, count, half)
    if _sums_bytes(op):
        lanes = _fold(e, op.regions[0].block, combine, lower, first, half, mask)
    else:
        lanes = _step(e, op, lower, half, mask, first)
    lanes = _combined(e, combine, lanes, _inits(e, op, half), half)
    return _combined(e, combine, _inits(e, op, 1), _tree(e, op, combine, lanes, half), 1)


def _all_blocks(
    e: Emitter, op: Operation, bounds: tuple[Value, Value], width: int, size: int
) -> Accumulators:
    """Whole blocks in a loop, then the last one, which may be shorter."""
    text, combine, (lower, upper) = e.text, op.regions[1].block, bounds
    narrow, wide = _types(op, 1), _types(op, width)
    count = text.sub(upper, lower)
    rest = remainder(text, count, width)
    whole = text.sub(upper, rest)
    before = text.maximum(text.sub(count, 1), 0)
    last = text.add(lower, text.sub(before, remainder(text, before, size)))

    def groups(start: Value, end: Value) -> Accumulators:
        first = list(zip(wide, _inits(e, op, width), strict=True))
        return text.loop(start, end, width, lambda i, v: _step(e, op, i, width, None, v), first)

    def add(totals: Accumulators, lanes: Accumulators) -> Accumulators:
        return _combined(e, combine, totals, _tree(e, op, combine, lanes, width), 1)

    def block(start: Value, totals: Accumulators) -> Accumulators:
        return add(totals, groups(start, text.add(start, size)))

    carried = list(zip(narrow, _inits(e, op, 1), strict=True))
    totals = text.loop(lower, last, size, block, carried)
    lanes = groups(last, whole)
    if is_literal(rest):
        if rest != "0":
            lanes = _step(e, op, whole, width, first_lanes(text, rest, width), lanes)
    else:
        lanes = rest_step(
            text, rest, width, wide, lanes, lambda n, mask, v: _step(e, op, whole, n, mask, v)
        )
    if is_literal(count) or not _is_costly(op):
        return add(totals, lanes)
    tree = _tree(e, op, combine, lanes, width)
    return either(
        text,
        text.compare("eq", last, lower),
        lambda: _combined(e, combine, _inits(e, op, 1), tree, 1),
        lambda: _combined(e, combine, totals, tree, 1),
        narrow,
    )


def _step(
    e: Emitter, op: Operation, index: Value, lanes: int, mask: Value | None, values: Accumulators
) -> Accumulators:
    """Accumulators with one more element in each lane of `mask`."""
    element, combine = (region.block for region in op.regions)
    after = _fold(e, element, combine, index, values, lanes, mask)
    if mask is None:
        return after
    chosen = zip(_types(op, lanes), after, values, strict=True)
    return [e.text.select(type, mask, value, old) for type, value, old in chosen]


def _fold(
    e: Emitter,
    element: Block,
    combine: Block,
    index: Value,
    before: Accumulators,
    width: int,
    mask: Value | None,
) -> Accumulators:
    inner = e.inner(width, mask)
    inner.values[element.args[0]] = Val(index, "i64", width, 1)
    lifted = [inner.get(v).vector(e.text, width) for v in inner.block(element)]
    return _combined(e, combine, before, lifted, width)


def _tree(
    e: Emitter, op: Operation, combine: Block, values: Accumulators, width: int
) -> Accumulators:
    """Lane n is combined with lane n + width/2, until one is left."""
    elements = [register_type(r.type) for r in op.results]
    while width > 1:
        half = width // 2
        first = [_part(e.text, v, t, width, 0) for v, t in zip(values, elements, strict=True)]
        second = [_part(e.text, v, t, width, half) for v, t in zip(values, elements, strict=True)]
        values = _combined(e, combine, first, second, half)
        width = half
    return values


def _part(text: Text, value: Value, element: str, width: int, start: int) -> Value:
    half = width // 2
    type = vector_of(element, width)
    if half == 1:
        return text.let(f"extractelement {type} {value}, i64 {start}")
    lanes = ", ".join(f"i32 {n}" for n in range(start, start + half))
    return text.let(f"shufflevector {type} {value}, {type} poison, <{half} x i32> <{lanes}>")


def _chains(e: Emitter, op: Operation, width: int, size: int) -> None:
    text, (element, combine) = e.text, (r.block for r in op.regions)
    lower, upper = (e.scalar(v) for v in op.operands[:2])
    types = _types(op, e.lanes)
    inits = _inits(e, op, e.lanes)

    def step(index: Value, chain: list[Value]) -> list[Value]:
        e.values[element.args[0]] = Val(index, "i64")
        lifted: list[SSAValue] = e.block(element)
        values = [e.get(v).vector(text, e.lanes) for v in lifted]
        return _combined(e, combine, chain, values, e.lanes)

    def one_block(start: Value, totals: list[Value]) -> list[Value]:
        end = text.minimum(text.add(start, size), upper)
        chain = text.loop(start, end, 1, step, list(zip(types, inits, strict=True)))
        return _combined(e, combine, totals, chain, e.lanes)

    finals = text.loop(lower, upper, size, one_block, list(zip(types, inits, strict=True)))
    for result, final in zip(op.results, finals, strict=True):
        e.set(result, final, e.lanes)
