"""Reading and writing at positions that tensors give; data-dependent extents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, Expr, broadcast_shapes, product
from torsh_dialect.ops import datadependent, gather, reduce, scatter, statistics
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts, used


@converts("embedding")
def _embedding(
    c: NodeBuilder, table: SSAValue, indices: SSAValue, padding_idx: Dim = -1, *rest: Any
) -> SSAValue:
    return c.take(table, indices, 0)


@converts("index_select")
def _index_select(c: NodeBuilder, x: SSAValue, dim: int, index: SSAValue) -> SSAValue:
    index = c.reshape(index, [1]) if rank_of(index) == 0 else index
    if rank_of(x) == 0:
        return c.reshape(c.take(c.reshape(x, [1]), index, 0), [])
    return c.take(x, index, dim % rank_of(x))


@converts("take")
def _take(c: NodeBuilder, x: SSAValue, index: SSAValue) -> SSAValue:
    return c.take(c.reshape(x, [product(dims_of(x))]), index, 0)


@converts("gather")
def _gather(
    c: NodeBuilder, x: SSAValue, dim: int, index: SSAValue, *, sparse_grad: bool = False
) -> SSAValue:
    if 0 in dims_of(index):
        return c.full(0, dims_of(index), element_type(x))  # whatever its rank
    x, index, axis, scalar = _same_rank(c, x, index, dim)
    y = c.take_along(x, index, axis)
    return c.reshape(y, []) if scalar else y


def _same_rank(
    c: NodeBuilder, x: SSAValue, index: SSAValue, dim: int
) -> tuple[SSAValue, SSAValue, int, bool]:
    """Scalars as vectors of one element, as torch treats them here."""
    scalar = rank_of(index) == 0
    x = c.reshape(x, [1]) if rank_of(x) == 0 else x
    index = c.reshape(index, [1]) if scalar else index
    return x, index, dim % rank_of(x), scalar


def _indexed(
    c: NodeBuilder, x: SSAValue, indices: Sequence[SSAValue | None]
) -> tuple[SSAValue, list[SSAValue], list[int], bool]:
    """X with the indexed axes in front where they are not adjacent; masks become positions."""
    axes: list[int] = []
    given: list[SSAValue] = []
    for index in indices:
        if index is None:
            axes.append(-1)
        elif element_type(index) in (dtypes.i1, dtypes.ui8):
            places = _places(c, index)
            given += [c.squeeze(c.cut(places, 1, n, 1), 1) for n in range(rank_of(index))]
            axes += [0] * rank_of(index)
        else:
            given.append(c.cast(index, dtypes.i64))
            axes.append(0)
    used = [n for n, kind in enumerate(axes) if kind == 0]
    return x, given, used, bool(used) and used[-1] - used[0] == len(used) - 1


def _places(c: NodeBuilder, mask: SSAValue) -> SSAValue:
    """The positions where a mask holds, one row each; their number is torch's symbol, if any."""
    count = next(
        (str(d) for d in c.out_dims() if isinstance(d, Expr) and str(d).startswith("u")), None
    )
    return c.b(datadependent.NonzeroOp, mask, count=count or c.graph.shared.symbol("u"))


@converts("index.Tensor", "_unsafe_index.Tensor")
def _index(c: NodeBuilder, x: SSAValue, indices: Sequence[SSAValue | None]) -> SSAValue:
    x, given, axes, _ = _indexed(c, x, indices)
    if not given:
        return x
    if len(given) == 1:
        return c.take(x, given[0], axes[0])
    return c.b(gather.IndexOp, x, given, axes=axes)


@converts("_unsafe_masked_index")
def _masked_index(
    c: NodeBuilder, x: SSAValue, mask: SSAValue, indices: Sequence[SSAValue | None], fill: Scalar
) -> SSAValue:
    dims = dims_of(x)
    safe = [
        None if i is None else c.inside(c.cast(i, dtypes.i64), dims[n])
        for n, i in enumerate(indices)
    ]
    y = _index(c, x, safe)
    return c.where(mask, y, c.tensor(fill, element_type(x)))


@converts("index_put", "_unsafe_index_put", "_index_put_impl")
def _index_put(
    c: NodeBuilder,
    x: SSAValue,
    indices: Sequence[SSAValue | None],
    values: SSAValue,
    accumulate: bool = False,
    *rest: Any,
) -> SSAValue:
    masks = [i for i in indices if i is not None and element_type(i) == dtypes.i1]
    if (
        len(masks) == len([i for i in indices if i is not None]) == 1
        and rank_of(values) == 0
        and not accumulate
    ):
        return _masked_store(c, x, list(indices), values)
    x, given, axes, adjacent = _indexed(c, x, indices)
    picked = broadcast_shapes(*map(dims_of, given))
    begin = axes[0] if adjacent else 0
    rest_dims = [d for n, d in enumerate(dims_of(x)) if n not in axes]
    target = (*rest_dims[:begin], *picked, *rest_dims[begin:])
    updates = c.broadcast(c.cast(values, element_type(x)), target)
    how = "add" if accumulate else "none"
    return c.b(scatter.IndexPutOp, x, given, updates, axes=axes, reduction=how)


