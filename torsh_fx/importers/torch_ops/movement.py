"""Views, copies and rearrangements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import (
    Dim,
    ceildiv,
    floordiv,
    maximum,
    minimum,
    product,
    provably_equal,
    symbols_of,
)
from torsh_dialect.ops import blocks, diagonal, join, movement, scatter
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts


@converts(
    "view",
    "reshape",
    "_unsafe_view",
    "view_copy",
    "_reshape_alias",
    "_reshape_copy",
    "prims.view_of",
    "unflatten.int",
    "flatten.using_ints",
    "expand_as",
    "view_as",
    "reshape_as",
    "ravel",
)
def _view(c: NodeBuilder, x: SSAValue, *rest: Any) -> SSAValue:
    return c.reshape(x, c.out_dims())


@converts("view.dtype")
def _view_dtype(c: NodeBuilder, x: SSAValue, dtype: Any) -> SSAValue:
    if element_type(x) == c.out_element():
        return x
    raise c.refuse("reinterpreting the bytes of a tensor as another dtype")


@converts("permute", "permute_copy")
def _permute(c: NodeBuilder, x: SSAValue, dims: Sequence[int]) -> SSAValue:
    return c.transpose(x, [d % rank_of(x) for d in dims])


@converts("transpose.int", "transpose_copy.int", "swapaxes", "swapdims")
def _transpose(c: NodeBuilder, x: SSAValue, a: int, b: int) -> SSAValue:
    perm = list(range(rank_of(x)))
    if not perm:
        return x
    perm[a], perm[b] = perm[b], perm[a]
    return c.transpose(x, perm)


@converts("t", "t_copy", "numpy_T", "mT", "adjoint", "matrix_H")
def _t(c: NodeBuilder, x: SSAValue) -> SSAValue:
    perm = list(range(rank_of(x)))
    if len(perm) < 2:
        return x
    perm[-1], perm[-2] = perm[-2], perm[-1]
    return c.transpose(x, perm)


@converts("movedim.int", "movedim.intlist")
def _movedim(c: NodeBuilder, x: SSAValue, source: Any, target: Any) -> SSAValue:
    rank = rank_of(x)
    sources = [s % rank for s in ([source] if isinstance(source, int) else source)]
    targets = [t % rank for t in ([target] if isinstance(target, int) else target)]
    rest = iter(n for n in range(rank) if n not in sources)
    perm = [sources[targets.index(n)] if n in targets else next(rest) for n in range(rank)]
    return c.transpose(x, perm)


@converts(
    "squeeze",
    "squeeze.dim",
    "squeeze.dims",
    "squeeze_copy.dim",
    "squeeze_copy",
    "squeeze_copy.dims",
)
def _squeeze(c: NodeBuilder, x: SSAValue, dim: Any = None) -> SSAValue:
    dims, rank = dims_of(x), rank_of(x)
    axes = [] if dim == [] else c.axes(dim, rank)
    return c.squeeze(x, *(a for a in axes if dims[a] == 1))


@converts("unsqueeze", "unsqueeze_copy")
def _unsqueeze(c: NodeBuilder, x: SSAValue, dim: int) -> SSAValue:
    return c.unsqueeze(x, dim % (rank_of(x) + 1))


@converts("expand", "expand_copy", "broadcast_to", "expand_as")
def _expand(c: NodeBuilder, x: SSAValue, *rest: Any, implicit: bool = False) -> SSAValue:
    return c.broadcast(x, c.out_dims())


@converts("slice.Tensor", "slice_copy.Tensor")
def _slice(
    c: NodeBuilder,
    x: SSAValue,
    dim: int = 0,
    start: Dim | None = None,
    end: Dim | None = None,
    step: Dim = 1,
) -> SSAValue:
    axis = dim % rank_of(x)
    first, size = slice_span(dims_of(x)[axis], start, end, step)
    return c.cut(x, axis, first, _said(c, axis, size), int(str(step)))


def _said(c: NodeBuilder, axis: int, size: Dim) -> Dim:
    """The extent as torch spells it, where ours is no plain number."""
    if isinstance(size, int):
        return size
    said = c.out_dims()[axis]
    return said if symbols_of(said) <= c.graph.shared.known else size


def slice_span(extent: Dim, start: Dim | None, end: Dim | None, step: Dim) -> tuple[Dim, Dim]:
    """The first element and the number of elements that a Python slice means."""
    first = _inside(extent, 0 if start is None else start)
    last = extent if end is None else _inside(extent, end)
    return first, maximum(ceildiv(last - first, step), 0)


def _inside(extent: Dim, place: Dim) -> Dim:
    if isinstance(place, int):
        if place >= 2**62:
            return extent
        if place < 0:
            return maximum(extent + place, 0)
        if place == 0:
            return 0
    return place if provably_equal(place, extent) else minimum(place, extent)


@converts("narrow", "narrow_copy")
def _narrow(c: NodeBuilder, x: SSAValue, dim: int, start: Dim, length: Dim) -> SSAValue:
    axis = dim % rank_of(x)
    begin = start + dims_of(x)[axis] if isinstance(start, int) and start < 0 else start
    return c.cut(x, axis, begin, length)


@converts("select.int", "select_copy.int")
def _select(c: NodeBuilder, x: SSAValue, dim: int, index: Dim) -> SSAValue:
    axis = dim % rank_of(x)
    place = index + dims_of(x)[axis] if isinstance(index, int) and index < 0 else index
    return c.squeeze(c.cut(x, axis, place, 1), axis)


@converts("cat", "concat", "concatenate", "prims.cat")
def _cat(c: NodeBuilder, tensors: Sequence[SSAValue], dim: int = 0) -> SSAValue:
    element = c.out_element()
    rank = max(map(rank_of, tensors))
    legacy = [x for x in tensors if rank_of(x) == rank or dims_of(x) != (0,)]
    return c.concat([c.cast(x, element) for x in legacy], dim % rank)


@converts("stack")
def _stack(c: NodeBuilder, tensors: Sequence[SSAValue], dim: int = 0) -> SSAValue:
    element, axis = c.out_element(), dim % (rank_of(tensors[0]) + 1)
    return c.concat([c.unsqueeze(c.cast(x, element), axis) for x in tensors], axis)


@converts("split.Tensor", "split_copy.Tensor", "split.sizes")
def _split(c: NodeBuilder, x: SSAValue, size: Any, dim: int = 0) -> Sequence[SSAValue]:
    return _pieces(c, x, dim % rank_of(x))


@converts(
    "split_with_sizes",
    "split_with_sizes_copy",
    "chunk",
    "tensor_split.sections",
    "tensor_split.indices",
    "unsafe_split.Tensor",
    "unsafe_split_with_sizes",
    "unsafe_chunk",
    "hsplit.int",
    "vsplit.int",
    "dsplit.int",
)
def _split_sizes(c: NodeBuilder, x: SSAValue, sizes: Any, dim: int = 0) -> Sequence[SSAValue]:
    return _pieces(c, x, dim % rank_of(x))


def _pieces(c: NodeBuilder, x: SSAValue, axis: int) -> Sequence[SSAValue]:
    sizes = [c.out_dims(n)[axis] for n in range(len(c.meta()))]
    return c.b.all(join.SplitOp, x, axis=axis, sizes=dims_attribute(sizes))


@converts("unbind.int", "unbind_copy.int")
def _unbind(c: NodeBuilder, x: SSAValue, dim: int = 0) -> Sequence[SSAValue]:
    axis = dim % rank_of(x)
    return [c.squeeze(c.cut(x, axis, n, 1), axis) for n in range(len(c.meta()))]


@converts("flip", "fliplr", "flipud", "prims.rev")
def _flip(c: NodeBuilder, x: SSAValue, dims: Sequence[int]) -> SSAValue:
    rank = rank_of(x)
    axes = sorted({d % rank for d in dims}) if rank else []
    return c.b(movement.FlipOp, x, axes=axes)


@converts("roll")
def _roll(c: NodeBuilder, x: SSAValue, shifts: Any, dims: Any = ()) -> SSAValue:
    shifts = cast(Any, shifts) if isinstance(shifts, list) else [shifts]
    dims = cast(Any, dims) if isinstance(dims, list | tuple) else [dims]
    if dims:
        axes = [d % rank_of(x) for d in dims] if rank_of(x) else []
        return c.b(movement.RollOp, x, shifts=shifts, axes=axes) if axes else x
    flat = c.reshape(x, [product(dims_of(x))])
    rolled = c.b(movement.RollOp, flat, shifts=shifts, axes=[0])
    return c.reshape(rolled, dims_of(x))


@converts("repeat", "tile")
def _repeat(c: NodeBuilder, x: SSAValue, repeats: Sequence[Dim]) -> SSAValue:
    rank = max(len(repeats), rank_of(x))
    x = c.to_rank(x, rank)
    repeats = [1] * (rank - len(repeats)) + list(repeats)
    return c.b(movement.TileOp, x, repeats=dims_attribute(repeats))


@converts("constant_pad_nd")
def _constant_pad(c: NodeBuilder, x: SSAValue, pad: Sequence[Dim], value: Scalar = 0) -> SSAValue:
    low, high = _pads(x, pad)
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, int | float) and element_type(x) not in (dtypes.c64, dtypes.c128):
        whole = dtypes.is_integer(element_type(x)) or element_type(x) == dtypes.i1
        return c.b(
            join.PadOp,
            x,
            low=low,
            high=high,
            mode="constant",
            value=int(value) if whole else float(value),
        )
    filler = c.tensor(value, element_type(x))
    return c.b(join.PadOp, x, filler, low=low, high=high, mode="constant")


def _pads(x: SSAValue, pad: Sequence[Dim]) -> tuple[Any, Any]:
    rank = rank_of(x)
    low: list[Dim] = [0] * rank
    high: list[Dim] = [0] * rank
    for n in range(len(pad) // 2):
        low[rank - 1 - n], high[rank - 1 - n] = pad[2 * n], pad[2 * n + 1]
    return dims_attribute(low), dims_attribute(high)


def _pad_mode(mode: str) -> Any:
    def convert(c: NodeBuilder, x: SSAValue, pad: Sequence[Dim]) -> SSAValue:
        low, high = _pads(x, pad)
        return c.b(join.PadOp, x, low=low, high=high, mode=mode)

    return convert


for _rank in (1, 2, 3):
    converts(f"reflection_pad{_rank}d")(_pad_mode("reflect"))
    converts(f"replication_pad{_rank}d")(_pad_mode("edge"))
converts("_pad_circular")(_pad_mode("wrap"))


@converts("pad")
def _pad(
    c: NodeBuilder, x: SSAValue, pad: Sequence[Dim], mode: str = "constant", value: Any = None
) -> SSAValue:
    if mode == "constant":
        return _constant_pad(c, x, pad, value or 0)
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return _pad_mode(modes[mode])(c, x, pad)


@converts("diagonal", "diagonal_copy")
def _diagonal(
    c: NodeBuilder, x: SSAValue, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> SSAValue:
    return c.b(diagonal.DiagonalOp, x, offset=offset, axis1=dim1, axis2=dim2)


@converts("diag_embed")
def _diag_embed(
    c: NodeBuilder, x: SSAValue, offset: int = 0, dim1: int = -2, dim2: int = -1
) -> SSAValue:
    first, second = (d % (rank_of(x) + 1) for d in (dim1, dim2))
    if first > second:
        offset, first, second = -offset, second, first
    return c.b(diagonal.DiagEmbedOp, x, offset=offset, axis1=first, axis2=second)


@converts("tril", "triu")
def _triangle(c: NodeBuilder, x: SSAValue, k: Dim = 0) -> SSAValue:
    upper = "triu" in str(c.node.target)
    return c.b(diagonal.TriangleOp, x, upper=upper, k=dims_attribute([k]))


@converts("unfold", "unfold_copy")
def _unfold(c: NodeBuilder, x: SSAValue, dim: int, size: int, step: int) -> SSAValue:
    return c.b(diagonal.WindowsOp, x, axis=dim, size=size, step=step)


@converts("as_strided", "as_strided_copy")
def _as_strided(
    c: NodeBuilder,
    x: SSAValue,
    size: Sequence[Dim],
    stride: Sequence[int],
    offset: Dim | None = None,
) -> SSAValue:
    first_argument: Any = c.node.args[0]
    source = first_argument.meta["val"]
    if not source.is_contiguous() or source.storage_offset() != 0:
        raise c.refuse("as_strided of a tensor that is not contiguous depends on its strides")
    first = dims_attribute([offset or 0])
    return c.b(
        diagonal.AsStridedOp, x, target=dims_attribute(size), strides=list(stride), offset=first
    )


@converts("im2col")
def _im2col(
    c: NodeBuilder, x: SSAValue, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> SSAValue:
    whole = c.unsqueeze(x, 0) if rank_of(x) == 3 else x
    y = c.b(
        blocks.Im2ColOp,
        whole,
        kernel=_pair(kernel_size),
        stride=_pair(stride),
        dilation=_pair(dilation),
        padding=_pair(padding),
    )
    return c.squeeze(y, 0) if rank_of(x) == 3 else y


def _pair(value: Any) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


@converts("col2im")
def _col2im(
    c: NodeBuilder,
    x: SSAValue,
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> SSAValue:
    whole = c.unsqueeze(x, 0) if rank_of(x) == 2 else x
    pads = _pair(padding)
    y = c.b(
        blocks.Col2ImOp,
        whole,
        image=dims_attribute(output_size),
        kernel=_pair(kernel_size),
        stride=_pair(stride),
        dilation=_pair(dilation),
        low=pads,
        high=pads,
    )
    return c.squeeze(y, 0) if rank_of(x) == 2 else y


@converts("pixel_shuffle")
def _pixel_shuffle(c: NodeBuilder, x: SSAValue, factor: int) -> SSAValue:
    return c.b(blocks.DepthToSpaceOp, x, block=factor, channels_first=True)


@converts("pixel_unshuffle")
def _pixel_unshuffle(c: NodeBuilder, x: SSAValue, factor: int) -> SSAValue:
    return c.b(blocks.SpaceToDepthOp, x, block=factor, channels_first=True)


@converts("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(c: NodeBuilder, x: SSAValue, groups: int) -> SSAValue:
    n, channels, *rest = dims_of(x)
    each = floordiv(channels, groups)
    split = c.reshape(x, [n, groups, each, *rest])
    perm = [0, 2, 1, *range(3, 3 + len(rest))]
    return c.reshape(c.transpose(split, perm), dims_of(x))


# -- writing into views (functionalised)


@converts("slice_scatter")
def _slice_scatter(
    c: NodeBuilder,
    x: SSAValue,
    source: SSAValue,
    dim: int = 0,
    start: Dim | None = None,
    end: Dim | None = None,
    step: Dim = 1,
) -> SSAValue:
    axis = dim % rank_of(x)
    extent = dims_of(x)[axis]
    first, size = slice_span(extent, start, end, step)
    source = c.cast(source, element_type(x))
    if step == 1:
        parts = [
            c.cut(x, axis, 0, first),
            source,
            c.cut(x, axis, first + size, extent - first - size),
        ]
        return c.concat([p for p in parts if dims_of(p)[axis] != 0] or [x], axis)
    places = c.add(c.mul(c.iota(size), c.tensor(step, dtypes.i64)), c.tensor(first, dtypes.i64))
    return _put(c, x, source, axis, places)


@converts("select_scatter")
def _select_scatter(
    c: NodeBuilder, x: SSAValue, source: SSAValue, dim: int, index: Dim
) -> SSAValue:
    axis = dim % rank_of(x)
    extent = dims_of(x)[axis]
    place = index + extent if isinstance(index, int) and index < 0 else index
    row = c.unsqueeze(c.cast(source, element_type(x)), axis)
    parts = [c.cut(x, axis, 0, place), row, c.cut(x, axis, place + 1, extent - place - 1)]
    return c.concat([p for p in parts if dims_of(p)[axis] != 0], axis)


@converts("diagonal_scatter")
def _diagonal_scatter(
    c: NodeBuilder, x: SSAValue, source: SSAValue, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> SSAValue:
    first, second = dim1 % rank_of(x), dim2 % rank_of(x)
    length = dims_of(source)[-1]
    step = c.iota(length)
    rest = [n for n in range(rank_of(x)) if n not in (first, second)]
    moved = c.transpose(x, [first, second, *rest])
    updates = c.transpose(source, [rank_of(source) - 1, *range(rank_of(source) - 1)])
    y = c.b(
        scatter.IndexPutOp,
        moved,
        [c.add(step, max(-offset, 0)), c.add(step, max(offset, 0))],
        c.cast(updates, element_type(x)),
        axes=[0, 1],
        reduction="none",
    )
    back = [[first, second, *rest].index(n) for n in range(rank_of(x))]
    return c.transpose(y, back)


def _put(c: NodeBuilder, x: SSAValue, source: SSAValue, axis: int, places: SSAValue) -> SSAValue:
    return c.b(scatter.IndexPutOp, x, [places], source, axes=[axis], reduction="none")


@converts("as_strided_scatter")
def _as_strided_scatter(
    c: NodeBuilder,
    x: SSAValue,
    source: SSAValue,
    size: Sequence[Dim],
    stride: Sequence[int],
    offset: Dim | None = None,
) -> SSAValue:
    places = c.tensor(offset or 0, dtypes.i64)
    for n, (extent, step) in enumerate(zip(size, stride, strict=True)):
        along = c.per_channel(c.mul(c.iota(extent), step), len(size), n)
        places = c.add(places, along)
    flat = c.reshape(x, [product(dims_of(x))])
    count = product(size)
    places = c.reshape(c.broadcast(places, size), [count])
    y = c.b(
        scatter.IndexPutOp,
        flat,
        [places],
        c.reshape(c.cast(source, element_type(x)), [count]),
        axes=[0],
        reduction="none",
    )
    return c.reshape(y, dims_of(x))


@converts("copy", "fill.Scalar", "fill.Tensor")
def _copy(c: NodeBuilder, x: SSAValue, source: Scalar, non_blocking: bool = False) -> SSAValue:
    return c.broadcast(c.tensor(source, element_type(x)), dims_of(x))


@converts("repeat_interleave.self_int")
def _repeat_interleave(
    c: NodeBuilder, x: SSAValue, repeats: int, dim: int | None = None, *, output_size: Any = None
) -> SSAValue:
    if dim is None:
        x, dim = c.reshape(x, [product(dims_of(x))]), 0
    return c.repeat(x, repeats, dim % rank_of(x))
