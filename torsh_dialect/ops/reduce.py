"""Folding axes away: sums, products, extrema, truth, positions of extrema, norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import BoolAttr, FloatAttr
from xdsl.ir import Attribute
from xdsl.irdl import opt_prop_def, prop_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of, float_of
from torsh_dialect.declare import op
from torsh_dialect.dtypes import dtype_of, is_complex, is_float, is_integer
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Contents, Reduce
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.ops.known import flattened, symbolic
from torsh_dialect.ops.maths import require_inexact
from torsh_dialect.scalar import Scalar, V
from torsh_dialect.types import element_type


def lowest(element: Attribute) -> float | int | bool:
    """What is not above any value of the element type."""
    row = dtype_of(element)
    if row.kind == "float":
        return -math.inf
    return -(2 ** (row.bits - 1)) if row.kind == "int" else 0


def highest(element: Attribute) -> float | int | bool:
    """What is not below any value of the element type."""
    row = dtype_of(element)
    if row.kind == "float":
        return math.inf
    return True if row.kind == "bool" else 2 ** (row.bits - (row.kind == "int")) - 1


class NumpyReduce(Reduce):
    """A reduction whose reference is `numpy` over all reduced axes at once."""

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        """The reduction in numpy; floats arrive as f64."""
        raise NotImplementedError

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = args[0].astype(np.float64) if args[0].dtype.kind == "f" else args[0]
        return (self.numpy(x, self.axis_list(), bool_of(self.keepdims)),)


class Summing(NumpyReduce):
    """A sum of something of each element."""

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(0, element),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.add(a[0], b[0]),)


@op
class SumOp(Summing):
    """The sum over `axes`; integers wrap; 0 for no elements.

    %r = torsh.sum %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.sum"

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.sum(x, axis=axes, keepdims=keepdims, dtype=x.dtype)

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (x,)


@op
class SumSquareOp(Summing):
    """The sum of squares over `axes`.

    %r = torsh.sum_square %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.sum_square"

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.sum(x * x, axis=axes, keepdims=keepdims, dtype=x.dtype)

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (s.mul(x, x),)


@op
class L1NormOp(Summing):
    """The sum of magnitudes over `axes`.

    %r = torsh.l1_norm %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.l1_norm"

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.sum(np.abs(x), axis=axes, keepdims=keepdims, dtype=x.dtype)

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (s.abs(x),)


@op
class L2NormOp(Summing):
    """The square root of the sum of squares over `axes`, computed without scaling.

    C1: floats only.

    %r = torsh.l2_norm %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.l2_norm"

    def result_element(self, element: Attribute) -> Attribute:
        return require_inexact(element)

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.sqrt(np.sum(x * x, axis=axes, keepdims=keepdims))

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (s.mul(x, x),)

    def finish(self, s: Scalar[V], a: tuple[V, ...], count: V) -> V:
        return s.sqrt(a[0])


@op
class LpNormOp(Summing):
    """The p-th root of the sum of p-th powers of magnitudes over `axes`.

    C1: floats only. C2: p is finite and not 0.

    %r = torsh.lp_norm %x {axes = array<i64: 1>, p = 3.0 : f64} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.lp_norm"
    p = prop_def(FloatAttr)

    def result_element(self, element: Attribute) -> Attribute:
        p = float_of(self.p)
        if not math.isfinite(p) or p == 0:
            raise ShapeError(f"C2: p = {p}; use max, min or count_nonzero of the magnitudes")
        return require_inexact(element)

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        p = float_of(self.p)
        return np.sum(np.abs(x) ** p, axis=axes, keepdims=keepdims) ** (1 / p)

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (s.math("pow", s.abs(x), s.const(float_of(self.p), s.dtype(x))),)

    def finish(self, s: Scalar[V], a: tuple[V, ...], count: V) -> V:
        return s.math("pow", a[0], s.const(1 / float_of(self.p), s.dtype(a[0])))


