"""Interpolation, sampling at grid points, regions of interest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim
from torsh_dialect.ops import (
    resize,
    sampling,
)
from torsh_dialect.ops import (
    roi as regions,
)
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts
from torsh_fx.importers.torch_ops.resample_bytes import resampled_bytes


def _resize(
    c: NodeBuilder,
    x: SSAValue,
    mode: str,
    coordinates: str,
    scales: Sequence[float | None] = (),
    kept: Sequence[int] = (),
    **more: Any,
) -> SSAValue:
    """Resampling by the node's extents, or by factors.

    Args:
        c: The builder.
        x: The image.
        mode: How to interpolate.
        coordinates: Where the results lie.
        scales: Factors of the spatial axes that the caller gave.
        kept: Whole factors that count instead of those of `scales` where the extents have them.
        more: Other properties of `torsh.resize`, and `factors`.
    """
    output, rank = c.out_dims(), rank_of(x)
    factors = more.pop("factors", None)
    if (
        len(scales) == rank - 2
        and all(s is not None for s in scales)
        and coordinates != "align_corners"
        and factors is None
    ):
        given = [1.0, 1.0, *(float(str(s)) for s in scales)]
        found = [
            _factor(c, before, behind, scale, kept)
            for before, behind, scale in zip(dims_of(x), output, given, strict=True)
        ]
        if any(isinstance(factor, SSAValue) for factor in found):
            parts = [c.reshape(c.tensor(factor, dtypes.f64), [1]) for factor in found]
            factors = c.concat(parts, 0)
        else:
            more["scales"] = found
    return c.b(
        resize.ResizeOp,
        x,
        factors,
        None,
        output=dims_attribute(output),
        mode=mode,
        coordinates=coordinates,
        **more,
    )


def _factor(
    c: NodeBuilder, before: Dim, behind: Dim, scale: float, kept: Sequence[int]
) -> float | SSAValue:
    """A factor that was given, or one of `kept` if the extents have it.

    So do `compute_source_index_and_lambda` and `nearest_idx` of aten/native/UpSample.h. Symbolic
    extents of more than one element can only have it if less than a half is cut off.
    """
    factor: float | SSAValue = scale
    for whole in kept:
        if behind == before * whole:
            return float(whole)
        if not (isinstance(before, int) and isinstance(behind, int)) and 0 < scale - whole < 0.5:
            factor = c.where(
                c.eq(c.dim(behind), c.dim(before * whole)),
                c.constant(float(whole), dtypes.f64),
                c.constant(scale, dtypes.f64),
            )
    return factor


def _scales(rest: Sequence[Any]) -> Sequence[Any]:
    given = [r for r in rest if r is not None]
    return cast(Any, given[0]) if len(given) == 1 and isinstance(given[0], list) else rest


@converts(*(f"upsample_nearest{n}d{v}" for n in (1, 2, 3) for v in ("", ".vec")))
def _nearest(c: NodeBuilder, x: SSAValue, output: Any, *rest: Any, **options: Any) -> SSAValue:
    scales = _scales([*rest, *options.values()])
    # Of images alone: lines and volumes go through a loop that knows no such cases.
    kept = (1, 2) if rank_of(x) == 4 else ()
    return _resize(c, x, "nearest", "asymmetric", scales, kept, nearest="floor")


@converts(*(f"_upsample_nearest_exact{n}d{v}" for n in (1, 2, 3) for v in ("", ".vec")))
def _nearest_exact(
    c: NodeBuilder, x: SSAValue, output: Any, *rest: Any, **options: Any
) -> SSAValue:
    scales = _scales([*rest, *options.values()])
    return _resize(c, x, "nearest", "half_pixel", scales, nearest="round_prefer_ceil")


@converts(
    *(
        f"{name}{v}"
        for v in ("", ".vec")
        for name in (
            "upsample_linear1d",
            "upsample_bilinear2d",
            "upsample_trilinear3d",
            "upsample_bicubic2d",
            "_upsample_bilinear2d_aa",
            "_upsample_bicubic2d_aa",
        )
    )
)
def _interpolate(
    c: NodeBuilder, x: SSAValue, output: Any, align: bool, *rest: Any, **options: Any
) -> SSAValue:
    name = str(c.node.target)
    cubic, smooth = "cubic" in name, "_aa" in name
    more: dict[str, Any] = {"antialias": smooth or None, "exclude_outside": smooth or None}
    if cubic:
        more["cubic_a"] = -0.5 if smooth else -0.75
    way = "align_corners" if align and not smooth else "half_pixel"
    scales = _scales([*rest, *options.values()])
    factors = _aligned_factors(c, x) if align and smooth else None
    mode = "cubic" if cubic else "linear"
    if element_type(x) == dtypes.ui8:
        if factors is None and way == "half_pixel" and scales and None not in scales:
            given = (1.0, 1.0, *scales)
            factors = [c.constant(float(str(s)), dtypes.f64) for s in given]
        return resampled_bytes(c, x, factors, {**more, "mode": mode, "coordinates": way})
    if factors is not None:
        more["factors"] = c.concat([c.reshape(factor, [1]) for factor in factors], 0)
    return _resize(c, x, mode, way, scales, () if cubic and not smooth else (1,), **more)


def _aligned_factors(c: NodeBuilder, x: SSAValue) -> list[SSAValue]:
    """Factors (m - 1) / (n - 1), and no distance at all between the results of an axis of one.

    With antialiasing, ATen takes from `align_corners` only the scale; the centres stay those of
    half pixels (`_compute_indices_min_size_weights` of aten/native/cpu/UpSampleKernel.cpp).
    """
    factors = [c.constant(1.0, dtypes.f64)] * 2
    for before, behind in list(zip(dims_of(x), c.out_dims(), strict=True))[2:]:
        n, m = (c.cast(c.dim(extent - 1), dtypes.f64) for extent in (before, behind))
        ratio = c.div(m, c.maximum(n, 1.0))
        still = c.either(c.eq(n, 0.0), c.eq(m, 0.0))
        factors.append(c.where(still, c.like(math.inf, ratio), ratio))
    return factors


@converts("grid_sampler_2d", "grid_sampler_3d", "grid_sampler", "_grid_sampler_2d_cpu_fallback")
def _grid_sample(
    c: NodeBuilder,
    x: SSAValue,
    grid: SSAValue,
    mode: int = 0,
    padding: int = 0,
    align: bool = False,
) -> SSAValue:
    modes, pads = ("linear", "nearest", "cubic"), ("zeros", "border", "reflection")
    return c.b(
        sampling.GridSampleOp,
        x,
        grid,
        mode=modes[mode],
        padding=pads[padding],
        align_corners=align or None,
    )


@converts("torchvision.roi_align.default")
def _roi_align(
    c: NodeBuilder,
    x: SSAValue,
    rois: SSAValue,
    spatial_scale: float,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> SSAValue:
    batch = c.cast(c.squeeze(c.cut(rois, 1, 0, 1), 1), dtypes.i64)
    boxes = c.cut(rois, 1, 1, 4)
    return c.b(
        regions.RoiAlignOp,
        x,
        boxes,
        batch,
        height=height,
        width=width,
        mode="avg",
        sampling=max(sampling_ratio, 0),
        spatial_scale=float(spatial_scale),
        half_pixel=aligned or None,
    )
