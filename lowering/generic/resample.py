"""Resampling by element: coordinates and weights are computed where they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute, Operation, SSAValue

from lowering.generic.evaluator import Evaluator, result_element, rule
from lowering.kern.builder import Index, KernBuilder
from torsh_dialect import dtypes
from torsh_dialect.dims import Dim
from torsh_dialect.ops.resize import ResizeOp
from torsh_dialect.types import dims_of


@dataclass(frozen=True)
class Numbers:
    """`resize.Arithmetic` on single numbers."""

    b: KernBuilder

    def constant(self, value: float, element: Attribute, /) -> SSAValue:
        return self.b.const(value, element)

    def like(self, value: float, x: SSAValue, /) -> SSAValue:
        return self.b.const(value, x.type)

    def cast(self, x: SSAValue, element: Attribute, /) -> SSAValue:
        return self.b.cast(x, element)

    def _two(self, kind: str, a: SSAValue, b: SSAValue | float) -> SSAValue:
        return self.b.binary(kind, a, b if isinstance(b, SSAValue) else self.like(b, a))

    def _order(self, kind: str, a: SSAValue, b: SSAValue | float) -> SSAValue:
        return self.b.compare(kind, a, b if isinstance(b, SSAValue) else self.like(b, a))

    def add(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._two("add", a, b)

    def sub(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._two("sub", a, b)

    def mul(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._two("mul", a, b)

    def div(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._two("div", a, b)

    def maximum(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._two("max", a, b)

    def eq(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._order("eq", a, b)

    def lt(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._order("lt", a, b)

    def le(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._order("le", a, b)

    def ge(self, a: SSAValue, b: SSAValue | float, /) -> SSAValue:
        return self._order("ge", a, b)

    def either(self, a: SSAValue, b: SSAValue, /) -> SSAValue:
        return self.b.or_(a, b)

    def where(self, condition: SSAValue, a: SSAValue, b: SSAValue, /) -> SSAValue:
        return self.b.select(condition, a, b)

    def abs(self, x: SSAValue, /) -> SSAValue:
        return self.b.abs(x)

    def floor(self, x: SSAValue, /) -> SSAValue:
        return self.b.floor(x)

    def ceil(self, x: SSAValue, /) -> SSAValue:
        return self.b.ceil(x)

    def dim(self, dim: Dim, /) -> SSAValue:
        return self.b.cast(self.b.index(self.b.dim(dim)), dtypes.i64)

    def inside(self, index: SSAValue, extent: Dim, /) -> SSAValue:
        return self.maximum(self._two("min", index, self.dim(extent - 1)), 0)


@rule(ResizeOp)
def resize(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The nearest element, or the weighted sum of neighbours along one axis."""
    assert isinstance(op, ResizeOp)
    b, c, place = e.builder, Numbers(e.builder), list(index)
    moving = op.moving()
    if op.mode.data == "nearest":
        for axis in moving:
            u, extent = _coordinate(c, op, axis, index[axis])
            place[axis] = b.cast(op.nearest_place(c, u, extent), b.index_type)
        return e.element(op.x, place, where)
    if not moving:  # a version for a symbol that is 1 here, as the axis's extent is
        return e.element(op.x, place, where)
    (axis,) = moving
    u, extent = _coordinate(c, op, axis, index[axis])
    total: SSAValue | None = None
    for at, weight in op.taps(c, u, extent):
        place[axis] = b.cast(at, b.index_type)
        term = b.mul(e.element(op.x, place, where), b.cast(weight, result_element(op)))
        total = term if total is None else b.add(total, term)
    assert total is not None
    return total


def _coordinate(c: Numbers, op: ResizeOp, axis: int, index: Index) -> tuple[SSAValue, Dim]:
    """Where result `index` lies along an axis of the input, and the axis's extent."""
    extent, count = dims_of(op.x)[axis], dims_of(op.y)[axis]
    i = c.cast(c.cast(c.b.index(index), dtypes.i64), dtypes.f64)
    return op.coordinate(c, i, op.scale(c, axis, extent, count), extent, count), extent
