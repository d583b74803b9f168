"""Operators of com.microsoft that are those of ai.onnx in another form, and quantised gathers.

Source: onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, maximum, product
from torsh_dialect.dtypes import f32, i32, i64
from torsh_dialect.ops.datadependent import UniqueOp
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.linalg import QrOp, TriangularSolveOp
from torsh_dialect.ops.pool import MaxPoolOp
from torsh_dialect.ops.quant import DequantizeLinearOp, QuantizeLinearOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.indexing import gather_nd, trilu
from torsh_fx.importers.onnx_ops.movement import pad as plain_pad
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter
from torsh_fx.importers.onnx_ops.products import kernel_shape, window
from torsh_fx.importers.onnx_ops.quant import qlinear_convolution
from torsh_fx.importers.onnx_ops.sampling import grid_sample

for _name, _convert in (("GatherND", gather_nd), ("GridSample", grid_sample), ("Trilu", trilu)):
    converter(_name, domain=MS)(_convert)


def channels_first(n: Node, x: SSAValue) -> SSAValue:
    """[batch, ..., channels] as [batch, channels, ...]."""
    rank = rank_of(x)
    return n.c.transpose(x, [0, rank - 1, *range(1, rank - 1)])


def channels_last(n: Node, x: SSAValue) -> SSAValue:
    """The inverse of `channels_first`."""
    return n.c.transpose(x, [0, *range(2, rank_of(x)), 1])


@converter("QLinearConv", domain=MS)
def qlinear_conv(n: Node) -> SSAValue:
    """That of ai.onnx, or with channels as the last axis of the input and the result."""
    if not n.int("channels_last", 0):
        return qlinear_convolution(n, n.input(0))
    return channels_last(n, qlinear_convolution(n, channels_first(n, n.input(0))))


@converter("NhwcMaxPool", domain=MS)
def nhwc_max_pool(n: Node) -> SSAValue:
    kernel = kernel_shape(n)
    ceil = bool(n.int("ceil_mode", 0)) or None
    x = channels_first(n, n.input(0))
    return channels_last(
        n, n(MaxPoolOp, x, kernel=kernel, ceil_mode=ceil, **window(n, len(kernel)))
    )


@converter("ExpandDims", domain=MS)
def expand_dims(n: Node) -> SSAValue:
    """A new axis of extent 1; negative ones count from the end of the result."""
    (axis,) = n.required_ints(1, "the axis")
    dims, rank = n.dims(), n.rank() + 1
    if not -rank <= axis < rank:
        raise NotSupported(f"axis {axis} is out of range for rank {rank}", "repair the model")
    return n.c.reshape(n.input(0), (*dims[: axis % rank], 1, *dims[axis % rank :]))


@converter("Unique", domain=MS)
def unique(n: Node) -> Sequence[SSAValue]:
    """Values in order of appearance, the number of each element's, how often each occurs."""
    x = n.c.reshape(n.input(0), (product(n.dims()),))
    values, _, numbers, counts = n.all(UniqueOp, x, count=n.fresh("u"), sorted=False)
    return [values, numbers, counts]


@converter("CDist", domain=MS)
def cdist(n: Node) -> SSAValue:
    """Distances of each row of one matrix from each of another."""
    c, a, b = n.c, n.input(0), n.input(1)
    (rows, size), (columns, _) = dims_of(a), dims_of(b)
    apart = c.sub(c.reshape(a, (rows, 1, size)), c.reshape(b, (1, columns, size)))
    y = c.sum(c.mul(apart, apart), [2])
    match n.str("metric", "sqeuclidean"):
        case "sqeuclidean":
            return y
        case "euclidean":
            return c.sqrt(y)
        case other:
            raise NotSupported(f"the metric {other!r}", "use euclidean or sqeuclidean")


