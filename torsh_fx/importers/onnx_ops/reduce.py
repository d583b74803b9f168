"""Reductions, scans and sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder, build_region
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.control import CondOp
from torsh_dialect.ops.reduce import (
    AnyOp,
    ArgMaxOp,
    ArgMinOp,
    L1NormOp,
    L2NormOp,
    LogSumOp,
    MaxOp,
    MeanOp,
    MinOp,
    ProdOp,
    SumOp,
    SumSquareOp,
)
from torsh_dialect.ops.scan import CumProdOp, CumSumOp
from torsh_dialect.ops.shape import ShapeOfOp
from torsh_dialect.ops.sort import SortOp, TopKOp
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.onnx_ops.movement import normal
from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter

Folding = Callable[[Compose, SSAValue, Sequence[int]], SSAValue]


def _with(cls: type[TensorOp]) -> Folding:
    return lambda c, x, axes: c.b(cls, x, axes=list(axes), keepdims=True)


def _log_sum_exp(c: Compose, x: SSAValue, axes: Sequence[int]) -> SSAValue:
    """log(sum(exp(x - m))) + m with the maximum m, or 0 where that is not finite."""
    top = c.max(x, axes, keep=True)
    finite = c.lt(c.abs(top), c.like(np.inf, top))
    top = c.where(finite, top, c.like(0, top))
    return c.add(c.log(c.sum(c.exp(c.sub(x, top)), axes, keep=True)), top)


FOLDINGS: dict[str, Folding] = {
    "ReduceSum": _with(SumOp),
    "ReduceMean": _with(MeanOp),
    "ReduceMax": _with(MaxOp),
    "ReduceMin": _with(MinOp),
    "ReduceProd": _with(ProdOp),
    "ReduceL1": _with(L1NormOp),
    "ReduceL2": _with(L2NormOp),
    "ReduceLogSum": _with(LogSumOp),
    "ReduceSumSquare": _with(SumSquareOp),
    "ReduceLogSumExp": _log_sum_exp,
}

IN_FLOATS = {"ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"}
"""Reductions whose results for integers are those of f64, without their fractions."""

AXES_INPUT_SINCE = {"ReduceSum": 13}
"""Since which opset `axes` is an input; 18 for all others."""


@converter(*FOLDINGS)
def reduce(n: Node) -> SSAValue:
    """No axes means all, or none with `noop_with_empty_axes`."""
    if n.op_type in IN_FLOATS and n.kind() != "float":
        whole, wide = n.input(0), n.c.cast(n.input(0), dtypes.f64)
        return n.c.cast_like(_reduced(n, wide), whole)
    return _reduced(n, n.input(0))


def _reduced(n: Node, x: SSAValue) -> SSAValue:
    rank, keep = rank_of(x), n.int("keepdims", 1) == 1
    fold = FOLDINGS[n.op_type]
    if n.version >= AXES_INPUT_SINCE.get(n.op_type, 18):
        given = n.optional(1)
        axes = None if given is None else n.known_ints(1)
        if given is not None and axes is None and dims_of(given) != (0,):
            return _by_data(n, x, given, fold, keep=keep)
    else:
        axes = n.ints("axes") if n.has("axes") else None
    if not axes:
        if n.int("noop_with_empty_axes", 0):
            # Without axes each element is its own reduction (ONNX: only the outer function acts).
            return _single(n, x)
        axes = list(range(rank))
    axes = sorted(normal(axes, rank))
    y = fold(n.c, x, axes)
    return y if keep else n.c.reshape(y, [d for i, d in enumerate(dims_of(y)) if i not in axes])


def _single(n: Node, x: SSAValue) -> SSAValue:
    c = n.c
    match n.op_type:
        case "ReduceL1" | "ReduceL2":
            return c.abs(x)
        case "ReduceSumSquare":
            return c.mul(x, x)
        case "ReduceLogSum":
            return c.log(x)
        case _:
            return x


Step = Callable[[Compose, SSAValue], SSAValue]


def _same(c: Compose, x: SSAValue) -> SSAValue:
    return x


def _squared(c: Compose, x: SSAValue) -> SSAValue:
    return c.mul(x, x)


STAGED: dict[str, tuple[Step, str, Step]] = {
    "ReduceL2": (_squared, "ReduceSum", lambda c, x: c.sqrt(x)),
    "ReduceL1": (lambda c, x: c.abs(x), "ReduceSum", _same),
    "ReduceSumSquare": (_squared, "ReduceSum", _same),
    "ReduceLogSum": (_same, "ReduceSum", lambda c, x: c.log(x)),
}
"""How a reduction over one axis after the other is prepared, done and finished."""


def _by_data(n: Node, x: SSAValue, given: SSAValue, fold: Folding, *, keep: bool) -> SSAValue:
    """Axes that are data: each axis in turn is reduced if it is among them."""
    c, rank = n.c, rank_of(x)
    (count,) = dims_of(given)
    if not isinstance(count, int):
        raise NotSupported(f"the number of axes is {count}, not a number")
    wanted = c.cast(given, dtypes.i64)
    wanted = c.where(c.lt(wanted, 0), c.add(wanted, rank), wanted)
    prepare, name, finish = STAGED.get(n.op_type, (_same, n.op_type, _same))
    step, y = FOLDINGS[name], prepare(c, x)
    for axis in range(rank):
        hit = c.b(AnyOp, c.eq(wanted, axis), axes=[0])
        y = _either(n, hit, y, axis, step)
    y = finish(c, y)
    if keep:
        return y
    kept = c.b(AnyOp, c.eq(c.reshape(c.iota(rank), (rank, 1)), wanted), axes=[1])
    return _dropped(n, y, kept, rank - count)


def _either(n: Node, hit: SSAValue, y: SSAValue, axis: int, step: Folding) -> SSAValue:
    location = n.scope.builder.location

    def reduced(b: BlockBuilder, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return [step(Compose(b), y, [axis])]

    def same(b: BlockBuilder, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return [y]

    regions = [build_region([], reduced, location), build_region([], same, location)]
    return n.all(CondOp, hit, regions=regions, symbols=[n.fresh("u")])[0]


def _dropped(n: Node, y: SSAValue, dropped: SSAValue, rank: int) -> SSAValue:
    """Y without the axes where `dropped` holds: their extents, sorted to the end, are cut off."""
    c = n.c
    order = n.all(SortOp, c.cast(dropped, dtypes.i64), axis=0, descending=False)[1]
    extents = c.take(n(ShapeOfOp, y), c.slice(order, 0, 0, rank), 0)
    return c.reshape(y, n.extents(extents))


@converter("ArgMax", "ArgMin")
def arg_extremum(n: Node) -> SSAValue:
    cls = ArgMaxOp if n.op_type == "ArgMax" else ArgMinOp
    last, keep = bool(n.int("select_last_index", 0)), n.int("keepdims", 1) == 1
    return n(cls, n.input(0), axes=[n.axis(0)], keepdims=keep, select_last=last)


@converter("CumSum", "CumProd")
def scan(n: Node) -> SSAValue:
    cls = CumSumOp if n.op_type == "CumSum" else CumProdOp
    exclusive, reverse = bool(n.int("exclusive", 0)), bool(n.int("reverse", 0))
    known, rank = n.known_ints(1), n.rank()
    if known is not None:
        (axis,) = normal(known, rank)
        return n(cls, n.input(0), axis=axis, exclusive=exclusive, reverse=reverse)
    place = n.c.cast(n.scalar(n.input(1)), dtypes.i64)

    def along(b: BlockBuilder, axis: int) -> SSAValue:
        return b(cls, n.input(0), axis=axis, exclusive=exclusive, reverse=reverse)

    return for_axis(n, place, rank, along)


def for_axis(
    n: Node, axis: SSAValue, rank: int, along: Callable[[BlockBuilder, int], SSAValue]
) -> SSAValue:
    """What `along` builds for an axis that is data: one branch for each axis that it may be."""
    axis = n.c.where(n.c.lt(axis, 0), n.c.add(axis, n.c.like(n.rank(), axis)), axis)
    location = n.scope.builder.location

    def chosen(b: BlockBuilder, first: int) -> SSAValue:
        if first == rank - 1:
            return along(b, first)
        regions = [
            build_region([], lambda inner, _: [along(inner, first)], location),
            build_region([], lambda inner, _: [chosen(inner, first + 1)], location),
        ]
        names = [n.fresh("u") for _ in range(n.rank())]
        hit = Compose(b).eq(axis, first)
        return b.all(CondOp, hit, regions=regions, symbols=names)[0]

    return chosen(n.scope.builder, 0)


@converter("TopK")
def topk(n: Node) -> Sequence[SSAValue]:
    """K is an input since opset 10; `largest = 0` asks for the smallest since 11."""
    axis = n.axis(-1)
    k = [n.int("k")] if n.version < 10 else n.extents(n.c.reshape(n.input(1), (1,)))
    smallest = not n.int("largest", 1)
    return n.all(TopKOp, n.input(0), axis=axis, k=dims_attribute(k), smallest=smallest)
