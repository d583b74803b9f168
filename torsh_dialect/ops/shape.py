"""Extents as values, and values as extents; filled and counting tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, ArrayAttr, IntegerAttr, StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def, traits_def
from xdsl.traits import MemoryWriteEffect

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of, extents_of, int_of, str_of, strs_of
from torsh_dialect.declare import op
from torsh_dialect.dims import bounds_of, ceildiv, maximum, product, provably_different, symbol
from torsh_dialect.dtypes import dtype_of, is_complex, is_float
from torsh_dialect.errors import ExecutionError, InvalidArgumentError, ShapeError
from torsh_dialect.kinds import (
    C,
    Contents,
    DataDependent,
    Elementwise,
    I,
    Indices,
    Movement,
    Pick,
    TensorOp,
    contents_of,
)
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.ops.join import one_axis
from torsh_dialect.ops.movement import fixed
from torsh_dialect.scalar import Scalar, V
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, rank_of, tensor


class Measure(TensorOp):
    """Tells extents of x: where x is does not matter."""

    x = operand_def()
    y = result_def()

    def same_device(self) -> Sequence[SSAValue]:
        return ()


@op
class ShapeOfOp(Measure):
    """The extents of x.

    %r = torsh.shape_of %x : (tensor<2x3xf32>) -> tensor<2xi64>
    """

    name = "torsh.shape_of"

    def infer(self) -> Sequence[AnyTensor]:
        return (tensor(dtypes.i64, (rank_of(self.x),)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.asarray(args[0].shape, np.int64),)

    def contents(self) -> Contents | None:
        return dims_of(self.x)


@op
class DimOp(Measure):
    """The extent of one axis of x.

    %r = torsh.dim %x {axis = 0 : i64} : (tensor<2x3xf32>) -> tensor<i64>
    """

    name = "torsh.dim"
    axis = prop_def(IntegerAttr[I64])

    def infer(self) -> Sequence[AnyTensor]:
        one_axis(self.axis, rank_of(self.x))
        return (tensor(dtypes.i64, ()),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.asarray(args[0].shape[int_of(self.axis)], np.int64),)

    def contents(self) -> Contents | None:
        return (dims_of(self.x)[int_of(self.axis)],)


@op
class SizeOp(Measure):
    """The number of elements of x.

    %r = torsh.size %x : (tensor<2x3xf32>) -> tensor<i64>
    """

    name = "torsh.size"

    def infer(self) -> Sequence[AnyTensor]:
        return (tensor(dtypes.i64, ()),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.asarray(args[0].size, np.int64),)

    def contents(self) -> Contents | None:
        return (product(dims_of(self.x)),)


@op
class ExtentsOp(TensorOp):
    """Expressions over the function's symbols, as integers; a scalar where `scalar` is set.

    C1: `scalar` asks for exactly one expression.

    %r = torsh.extents {values = #torsh.dims<[2, 3]>} : () -> tensor<2xi64>
    """

    name = "torsh.extents"
    values = prop_def(DimsAttr)
    scalar = opt_prop_def(Attribute)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        count = len(extents_of(self.values))
        if bool_of(self.scalar) and count != 1:
            raise ShapeError(f"C1: a scalar is one value, not {count}")
        return (tensor(dtypes.i64, () if bool_of(self.scalar) else (count,)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        values = np.asarray(fixed(self.values), np.int64)
        return (values.reshape(()) if bool_of(self.scalar) else values,)

    def contents(self) -> Contents | None:
        return extents_of(self.values)


@op
class BindOp(DataDependent):
    """x, whose integers become symbols: from here on `names[i]` is the i-th element of x.

    So a size that depends on data can be an extent. The values must not be negative; `low` and
    `high` say what else is promised, and are checked when the program runs; `condition` says what a
    value outside of them breaks, in the words of the model.
    C1: x holds as many integers as there are names.

    %r = torsh.bind %x {names = ["u0"]} : (tensor<i64>) -> tensor<i64>
    """

    name = "torsh.bind"
    x = operand_def()
    names = prop_def(ArrayAttr[StringAttr])
    low = opt_prop_def(IntegerAttr[I64])
    high = opt_prop_def(IntegerAttr[I64])
    condition = opt_prop_def(StringAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        names = strs_of(self.names)
        if not dtypes.is_integer(element_type(self.x)):
            raise ShapeError(f"C1: {self.x.type} holds no integers")
        if product(dims_of(self.x)) != len(names):
            raise ShapeError(f"C1: {self.x.type} does not hold {len(names)} integers")
        return (tensor(element_type(self.x), dims_of(self.x)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (args[0],)

    def bound_values(self, x: Array) -> Mapping[str, int]:
        """The values of the symbols.

        Raises:
            ExecutionError: One breaks its bounds.
        """
        low = 0 if self.low is None else int_of(self.low)
        high = None if self.high is None else int_of(self.high)
        values = dict(zip(strs_of(self.names), map(int, x.reshape(-1)), strict=True))
        for name, value in values.items():
            if value < low or (high is not None and value > high):
                said = None if self.condition is None else str_of(self.condition)
                raise ExecutionError(said or f"{name} = {value} is outside {low}..{high}")
        return values

    def contents(self) -> Contents | None:
        return tuple(symbol(name) for name in strs_of(self.names))


RELATIONS = ("eq", "ne", "le", "lt", "fits")


@op
class AssumeOp(TensorOp):
    """x, where two expressions stand in a relation (`eq`, `ne`, `le`, `lt`, or `fits`: the left is
    1 or equal); checked at run time.

    C1: `left` and `right` are one expression each. C2: `relation` is one of these.

    %r = torsh.assume %x {left = #torsh.dims<[3]>, relation = "le", right = #torsh.dims<[4]>}
        : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.assume"
    x = operand_def()
    left = prop_def(DimsAttr)
    relation = prop_def(StringAttr)
    right = prop_def(DimsAttr)
    y = result_def()
    traits = traits_def(MemoryWriteEffect())

    def infer(self) -> Sequence[Attribute]:
        if len(extents_of(self.left)) != 1 or len(extents_of(self.right)) != 1:
            raise ShapeError("C1: `left` and `right` are one expression each")
        if str_of(self.relation) not in RELATIONS:
            raise InvalidArgumentError(
                f"C2: relation is {str_of(self.relation)!r}; use one of {RELATIONS}"
            )
        (low, high) = bounds_of(extents_of(self.left)[0] - extents_of(self.right)[0], {})
        (left,), (right,) = extents_of(self.left), extents_of(self.right)
        relation = str_of(self.relation)
        if relation == "fits":
            never = provably_different(left, 1) and provably_different(left, right)
        else:
            never = low == high and low is not None and not _holds(relation, low, 0)
        if never:
            raise ShapeError(f"{self.left} {str_of(self.relation)} {self.right} is never so")
        return (self.x.type,)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        (left,), (right,) = fixed(self.left), fixed(self.right)
        if not _holds(str_of(self.relation), left, right):
            raise ExecutionError(f"expected {left} {str_of(self.relation)} {right}")
        return (args[0],)

    def contents(self) -> Contents | None:
        return contents_of(self.x)


def _holds(relation: str, a: int, b: int) -> bool:
    fits = a in (1, b)
    return {"eq": a == b, "ne": a != b, "le": a <= b, "lt": a < b, "fits": fits}[relation]


@op
class FullOp(Movement):
    """The scalar x in every element of a tensor of extents `target`.

    C1: x is a scalar.

    %r = torsh.full %x {target = #torsh.dims<[2, 3]>} : (tensor<f32>) -> tensor<2x3xf32>
    """

    name = "torsh.full"
    x = operand_def()
    target = prop_def(DimsAttr)

    def infer(self) -> Sequence[AnyTensor]:
        if rank_of(self.x) != 0:
            raise ShapeError(f"C1: {self.x.type} is no scalar")
        return (tensor(element_type(self.x), extents_of(self.target)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.broadcast_to(args[0], fixed(self.target)),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        return (Pick(0, ()),)

    def contents(self) -> Contents | None:
        count, value = product(extents_of(self.target)), contents_of(self.x)
        if value is None or not isinstance(count, int) or count > 1024:
            return None
        return value * count


@op
class IotaOp(TensorOp):
    """0, 1, 2, ... along `axis` of a tensor of extents `target`, the same along the others.

    %r = torsh.iota {target = #torsh.dims<[2, 3]>, axis = 1 : i64, element = i64}
        : () -> tensor<2x3xi64>
    """

    name = "torsh.iota"
    target = prop_def(DimsAttr)
    axis = prop_def(IntegerAttr[I64])
    element = prop_def(Attribute)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        one_axis(self.axis, len(extents_of(self.target)))
        return (tensor(self.element, extents_of(self.target)),)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        target = fixed(self.target)
        return (np.indices(target, np.int64)[one_axis(self.axis, len(target))],)

    def contents(self) -> Contents | None:
        target = extents_of(self.target)
        if len(target) != 1 or not isinstance(target[0], int) or target[0] > 1024:
            return None
        return tuple(range(target[0])) if dtypes.is_integer(self.element) else None


@op
class RampOp(Elementwise):
    """start + step * x: an arithmetic progression, from its positions.

    Computed in f64 for floats (so that the last element is near its mark), exactly for integers.
    C1: x is integer; C2: start and step have one real element type, that of the result.

    %r = torsh.ramp %x, %start, %step : (tensor<3xi64>, tensor<f32>, tensor<f32>) -> tensor<3xf32>
    """

    name = "torsh.ramp"
    x = operand_def()
    start = operand_def()
    step = operand_def()

    def result_element(self, *elements: Attribute) -> Attribute:
        if not dtypes.is_integer(elements[0]):
            raise ShapeError(f"C1: positions are integers, not {elements[0]}")
        if elements[1] != elements[2] or is_complex(elements[1]):
            raise ShapeError(f"C2: start is {elements[1]} and step {elements[2]}")
        return elements[1]

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, start, step = args
        wide = np.float64 if start.dtype.kind == "f" else start.dtype
        return (np.add(start.astype(wide), np.multiply(step.astype(wide), x.astype(wide))),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[1])
        wide = dtypes.f64 if is_float(element) else element
        position, start, step = (a if s.dtype(a) == wide else s.cast(a, wide) for a in x)
        value = s.add(start, s.mul(step, position))
        return value if wide == element else s.cast(value, element)


@op
class RangeOp(DataDependent):
    """start, start + step, ... below `limit` (above it, for a negative step).

    The number of elements is max(ceil((limit - start) / step), 0): known where the operands'
    contents are, else the symbol `length`.
    C1: the operands are scalars of one real element type.

    %r = torsh.range %start, %limit, %step {length = "n"}
        : (tensor<f32>, tensor<f32>, tensor<f32>) -> tensor<?xf32, #torsh.dims<[n]>>
    """

    name = "torsh.range"
    start = operand_def()
    limit = operand_def()
    step = operand_def()
    length = opt_prop_def(StringAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        kinds = {(element_type(operand), rank_of(operand)) for operand in self.operands}
        if len(kinds) != 1 or rank_of(self.start) != 0 or is_complex(element_type(self.start)):
            types = dict.fromkeys(str(operand.type) for operand in self.operands)
            raise ShapeError(f"C1: operands are {', '.join(types)}")
        if self.length is not None:
            return (tensor(element_type(self.start), (symbol(str_of(self.length)),)),)
        known = [contents_of(operand) for operand in self.operands]
        start, limit, step = (v[0] if v else None for v in known)
        if start is None or limit is None or not isinstance(step, int) or step == 0:
            raise ShapeError("the number of elements is not known; name it with `length`")
        return (tensor(element_type(self.start), (maximum(ceildiv(limit - start, step), 0),)),)

    def evaluate(self, *args: Any) -> Sequence[Array]:
        start, limit, step = (a.astype(np.float64) if a.dtype.kind == "f" else a for a in args)
        kept = dtype_of(element_type(self.y)).numpy
        count = max(int(np.ceil((limit - start) / step)), 0)
        return ((start + step * np.arange(count)).astype(kept),)
