"""Higher-order ops: cond, while_loop, scan, map, and graphs that are called."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

from torch.fx import GraphModule
from xdsl.ir import Block, Region, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.builder import BlockBuilder, Fill
from torsh_dialect.dims import Dim, Expr
from torsh_dialect.ops.control import CondOp, LoopOp, YieldOp, unknown_extents
from torsh_dialect.types import dims_of
from torsh_fx.importers.random import Stream
from torsh_fx.importers.torch_ops.base import CONVERTERS, NodeBuilder
from torsh_fx.importers.torch_ops.symbolic import size_or_tensor, truth


def _values(c: NodeBuilder, result: Any) -> list[SSAValue]:
    """The results of a nested graph as tensors, cast to nothing."""
    flat = cast(Any, result) if isinstance(result, list | tuple) else [result]
    return [size_or_tensor(c, value) for value in flat if value is not None]


@dataclass
class Drawing:
    """The stream of random numbers as one more value that nested graphs take and give.

    Attributes:
        stream: The stream; None where no graph draws.
    """

    stream: Stream | None

    @staticmethod
    def of(c: NodeBuilder, *graphs: GraphModule) -> Drawing:
        """What the graphs of a node need."""
        from torsh_fx.importers.torch_graph import draws

        return Drawing(c.graph.shared.stream if any(map(draws, graphs)) else None)

    def state(self, c: NodeBuilder) -> list[SSAValue]:
        """The state now."""
        return [] if self.stream is None else [self.stream.after(c)]

    def inside(self, state: Sequence[SSAValue], block: Block) -> AbstractContextManager[None]:
        """Draw in a nested block from its own state."""
        return nullcontext() if self.stream is None else self.stream.inside(state[0], block)

    def left(self, results: Sequence[SSAValue], place: int) -> list[SSAValue]:
        """The results without the state, which stands at `place`."""
        if self.stream is None:
            return list(results)
        self.stream.restart(results[place])
        return [*results[:place], *results[place + 1 :]]


def region_of(
    c: NodeBuilder, graph: GraphModule, inputs: Sequence[Any], drawing: Drawing | None = None,
    state: Sequence[SSAValue] = (),
) -> Region:  # fmt: skip
    """A region without arguments: a nested graph of outer values; the last result is the stream."""
    block, drawing = Block(), drawing or Drawing(None)
    builder = BlockBuilder(block, location=getattr(c.b, "location", None))
    inner = NodeBuilder(builder, c.node, c.graph)
    with drawing.inside(state, block):
        values = _values(inner, c.graph.nested(graph, builder, inputs))
        values += drawing.state(inner)
    builder.put(YieldOp.create(operands=values))
    return Region(block)


def _cond(
    c: NodeBuilder,
    predicate: Any,
    then: GraphModule,
    otherwise: GraphModule,
    operands: Sequence[Any] = (),
) -> Any:
    if isinstance(predicate, bool):
        return c.graph.nested(then if predicate else otherwise, c.b, operands)  # pyright: ignore[reportArgumentType]
    drawing = Drawing.of(c, then, otherwise)
    state = drawing.state(c)
    regions = [region_of(c, g, operands, drawing, state) for g in (then, otherwise)]
    first, second = (r.block.last_op for r in regions)
    assert first is not None
    assert second is not None
    count = unknown_extents(first.operands, second.operands)
    names = _fresh(c, count)
    found = c.b.all(CondOp, truth(c, predicate), regions=regions, symbols=names or None)
    return drawing.left(found, len(found) - 1)


def _fresh(c: NodeBuilder, count: int) -> list[str]:
    """Names of extents that differ between branches: torch's own symbols where it has them."""
    found: list[str] = []
    for number in range(len(c.meta())):
        for extent in c.out_dims(number):
            if (
                isinstance(extent, Expr)
                and str(extent).isidentifier()
                and str(extent).startswith("u")
            ):
                found.append(str(extent))
    return [*found[:count], *(c.graph.shared.symbol("u") for _ in range(count - len(found)))]


