"""Rearranging blocks between channels and space, and patches to columns and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as every
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, DenseArrayBase, IntegerAttr
from xdsl.ir import SSAValue
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect.attributes import Array, bool_of, dims_attribute, extents_of, int_of, ints_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, conflict, floordiv, product
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, C, Composite, I, Indices, Movement, Pick
from torsh_dialect.ops.elementwise import AddOp
from torsh_dialect.ops.join import PadOp, cut
from torsh_dialect.ops.movement import ReshapeOp, TransposeOp, fixed
from torsh_dialect.types import AnyTensor, DimsAttr, dims_of, element_type, rank_of, tensor


@op
class DepthToSpaceOp(Composite):
    """Channels into space: c * b * b channels become blocks of b x b in the last two axes.

    Channel order: block row, block column, channel; with `channels_first`: channel, block row,
    block column (torch's pixel_shuffle).
    C1: at least three axes; b * b divides the channels, the third axis from the end.

    %r = torsh.depth_to_space %x {block = 2 : i64} : (tensor<1x4x2x3xf32>) -> tensor<1x1x4x6xf32>
    """

    name = "torsh.depth_to_space"
    x = operand_def()
    block = prop_def(IntegerAttr[I64])
    channels_first = opt_prop_def(BoolAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        dims, b = dims_of(self.x), int_of(self.block)
        if len(dims) < 3 or b < 1 or (isinstance(dims[-3], int) and dims[-3] % (b * b)):
            raise ShapeError(f"C1: blocks of {b} x {b} out of {self.x.type}")
        *outer, c, h, w = dims
        return (tensor(element_type(self.x), (*outer, floordiv(c, b * b), h * b, w * b)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, b = args[0], int_of(self.block)
        *outer, c, h, w = x.shape
        flat = x.reshape(-1, c, h, w)
        result = np.empty((flat.shape[0], c // (b * b), h * b, w * b), x.dtype)
        for i, j, k in every(range(b), range(b), range(c // (b * b))):
            source = (
                (k * b + i) * b + j
                if bool_of(self.channels_first)
                else (i * b + j) * (c // (b * b)) + k
            )
            result[:, k, i::b, j::b] = flat[:, source]
        return (result.reshape(*outer, c // (b * b), h * b, w * b),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        *outer, c, h, w = dims_of(self.x)
        size, n = int_of(self.block), len(outer)
        depth = floordiv(c, size * size)
        first = bool_of(self.channels_first)
        split = (depth, size, size) if first else (size, size, depth)
        x = b(ReshapeOp, self.x, target=dims_attribute((*outer, *split, h, w)))
        channel, row, column = (n, n + 1, n + 2) if first else (n + 2, n, n + 1)
        perm = [*range(n), channel, n + 3, row, n + 4, column]
        x = b(TransposeOp, x, perm=perm)
        return (b(ReshapeOp, x, target=dims_attribute((*outer, depth, h * size, w * size))),)


@op
class SpaceToDepthOp(Composite):
    """The inverse of `torsh.depth_to_space`: blocks of the last two axes into channels.

    C1: at least three axes; b divides the last two.

    %r = torsh.space_to_depth %x {block = 2 : i64} : (tensor<1x1x4x6xf32>) -> tensor<1x4x2x3xf32>
    """

    name = "torsh.space_to_depth"
    x = operand_def()
    block = prop_def(IntegerAttr[I64])
    channels_first = opt_prop_def(BoolAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        dims, b = dims_of(self.x), int_of(self.block)
        uneven = any(isinstance(d, int) and d % max(b, 1) for d in dims[-2:])
        if len(dims) < 3 or b < 1 or uneven:
            raise ShapeError(f"C1: blocks of {b} x {b} out of {self.x.type}")
        *outer, c, h, w = dims
        return (tensor(element_type(self.x), (*outer, c * b * b, floordiv(h, b), floordiv(w, b))),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, b = args[0], int_of(self.block)
        *outer, c, h, w = x.shape
        flat = x.reshape(-1, c, h, w)
        result = np.empty((flat.shape[0], c * b * b, h // b, w // b), x.dtype)
        for i, j, k in every(range(b), range(b), range(c)):
            first = bool_of(self.channels_first)
            target = (k * b + i) * b + j if first else (i * b + j) * c + k
            result[:, target] = flat[:, k, i::b, j::b]
        return (result.reshape(*outer, c * b * b, h // b, w // b),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        *outer, c, h, w = dims_of(self.x)
        size, n = int_of(self.block), len(outer)
        rows, columns = floordiv(h, size), floordiv(w, size)
        x = b(ReshapeOp, self.x, target=dims_attribute((*outer, c, rows, size, columns, size)))
        inner = [n, n + 2, n + 4] if bool_of(self.channels_first) else [n + 2, n + 4, n]
        x = b(TransposeOp, x, perm=[*range(n), *inner, n + 1, n + 3])
        target = (*outer, c * size * size, rows, columns)
        return (b(ReshapeOp, x, target=dims_attribute(target)),)


def patch_count(extent: Dim, kernel: int, stride: int, dilation: int, padding: int) -> Dim:
    """How many windows fit along an axis."""
    return floordiv(extent + (2 * padding - dilation * (kernel - 1) - 1), stride) + 1


@op
class Im2ColOp(Movement):
    """Patches of an image as columns: [n, c, h, w] to [n, c * kh * kw, patches] (torch's unfold).

    C1: x has rank 4; `kernel`, `stride`, `dilation`, `padding` have two entries each.

    %r = torsh.im2col %x {kernel = array<i64: 2, 2>, stride = array<i64: 1, 1>, dilation = array<i64: 1, 1>, padding = array<i64: 0, 0>}
        : (tensor<1x1x3x3xf32>) -> tensor<1x4x4xf32>
    """  # noqa: E501

    name = "torsh.im2col"
    x = operand_def()
    kernel = prop_def(DenseArrayBase[I64])
    stride = prop_def(DenseArrayBase[I64])
    dilation = prop_def(DenseArrayBase[I64])
    padding = prop_def(DenseArrayBase[I64])

    def geometry(self) -> list[tuple[int, int, int, int]]:
        """(kernel, stride, dilation, padding) for each of the two spatial axes."""
        rows = (self.kernel, self.stride, self.dilation, self.padding)
        if rank_of(self.x) != 4 or any(len(ints_of(row)) != 2 for row in rows):
            raise ShapeError(f"C1: patches of {self.x.type}")
        (kh, kw), (sh, sw), (dh, dw), (ph, pw) = map(ints_of, rows)
        return [(kh, sh, dh, ph), (kw, sw, dw, pw)]

    def infer(self) -> Sequence[AnyTensor]:
        (n, c, h, w), (rows, columns) = dims_of(self.x), self.geometry()
        patches = patch_count(h, *rows) * patch_count(w, *columns)
        return (tensor(element_type(self.x), (n, c * rows[0] * columns[0], patches)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, ((kh, sh, dh, ph), (kw, sw, dw, pw)) = args[0], self.geometry()
        x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
        high = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1
        wide = (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
        columns: list[Any] = []
        for i, j in every(range(kh), range(kw)):
            part = x[:, :, i * dh :: sh, j * dw :: sw][:, :, :high, :wide]
            columns.append(part.reshape(*x.shape[:2], -1))
        return (np.stack(columns, 2).reshape(x.shape[0], -1, high * wide),)

    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        (_, _, h, w), ((kh, sh, dh, ph), (kw, sw, dw, pw)) = dims_of(self.x), self.geometry()
        wide = ix.dim(patch_count(w, kw, sw, dw, pw))
        area, width = ix.dim(kh * kw), ix.dim(kw)
        channel, inside = ix.floordiv(index[1], area), ix.mod(index[1], area)
        row, column = ix.floordiv(inside, width), ix.mod(inside, width)
        down, across = ix.floordiv(index[2], wide), ix.mod(index[2], wide)
        y = _place(ix, down, row, (sh, dh, ph))
        x = _place(ix, across, column, (sw, dw, pw))
        within = ix.both(_within(ix, y, h), _within(ix, x, w))
        return (Pick(0, (index[0], channel, y, x), within),)


def _place(ix: Indices[I, C], window: I, element: I, rule: tuple[int, int, int]) -> I:
    stride, dilation, padding = rule
    place = ix.add(ix.mul(window, ix.dim(stride)), ix.mul(element, ix.dim(dilation)))
    return ix.sub(place, ix.dim(padding))


def _within(ix: Indices[I, C], place: I, extent: Dim) -> C:
    return ix.both(ix.ge(place, ix.dim(0)), ix.lt(place, ix.dim(extent)))


@op
class Col2ImOp(Composite):
    """The sum of patches at their places: the adjoint of `torsh.im2col` (torch's fold).

    [n, c * kernel area, patches] to [n, c, *image], for any number of spatial axes.
    C1: x has rank 3; `kernel`, `stride`, `dilation`, `low`, `high` (padding) have one entry for
    each extent of `image`. C2: the number of patches fits the image.

    %r = torsh.col2im %x {image = #torsh.dims<[3, 3]>, kernel = array<i64: 2, 2>, stride = array<i64: 1, 1>, dilation = array<i64: 1, 1>, low = array<i64: 0, 0>, high = array<i64: 0, 0>}
        : (tensor<1x4x4xf32>) -> tensor<1x1x3x3xf32>
    """  # noqa: E501

    name = "torsh.col2im"
    x = operand_def()
    image = prop_def(DimsAttr)
    kernel = prop_def(DenseArrayBase[I64])
    stride = prop_def(DenseArrayBase[I64])
    dilation = prop_def(DenseArrayBase[I64])
    low = prop_def(DenseArrayBase[I64])
    high = prop_def(DenseArrayBase[I64])
    y = result_def()

    def counts(self) -> list[Dim]:
        """The number of windows along each spatial axis."""
        rules = zip(
            extents_of(self.image),
            *map(ints_of, (self.kernel, self.stride, self.dilation, self.low, self.high)),
            strict=True,
        )
        return [floordiv(e + (a + b - d * (k - 1) - 1), s) + 1 for e, k, s, d, a, b in rules]

    def infer(self) -> Sequence[AnyTensor]:
        rank = len(extents_of(self.image))
        rows = (self.kernel, self.stride, self.dilation, self.low, self.high)
        if rank_of(self.x) != 3 or any(len(ints_of(row)) != rank for row in rows):
            raise ShapeError(f"C1: columns {self.x.type} of an image with {rank} axes")
        n, c, patches = dims_of(self.x)
        if conflict(patches, product(self.counts())):
            raise ShapeError(f"C2: {patches} patches, but {product(self.counts())} fit the image")
        channels = floordiv(c, int(np.prod(ints_of(self.kernel))))
        return (tensor(element_type(self.x), (n, channels, *extents_of(self.image))),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        kernel, counts = ints_of(self.kernel), [int(c) for c in self.counts() if isinstance(c, int)]
        image, low, high = fixed(self.image), ints_of(self.low), ints_of(self.high)
        n, c, _ = args[0].shape
        wide: Any = args[0].astype(np.float64) if args[0].dtype.kind == "f" else args[0]
        x = wide.reshape(n, c // int(np.prod(kernel)), *kernel, *counts)
        grown = [e + a + b for e, a, b in zip(image, low, high, strict=True)]
        total = np.zeros((*x.shape[:2], *grown), x.dtype)
        rules = list(zip(ints_of(self.stride), ints_of(self.dilation), counts, strict=True))
        for place in every(*map(range, kernel)):
            spans = [
                slice(k * d, k * d + s * (count - 1) + 1, s)
                for k, (s, d, count) in zip(place, rules, strict=True)
            ]
            total[(..., *spans)] += x[(slice(None), slice(None), *place)]
        inner = [slice(a, a + e) for a, e in zip(low, image, strict=True)]
        return (total[(..., *inner)].astype(args[0].dtype),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        kernel, counts = ints_of(self.kernel), self.counts()
        n, _, _ = dims_of(self.x)
        channels, rank = dims_of(self.y)[1], len(kernel)
        target = dims_attribute((n, channels, *kernel, *counts))
        x = b(ReshapeOp, self.x, target=target)
        total: SSAValue | None = None
        for place in every(*map(range, kernel)):
            part = x
            for axis, k in enumerate(place):
                part = cut(b, part, 2 + axis, k, 1)
            part = b(ReshapeOp, part, target=dims_attribute((n, channels, *counts)))
            part = self._spread(b, part, place, rank)
            total = part if total is None else b(AddOp, total, part)
        assert total is not None
        return (total,)

    def _spread(self, b: Builder, part: SSAValue, place: Sequence[int], rank: int) -> SSAValue:
        """One kernel element of all patches, moved to its places in the image."""
        outer = 2
        for axis in range(rank):
            stride = ints_of(self.stride)[axis]
            if stride > 1:
                part = _stretched(b, part, outer + axis, stride)
        begins = [
            k * d - a
            for k, d, a in zip(place, ints_of(self.dilation), ints_of(self.low), strict=True)
        ]
        image = extents_of(self.image)
        behind = [
            e - begin - size
            for e, begin, size in zip(image, begins, dims_of(part)[outer:], strict=True)
        ]
        low, high = dims_attribute([0, 0, *begins]), dims_attribute([0, 0, *behind])
        return b(PadOp, part, low=low, high=high, mode="constant")


def _stretched(b: Builder, x: SSAValue, axis: int, stride: int) -> SSAValue:
    """`stride - 1` zeros between the elements of an axis."""
    dims = dims_of(x)
    split = b(ReshapeOp, x, target=dims_attribute((*dims[: axis + 1], 1, *dims[axis + 1 :])))
    none = [0] * (len(dims) + 1)
    high = [stride - 1 if n == axis + 1 else 0 for n in range(len(dims) + 1)]
    grown = b(PadOp, split, low=dims_attribute(none), high=dims_attribute(high), mode="constant")
    merged = (*dims[:axis], dims[axis] * stride, *dims[axis + 1 :])
    flat = b(ReshapeOp, grown, target=dims_attribute(merged))
    return cut(b, flat, axis, 0, dims[axis] * stride - (stride - 1))
