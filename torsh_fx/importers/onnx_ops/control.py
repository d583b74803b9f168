"""If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Block, OpResult, Region, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import Dim, bounds_of, provably_equal, symbol
from torsh_dialect.ops.compare import EqualOp
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.control import CondOp, LoopOp, YieldOp, unknown_extents
from torsh_dialect.ops.movement import ReshapeOp
from torsh_dialect.ops.select import CastOp
from torsh_dialect.ops.sequence import UNKNOWN, SequenceConstructOp, SequenceInsertOp, item_of
from torsh_dialect.types import dims_of, element_type, rank_of, tensor
from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter
from torsh_fx.importers.onnx_ops.random import draws
from torsh_fx.importers.onnx_ranks import equal_but_for_ones
from torsh_fx.importers.onnx_scope import Skipped

TWO_RANKS = (
    "the branches give different ranks, and the condition depends on data",
    "make the model's shapes static where the branch depends on them",
)

Body = Callable[[BlockBuilder, Sequence[SSAValue]], Sequence[SSAValue]]


@converter("If")
def if_(n: Node) -> Sequence[SSAValue]:
    """A condition that is known picks its branch now."""
    from torsh_fx.importers.onnx_findings import finding_of
    from torsh_fx.importers.onnx_graph import convert_graph

    condition = n.c.reshape(n.input(0), ())
    known, name = n.array(condition), n.proto.name or "If"
    if known is not None:
        branch = "then_branch" if known.any() else "else_branch"
        return convert_graph(n.scope, n.graph(branch), [], n.scope.builder, f"{name}.{branch}")
    saved = n.scope.importing.report.copied()
    stream = n.scope.importing.stream if draws(n) else None
    state = None if stream is None else stream.after(n.c)
    builders: list[BlockBuilder] = []
    regions: list[Region] = []
    results: list[list[SSAValue]] = []
    skipped: Skipped | None = None
    for branch in ("then_branch", "else_branch"):
        block = Block()
        builder = BlockBuilder(block, location=n.scope.builder.location)
        with nullcontext() if stream is None or state is None else stream.inside(state, block):
            try:
                values = convert_graph(n.scope, n.graph(branch), [], builder, f"{name}.{branch}")
            except Skipped as error:  # the report lists what the other branch has too
                skipped = error
                continue
            if stream is not None:
                values = [*values, stream.after(Compose(builder))]
        builders.append(builder)
        regions.append(Region(block))
        results.append(values)
    if skipped is not None:
        raise skipped
    if len(results[0]) != len(results[1]):
        raise NotSupported("the branches have different numbers of results", "repair the model")
    widened = [i for i, pair in enumerate(zip(*results, strict=True)) if not _same_kind(*pair)]
    if widened and not _can_widen(n, [(results[0][i], results[1][i]) for i in widened]):
        n.scope.importing.report.restore(saved)
        return _one_branch(n, name)
    for builder, values, others in zip(builders, results, reversed(results), strict=True):
        for i in widened:
            if rank_of(values[i]) < rank_of(others[i]):
                values[i] = Compose(builder).reshape(values[i], dims_of(others[i]))
        builder.put(YieldOp.create(operands=values, location=builder.location))
    names = [n.fresh("u") for _ in range(unknown_extents(*results))]
    found = n.all(CondOp, condition, regions=regions, symbols=names or None)
    finding = finding_of(NotSupported(*TWO_RANKS), n.proto, n.name, n.version)
    n.scope.importing.widened += [(found[i], finding) for i in widened]
    if stream is None:
        return found
    stream.restart(found[-1])
    return found[:-1]


def _can_widen(n: Node, pairs: Sequence[tuple[SSAValue, SSAValue]]) -> bool:
    """Whether one type does for both branches; not where the condition is about extents."""
    return _compared(n, n.input(0)) is None and all(equal_but_for_ones(*pair) for pair in pairs)


def _same_kind(a: SSAValue, b: SSAValue) -> bool:
    if not hasattr(a.type, "element_type") or not hasattr(b.type, "element_type"):
        return type(a.type) is type(b.type)
    return rank_of(a) == rank_of(b) and element_type(a) == element_type(b)


def _one_branch(n: Node, name: str) -> Sequence[SSAValue]:
    """Branches of different ranks, as exporters write `squeeze`: one is chosen, and checked.

    Raises:
        NotSupported: The condition compares no extents, so nothing could be checked.
    """
    from torsh_fx.importers.onnx_graph import convert_graph

    sides = _compared(n, n.input(0))
    if sides is None:
        raise NotSupported(*TWO_RANKS)
    holds = n.decide("condition", default=True)
    branch = "then_branch" if holds else "else_branch"
    values = convert_graph(n.scope, n.graph(branch), [], n.scope.builder, f"{name}.{branch}")
    return [n.assume(v, sides[0], "eq" if holds else "ne", sides[1]) for v in values]


def _compared(n: Node, condition: SSAValue) -> tuple[Dim, Dim] | None:
    """The two extents whose equality the condition is."""
    while isinstance(condition, OpResult) and isinstance(condition.op, ReshapeOp | CastOp):
        condition = condition.op.operands[0]
    if not isinstance(condition, OpResult) or not isinstance(condition.op, EqualOp):
        return None
    left, right = (n.contents(v) for v in condition.op.operands)
    if left is None or right is None or len(left) != 1 or len(right) != 1:
        return None
    return left[0], right[0]


@converter("Loop")
def loop(n: Node) -> Sequence[SSAValue]:
    """The trip count, the condition or both may be missing."""
    from torsh_fx.importers.onnx_graph import convert_graph

    limit, condition = n.optional(0), n.optional(1)
    graph, name = n.graph("body"), n.proto.name or "Loop"
    trips = n.constant(np.int64(-1)) if limit is None else _trip_count(n, limit)
    first = n.constant(True, dtypes.i1) if condition is None else n.scalar(condition)
    carried = [n.input(i) for i in range(2, len(n.proto.input))]
    scans = len(graph.output) - 1 - len(carried)
    if scans < 0:
        raise NotSupported("the body has fewer results than carried values", "repair the model")

    def body(builder: BlockBuilder, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
        going = builder.constant(True, dtypes.i1)
        shaped = [_as_declared(builder, args[0], graph.input[0]), going, *args[1:]]
        return convert_graph(n.scope, graph, shaped, builder, name)

    return build_loop(n, trips, first, carried, scans, body)


def _trip_count(n: Node, limit: SSAValue) -> SSAValue:
    """The limit of `for (i = 0; i < limit; ++i)`; below 0 it is 0, not `torsh.loop`'s no limit."""
    known = n.contents(limit)
    low = bounds_of(known[0], {})[0] if known else None
    if low is not None and low >= 0:
        return n.scalar(limit)
    return n.c.maximum(n.scalar(limit), 0)