@converter("QLinearWhere", domain=MS)
def qlinear_where(n: Node) -> SSAValue:
    """Elements of either operand, requantised from its scale to that of the result."""
    c, to = n.c, element_type(n.input(1))
    x, y = (
        n(DequantizeLinearOp, n.input(i), n.scalar(n.input(i + 1)), n.scalar(n.input(i + 2)))
        for i in (1, 4)
    )
    scale, zero = n.scalar(n.input(7)), n.scalar(n.input(8))
    return n(QuantizeLinearOp, c.where(n.input(0), x, y), scale, zero, to=to)


@converter("GatherBlockQuantized", domain=MS)
def gather_block_quantized(n: Node) -> SSAValue:
    """A gather from a table quantised in blocks along one axis; bytes hold two of 4 bits."""
    c, bits, block = n.c, n.int("bits", 4), n.int("block_size", 128)
    data, scale, zero = n.input(0), n.input(2), n.optional(3)
    rank = rank_of(data)
    along, axis = n.int("gather_axis", 0) % rank, n.int("quantize_axis", 1) % rank
    if element_type(data) == dtypes.ui8:
        middle = None if zero is not None else 1 << (bits - 1)
        data = _halves(n, data, bits, None)
        zero = None if zero is None else _halves(n, zero, bits, dims_of(scale)[-1])
    else:
        middle = None
    index = n.input(1)
    values, scales = (n(GatherOp, t, index, axis=along) for t in (data, scale))
    axis = axis if axis < along else axis + rank_of(index) - 1
    extent = dims_of(values)[axis]
    y = c.cast(c.cast(values, i32), f32)
    if zero is not None:
        offset = n(GatherOp, zero, index, axis=along)
        offset = c.cast(c.cast(offset, i32), f32)
        y = c.sub(y, c.slice(c.repeat(offset, block, axis), axis, 0, extent))
    elif middle is not None:
        y = c.sub(y, float(middle))
    spread = c.slice(c.repeat(c.cast(scales, f32), block, axis), axis, 0, extent)
    return c.cast_like(c.mul(y, spread), scale)


def _halves(n: Node, packed: SSAValue, bits: int, width: Dim | None) -> SSAValue:
    """The last axis of bytes as that of their parts of 4 bits, the low ones first."""
    if bits == 8:
        return packed
    c, (*dims, count) = n.c, dims_of(packed)
    whole = c.cast(packed, i32)
    high = c.floordiv(whole, 16)
    ends = [c.reshape(v, (*dims, count, 1)) for v in (c.sub(whole, c.mul(high, 16)), high)]
    flat = c.reshape(c.concat(ends, len(dims) + 1), (*dims, count * 2))
    return flat if width is None else c.slice(flat, len(dims), 0, width)


FP4 = (0.0, 5.208333333e-03, 2 / 3, 1.0, 1 / 3, 0.5, 1 / 6, 0.25)
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
"""The values of bitsandbytes' types of 4 bits; those of FP4 have a sign bit before them."""


@converter("MatMulBnb4", domain=MS)
def matmul_bnb4(n: Node) -> SSAValue:
    """X @ transpose(w), where w [N, K] is packed by bitsandbytes: the high half of a byte first."""
    c, rows, depth = n.c, n.int("N"), n.int("K")
    table = NF4 if n.int("quant_type") else (*FP4, *(-v for v in FP4))
    if (rows * depth) % n.int("block_size"):
        raise NotSupported("blocks that do not divide the weights", "pad the weights")
    whole = c.cast(n.input(1), i32)
    high = c.floordiv(whole, 16)
    ends = [c.reshape(v, (dims_of(whole)[0], 1)) for v in (high, c.sub(whole, c.mul(high, 16)))]
    places = c.slice(c.reshape(c.concat(ends, 1), (rows * depth + rows * depth % 2,)), 0, 0,
                     rows * depth)  # fmt: skip
    values = c.take(n.constant(np.asarray(table, np.float32)), places, 0)
    scale = c.repeat(c.cast(n.input(2), f32), n.int("block_size"), 0)
    w = c.reshape(c.mul(values, scale), (rows, depth))
    return c.linear(n.input(0), c.cast_like(w, n.input(0)), None)


