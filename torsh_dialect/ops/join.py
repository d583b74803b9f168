"""Joining, padding and splitting tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, IntegerAttr, StringAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    var_operand_def,
    var_result_def,
)

from torsh_dialect.attributes import Array, extents_of, float_of, int_of, str_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, conflict
from torsh_dialect.errors import InvalidArgumentError, ShapeError
from torsh_dialect.kinds import (
    Builder,
    C,
    Composite,
    Contents,
    I,
    Indices,
    Movement,
    Pick,
    normal_axes,
)
from torsh_dialect.ops.known import moved
from torsh_dialect.ops.movement import SliceOp, fixed, require_length
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, rank_of, tensor


def one_axis(axis: IntegerAttr[Any], rank: int) -> int:
    """A single axis as a number in 0..rank-1; 0 for a scalar."""
    return (*normal_axes([int_of(axis)], rank), 0)[0]


@op
class ConcatOp(Movement):
    """The operands one after the other along `axis`.

    C1: at least one operand. C2: equal element types, ranks and extents of the other axes.

    %r = torsh.concat %a, %b {axis = 0 : i64} : (tensor<2xf32>, tensor<3xf32>) -> tensor<5xf32>
    """

    name = "torsh.concat"
    items = var_operand_def()
    axis = prop_def(IntegerAttr[I64])

    def infer(self) -> Sequence[AnyTensor]:
        if not self.items:
            raise ShapeError("C1: nothing to concatenate")
        first = self.items[0]
        dims = list(dims_of(first))
        if not dims:
            raise ShapeError("C2: scalars have no axis to join along; unsqueeze them")
        axis = one_axis(self.axis, len(dims))
        total: Dim = 0
        for item in self.items:
            _require_alike(first, item, axis)
            total = total + dims_of(item)[axis]
        dims[axis] = total
        return (tensor(element_type(first), dims),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.concatenate(args, one_axis(self.axis, args[0].ndim)),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        axis = one_axis(self.axis, len(index))
        picks: list[Pick[I, C]] = []
        begin: Dim = 0
        for number, item in enumerate(self.items):
            end = begin + dims_of(item)[axis]
            source = list(index)
            source[axis] = ix.sub(index[axis], ix.dim(begin)) if begin != 0 else index[axis]
            last = number + 1 == len(self.items)
            picks.append(Pick(number, source, None if last else ix.lt(index[axis], ix.dim(end))))
            begin = end
        return picks

    def contents(self) -> Contents | None:
        return moved(self)


def _require_alike(a: SSAValue, b: SSAValue, axis: int) -> None:
    if element_type(a) != element_type(b) or rank_of(a) != rank_of(b):
        raise ShapeError(f"C2: {a.type} and {b.type} differ in element type or rank")
    for n, (x, y) in enumerate(zip(dims_of(a), dims_of(b), strict=True)):
        if n != axis and conflict(x, y):
            raise ShapeError(f"C2: {a.type} and {b.type} differ in axis {n}, joined along {axis}")


def number_of(attribute: Attribute) -> float | int:
    """The value of an integer, bool or float attribute."""
    if isinstance(attribute, IntegerAttr):
        return attribute.value.data
    return float_of(attribute)


MODES = ("constant", "reflect", "edge", "wrap", "symmetric")


@op
class PadOp(Movement):
    """`low[i]` elements before and `high[i]` behind each axis i; negative numbers crop.

    New elements are, by `mode`: `constant`, `value` (0 if missing) or the scalar `filler`;
    `edge`, the nearest element; `reflect`, mirrored at the outermost elements; `symmetric`,
    mirrored at the borders; `wrap`, those of the other end.
    C1: one `low` and `high` for each axis. C2: `mode` is one of these. C3: `filler` is a scalar
    of the operand's element type, and given with `constant` only, without `value`.

    %r = torsh.pad %x {low = #torsh.dims<[1]>, high = #torsh.dims<[2]>, mode = "constant", value = 0.0 : f64}
        : (tensor<3xf32>) -> tensor<6xf32>
    """  # noqa: E501

    name = "torsh.pad"
    x = operand_def()
    filler = opt_operand_def()
    low = prop_def(DimsAttr)
    high = prop_def(DimsAttr)
    mode = prop_def(StringAttr)
    value = opt_prop_def(Attribute)

    def infer(self) -> Sequence[AnyTensor]:
        dims, low, high = dims_of(self.x), extents_of(self.low), extents_of(self.high)
        require_length("C1: low", low, len(dims))
        require_length("C1: high", high, len(dims))
        if str_of(self.mode) not in MODES:
            raise InvalidArgumentError(f"C2: mode is {str_of(self.mode)!r}; use one of {MODES}")
        if self.filler is not None:
            scalar = tensor(element_type(self.x), ())
            alone = str_of(self.mode) == "constant" and self.value is None
            kind = (element_type(self.filler), rank_of(self.filler))
            if kind != (element_type(self.x), 0) or not alone:
                raise ShapeError(f"C3: the filler is {self.filler.type}, expected {scalar}")
        return (
            tensor(
                element_type(self.x),
                [d + a + b for d, a, b in zip(dims, low, high, strict=True)],
            ),
        )

    def evaluate(self, *args: Array) -> Sequence[Array]:
        pads = list(zip(fixed(self.low), fixed(self.high), strict=True))
        grown = [(max(before, 0), max(behind, 0)) for before, behind in pads]
        mode: Any = str_of(self.mode)
        if mode == "constant":
            value = args[1] if self.filler is not None else self.fill()
            return (np.pad(_cropped(args[0], pads), grown, mode, constant_values=value),)
        return (_cropped(np.pad(args[0], grown, mode), pads),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        dims, mode = dims_of(self.x), str_of(self.mode)
        low, high = extents_of(self.low), extents_of(self.high)
        source: list[I] = []
        inside: C | None = None
        for position, extent, before, behind in zip(index, dims, low, high, strict=True):
            if before == 0 and behind == 0:
                source.append(position)
                continue
            place = ix.sub(position, ix.dim(before))
            if mode != "constant":
                source.append(_folded(ix, place, extent, mode))
                continue
            source.append(place)
            within = ix.both(ix.ge(place, ix.dim(0)), ix.lt(place, ix.dim(extent)))
            inside = within if inside is None else ix.both(inside, within)
        picks = [Pick(0, source, inside)]
        return picks if self.filler is None else [*picks, Pick(1, ())]

    def fill(self) -> float | int | bool:
        return 0 if self.value is None else number_of(self.value)

    def contents(self) -> Contents | None:
        return moved(self)


def _cropped(x: Array, pads: Sequence[tuple[int, int]]) -> Array:
    cuts = zip(pads, x.shape, strict=True)
    return x[tuple(slice(max(-a, 0), max(size - max(-b, 0), 0)) for (a, b), size in cuts)]


def _folded(ix: Indices[I, C], place: I, extent: Dim, mode: str) -> I:
    """The place inside an axis that a place outside mirrors."""
    size, one = ix.dim(extent), ix.dim(1)
    last = ix.sub(size, one)
    if mode == "edge":
        return ix.min(ix.max(place, ix.dim(0)), last)
    if mode == "wrap":
        return ix.mod(place, size)
    if mode == "symmetric":
        turn = ix.mod(place, ix.dim(extent * 2))
        return ix.min(turn, ix.sub(ix.dim(extent * 2 - 1), turn))
    turn = ix.mod(place, ix.max(ix.dim(extent * 2 - 2), one))
    return ix.min(turn, ix.sub(ix.dim(extent * 2 - 2), turn))


@op
class SplitOp(Composite):
    """Consecutive pieces along `axis`, of `sizes[i]` elements each.

    C1: the sizes add up to the extent of the axis.

    %a, %b = torsh.split %x {axis = 0 : i64, sizes = #torsh.dims<[1, 2]>}
        : (tensor<3xf32>) -> (tensor<1xf32>, tensor<2xf32>)
    """

    name = "torsh.split"
    x = operand_def()
    axis = prop_def(IntegerAttr[I64])
    sizes = prop_def(DimsAttr)
    pieces = var_result_def()

    def infer(self) -> Sequence[AnyTensor]:
        dims = dims_of(self.x)
        axis, sizes = one_axis(self.axis, len(dims)), extents_of(self.sizes)
        total: Dim = 0
        for size in sizes:
            total = total + size
        if conflict(total, dims[axis]):
            raise ShapeError(f"C1: sizes {list(sizes)} do not add up to {dims[axis]}")
        return [
            tensor(element_type(self.x), (*dims[:axis], size, *dims[axis + 1 :])) for size in sizes
        ]

    def evaluate(self, *args: Array) -> Sequence[Array]:
        borders = np.cumsum(fixed(self.sizes))[:-1]
        return np.split(args[0], borders, one_axis(self.axis, args[0].ndim))

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        dims = dims_of(self.x)
        axis = one_axis(self.axis, len(dims))
        pieces: list[SSAValue] = []
        start: Dim = 0
        for size in extents_of(self.sizes):
            pieces.append(cut(b, self.x, axis, start, size))
            start = start + size
        return pieces


def cut(b: Builder, x: SSAValue, axis: int, start: Dim, size: Dim, step: int = 1) -> SSAValue:
    """A slice of one axis, all of the others."""
    dims = dims_of(x)
    starts = [start if n == axis else 0 for n in range(len(dims))]
    sizes = [size if n == axis else d for n, d in enumerate(dims)]
    steps = [step if n == axis else 1 for n in range(len(dims))]
    return b(SliceOp, x, starts=DimsAttr(tuple(starts)), sizes=DimsAttr(tuple(sizes)), steps=steps)
