"""Gather, scatter, selection by data, and made tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import floordiv, product
from torsh_dialect.ops.datadependent import NonzeroOp, UniqueOp
from torsh_dialect.ops.gather import GatherElementsOp, GatherNdOp, GatherOp, OneHotOp
from torsh_dialect.ops.scatter import ScatterElementsOp, ScatterNdOp
from torsh_dialect.ops.shape import RangeOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter
from torsh_fx.importers.onnx_scope import KNOWN_LIMIT


@converter("Gather")
def gather(n: Node) -> SSAValue:
    return n(GatherOp, n.input(0), n.input(1), axis=n.axis(0))


@converter("GatherElements")
def gather_elements(n: Node) -> SSAValue:
    return n(GatherElementsOp, n.input(0), n.input(1), axis=n.axis(0))


@converter("GatherND")
def gather_nd(n: Node) -> SSAValue:
    """The last extent of the indices says how many axes of the data they are in."""
    data, indices, batch = n.input(0), n.input(1), n.int("batch_dims", 0)
    count = dims_of(indices)[-1] if dims_of(indices) else 0
    if not isinstance(count, int):
        if rank_of(data) - batch != 1:
            raise NotSupported(
                f"the last extent of the indices is {count}, which is not known, and the rank of "
                f"the result depends on it: data of rank {rank_of(data)}",
                "declare the last extent of the indices",
            )
        indices = _of_places(n, indices, 1)
    return n(GatherNdOp, data, indices, batch_dims=batch)


def _of_places(n: Node, indices: SSAValue, count: int) -> SSAValue:
    """Indices as those of `count` axes, which is checked at run time."""
    return n.fitted(indices, (*dims_of(indices)[:-1], count))


REDUCTIONS = {"none": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _reduction(n: Node) -> str:
    name = n.str("reduction", "none")
    if name not in REDUCTIONS:
        raise NotSupported(f"reduction {name!r}", "use none, add, mul, max or min")
    return REDUCTIONS[name]


@converter("ScatterElements", "Scatter")
def scatter_elements(n: Node) -> SSAValue:
    values = (n.input(0), n.input(1), n.input(2))
    return n(ScatterElementsOp, *values, axis=n.axis(0), reduction=_reduction(n))


@converter("ScatterND")
def scatter_nd(n: Node) -> SSAValue:
    """The ranks say how many axes of the data the indices are in, where their extent does not."""
    data, indices, updates = n.input(0), n.input(1), n.input(2)
    if dims_of(indices) and not isinstance(dims_of(indices)[-1], int):
        count = rank_of(data) + rank_of(indices) - 1 - rank_of(updates)
        if not 1 <= count <= rank_of(data):
            raise NotSupported(
                f"data of rank {rank_of(data)}, indices of rank {rank_of(indices)} and updates of "
                f"rank {rank_of(updates)} do not fit",
                "repair the model",
            )
        indices = _of_places(n, indices, count)
    return n(ScatterNdOp, data, indices, updates, reduction=_reduction(n))


@converter("OneHot")
def one_hot(n: Node) -> SSAValue:
    """`values` are off and on; negative indices count from the depth."""
    indices, values = n.input(0), n.input(2)
    (depth,) = n.extents(n.c.cast(n.scalar(n.input(1)), dtypes.i64))
    rank, axis = rank_of(indices), n.int("axis", -1)
    if not -rank - 1 <= axis <= rank:
        raise NotSupported(f"axis {axis} is out of range for rank {rank + 1}")
    off, on = (n.scalar(n.c.slice(values, 0, i, 1)) for i in (0, 1))
    index = n.c.cast(indices, dtypes.i64)
    axis = axis % (rank + 1)
    return n(OneHotOp, index, off, on, axis=axis, depth=dims_attribute([depth]))


@converter("Compress")
def compress(n: Node) -> SSAValue:
    """The slices along an axis (or of the flattened input) where a bool vector holds."""
    x, condition = n.input(0), n.input(1)
    axis = n.axis() if n.has("axis") else 0
    if not n.has("axis"):
        x = n.c.reshape(x, (product(dims_of(x)),))
    places = n(NonzeroOp, condition, count=n.fresh("u"))
    places = n.c.reshape(places, (dims_of(places)[0],))
    return n(GatherOp, x, places, axis=axis)


@converter("NonZero")
def nonzero(n: Node) -> SSAValue:
    return n.c.transpose(n(NonzeroOp, n.input(0), count=n.fresh("u")), [1, 0])


@converter("Unique")
def unique(n: Node) -> Sequence[SSAValue | None]:
    values = n.all(
        UniqueOp,
        n.input(0),
        count=n.fresh("u"),
        axis=n.axis() if n.has("axis") else None,
        sorted=bool(n.int("sorted", 1)),
    )
    return values


@converter("ReverseSequence")
def reverse_sequence(n: Node) -> SSAValue:
    """The first `lengths[b]` elements along the time axis turned round, for each batch entry."""
    x, batch, time = n.input(0), n.int("batch_axis", 1), n.int("time_axis", 0)
    dims, c = dims_of(x), n.c
    lengths = c.per_channel(c.cast(n.input(1), dtypes.i64), len(dims), batch)
    place = c.per_channel(c.iota(dims[time]), len(dims), time)
    turned = c.where(c.lt(place, lengths), c.sub(c.sub(lengths, 1), place), place)
    return c.take_along(x, c.broadcast(turned, dims), time)


# -- made tensors


@converter("Range")
def range_(n: Node) -> SSAValue:
    values = [n.scalar(n.input(i)) for i in range(3)]
    arrays = [n.array(v) for v in values]
    if all(a is not None for a in arrays):
        start, limit, step = (np.asarray(a).item() for a in arrays)
        if step == 0:
            raise NotSupported("the step of the range is 0", "repair the model")
        if (limit - start) / step <= KNOWN_LIMIT:
            return n.constant(np.arange(start, limit, step), element_type(values[0]))
    pairs = zip(values, arrays, strict=True)
    values = [v if a is None else n.constant(a, element_type(v)) for v, a in pairs]
    contents = [n.contents(v) for v in values]
    known = all(c is not None for c in contents) and isinstance(contents[2][0], int)  # pyright: ignore
    return n(RangeOp, *values, length=None if known else n.fresh("u"))


@converter("EyeLike")
def eye_like(n: Node) -> SSAValue:
    element = n.element(n.int("dtype")) if n.has("dtype") else element_type(n.input(0))
    rows, columns = n.dims()
    first = n.c.reshape(n.c.iota(rows), (rows, 1))
    band = n.c.eq(n.c.sub(n.c.iota(columns), first), n.int("k", 0))
    return n.c.cast(band, element)


@converter("Trilu")
def trilu(n: Node) -> SSAValue:
    """The upper (or lower) triangle of the last two axes; the rest becomes 0."""
    x, c = n.input(0), n.c
    rows, columns = dims_of(x)[-2:]
    place = c.sub(c.iota(columns), c.reshape(c.iota(rows), (rows, 1)))
    k = n.constant(np.int64(0)) if n.optional(1) is None else n.scalar(n.input(1))
    kept = c.ge(place, k) if n.int("upper", 1) else c.le(place, k)
    return c.where(kept, x, n.zero(x))


@converter("DepthToSpace")
def depth_to_space(n: Node) -> SSAValue:
    block, (batch, channels, height, width) = n.int("blocksize"), n.dims()
    each = floordiv(channels, block * block)
    c, x = n.c, n.input(0)
    if n.str("mode", "DCR") == "DCR":
        parts = c.reshape(x, (batch, block, block, each, height, width))
        moved = c.transpose(parts, [0, 3, 4, 1, 5, 2])
    else:
        parts = c.reshape(x, (batch, each, block, block, height, width))
        moved = c.transpose(parts, [0, 1, 4, 2, 5, 3])
    return c.reshape(moved, (batch, each, height * block, width * block))


@converter("SpaceToDepth")
def space_to_depth(n: Node) -> SSAValue:
    block, (batch, channels, height, width) = n.int("blocksize"), n.dims()
    rows, columns = floordiv(height, block), floordiv(width, block)
    parts = n.c.reshape(n.input(0), (batch, channels, rows, block, columns, block))
    first = n.str("mode", "DCR") == "DCR"
    moved = n.c.transpose(parts, [0, 3, 5, 1, 2, 4] if first else [0, 1, 3, 5, 2, 4])
    return n.c.reshape(moved, (batch, channels * (block * block), rows, columns))
