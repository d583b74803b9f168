"""Reductions, scans, sorting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import Dim, product
from torsh_dialect.dtypes import is_complex, is_float
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops import reduce, scan, sort, statistics
from torsh_dialect.ops.bits import BitcastOp
from torsh_dialect.ops.compare import NotEqualOp
from torsh_dialect.ops.complex import ComplexAbsOp, ImagOp, RealOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts
from torsh_fx.importers.torch_ops.control import counted_loop
from torsh_fx.importers.torch_ops.elementwise import promoted

Axes = int | Sequence[int] | None


def folded(
    c: NodeBuilder, cls: type[TensorOp], x: SSAValue, dim: Axes, keepdim: bool, **more: Any
) -> SSAValue:
    """A reduction over torch's `dim` (None or [] is all axes)."""
    return c.b(cls, x, axes=c.axes(dim, rank_of(x)), keepdims=keepdim or None, **more)


@converts("sum", "sum.dim_IntList", "mean", "mean.dim", "prod", "prod.dim_int", "nansum")
def _sum(
    c: NodeBuilder, x: SSAValue, dim: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> SSAValue:
    name = str(c.node.target).split(".")[1]
    x = c.finished(x)
    if name == "nansum":
        x = c.where(c.b(NotEqualOp, x, x), c.like(0, x), x)
    cls = {"mean": reduce.MeanOp, "prod": reduce.ProdOp}.get(name, reduce.SumOp)
    return folded(c, cls, x, dim, keepdim)


@converts("amax", "amin", "max", "min")
def _extremum(c: NodeBuilder, x: SSAValue, dim: Axes = (), keepdim: bool = False) -> SSAValue:
    largest = "max" in str(c.node.target)
    return folded(c, reduce.MaxOp if largest else reduce.MinOp, x, dim, keepdim)


@converts("max.dim", "min.dim")
def _extremum_dim(
    c: NodeBuilder, x: SSAValue, dim: int, keepdim: bool = False
) -> tuple[SSAValue, SSAValue]:
    largest = "max" in str(c.node.target)
    value = folded(c, reduce.MaxOp if largest else reduce.MinOp, x, dim, keepdim)
    return value, folded(c, reduce.ArgMaxOp if largest else reduce.ArgMinOp, x, dim, keepdim)


@converts("aminmax")
def _aminmax(
    c: NodeBuilder, x: SSAValue, *, dim: Axes = None, keepdim: bool = False
) -> tuple[SSAValue, SSAValue]:
    return folded(c, reduce.MinOp, x, dim, keepdim), folded(c, reduce.MaxOp, x, dim, keepdim)


@converts("argmax", "argmin")
def _argmax(c: NodeBuilder, x: SSAValue, dim: int | None = None, keepdim: bool = False) -> SSAValue:
    cls = reduce.ArgMaxOp if "argmax" in str(c.node.target) else reduce.ArgMinOp
    return folded(c, cls, x, dim, keepdim)


@converts("any", "any.dim", "any.dims", "all", "all.dim", "all.dims")
def _any(c: NodeBuilder, x: SSAValue, dim: Axes = None, keepdim: bool = False) -> SSAValue:
    cls = reduce.AnyOp if ".any." in str(c.node.target) else reduce.AllOp
    if is_complex(element_type(x)):
        x = c.b(NotEqualOp, x, c.like(0, x))
    if dim == [] and str(c.node.target).endswith("dims"):
        return c.finished(c.cast(x, dtypes.i1))
    return c.finished(folded(c, cls, x, dim, keepdim))


@converts("hash_tensor")
def _hash_tensor(
    c: NodeBuilder, x: SSAValue, dim: Axes = (), *, keepdim: bool = False, mode: int = 0
) -> SSAValue:
    """The exclusive or of the elements' bits as f64 or i64 (mode 0, the only one)."""
    if mode != 0:
        raise c.refuse(f"hash_tensor with mode {mode}")
    wide = c.cast(x, dtypes.f64 if is_float(element_type(x)) else dtypes.i64)
    return folded(c, reduce.XorSumOp, c.b(BitcastOp, wide, to=dtypes.ui64), dim, keepdim)


@converts("count_nonzero", "count_nonzero.dim_IntList")
def _count_nonzero(c: NodeBuilder, x: SSAValue, dim: Axes = None) -> SSAValue:
    return folded(c, reduce.CountNonzeroOp, x, dim, False)


@converts("logsumexp")
def _logsumexp(c: NodeBuilder, x: SSAValue, dim: Axes, keepdim: bool = False) -> SSAValue:
    return folded(c, statistics.LogSumExpOp, c.finished(x), dim, keepdim)


@converts(
    "var",
    "var.dim",
    "var.correction",
    "std",
    "std.dim",
    "std.correction",
    "var_mean",
    "var_mean.correction",
    "std_mean.correction",
    "var_mean.dim",
    "std_mean",
    "std_mean.dim",
)
def _spread(
    c: NodeBuilder,
    x: SSAValue,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Any:
    name = str(c.node.target).split(".")[1]
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    lost = 1.0 if correction is None else float(correction)
    if unbiased is not None:
        lost = float(unbiased)
    if is_complex(element_type(x)):
        parts = (c.b(RealOp, x), c.b(ImagOp, x))
        real, imag = (folded(c, statistics.VarOp, p, dim, keepdim, correction=lost) for p in parts)
        total = c.add(real, imag)
        total = total if name.startswith("var") else c.sqrt(total)
        mean = folded(c, reduce.MeanOp, x, dim, keepdim) if name.endswith("mean") else None
        return total if mean is None else (total, mean)
    cls = statistics.VarOp if name.startswith("var") else statistics.StdOp
    spread = folded(c, cls, x, dim, keepdim, correction=lost)
    return (spread, folded(c, reduce.MeanOp, x, dim, keepdim)) if name.endswith("mean") else spread


@converts("linalg_vector_norm", "norm.Scalar", "norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype")
def vector_norm(
    c: NodeBuilder,
    x: SSAValue,
    ord: Scalar | None = 2,
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> SSAValue:
    ord = 2 if ord is None else ord
    if is_complex(element_type(x)):
        x = c.b(ComplexAbsOp, x)
    x = c.finished(x)
    size = c.abs(x)
    if ord == math.inf:
        return folded(c, reduce.MaxOp, size, dim, keepdim)
    if ord == -math.inf:
        return folded(c, reduce.MinOp, size, dim, keepdim)
    if ord == 0:
        nonzero = c.cast(c.b(NotEqualOp, x, c.like(0, x)), element_type(x))
        return folded(c, reduce.SumOp, nonzero, dim, keepdim)
    if ord == 1:
        return folded(c, reduce.L1NormOp, x, dim, keepdim)
    if ord == 2:
        return folded(c, reduce.L2NormOp, x, dim, keepdim)
    return folded(c, reduce.LpNormOp, x, dim, keepdim, p=float(str(ord)))


@converts("dist")
def _dist(c: NodeBuilder, a: SSAValue, b: SSAValue, p: Scalar = 2) -> SSAValue:
    return vector_norm(c, c.sub(a, b), p)


@converts("_cdist_forward", "cdist")
def _cdist(c: NodeBuilder, a: SSAValue, b: SSAValue, p: float = 2, mode: Any = None) -> SSAValue:
    gap = c.sub(c.unsqueeze(a, rank_of(a) - 1), c.unsqueeze(b, rank_of(b) - 2))
    return vector_norm(c, gap, p, -1)


@converts("_pdist_forward", "pdist")
def _pdist(c: NodeBuilder, x: SSAValue, p: float = 2) -> SSAValue:
    first, second = _pairs(c, dims_of(x)[0])
    return vector_norm(c, c.sub(c.take(x, first, 0), c.take(x, second, 0)), p, -1)


def _pairs(c: NodeBuilder, count: Dim) -> tuple[SSAValue, SSAValue]:
    """All i < j below `count` in order, as two vectors."""
    if isinstance(count, int):
        rows = np.stack(np.triu_indices(count, 1)).astype(np.int64)
        return c.constant(rows[0], dtypes.i64), c.constant(rows[1], dtypes.i64)
    place, row = c.iota(c.out_dims()[0]), c.iota(count)
    following = c.sub(c.dim(count - 1), row)  # how many pairs begin with a row
    ends = c.b(scan.CumSumOp, following, axis=0)
    ended = c.le(c.unsqueeze(ends, 0), c.unsqueeze(place, 1))
    first = c.sum(c.cast(ended, dtypes.i64), [1])
    left = c.sub(c.take(ends, first, 0), place)  # pairs of the row from this one on
    return first, c.sub(c.dim(count), left)


# -- scans


@converts("cumsum", "cumprod", "logcumsumexp")
def _cumulative(c: NodeBuilder, x: SSAValue, dim: int, *, dtype: Any = None) -> SSAValue:
    name = str(c.node.target).split(".")[1]
    table = {
        "cumsum": scan.CumSumOp,
        "cumprod": scan.CumProdOp,
        "logcumsumexp": scan.LogCumSumExpOp,
    }
    x = c.finished(x)
    if name == "logcumsumexp" and is_complex(element_type(x)):
        return _complex_logcumsumexp(c, x, dim % rank_of(x)) if rank_of(x) else x
    return _scanned(c, table[name], x, dim)


def _complex_logcumsumexp(c: NodeBuilder, x: SSAValue, axis: int) -> SSAValue:
    """The log of each sum of exp(x[j]) over j <= i, one term after the other.

    So the angles are those of ATen, which lets them grow beyond pi: each sum's is that of its
    larger part and what the smaller one turns it by (`_log_add_exp_helper`).
    """
    rows = c.transpose(x, [axis, *(n for n in range(rank_of(x)) if n != axis)])
    none = c.full(-math.inf, dims_of(rows)[1:], element_type(x))

    def fill(builder: BlockBuilder, arguments: Sequence[SSAValue]) -> Sequence[SSAValue]:
        inner = NodeBuilder(builder, c.node, c.graph)
        total = _complex_log_add_exp(inner, inner.take(rows, arguments[0], 0), arguments[1])
        return [inner.tensor(True, dtypes.i1), total, total]

    sums = counted_loop(c, dims_of(rows)[0], [none], fill)[1]
    places = list(range(1, rank_of(x)))
    return c.transpose(sums, [*places[:axis], 0, *places[axis:]])


def _complex_log_add_exp(c: NodeBuilder, x: SSAValue, y: SSAValue) -> SSAValue:
    """log(exp(x) + exp(y)) as ATen's `_log_add_exp_helper` has it."""
    element, (a, b) = element_type(x), (c.b(RealOp, v) for v in (x, y))
    larger = c.either(c.b(NotEqualOp, b, b), c.gt(b, a))
    larger = c.both(larger, c.eq(a, a))
    high, low = c.where(larger, y, x), c.where(larger, x, y)
    top, bottom = c.b(RealOp, high), c.b(RealOp, low)
    same = c.both(c.eq(top, bottom), c.eq(c.abs(top), math.inf))
    one = c.like(1.0, x)
    both = c.log(c.add(c.exp(high), c.exp(low)))
    apart = c.add(c.log(c.add(one, c.exp(c.sub(low, high)))), high)
    infinite = c.where(c.lt(top, 0.0), low, both)
    return c.cast(c.where(same, infinite, apart), element)


def _scanned(c: NodeBuilder, cls: type[TensorOp], x: SSAValue, dim: int) -> SSAValue:
    if rank_of(x) == 0:
        return c.reshape(c.b(cls, c.reshape(x, [1]), axis=0), [])
    return c.b(cls, x, axis=dim % rank_of(x))


@converts("cummax", "cummin")
def _cummax(c: NodeBuilder, x: SSAValue, dim: int) -> tuple[SSAValue, SSAValue]:
    largest = "cummax" in str(c.node.target)
    value = scan.CumMaxOp if largest else scan.CumMinOp
    place = scan.ArgCumMaxOp if largest else scan.ArgCumMinOp
    return _scanned(c, value, x, dim), _scanned(c, place, x, dim)


@converts("diff")
def _diff(
    c: NodeBuilder,
    x: SSAValue,
    n: int = 1,
    dim: int = -1,
    prepend: SSAValue | None = None,
    append: SSAValue | None = None,
) -> SSAValue:
    if n == 0:
        return x  # what is to be joined to it is not looked at
    axis = dim % rank_of(x)
    parts = [c.finished(part) for part in (prepend, x, append) if part is not None]
    x = c.concat(parts, axis) if len(parts) > 1 else x
    if c.out_dims()[axis] == 0:
        return c.cut(x, axis, 0, 0)
    for _ in range(n):
        count = dims_of(x)[axis] - 1
        pair = c.cut(x, axis, 1, count), c.cut(x, axis, 0, count)
        x = c.b(NotEqualOp, *pair) if element_type(x) == dtypes.i1 else c.sub(*pair)
    return x


# -- order


RADIX_COUNT = 32768
"""From this many on, ATen sorts one row of integers, ascending, by radix: stable."""


@converts("sort", "sort.stable", "argsort", "argsort.stable", "msort")
def _sort(c: NodeBuilder, x: SSAValue, *rest: Any, **options: Any) -> Any:
    """ATen's unstable sort is `std::sort`."""
    given = list(rest)
    stable = options.get("stable")
    if given and isinstance(given[0], bool) and "stable" in str(c.node.target):
        stable = given.pop(0)
    dim = given.pop(0) if given else options.get("dim", 0 if "msort" in str(c.node.target) else -1)
    descending = given.pop(0) if given else options.get("descending", False)
    axis = dim % rank_of(x) if rank_of(x) else 0
    kept = stable or (not descending and _by_radix(x))
    values, places = c.b.all(
        sort.SortOp,
        x,
        axis=axis,
        descending=bool(descending) or None,
        ties=None if kept else "introsort",
    )
    if "argsort" in str(c.node.target):
        return places
    return values if "msort" in str(c.node.target) else (values, places)


def _by_radix(x: SSAValue) -> bool:
    dims = dims_of(x)
    if len(dims) != 1 or not dtypes.is_integer(element_type(x)):
        return False
    return isinstance(dims[0], int) and dims[0] >= RADIX_COUNT


@converts("topk")
def _topk(
    c: NodeBuilder, x: SSAValue, k: Dim, dim: int = -1, largest: bool = True, sorted: bool = True
) -> Sequence[SSAValue]:
    """Ties as ATen's: routers of mixtures of experts pick by position among equal scores."""
    return c.b.all(
        sort.TopKOp,
        x,
        axis=dim % rank_of(x) if rank_of(x) else 0,
        k=dims_attribute([k]),
        smallest=(not largest) or None,
        ties="introselect",
        unsorted=(not sorted) or None,
    )


@converts("kthvalue")
def _kthvalue(
    c: NodeBuilder, x: SSAValue, k: Dim, dim: int = -1, keepdim: bool = False
) -> list[SSAValue]:
    if rank_of(x) == 0:
        return [x, c.tensor(0, dtypes.i64)]
    axis = dim % rank_of(x)
    pair = c.b.all(
        sort.TopKOp, x, axis=axis, k=dims_attribute([k]), smallest=True, ties="quickselect"
    )
    rows = [c.cut(v, axis, k - 1, 1) for v in pair]
    return rows if keepdim else [c.squeeze(v, axis) for v in rows]


@converts("median", "nanmedian")
def _median(c: NodeBuilder, x: SSAValue) -> SSAValue:
    flat = c.reshape(x, [product(dims_of(x))])
    return _middle(c, flat, 0, "nan" in str(c.node.target))[0]


@converts("median.dim", "nanmedian.dim")
def _median_dim(c: NodeBuilder, x: SSAValue, dim: int, keepdim: bool = False) -> list[SSAValue]:
    if rank_of(x) == 0:
        return [x, c.tensor(0, dtypes.i64)]
    axis = dim % rank_of(x)
    pair = _middle(c, x, axis, "nan" in str(c.node.target))
    return [c.unsqueeze(v, axis) for v in pair] if keepdim else list(pair)


def _middle(c: NodeBuilder, x: SSAValue, axis: int, skip: bool) -> tuple[SSAValue, SSAValue]:
    """The lower median of an axis and its place; NaN if one is, or skipping them."""
    values, places = c.b.all(sort.SortOp, x, axis=axis)
    count = c.full(dims_of(x)[axis], [d for n, d in enumerate(dims_of(x)) if n != axis], dtypes.i64)
    first_nan = c.full(0, dims_of(count), dtypes.i64)
    broken = None
    if is_float(element_type(x)):
        real = c.b(reduce.CountNonzeroOp, c.cast(c.eq(x, x), dtypes.i1), axes=[axis])
        if skip:
            count = c.maximum(real, 1)
        else:
            broken = c.lt(real, count)
            first_nan = real
    middle = c.floordiv(c.sub(count, 1), 2)
    if broken is not None:
        middle = c.where(broken, first_nan, middle)
    at = c.unsqueeze(middle, axis)
    return tuple(c.squeeze(c.take_along(v, at, axis), axis) for v in (values, places))  # pyright: ignore[reportReturnType]


@converts("mode")
def _mode(c: NodeBuilder, x: SSAValue, dim: int = -1, keepdim: bool = False) -> list[SSAValue]:
    if rank_of(x) == 0:
        return [x, c.tensor(0, dtypes.i64)]
    axis = dim % rank_of(x)
    ordered = c.b.all(sort.SortOp, x, axis=axis, ties="introsort")
    last = rank_of(x)
    back = [n for n in range(last) if n != axis]
    rows, sources = (c.transpose(v, [*back, axis]) for v in ordered)
    same = c.eq(c.unsqueeze(rows, last - 1), c.unsqueeze(rows, last))
    often = c.b(reduce.CountNonzeroOp, same, axes=[last])
    best = c.b(reduce.ArgMaxOp, often, axes=[last - 1], keepdims=True)  # the first of its run
    value = c.take_along(rows, best, last - 1)
    run = c.sub(c.take_along(often, best, last - 1), 1)
    place = c.take_along(sources, c.maximum(c.add(best, run), 0), last - 1)
    pair = [c.squeeze(v, last - 1) for v in (value, place)]
    return [c.unsqueeze(v, axis) for v in pair] if keepdim else pair


@converts("searchsorted.Tensor", "searchsorted.Scalar")
def _searchsorted(
    c: NodeBuilder,
    row: SSAValue,
    values: Scalar,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: SSAValue | None = None,
) -> SSAValue:
    row = row if sorter is None else c.take_along(row, sorter, rank_of(row) - 1)
    return _place(c, row, values, right or side == "right")


@converts("bucketize.Tensor", "bucketize.Scalar")
def _bucketize(
    c: NodeBuilder, values: Scalar, row: SSAValue, *, out_int32: bool = False, right: bool = False
) -> SSAValue:
    return _place(c, row, values, right)


def _place(c: NodeBuilder, row: SSAValue, values: Scalar, right: bool) -> SSAValue:
    """Both in the type that torch promotes them to."""
    element = promoted(c, *c.node.args[:2])
    row, values = c.cast(row, element), c.tensor(values, element)
    return c.finished(c.b(sort.SearchSortedOp, row, values, right=right or None))