@op
class LogSumOp(Summing):
    """The logarithm of the sum over `axes`.

    C1: floats only.

    %r = torsh.log_sum %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.log_sum"

    def result_element(self, element: Attribute) -> Attribute:
        return require_inexact(element)

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.log(np.sum(x, axis=axes, keepdims=keepdims))

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (x,)

    def finish(self, s: Scalar[V], a: tuple[V, ...], count: V) -> V:
        return s.math("log", a[0])


@op
class MeanOp(Summing):
    """The sum over `axes` divided by the number of elements; NaN for none.

    C1: floats or complex numbers only.

    %r = torsh.mean %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.mean"

    def result_element(self, element: Attribute) -> Attribute:
        return require_inexact(element)

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        count = np.asarray(math.prod(x.shape[a] for a in axes), x.dtype)
        return np.divide(np.sum(x, axis=axes, keepdims=keepdims), count)

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (x,)

    def finish(self, s: Scalar[V], a: tuple[V, ...], count: V) -> V:
        return s.div(a[0], s.cast(count, s.dtype(a[0])))


@op
class ProdOp(NumpyReduce):
    """The product over `axes`; integers wrap; 1 for no elements.

    %r = torsh.prod %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.prod"

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.prod(x, axis=axes, keepdims=keepdims, dtype=x.dtype)

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(1, element),)

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (x,)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.mul(a[0], b[0]),)

    def contents(self) -> Contents | None:
        array = symbolic(self.x)
        if array is None:
            return None
        axes, keep = self.axis_list(), bool_of(self.keepdims)
        return flattened(np.multiply.reduce(array, axis=axes, keepdims=keep))


class Extremum(NumpyReduce):
    """The largest or smallest element; the identity is the type's limit (an infinity)."""

    def result_element(self, element: Attribute) -> Attribute:
        if is_complex(element):
            raise ShapeError(f"{element} has no order")
        return element

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (x,)