def _masked_store(
    c: NodeBuilder, x: SSAValue, indices: list[SSAValue | None], value: SSAValue
) -> SSAValue:
    place = next(n for n, i in enumerate(indices) if i is not None)
    mask = indices[place]
    assert mask is not None
    behind = rank_of(x) - place - rank_of(mask)
    mask = c.unsqueeze(mask, *range(rank_of(mask), rank_of(mask) + behind))
    return c.where(c.broadcast(mask, dims_of(x)), c.cast(value, element_type(x)), x)


@converts("scatter.src", "scatter.value", "scatter.reduce", "scatter.value_reduce", "scatter_add")
def _scatter(
    c: NodeBuilder,
    x: SSAValue,
    dim: int,
    index: SSAValue,
    source: Scalar,
    *,
    reduce: str | None = None,
) -> SSAValue:
    how = {None: "none", "add": "add", "multiply": "mul"}[reduce]
    how = "add" if "scatter_add" in str(c.node.target) else how
    shape = dims_of(x)
    x, index, axis, _ = _same_rank(c, x, index, dim)
    if isinstance(source, SSAValue) and rank_of(source) == rank_of(index):
        for n, extent in enumerate(dims_of(index)):
            source = c.slice(source, n, 0, extent)
    source = c.broadcast(c.tensor(source, element_type(x)), dims_of(index))
    y = c.b(scatter.ScatterElementsOp, x, index, source, axis=axis, reduction=how)
    return c.reshape(y, shape)


@converts("scatter_reduce.two", "index_reduce")
def _scatter_reduce(
    c: NodeBuilder,
    x: SSAValue,
    dim: int,
    index: SSAValue,
    source: SSAValue,
    reduce: str,
    *,
    include_self: bool = True,
) -> SSAValue:
    shape = dims_of(x)
    by_slice = "index_reduce" in str(c.node.target)
    if by_slice:
        axis = dim % max(rank_of(x), 1)
        index = c.broadcast(
            c.per_channel(c.reshape(index, [product(dims_of(index))]), rank_of(source), axis),
            dims_of(source),
        )
    x, index, axis, _ = _same_rank(c, x, index, dim)
    source = c.reshape(source, [1]) if rank_of(source) == 0 else source
    for n, extent in enumerate(dims_of(index)):
        source = c.slice(source, n, 0, extent)
    how = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}[reduce]
    ones = c.full(1, dims_of(index), element_type(x))
    hits = c.b(
        scatter.ScatterElementsOp,
        c.full(0, dims_of(x), element_type(x)),
        index,
        ones,
        axis=axis,
        reduction="add",
    )
    start = x
    if not include_self:
        first = {"add": 0, "mul": 1, "max": _limit(x, False), "min": _limit(x, True)}[how]
        start = c.where(c.gt(hits, 0), c.tensor(first, element_type(x)), x)
    y = c.b(scatter.ScatterElementsOp, start, index, source, axis=axis, reduction=how)
    if reduce == "mean":
        count = c.maximum(c.add(hits, 1 if include_self else 0), 1)
        whole = dtypes.is_integer(element_type(x))
        y = c.floordiv(y, count) if whole else c.div(y, count)
    return c.reshape(y, shape)


def _limit(x: SSAValue, high: bool) -> float:
    return reduce_limits(element_type(x))[high]


def reduce_limits(element: Any) -> tuple[float, float]:
    """The lowest and highest value of an element type."""
    return reduce.lowest(element), reduce.highest(element)


@converts("index_add", "index_copy")
def _index_add(
    c: NodeBuilder, x: SSAValue, dim: int, index: SSAValue, source: SSAValue, *, alpha: Scalar = 1
) -> SSAValue:
    adds = "index_add" in str(c.node.target)
    shape = dims_of(x)
    x = c.reshape(x, [1]) if rank_of(x) == 0 else x
    source = c.reshape(source, [1]) if rank_of(source) == 0 else source
    index = c.reshape(index, [product(dims_of(index))])
    source = source if alpha == 1 else c.mul(source, c.tensor(alpha, element_type(source)))
    axis = dim % rank_of(x)
    y = c.b(
        scatter.IndexPutOp,
        x,
        [index],
        c.cast(source, element_type(x)),
        axes=[axis],
        reduction="add" if adds else "none",
    )
    return c.reshape(y, shape)


@converts("index_fill.int_Scalar", "index_fill.int_Tensor")
def _index_fill(c: NodeBuilder, x: SSAValue, dim: int, index: SSAValue, value: Scalar) -> SSAValue:
    shape = dims_of(x)
    x = c.reshape(x, [1]) if rank_of(x) == 0 else x
    axis = dim % rank_of(x)
    index = c.reshape(index, [product(dims_of(index))])
    target = [*dims_of(x)]
    target[axis] = dims_of(index)[0]
    updates = c.broadcast(c.tensor(value, element_type(x)), target)
    y = c.b(scatter.IndexPutOp, x, [index], updates, axes=[axis], reduction="none")
    return c.reshape(y, shape)


