"""Where the elements of a value stand in the memory of another value: offset and strides."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from xdsl.ir import OpResult, SSAValue

from torsh_dialect.attributes import extents_of, ints_of
from torsh_dialect.dims import Dim, floordiv, product
from torsh_dialect.ops.movement import ReshapeOp, SliceOp, SqueezeOp, TransposeOp, UnsqueezeOp
from torsh_dialect.types import dims_of


@dataclass(frozen=True)
class View:
    """Elements of `base`, in elements from its first one on.

    Attributes:
        base: The value in whose memory they stand.
        offset: Where the element of index 0 stands.
        dims: Extents.
        strides: Distance between neighbours along each axis.
    """

    base: SSAValue
    offset: Dim
    dims: tuple[Dim, ...]
    strides: tuple[Dim, ...]

    def transposed(self, perm: tuple[int, ...]) -> View:
        """With the axes in another order."""
        return View(
            self.base,
            self.offset,
            tuple(self.dims[p] for p in perm),
            tuple(self.strides[p] for p in perm),
        )

    def sliced(self, op: SliceOp) -> View | None:
        """The elements that a slice takes; None where it goes backwards."""
        steps, offset = ints_of(op.steps), self.offset
        if min(steps, default=1) < 0:
            return None
        for start, stride in zip(extents_of(op.starts), self.strides, strict=True):
            offset = offset + start * stride
        strides = tuple(s * step for s, step in zip(self.strides, steps, strict=True))
        return View(self.base, offset, extents_of(op.sizes), strides)

    def reshaped(self, dims: tuple[Dim, ...]) -> View | None:
        """The same elements in row-major order with other extents; None if no strides do that."""
        if 0 in (*self.dims, *dims):
            return None
        old = [(d, s) for d, s in zip(self.dims, self.strides, strict=True) if d != 1]
        strides: list[Dim] = [1] * len(dims)
        position = 0
        for first, last, taken in _groups([d for d, _ in old], dims):
            run = old[position : position + taken]
            position += taken
            if any(outer[1] != inner[0] * inner[1] for outer, inner in pairwise(run)):
                return None
            stride: Dim = run[-1][1] if run else 1
            for axis in reversed(range(first, last)):
                strides[axis] = stride
                stride = stride * dims[axis]
        if position != len(old):
            return None
        return View(self.base, self.offset, dims, tuple(strides))


def _groups(old: list[Dim], new: tuple[Dim, ...]) -> list[tuple[int, int, int]]:
    """Runs of new axes and how many old ones have as many elements: (first, last + 1, old)."""
    found: list[tuple[int, int, int]] = []
    axis = taken = 0
    while axis < len(new):
        first, start = axis, taken
        size: Dim = new[axis]
        axis += 1
        given: Dim = 1
        while size != given:
            if taken < len(old) and _divides(given, size):
                given = given * old[taken]
                taken += 1
            elif axis < len(new) and _divides(size, given):
                size = size * new[axis]
                axis += 1
            else:
                return []
        found.append((first, axis, taken - start))
    return found


def _divides(a: Dim, b: Dim) -> bool:
    return floordiv(b, a) * a == b


def contiguous(value: SSAValue) -> View:
    """A value as a view of itself."""
    dims = dims_of(value)
    strides = tuple(product(dims[axis + 1 :]) for axis in range(len(dims)))
    return View(value, 0, dims, strides)


def view_of(value: SSAValue) -> View:
    """A value as a view of the farthest value in whose memory it can be read."""
    found: View | None = None
    if isinstance(value, OpResult):
        op = value.op
        if isinstance(op, TransposeOp):
            found = view_of(op.x).transposed(ints_of(op.perm))
        elif isinstance(op, SliceOp):
            found = view_of(op.x).sliced(op)
        elif isinstance(op, ReshapeOp | SqueezeOp | UnsqueezeOp):
            found = view_of(op.x).reshaped(dims_of(op.results[0]))
    return contiguous(value) if found is None else found