@op
class MaxOp(Extremum):
    """The largest element over `axes`; NaN if one is; the type's lowest value for no elements.

    %r = torsh.max %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.max"

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.max(x, axis=axes, keepdims=keepdims, initial=lowest(element_type(self.y)))

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(lowest(element), element),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        choose = s.or_ if s.dtype(a[0]) == dtypes.i1 else s.max
        return (choose(a[0], b[0]),)


@op
class MinOp(Extremum):
    """The smallest element over `axes`; NaN if one is; the type's highest value for no elements.

    %r = torsh.min %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xf32>
    """

    name = "torsh.min"

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.min(x, axis=axes, keepdims=keepdims, initial=highest(element_type(self.y)))

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(highest(element), element),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        choose = s.and_ if s.dtype(a[0]) == dtypes.i1 else s.min
        return (choose(a[0], b[0]),)


class Truth(NumpyReduce):
    """A bool about whether elements differ from 0."""

    def result_element(self, element: Attribute) -> Attribute:
        return dtypes.i1

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (x if s.dtype(x) == dtypes.i1 else s.ne(x, s.const(0, s.dtype(x))),)


@op
class AnyOp(Truth):
    """Whether an element over `axes` differs from 0.

    %r = torsh.any %x {axes = array<i64: 1>} : (tensor<2x3xi1>) -> tensor<2xi1>
    """

    name = "torsh.any"

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.any(x != 0, axis=axes, keepdims=keepdims)

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(False, dtypes.i1),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.or_(a[0], b[0]),)


@op
class AllOp(Truth):
    """Whether all elements over `axes` differ from 0.

    %r = torsh.all %x {axes = array<i64: 1>} : (tensor<2x3xi1>) -> tensor<2xi1>
    """

    name = "torsh.all"

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.all(x != 0, axis=axes, keepdims=keepdims)

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(True, dtypes.i1),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.and_(a[0], b[0]),)


@op
class CountNonzeroOp(NumpyReduce):
    """How many elements over `axes` differ from 0, as i64.

    %r = torsh.count_nonzero %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xi64>
    """

    name = "torsh.count_nonzero"

    def result_element(self, element: Attribute) -> Attribute:
        return dtypes.i64

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.sum(x != 0, axis=axes, keepdims=keepdims, dtype=np.int64)

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(0, dtypes.i64),)

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        zero = s.const(0, s.dtype(x))
        is_set = x if s.dtype(x) == dtypes.i1 else s.ne(x, zero)
        return (s.cast(is_set, dtypes.i64),)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.add(a[0], b[0]),)


@op
class XorSumOp(NumpyReduce):
    """The exclusive or of the bits of all elements over `axes`; 0 for no elements.

    C1: integers.

    %r = torsh.xor_sum %x {axes = array<i64: 1>} : (tensor<2x3xi64>) -> tensor<2xi64>
    """

    name = "torsh.xor_sum"

    def result_element(self, element: Attribute) -> Attribute:
        if not is_integer(element):
            raise ShapeError(f"C1: {element} is no integer type; insert torsh.bitcast")
        return element

    def numpy(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return np.bitwise_xor.reduce(x, axis=axes, keepdims=keepdims)

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        return (s.const(0, element),)

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (x,)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (s.xor(a[0], b[0]),)


class ArgExtremum(Reduce):
    """The flat position of an extremum in the reduced axes, the first (or last) of equals."""

    select_last = opt_prop_def(BoolAttr)
    LARGEST: ClassVar[bool]

    def result_element(self, element: Attribute) -> Attribute:
        if is_complex(element):
            raise ShapeError(f"{element} has no order")
        return dtypes.i64

    def evaluate(self, *args: Array) -> Sequence[Array]:
        axes, x = self.axis_list(), args[0]
        kept = [n for n in range(x.ndim) if n not in axes]
        rows: Any = np.transpose(x, (*kept, *axes)).reshape(
            (*(x.shape[n] for n in kept), math.prod(x.shape[n] for n in axes))
        )
        if rows.dtype.kind not in "fiub" or (rows.dtype.kind == "f" and rows.dtype.itemsize < 4):
            rows = rows.astype(np.float32)
        choose: Any = np.argmax if self.LARGEST else np.argmin
        if bool_of(self.select_last):
            found = rows.shape[-1] - 1 - choose(rows[..., ::-1], axis=-1)
        else:
            found = choose(rows, axis=-1)
        shape = tuple(1 if n in axes else d for n, d in enumerate(x.shape))
        result = np.asarray(found, np.int64).reshape(shape)
        return (result if bool_of(self.keepdims) else np.squeeze(result, axes),)

    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        limit = lowest(element) if self.LARGEST else highest(element)
        return (s.const(limit, element), s.const(-1, dtypes.i64))

    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        return (x, index)

    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        none = s.lt(a[1], s.const(0, dtypes.i64))
        some = s.ge(b[1], s.const(0, dtypes.i64))
        take = s.and_(some, s.or_(none, self._takes_second(s, a, b)))
        return (s.select(take, b[0], a[0]), s.select(take, b[1], a[1]))

    def _takes_second(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> V:
        """Whether `b` wins: beyond `a`, or as far and of the wanted index; NaN is the extremum.

        Indices are compared, so that accumulators may be combined in any order.
        """
        beyond = s.gt(b[0], a[0]) if self.LARGEST else s.lt(b[0], a[0])
        nearer = s.gt(b[1], a[1]) if bool_of(self.select_last) else s.lt(b[1], a[1])
        tie = s.eq(a[0], b[0])
        if is_float(s.dtype(a[0])):
            a_missing, b_missing = s.ne(a[0], a[0]), s.ne(b[0], b[0])
            beyond = s.or_(beyond, s.and_(b_missing, s.not_(a_missing)))
            tie = s.or_(tie, s.and_(a_missing, b_missing))
        return s.or_(beyond, s.and_(tie, nearer))

    def finish(self, s: Scalar[V], a: tuple[V, ...], count: V) -> V:
        return a[1]


@op
class ArgMaxOp(ArgExtremum):
    """The flat position, in the axes `axes`, of the largest element; NaN counts as largest.

    Of equal elements the first, or the last where `select_last` is set.

    %r = torsh.argmax %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xi64>
    """

    name = "torsh.argmax"
    LARGEST: ClassVar = True


@op
class ArgMinOp(ArgExtremum):
    """The flat position, in the axes `axes`, of the smallest element; NaN counts as smallest.

    Of equal elements the first, or the last where `select_last` is set.

    %r = torsh.argmin %x {axes = array<i64: 1>} : (tensor<2x3xf32>) -> tensor<2xi64>
    """

    name = "torsh.argmin"
    LARGEST: ClassVar = False
