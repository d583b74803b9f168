"""Matrix products, convolutions and pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, floordiv, product, provably_different
from torsh_dialect.dtypes import is_integer
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.contract import EinsumOp, LinearOp, MatMulOp, explicit_equation
from torsh_dialect.ops.conv import ConvOp, ConvTransposeOp
from torsh_dialect.ops.join import PadOp
from torsh_dialect.ops.pool import (
    AvgPoolOp,
    LpPoolOp,
    MaxPoolIndicesOp,
    MaxPoolOp,
    MaxUnpoolOp,
)
from torsh_dialect.ops.reduce import MaxOp, MeanOp, SumOp
from torsh_dialect.ops.sampling import DeformConvOp
from torsh_dialect.ops.scatter import ScatterElementsOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter

AUTO = {"SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower"}


def window(n: Node, rank: int) -> dict[str, Any]:
    """Strides, dilations and padding of a node with a window of `rank` axes.

    Raises:
        NotSupported: One has the wrong number of entries.
    """
    found: dict[str, Any] = {}
    for name in ("strides", "dilations"):
        entries = _entries(n, name, rank, 1)
        if any(v != 1 for v in entries):
            found[name] = entries
    pads = _entries(n, "pads", 2 * rank, 0)
    auto = n.str("auto_pad", "NOTSET")
    if auto in AUTO:
        found["auto_pad"] = AUTO[auto]
    elif auto not in ("NOTSET", "VALID"):
        raise NotSupported(f"auto_pad is {auto!r}", "use NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    elif auto == "NOTSET" and any(pads):
        found["pads"] = pads
    return found


def _entries(n: Node, name: str, count: int, default: int) -> list[int]:
    values = n.ints(name, [default] * max(count, 0))
    if len(values) != max(count, 0):
        raise NotSupported(
            f"attribute {name!r} is {values}, {len(values)} entries instead of {max(count, 0)}",
            "repair the model",
        )
    return values


def kernel_shape(n: Node) -> list[int]:
    """The extents of a pool's window, one for each axis of the input behind the first two."""
    _ = n.value("kernel_shape")
    return _entries(n, "kernel_shape", n.rank() - 2, 1)


def weights(n: Node, index: int = 1) -> SSAValue:
    """The weights of a convolution, which `kernel_shape` says the window of once more.

    Raises:
        NotSupported: It says something else.
    """
    w = n.input(index)
    if not n.has("kernel_shape"):
        return w
    dims = dims_of(w)
    for axis, extent in enumerate(_entries(n, "kernel_shape", len(dims) - 2, 1), 2):
        if provably_different(dims[axis], extent):
            raise NotSupported(
                f"attribute 'kernel_shape' is {n.ints('kernel_shape')}, the weights are "
                f"{list(dims)}",
                "repair the model",
            )
        if dims[axis] != extent:
            w = n.assume(w, dims[axis], "eq", extent)
    return w


# -- products


@converter("Gemm")
def gemm(n: Node) -> SSAValue:
    """Alpha * A' B' + beta * C; the plain case is `torsh.linear`."""
    a, b, bias, c = n.input(0), n.input(1), n.optional(2), n.c
    alpha, beta = n.float("alpha", 1.0), n.float("beta", 1.0)
    a = c.transpose(a, [1, 0]) if n.int("transA", 0) else a
    vector = bias is None or (rank_of(bias) == 1 and dims_of(bias)[0] != 1)
    if n.int("transB", 0) and vector and not is_integer(element_type(a)):
        if alpha == 1 and (beta == 1 or bias is None):
            return n(LinearOp, a, b, bias)
        y = n(LinearOp, a, b, None)
    else:
        y = n(MatMulOp, a, c.transpose(b, [1, 0]) if n.int("transB", 0) else b)
    y = y if alpha == 1 else _scaled(n, y, alpha)
    if bias is None or beta == 0:
        return y
    return c.add(y, bias if beta == 1 else _scaled(n, bias, beta))


def _scaled(n: Node, x: SSAValue, factor: float) -> SSAValue:
    if is_integer(element_type(x)):
        from torsh_dialect.dtypes import f64

        return n.c.cast_like(n.c.mul(n.c.cast(x, f64), factor), x)
    return n.c.mul(x, factor)


