"""Packing weights into panels: prepare kernels, and the numpy description of the layout.

Packed layout: `[groups][panels][K][NR]`, columns past the end are zero, 64-byte aligned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from lowering.cpu.templates.schedule import ELEMENT_BYTES, Extent, Registers, register_tile
from lowering.cpu.text import Module, Text, Value
from torsh_dialect.target import TargetInfo

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PackParams:
    """Gathering a strided weight into panels.

    Argument words: 0 source, 1 destination. Unit: one panel.

    Attributes:
        groups: Outer groups, each packed by itself.
        columns: Columns (output features) of a group.
        group_stride: Source elements between groups.
        column_stride: Source elements between columns.
        steps: Extents of the contraction's dimensions, outermost first.
        step_strides: Source elements between neighbours along each of `steps`.
        element: `float` or `double`.
    """

    columns: int
    column_stride: int
    steps: tuple[int, ...]
    step_strides: tuple[int, ...]
    groups: int = 1
    group_stride: int = 0
    element: str = "float"

    @property
    def k(self) -> int:
        """Steps of the contraction."""
        return prod(self.steps)


def pack_kn(k: int, n: int, element: str = "float") -> PackParams:
    """Packing of a row-major `[K, N]` matrix."""
    return PackParams(n, 1, (k,), (n,), element=element)


def pack_nk(n: int, k: int, element: str = "float") -> PackParams:
    """Packing of a row-major `[N, K]` matrix (the weight of torch's Linear)."""
    return PackParams(n, k, (k,), (1,), element=element)


def pack_conv(
    out_channels: int, in_channels: int, kernel: tuple[int, int], groups: int = 1
) -> PackParams:
    """Packing of `[OC, C/groups, KH, KW]` for steps in the order (kh, kw, c).

    `in_channels` is of one group, `out_channels` of all.
    """
    height, width = kernel
    columns = out_channels // groups
    size = in_channels * height * width
    return PackParams(
        columns,
        size,
        (height, width, in_channels),
        (width, 1, height * width),
        groups=groups,
        group_stride=columns * size,
    )


def registers_of(params: PackParams, target: TargetInfo) -> Registers:
    """The register tile that the packed panels are made for."""
    return register_tile(params.columns, target, params.element)


def packed_dims(params: PackParams, target: TargetInfo) -> tuple[int, int, int, int]:
    """`(groups, panels, K, NR)`."""
    width = registers_of(params, target).width
    return params.groups, -(-params.columns // width), params.k, width


def pack_reference(source: Array, params: PackParams, target: TargetInfo) -> Array:
    """The packed layout in numpy: what the emitted kernel must produce, element for element."""
    groups, panels, k, width = packed_dims(params, target)
    size = source.itemsize
    strides = (params.group_stride, params.column_stride, *params.step_strides)
    view = np.lib.stride_tricks.as_strided(
        source, (groups, params.columns, *params.steps), [s * size for s in strides]
    ).reshape(groups, params.columns, k)
    padded = np.zeros((groups, panels * width, k), source.dtype)
    padded[:, : params.columns] = view
    return padded.reshape(groups, panels, width, k).transpose(0, 1, 3, 2).copy()


def parallel_extent(params: PackParams, target: TargetInfo) -> Extent:
    """Units, for `rows` = 1."""
    groups, panels, _, _ = packed_dims(params, target)
    return Extent(1, groups * panels)


def emit(module: Module, name: str, params: PackParams, target: TargetInfo) -> None:
    """Write the prepare kernel `name`."""
    text = Text(module, name)
    source, packed = text.argument(0, role="source"), text.argument(1, role="packed")
    _, panels, k, width = packed_dims(params, target)

    def unit(index: Value, _: list[Value]) -> None:
        group, panel = text.udiv(index, panels), text.urem(index, panels)
        first = text.mul(panel, width * params.column_stride)
        start = text.at(
            source, text.add(text.mul(group, params.group_stride), first), params.element
        )
        target_panel = text.at(packed, text.mul(index, k * width), params.element)
        left = text.sub(params.columns, text.mul(panel, width))
        full = text.minimum(left, width)
        _gather_panel(text, params, start, target_panel, full, width)

    text.loop("%lo", "%hi", 1, unit)
    text.finish()


def _gather_panel(
    text: Text, params: PackParams, source: Value, panel: Value, columns: Value, width: int
) -> None:
    """Write one panel: columns outermost, so that a torch weight is read in order."""
    align = ELEMENT_BYTES[params.element]

    def column_loop(start: Value, end: Value, copy: bool) -> None:
        def column(index: Value, _: list[Value]) -> None:
            base = text.at(source, text.mul(index, params.column_stride), params.element)
            into = text.at(panel, index, params.element)

            def step(offset: Value, number: Value) -> None:
                value = "0.0"
                if copy:
                    at = text.at(base, offset, params.element)
                    value = text.load(params.element, at, align)
                place = text.at(into, text.mul(number, width), params.element)
                text.store(params.element, value, place, align)

            _nest(text, params.steps, params.step_strides, "0", "0", step)

        text.loop(start, end, 1, column)

    column_loop("0", columns, True)
    column_loop(columns, str(width), False)


def _nest(
    text: Text,
    extents: Sequence[int],
    strides: Sequence[int],
    offset: Value,
    number: Value,
    step: Any,
) -> None:
    """Loops over `extents`; calls `step(source offset, flat index)`."""
    if not extents:
        step(offset, number)
        return

    def body(index: Value, _: list[Value]) -> None:
        inner = text.add(offset, text.mul(index, strides[0]))
        flat = text.add(text.mul(number, extents[0]), index)
        _nest(text, extents[1:], strides[1:], inner, flat, step)

    text.loop(0, extents[0], 1, body)
