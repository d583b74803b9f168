"""Transposed convolution of channels-last images, by output phases.

Output row `oh` gets tap `kh` from input row `(oh + before - kh * dilation) / stride` where that
is whole. All rows of one phase `oh % stride` use the same taps at the same distances, so each
phase is a convolution of stride 1 with rows of A by pointer, and no zero is multiplied that an
inserted gap would bring. A unit is (block of pixels, phase, group of channels, group of panels).
"""

from dataclasses import dataclass

from lowering.cpu.templates.conv import module_zeros
from lowering.cpu.templates.conv_shape import ConvShape
from lowering.cpu.templates.epilogue import EpilogueBody
from lowering.cpu.templates.microkernel import Tile, Totals, accumulate
from lowering.cpu.templates.schedule import (
    ELEMENT_BYTES,
    K_BLOCK,
    Extent,
    panels_per_group,
    register_tile,
    rows_per_block,
)
from lowering.cpu.templates.tiling import Place, Tiling, Walker, store_row
from lowering.cpu.templates.window import Pixels, neighbouring_pixels
from lowering.cpu.text import Module, Text, Value
from torsh_dialect.target import TargetInfo


@dataclass(frozen=True)
class TransposedAxis:
    """A transposed window along one axis; names as of torch's ConvTranspose.

    Attributes:
        kernel: Taps.
        stride: Output elements between two input elements.
        dilation: Output elements between taps.
        before: Output elements cut off at the beginning (torch's padding).
        after: Output elements cut off at the end.
        extra: Output elements added at the end (torch's output_padding).
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    extra: int = 0

    def output(self, size: int) -> int:
        """Output elements of `size` input elements."""
        reach = (self.kernel - 1) * self.dilation + 1
        return (size - 1) * self.stride + reach - self.before - self.after + self.extra

    def emit_output(self, text: Text, size: Value) -> Value:
        """`output` as an i64 of the function `text`."""
        return text.add(text.mul(size, self.stride), self.output(0))

    def taps(self, phase: int) -> list[tuple[int, int]]:
        """For outputs `phase + stride * q`: taps and the input distance from q, in tap order."""
        found: list[tuple[int, int]] = []
        for tap in range(self.kernel):
            distance, gap = divmod(phase + self.before - tap * self.dilation, self.stride)
            if not gap:
                found.append((tap, distance))
        return found


@dataclass(frozen=True)
class TransposedConvParams(ConvShape[TransposedAxis]):
    """A transposed convolution `[N, H, W, C] -> [N, OH, OW, OC]`.

    Argument words: 0 input, 1 weights packed by `emit_pack`, 2 output, 3 N, 4 H, 5 W, 8 and on:
    the epilogue's. Static extents are not read from their words. Each tap belongs to one phase.
    """

    @property
    def phases(self) -> list[tuple[int, int]]:
        """Vertical and horizontal phase of each phase number."""
        down, across = self.vertical.stride, self.horizontal.stride
        return [(i, j) for i in range(down) for j in range(across)]

    def phase_taps(self, phase: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """(kh, kw, row distance, column distance) of each tap of a phase, in order."""
        return [
            (kh, kw, down, across)
            for kh, down in self.vertical.taps(phase[0])
            for kw, across in self.horizontal.taps(phase[1])
        ]


def tiling(params: TransposedConvParams, target: TargetInfo) -> Tiling:
    """How one phase is cut; its rows are the pixels of a phase."""
    registers = register_tile(params.columns, target, params.element)
    panels = -(-params.columns // registers.width)
    row_bytes = params.channels * ELEMENT_BYTES[params.element]
    block_rows = rows_per_block(row_bytes, registers.rows, target)
    return Tiling(registers, None, params.columns, block_rows, panels_per_group(panels))


def parallel_extent(params: TransposedConvParams, target: TargetInfo) -> Extent:
    """Units as a function of pixels of a phase: N * ceil(OH / stride) * ceil(OW / stride)."""
    cut = tiling(params, target)
    return Extent(cut.block_rows, cut.groups * params.groups * len(params.phases))


def packed_dims(params: TransposedConvParams, target: TargetInfo) -> tuple[int, int, int, int, int]:
    """`(groups, panels, taps, C / groups, NR)`: taps phase by phase."""
    width = register_tile(params.columns, target, params.element).width
    panels = -(-params.columns // width)
    return params.groups, panels, params.taps, params.channels, width


def flops(params: TransposedConvParams, batch: int, height: int, width: int) -> int:
    """Floating-point operations executed, taps that fall outside the input counted."""
    per_input = 2 * params.taps * params.channels * params.out_channels
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    return batch * height * width * per_input + pixels * params.epilogue.operations


def bytes_moved(params: TransposedConvParams, batch: int, height: int, width: int) -> int:
    """Bytes of input, weights and output, each counted once."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    elements = batch * height * width * params.in_channels + pixels * params.out_channels
    weights = params.taps * params.channels * params.out_channels
    return ELEMENT_BYTES[params.element] * (elements + weights)


