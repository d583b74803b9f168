"""Integer convolution of channels-last images: 8-bit operands, exact 32-bit sums.

The indirect convolution of `conv` with the byte products of `int8`. Taps outside the image read
a row of the zero point, so that padding is exact for asymmetric quantisation too.
"""

from dataclasses import dataclass

from lowering.cpu.templates.conv import ConvParams, TapEmitter
from lowering.cpu.templates.epilogue import IDENTITY, Epilogue
from lowering.cpu.templates.int8 import MAXIMUM_K, STEPS, Dot, registers_of, way_of
from lowering.cpu.templates.microkernel import Tile
from lowering.cpu.templates.schedule import Extent, panels_per_group, rows_per_block
from lowering.cpu.templates.tiling import Place, Tiling
from lowering.cpu.templates.window import Axis
from lowering.cpu.text import Module, Text, Value
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TargetInfo


@dataclass(frozen=True)
class Int8ConvParams:
    """A convolution `[N, H, W, C] -> [N, OH, OW, OC]` of bytes into i32.

    Argument words as of `conv.ConvParams`, weights packed by `emit_pack`; the epilogue gets
    vectors of i32.

    Attributes:
        in_channels: Input channels of all groups.
        out_channels: Output channels of all groups.
        vertical: Window along H.
        horizontal: Window along W.
        signed: Whether the input is i8; else u8. Weights are i8.
        zero_point: Value of taps outside the image, in the input's type.
        groups: Groups of channels.
        dims: Static N, H, W, None where dynamic.
        runs: Whether the KW * C bytes under a row of the window, which are neighbours in memory,
            are contracted as one tap: for few channels. No padding nor dilation along W, and one
            group.
        epilogue: Applied to each result vector; its row is the flat output pixel.
    """

    in_channels: int
    out_channels: int
    vertical: Axis
    horizontal: Axis
    signed: bool = True
    zero_point: int = 0
    groups: int = 1
    dims: tuple[int | None, int | None, int | None] = (None, None, None)
    runs: bool = False
    epilogue: Epilogue = IDENTITY

    def __post_init__(self) -> None:
        low, high = (-128, 127) if self.signed else (0, 255)
        if not low <= self.zero_point <= high:
            raise InvalidArgumentError(
                f"zero point {self.zero_point} is not in {low}..{high} of the input's type"
            )
        if self.as_conv.steps > MAXIMUM_K:
            raise InvalidArgumentError(
                f"an 8-bit convolution of {self.as_conv.steps} steps could overflow 32 bits; "
                f"the limit is {MAXIMUM_K}"
            )

        across = self.horizontal
        if self.runs and (self.groups != 1 or across.padded or across.dilation != 1):
            raise InvalidArgumentError(
                f"rows of a window are no runs of bytes with {self.groups} groups and {across}"
            )

    @property
    def taps(self) -> int:
        """Runs of bytes under a window."""
        return self.vertical.kernel if self.runs else self.as_conv.taps

    @property
    def run(self) -> int:
        """Bytes of a run."""
        channels = self.as_conv.channels
        return self.horizontal.kernel * channels if self.runs else channels

    @property
    def as_conv(self) -> ConvParams:
        """The geometry."""
        return ConvParams(
            self.in_channels, self.out_channels, self.vertical, self.horizontal, self.groups,
            self.dims, self.epilogue, "i8",
        )  # fmt: skip


