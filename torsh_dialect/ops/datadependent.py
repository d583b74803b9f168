"""Ops whose result extents depend on the data; the extents are fresh symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, IntegerAttr, StringAttr
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of, str_of
from torsh_dialect.declare import op
from torsh_dialect.dims import broadcast_shapes, product, symbol
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import DataDependent
from torsh_dialect.ops.join import one_axis
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


@op
class NonzeroOp(DataDependent):
    """The places of elements that differ from 0 (strings: from ""), in row-major order.

    Each is a row. The number of rows is the symbol `count`.

    %r = torsh.nonzero %x {count = "n"} : (tensor<2x3xf32>) -> tensor<?x2xi64, #torsh.dims<[n, 2]>>
    """

    name = "torsh.nonzero"
    x = operand_def()
    count = prop_def(StringAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        return (tensor(dtypes.i64, (symbol(str_of(self.count)), rank_of(self.x))),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        differs = x != ("" if x.dtype.kind == "O" else 0)
        if x.ndim == 0:
            return (np.zeros((int(differs), 0), np.int64),)
        return (np.stack(np.nonzero(differs), -1).astype(np.int64),)


@op
class MaskedSelectOp(DataDependent):
    """The elements where the mask holds, in row-major order of the broadcast extents.

    The number of elements is the symbol `count`.
    C1: the mask is bool.

    %r = torsh.masked_select %x, %m {count = "n"}
        : (tensor<2x3xf32>, tensor<2x3xi1>) -> tensor<?xf32, #torsh.dims<[n]>>
    """

    name = "torsh.masked_select"
    x = operand_def()
    mask = operand_def()
    count = prop_def(StringAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if element_type(self.mask) != dtypes.i1:
            raise ShapeError(f"C1: the mask is {self.mask.type}")
        broadcast_shapes(dims_of(self.x), dims_of(self.mask))
        return (tensor(element_type(self.x), (symbol(str_of(self.count)),)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, mask = np.broadcast_arrays(*args)
        return (x[mask.astype(np.bool_)],)


@op
class UniqueOp(DataDependent):
    """The different elements, or slices along `axis`; where each came first, and its number.

    Results: the values; the position of the first of each; for every element (or slice) the
    number of its value; how often each occurs. In ascending order, or with `sorted = false` in
    order of appearance. NaN differ from each other. The number of values is the symbol `count`.

    %v, %f, %n, %c = torsh.unique %x {count = "n", sorted = true}
        : (tensor<4xf32>) -> (tensor<?xf32, #torsh.dims<[n]>>, tensor<?xi64, #torsh.dims<[n]>>, tensor<4xi64>, tensor<?xi64, #torsh.dims<[n]>>)
    """  # noqa: E501

    name = "torsh.unique"
    x = operand_def()
    count = prop_def(StringAttr)
    axis = opt_prop_def(IntegerAttr[I64])
    sorted = prop_def(BoolAttr)
    values = result_def()
    first = result_def()
    numbers = result_def()
    counts = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        count, dims = symbol(str_of(self.count)), dims_of(self.x)
        each = tensor(dtypes.i64, (count,))
        if self.axis is None:
            total = product(dims)
            return (
                tensor(element_type(self.x), (count,)),
                each,
                tensor(dtypes.i64, (total,)),
                each,
            )
        axis = one_axis(self.axis, len(dims))
        values = tensor(element_type(self.x), (*dims[:axis], count, *dims[axis + 1 :]))
        return (values, each, tensor(dtypes.i64, (dims[axis],)), each)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        axis = None if self.axis is None else one_axis(self.axis, args[0].ndim)
        given: Any = args[0]
        strings = given.dtype.kind == "O"
        found: Any = np.unique(
            # numpy compares slices of strings only where they have a width.
            given.astype(np.str_) if strings and axis is not None else given,
            return_index=True,
            return_inverse=True,
            return_counts=True,
            axis=axis,
            equal_nan=False,
        )
        values, first, numbers, counts = found
        values = values.astype(object) if strings else values
        numbers = numbers.reshape(-1)
        if not bool_of(self.sorted):
            appearance = np.argsort(first, kind="stable")
            rank = np.argsort(appearance, kind="stable")
            values = np.take(values, appearance, axis or 0)
            first, counts, numbers = first[appearance], counts[appearance], rank[numbers]
        return (values, *(np.asarray(v, np.int64) for v in (first, numbers, counts)))
