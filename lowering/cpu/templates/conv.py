"""Convolution of channels-last images as a matrix product whose rows are pixels.

Two ways to find the rows of A, both without a halo in the caller's buffers:

* taps (indirect GEMM): for each tap a row pointer per pixel, chosen between the input and a row
  of zeros. A tile may cross image rows and images.
* strip (few input channels, where a run of C steps is too short): a unit copies the input rows
  it needs into padded scratch, so that a run is KW * C steps long and needs no check.

Steps are ordered (kh, kw, c) in both. Blocks of at most `K_BLOCK` steps end at tap borders, or
inside a tap if it has more channels than that.
"""

from dataclasses import dataclass, replace

from lowering.cpu.templates.conv_shape import ConvShape
from lowering.cpu.templates.epilogue import EpilogueBody
from lowering.cpu.templates.microkernel import (
    Accumulators,
    Tile,
    Totals,
    accumulate,
    opaque_pointers,
    sum_blocks,
)
from lowering.cpu.templates.schedule import (
    ELEMENT_BYTES,
    K_BLOCK,
    Extent,
    register_tile,
    unit_size,
)
from lowering.cpu.templates.tiling import Place, Tiling, Walker, store_tile
from lowering.cpu.templates.window import Axis, Pixels, neighbouring_pixels, read_pixels
from lowering.cpu.text import Module, Text, Value
from torsh_dialect.target import TargetInfo

STRIP_CHANNELS = 12
"""Fewer input channels than this run from a padded strip: choosing pointers costs about as much
as 5 steps of a tile, the copy a few per cent of the product."""

STRIP_COLUMNS = 120
"""Output columns that are copied at a time (a multiple of the tile heights 4, 6 and 12): bounds
the scratch where the width is dynamic, and keeps it in the level 1 cache."""


@dataclass(frozen=True)
class ConvParams(ConvShape[Axis]):
    """A convolution `[N, H, W, C] -> [N, OH, OW, OC]`; one spatial axis is H = 1.

    Argument words: 0 input, 1 packed weights (`pack.pack_conv`), 2 output, 3 N, 4 H, 5 W,
    6 scratch, 7 scratch bytes of a worker (both read only if `scratch_bytes` is not 0),
    8 and on: the epilogue's. Static extents are not read from their words.
    """

    @property
    def steps(self) -> int:
        """Steps of the contraction (K)."""
        return self.taps * self.channels

    @property
    def strip_columns(self) -> int:
        """Most output columns of a strip; a whole row if its static width allows."""
        width = self.dims[2]
        whole = STRIP_COLUMNS if width is None else self.horizontal.output(width)
        return whole if whole <= 2 * STRIP_COLUMNS else STRIP_COLUMNS

    @property
    def strip_pitch(self) -> int:
        """Elements of a row of a strip."""
        across = self.horizontal
        return ((self.strip_columns - 1) * across.stride + across.reach) * self.channels

    @property
    def strip(self) -> bool:
        """Whether rows of A are read from a padded copy."""
        return (
            self.groups == 1
            and self.channels < STRIP_CHANNELS
            and self.horizontal.kernel > 1
            and self.horizontal.dilation == 1
            and self.horizontal.kernel * self.channels <= K_BLOCK
        )