@converter("Pad", domain=MS)
def pad(n: Node) -> SSAValue:
    """That of ai.onnx since opset 11."""
    _ = n.inputs
    return plain_pad(replace(n, version=18))


@converter("Inverse", domain=MS)
def inverse(n: Node) -> SSAValue:
    """The inverses of matrices, R^-1 Q^T of x = Q R."""
    c, x = n.c, n.c.wide(n.input(0))
    rank = rank_of(x)
    q, r = n.all(QrOp, x)
    turned = c.transpose(q, [*range(rank - 2), rank - 1, rank - 2])
    return c.narrow(n(TriangularSolveOp, r, turned, upper=True), n.input(0))


@converter("CropAndResize", domain=MS)
def crop_and_resize(n: Node) -> SSAValue:
    """Boxes [y1, x1, y2, x2] of images, resized with their corners on those of the results.

    A place outside of the image gives `extrapolation_value`.
    """
    c, x, boxes = n.c, n.input(0), n.input(1)
    mode = n.str("mode", "bilinear")
    if mode not in ("bilinear", "nearest"):
        raise NotSupported(f"the mode {mode!r}", "use bilinear or nearest")
    sizes = n.extents(n.input(3))
    if len(sizes) != 2:
        raise NotSupported(f"the crop size has {len(sizes)} elements instead of 2")
    images = n(GatherOp, x, c.cast(n.input(2), i64), axis=0)
    inside: SSAValue | None = None
    for axis, size in enumerate(sizes):
        place = _places_in(n, boxes, axis, dims_of(x)[2 + axis], size)
        images, held = _sampled(n, images, place, 2 + axis, mode)
        inside = held if inside is None else c.both(inside, held)
    assert inside is not None
    return c.where(inside, images, c.like(n.float("extrapolation_value", 0.0), images))


def _places_in(n: Node, boxes: SSAValue, axis: int, extent: Dim, size: Dim) -> SSAValue:
    """Where the elements of a crop are along an axis of the image: [boxes, size]."""
    c, last = n.c, n.c.cast(n.c.dim(extent - 1), f32)
    first, end = (c.slice(boxes, 1, start, 1) for start in (axis, axis + 2))
    steps = c.cast(c.dim(maximum(size - 1, 1)), f32)
    scale = c.div(c.mul(c.sub(end, first), last), steps)
    spread = c.add(c.mul(first, last), c.mul(c.cast(c.iota(size), f32), scale))
    middle = c.mul(c.mul(c.add(first, end), 0.5), last)
    return c.where(c.eq(c.dim(size), 1), middle, spread)


def _sampled(
    n: Node, images: SSAValue, place: SSAValue, axis: int, mode: str
) -> tuple[SSAValue, SSAValue]:
    """Elements of [boxes, channels, h, w] at places [boxes, size] of an axis, and which exist."""
    c, dims = n.c, list(dims_of(images))
    extent, (count, size) = dims[axis], dims_of(place)
    along = [1, 1, 1, 1]
    shape: list[Dim] = [count, *along[1:axis], size, *along[axis + 1 :]]
    held = c.both(c.ge(place, 0.0), c.le(place, c.cast(c.dim(extent - 1), f32)))
    dims[axis] = size

    def taken(index: SSAValue) -> SSAValue:
        kept = c.cast(c.where(held, index, c.like(0.0, index)), i64)
        return c.take_along(images, c.broadcast(c.reshape(kept, shape), dims), axis)

    if mode == "nearest":  # halves away from 0, as C's roundf has it
        return taken(c.floor(c.add(place, 0.5))), c.reshape(held, shape)
    low = c.floor(place)
    share = c.reshape(c.sub(place, low), shape)
    first, second = taken(low), taken(c.ceil(place))
    return c.add(first, c.mul(c.sub(second, first), share)), c.reshape(held, shape)
