"""Emits `kern.reduce`: the order of operations that the numerics contract fixes.

With 32 virtual lanes: elements go to the lanes in turn; every block of 4,096 starts from nothing
and ends in a balanced tree over the lanes; block results are added in order. With one virtual
lane (the reduction runs inside other lanes): one chain a block, blocks in order.
"""

from __future__ import annotations

from xdsl.ir import Block, Operation, SSAValue

from lowering.cpu.emitter import Emitter, emits
from lowering.cpu.lanes import lane_loop
from lowering.cpu.text import Text, Value, vector_of
from lowering.cpu.values import Val, register_type
from lowering.kern import dialect as kern
from torsh_dialect.attributes import int_of

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
    text, (element, combine) = e.text, (r.block for r in op.regions)
    lower, upper = (e.scalar(v) for v in op.operands[:2])
    narrow, wide = _types(op, 1), _types(op, width)
    slots = [text.alloca(type, 1, role="lanes") for type in wide]

    def one_block(start: Value, totals: list[Value]) -> list[Value]:
        for type, slot, init in zip(wide, slots, _inits(e, op, width), strict=True):
            text.store(type, init, slot, 64)
        end = text.minimum(text.add(start, size), upper)

        def group(index: Value, mask: Value | None) -> None:
            before = [text.load(t, s, 64, "acc") for t, s in zip(wide, slots, strict=True)]
            after = _fold(e, element, combine, index, before, width, mask)
            for type, slot, value, old in zip(wide, slots, after, before, strict=True):
                kept = value if mask is None else text.select(type, mask, value, old)
                text.store(type, kept, slot, 64)

        lane_loop(text, start, end, width, group)
        lanes = [text.load(t, s, 64, "acc") for t, s in zip(wide, slots, strict=True)]
        return _combined(e, combine, totals, _tree(e, op, combine, lanes, width), 1)

    carried = list(zip(narrow, _inits(e, op, 1), strict=True))
    finals = text.loop(lower, upper, size, one_block, carried)
    for result, final in zip(op.results, finals, strict=True):
        e.set(result, final, 1)


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
