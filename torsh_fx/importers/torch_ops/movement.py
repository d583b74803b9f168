"""Views, copies and rearrangements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from xdsl.ir import SSAValue

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import (
    Dim,
    bounds_of,
    ceildiv,
    maximum,
    minimum,
    product,
    provably_equal,
    symbols_of,
)
from torsh_dialect.ops import join, movement
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


@converts("resize")
def _resize(
    c: NodeBuilder, x: SSAValue, size: Sequence[Dim], *, memory_format: Any = None
) -> SSAValue:
    """The first elements in the order of memory; torch leaves what is behind them undefined."""
    if dims_of(x) == tuple(size):
        return x
    source: Any = c.node.args[0]
    if not source.meta["val"].is_contiguous():
        raise c.refuse("resizing a tensor that is not contiguous")
    wanted, held = product(size), product(dims_of(x))
    flat = c.reshape(x, [held])
    if isinstance(wanted, int) and isinstance(held, int) and wanted > held:
        flat = c.pad(flat, 0, 0, wanted - held)
    elif not provably_equal(wanted, held):
        flat = c.cut(flat, 0, 0, wanted)
    return c.reshape(flat, size)


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
    first, size = slice_span(c, dims_of(x)[axis], start, end, step)
    return c.cut(x, axis, first, _said(c, axis, size), int(str(step)))


def _said(c: NodeBuilder, axis: int, size: Dim) -> Dim:
    """The extent as torch spells it, where ours is no plain number."""
    if isinstance(size, int):
        return size
    said = c.out_dims()[axis]
    return said if symbols_of(said) <= c.graph.shared.known else size


def slice_span(
    c: NodeBuilder, extent: Dim, start: Dim | None, end: Dim | None, step: Dim
) -> tuple[Dim, Dim]:
    """The first element and the number of elements that a Python slice means."""
    first = _inside(c, extent, 0 if start is None else start)
    last = extent if end is None else _inside(c, extent, end)
    return first, maximum(ceildiv(last - first, step), 0)


def _inside(c: NodeBuilder, extent: Dim, place: Dim) -> Dim:
    """Where a slice begins or ends, in 0..extent."""
    if isinstance(place, int) and place >= 2**62:
        return extent
    place = place_of(c, place, extent)
    low, _ = bounds_of(place, c.graph.shared.bounds)
    place = place if low is not None and low >= 0 else maximum(place, 0)
    if place == 0 or provably_equal(place, extent):
        return place
    high = bounds_of(extent - place, c.graph.shared.bounds)[0]
    return place if high is not None and high >= 0 else minimum(place, extent)


@converts("narrow", "narrow_copy")
def _narrow(c: NodeBuilder, x: SSAValue, dim: int, start: Dim, length: Dim) -> SSAValue:
    axis = dim % rank_of(x)
    return c.cut(x, axis, place_of(c, start, dims_of(x)[axis]), length)


@converts("select.int", "select_copy.int")
def _select(c: NodeBuilder, x: SSAValue, dim: int, index: Dim) -> SSAValue:
    axis = dim % rank_of(x)
    return c.squeeze(c.cut(x, axis, place_of(c, index, dims_of(x)[axis]), 1), axis)


def place_of(c: NodeBuilder, index: Dim, extent: Dim) -> Dim:
    """The element that a Python index means; negative ones count from the end."""
    low, high = bounds_of(index, c.graph.shared.bounds)
    if low is not None and low >= 0:
        return index
    if high is not None and high < 0:
        return index + extent
    return index + extent * minimum(maximum(-index, 0), 1)  # its sign only the run knows


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
    "vsplit.int",
    "vsplit.array",
)
def _split_sizes(c: NodeBuilder, x: SSAValue, sizes: Any, dim: int = 0) -> Sequence[SSAValue]:
    return _pieces(c, x, dim % rank_of(x))


@converts("hsplit.int", "hsplit.array")
def _hsplit(c: NodeBuilder, x: SSAValue, sizes: Any) -> Sequence[SSAValue]:
    """Along the columns: the second axis, the only one of a vector."""
    return _pieces(c, x, min(1, rank_of(x) - 1))


@converts("dsplit.int", "dsplit.array")
def _dsplit(c: NodeBuilder, x: SSAValue, sizes: Any) -> Sequence[SSAValue]:
    return _pieces(c, x, 2)


def _pieces(c: NodeBuilder, x: SSAValue, axis: int) -> Sequence[SSAValue]:
    sizes = [c.out_dims(n)[axis] for n in range(len(c.meta()))]
    return c.b.all(join.SplitOp, x, axis=axis, sizes=dims_attribute(sizes))


@converts("unbind.int", "unbind_copy.int")
def _unbind(c: NodeBuilder, x: SSAValue, dim: int = 0) -> Sequence[SSAValue]:
    axis = dim % rank_of(x)
    return [c.squeeze(c.cut(x, axis, n, 1), axis) for n in range(len(c.meta()))]


@converts("flip", "prims.rev")
def _flip(c: NodeBuilder, x: SSAValue, dims: Sequence[int]) -> SSAValue:
    rank = rank_of(x)
    axes = sorted({d % rank for d in dims}) if rank else []
    return c.b(movement.FlipOp, x, axes=axes)


@converts("fliplr", "flipud")
def _flip_matrix(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.b(movement.FlipOp, x, axes=[0 if "flipud" in str(c.node.target) else 1])


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
