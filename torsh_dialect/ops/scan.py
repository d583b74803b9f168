"""Running folds along one axis: cumulative sums, products, extrema, log-sum-exp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.ir import Attribute

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of, int_of
from torsh_dialect.declare import op
from torsh_dialect.dtypes import is_float
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Scan
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.ops.maths import require_inexact
from torsh_dialect.ops.reduce import highest, lowest
from torsh_dialect.scalar import Scalar, V
from torsh_dialect.types import AnyTensor, dims_of, element_type, tensor


class NumpyScan(Scan):
    """A scan whose reference is a numpy ufunc's `accumulate`; floats in f64."""

    NUMPY: ClassVar[Any]

    def start(self, x: Array) -> Any:
        """The first element of an exclusive scan."""
        return 0

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0].astype(np.float64) if args[0].dtype.kind == "f" else args[0]
        if x.ndim == 0:
            return (x,)
        x = np.moveaxis(x, int_of(self.axis), -1)
        x = x[..., ::-1] if bool_of(self.reverse) else x
        y = type(self).NUMPY.accumulate(x, axis=-1, dtype=x.dtype)
        if bool_of(self.exclusive):
            first = np.full((*y.shape[:-1], min(1, y.shape[-1])), self.start(x), y.dtype)
            y = np.concatenate([first, y[..., :-1]], -1)
        y = y[..., ::-1] if bool_of(self.reverse) else y
        return (np.moveaxis(y, -1, int_of(self.axis)),)


@op
class CumSumOp(NumpyScan):
    """The sum of the elements up to each one; integers wrap.

    With `exclusive`, of those before it; with `reverse`, from the other end.

    %r = torsh.cumsum %x {axis = 0 : i64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.cumsum"
    NUMPY: ClassVar = np.add

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(0, element),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.add(a[0], b[0]),)


@op
class CumProdOp(NumpyScan):
    """The product of the elements up to each one; integers wrap.

    With `exclusive`, of those before it; with `reverse`, from the other end.

    %r = torsh.cumprod %x {axis = 0 : i64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.cumprod"
    NUMPY: ClassVar = np.multiply

    def start(self, x: Array) -> Any:
        return 1

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(1, element),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.mul(a[0], b[0]),)


@op
class CumMaxOp(NumpyScan):
    """The largest element up to each one; NaN from the first NaN on.

    %r = torsh.cummax %x {axis = 0 : i64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.cummax"
    NUMPY: ClassVar = np.maximum

    def start(self, x: Array) -> Any:
        return lowest(element_type(self.x))

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(lowest(element), element),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.max(a[0], b[0]),)


@op
class CumMinOp(NumpyScan):
    """The smallest element up to each one; NaN from the first NaN on.

    %r = torsh.cummin %x {axis = 0 : i64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.cummin"
    NUMPY: ClassVar = np.minimum

    def start(self, x: Array) -> Any:
        return highest(element_type(self.x))

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(highest(element), element),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.min(a[0], b[0]),)


@op
class LogCumSumExpOp(NumpyScan):
    """log(sum of exp) of the elements up to each one, without overflow.

    C1: floats only.

    %r = torsh.logcumsumexp %x {axis = 0 : i64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.logcumsumexp"
    NUMPY: ClassVar = np.logaddexp

    def infer(self) -> Sequence[AnyTensor]:
        require_inexact(element_type(self.x))
        return super().infer()

    def start(self, x: Array) -> Any:
        return -math.inf

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(-math.inf, element),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        top, low = s.max(a[0], b[0]), s.min(a[0], b[0])
        infinite = s.eq(s.abs(top), s.const(math.inf, s.dtype(top)))
        soft = s.add(top, s.math("log1p", s.math("exp", s.sub(low, top))))
        return (s.select(infinite, top, soft),)


class PositionScan(Scan):
    """The position, along the axis, of the running extremum; the later of equal ones."""

    LARGEST: ClassVar[bool]

    def infer(self) -> Sequence[AnyTensor]:
        super().infer()
        if bool_of(self.exclusive):
            raise ShapeError("C1: no position stands before the first element; unset `exclusive`")
        return (tensor(dtypes.i64, dims_of(self.x)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        if x.ndim == 0:
            return (np.zeros((), np.int64),)
        rows = np.moveaxis(x, int_of(self.axis), -1)
        rows = rows.astype(np.float64) if rows.dtype.kind not in "iub" else rows
        found = np.zeros(rows.shape, np.int64)
        for row in np.ndindex(rows.shape[:-1]):
            steps = range(rows.shape[-1])[:: -1 if bool_of(self.reverse) else 1]
            best = steps[0] if steps else 0
            for n in steps:
                value = rows[(*row, n)]
                beyond = value >= rows[row][best] if self.LARGEST else value <= rows[row][best]
                if value != value or (beyond and rows[row][best] == rows[row][best]):
                    best = n
                found[(*row, n)] = best
        return (np.moveaxis(found, -1, int_of(self.axis)),)

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        limit = lowest(element) if self.LARGEST else highest(element)
        return (s.const(limit, element), s.const(-1, dtypes.i64))

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        beyond = s.ge(b[0], a[0]) if self.LARGEST else s.le(b[0], a[0])
        if is_float(s.dtype(a[0])):
            beyond = s.or_(s.ne(b[0], b[0]), s.and_(s.eq(a[0], a[0]), beyond))
        none = s.lt(a[1], s.const(0, dtypes.i64))
        take = s.and_(s.ge(b[1], s.const(0, dtypes.i64)), s.or_(none, beyond))
        return (s.select(take, b[0], a[0]), s.select(take, b[1], a[1]))

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        """The accumulator of one element at position `index` (i64) of the axis."""
        return (x, index)

    def finish(self, s: Scalar[V], a: tuple[V, ...]) -> V:
        """The result element from an accumulator."""
        return a[1]


@op
class ArgCumMaxOp(PositionScan):
    """Where the largest element up to each one lies along the axis, the last of equals.

    NaN counts as largest, the last one of several.
    C1: not `exclusive`.

    %r = torsh.argcummax %x {axis = 0 : i64} : (tensor<3xf32>) -> tensor<3xi64>
    """

    name = "torsh.argcummax"
    LARGEST: ClassVar = True


@op
class ArgCumMinOp(PositionScan):
    """Where the smallest element up to each one lies along the axis, the last of equals.

    NaN counts as smallest, the last one of several.
    C1: not `exclusive`.

    %r = torsh.argcummin %x {axis = 0 : i64} : (tensor<3xf32>) -> tensor<3xi64>
    """

    name = "torsh.argcummin"
    LARGEST: ClassVar = False
