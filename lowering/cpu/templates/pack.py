"""Packing weights into panels: prepare kernels, and the numpy description of the layout.

Packed layout: `[groups][panels][K][NR]`, columns past the end are zero, 64-byte aligned.
"""

from collections.abc import Callable, Sequence
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


Step = Callable[[Value, Value], None]
"""Called with the source offset of a step and its number."""


def _gather_panel(
    text: Text, params: PackParams, source: Value, panel: Value, columns: Value, width: int
) -> None:
    """Write one panel, in the order in which the source is contiguous.

    Columns are the inner loop where they are neighbours in the source (`[K, N]`), else the outer
    one (`[N, K]`): the other order is ten times slower.
    """
    element, align = params.element, ELEMENT_BYTES[params.element]

    def put(column: Value, number: Value, value: Value) -> None:
        place = text.add(text.mul(number, width), column)
        text.store(element, value, text.at(panel, place, element), align)

    def copy(column: Value, offset: Value, number: Value) -> None:
        start = text.add(offset, text.mul(column, params.column_stride))
        put(column, number, text.load(element, text.at(source, start, element), align))

    def each_step(step: Step) -> None:
        _nest(text, params.steps, params.step_strides, "0", "0", step)

    def each_column(body: Callable[[Value], None]) -> None:
        text.loop("0", columns, 1, lambda column, _: body(column))

    if params.column_stride == 1:
        each_step(lambda offset, number: each_column(lambda c: copy(c, offset, number)))
    else:
        each_column(lambda column: each_step(lambda o, n: copy(column, o, n)))

    def clear(column: Value, _: list[Value]) -> None:
        text.loop(0, params.k, 1, lambda number, _: put(column, number, "0.0"))

    text.loop(columns, str(width), 1, clear)


def _nest(
    text: Text,
    extents: Sequence[int],
    strides: Sequence[int],
    offset: Value,
    number: Value,
    step: Step,
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