@converter("FusedMatMul", "TransposeMatMul", domain=MS)
def fused_matmul(n: Node) -> SSAValue:
    y = n(MatMulOp, _turned(n, n.input(0), "A"), _turned(n, n.input(1), "B"))
    alpha = n.float("alpha", 1.0)
    return y if alpha == 1 else n.c.mul(y, alpha)


def _turned(n: Node, t: SSAValue, side: str) -> SSAValue:
    """An operand as [batches..., rows, columns].

    `transBatch` says that it is [rows, batches..., columns], `trans` that its last axis (the rows
    then) and its other one (the columns) have changed places.
    """
    rank = rank_of(t)
    if rank < 2:
        return t
    order = list(range(rank))
    if n.int(f"transBatch{side}", 0):
        order = [*order[1:-1], 0, rank - 1]
    if n.int(f"trans{side}", 0):
        order[-2:] = order[:-3:-1]
    return n.c.transpose(t, order)


@converter("Einsum")
def einsum(n: Node) -> SSAValue:
    return n(EinsumOp, n.inputs, equation=explicit_equation(n.str("equation")))


# -- convolutions


@converter("Conv")
def conv(n: Node) -> SSAValue:
    groups = n.int("group", 1)
    more = window(n, n.rank() - 2)
    operands = (n.input(0), weights(n), n.optional(2))
    return n(ConvOp, *operands, groups=groups if groups != 1 else None, **more)


@converter("ConvTranspose")
def conv_transpose(n: Node) -> SSAValue:
    rank, groups = n.rank() - 2, n.int("group", 1)
    more = window(n, rank)
    if any(extra := _entries(n, "output_padding", rank, 0)):
        _require_padding(extra, more)
        more["output_padding"] = extra
    if n.has("output_shape"):
        more["output_extents"] = n.ints("output_shape")[-rank:]
        more.pop("pads", None)
    operands = (n.input(0), weights(n), n.optional(2))
    return n(ConvTransposeOp, *operands, groups=groups if groups != 1 else None, **more)


def _require_padding(extra: Sequence[int], more: Mapping[str, Any]) -> None:
    """Padding of the output is less than the stride or the dilation of its axis."""
    ones = [1] * len(extra)
    steps = zip(more.get("strides", ones), more.get("dilations", ones), strict=True)
    limits = [max(pair) for pair in steps]
    if any(one >= limit for one, limit in zip(extra, limits, strict=True)):
        raise NotSupported(
            f"attribute 'output_padding' is {list(extra)}, expected less than the strides or "
            f"dilations {limits}",
            "repair the model",
        )


@converter("DeformConv")
def deform_conv(n: Node) -> SSAValue:
    operands = (n.input(0), weights(n), n.input(2), n.optional(3), n.optional(4))
    counts = {"groups": n.int("group", 1), "offset_groups": n.int("offset_group", 1)}
    return n(DeformConvOp, *operands, **counts, **window(n, 2))


@converter("Col2Im")
def col2im(n: Node) -> SSAValue:
    """Elements of blocks added at their places; what lies in the padding is cut off."""
    x, image, block = n.input(0), n.extents(n.input(1)), n.extents(n.input(2))
    c, rank = n.c, len(image)
    strides, dilations = (_entries(n, name, rank, 1) for name in ("strides", "dilations"))
    pads = _entries(n, "pads", 2 * rank, 0)
    if min((v for v in block if isinstance(v, int)), default=1) < 1:
        raise NotSupported(f"the block is {block}, expected 1 or more", "repair the model")
    batch, rows, columns = dims_of(x)
    whole = [size + pads[i] + pads[rank + i] for i, size in enumerate(image)]
    counts = [
        floordiv(size - (block[i] - 1) * dilations[i] - 1, strides[i]) + 1
        for i, size in enumerate(whole)
    ]
    index: SSAValue | None = None
    for i in range(rank):
        tap = c.reshape(c.mul(c.iota(block[i]), dilations[i]), _along(i, 2 * rank, block[i]))
        step = c.reshape(
            c.mul(c.iota(counts[i]), strides[i]), _along(rank + i, 2 * rank, counts[i])
        )
        place = c.add(tap, step)
        index = place if index is None else c.add(c.mul(index, c.dim(whole[i])), place)
    assert index is not None
    taps, channels = product(block), floordiv(rows, product(block))
    points = taps * columns
    index = c.reshape(c.broadcast(index, (*block, *counts)), (1, 1, points))
    target = (batch, channels, points)
    zeros = c.broadcast(c.like(0, x), (batch, channels, product(whole)))
    updates = c.reshape(x, target)
    y = n(ScatterElementsOp, zeros, c.broadcast(index, target), updates, axis=2, reduction="add")
    y = c.reshape(y, (batch, channels, *whole))
    for i in range(rank):
        y = c.slice(y, 2 + i, pads[i], image[i])
    return y


