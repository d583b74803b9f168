"""Shapes and movement: reshape, transpose, slice, pad, concat, gather, scatter and their kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import (
    Dim,
    Expr,
    bounds_of,
    broadcast_shapes,
    ceildiv,
    divide_exact,
    floordiv,
    maximum,
    minimum,
    product,
    provably_equal,
)
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.join import PadOp, SplitOp
from torsh_dialect.ops.movement import SliceOp, SqueezeOp, TileOp, UnsqueezeOp
from torsh_dialect.ops.reduce import AnyOp, ProdOp
from torsh_dialect.ops.scan import CumSumOp
from torsh_dialect.ops.scatter import ScatterElementsOp
from torsh_dialect.ops.shape import (
    BindOp,
    FullOp,
    ShapeOfOp,
    SizeOp,
)
from torsh_dialect.ops.sort import SortOp
from torsh_dialect.ops.string import StringConstantOp
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter


def normal(axes: Sequence[int], rank: int) -> list[int]:
    """Axes as numbers in 0..rank-1.

    Raises:
        NotSupported: One is out of range.
    """
    if any(not -rank <= a < rank for a in axes):
        raise NotSupported(f"axes {list(axes)} are out of range for rank {rank}")
    return [a % rank for a in axes]


# -- shapes


@converter("Shape")
def shape(n: Node) -> SSAValue:
    rank = n.rank()
    start, end = n.int("start", 0), n.int("end", rank)
    first, last = (min(max(v + rank if v < 0 else v, 0), rank) for v in (start, end))
    whole = n(ShapeOfOp, n.input(0))
    return whole if (first, last) == (0, rank) else n.c.slice(whole, 0, first, max(last - first, 0))


@converter("Size")
def size(n: Node) -> SSAValue:
    return n(SizeOp, n.input(0))


@converter("Constant")
def constant(n: Node) -> SSAValue:
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if n.has(name):
            return n.constant(np.asarray(n.attribute(name), dtype))
    if n.has("value_string"):
        return n(StringConstantOp, values=[n.str("value_string")], target=dims_attribute([]))
    if n.has("value_strings"):
        values = n.strs("value_strings")
        return n(StringConstantOp, values=values, target=dims_attribute([len(values)]))
    if n.has("sparse_value"):
        return n.scope.importing.sparse(n.value("sparse_value"))
    return n.scope.importing.initializer(n.value("value"))


@converter("ConstantOfShape")
def constant_of_shape(n: Node) -> SSAValue:
    value = n.tensor("value").reshape(()) if n.has("value") else np.float32(0)
    dims = n.extents(n.input(0))
    return n(FullOp, n.constant(value), target=dims_attribute(dims))


@converter("Reshape")
def reshape(n: Node) -> SSAValue:
    x = n.input(0)
    if n.version < 5:
        return n.c.reshape(x, resolved(n, dims_of(x), n.ints("shape"), zero_is_zero=False))
    target = n.input(1)
    known = n.contents(target)
    if known is None:
        known = _bound_target(n, x, target)
    return n.c.reshape(x, resolved(n, dims_of(x), known, zero_is_zero=bool(n.int("allowzero", 0))))


def resolved(
    n: Node, dims: Sequence[Dim], target: Sequence[Dim], *, zero_is_zero: bool
) -> list[Dim]:
    """The extents that a reshape asks for: 0 copies an extent, -1 takes what is left."""
    found: list[Dim] = []
    for axis, extent in enumerate(target):
        if extent == 0 and not zero_is_zero:
            if axis >= len(dims):
                raise NotSupported(f"extent {axis} is 0, but there is no such axis to copy")
            extent = dims[axis]
        found.append(extent)
    if found.count(-1) > 1:
        raise NotSupported("two extents are -1", "repair the model")
    if -1 in found:
        rest, whole = product(d for d in found if d != -1), product(dims)
        left = 0 if rest == 0 else divide_exact(whole, rest)
        found[found.index(-1)] = floordiv(whole, rest) if left is None else left
    if any(isinstance(d, int) and d < 0 for d in found):
        raise NotSupported(f"a tensor cannot have the extents {found}", "repair the model")
    return found


def _bound_target(n: Node, x: SSAValue, target: SSAValue) -> list[Dim]:
    """Symbols for the extents that a target of unknown contents asks for, -1 and 0 resolved."""
    c, rank = n.c, rank_of(x)
    (count,) = dims_of(target)
    if not isinstance(count, int):
        raise NotSupported(f"the rank of the result is {count}, not a number")
    if not n.int("allowzero", 0):
        own = n(ShapeOfOp, x)
        own = c.slice(own, 0, 0, count) if rank >= count else c.pad(own, 0, 0, count - rank)
        target = c.where(c.eq(target, 0), own, target)
    whole = n.c.b(SizeOp, x)
    rest = n(ProdOp, c.where(c.eq(target, -1), c.like(1, target), target), axes=[0])
    left = c.floordiv(whole, c.maximum(rest, 1))
    return n.extents(c.where(c.eq(target, -1), left, target))


@converter("Flatten")
def flatten(n: Node) -> SSAValue:
    rank, axis = n.rank(), n.int("axis", 1)
    if not -rank <= axis <= rank:
        raise NotSupported(f"axis {axis} is out of range for rank {rank}")
    axis = axis + rank if axis < 0 else axis
    dims = n.dims()
    return n.c.reshape(n.input(0), [product(dims[:axis]), product(dims[axis:])])


def _axes(n: Node, index: int = 1) -> list[int] | None:
    """Axes, given as an input since opset 13 and as an attribute before."""
    if n.version < 13:
        return n.ints("axes") if n.has("axes") else None
    if n.optional(index) is None:
        return None
    return n.required_ints(index, "axes")


@converter("Squeeze")
def squeeze(n: Node) -> SSAValue:
    x = n.input(0)
    if n.optional(1) is not None and n.version >= 13 and n.known_ints(1) is None:
        return _squeezed_by_data(n, x)
    axes = _axes(n)
    if axes is None:
        axes = list[int]()
        for axis, extent in enumerate(dims_of(x)):
            if isinstance(extent, Expr):
                # The rank depends on this extent: decide, and check it when the model runs.
                single = n.decide(f"axis {axis}", default=False)
                x = n.assume(x, extent, "eq" if single else "ne", 1)
                if single:
                    axes.append(axis)
            elif extent == 1:
                axes.append(axis)
    return n(SqueezeOp, x, axes=normal(axes, n.rank()))


def _squeezed_by_data(n: Node, x: SSAValue) -> SSAValue:
    """Axes that are data: what is left keeps its order, so it is a reshape."""
    axes, count = _wrapped_axes(n, n.input(1), rank_of(x))
    c, rank = n.c, rank_of(x)
    dropped = c.b(AnyOp, c.eq(c.reshape(c.iota(rank), (rank, 1)), axes), axes=[1])
    order = n.all(SortOp, c.cast(dropped, dtypes.i64), axis=0, descending=False)[1]
    extents = c.take(n(ShapeOfOp, x), c.slice(order, 0, 0, rank - count), 0)
    return c.reshape(x, n.extents(extents))


def _unsqueezed_by_data(n: Node, x: SSAValue) -> SSAValue:
    """Axes that are data: 1 at these, the operand's extents in order elsewhere."""
    c, (many,) = n.c, dims_of(n.input(1)) or (1,)
    if not isinstance(many, int):
        raise NotSupported(f"the number of axes is {many}, not a number")
    rank = rank_of(x) + many
    axes, _ = _wrapped_axes(n, n.input(1), rank)
    added = c.b(AnyOp, c.eq(c.reshape(c.iota(rank), (rank, 1)), axes), axes=[1])
    before = n(CumSumOp, c.cast(added, dtypes.i64), axis=0)
    place = c.inside(c.sub(c.iota(rank), before), max(rank_of(x), 1))
    own = n(ShapeOfOp, x)
    own = own if rank_of(x) else n.constant(np.ones(1, np.int64))
    extents = c.where(added, c.like(1, own), c.take(own, place, 0))
    return c.reshape(x, n.extents(extents))


