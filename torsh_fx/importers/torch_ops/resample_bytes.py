"""Linear and cubic resampling of uint8 images, in ATen's fixed-point arithmetic.

One axis after the other, the last one first; each pass rounds to uint8. Its weights are int16
with as many bits behind the point as the largest of them allows: `separable_upsample_generic_Nd`
and `_compute_index_ranges_int16_weights` of aten/native/cpu/UpSampleKernel.cpp, torch 2.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim
from torsh_dialect.ops import logic, resize, rounding, select
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder

WEIGHT_BITS = 15
"""Weights are below 2 ** 15, the largest number of int16 being one less."""

MOST_PLACES = 22
"""The most bits behind the point of a weight, as of Pillow's resampling."""


def resampled_bytes(
    c: NodeBuilder,
    x: SSAValue,
    factors: list[SSAValue] | None,
    options: Mapping[str, Any],
) -> SSAValue:
    """The image x [n, c, h, w] at the extents of the node's result.

    Args:
        c: The builder.
        x: The image, uint8.
        factors: Factors of all axes (f64 scalars); None for those of the extents.
        options: Properties of `torsh.resize`, but for extents and scales.
    """
    output, y = c.out_dims(), c.cast(x, dtypes.i32)
    for axis in reversed(range(2, rank_of(x))):
        before, behind = dims_of(x)[axis], output[axis]
        if before == behind:
            continue
        factor = None if factors is None else factors[axis]
        weights, places = _fixed_point(c, _weights(c, before, behind, factor, options))
        half = c.b(logic.ShiftLeftOp, c.tensor(1, dtypes.i32), c.sub(places, 1))
        total = c.add(c.contract_axis(y, weights, axis), half)
        y = c.b(logic.ShiftRightOp, total, places)
        y = c.b(select.ClampOp, y, c.tensor(0, dtypes.i32), c.tensor(255, dtypes.i32))
    return c.finished(y)


def _weights(
    c: NodeBuilder,
    before: Dim,
    behind: Dim,
    factor: SSAValue | None,
    options: Mapping[str, Any],
) -> SSAValue:
    """The filter of one axis as a matrix [behind, before] of f64: the resampled unit matrix."""
    row = c.iota(before)
    unit = c.cast(c.eq(c.unsqueeze(row, 1), c.unsqueeze(row, 0)), dtypes.f64)
    pair = None
    if factor is not None:
        pair = c.concat([c.reshape(factor, [1]), c.constant(np.ones(1), dtypes.f64)], 0)
    return c.b(
        resize.ResizeOp, unit, pair, None, output=dims_attribute([behind, before]), **options
    )


def _fixed_point(c: NodeBuilder, weights: SSAValue) -> tuple[SSAValue, SSAValue]:
    """Weights in i32, and their bits behind the point: the most with which they fit int16."""
    largest = c.max(weights, [0, 1])
    powers = c.constant(2.0 ** np.arange(1, MOST_PLACES + 1), dtypes.f64)
    scaled = c.floor(c.add(c.mul(powers, largest), 0.5))
    fits = c.lt(scaled, float(2**WEIGHT_BITS))
    places = c.sum(c.cast(fits, dtypes.i32), [0])
    unit = c.cast(c.b(logic.ShiftLeftOp, c.tensor(1, dtypes.i32), places), dtypes.f64)
    exact = c.mul(weights, unit)
    away = c.where(c.lt(exact, 0.0), c.like(-0.5, exact), c.like(0.5, exact))
    return c.cast(c.b(rounding.TruncOp, c.add(exact, away)), dtypes.i32), places