def _as_declared(builder: BlockBuilder, value: SSAValue, declared: object) -> SSAValue:
    """The iteration number as a scalar or, as some models declare it, one element."""
    from onnx import ValueInfoProto

    assert isinstance(declared, ValueInfoProto)
    if len(declared.type.tensor_type.shape.dim) == 1:
        return Compose(builder).reshape(value, (1,))
    return value


def build_loop(
    n: Node, trips: SSAValue, condition: SSAValue, carried: Sequence[SSAValue], scans: int,
    body: Body, extent: Dim | None = None,
) -> Sequence[SSAValue]:  # fmt: skip
    """A `torsh.loop`; where its body draws random numbers, their stream is carried along."""
    if not draws(n):
        return _loop_of(n, trips, condition, carried, scans, body, extent)
    stream, count = n.scope.importing.stream, len(carried)

    def drawing_body(builder: BlockBuilder, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
        with stream.inside(args[-1], builder.block):
            values = body(builder, args[:-1])
            state = stream.after(Compose(builder))
        return [*values[: 1 + count], state, *values[1 + count :]]

    start = [*carried, stream.after(n.c)]
    results = _loop_of(n, trips, condition, start, scans, drawing_body, extent)
    stream.restart(results[count])
    return [*results[:count], *results[count + 1 :]]


def _loop_of(
    n: Node, trips: SSAValue, condition: SSAValue, carried: Sequence[SSAValue], scans: int,
    body: Body, extent: Dim | None = None,
) -> Sequence[SSAValue]:  # fmt: skip
    """A `torsh.loop`: the body is built again until what it changes is known: extents, items."""
    changing: dict[tuple[int, int], Dim] = {}
    while True:
        report = n.scope.importing.report
        saved = report.copied()
        types = [_widened(v, number, changing) for number, v in enumerate(carried)]
        block = Block(arg_types=[tensor(dtypes.i64, ()), *types])
        builder = BlockBuilder(block, location=n.scope.builder.location)
        values = [builder_scalar(builder, v, i) for i, v in enumerate(body(builder, block.args))]
        if known := _with_items(n, carried, block.args[1:], values[1:]):
            report.restore(saved)
            carried = known
            continue
        new = _changes(carried, types, values[1:], changing)
        if not new:
            break
        report.restore(saved)
        for key in new:
            changing[key] = symbol(n.fresh("t"))
    builder.put(YieldOp.create(operands=values, location=builder.location))
    always = n.array(values[0])
    count = _iterations(n, trips, condition, always is not None and bool(always.all()), extent)
    names = [n.fresh("u") for _ in range(len(changing) + _unknown(scans, count, values, changing))]
    flat = [number for key in changing for number in key]
    return n.all(
        LoopOp, trips, condition, list(carried), regions=[Region(block)], scans=scans,
        extent=None if count is None else dims_attribute([count]),
        changing=flat or None, symbols=names or None,
    )  # fmt: skip


def _with_items(
    n: Node, carried: Sequence[SSAValue], first: Sequence[SSAValue], last: Sequence[SSAValue]
) -> list[SSAValue] | None:
    """The carried values, if empty sequences among them get items of a rank that is now known.

    `first` and `last` are what an iteration starts from and gives.
    """
    found = list(carried)
    for number, (value, before, after) in enumerate(zip(carried, first, last, strict=False)):
        made, put = value.owner, after.owner
        if not isinstance(made, SequenceConstructOp) or made.items:
            continue
        if not isinstance(put, SequenceInsertOp) or put.sequence is not before:
            continue
        if isinstance(put.value.type, TensorType) and not isinstance(item_of(value), TensorType):
            dims = [d if isinstance(d, int) else UNKNOWN for d in dims_of(put.value)]
            item = tensor(element_type(put.value), dims)
            found[number] = n(SequenceConstructOp, [], item=item)
    return found if any(a is not b for a, b in zip(found, carried, strict=True)) else None


def builder_scalar(builder: BlockBuilder, value: SSAValue, index: int) -> SSAValue:
    """The condition as a scalar; other results as they are."""
    return Compose(builder).reshape(value, ()) if index == 0 else value


def _widened(value: SSAValue, number: int, changing: dict[tuple[int, int], Dim]) -> Attribute:
    if not hasattr(value.type, "element_type"):
        return value.type
    dims = [changing.get((number, axis), d) for axis, d in enumerate(dims_of(value))]
    return tensor(element_type(value), dims)


def _changes(
    carried: Sequence[SSAValue], types: Sequence[Attribute], values: Sequence[SSAValue],
    changing: dict[tuple[int, int], Dim],
) -> list[tuple[int, int]]:  # fmt: skip
    found: list[tuple[int, int]] = []
    for number, (type, value) in enumerate(zip(types, values, strict=False)):
        if not hasattr(type, "element_type") or not hasattr(value.type, "element_type"):
            continue
        if rank_of(type) != rank_of(value) or element_type(type) != element_type(value):
            raise NotSupported(
                f"carried value {number} is {type} before and {value.type} after an iteration"
            )
        for axis, (a, b) in enumerate(zip(dims_of(type), dims_of(value), strict=True)):
            if (number, axis) not in changing and not provably_equal(a, b):
                found.append((number, axis))
    return found


def _iterations(
    n: Node, trips: SSAValue, condition: SSAValue, always: bool, extent: Dim | None
) -> Dim | None:
    if extent is not None:
        return extent
    first = n.array(condition)
    if not always or first is None or not first.all():
        return None
    known = n.contents(trips)
    if known is None or (isinstance(known[0], int) and known[0] < 0):
        return None
    return known[0]


def _unknown(
    scans: int, count: Dim | None, values: Sequence[SSAValue], changing: dict[tuple[int, int], Dim]
) -> int:
    """An upper bound of the names that the stacks need."""
    del changing
    if not scans:
        return 0
    symbolic = sum(not isinstance(d, int) for v in values[-scans:] for d in dims_of(v))
    return (count is None) + symbolic


def _scan_inputs(n: Node) -> int:
    count = n.int("num_scan_inputs")
    if not 0 < count <= len(n.proto.input):
        raise NotSupported(f"{count} scanned inputs of {len(n.proto.input)}", "repair the model")
    return count


@converter("Scan")
def scan(n: Node) -> Sequence[SSAValue]:
    """A loop over the elements of the scanned inputs; opset 8 also has a batch axis."""
    from torsh_fx.importers.onnx_graph import convert_graph

    if n.version < 9:
        return _batched_scan(n)
    graph, count, name = n.graph("body"), _scan_inputs(n), n.proto.name or "Scan"
    states = [n.input(i) for i in range(len(n.proto.input) - count)]
    scanned = [n.input(i) for i in range(len(states), len(n.proto.input))]
    axes = [
        a % rank_of(v) for a, v in zip(n.ints("scan_input_axes", [0] * count), scanned, strict=True)
    ]
    backward = n.ints("scan_input_directions", [0] * count)
    length = dims_of(scanned[0])[axes[0]]

    def body(builder: BlockBuilder, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
        c = Compose(builder)
        last = c.sub(c.dim(length), 1)
        parts = [
            c.take(v, c.sub(last, args[0]) if back else args[0], axis)
            for v, axis, back in zip(scanned, axes, backward, strict=True)
        ]
        results = convert_graph(n.scope, graph, [*args[1:], *parts], builder, name)
        return [builder.constant(True, dtypes.i1), *results]

    outputs = len(graph.output) - len(states)
    trips, going = n.c.dim(length), n.constant(True, dtypes.i1)
    results = list(build_loop(n, trips, going, states, outputs, body, length))
    turned = n.ints("scan_output_directions", [0] * outputs)
    places = n.ints("scan_output_axes", [0] * outputs)
    for i in range(outputs):
        y = results[len(states) + i]
        y = n.c.flip(y, 0) if turned[i] else y
        place = places[i] % rank_of(y)
        if place:
            perm = [*range(1, place + 1), 0, *range(place + 1, rank_of(y))]
            y = n.c.transpose(y, perm)
        results[len(states) + i] = y
    return results


def _batched_scan(n: Node) -> Sequence[SSAValue]:
    """Scan of opset 8: axis 0 is the batch, axis 1 the time; each batch entry runs alone.

    An entry takes all steps. Those after its own length leave its states as they are and give
    zeros, so that every entry's outputs have the same extents.
    """
    from torsh_fx.importers.onnx_graph import convert_graph

    graph, count, name = n.graph("body"), _scan_inputs(n), n.proto.name or "Scan"
    values = [n.input(i) for i in range(1, len(n.proto.input))]
    states, scanned = values[: len(values) - count], values[len(values) - count :]
    lengths, backward = n.optional(0), n.ints("directions", [0] * count)
    batch, length = dims_of(scanned[0])[:2]
    outputs = len(graph.output) - len(states)

    def entry(builder: BlockBuilder, at: Sequence[SSAValue]) -> Sequence[SSAValue]:
        scope = n.scope.inner(builder, n.scope.prefix)
        inner = Node(n.proto, scope, n.version, n.name)
        first, own = ([inner.c.take(v, at[0], 0) for v in row] for row in (states, scanned))
        steps = inner.c.dim(length)
        if lengths is not None:
            mine = inner.c.cast(inner.c.take(lengths, at[0], 0), dtypes.i64)
            steps = inner.c.minimum(mine, steps)

        def body(builder: BlockBuilder, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
            c = Compose(builder)
            last = c.maximum(c.sub(c.sub(steps, 1), args[0]), 0)
            parts = [
                c.take(v, last if back else args[0], 0)
                for v, back in zip(own, backward, strict=True)
            ]
            results = convert_graph(scope, graph, [*args[1:], *parts], builder, name)
            if lengths is not None:
                live = c.lt(args[0], steps)
                zeros = [c.like(0, v) for v in results[len(states) :]]
                before = [*args[1:], *zeros]
                results = [c.where(live, v, w) for v, w in zip(results, before, strict=True)]
            return [builder.constant(True, dtypes.i1), *results]

        going = inner.constant(True, dtypes.i1)
        results = build_loop(inner, inner.c.dim(length), going, first, outputs, body, length)
        return [builder.constant(True, dtypes.i1), *results]

    going = n.constant(True, dtypes.i1)
    return build_loop(n, n.c.dim(batch), going, [], len(graph.output), entry, batch)