def _wrapped_axes(n: Node, axes: SSAValue, rank: int) -> tuple[SSAValue, int]:
    """Axes that are data as numbers in 0..rank-1, and how many there are."""
    (count,) = dims_of(axes) or (1,)
    if not isinstance(count, int):
        raise NotSupported(f"the number of axes is {count}, not a number")
    axes = n.c.reshape(n.c.cast(axes, dtypes.i64), (count,))
    return n.c.where(n.c.lt(axes, 0), n.c.add(axes, rank), axes), count


@converter("Unsqueeze")
def unsqueeze(n: Node) -> SSAValue:
    if n.version >= 13 and n.known_ints(1) is None:
        return _unsqueezed_by_data(n, n.input(0))
    axes = _axes(n)
    if axes is None:
        raise NotSupported("axes are missing", "repair the model")
    return n(UnsqueezeOp, n.input(0), axes=sorted(normal(axes, n.rank() + len(axes))))


@converter("Transpose")
def transpose(n: Node) -> SSAValue:
    perm = n.ints("perm", list(range(n.rank()))[::-1])
    return n.c.transpose(n.input(0), perm)


@converter("Expand")
def expand(n: Node) -> SSAValue:
    """Broadcasts both ways: a 1 in the target keeps the operand's extent."""
    x, target = n.input(0), n.extents(n.input(1))
    dims = broadcast_shapes(dims_of(x), target)
    for wanted, extent in zip(target, dims[len(dims) - len(target) :], strict=True):
        if wanted != 1 and not provably_equal(wanted, extent):
            x = n.assume(x, wanted, "fits", extent)
    return n.c.broadcast(x, dims)


