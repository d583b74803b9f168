"""Moving elements within one tensor: reshape, transpose, broadcast, slice, flip, tile, roll."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, DenseArrayBase
from xdsl.ir import Attribute
from xdsl.irdl import operand_def, prop_def

from torsh_dialect.attributes import Array, extents_of, ints_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import Dim, conflict, product, provably_different
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import C, Contents, I, Indices, Movement, Pick, contents_of, normal_axes
from torsh_dialect.ops.known import moved
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, rank_of, tensor


def fixed(attribute: Attribute) -> tuple[int, ...]:
    """Extents that are integers, as they are when an op is evaluated.

    Raises:
        ShapeError: One is symbolic.
    """
    extents = extents_of(attribute)
    whole = tuple(d for d in extents if isinstance(d, int))
    if len(whole) != len(extents):
        raise ShapeError(f"the extents {list(extents)} have no numbers yet")
    return whole


def require_length(what: str, values: Sequence[object], rank: int) -> None:
    """Refuse a list that has not one entry for each axis.

    Raises:
        ShapeError: Its length differs from `rank`.
    """
    if len(values) != rank:
        raise ShapeError(f"{what} has {len(values)} entries for a tensor of rank {rank}")


def flat_index(ix: Indices[I, C], index: Sequence[I], dims: Sequence[Dim]) -> I:
    """The row-major position of `index` in a tensor of extents `dims`."""
    flat = ix.dim(0)
    for position, extent in zip(index, dims, strict=True):
        flat = ix.add(ix.mul(flat, ix.dim(extent)), position)
    return flat


def unflat_index(ix: Indices[I, C], flat: I, dims: Sequence[Dim]) -> Sequence[I]:
    """The index whose row-major position is `flat`."""
    index: list[I] = []
    for axis in range(len(dims)):
        inner = ix.dim(product(dims[axis + 1 :]))
        position = ix.floordiv(flat, inner) if axis + 1 < len(dims) else flat
        index.append(ix.mod(position, ix.dim(dims[axis])) if axis else position)
    return index


@op
class ReshapeOp(Movement):
    """The same elements in row-major order with other extents.

    C1: the number of elements stays.

    %r = torsh.reshape %x {target = #torsh.dims<[3, 2]>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
    """

    name = "torsh.reshape"
    x = operand_def()
    target = prop_def(DimsAttr)

    def infer(self) -> Sequence[AnyTensor]:
        target = extents_of(self.target)
        before, after = product(dims_of(self.x)), product(target)
        if conflict(before, after):
            raise ShapeError(
                f"C1: {list(dims_of(self.x))} has {before} elements, {list(target)} has {after}"
            )
        return (tensor(element_type(self.x), target),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (args[0].reshape(fixed(self.target)),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        flat = flat_index(ix, index, extents_of(self.target))
        return (Pick(0, unflat_index(ix, flat, dims_of(self.x))),)

    def is_view(self) -> bool:
        return True

    def contents(self) -> Contents | None:
        return contents_of(self.x)


@op
class SqueezeOp(Movement):
    """Without the axes `axes`, whose extents are 1.

    C1: every axis in `axes` may have extent 1.

    %r = torsh.squeeze %x {axes = array<i64: 0>} : (tensor<1x3xf32>) -> tensor<3xf32>
    """

    name = "torsh.squeeze"
    x = operand_def()
    axes = prop_def(DenseArrayBase[I64])

    def axis_list(self) -> tuple[int, ...]:
        """The axes that go, normalised."""
        return normal_axes(ints_of(self.axes), rank_of(self.x))

    def infer(self) -> Sequence[AnyTensor]:
        dims, axes = dims_of(self.x), self.axis_list()
        if wrong := [a for a in axes if conflict(dims[a], 1)]:
            raise ShapeError(f"C1: axes {wrong} of {list(dims)} do not have extent 1")
        return (tensor(element_type(self.x), [d for n, d in enumerate(dims) if n not in axes]),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.squeeze(args[0], self.axis_list()),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        axes, rest = self.axis_list(), iter(index)
        source = [ix.dim(0) if n in axes else next(rest) for n in range(rank_of(self.x))]
        return (Pick(0, source),)

    def is_view(self) -> bool:
        return True

    def contents(self) -> Contents | None:
        return contents_of(self.x)


@op
class UnsqueezeOp(Movement):
    """With new axes of extent 1 at the positions `axes` of the result.

    %r = torsh.unsqueeze %x {axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<1x3xf32>
    """

    name = "torsh.unsqueeze"
    x = operand_def()
    axes = prop_def(DenseArrayBase[I64])

    def axis_list(self) -> tuple[int, ...]:
        """The positions of the new axes in the result, normalised."""
        axes = ints_of(self.axes)
        return normal_axes(axes, rank_of(self.x) + len(axes))

    def infer(self) -> Sequence[AnyTensor]:
        axes, rest = frozenset(self.axis_list()), iter(dims_of(self.x))
        rank = rank_of(self.x) + len(axes)
        return (
            tensor(element_type(self.x), [1 if n in axes else next(rest) for n in range(rank)]),
        )

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.expand_dims(args[0], self.axis_list()),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        axes = self.axis_list()
        return (Pick(0, [position for n, position in enumerate(index) if n not in axes]),)

    def is_view(self) -> bool:
        return True

    def contents(self) -> Contents | None:
        return contents_of(self.x)


@op
class TransposeOp(Movement):
    """Axes in another order: axis i of the result is axis perm[i] of the operand.

    C1: `perm` is a permutation of the axes.

    %r = torsh.transpose %x {perm = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
    """

    name = "torsh.transpose"
    x = operand_def()
    perm = prop_def(DenseArrayBase[I64])

    def infer(self) -> Sequence[AnyTensor]:
        perm, dims = ints_of(self.perm), dims_of(self.x)
        if sorted(perm) != list(range(len(dims))):
            raise ShapeError(f"C1: {list(perm)} is no permutation of {len(dims)} axes")
        return (tensor(element_type(self.x), [dims[p] for p in perm]),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.transpose(args[0], ints_of(self.perm)),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        perm = ints_of(self.perm)
        return (Pick(0, [index[perm.index(axis)] for axis in range(len(perm))]),)

    def is_view(self) -> bool:
        perm, dims = ints_of(self.perm), dims_of(self.x)
        kept = [p for p in perm if dims[p] != 1]
        return kept == sorted(kept)

    def contents(self) -> Contents | None:
        return moved(self)


@op
class BroadcastToOp(Movement):
    """Repeated along axes of extent 1, and along new leading axes, to the extents `target`.

    C1: each axis of the operand has extent 1 or that of `target`.

    %r = torsh.broadcast_to %x {target = #torsh.dims<[2, 3]>} : (tensor<3xf32>) -> tensor<2x3xf32>
    """

    name = "torsh.broadcast_to"
    x = operand_def()
    target = prop_def(DimsAttr)

    def infer(self) -> Sequence[AnyTensor]:
        target, dims = extents_of(self.target), dims_of(self.x)
        tail = target[len(target) - len(dims) :]
        fits = len(dims) <= len(target) and all(
            not provably_different(d, 1) or not provably_different(d, t)
            for d, t in zip(dims, tail, strict=True)
        )
        if not fits:
            raise ShapeError(f"C1: {list(dims)} does not broadcast to {list(target)}")
        return (tensor(element_type(self.x), target),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.broadcast_to(args[0], fixed(self.target)),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        dims, target = dims_of(self.x), extents_of(self.target)
        skipped = len(target) - len(dims)
        axes = zip(dims, target[skipped:], index[skipped:], strict=True)
        source: list[I] = []
        for extent, wanted, position in axes:
            whole = extent == wanted or (isinstance(extent, int) and extent != 1)
            last = ix.sub(ix.dim(extent), ix.dim(1))
            source.append(position if whole else ix.min(position, last))
        return (Pick(0, source),)

    def contents(self) -> Contents | None:
        return moved(self)


@op
class SliceOp(Movement):
    """`sizes[i]` elements of each axis i from `starts[i]` on, every `steps[i]`-th.

    A negative step goes backwards from the start. All elements named lie in the operand.
    C1: one start, size and step for each axis; no step is 0.
    C2: no element is provably outside.

    %r = torsh.slice %x {starts = #torsh.dims<[1]>, sizes = #torsh.dims<[2]>, steps = array<i64: 2>}
        : (tensor<5xf32>) -> tensor<2xf32>
    """

    name = "torsh.slice"
    x = operand_def()
    starts = prop_def(DimsAttr)
    sizes = prop_def(DimsAttr)
    steps = prop_def(DenseArrayBase[I64])

    def infer(self) -> Sequence[AnyTensor]:
        dims = dims_of(self.x)
        starts, sizes, steps = extents_of(self.starts), extents_of(self.sizes), ints_of(self.steps)
        for what, values in (("starts", starts), ("sizes", sizes), ("steps", steps)):
            require_length(f"C1: {what}", values, len(dims))
        if 0 in steps:
            raise ShapeError(f"C1: a step of {list(steps)} is 0")
        for axis, (extent, start, size, step) in enumerate(
            zip(dims, starts, sizes, steps, strict=True)
        ):
            _require_inside(axis, extent, start, size, step)
        return (tensor(element_type(self.x), sizes),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = args[0]
        rows = zip(fixed(self.starts), fixed(self.sizes), ints_of(self.steps), strict=True)
        for axis, (start, size, step) in enumerate(rows):
            x = np.take(x, [start + step * n for n in range(size)], axis)
        return (x,)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        rows = zip(index, extents_of(self.starts), ints_of(self.steps), strict=True)
        source: list[I] = []
        for position, start, step in rows:
            away = position if abs(step) == 1 else ix.mul(position, ix.dim(abs(step)))
            if step < 0:
                source.append(ix.sub(ix.dim(start), away))
            else:
                source.append(away if start == 0 else ix.add(away, ix.dim(start)))
        return (Pick(0, source),)

    def is_view(self) -> bool:
        dims, sizes = dims_of(self.x), extents_of(self.sizes)
        cut = [axis for axis, (d, s) in enumerate(zip(dims, sizes, strict=True)) if d != s]
        if any(step != 1 for step in ints_of(self.steps)):
            return False
        return not cut or all(s == 1 for s in sizes[: cut[-1]])

    def contents(self) -> Contents | None:
        return moved(self)


def _require_inside(axis: int, extent: Dim, start: Dim, size: Dim, step: int) -> None:
    if not all(isinstance(v, int) for v in (extent, start, size)) or size == 0:
        return
    last = start + step * (size - 1)
    assert isinstance(start, int)
    assert isinstance(last, int)
    assert isinstance(extent, int)
    if not (0 <= start < extent and 0 <= last < extent):
        raise ShapeError(f"C2: elements {start}..{last} of axis {axis}, whose extent is {extent}")


@op
class FlipOp(Movement):
    """Backwards along `axes`.

    %r = torsh.flip %x {axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.flip"
    x = operand_def()
    axes = prop_def(DenseArrayBase[I64])
    SPELLED: ClassVar = Spelled(torch=("aten.flip.default",))

    def infer(self) -> Sequence[AnyTensor]:
        normal_axes(ints_of(self.axes), rank_of(self.x))
        return (tensor(element_type(self.x), dims_of(self.x)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.flip(args[0], normal_axes(ints_of(self.axes), args[0].ndim)),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        axes = normal_axes(ints_of(self.axes), rank_of(self.x))
        dims = dims_of(self.x)
        source = [
            ix.sub(ix.dim(dims[n] - 1), position) if n in axes else position
            for n, position in enumerate(index)
        ]
        return (Pick(0, source),)

    def contents(self) -> Contents | None:
        return moved(self)


@op
class TileOp(Movement):
    """The whole tensor `repeats[i]` times along each axis i.

    C1: one repeat for each axis.

    %r = torsh.tile %x {repeats = #torsh.dims<[2]>} : (tensor<3xf32>) -> tensor<6xf32>
    """

    name = "torsh.tile"
    x = operand_def()
    repeats = prop_def(DimsAttr)

    def infer(self) -> Sequence[AnyTensor]:
        dims, repeats = dims_of(self.x), extents_of(self.repeats)
        require_length("C1: repeats", repeats, len(dims))
        return (tensor(element_type(self.x), [d * r for d, r in zip(dims, repeats, strict=True)]),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.tile(args[0], fixed(self.repeats)),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        rows = zip(index, dims_of(self.x), extents_of(self.repeats), strict=True)
        source = [i if times == 1 else ix.mod(i, ix.dim(extent)) for i, extent, times in rows]
        return (Pick(0, source),)

    def contents(self) -> Contents | None:
        return moved(self)


@op
class RollOp(Movement):
    """Shifted by `shifts[i]` places along `axes[i]`, what leaves at the end enters at the front.

    C1: as many shifts as axes.

    %r = torsh.roll %x {shifts = array<i64: 1>, axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<3xf32>
    """  # noqa: E501

    name = "torsh.roll"
    x = operand_def()
    shifts = prop_def(Attribute)
    axes = prop_def(DenseArrayBase[I64])

    def infer(self) -> Sequence[AnyTensor]:
        shifts, axes = extents_of(self.shifts), ints_of(self.axes)
        if len(shifts) != len(axes):
            raise ShapeError(f"C1: {len(shifts)} shifts for {len(axes)} axes")
        for axis in axes:
            normal_axes([axis], rank_of(self.x))
        return (tensor(element_type(self.x), dims_of(self.x)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.roll(args[0], fixed(self.shifts), ints_of(self.axes)),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        dims, source = dims_of(self.x), list(index)
        for shift, axis in zip(extents_of(self.shifts), ints_of(self.axes), strict=True):
            extent = ix.dim(dims[axis])
            source[axis] = ix.mod(ix.sub(source[axis], ix.dim(shift)), extent)
        return (Pick(0, source),)
