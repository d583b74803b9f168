"""Depthwise convolution of channels-last images: one filter per channel.

A unit is one output row. Channels are vectors; a tile of neighbouring output pixels shares the
loads of inputs and of a row of weights. Taps are summed in the order (kh, kw) in one chain; taps
outside the image are left out by the loop bounds, so no halo and no zeros are needed.
"""

from dataclasses import dataclass

from lowering.cpu.templates.epilogue import (
    IDENTITY,
    Epilogue,
    finish_vector,
    load_lanes,
    mask_of,
)
from lowering.cpu.templates.pack import PackParams
from lowering.cpu.templates.schedule import ELEMENT_BYTES, Extent, Registers, register_tile
from lowering.cpu.templates.window import Axis, read_pixels
from lowering.cpu.text import Module, Text, Value
from torsh_dialect.target import TargetInfo

TILE_PIXELS = 4
"""Output pixels that share loads: 4 x 2 accumulators and a row of 3 weights fit 16 registers."""

UNROLLED_TAPS = 7
"""Wider windows loop over kw, because the code of a tile grows with it."""


@dataclass(frozen=True)
class DepthwiseParams:
    """A depthwise convolution `[N, H, W, C] -> [N, OH, OW, C]`.

    Argument words: 0 input, 1 weights packed by `packing`, 2 output, 3 N (not read), 4 H, 5 W,
    8 and on: the epilogue's.

    Attributes:
        channels: Channels, as many as groups.
        vertical: Window along H.
        horizontal: Window along W.
        dims: Static N, H, W, None where dynamic.
        epilogue: Applied to each result vector; its row is the flat output pixel.
        element: `float` or `double`.
    """

    channels: int
    vertical: Axis
    horizontal: Axis
    dims: tuple[int | None, int | None, int | None] = (None, None, None)
    epilogue: Epilogue = IDENTITY
    element: str = "float"


def packing(params: DepthwiseParams) -> PackParams:
    """Packing of `[C, 1, KH, KW]` into `[panels][KH * KW][NR]`."""
    taps = params.vertical.kernel * params.horizontal.kernel
    return PackParams(params.channels, taps, (taps,), (1,), element=params.element)


def parallel_extent(params: DepthwiseParams, target: TargetInfo) -> Extent:
    """Units as a function of output rows (N * OH)."""
    return Extent(1, 1)


def flops(params: DepthwiseParams, batch: int, height: int, width: int) -> int:
    """Floating-point operations of full windows; less is executed at edges."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    taps = params.vertical.kernel * params.horizontal.kernel
    return pixels * params.channels * (2 * taps + params.epilogue.operations)


def bytes_moved(params: DepthwiseParams, batch: int, height: int, width: int) -> int:
    """Bytes of input, weights and output, each counted once."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    taps = params.vertical.kernel * params.horizontal.kernel
    elements = batch * height * width + pixels + taps
    return ELEMENT_BYTES[params.element] * elements * params.channels


