"""Quantisation that stays in floats, and torchao's blocks of any shape.

ATen's arithmetic (aten/native/quantized/FakeQuantPerTensorAffine.cpp and its kernels): x times the
reciprocal of the scale in f32, rounded, then the zero point is added; NaN becomes the least
integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import str_of
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.dtypes import Element, dtype_of, f32, is_float
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.quant import DequantizeLinearOp, integer_range
from torsh_dialect.passes.roles import is_weight_only
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts
from torsh_fx.importers.torch_ops.quantized import is_zero
from torsh_fx.importers.torch_types import element_of

Ends = tuple[int, int]


def _rounded(c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue) -> SSAValue:
    """round(x / scale) + zero in f32; the parameters broadcast."""
    inverse = c.div(c.like(1.0, scale), scale)
    return c.add(c.round(c.mul(c.cast(x, f32), inverse)), zero)


def _inside(c: NodeBuilder, y: SSAValue, ends: Ends) -> SSAValue:
    """Between the ends; NaN is the lower one."""
    low, high = (c.like(float(end), y) for end in ends)
    return c.minimum(c.where(c.ge(y, low), y, low), high)


def _masked(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue, ends: Ends
) -> tuple[SSAValue, SSAValue]:
    """The numbers that integers stand for, and which were within the ends."""
    scale, zero = c.cast(scale, f32), c.cast(zero, f32)
    whole = _rounded(c, x, scale, zero)
    inside = _inside(c, whole, ends)
    y = c.mul(c.sub(inside, zero), scale)
    return c.cast(y, element_type(x)), c.eq(whole, inside)


@converts("fake_quantize_per_tensor_affine_cachemask")
def _fake_masked(
    c: NodeBuilder, x: SSAValue, scale: float, zero: int, low: int, high: int
) -> tuple[SSAValue, SSAValue]:
    return _masked(c, x, c.tensor(scale, f32), c.tensor(float(zero), f32), (low, high))


@converts("fake_quantize_per_tensor_affine", "fake_quantize_per_tensor_affine.tensor_qparams")
def _fake(
    c: NodeBuilder, x: SSAValue, scale: SSAValue | float, zero: SSAValue | float, low: int,
    high: int,
) -> SSAValue:  # fmt: skip
    scale, zero = (
        c.reshape(v, ()) if isinstance(v, SSAValue) else c.tensor(float(v), f32)
        for v in (scale, zero)
    )
    return _masked(c, x, scale, zero, (low, high))[0]


@converts("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams")
def _fake_switched(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue, enabled: SSAValue, low: int,
    high: int,
) -> tuple[SSAValue, SSAValue]:  # fmt: skip
    """Where `enabled` is 0, x as it is."""
    scale, zero, enabled = (c.reshape(v, ()) for v in (scale, zero, enabled))
    y, mask = _masked(c, x, scale, zero, (low, high))
    off = c.eq(enabled, c.like(0, enabled))
    return c.where(off, x, y), c.where(off, c.tensor(True, dtypes.i1), mask)


@converts("fake_quantize_per_channel_affine_cachemask", "fake_quantize_per_channel_affine")
def _fake_channels(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue, axis: int, low: int, high: int
) -> Any:
    rank = rank_of(x)
    scale, zero = (c.per_channel(v, rank, axis % rank) for v in (scale, zero))
    found = _masked(c, x, scale, zero, (low, high))
    return found if "cachemask" in str(c.node.target) else found[0]


@converts("torchao.dequantize_affine")
def _dequantize_affine(
    c: NodeBuilder, x: SSAValue, block: Sequence[int], scale: SSAValue, zero: SSAValue | None,
    input_dtype: Any, low: Any = None, high: Any = None, output_dtype: Any = torch.float32,
) -> SSAValue:  # fmt: skip
    """(x - zero) * scale, computed in the result's type; one scale for each block of `block`."""
    zero = None if zero is None or is_zero(c, zero) else zero
    scale = c.reshape(scale, _counts(block, dims_of(x)))
    point = None if zero is None else c.reshape(zero, dims_of(scale))
    if element_of(output_dtype) == element_type(scale) == f32 and _fits(c, zero, element_type(x)):
        integer = None if point is None else c.cast(point, element_type(x))
        whole = _whole(c, x, scale, integer)
        if whole is not None:
            return whole
    return _subtracted(c, x, scale, point, element_of(output_dtype))


def _counts(block: Sequence[int], dims: Sequence[Dim]) -> list[Dim]:
    """Blocks along each axis."""
    return [
        d if b == 1 else 1 if b == d else floordiv(d, b) for b, d in zip(block, dims, strict=True)
    ]


def _fits(c: NodeBuilder, zero: SSAValue | None, element: Element) -> bool:
    """Whether a zero point is known to have values of an element type of integers."""
    if dtype_of(element).kind not in ("int", "uint"):
        return False
    if zero is None or element_type(zero) == element:
        return True
    owner, (low, high) = zero.owner, integer_range(dtype_of(element))
    if not isinstance(owner, WeightOp) or is_float(element_type(zero)):
        return False
    known: Any = c.graph.shared.ctx.weights[str_of(owner.id)]
    return bool(np.all((known >= low) & (known <= high)))


def _whole(c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue | None) -> SSAValue | None:
    """One `dequantize_linear`: with one scale, one for each index of an axis, or of blocks."""
    dims, counts, last = dims_of(x), dims_of(scale), rank_of(x) - 1
    axes = [n for n, count in enumerate(counts) if count != 1]
    if not axes or (len(axes) == 1 and counts[axes[0]] == dims[axes[0]] and is_weight_only(x)):
        target = (counts[axes[0]],) if axes else ()
        flat = [None if v is None else c.reshape(v, target) for v in (scale, zero)]
        return c.b(DequantizeLinearOp, x, *flat, axis=axes[0] if axes else None)
    depth, count = dims[last], counts[last]
    if dims[:last] != counts[:last] or not isinstance(depth, int) or not isinstance(count, int):
        return None
    return c.b(DequantizeLinearOp, x, scale, zero, axis=last, block_size=depth // count)


def _subtracted(
    c: NodeBuilder, x: SSAValue, scale: SSAValue, zero: SSAValue | None, to: Element
) -> SSAValue:
    """As torchao computes in any types: the difference in `to`, the product in the wider one."""
    y = c.cast(x, to)
    if zero is not None:
        y = c.sub(y, c.cast(_spread_blocks(c, zero, dims_of(x)), to))
    wide = max((to, element_type(scale)), key=lambda element: dtype_of(element).bits)
    scales = c.cast(_spread_blocks(c, scale, dims_of(x)), wide)
    return c.cast(c.mul(c.cast(y, wide), scales), to)


def _spread_blocks(c: NodeBuilder, value: SSAValue, dims: Sequence[Dim]) -> SSAValue:
    """A value for each block as one that broadcasts to the extents of the blocks' elements."""
    for axis, extent in enumerate(dims):
        count = dims_of(value)[axis]
        if count not in (1, extent):
            if not isinstance(count, int) or not isinstance(extent, int):
                raise c.refuse("blocks along a dynamic extent")
            value = c.repeat(value, extent // count, axis)
    return value