@converter("Tile")
def tile(n: Node) -> SSAValue:
    return n(TileOp, n.input(0), repeats=dims_attribute(n.extents(n.input(1))))


@converter("Concat")
def concat(n: Node) -> SSAValue:
    return n.c.concat(n.inputs, n.axis(None if n.version >= 4 else 1))


@converter("Split")
def split(n: Node) -> Sequence[SSAValue]:
    """Sizes are an input since opset 13; without sizes the pieces are equal, the last smaller."""
    axis, count = n.axis(0), len(n.proto.output)
    extent = n.dims()[axis]
    given = n.extents(n.optional(1)) if n.version >= 13 else None
    if n.version < 13 and n.has("split"):
        given = list(n.ints("split"))
    if given is None:
        if n.int("num_outputs", count) != count:
            wrong = f"num_outputs is {n.int('num_outputs')}, and the node has {count} outputs"
            raise NotSupported(wrong, "repair the model")
        each = ceildiv(extent, count)
        given = [each] * (count - 1)
        given.append(extent - each * (count - 1))
    return n.all(SplitOp, n.input(0), axis=axis, sizes=dims_attribute(given))


# -- slices


@converter("Slice")
def slice_(n: Node) -> SSAValue:
    """Starts, ends, axes and steps are inputs since opset 10, attributes before."""
    rank = n.rank()
    if n.version < 10:
        starts, ends = list[Dim](n.ints("starts")), list[Dim](n.ints("ends"))
        axes, steps = n.ints("axes", list(range(len(starts)))), [1] * len(starts)
        return _sliced(n, normal(axes, rank), starts, ends, steps)
    count = _slices(n)
    axes = list(range(count)) if n.optional(3) is None else n.known_ints(3)
    if axes is None:
        return _sliced_by_data(n, None)
    steps = [1] * count if n.optional(4) is None else n.known_ints(4)
    axes = normal(axes, rank)
    starts, ends = n.contents(n.input(1)), n.contents(n.input(2))
    if starts is not None and ends is not None and steps is not None:
        return _sliced(n, axes, list(starts), list(ends), steps)
    return _sliced_by_data(n, axes)


def _slices(n: Node) -> int:
    """How many axes are sliced: the length of any bound; 1 where all have lengths that are data.

    It is checked when the model runs (`_bound`); exporters cut single bounds out of tensors.
    """
    given = [v for v in map(n.optional, range(1, 5)) if v is not None]
    extents = [dims_of(v)[0] if rank_of(v) else 1 for v in given]
    return next((extent for extent in extents if isinstance(extent, int)), 1)


def _bound(n: Node, value: SSAValue, count: int) -> SSAValue:
    """Starts, ends or steps as `count` integers."""
    value = n.fitted(value, (count,)) if rank_of(value) else n.c.reshape(value, (count,))
    return n.c.cast(value, dtypes.i64)


