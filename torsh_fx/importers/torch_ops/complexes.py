"""Complex numbers and discrete Fourier transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.dtypes import is_complex, is_float
from torsh_dialect.ops import complex as cx
from torsh_dialect.ops.bits import BitcastOp
from torsh_dialect.ops.logic import ShiftLeftOp, ShiftRightOp
from torsh_dialect.ops.maths import CosOp, SinOp
from torsh_dialect.ops.rounding import SignBitOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts

WORDS = {8: dtypes.ui8, 16: dtypes.ui16, 32: dtypes.ui32, 64: dtypes.ui64}
"""Unsigned integers by their width."""


@converts("complex")
def _complex(c: NodeBuilder, a: SSAValue, b: SSAValue) -> SSAValue:
    return c.b(cx.ComplexOp, a, b)


@converts("polar")
def _polar(c: NodeBuilder, size: SSAValue, angle: SSAValue) -> SSAValue:
    return c.b(cx.ComplexOp, c.mul(size, c.b(CosOp, angle)), c.mul(size, c.b(SinOp, angle)))


@converts(
    "real",
    "view_as_real",
    "view_as_real_copy",
    "imag",
    "view_as_complex",
    "view_as_complex_copy",
    "_conj",
    "conj_physical",
    "_conj_physical",
    "_conj_copy",
)
def _part(c: NodeBuilder, x: SSAValue) -> SSAValue:
    name = str(c.node.target).split(".")[1].removesuffix("_copy")
    if name == "view_as_complex":
        return c.b(cx.ViewAsComplexOp, x)
    if not is_complex(element_type(x)):
        return x
    table = {"real": cx.RealOp, "imag": cx.ImagOp, "view_as_real": cx.ViewAsRealOp}
    return c.b(table.get(name, cx.ConjOp), x)


@converts("view.dtype")
def _view_dtype(c: NodeBuilder, x: SSAValue, dtype: Any) -> SSAValue:
    """The bytes as another dtype; the last axis shrinks or grows where the width differs."""
    to, dims = c.out_element(), c.out_dims()
    if element_type(x) == to:
        return x
    if is_complex(element_type(x)):
        x = c.b(cx.ViewAsRealOp, x)
        x = c.reshape(x, [*dims_of(x)[:-2], dims_of(x)[-2] * 2])
    part = cx.PART.get(to, to)
    x = _as_words(c, x, 8 * dtypes.dtype_of(part).bytes)
    x = c.b(BitcastOp, x, to=part)
    return c.b(cx.ViewAsComplexOp, c.reshape(x, [*dims, 2])) if is_complex(to) else x


def _as_words(c: NodeBuilder, x: SSAValue, width: int) -> SSAValue:
    """The bytes of real elements as unsigned integers of `width` bits, little end first."""
    own = 8 * dtypes.dtype_of(element_type(x)).bytes
    x = c.b(BitcastOp, x, to=WORDS[own])
    if own == width:
        return x
    *outer, last = dims_of(x)
    if own > width:
        shifts = c.constant(np.arange(0, own, width), WORDS[own])
        parts = c.b(ShiftRightOp, c.unsqueeze(x, len(outer) + 1), shifts)
        return c.reshape(c.cast(parts, WORDS[width]), [*outer, last * (own // width)])
    count = width // own
    parts = c.cast(c.reshape(x, [*outer, floordiv(last, count), count]), WORDS[width])
    shifts = c.constant(np.arange(0, width, own), WORDS[width])
    return c.sum(c.b(ShiftLeftOp, parts, shifts), [len(outer) + 1])


@converts("angle")
def _angle(c: NodeBuilder, x: SSAValue) -> SSAValue:
    if is_complex(element_type(x)):
        return c.b(cx.AngleOp, x)
    wide = c.finished(x)
    below = (
        c.lt(wide, 0)
        if not is_float(element_type(x))
        else c.both(c.b(SignBitOp, wide), c.lt(wide, 0))
    )
    turned = c.where(below, c.like(math.pi, wide), c.like(0, wide))
    return c.where(c.eq(wide, wide), turned, wide)


def _dft(c: NodeBuilder, x: SSAValue, axis: int, sign: float) -> SSAValue:
    """The discrete Fourier transform of one axis by its matrix of roots of unity, in f64."""
    extent = dims_of(x)[axis]
    i = c.iota(extent)
    place = c.remainder(c.mul(c.unsqueeze(i, 1), c.unsqueeze(i, 0)), c.dim(extent))
    turn = c.div(c.cast(place, dtypes.f64), c.cast(c.dim(extent), dtypes.f64))
    angle = c.mul(turn, sign * 2 * math.pi)
    part = cx.PART[element_type(x)]
    cos, sin = c.cast(c.b(CosOp, angle), part), c.cast(c.b(SinOp, angle), part)
    real, imag = c.b(cx.RealOp, x), c.b(cx.ImagOp, x)
    a = c.sub(c.contract_axis(real, cos, axis), c.contract_axis(imag, sin, axis))
    b = c.add(c.contract_axis(real, sin, axis), c.contract_axis(imag, cos, axis))
    return c.b(cx.ComplexOp, a, b)


def _scaled(
    c: NodeBuilder, x: SSAValue, axes: Sequence[int], normalization: int, count: Dim | None = None
) -> SSAValue:
    """0: none, 1: by the root of the number of elements, 2: by the number."""
    if normalization == 0:
        return x
    element = cx.PART[element_type(x)] if is_complex(element_type(x)) else element_type(x)
    total: Dim = 1
    for axis in axes:
        total = total * dims_of(x)[axis]
    total = total if count is None else count
    n = c.cast(c.dim(total), element)
    factor = c.div(c.like(1, n), c.sqrt(n) if normalization == 1 else n)
    return c.mul(x, c.cast(factor, element_type(x)))


@converts("_fft_c2c")
def _fft_c2c(
    c: NodeBuilder, x: SSAValue, dim: Sequence[int], normalization: int, forward: bool
) -> SSAValue:
    axes = [d % rank_of(x) for d in dim]
    y = x
    for axis in axes:
        y = _dft(c, y, axis, -1.0 if forward else 1.0)
    return _scaled(c, y, axes, normalization)


@converts("_fft_r2c")
def _fft_r2c(
    c: NodeBuilder, x: SSAValue, dim: Sequence[int], normalization: int, onesided: bool
) -> SSAValue:
    axes = [d % rank_of(x) for d in dim]
    y = c.cast(x, c.out_element())
    for axis in axes:
        y = _dft(c, y, axis, -1.0)
    y = _scaled(c, y, axes, normalization)
    return c.slice(y, axes[-1], 0, c.out_dims()[axes[-1]]) if onesided else y


@converts("_fft_c2r")
def _fft_c2r(
    c: NodeBuilder, x: SSAValue, dim: Sequence[int], normalization: int, last: Dim
) -> SSAValue:
    axes = [d % rank_of(x) for d in dim]
    y = x
    for axis in axes[:-1]:
        y = _dft(c, y, axis, 1.0)
    axis = axes[-1]
    half = dims_of(y)[axis]
    if last != 1 and half != floordiv(last, 2) + 1:
        raise c.refuse(f"a Hermitian half of {half} elements for {last}")
    if last != 1:
        count = last - half
        mirrored = c.b(cx.ConjOp, c.flip(c.slice(y, axis, 1, count), axis))
        y = c.concat([y, mirrored], axis)
    real_first = c.b(cx.RealOp, _dft(c, y, axis, 1.0))
    return _scaled(c, real_first, axes, normalization)