def emit(module: Module, name: str, params: DepthwiseParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    emitter = _Emitter(text, params, register_tile(params.channels, target, params.element))
    text.loop("%lo", "%hi", 1, lambda index, _: emitter.unit(index))
    text.finish()


@dataclass(frozen=True)
class _Panel:
    """A run of channels: the weights, the first channel, how many of them are real."""

    weights: Value
    channel: Value
    columns: int


@dataclass(frozen=True)
class _Line:
    """One output row: its first flat pixel, its image, input row of tap 0, taps in the image."""

    first: Value
    image: Value
    top: Value
    taps: tuple[Value, Value]


class _Emitter:
    def __init__(self, text: Text, params: DepthwiseParams, registers: Registers):
        self.text, self.params, self.registers = text, params, registers
        self.input, self.weights, self.output = (
            text.argument(i, role=role) for i, role in enumerate(("input", "weights", "output"))
        )
        self.pixels = read_pixels(text, params.vertical, params.horizontal, params.dims)
        self.interior = params.horizontal.emit_interior(
            text, self.pixels.width, self.pixels.out_width
        )
        self.body = params.epilogue.begin(text)

    def unit(self, index: Value) -> None:
        """Write unit `index`: one output row, panel by panel of channels."""
        text, pixels, down = self.text, self.pixels, self.params.vertical
        image, row = text.udiv(index, pixels.out_height), text.urem(index, pixels.out_height)
        top = text.sub(text.mul(row, down.stride), down.before)
        line = _Line(
            text.mul(index, pixels.out_width), image, top, down.emit_range(text, top, pixels.height)
        )
        width = self.registers.width
        full, rest = divmod(self.params.channels, width)
        size = down.kernel * self.params.horizontal.kernel * width

        def panel(number: Value, columns: int) -> None:
            weights = text.at(self.weights, text.mul(number, size), self.params.element)
            self._row(line, _Panel(weights, text.mul(number, width), columns))

        text.loop(0, full, 1, lambda number, _: panel(number, width))
        if rest:
            panel(str(full), rest)

    def _row(self, line: _Line, panel: _Panel) -> None:
        """Edge pixels one by one; between them tiles of 4, then one of 2 and one of 1."""
        text = self.text
        first, end = self.interior
        text.loop(0, first, 1, lambda pixel, _: self._edge_pixel(line, panel, pixel))
        size = TILE_PIXELS
        while size:
            tiles = text.mul(text.sdiv(text.sub(end, first), size), size)
            middle = text.add(first, tiles)
            text.loop(
                first, middle, size,
                lambda pixel, _, size=size: self._tile(line, panel, pixel, size),
            )  # fmt: skip
            first, size = middle, size // 2
        text.loop(
            end, self.pixels.out_width, 1, lambda pixel, _: self._edge_pixel(line, panel, pixel)
        )

    def _vectors(self, panel: _Panel) -> list[tuple[int, Value | None]]:
        """Channel offset and mask of each vector of a panel."""
        lanes = self.registers.lanes
        return [
            (offset, mask_of(lanes, panel.columns - offset))
            for offset in range(0, panel.columns, lanes)
        ]

    def _source(self, line: _Line, panel: _Panel, tap: Value, column: Value) -> Value:
        """Address of the input at vertical tap `tap` and input column `column`."""
        text, params = self.text, self.params
        row = text.add(line.top, text.mul(tap, params.vertical.dilation))
        lines = text.add(text.mul(line.image, self.pixels.height), row)
        pixel = text.add(text.mul(lines, self.pixels.width), column)
        offset = text.add(text.mul(pixel, params.channels), panel.channel)
        return text.at(self.input, offset, params.element)

    def _left(self, pixel: Value) -> Value:
        across = self.params.horizontal
        return self.text.sub(self.text.mul(pixel, across.stride), across.before)

    def _weights_at(self, panel: _Panel, tap: Value) -> Value:
        offset = self.text.mul(tap, self.registers.width)
        return self.text.at(panel.weights, offset, self.params.element)

    def _carried(self, count: int) -> list[tuple[str, Value]]:
        return [(self.registers.type, "zeroinitializer")] * count

    def _tile(self, line: _Line, panel: _Panel, pixel: Value, size: int) -> None:
        """`size` neighbouring pixels, all of whose horizontal taps lie in the image."""
        text, across = self.text, self.params.horizontal
        vectors, left = self._vectors(panel), self._left(pixel)

        def row_of_taps(tap: Value, values: list[Value]) -> list[Value]:
            source = self._source(line, panel, tap, left)
            first = text.mul(tap, across.kernel)
            if across.kernel <= UNROLLED_TAPS:
                return self._unrolled(vectors, source, self._weights_at(panel, first), size, values)

            def one(kw: Value, carried: list[Value]) -> list[Value]:
                moved = text.at(
                    source, text.mul(kw, across.dilation * self.params.channels),
                    self.params.element,
                )  # fmt: skip
                weights = self._weights_at(panel, text.add(first, kw))
                return self._one_tap(vectors, moved, weights, size, carried)

            return text.loop(
                0, across.kernel, 1, one,
                [(self.registers.type, value) for value in values],
            )  # fmt: skip

        sums = text.loop(*line.taps, 1, row_of_taps, self._carried(size * len(vectors)))
        for offset in range(size):
            place = text.add(pixel, offset)
            values = sums[offset * len(vectors) : (offset + 1) * len(vectors)]
            self._store(line, panel, place, vectors, values)

    def _unrolled(
        self,
        vectors: list[tuple[int, Value | None]],
        source: Value,
        weights: Value,
        size: int,
        values: list[Value],
    ) -> list[Value]:
        """All kw of one kh: each input is loaded once and used by every pixel it belongs to."""
        text, across, type = self.text, self.params.horizontal, self.registers.type
        element, channels = self.params.element, self.params.channels
        result = list(values)
        uses: dict[int, list[tuple[int, int]]] = {}
        for pixel in range(size):
            for kw in range(across.kernel):
                column = pixel * across.stride + kw * across.dilation
                uses.setdefault(column, []).append((pixel, kw))
        align = ELEMENT_BYTES[element] * self.registers.lanes
        for index, (offset, mask) in enumerate(vectors):
            filters = [
                text.load(
                    type, text.at(weights, kw * self.registers.width + offset, element), align
                )
                for kw in range(across.kernel)
            ]
            for column, users in sorted(uses.items()):
                value = load_lanes(
                    text, type, text.at(source, column * channels + offset, element), mask
                )
                for pixel, kw in users:
                    slot = pixel * len(vectors) + index
                    result[slot] = text.fma(type, value, filters[kw], result[slot])
        return result

    def _one_tap(
        self,
        vectors: list[tuple[int, Value | None]],
        source: Value,
        weights: Value,
        size: int,
        values: list[Value],
    ) -> list[Value]:
        """One tap of `size` pixels."""
        text, type, element = self.text, self.registers.type, self.params.element
        step = self.params.horizontal.stride * self.params.channels
        result = list(values)
        for index, (offset, mask) in enumerate(vectors):
            weight = text.load(type, text.at(weights, offset, element))
            for pixel in range(size):
                value = load_lanes(
                    text, type, text.at(source, pixel * step + offset, element), mask
                )
                slot = pixel * len(vectors) + index
                result[slot] = text.fma(type, value, weight, result[slot])
        return result

    def _edge_pixel(self, line: _Line, panel: _Panel, pixel: Value) -> None:
        """One pixel some of whose horizontal taps lie outside the image."""
        text, across = self.text, self.params.horizontal
        vectors, left = self._vectors(panel), self._left(pixel)
        taps = across.emit_range(text, left, self.pixels.width)

        def row_of_taps(kh: Value, values: list[Value]) -> list[Value]:
            def one(kw: Value, carried: list[Value]) -> list[Value]:
                column = text.add(left, text.mul(kw, across.dilation))
                weights = self._weights_at(panel, text.add(text.mul(kh, across.kernel), kw))
                source = self._source(line, panel, kh, column)
                return self._one_tap(vectors, source, weights, 1, carried)

            return text.loop(*taps, 1, one, [(self.registers.type, value) for value in values])

        sums = text.loop(*line.taps, 1, row_of_taps, self._carried(len(vectors)))
        self._store(line, panel, pixel, vectors, sums)

    def _store(
        self,
        line: _Line,
        panel: _Panel,
        pixel: Value,
        vectors: list[tuple[int, Value | None]],
        values: list[Value],
    ) -> None:
        text, params = self.text, self.params
        row = text.add(line.first, pixel)
        for (offset, mask), value in zip(vectors, values, strict=True):
            channel = text.add(panel.channel, offset)
            place = text.add(text.mul(row, params.channels), channel)
            address = text.at(self.output, place, params.epilogue.element or params.element)
            finish_vector(
                text, params.epilogue, self.body, self.registers.type, value, row, channel, mask,
                address,
            )  # fmt: skip