def _along(axis: int, rank: int, extent: Dim) -> list[Dim]:
    return [extent if a == axis else 1 for a in range(rank)]


# -- pooling


def _pool(n: Node, cls: type[TensorOp], **more: Any) -> Sequence[SSAValue]:
    kernel = kernel_shape(n)
    ceil = bool(n.int("ceil_mode", 0)) or None
    return n.all(cls, n.input(0), kernel=kernel, ceil_mode=ceil, **window(n, len(kernel)), **more)


@converter("MaxPool")
def max_pool(n: Node) -> Sequence[SSAValue | None]:
    if not n.wants(1):
        return _pool(n, MaxPoolOp)
    values, places = _pool(n, MaxPoolIndicesOp)
    return [values, _whole_tensor(n, places)]


def _whole_tensor(n: Node, places: SSAValue) -> SSAValue:
    """Positions in a channel's spatial axes as positions in the whole tensor."""
    c, dims = n.c, n.dims()
    spatial = dims[2:]
    if n.int("storage_order", 0) and len(spatial) > 1:
        index: list[SSAValue] = []
        rest = places
        for extent in reversed(spatial):
            index.append(c.remainder(rest, c.dim(extent)))
            rest = c.floordiv(rest, c.dim(extent))
        places = index[0]
        for position, extent in zip(index[1:], spatial[-2::-1], strict=True):
            places = c.add(c.mul(places, c.dim(extent)), position)
    image = c.reshape(c.iota(dims[0] * dims[1]), (*dims[:2], *[1] * len(spatial)))
    return c.add(places, c.mul(image, c.dim(product(spatial))))


@converter("AveragePool")
def average_pool(n: Node) -> SSAValue:
    inside = bool(n.int("count_include_pad", 0)) or None
    return _pool(n, AvgPoolOp, include_pad=inside)[0]


@converter("LpPool")
def lp_pool(n: Node) -> SSAValue:
    return _pool(n, LpPoolOp, p=n.int("p", 2))[0]


@converter("MaxUnpool")
def max_unpool(n: Node) -> SSAValue:
    """Indices count over the whole pooled-from tensor; `output_shape` may be larger than that."""
    dims, c = n.dims(), n.c
    kernel = kernel_shape(n)
    rank = len(kernel)
    strides, pads = _entries(n, "strides", rank, 1), _entries(n, "pads", 2 * rank, 0)
    plain: list[Dim] = [
        (extent - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i]
        for i, extent in enumerate(dims[2:])
    ]
    flat, whole = (1, 1, product(dims)), (*dims[:2], *plain)
    values, places = (c.reshape(n.input(i), flat) for i in (0, 1))
    y = n(MaxUnpoolOp, values, places, output=dims_attribute([product(whole)]))
    y = c.reshape(y, whole)
    if n.optional(2) is None:
        return y
    grown = [a - b for a, b in zip(n.extents(n.input(2))[2:], plain, strict=True)]
    low, high = dims_attribute([0] * len(dims)), dims_attribute([0, 0, *grown])
    return n(PadOp, y, None, low=low, high=high, mode="constant")


def _spatial(n: Node) -> list[int]:
    return list(range(2, n.rank()))


@converter("GlobalAveragePool")
def global_average_pool(n: Node) -> SSAValue:
    return n(MeanOp, n.input(0), axes=_spatial(n), keepdims=True)


@converter("GlobalMaxPool")
def global_max_pool(n: Node) -> SSAValue:
    return n(MaxOp, n.input(0), axes=_spatial(n), keepdims=True)


@converter("GlobalLpPool")
def global_lp_pool(n: Node) -> SSAValue:
    p, c = n.int("p", 2), n.c
    total = n(SumOp, c.pow(c.abs(n.input(0)), float(p)), axes=_spatial(n), keepdims=True)
    return c.pow(total, 1.0 / p)
