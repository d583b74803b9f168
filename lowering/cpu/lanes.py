"""`kern.lanes`: independent iterations as vectors, the last group masked."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import IndexType
from xdsl.ir import Attribute, Block, Operation, OpResult, SSAValue

from lowering.cpu.borders import border_of, by_parts
from lowering.cpu.emitter import Emitter, emits
from lowering.cpu.periods import by_runs, periods_of
from lowering.cpu.spans import mask_of
from lowering.cpu.text import Text, Value
from lowering.cpu.values import Val, element_bytes, is_place
from lowering.kern import dialect as kern
from torsh_dialect import dtypes
from torsh_dialect.attributes import int_of, str_of

VIRTUAL_BYTES = 128
"""Bytes of a virtual vector: several registers, so that latencies overlap (cpu_codegen 3)."""

LEAST_SPLIT = 96
"""Iterations of a static loop from which on it is split at comparisons: shorter ones are masks."""

LEAST_PARTED = 8
"""A dynamic rest of so many lanes is done in masked halves or a quarter: rows may be short."""

LEAST_PART = 4
"""Lanes of the least part that loops inside of the lanes have: they run often for each start."""


def lane_width(block: Block, extent: int | None) -> int:
    """How many lanes a loop over `block` gets; 1 where its code cannot be vectorised."""
    widest, bytes_ = 4, VIRTUAL_BYTES
    varying: set[SSAValue] = {block.args[0]}
    near: set[SSAValue] = set()
    for op in block.walk():
        if isinstance(op, kern.WhileOp) or _branches_on(op, varying):
            return 1
        if isinstance(op, kern.ReduceOp):
            if int_of(op.properties["lanes"]) != 1:
                return 1
            bytes_ = 2 * VIRTUAL_BYTES
        if any(v in varying for v in op.operands):
            varying.update(op.results)
        elif isinstance(op, kern.IfOp):
            varying.update(r for r in op.results if not isinstance(r.type, IndexType))
        for region in op.regions:
            varying.update(a for a in region.block.args if not isinstance(a.type, IndexType))
        near.update(v for v in (*op.operands, *op.results) if _is_near(v, near))
        values = [v for v in (*op.operands, *op.results) if v not in near]
        if not isinstance(op, kern.PointerOp | kern.OffsetOp):
            sizes = (_value_bytes(v.type) for v in values if not isinstance(v.type, IndexType))
            widest = max(widest, *sizes, 0)
    width = bytes_ // widest
    while extent is not None and width > 1 and width // 2 >= extent:
        width //= 2
    return width


def _is_near(value: SSAValue, near: set[SSAValue]) -> bool:
    """Whether an i64 is an index, or a sum of `near` ones: its lanes are a number and its step."""
    op = value.owner
    if isinstance(op, kern.CastOp):
        return value.type == dtypes.i64 and isinstance(op.x.type, IndexType) and is_place(op.x)
    if isinstance(op, kern.BinaryOp) and str_of(op.kind) in ("add", "sub"):
        return all(v in near for v in op.operands)
    return isinstance(op, kern.ConstOp) and value.type == dtypes.i64


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


@emits(kern.LanesOp)
def _lanes(e: Emitter, op: Operation) -> None:
    lower, upper = (e.scalar(v) for v in op.operands)
    block, outermost = op.regions[0].block, e.lanes == 1
    extent = static_extent(op)
    long = outermost and "most" not in op.properties and (extent is None or extent >= LEAST_SPLIT)

    def vectors(first: Value, end: Value) -> None:
        _vectors(e, op, first, end)

    if periods := periods_of(e, block) if outermost else []:
        by_runs(e, periods, lower, upper, vectors)
    elif border := border_of(e, block) if long else None:
        by_parts(e, border, lower, upper, vectors)
    else:
        vectors(lower, upper)


def _vectors(e: Emitter, op: Operation, lower: Value, upper: Value) -> None:
    """The iterations from `lower` to `upper`."""
    block, text = op.regions[0].block, e.text
    most = int_of(op.properties["most"]) if "most" in op.properties else static_extent(op)
    width = lane_width(block, most) if e.lanes == 1 else 1

    def run(index: Value, mask: Value | None, width: int = width) -> None:
        e.values[block.args[0]] = Val(index, "i64") if width == 1 else Val(index, "i64", width, 1)
        e.inner(width, mask).block(block)

    if width == 1:
        text.loop(lower, upper, 1, lambda i, _: run(i, None))
        return
    short = "most" in op.properties and most is not None and most <= width
    if short and not (width >= LEAST_PARTED and _costs_by_lane(e, block)):
        bounds = (lower, upper)
        count = text.outside(("count", bounds), bounds, lambda: text.sub(upper, lower))
        run(lower, first_lanes(text, count, width))
        return

    loops = any(isinstance(inner, kern.ForOp) for inner in block.ops)
    eighth = (width // 8,) if loops and width // 8 >= LEAST_PART else ()

    def tail(start: Value, left: Value) -> None:
        """The rest, in the least vector that holds it: what is said of it stands before loops."""
        done = text.label("done")
        some = text.label("some")
        text.branch_if(text.compare("sgt", left, 0), some, done)
        text.start(some)
        for size in (*eighth, width // 4, width // 2):
            fits, more = text.label("fits"), text.label("more")
            text.branch_if(text.compare("sle", left, size), fits, more)
            text.start(fits)
            run(start, first_lanes(text, left, size), size)
            text.branch(done)
            text.start(more)
        run(start, first_lanes(text, left, width), width)
        text.branch(done)
        text.start(done)

    if short:
        tail(lower, text.sub(upper, lower))
        return
    lane_loop(text, lower, upper, width, run, tail if width >= LEAST_PARTED else None)


def _costs_by_lane(e: Emitter, block: Block) -> bool:
    """Whether lanes that are masked cost time too: those of gathers and of functions do."""
    for op in block.ops:
        if isinstance(op, kern.MathOp):
            return True
        if isinstance(op, kern.LoadOp) and not _is_contiguous(e, block, op.operands[1]):
            return True
    return False


def _is_contiguous(e: Emitter, block: Block, index: SSAValue) -> bool:
    """Whether an index is a sum of that of `block` and of what is the same for all lanes."""
    op = index.owner
    if not isinstance(op, Operation) or op.parent_block() is not block:
        return True
    if not isinstance(op, kern.BinaryOp) or (op.a, op.b) in e.quotients:
        return isinstance(op, kern.BinaryOp | kern.ConstOp)
    return str_of(op.kind) in ("add", "sub") and all(
        _is_contiguous(e, block, operand) for operand in op.operands
    )


def lane_loop(
    text: Text,
    lower: Value,
    upper: Value,
    width: int,
    run: Callable[[Value, Value | None], None],
    tail: Callable[[Value, Value], None] | None = None,
) -> None:
    """`run(first index, None)` for whole groups, `run(index, mask)` for what is left.

    What only the run knows is left to `tail(first index, iterations)` if that is given.
    """
    bounds = (lower, upper)
    count = text.outside(("count", bounds), bounds, lambda: text.sub(upper, lower))
    if count.lstrip("-").isdigit():
        whole = str(int(count) // width * width)
    else:
        whole = text.outside(
            ("whole", count, width),
            (count,),
            lambda: text.binary("and", "i64", count, str(-width)),
        )
    end = text.outside(("end", lower, whole), (lower, whole), lambda: text.add(lower, whole))
    text.loop(lower, end, width, lambda i, _: run(i, None))
    rest = text.outside(("rest", count, whole), (count, whole), lambda: text.sub(count, whole))
    if rest.lstrip("-").isdigit():
        if int(rest) > 0:
            run(end, first_lanes(text, rest, width))
        return
    if tail is not None:
        tail(end, rest)
        return
    some = text.compare("sgt", rest, 0)
    text.when(some, lambda: run(end, first_lanes(text, rest, width)))


def first_lanes(text: Text, count: Value, width: int) -> Value:
    """The mask of the first `count` lanes."""
    return mask_of(text, ("0", count), width)