def emit(module: Module, name: str, params: TransposedConvParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    emitter = _Emitter(text, name, params, target)
    text.loop("%lo", "%hi", 1, lambda index, _: emitter.unit(index))
    text.finish()


class _Emitter:
    def __init__(self, text: Text, name: str, params: TransposedConvParams, target: TargetInfo):
        self.text, self.params = text, params
        self.input, self.weights, self.output = (
            text.argument(i, role=role) for i, role in enumerate(("input", "weights", "output"))
        )
        self.batch, self.height, self.width = (
            text.argument(3 + i, "i64", "size") if dim is None else str(dim)
            for i, dim in enumerate(params.dims)
        )
        down, across = params.vertical, params.horizontal
        self.out_height = down.emit_output(text, self.height)
        self.out_width = across.emit_output(text, self.width)
        self.lattice = Pixels(
            self.batch,
            self.height,
            self.width,
            text.ceildiv(self.out_height, down.stride),
            text.ceildiv(self.out_width, across.stride),
        )
        self.rows = text.mul(text.mul(self.batch, self.lattice.out_height), self.lattice.out_width)
        self.tiling = tiling(params, target)
        self.walker = Walker(text, self.tiling, self.rows)
        self.zeros = module_zeros(text.module, params.element, params.channels)
        self.body: EpilogueBody = params.epilogue.begin(text)
        # Phases are data, not code: first tap of each, and where each tap reads the input.
        taps = [params.phase_taps(phase) for phase in params.phases]
        starts = [sum(map(len, taps[:i])) for i in range(len(taps) + 1)]
        flat = [tap for phase in taps for tap in phase]
        self.starts = _table(text.module, f"{name}_starts", starts)
        self.down_by = _table(text.module, f"{name}_down", [tap[2] for tap in flat])
        self.across_by = _table(text.module, f"{name}_across", [tap[3] for tap in flat])

    def unit(self, index: Value) -> None:
        """Write unit `index`."""
        text, params, groups = self.text, self.params, self.tiling.groups
        panels, rest = text.urem(index, groups), text.udiv(index, groups)
        group, rest = text.urem(rest, params.groups), text.udiv(rest, params.groups)
        count = len(params.phases)
        phase, block = text.urem(rest, count), text.udiv(rest, count)
        self.walker.unit(block, panels, lambda tile, place: self._tile(tile, place, group, phase))

    def _tile(self, tile: Tile, place: Place, group: Value, phase: Value) -> None:
        """One tile of pixels of a phase: all its taps, then those pixels that exist."""
        text, params = self.text, self.params
        pixels = neighbouring_pixels(text, self.lattice, place.row, tile.rows)
        values = self._contract(tile, pixels, place, group, phase)
        strides = params.horizontal.stride
        down_phase, across_phase = text.udiv(phase, strides), text.urem(phase, strides)
        for offset, (image, row, column) in enumerate(pixels):
            down = text.add(text.mul(row, params.vertical.stride), down_phase)
            across = text.add(text.mul(column, strides), across_phase)
            line = text.add(text.mul(image, self.out_height), down)
            flat = text.add(text.mul(line, self.out_width), across)
            exists = text.binary(
                "and",
                "i1",
                text.compare("slt", down, self.out_height),
                text.compare("slt", across, self.out_width),
            )
            text.when(
                exists,
                lambda offset=offset, flat=flat: store_row(
                    text, tile, place, values, offset, flat, params.out_channels, self.output,
                    params.epilogue, self.body, text.mul(group, params.columns),
                ),
            )  # fmt: skip

    def _contract(
        self,
        tile: Tile,
        pixels: list[tuple[Value, Value, Value]],
        place: Place,
        group: Value,
        phase: Value,
    ) -> list[Value]:
        """All taps of a phase; every tap is a block of its own, or several."""
        text, params, element = self.text, self.params, self.params.element
        totals, channels = Totals(text, tile), params.channels
        width = self.tiling.registers.width
        size = params.taps * channels * width
        number = text.add(text.mul(group, self.tiling.panels), place.panel)
        count = -(-tile.vectors // tile.registers.vectors)
        panels = [
            text.at(self.weights, text.mul(text.add(number, i), size), element)
            for i in range(count)
        ]

        def tap(index: Value, _: list[Value]) -> None:
            pointers = self._tap_pointers(pixels, group, index)
            step = text.mul(index, channels)

            def block(channel: Value, length: int) -> None:
                offset = text.mul(text.add(step, channel), width)
                totals.add(
                    accumulate(
                        text,
                        tile,
                        [text.at(pointer, channel, element) for pointer in pointers],
                        [text.at(panel, offset, element) for panel in panels],
                        length,
                        tile.zeros(),
                    )
                )

            whole = channels // K_BLOCK * K_BLOCK
            text.loop(0, whole, K_BLOCK, lambda channel, _: block(channel, K_BLOCK))
            if channels > whole:
                block(str(whole), channels - whole)

        first = text.load("i64", text.at(self.starts, phase, "i64"), 8)
        last = text.load("i64", text.at(self.starts, text.add(phase, 1), "i64"), 8)
        text.loop(first, last, 1, tap)
        return totals.read()

    def _tap_pointers(
        self, pixels: list[tuple[Value, Value, Value]], group: Value, tap: Value
    ) -> list[Value]:
        """Pointer to channel 0 of the input pixel of tap `tap`; to zeros outside the image."""
        text, params = self.text, self.params
        down = text.load("i64", text.at(self.down_by, tap, "i64"), 8)
        across = text.load("i64", text.at(self.across_by, tap, "i64"), 8)
        start = text.mul(group, params.channels)
        pointers: list[Value] = []
        for image, row, column in pixels:
            top, left = text.add(row, down), text.add(column, across)
            line = text.add(text.mul(image, self.height), top)
            pixel = text.add(text.mul(line, self.width), left)
            offset = text.add(text.mul(pixel, params.in_channels), start)
            inside = text.binary(
                "and",
                "i1",
                text.compare("ult", top, self.height),
                text.compare("ult", left, self.width),
            )
            pointer = text.at(self.input, offset, params.element)
            pointers.append(text.select("ptr", inside, pointer, self.zeros))
        return pointers


def _table(module: Module, name: str, values: list[int]) -> Value:
    """A module constant of i64."""
    listed = ", ".join(f"i64 {value}" for value in values)
    return module.constant(name, f"[{len(values)} x i64]", f"[{listed}]")


def emit_pack(module: Module, name: str, params: TransposedConvParams, target: TargetInfo) -> None:
    """Write the prepare kernel `name`: `[C, OC / groups, KH, KW]` to `packed_dims`.

    Argument words: 0 source, 1 destination. A unit is one panel of one group.
    """
    text = Text(module, name)
    source, packed = text.argument(0, role="source"), text.argument(1, role="packed")
    _, panels, taps, channels, width = packed_dims(params, target)
    across = params.horizontal.kernel
    order = [
        tap[0] * across + tap[1] for phase in params.phases for tap in params.phase_taps(phase)
    ]
    table = _table(module, f"{name}_order", order)
    element, align = params.element, ELEMENT_BYTES[params.element]

    def unit(index: Value, _: list[Value]) -> None:
        group, panel = text.udiv(index, panels), text.urem(index, panels)
        first = text.mul(panel, width)
        real = text.minimum(text.sub(params.columns, first), width)

        def step(number: Value, _: list[Value]) -> None:
            slot, channel = text.udiv(number, channels), text.urem(number, channels)
            tap = text.load("i64", text.at(table, slot, "i64"), 8)
            row = text.add(text.mul(group, channels), channel)
            start = text.add(text.mul(row, params.columns), first)
            into = text.mul(text.add(text.mul(index, taps * channels), number), width)

            def column(lane: Value, copy: bool) -> None:
                value = "0.0"
                if copy:
                    place = text.add(text.mul(text.add(start, lane), params.taps), tap)
                    value = text.load(element, text.at(source, place, element), align)
                text.store(element, value, text.at(packed, text.add(into, lane), element), align)

            text.loop(0, real, 1, lambda lane, _: column(lane, True))
            text.loop(real, str(width), 1, lambda lane, _: column(lane, False))

        text.loop(0, taps * channels, 1, step)

    text.loop("%lo", "%hi", 1, unit)
    text.finish()