def _sliced(
    n: Node, axes: Sequence[int], starts: Sequence[Dim], ends: Sequence[Dim], steps: Sequence[int]
) -> SSAValue:
    dims = n.dims()
    first, sizes, strides = [0 for _ in dims], list(dims), [1] * len(dims)
    found: list[Dim] = list(first)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        extent = dims[axis]
        if step == 0:
            raise NotSupported("a step of 0", "repair the model")
        low, high = (0, extent) if step > 0 else (-1, extent - 1)
        begin = _clamped(start, extent, 0 if step > 0 else -1, extent if step > 0 else extent - 1)
        stop = _clamped(end, extent, low, high)
        span = stop - begin if step > 0 else begin - stop
        found[axis], strides[axis] = begin, step
        sizes[axis] = maximum(ceildiv(span, abs(step)), 0)
    attribute = dims_attribute
    return n(SliceOp, n.input(0), starts=attribute(found), sizes=attribute(sizes), steps=strides)


def _clamped(value: Dim, extent: Dim, low: Dim, high: Dim) -> Dim:
    """A bound of a slice in low..high; negative ones count from the end."""
    if isinstance(value, int):
        if value >= 2**31 - 1:
            return high
        if value <= -(2**31) + 1:
            return low
        value = value + extent if value < 0 else value
    else:
        value = _from_start(value, extent)
    return maximum(minimum(value, high), low)


def _from_start(value: Expr, extent: Dim) -> Dim:
    """A place that counts from the end where it is negative, which only a call may know."""
    least, most = bounds_of(value, {})
    if least is not None and least >= 0:
        return value
    if most is not None and most < 0:
        return value + extent
    if value - extent == -1:  # negative where nothing is there to be counted
        return value
    return value + extent * maximum(0, minimum(1, -value))


def _sliced_by_data(n: Node, axes: Sequence[int] | None) -> SSAValue:
    """A slice whose bounds are data: the results' extents are symbols bound to them."""
    c, x = n.c, n.input(0)
    rank, count = rank_of(x), _slices(n)
    steps = n.optional(4)
    given = [
        n.input(1),
        n.input(2),
        n.constant(np.ones(count, np.int64)) if steps is None else steps,
    ]
    starts, ends, strides = (_bound(n, v, count) for v in given)
    if steps is not None and n.contents(steps) is None:
        strides = _nonzero(n, strides, count)
    if axes is None:
        places, _ = _wrapped_axes(n, n.input(3), rank)
        axes = range(rank)
        whole = n(ShapeOfOp, x)
        plain = (n.constant(np.zeros(rank, np.int64)), whole, n.constant(np.ones(rank, np.int64)))
        starts, ends, strides = (
            n(ScatterElementsOp, every, places, some, axis=0, reduction="none")
            for every, some in zip(plain, (starts, ends, strides), strict=True)
        )
    else:
        whole = c.take(n(ShapeOfOp, x), n.constant(np.asarray(axes, np.int64)), 0)
    first, size = _slice_bounds(n, starts, ends, strides, whole)
    sizes = n.extents(size)
    for place, axis in enumerate(axes):
        start, stride = (n.scalar(c.slice(v, 0, place, 1)) for v in (first, strides))
        index = c.add(start, c.mul(c.iota(sizes[place]), stride))
        x = n(GatherOp, x, index, axis=axis)
    return x


def _nonzero(n: Node, strides: SSAValue, count: int) -> SSAValue:
    """The strides, where none is 0: checked at run time by bounds of their magnitudes, 0 or 1."""
    c = n.c
    zero, one = n.constant(np.int64(0)), n.constant(np.int64(1))
    magnitudes = c.where(c.eq(strides, 0), zero, one)
    names = [n.fresh("step") for _ in range(count)]
    return c.mul(strides, n(BindOp, magnitudes, names=names, low=1))


