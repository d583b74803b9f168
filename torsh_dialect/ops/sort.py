"""Ordering: sort, the k largest, positions in a sorted row. NaN counts as the largest value.

Which of equal elements comes first is part of an op's meaning: programs use the positions. Without
`ties` it is the earlier one; else the named algorithm decides (see `ops.introsort`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, IntegerAttr, StringAttr
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of, extents_of
from torsh_dialect.declare import op
from torsh_dialect.dims import conflict
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Sort
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.ops.introsort import Positions
from torsh_dialect.ops.join import one_axis
from torsh_dialect.ops.movement import fixed
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, rank_of, tensor


def order(x: Any, axis: int, descending: bool) -> Any:
    """Positions along `axis` in stable order; NaN last, or first where descending."""
    wide = x if x.dtype.kind in "iub" else x.astype(np.float64)
    if not descending:
        return np.argsort(wide, axis=axis, kind="stable")
    backwards = np.argsort(np.flip(wide, axis), axis=axis, kind="stable")
    return np.flip(x.shape[axis] - 1 - backwards, axis)


def arranged(x: Any, axis: int, descending: bool, k: int, run: Callable[[Positions], None]) -> Any:
    """The first k positions along `axis` that `run` leaves in each line."""
    lines = np.moveaxis(x if x.dtype.kind in "iub" else x.astype(np.float64), axis, -1)
    places = np.empty((*lines.shape[:-1], k), np.int64)
    for index in np.ndindex(places.shape[:-1]):
        row = lines[index].tolist()

        def before(i: int, j: int, row: list[Any] = row) -> bool:
            a, b = (row[j], row[i]) if descending else (row[i], row[j])
            return a < b or (a == a and b != b)

        positions = Positions(len(row), before)
        run(positions)
        places[index] = positions.at[:k]
    return np.moveaxis(places, -1, axis)


def require_ties(ties: StringAttr | None, known: Sequence[str]) -> None:
    """Refuse an unknown algorithm.

    Raises:
        ShapeError: It is none of `known`.
    """
    if ties is not None and ties.data not in known:
        raise ShapeError(f"`ties` is {ties.data!r}, not one of {', '.join(known)}")


@op
class SortOp(Sort):
    """The elements along `axis` in order, and where each came from.

    Equal ones keep their order; with `ties = "introsort"`, they stand as `std::sort` leaves them.
    C1: `ties` is one of these.

    %v, %i = torsh.sort %x {axis = 0 : i64, descending = true}
        : (tensor<3xf32>) -> (tensor<3xf32>, tensor<3xi64>)
    """

    name = "torsh.sort"
    x = operand_def()
    axis = prop_def(IntegerAttr[I64])
    descending = opt_prop_def(BoolAttr)
    ties = opt_prop_def(StringAttr)
    values = result_def()
    indices = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        one_axis(self.axis, rank_of(self.x))
        require_ties(self.ties, ("introsort",))
        dims = dims_of(self.x)
        return (tensor(element_type(self.x), dims), tensor(dtypes.i64, dims))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = args[0]
        if x.ndim == 0:
            return (x, np.zeros((), np.int64))
        axis, descending = one_axis(self.axis, x.ndim), bool_of(self.descending)
        if self.ties is None:
            places = order(x, axis, descending)
        else:
            n = x.shape[axis]
            places = arranged(x, axis, descending, n, lambda positions: positions.sort(n))
        return (np.take_along_axis(x, places, axis), places)


@op
class TopKOp(Sort):
    """The k largest elements along `axis` (smallest with `smallest`), best first, and their places.

    Of equal elements the earlier one comes first. `k` is one extent, so it may be symbolic. With
    `ties`, an algorithm decides which of equal elements are taken, and their order:

    - `introselect`: as `std::partial_sort` where 64 k <= n; else as `std::nth_element`, then
      `std::sort` of the first k - 1, unless `unsorted`, which leaves them where they are.
    - `quickselect`: Hoare's algorithm; only the last of the k is where it is in order.

    C1: k does not exceed the axis. C2: `ties` is one of these. C3: `unsorted` needs `ties`.

    %v, %i = torsh.topk %x {axis = 0 : i64, k = #torsh.dims<[2]>}
        : (tensor<3xf32>) -> (tensor<2xf32>, tensor<2xi64>)
    """

    name = "torsh.topk"
    x = operand_def()
    axis = prop_def(IntegerAttr[I64])
    k = prop_def(DimsAttr)
    smallest = opt_prop_def(BoolAttr)
    ties = opt_prop_def(StringAttr)
    unsorted = opt_prop_def(BoolAttr)
    values = result_def()
    indices = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        require_ties(self.ties, ("introselect", "quickselect"))
        if self.ties is None and bool_of(self.unsorted):
            raise ShapeError("C3: `unsorted` without `ties`")
        dims = list(dims_of(self.x))
        if not dims:
            return (tensor(element_type(self.x), ()), tensor(dtypes.i64, ()))
        axis, (k,) = one_axis(self.axis, len(dims)), extents_of(self.k)
        extent = dims[axis]
        if isinstance(k, int) and isinstance(extent, int) and k > extent:
            raise ShapeError(f"C1: k = {k} exceeds the extent {extent} of axis {axis}")
        dims[axis] = k
        return (tensor(element_type(self.x), dims), tensor(dtypes.i64, dims))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = args[0]
        if x.ndim == 0:
            return (x, np.zeros((), np.int64))
        axis, (k,) = one_axis(self.axis, x.ndim), fixed(self.k)
        largest = not bool_of(self.smallest)
        if self.ties is None:
            places = np.take(order(x, axis, largest), range(k), axis)
        else:
            places = arranged(x, axis, largest, k, lambda positions: self._select(positions, k))
        return (np.take_along_axis(x, places, axis), places)

    def _select(self, positions: Positions, k: int) -> None:
        if self.ties is not None and self.ties.data == "quickselect":
            positions.quickselect(k - 1)
        elif 64 * k <= len(positions.at):
            positions.partial_sort(0, k, len(positions.at))
        else:
            positions.nth_element(k - 1)
            if not bool_of(self.unsorted):
                positions.sort(k - 1)


@op
class SearchSortedOp(Sort):
    """Where each value would go into a sorted row so that it stays sorted.

    With `right`, behind equal elements, else before them. `row` is one row, or one for each row
    of `values`. The place is found by bisection: an entry that is neither equal nor greater (with
    `right`: none that is greater) stands before the value, a NaN therefore before all, and every
    entry before a NaN.
    C1: one element type. C2: `row` has rank 1 or the leading extents of `values`.

    %r = torsh.searchsorted %row, %v : (tensor<5xf32>, tensor<3xf32>) -> tensor<3xi64>
    """

    name = "torsh.searchsorted"
    row = operand_def()
    values = operand_def()
    right = opt_prop_def(BoolAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        rows, dims = dims_of(self.row), dims_of(self.values)
        if element_type(self.row) != element_type(self.values):
            raise ShapeError(f"C1: the row is {self.row.type}, values are {self.values.type}")
        shared = len(rows) != 1 and (
            len(rows) != len(dims)
            or any(conflict(a, b) for a, b in zip(rows[:-1], dims, strict=False))
        )
        if shared:
            raise ShapeError(f"C2: the row is {self.row.type}, values are {self.values.type}")
        return (tensor(dtypes.i64, dims),)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        row, values = args
        found = np.zeros(values.shape, np.int64)
        for place in np.ndindex(values.shape):
            line: Any = row if row.ndim == 1 else row[place[:-1]]
            found[place] = _bisected(line, values[place], right=bool_of(self.right))
        return (found,)


def _bisected(row: Any, value: Any, *, right: bool) -> int:
    """How many entries of a row stand before a value."""
    low, high = 0, len(row)
    while low < high:
        middle = (low + high) // 2
        behind = row[middle] > value if right else row[middle] >= value
        low, high = (low, middle) if behind else (middle + 1, high)
    return low
