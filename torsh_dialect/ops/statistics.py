"""Reductions made of others: variance, standard deviation, log-sum-exp, embedding bags."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, DenseArrayBase, FloatAttr, IntegerAttr
from xdsl.ir import SSAValue
from xdsl.irdl import operand_def, opt_operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of, dims_attribute, float_of, int_of, ints_of
from torsh_dialect.declare import op
from torsh_dialect.dims import product
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite, normal_axes, reduced_dims
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.ops.maths import require_inexact
from torsh_dialect.ops.scatter import ScatterNdOp
from torsh_dialect.ops.shape import FullOp
from torsh_dialect.ops.sort import SearchSortedOp
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


class OverAxes(Composite):
    """A composite that folds `axes` away."""

    x = operand_def()
    axes = prop_def(DenseArrayBase[I64])
    keepdims = opt_prop_def(BoolAttr)
    y = result_def()

    def axis_list(self) -> tuple[int, ...]:
        """The reduced axes, normalised and sorted."""
        return normal_axes(ints_of(self.axes), rank_of(self.x))

    def infer(self) -> Sequence[AnyTensor]:
        dims = reduced_dims(dims_of(self.x), self.axis_list(), keep=bool_of(self.keepdims))
        return (tensor(require_inexact(element_type(self.x)), dims),)


@op
class LogSumExpOp(OverAxes):
    """log(sum(exp(x))) over `axes` without overflow; -inf for no elements.

    C1: floats only.

    %r = torsh.logsumexp %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.logsumexp"

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        wide = args[0].astype(np.float64)
        for axis in self.axis_list():
            wide = np.logaddexp.reduce(wide, axis=axis, keepdims=True)
        return (wide if bool_of(self.keepdims) else np.squeeze(wide, self.axis_list()),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, axes = Compose(b), self.axis_list()
        x = c.wide(self.x)
        top = c.max(x, axes, keep=True)
        infinite = c.eq(c.abs(top), math.inf)
        shift = c.where(infinite, c.like(0, x), top)
        total = c.log(c.sum(c.exp(c.sub(x, shift)), axes, keep=True))
        y = c.add(total, shift)
        y = y if bool_of(self.keepdims) else c.reshape(y, dims_of(self.y))
        return (c.narrow(y, self.x),)


class Spread(OverAxes):
    """Variance or standard deviation over `axes`, divided by max(count - correction, 0)."""

    correction = prop_def(FloatAttr)

    def variance(self, x: Any) -> Any:
        """In numpy, around the mean (two passes)."""
        axes = self.axis_list()
        count = math.prod(x.shape[n] for n in axes)
        centred = x - np.mean(x, axis=axes, keepdims=True)
        total = np.sum(np.abs(centred) ** 2, axis=axes, keepdims=bool_of(self.keepdims))
        return np.divide(total, max(count - float_of(self.correction), 0.0))

    def spread(self, b: Builder) -> SSAValue:
        """The variance in basic ops, in at least f32."""
        c, axes = Compose(b), self.axis_list()
        x = c.wide(self.x)
        centred = c.sub(x, c.mean(x, axes, keep=True))
        total = c.sum(c.mul(centred, centred), axes, keep=bool_of(self.keepdims))
        count = c.dim(product(dims_of(x)[n] for n in axes))
        freedom = c.sub(c.cast(count, element_type(x)), float_of(self.correction))
        return c.div(total, c.maximum(freedom, 0.0))


@op
class VarOp(Spread):
    """The variance over `axes` around the mean, divided by max(count - correction, 0).

    C1: floats only.

    %r = torsh.var %x {axes = array<i64: 1>, correction = 1.0 : f64}
        : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.var"

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (self.variance(args[0].astype(np.float64)),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        return (Compose(b).narrow(self.spread(b), self.x),)


@op
class StdOp(Spread):
    """The square root of `torsh.var`.

    C1: floats only.

    %r = torsh.std %x {axes = array<i64: 1>, correction = 1.0 : f64}
        : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.std"

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.sqrt(self.variance(args[0].astype(np.float64))),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        return (c.narrow(c.sqrt(self.spread(b)), self.x),)


@op
class EmbeddingBagOp(Composite):
    """Sums, means or maxima (`mode` 0, 1, 2) of rows of a table, bag by bag.

    Bag i holds the rows indices[offsets[i]..offsets[i+1]-1], the last one up to the end; rows
    named `padding` do not count. An empty bag gives 0. `scale`, if given, multiplies each row.
    C1: the table has rank 2, indices and offsets rank 1. C2: `mode` is 0, 1 or 2, and 0 where
    there is `scale`.

    %r = torsh.embedding_bag %t, %i, %o {mode = 0 : i64}
        : (tensor<5x3xf32>, tensor<4xi64>, tensor<2xi64>) -> tensor<2x3xf32>
    """

    name = "torsh.embedding_bag"
    table = operand_def()
    indices = operand_def()
    offsets = operand_def()
    scale = opt_operand_def()
    mode = prop_def(IntegerAttr[I64])
    padding = opt_prop_def(IntegerAttr[I64])
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if (rank_of(self.table), rank_of(self.indices), rank_of(self.offsets)) != (2, 1, 1):
            raise ShapeError(f"C1: the table is {self.table.type}, indices {self.indices.type}")
        mode = int_of(self.mode)
        if mode not in (0, 1, 2) or (mode and self.scale is not None):
            raise ShapeError(f"C2: mode is {mode}")
        bags, width = dims_of(self.offsets)[0], dims_of(self.table)[1]
        return (tensor(element_type(self.table), (bags, width)),)

    def evaluate(self, *args: Any) -> Sequence[Array]:
        given, indices, offsets, *rest = args
        table: Any = given.astype(np.float64)
        scale: Any = rest[0].astype(np.float64) if rest else np.ones(len(indices))
        ends = [*offsets[1:], len(indices)]
        rows: list[Any] = []
        for begin, end in zip(list(offsets), ends, strict=True):
            names, factors = indices[begin:end], scale[begin:end]
            if self.padding is not None:
                kept = names != int_of(self.padding)
                names, factors = names[kept], factors[kept]
            bag = table[names] * factors[:, None]
            fold = (np.sum, np.mean, np.max)[int_of(self.mode)]
            rows.append(fold(bag, axis=0) if len(bag) else np.zeros(table.shape[1]))
        return (np.asarray(rows).reshape(-1, table.shape[1]).astype(given.dtype),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, mode = Compose(b), int_of(self.mode)
        bags, width = dims_of(self.y)
        count = product(dims_of(self.indices))
        rows = c.wide(c.take(self.table, self.indices, 0))
        offsets = c.cast(self.offsets, dtypes.i64)
        bag = c.sub(b(SearchSortedOp, offsets, c.iota(count), right=True), 1)
        place = c.reshape(bag, (count, 1))
        weight = b(FullOp, c.like(1.0, rows), target=dims_attribute((count,)))
        if self.padding is not None:
            padded = c.eq(self.indices, int_of(self.padding))
            weight = c.where(padded, c.like(0.0, rows), weight)
        column = c.reshape(weight, (count, 1))

        def folded(x: SSAValue, start: float, extents: Any, how: str) -> SSAValue:
            first = b(FullOp, c.like(start, rows), target=dims_attribute(extents))
            return b(ScatterNdOp, first, place, x, reduction=how)

        sizes = c.reshape(folded(weight, 0.0, (bags,), "add"), (bags, 1))
        if mode == 2:
            low = c.where(c.gt(column, 0.0), rows, c.like(-math.inf, rows))
            best = folded(low, -math.inf, (bags, width), "max")
            return (c.narrow(c.where(c.gt(sizes, 0.0), best, c.like(0.0, best)), self.table),)
        if self.scale is not None:
            column = c.mul(column, c.reshape(c.cast_like(self.scale, rows), (count, 1)))
        kept = c.where(c.eq(column, 0.0), c.like(0.0, rows), c.mul(rows, column))
        total = folded(kept, 0.0, (bags, width), "add")
        total = c.div(total, c.maximum(sizes, 1.0)) if mode == 1 else total
        return (c.narrow(total, self.table),)