def _slice_bounds(
    n: Node, starts: SSAValue, ends: SSAValue, strides: SSAValue, whole: SSAValue
) -> tuple[SSAValue, SSAValue]:
    """First places and numbers of elements, by the rules of Python's slices."""
    c, zero = n.c, n.constant(np.int64(0))
    forward = c.gt(strides, 0)
    low = c.where(forward, zero, n.constant(np.int64(-1)))
    high = c.where(forward, whole, c.sub(whole, 1))

    def clamped(value: SSAValue) -> SSAValue:
        value = c.where(c.lt(value, 0), c.add(value, whole), value)
        return c.maximum(c.minimum(value, high), low)

    begin, stop = clamped(starts), clamped(ends)
    span = c.where(forward, c.sub(stop, begin), c.sub(begin, stop))
    many = c.neg(c.floordiv(c.neg(span), c.maximum(c.abs(strides), 1)))
    return begin, c.maximum(many, 0)


@converter("Pad")
def pad(n: Node) -> SSAValue:
    """Pads are an input since opset 11, an attribute before; `axes` since 18."""
    x, rank = n.input(0), n.rank()
    mode = n.str("mode", "constant")
    filler: SSAValue | None = None
    if n.version >= 11:
        axes = list(range(rank))
        pads = n.input(1)
        if n.optional(3) is not None and n.known_ints(3) is None:
            pads = _spread_pads(n, pads, n.input(3), rank)
        elif n.optional(3) is not None:
            axes = normal(n.required_ints(3, "axes"), rank)
        low, high = _pad_extents(n, pads, len(axes))
        filler = n.optional(2) if mode == "constant" else None
    else:
        axes, pads = list(range(rank)), n.ints("pads" if n.version > 1 else "paddings")
        low, high = list[Dim](pads[:rank]), list[Dim](pads[rank:])
        filler = n.c.like(n.float("value", 0.0), x) if mode == "constant" else None
    starts: list[Dim] = [0] * rank
    ends: list[Dim] = [0] * rank
    for axis, a, b in zip(axes, low, high, strict=True):
        starts[axis], ends[axis] = a, b
    filler = None if filler is None else n.scalar(filler)
    for dim, a, b in zip(dims_of(x), starts, ends, strict=True):
        least, _ = bounds_of(dim + a + b, n.scope.importing.bounds)
        if not isinstance(dim + a + b, int) and (least is None or least < 0):
            x = n.assume(x, -1 * (a + b), "le", dim)
    return n(PadOp, x, filler, low=dims_attribute(starts), high=dims_attribute(ends), mode=mode)


def _spread_pads(n: Node, pads: SSAValue, axes: SSAValue, rank: int) -> SSAValue:
    """Pads of axes that are data, as pads of all axes: zeros with these scattered in."""
    wrapped, count = _wrapped_axes(n, axes, rank)
    c, whole = n.c, c_zeros(n, 2 * rank)
    places = c.concat([wrapped, c.add(wrapped, rank)], 0)
    values = c.reshape(c.cast(pads, dtypes.i64), (2 * count,))
    return n(ScatterElementsOp, whole, places, values, axis=0, reduction="none")


def c_zeros(n: Node, count: int) -> SSAValue:
    """A vector of zeros (i64)."""
    return n.constant(np.zeros(count, np.int64))


def _pad_extents(n: Node, pads: SSAValue, count: int) -> tuple[list[Dim], list[Dim]]:
    found = n.contents(pads)
    if found is None:
        # Pads may be negative but symbols may not: bind how much is added and how much cropped.
        zero = n.c.like(0, pads)
        grown = n.extents(n.c.maximum(pads, zero))
        cut = n.extents(n.c.maximum(n.c.neg(pads), zero))
        found = tuple(a - b for a, b in zip(grown, cut, strict=True))
    return list(found[:count]), list(found[count:])


@converter("CenterCropPad")
def center_crop_pad(n: Node) -> SSAValue:
    x, target = n.input(0), n.extents(n.input(1))
    axes = normal(n.ints("axes", list(range(n.rank()))), n.rank())
    for axis, wanted in zip(axes, target, strict=True):
        dims = dims_of(x)
        extra, less = maximum(wanted - dims[axis], 0), maximum(dims[axis] - wanted, 0)
        x = n.c.slice(x, axis, floordiv(less, 2), dims[axis] - less)
        x = n.c.pad(x, axis, floordiv(extra, 2), extra - floordiv(extra, 2))
    return x