def tiling(params: ConvParams, target: TargetInfo) -> Tiling:
    """How the result is cut: rows are output pixels, or the pixels of one row for strips."""
    registers = register_tile(params.columns, target, params.element)
    batch, height, width = params.dims
    if params.strip:
        whole = width is not None and params.horizontal.output(width) == params.strip_columns
        rows = params.strip_columns if whole else None
        return Tiling(
            registers, rows, params.columns, 1 << 40, -(-params.columns // registers.width)
        )
    rows = None
    if batch is not None and height is not None and width is not None:
        rows = batch * params.vertical.output(height) * params.horizontal.output(width)
    down, across = params.vertical, params.horizontal
    touched = min(down.kernel, down.stride) * min(across.kernel, across.stride)
    row_bytes = touched * params.channels * ELEMENT_BYTES[params.element]
    block, group = unit_size(registers, rows, params.columns, params.steps, row_bytes, target)
    return Tiling(registers, rows, params.columns, block, group)


def parallel_extent(params: ConvParams, target: TargetInfo) -> Extent:
    """Units as a function of output pixels (N * OH * OW), for strips of output rows (N * OH)."""
    if params.strip:
        return Extent(1, 1)
    cut = tiling(params, target)
    return Extent(cut.block_rows, cut.groups * params.groups)


def scratch_bytes(params: ConvParams) -> int:
    """Bytes of scratch that each worker needs."""
    if not params.strip:
        return 0
    elements = params.strip_pitch * params.vertical.kernel
    return -(-elements * ELEMENT_BYTES[params.element] // 64) * 64


def flops(params: ConvParams, batch: int, height: int, width: int) -> int:
    """Floating-point operations executed, padding counted."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    return pixels * params.out_channels * (2 * params.steps + params.epilogue.operations)


def bytes_moved(params: ConvParams, batch: int, height: int, width: int) -> int:
    """Bytes of input, weights and output, each counted once."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    elements = batch * height * width * params.in_channels + pixels * params.out_channels
    return ELEMENT_BYTES[params.element] * (elements + params.out_channels * params.steps)


def emit(module: Module, name: str, params: ConvParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    cut, zeros = tiling(params, target), module_zeros(module, params.element, params.channels)
    emitter = (
        _StripEmitter(text, params, cut) if params.strip else TapEmitter(text, params, cut, zeros)
    )
    text.loop("%lo", "%hi", 1, lambda index, _: emitter.unit(index))
    text.finish()


class _ConvEmitter:
    """What both ways share: arguments, extents, tiling."""

    def __init__(self, text: Text, params: ConvParams, cut: Tiling):
        self.text, self.params = text, params
        self.input, self.weights, self.output = (
            text.argument(i, role=role) for i, role in enumerate(("input", "weights", "output"))
        )
        self.pixels: Pixels = read_pixels(text, params.vertical, params.horizontal, params.dims)
        self.tiling = cut
        self.body: EpilogueBody = params.epilogue.begin(text)

    def panel_pointers(self, tile: Tile, group: Value, place: Place) -> list[Value]:
        """Pointers to the first step of each panel of a tile."""
        text, size = self.text, self.params.steps * self.tiling.registers.width
        number = text.add(text.mul(group, self.tiling.panels), place.panel)
        first = text.at(self.weights, text.mul(number, size), self.params.element)
        panels = -(-tile.vectors // tile.registers.vectors)
        return [text.at(first, panel * size, self.params.element) for panel in range(panels)]

    def advanced(self, panels: list[Value], step: Value) -> list[Value]:
        """Panel pointers `step` steps further."""
        offset = self.text.mul(step, self.tiling.registers.width)
        return [self.text.at(panel, offset, self.params.element) for panel in panels]


class TapEmitter(_ConvEmitter):
    """Row pointers per tap; `outside` is the row that stands for taps outside the image."""

    def __init__(self, text: Text, params: ConvParams, cut: Tiling, outside: Value):
        super().__init__(text, params, cut)
        pixels = self.pixels
        self.rows = text.mul(text.mul(pixels.batch, pixels.out_height), pixels.out_width)
        self.walker = Walker(text, self.tiling, self.rows)
        self.outside = outside

    def unit(self, index: Value) -> None:
        """Write unit `index`: (block of pixels, group of channels, group of panels)."""
        text, groups = self.text, self.tiling.groups
        part = text.urem(index, groups * self.params.groups)
        block = text.udiv(index, groups * self.params.groups)
        group, panels = text.udiv(part, groups), text.urem(part, groups)
        self.walker.unit(block, panels, lambda tile, place: self._tile(tile, place, group))

    def _tile(self, tile: Tile, place: Place, group: Value) -> None:
        text, params = self.text, self.params
        rows = self._row_state(tile, place, group)
        values = self.contract(tile, rows, self.panel_pointers(tile, group, place))
        store_tile(
            text, tile, place, values, params.out_channels, self.output,
            params.epilogue, self.body, text.mul(group, params.columns),
        )  # fmt: skip

    def _row_state(
        self, tile: Tile, place: Place, group: Value
    ) -> list[tuple[Value, Value, Value]]:
        """For each pixel: input row and column of its first tap, and their element offset."""
        text, params, pixels = self.text, self.params, self.pixels
        state: list[tuple[Value, Value, Value]] = []
        for image, row, column in neighbouring_pixels(text, pixels, place.row, tile.rows):
            top = text.sub(text.mul(row, params.vertical.stride), params.vertical.before)
            left = text.sub(text.mul(column, params.horizontal.stride), params.horizontal.before)
            line = text.add(text.mul(image, pixels.height), top)
            pixel = text.add(text.mul(line, pixels.width), left)
            offset = text.add(text.mul(pixel, params.in_channels), text.mul(group, params.channels))
            state.append((top, left, offset))
        return state

    def tap_pointers(self, rows: list[tuple[Value, Value, Value]], tap: Value) -> list[Value]:
        """Pointer to channel 0 of tap `tap` of each pixel; to zeros outside the image."""
        text, params, pixels = self.text, self.params, self.pixels
        across = params.horizontal
        down_by = text.mul(text.udiv(tap, across.kernel), params.vertical.dilation)
        across_by = text.mul(text.urem(tap, across.kernel), across.dilation)
        shift = text.mul(text.add(text.mul(down_by, pixels.width), across_by), params.in_channels)
        pointers: list[Value] = []
        for top, left, offset in rows:
            pointer = text.at(self.input, text.add(offset, shift), params.element)
            checks: list[Value] = []
            if params.vertical.padded:
                checks.append(text.compare("ult", text.add(top, down_by), pixels.height))
            if across.padded:
                checks.append(text.compare("ult", text.add(left, across_by), pixels.width))
            if checks:
                inside = checks[0] if len(checks) == 1 else text.let(f"and i1 {', '.join(checks)}")
                pointer = text.select("ptr", inside, pointer, self.outside)
            pointers.append(pointer)
        return pointers

    def contract(
        self, tile: Tile, rows: list[tuple[Value, Value, Value]], panels: list[Value]
    ) -> list[Value]:
        """All taps of one tile."""
        text, params = self.text, self.params
        channels = params.channels
        if channels > K_BLOCK:
            return self._contract_deep(tile, rows, panels)
        taps_per_block = K_BLOCK // channels

        def block(index: Value, values: Accumulators) -> Accumulators:
            first = text.mul(index, taps_per_block)
            end = text.minimum(text.add(first, taps_per_block), params.taps)

            def tap(number: Value, carried: Accumulators) -> Accumulators:
                start = text.mul(number, channels)
                return accumulate(
                    text, tile, self.tap_pointers(rows, number), self.advanced(panels, start),
                    channels, carried,
                )  # fmt: skip

            return text.loop(first, end, 1, tap, tile.carried(values), guarded=False)

        return sum_blocks(text, tile, -(-params.taps // taps_per_block), block, None)

    def _contract_deep(
        self, tile: Tile, rows: list[tuple[Value, Value, Value]], panels: list[Value]
    ) -> list[Value]:
        """More channels than a block has steps: blocks inside each tap."""
        text, params = self.text, self.params
        totals = Totals(text, tile)

        def tap(number: Value, _: list[Value]) -> None:
            pointers = self.tap_pointers(rows, number)
            start = text.mul(number, params.channels)

            def block(channel: Value, length: int) -> None:
                totals.add(
                    accumulate(
                        text, tile,
                        [text.at(pointer, channel, params.element) for pointer in pointers],
                        self.advanced(panels, text.add(start, channel)), length, tile.zeros(),
                    )
                )  # fmt: skip

            whole = params.channels // K_BLOCK * K_BLOCK
            text.loop(0, whole, K_BLOCK, lambda channel, _: block(channel, K_BLOCK))
            if params.channels > whole:
                block(str(whole), params.channels - whole)

        text.loop(0, params.taps, 1, tap)
        return totals.read()


class _StripEmitter(_ConvEmitter):
    """Rows of A in a padded copy of the input rows that one output row needs."""

    def __init__(self, text: Text, params: ConvParams, cut: Tiling):
        super().__init__(text, params, cut)
        self.lanes = self.tiling.registers.lanes
        base, size = text.argument(6, role="scratch"), text.argument(7, "i64", "bytes")
        self.strip = text.at(base, text.mul("%worker", size), "i8")
        self.pitch = params.strip_pitch

    def unit(self, index: Value) -> None:
        """Write unit `index`: one output row, strip by strip."""
        text, pixels = self.text, self.pixels
        image, row = text.udiv(index, pixels.out_height), text.urem(index, pixels.out_height)
        limit = self.params.strip_columns

        def strip(first: Value, _: list[Value]) -> None:
            count = text.minimum(text.sub(pixels.out_width, first), limit)
            self._fill(image, row, first, count)
            pixel = text.add(text.mul(index, pixels.out_width), first)
            walker = Walker(text, self.tiling, count)
            walker.unit("0", "0", lambda tile, place: self._tile(tile, place, pixel, count))

        text.loop(0, pixels.out_width, limit, strip)

    def _fill(self, image: Value, row: Value, first: Value, count: Value) -> None:
        """Copy the input under `count` outputs from `first` on of a row, zeros around it."""
        text, params, pixels = self.text, self.params, self.pixels
        down, across, channels = params.vertical, params.horizontal, params.channels
        top = text.sub(text.mul(row, down.stride), down.before)
        left = text.sub(text.mul(first, across.stride), across.before)
        columns = text.add(text.mul(text.sub(count, 1), across.stride), across.reach)
        start = text.maximum(left, 0)
        end = text.minimum(text.add(left, columns), pixels.width)
        inner = text.mul(text.maximum(text.sub(end, start), 0), channels)
        before = text.mul(text.minimum(text.sub(start, left), columns), channels)
        whole = text.mul(columns, channels)

        def line(tap: Value, _: list[Value]) -> None:
            source = text.add(top, text.mul(tap, down.dilation))
            into = text.at(self.strip, text.mul(tap, self.pitch), params.element)
            inside = text.compare("ult", source, pixels.height)
            pixel = text.add(
                text.mul(text.add(text.mul(image, pixels.height), source), pixels.width), start
            )
            pointer = text.at(self.input, text.mul(pixel, channels), params.element)
            length = text.select("i64", inside, inner, "0")
            body = text.at(into, before, params.element)
            self._copy(into, None, before)
            self._copy(body, pointer, length)
            rest = text.sub(text.sub(whole, before), length)
            self._copy(text.at(body, length, params.element), None, rest)

        text.loop(0, down.kernel, 1, line)

    def _copy(self, into: Value, source: Value | None, count: Value) -> None:
        """Copy `count` elements, or set them to zero."""
        text, element = self.text, self.params.element
        vector = f"<{self.lanes} x {element}>"
        whole = text.mul(text.sdiv(count, self.lanes), self.lanes)

        def move(type: str, zero: str) -> None:
            def body(index: Value, _: list[Value]) -> None:
                value = zero
                if source is not None:
                    value = text.load(type, text.at(source, index, element))
                text.store(type, value, text.at(into, index, element))

            bounds = ("0", whole) if type == vector else (whole, count)
            text.loop(*bounds, self.lanes if type == vector else 1, body)

        move(vector, "zeroinitializer")
        move(element, "0.0")

    def _tile(self, tile: Tile, place: Place, first: Value, count: Value) -> None:
        text, params = self.text, self.params
        step = params.horizontal.stride * params.channels
        rows: list[Value] = []
        for offset in range(tile.rows):
            column = text.add(place.row, offset)
            rows.append(text.at(self.strip, text.mul(column, step), params.element))
        rows = opaque_pointers(text, rows)
        values = self._contract(tile, rows, self.panel_pointers(tile, "0", place))
        moved = replace(place, row=text.add(first, place.row))
        store_tile(
            text, tile, moved, values, params.out_channels, self.output,
            params.epilogue, self.body,
        )  # fmt: skip

    def _contract(self, tile: Tile, rows: list[Value], panels: list[Value]) -> list[Value]:
        """Runs of KW * C steps; blocks hold whole runs where several fit."""
        text, params = self.text, self.params
        run = params.horizontal.kernel * params.channels
        runs_per_block = max(1, K_BLOCK // run)
        taps = params.vertical.kernel

        def one_run(tap: Value, carried: Accumulators) -> Accumulators:
            offset = text.mul(tap, self.pitch)
            pointers = [text.at(row, offset, params.element) for row in rows]
            return accumulate(
                text, tile, pointers, self.advanced(panels, text.mul(tap, run)), run, carried
            )

        def block(index: Value, values: Accumulators) -> Accumulators:
            first = text.mul(index, runs_per_block)
            end = text.minimum(text.add(first, runs_per_block), taps)
            return text.loop(first, end, 1, one_run, tile.carried(values), guarded=False)

        return sum_blocks(text, tile, -(-taps // runs_per_block), block, None)


def module_zeros(module: Module, element: str, count: int) -> Value:
    """A module constant of at least `count` zeros, shared by kernels that need as many."""
    return module.constant(f"zeros_{element}_{count}", f"[{count} x {element}]", "zeroinitializer")
