"""Short names for building basic ops: the vocabulary in which composites expand.

A number among the operands stands for a constant of the other operand's element type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute, Region, SSAValue

from torsh_dialect.attributes import Array, dims_attribute
from torsh_dialect.builder import Fill, build_region
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import dtype_of, f32, i64
from torsh_dialect.kinds import Builder, TensorOp
from torsh_dialect.ops.activation import SigmoidOp
from torsh_dialect.ops.compare import EqualOp, GreaterEqualOp, GreaterOp, LessEqualOp, LessOp
from torsh_dialect.ops.contract import LinearOp, MatMulOp
from torsh_dialect.ops.elementwise import (
    AbsOp,
    AddOp,
    DivOp,
    FloorDivOp,
    MulOp,
    NegOp,
    PowOp,
    RemainderOp,
    SubOp,
)
from torsh_dialect.ops.gather import GatherElementsOp, GatherOp
from torsh_dialect.ops.join import ConcatOp, PadOp
from torsh_dialect.ops.logic import LogicalAndOp, LogicalOrOp
from torsh_dialect.ops.maths import ExpOp, LogOp, SqrtOp, TanhOp
from torsh_dialect.ops.movement import (
    BroadcastToOp,
    FlipOp,
    ReshapeOp,
    SliceOp,
    TransposeOp,
)
from torsh_dialect.ops.reduce import ArgMaxOp, MaxOp, MeanOp, MinOp, SumOp
from torsh_dialect.ops.rounding import CeilOp, FloorOp, RoundOp
from torsh_dialect.ops.select import CastOp, MaximumOp, MinimumOp, WhereOp
from torsh_dialect.ops.shape import ExtentsOp, IotaOp
from torsh_dialect.types import dims_of, element_type, rank_of

Number = SSAValue | float


@dataclass
class Compose:
    """Builds basic ops through a builder.

    Attributes:
        b: Where ops go.
    """

    b: Builder

    # -- constants and element types

    def constant(self, value: float | Array, element: Attribute) -> SSAValue:
        """A constant of the given element type."""
        return self.b.constant(value, element)

    def like(self, value: float, x: SSAValue) -> SSAValue:
        """A scalar of x's element type."""
        return self.b.constant(value, element_type(x))

    def cast(self, x: SSAValue, element: Attribute, *, saturate: bool = False) -> SSAValue:
        """X as another element type; x itself if it has it."""
        if element_type(x) == element:
            return x
        return self.b(CastOp, x, to=element, saturate=saturate or None)

    def cast_like(self, x: SSAValue, other: SSAValue) -> SSAValue:
        """X as the element type of `other`."""
        return self.cast(x, element_type(other))

    def wide(self, x: SSAValue) -> SSAValue:
        """X in the precision to compute in: f32 for smaller floats, else its own."""
        row = dtype_of(element_type(x))
        return self.cast(x, f32) if row.kind == "float" and row.bits < 32 else x

    def narrow(self, x: SSAValue, like: SSAValue) -> SSAValue:
        """The inverse of `wide`."""
        return self.cast_like(x, like)

    # -- element-wise

    def _two(self, cls: type[TensorOp], a: SSAValue, b: Number) -> SSAValue:
        return self.b(cls, a, b if isinstance(b, SSAValue) else self.like(b, a))

    def add(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(AddOp, a, b)

    def sub(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(SubOp, a, b)

    def mul(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(MulOp, a, b)

    def div(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(DivOp, a, b)

    def floordiv(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(FloorDivOp, a, b)

    def remainder(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(RemainderOp, a, b)

    def pow(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(PowOp, a, b)

    def minimum(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(MinimumOp, a, b)

    def maximum(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(MaximumOp, a, b)

    def eq(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(EqualOp, a, b)

    def lt(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(LessOp, a, b)

    def le(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(LessEqualOp, a, b)

    def gt(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(GreaterOp, a, b)

    def ge(self, a: SSAValue, b: Number) -> SSAValue:
        return self._two(GreaterEqualOp, a, b)

    def both(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.b(LogicalAndOp, a, b)

    def either(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.b(LogicalOrOp, a, b)

    def where(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.b(WhereOp, condition, a, b)

    def neg(self, x: SSAValue) -> SSAValue:
        return self.b(NegOp, x)

    def abs(self, x: SSAValue) -> SSAValue:
        return self.b(AbsOp, x)

    def exp(self, x: SSAValue) -> SSAValue:
        return self.b(ExpOp, x)

    def log(self, x: SSAValue) -> SSAValue:
        return self.b(LogOp, x)

    def sqrt(self, x: SSAValue) -> SSAValue:
        return self.b(SqrtOp, x)

    def tanh(self, x: SSAValue) -> SSAValue:
        return self.b(TanhOp, x)

    def sigmoid(self, x: SSAValue) -> SSAValue:
        return self.b(SigmoidOp, x)

    def floor(self, x: SSAValue) -> SSAValue:
        return self.b(FloorOp, x)

    def ceil(self, x: SSAValue) -> SSAValue:
        return self.b(CeilOp, x)

    def round(self, x: SSAValue) -> SSAValue:
        """The nearest whole numbers; ties go to even ones."""
        return self.b(RoundOp, x)

    def affine(self, y: SSAValue, scale: SSAValue | None, bias: SSAValue | None) -> SSAValue:
        """Y * scale + bias, where they are given."""
        y = y if scale is None else self.mul(y, self.cast_like(scale, y))
        return y if bias is None else self.add(y, self.cast_like(bias, y))

    # -- reductions

    def sum(self, x: SSAValue, axes: Sequence[int], *, keep: bool = False) -> SSAValue:
        return self.b(SumOp, x, axes=list(axes), keepdims=keep)

    def mean(self, x: SSAValue, axes: Sequence[int], *, keep: bool = False) -> SSAValue:
        return self.b(MeanOp, x, axes=list(axes), keepdims=keep)

    def max(self, x: SSAValue, axes: Sequence[int], *, keep: bool = False) -> SSAValue:
        return self.b(MaxOp, x, axes=list(axes), keepdims=keep)

    def min(self, x: SSAValue, axes: Sequence[int], *, keep: bool = False) -> SSAValue:
        return self.b(MinOp, x, axes=list(axes), keepdims=keep)

    def argmax(self, x: SSAValue, axis: int) -> SSAValue:
        """The position of the first largest element; the axis is kept."""
        return self.b(ArgMaxOp, x, axes=[axis], keepdims=True)

    def normalised(self, x: SSAValue, axes: Sequence[int], epsilon: float) -> SSAValue:
        """(x - mean) / sqrt(variance + epsilon) over `axes`."""
        centred = self.sub(x, self.mean(x, axes, keep=True))
        variance = self.mean(self.mul(centred, centred), axes, keep=True)
        return self.div(centred, self.sqrt(self.add(variance, epsilon)))

    # -- movement

    def reshape(self, x: SSAValue, dims: Sequence[Dim]) -> SSAValue:
        if dims_of(x) == tuple(dims):
            return x
        return self.b(ReshapeOp, x, target=dims_attribute(dims))

    def transpose(self, x: SSAValue, perm: Sequence[int]) -> SSAValue:
        return self.b(TransposeOp, x, perm=list(perm))

    def broadcast(self, x: SSAValue, dims: Sequence[Dim]) -> SSAValue:
        if dims_of(x) == tuple(dims):
            return x
        return self.b(BroadcastToOp, x, target=dims_attribute(dims))

    def slice(self, x: SSAValue, axis: int, start: Dim, size: Dim) -> SSAValue:
        """`size` elements from `start` on along `axis`."""
        dims = dims_of(x)
        if start == 0 and size == dims[axis]:
            return x
        starts = [start if n == axis else 0 for n in range(len(dims))]
        sizes = [size if n == axis else d for n, d in enumerate(dims)]
        return self.b(
            SliceOp,
            x,
            starts=dims_attribute(starts),
            sizes=dims_attribute(sizes),
            steps=[1] * len(dims),
        )

    def pad(self, x: SSAValue, axis: int, before: Dim, behind: Dim) -> SSAValue:
        """Zeros around x along one axis."""
        low = [before if n == axis else 0 for n in range(rank_of(x))]
        high = [behind if n == axis else 0 for n in range(rank_of(x))]
        return self.b(PadOp, x, low=dims_attribute(low), high=dims_attribute(high), mode="constant")

    def concat(self, items: Sequence[SSAValue], axis: int) -> SSAValue:
        return items[0] if len(items) == 1 else self.b(ConcatOp, list(items), axis=axis)

    def flip(self, x: SSAValue, axis: int) -> SSAValue:
        return self.b(FlipOp, x, axes=[axis])

    def repeat(self, x: SSAValue, count: int, axis: int) -> SSAValue:
        """Each element `count` times in a row along `axis`."""
        dims = dims_of(x)
        split = self.reshape(x, (*dims[: axis + 1], 1, *dims[axis + 1 :]))
        spread = self.broadcast(split, (*dims[: axis + 1], count, *dims[axis + 1 :]))
        return self.reshape(spread, (*dims[:axis], dims[axis] * count, *dims[axis + 1 :]))

    def per_channel(self, x: SSAValue, rank: int, axis: int = 1) -> SSAValue:
        """A vector as a tensor that broadcasts along `axis` of `rank` axes."""
        return self.reshape(x, [dims_of(x)[0] if n == axis else 1 for n in range(rank)])

    # -- positions

    def dim(self, dim: Dim) -> SSAValue:
        """An extent as an i64 scalar."""
        return self.b(ExtentsOp, values=dims_attribute([dim]), scalar=True)

    def iota(self, count: Dim) -> SSAValue:
        """0, 1, ..., count - 1 as i64."""
        return self.b(IotaOp, target=dims_attribute([count]), axis=0, element=i64)

    def positions(self, x: SSAValue, axis: int) -> SSAValue:
        """0, 1, ... along an axis of x, as i64 that broadcasts to x."""
        return self.per_channel(self.iota(dims_of(x)[axis]), rank_of(x), axis)

    def inside(self, index: SSAValue, extent: Dim) -> SSAValue:
        """i64 positions moved into 0..extent-1."""
        last = self.dim(extent - 1)
        return self.maximum(self.minimum(index, last), 0)

    def take(self, x: SSAValue, index: SSAValue, axis: int) -> SSAValue:
        """The slices of x along `axis` at the positions `index`, whose axes stand there."""
        return self.b(GatherOp, x, index, axis=axis)

    def take_along(self, x: SSAValue, index: SSAValue, axis: int) -> SSAValue:
        """The element of each result position at its own position `index` along `axis`."""
        return self.b(GatherElementsOp, x, index, axis=axis)

    # -- products

    def matmul(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.b(MatMulOp, a, b)

    def linear(self, x: SSAValue, w: SSAValue, bias: SSAValue | None) -> SSAValue:
        return self.b(LinearOp, x, w, bias)

    def contract_axis(self, x: SSAValue, w: SSAValue, axis: int) -> SSAValue:
        """X with its `axis` of n elements replaced by w @ it, where w is [m, n]."""
        last = rank_of(x) - 1
        perm = [n for n in range(last + 1) if n != axis] + [axis]
        back = [perm.index(n) for n in range(last + 1)]
        moved = x if axis == last else self.transpose(x, perm)
        y = self.linear(moved, w, None)
        return y if axis == last else self.transpose(y, back)

    # -- control

    def region(self, types: Sequence[Attribute], fill: Fill) -> Region:
        """A region with arguments of `types` that yields what `fill` gives."""
        return build_region(types, fill, getattr(self.b, "location", None))

    def loop(
        self, cls: type[TensorOp], trips: SSAValue, condition: SSAValue,
        carried: Sequence[SSAValue], region: Region, *, extent: Dim | None, scans: int,
    ) -> Sequence[SSAValue]:  # fmt: skip
        """A `torsh.loop` with a known trip count whose condition always holds."""
        return self.b.all(
            cls, trips, condition, list(carried), regions=[region], scans=scans,
            extent=None if extent is None else dims_attribute([extent]),
        )  # fmt: skip