@converts("put")
def _put(
    c: NodeBuilder, x: SSAValue, index: SSAValue, source: SSAValue, accumulate: bool = False
) -> SSAValue:
    flat = c.reshape(x, [product(dims_of(x))])
    index, source = (c.reshape(v, [product(dims_of(v))]) for v in (index, source))
    y = c.b(
        scatter.IndexPutOp,
        flat,
        [index],
        source,
        axes=[0],
        reduction="add" if accumulate else "none",
    )
    return c.reshape(y, dims_of(x))


@converts("masked_scatter")
def _masked_scatter(c: NodeBuilder, x: SSAValue, mask: SSAValue, source: SSAValue) -> SSAValue:
    target = broadcast_shapes(dims_of(x), dims_of(mask))
    x, mask = c.broadcast(x, target), c.broadcast(mask, target)
    count = product(target)
    flat = c.cast(c.reshape(mask, [count]), dtypes.i64)
    from torsh_dialect.ops.scan import CumSumOp

    place = c.sub(c.b(CumSumOp, flat, axis=0), 1)
    given = product(dims_of(source))
    source = c.reshape(source, [given])
    if not isinstance(given, int) or given == 0:
        source = c.pad(source, 0, 0, 1)  # something to read where the mask takes nothing
    picked = c.take(source, c.inside(place, dims_of(source)[0]), 0)
    return c.where(mask, c.reshape(picked, target), x)


@converts("nonzero")
def _nonzero(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return _places(c, x)


@converts("nonzero_numpy")
def _nonzero_numpy(c: NodeBuilder, x: SSAValue) -> list[SSAValue]:
    count = str(c.out_dims(0)[0])
    places = c.b(datadependent.NonzeroOp, x, count=count)
    return [c.squeeze(c.cut(places, 1, n, 1), 1) for n in range(rank_of(x))]


@converts("argwhere")
def _argwhere(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return _places(c, x)


@converts("masked_select")
def _masked_select(c: NodeBuilder, x: SSAValue, mask: SSAValue) -> SSAValue:
    return c.b(datadependent.MaskedSelectOp, x, mask, count=str(c.out_dims()[0]))


@converts("_unique2", "unique_dim")
def _unique(c: NodeBuilder, x: SSAValue, *rest: Any, **options: Any) -> list[SSAValue]:
    name = str(c.node.target)
    axis = rest[0] % rank_of(x) if "dim" in name else None
    count = str(c.out_dims(0)[axis or 0])
    if count == "0":
        values = c.reshape(x, [0]) if axis is None else x
        return [values, *(c.full(0, c.out_dims(n), dtypes.i64) for n in (1, 2))]
    values, _, numbers, counts = c.b.all(
        datadependent.UniqueOp, x, count=count, axis=axis, sorted=True
    )
    if "dim" not in name:
        numbers = c.reshape(numbers, dims_of(x))
    found = [values, numbers, counts]
    for n in (1, 2):
        if c.out_dims(n) == (0,) and dims_of(found[n]) != (0,):
            found[n] = c.full(0, [0], dtypes.i64)
    return found


@converts("one_hot")
def _one_hot(c: NodeBuilder, x: SSAValue, depth: int = -1) -> SSAValue:
    off, on = c.tensor(0, dtypes.i64), c.tensor(1, dtypes.i64)
    return c.b(gather.OneHotOp, x, off, on, axis=-1, depth=dims_attribute([c.out_dims()[-1]]))


@converts("_embedding_bag_forward_only", "_embedding_bag", "embedding_bag")
def _embedding_bag(
    c: NodeBuilder,
    table: SSAValue,
    indices: SSAValue,
    offsets: SSAValue,
    scale_grad: bool = False,
    mode: int = 0,
    sparse: bool = False,
    scale: SSAValue | None = None,
    include_last: bool = False,
    padding: int = -1,
) -> list[SSAValue | None]:
    if include_last:
        offsets = c.slice(offsets, 0, 0, dims_of(offsets)[0] - 1)
    skip = padding % int(str(dims_of(table)[0])) if padding >= 0 else None
    y = c.b(statistics.EmbeddingBagOp, table, indices, offsets, scale, mode=mode, padding=skip)
    if any(used(c, n) for n in (1, 2, 3)):
        raise c.refuse("only the first result of embedding_bag is for inference")
    return [y, None, None, None]


@converts("bincount")
def _bincount(
    c: NodeBuilder, x: SSAValue, weights: SSAValue | None = None, minlength: int = 0
) -> SSAValue:
    extent = c.out_dims()[0]
    if not isinstance(extent, int):
        name = str(extent)
        from torsh_dialect.ops.shape import BindOp

        top = c.add(c.cast(c.max(x, [0]), dtypes.i64), 1)
        c.b(BindOp, c.maximum(top, minlength), names=[name])
    element = c.out_element()
    ones = c.full(1, dims_of(x), element) if weights is None else c.cast(weights, element)
    start = c.full(0, [extent], element)
    return c.b(
        scatter.ScatterElementsOp, start, c.cast(x, dtypes.i64), ones, axis=0, reduction="add"
    )