def tiling(params: Int8ConvParams, target: TargetInfo) -> Tiling:
    """How the result is cut; rows are output pixels."""
    registers, geometry = registers_of(params.signed, target), params.as_conv
    panels = -(-geometry.columns // registers.width)
    block_rows = rows_per_block(geometry.channels, registers.rows, target)
    return Tiling(registers, None, geometry.columns, block_rows, panels_per_group(panels))


def parallel_extent(params: Int8ConvParams, target: TargetInfo) -> Extent:
    """Units as a function of output pixels (N * OH * OW)."""
    cut = tiling(params, target)
    return Extent(cut.block_rows, cut.groups * params.groups)


def packed_dims(params: Int8ConvParams, target: TargetInfo) -> tuple[int, int, int, int, int, int]:
    """`(groups, panels, taps, ceil(C / G), NR, G)` bytes; what is past the end is zero."""
    geometry, steps = params.as_conv, STEPS[way_of(params.signed, target)]
    width = registers_of(params.signed, target).width
    panels = -(-geometry.columns // width)
    return params.groups, panels, params.taps, -(-params.run // steps), width, steps


def operations(params: Int8ConvParams, batch: int, height: int, width: int) -> int:
    """Integer operations executed, padding counted."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    return pixels * params.out_channels * 2 * params.as_conv.steps


def emit(module: Module, name: str, params: Int8ConvParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    count, value = params.run, params.zero_point % 256
    listed = ", ".join([f"i8 {value}"] * count)
    outside = module.constant(f"outside_{value}_{count}", f"[{count} x i8]", f"[{listed}]")
    emitter = _Emitter(text, params, target, outside)
    text.loop("%lo", "%hi", 1, lambda index, _: emitter.unit(index))
    text.finish()


class _Emitter(TapEmitter):
    def __init__(self, text: Text, params: Int8ConvParams, target: TargetInfo, outside: Value):
        super().__init__(text, params.as_conv, tiling(params, target), outside)
        self.run, self.runs = params.run, params.runs
        method = way_of(params.signed, target)
        self.dot = Dot(text, self.tiling.registers, method, params.signed)
        _, _, taps, words, width, steps = packed_dims(params, target)
        self.tap_bytes = words * width * steps
        self.panel_bytes = taps * self.tap_bytes

    def panel_pointers(self, tile: Tile, group: Value, place: Place) -> list[Value]:
        """Pointers to the first byte of each panel of a tile."""
        text = self.text
        number = text.add(text.mul(group, self.tiling.panels), place.panel)
        first = text.at(self.weights, text.mul(number, self.panel_bytes), "i8")
        panels = -(-tile.vectors // tile.registers.vectors)
        return [text.at(first, panel * self.panel_bytes, "i8") for panel in range(panels)]

    def contract(
        self, tile: Tile, rows: list[tuple[Value, Value, Value]], panels: list[Value]
    ) -> list[Value]:
        """All taps of one tile; sums are exact, so one run of accumulators serves them all."""
        text = self.text

        def tap(number: Value, values: list[Value]) -> list[Value]:
            offset = text.mul(number, self.tap_bytes)
            advanced = [text.at(panel, offset, "i8") for panel in panels]
            first = text.mul(number, self.params.horizontal.kernel) if self.runs else number
            pointers = self.tap_pointers(rows, first)
            return self.dot.run(tile, pointers, advanced, self.run, values)

        count = self.params.vertical.kernel if self.runs else self.params.taps
        return text.loop(0, count, 1, tap, tile.carried(tile.zeros()))


def emit_pack(module: Module, name: str, params: Int8ConvParams, target: TargetInfo) -> None:
    """Write the prepare kernel `name`: i8 `[OC, C / groups, KH, KW]` to `packed_dims`.

    Argument words: 0 source, 1 destination. A unit is one panel of one group.
    """
    text, geometry = Text(module, name), params.as_conv
    source, packed = text.argument(0, role="source"), text.argument(1, role="packed")
    _, panels, taps, words, width, steps = packed_dims(params, target)

    def unit(index: Value, _: list[Value]) -> None:
        group, panel = text.udiv(index, panels), text.urem(index, panels)
        base = text.mul(index, taps * words * width * steps)

        def byte(number: Value, _: list[Value]) -> None:
            step, rest = text.urem(number, steps), text.udiv(number, steps)
            lane, rest = text.urem(rest, width), text.udiv(rest, width)
            word, tap = text.urem(rest, words), text.udiv(rest, words)
            channel = text.add(text.mul(word, steps), step)
            column = text.add(text.mul(panel, width), lane)
            real = text.binary(
                "and",
                "i1",
                text.compare("slt", channel, params.run),
                text.compare("slt", column, geometry.columns),
            )
            if params.runs:
                across, channels = params.horizontal.kernel, geometry.channels
                tap = text.add(text.mul(tap, across), text.udiv(channel, channels))
                channel = text.urem(channel, channels)
            row = text.add(text.mul(group, geometry.columns), column)
            row = text.add(text.mul(row, geometry.channels), channel)
            offset = text.add(text.mul(row, geometry.taps), tap)
            place = text.at(source, text.select("i64", real, offset, "0"), "i8")
            value = text.select("i8", real, text.load("i8", place, 1), "0")
            text.store("i8", value, text.at(packed, text.add(base, number), "i8"), 1)

        text.loop(0, taps * words * width * steps, 1, byte)

    text.loop("%lo", "%hi", 1, unit)
    text.finish()