def _while_loop(
    c: NodeBuilder,
    condition: GraphModule,
    body: GraphModule,
    carried: Sequence[Any],
    extra: Sequence[Any] = (),
    *,
    stacked: bool = False,
) -> Any:
    first = [size_or_tensor(c, v) for v in carried]
    start = truth(c, _values(c, c.graph.nested(condition, c.b, [*first, *extra]))[0])  # pyright: ignore[reportArgumentType]

    drawing, count = Drawing.of(c, condition, body), len(first)
    first = [*first, *drawing.state(c)]

    def fill(builder: BlockBuilder, arguments: Sequence[SSAValue]) -> Sequence[SSAValue]:
        inner = NodeBuilder(builder, c.node, c.graph)
        state, random = arguments[1 : 1 + count], arguments[1 + count :]
        with drawing.inside(random, builder.block):
            following = _values(inner, c.graph.nested(body, builder, [*state, *extra]))
            following = [inner.cast(v, dtypes_of(s)) for v, s in zip(following, state, strict=True)]
            again = _values(inner, c.graph.nested(condition, builder, [*following, *extra]))[0]
            random = drawing.state(inner)
        return [truth(inner, again), *following, *random, *(following if stacked else [])]

    trips = c.tensor(-1, dtypes.i64)
    region = c.region([trips.type, *(v.type for v in first)], fill)
    scans, names = (count, _fresh(c, 1)) if stacked else (0, None)
    found = c.b.all(LoopOp, trips, start, first, regions=[region], scans=scans, symbols=names)
    results = drawing.left(found, count)
    return results[count:] if stacked else results


def _while_loop_stack(c: NodeBuilder, *arguments: Any) -> Any:
    return _while_loop(c, *arguments, stacked=True)


def dtypes_of(value: SSAValue) -> Any:
    """The element type of a value."""
    from torsh_dialect.types import element_type

    return element_type(value)


def _scan(
    c: NodeBuilder,
    body: GraphModule,
    init: Sequence[SSAValue],
    rows: Sequence[SSAValue],
    extra: Sequence[Any] = (),
) -> Any:
    count: Dim = dims_of(rows[0])[0]
    drawing, carried = Drawing.of(c, body), len(init)

    def fill(builder: BlockBuilder, arguments: Sequence[SSAValue]) -> Sequence[SSAValue]:
        inner = NodeBuilder(builder, c.node, c.graph)
        state, random = arguments[1 : 1 + carried], arguments[1 + carried :]
        mine = [inner.take(x, arguments[0], 0) for x in rows]
        with drawing.inside(random, builder.block):
            found = _values(inner, c.graph.nested(body, builder, [*state, *mine, *extra]))
            random = drawing.state(inner)
        following = [inner.cast(v, dtypes_of(s)) for v, s in zip(found, state, strict=False)]
        return [inner.tensor(True, dtypes.i1), *following, *random, *found[carried:]]

    results = counted_loop(c, count, [*init, *drawing.state(c)], fill)
    return drawing.left(results, carried)


def counted_loop(c: NodeBuilder, count: Dim, init: Sequence[SSAValue], fill: Fill) -> Any:
    """A loop of `count` iterations from `init`; `fill` builds the body of a `LoopOp`."""
    trips = c.dim(count)
    region = c.region([trips.type, *(v.type for v in init)], fill)
    last = region.block.last_op
    assert last is not None
    scans = len(last.operands) - 1 - len(init)
    return c.loop(
        LoopOp,
        trips,
        c.tensor(True, dtypes.i1),
        list(init),
        region,
        extent=count if scans else None,
        scans=scans,
    )


def _map(
    c: NodeBuilder, body: GraphModule, rows: Sequence[SSAValue], extra: Sequence[Any] = ()
) -> Any:
    return _scan(c, body, [], rows, extra)


def _called(c: NodeBuilder, *arguments: Any, **options: Any) -> Any:
    """Ops that call a graph once: `invoke_subgraph`, `wrap_with_set_grad_enabled`, ..."""
    place = next(n for n, a in enumerate(arguments) if isinstance(a, GraphModule))
    rest: Any = [a for a in arguments[place + 1 :] if not isinstance(a, str)]
    if len(rest) == 1 and isinstance(rest[0], list):
        rest = rest[0]
    return c.graph.nested(arguments[place], c.b, rest)  # pyright: ignore[reportArgumentType]


def _with_effects(c: NodeBuilder, token: Any, op: Any, *arguments: Any, **options: Any) -> Any:
    """An op that torch keeps in order by a token: converted as the op is without it."""
    name = str(op)
    if name not in CONVERTERS:
        raise c.refuse(f"there is no converter for {name}")
    result = CONVERTERS[name](c, *arguments, **options)
    return (token, *(result if isinstance(result, list | tuple) else [result]))


CONVERTERS["with_effects"] = _with_effects
CONVERTERS["cond"] = _cond
CONVERTERS["while_loop"] = _while_loop
CONVERTERS["while_loop_stack_output"] = _while_loop_stack
CONVERTERS["scan"] = _scan
CONVERTERS["map_impl"] = CONVERTERS["map"] = _map
for _name in (
    "invoke_subgraph",
    "invoke_quant_packed",
    "invoke_quant",
    "wrap_with_set_grad_enabled",
    "wrap_with_autocast",
    "wrap",
    "hints_wrapper",
    "wrap_activation_checkpoint",
    "tag_activation_checkpoint",
    "strict_mode",
):
    CONVERTERS[_name] = _called
