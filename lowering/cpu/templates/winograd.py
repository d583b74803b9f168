"""3x3 convolution with stride 1 by Winograd's F(2x2, 3x3), channels-last.

    Y = A^T [ sum_c (G g G^T) * (B^T d B) ] A      (Lavin and Gray, arXiv:1509.09308, section 4.1)

A unit is a block of T output tiles of 2x2 pixels times a group of panels of output channels:
input transform into scratch, then for each panel 16 small matrix products and the output
transform while their results are in the level 1 cache. It executes 4/9 of the direct
multiplications. Weights are transformed once, by `emit_pack`, in double precision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from lowering.cpu.templates.conv import module_zeros
from lowering.cpu.templates.epilogue import (
    IDENTITY,
    Epilogue,
    finish_vector,
    load_lanes,
    mask_of,
    store_lanes,
)
from lowering.cpu.templates.gemm import contract
from lowering.cpu.templates.microkernel import Tile
from lowering.cpu.templates.schedule import Extent, Registers, register_tile, winograd_tiles
from lowering.cpu.templates.tiling import Place, Tiling, Walker
from lowering.cpu.templates.window import Axis, read_pixels
from lowering.cpu.text import Module, Text, Value
from torsh_dialect.target import TargetInfo

INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
"""B^T."""

WEIGHT = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
"""G."""

OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))
"""A^T."""

POINTS = 16
"""Products per tile: 4 x 4."""

GROUP_COLUMNS = 128
"""Output channels of a unit: small images have too few tiles to share among threads. The input
transform, repeated by threads that share a block of tiles, is 2 % of so many columns' products."""


@dataclass(frozen=True)
class WinogradParams:
    """A 3x3, stride 1, undilated, ungrouped convolution `[N, H, W, C] -> [N, OH, OW, OC]`.

    Argument words as of `conv.ConvParams`; weights packed by `emit_pack`.

    Attributes:
        in_channels: Input channels.
        out_channels: Output channels.
        vertical: Window along H; only its padding is free.
        horizontal: Window along W; only its padding is free.
        dims: Static N, H, W, None where dynamic.
        epilogue: Applied to each result vector; its row is the flat output pixel.
    """

    in_channels: int
    out_channels: int
    vertical: Axis
    horizontal: Axis
    dims: tuple[int | None, int | None, int | None] = (None, None, None)
    epilogue: Epilogue = IDENTITY

    def tiles(self, batch: int, height: int, width: int) -> int:
        """Output tiles of 2x2 pixels."""
        down, across = self.vertical.output(height), self.horizontal.output(width)
        return batch * (-(-down // 2)) * (-(-across // 2))


def suits(params: WinogradParams) -> bool:
    """Whether fewer multiplications outweigh the transforms; never looks at the batch.

    The transforms cost about 56 operations per tile and channel, the products 32 per tile and
    pair of channels, so few channels on either side do not pay. Neither do images so small that
    tiles of 2x2 hang over their edges; dynamic extents are taken to be large.
    """
    if min(params.in_channels, params.out_channels) < 32:
        return False
    _, height, width = params.dims
    down = 2 if height is None else params.vertical.output(height)
    across = 2 if width is None else params.horizontal.output(width)
    tiles = -(-down // 2) * -(-across // 2)
    return POINTS * tiles < 9 * down * across


def registers_of(params: WinogradParams, target: TargetInfo) -> Registers:
    """The register tile of the 16 products."""
    return register_tile(params.out_channels, target)


def parallel_extent(params: WinogradParams, target: TargetInfo) -> Extent:
    """Units as a function of `params.tiles`."""
    return Extent(winograd_tiles(params.in_channels, target), _groups(params, target))


def _group_panels(params: WinogradParams, target: TargetInfo) -> int:
    """Panels of a unit."""
    return -(-GROUP_COLUMNS // registers_of(params, target).width)


def _groups(params: WinogradParams, target: TargetInfo) -> int:
    """Groups of panels."""
    return -(-packed_dims(params, target)[0] // _group_panels(params, target))


def _pitch(params: WinogradParams, target: TargetInfo) -> int:
    """Elements between transformed inputs of two points.

    One cache line more than the data, because 16 streams at a power of two would share few sets.
    """
    return winograd_tiles(params.in_channels, target) * params.in_channels + 16


def scratch_bytes(params: WinogradParams, target: TargetInfo) -> int:
    """Bytes of scratch that each worker needs."""
    products = winograd_tiles(params.in_channels, target) * registers_of(params, target).width
    return 4 * POINTS * (_pitch(params, target) + products)


def packed_dims(params: WinogradParams, target: TargetInfo) -> tuple[int, int, int, int]:
    """`(panels, 16, C, NR)`: transformed weights, output channels past the end are zero."""
    width = registers_of(params, target).width
    return -(-params.out_channels // width), POINTS, params.in_channels, width


def flops(params: WinogradParams, batch: int, height: int, width: int) -> int:
    """Floating-point operations executed, transforms included."""
    tiles = params.tiles(batch, height, width)
    products = 2 * POINTS * params.in_channels * params.out_channels
    transforms = 32 * params.in_channels + 24 * params.out_channels
    return tiles * (products + transforms + 4 * params.out_channels * params.epilogue.operations)


def bytes_moved(params: WinogradParams, batch: int, height: int, width: int) -> int:
    """Bytes of input, transformed weights and output, each counted once."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    weights = POINTS * params.in_channels * params.out_channels
    inputs = batch * height * width * params.in_channels
    return 4 * (inputs + weights + pixels * params.out_channels)


def combine(text: Text, type: str, coefficients: Sequence[float], values: Sequence[Value]) -> Value:
    """`sum(c * v)` for coefficients of 0, 1, -1, in order; one of the first two is not -1."""
    terms = [(c, v) for c, v in zip(coefficients, values, strict=True) if c]
    terms.sort(key=lambda term: term[0] < 0)
    total = terms[0][1]
    for coefficient, value in terms[1:]:
        total = text.binary("fadd" if coefficient > 0 else "fsub", type, total, value)
    return total


def transform(
    text: Text,
    matrix: Sequence[Sequence[float]],
    grid: list[list[Value]],
    one: Callable[[Text, Sequence[float], Sequence[Value]], Value],
) -> list[list[Value]]:
    """`matrix @ grid @ matrix^T`, with `one` for a row times a vector of values."""
    size = len(grid)
    half = [
        [one(text, row, [grid[k][column] for k in range(size)]) for column in range(size)]
        for row in matrix
    ]
    return [[one(text, row, line) for row in matrix] for line in half]


def emit(module: Module, name: str, params: WinogradParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    emitter = _Emitter(text, params, target)
    text.loop("%lo", "%hi", 1, lambda index, _: emitter.unit(index))
    text.finish()


class _Emitter:
    def __init__(self, text: Text, params: WinogradParams, target: TargetInfo):
        self.text, self.params = text, params
        self.registers = registers_of(params, target)
        self.type = self.registers.type
        self.groups = _groups(params, target)
        self.group_panels = _group_panels(params, target)
        self.limit, self.pitch = winograd_tiles(params.in_channels, target), _pitch(params, target)
        self.input, self.weights, self.output = (
            text.argument(i, role=role) for i, role in enumerate(("input", "weights", "output"))
        )
        self.pixels = read_pixels(text, params.vertical, params.horizontal, params.dims)
        self.down = text.ceildiv(self.pixels.out_height, 2)
        self.across = text.ceildiv(self.pixels.out_width, 2)
        self.tiles = text.mul(self.pixels.batch, text.mul(self.down, self.across))
        self.blocks = text.maximum(text.ceildiv(self.tiles, self.limit), 1)
        base, size = text.argument(6, role="scratch"), text.argument(7, "i64", "bytes")
        self.inputs = text.at(base, text.mul("%worker", size), "i8")
        self.products = text.at(self.inputs, POINTS * self.pitch)
        self.pointers = text.alloca("ptr", POINTS, 8, "pointers")
        self.zeros = module_zeros(text.module, "float", params.in_channels)
        self.body = params.epilogue.begin(text)

    def unit(self, index: Value) -> None:
        """Write unit `index`: (block of tiles, group of panels).

        The groups of a block follow each other, so its inputs are transformed only for the
        first of them in this worker's range.
        """
        text, registers = self.text, self.registers
        block, group = text.udiv(index, self.groups), text.urem(index, self.groups)
        first = text.udiv(text.mul(self.tiles, block), self.blocks)
        end = text.udiv(text.mul(self.tiles, text.add(block, 1)), self.blocks)
        count = text.sub(end, first)

        def inputs() -> None:
            text.loop(0, count, 1, lambda tile, _: self._input(tile, text.add(first, tile)))

        if self.groups == 1:
            inputs()
        else:
            begins = text.compare("eq", index, "%lo")
            text.when(text.binary("or", "i1", begins, text.compare("eq", group, 0)), inputs)
        cut = Tiling(registers, None, self.params.out_channels, 1 << 40, 1)
        walker = Walker(text, cut, count)

        def panel(number: Value, _: list[Value]) -> None:
            text.loop(0, POINTS, 1, lambda point, _: self._multiply(walker, point, number))
            vectors = registers.vectors
            full, rest = divmod(self.params.out_channels, registers.width)

            def outputs(columns: int) -> None:
                text.loop(
                    0, count, 1,
                    lambda tile, _: self._output(tile, text.add(first, tile), number, columns),
                )  # fmt: skip

            if not rest or not full:
                outputs(rest or vectors * registers.lanes)
                return
            text.when(text.compare("slt", number, full), lambda: outputs(registers.width))
            text.when(text.compare("eq", number, full), lambda: outputs(rest))

        low = text.mul(group, self.group_panels)
        high = text.minimum(text.add(low, self.group_panels), cut.panels)
        text.loop(low, high, 1, panel)

    def _coordinates(self, tile: Value) -> tuple[Value, Value, Value]:
        """Image, tile row and tile column of flat tile number `tile`."""
        text = self.text
        lines = text.udiv(tile, self.across)
        return (
            text.udiv(lines, self.down),
            text.urem(lines, self.down),
            text.urem(tile, self.across),
        )

    def _input(self, slot: Value, tile: Value) -> None:
        """Transform the 4x4 input pixels of one tile for all channels."""
        text, params, pixels = self.text, self.params, self.pixels
        image, row, column = self._coordinates(tile)
        top = text.sub(text.mul(row, 2), params.vertical.before)
        left = text.sub(text.mul(column, 2), params.horizontal.before)
        line = text.add(text.mul(image, pixels.height), top)
        channels = params.in_channels
        start = text.mul(text.add(text.mul(line, pixels.width), left), channels)
        corner = text.at(self.input, start)
        stride = text.mul(pixels.width, channels)
        lines = [text.at(corner, text.mul(stride, i)) for i in range(4)]
        into = text.at(self.inputs, text.mul(slot, channels))
        inside, edge, done = text.label("inside"), text.label("edge"), text.label("done")
        text.branch_if(self._is_inside(top, left), inside, edge)
        text.start(inside)
        self._transform_channels(into, lambda i, j, c: text.at(text.at(lines[i], c), j * channels))
        text.branch(done)
        text.start(edge)
        self._choose_pointers(lines, top, left)
        self._transform_channels(into, self._chosen)
        text.branch(done)
        text.start(done)

    def _is_inside(self, top: Value, left: Value) -> Value:
        """Whether all 4x4 pixels from (top, left) lie in the image."""
        text, pixels = self.text, self.pixels
        checks = [
            text.compare("sge", top, 0),
            text.compare("sge", left, 0),
            text.compare("sle", text.add(top, 4), pixels.height),
            text.compare("sle", text.add(left, 4), pixels.width),
        ]
        return reduce(lambda a, b: text.binary("and", "i1", a, b), checks)

    def _choose_pointers(self, lines: list[Value], top: Value, left: Value) -> None:
        """Store 16 pixel pointers: into the image, or to zeros outside it."""
        text, pixels = self.text, self.pixels
        columns = [text.compare("ult", text.add(left, j), pixels.width) for j in range(4)]
        for i, line in enumerate(lines):
            valid = text.compare("ult", text.add(top, i), pixels.height)
            for j, column in enumerate(columns):
                both = text.let(f"and i1 {valid}, {column}")
                pixel = text.at(line, j * self.params.in_channels)
                chosen = text.select("ptr", both, pixel, self.zeros)
                text.store("ptr", chosen, text.at(self.pointers, 4 * i + j, "ptr"), 8)

    def _chosen(self, i: int, j: int, channel: Value) -> Value:
        """Address of channel `channel` of pixel (i, j) by the stored pointers."""
        text = self.text
        pixel = text.load("ptr", text.at(self.pointers, 4 * i + j, "ptr"), 8, "pixel")
        return text.at(pixel, channel)

    def _transform_channels(self, into: Value, address: Callable[[int, int, Value], Value]) -> None:
        """Load, transform and store vectors of channels; the last one masked."""
        text, type, lanes = self.text, self.type, self.registers.lanes

        def vector(channel: Value, mask: Value | None) -> None:
            grid = [
                [load_lanes(text, type, address(i, j, channel), mask) for j in range(4)]
                for i in range(4)
            ]
            result = transform(text, INPUT, grid, self._combine)
            for point in range(POINTS):
                place = text.at(text.at(into, channel), point * self.pitch)
                store_lanes(text, type, result[point // 4][point % 4], place, mask)

        channels = self.params.in_channels
        whole = channels // lanes * lanes
        text.loop(0, whole, lanes, lambda channel, _: vector(channel, None))
        if channels > whole:
            vector(str(whole), mask_of(lanes, channels - whole))

    def _combine(self, text: Text, row: Sequence[float], values: Sequence[Value]) -> Value:
        return combine(text, self.type, row, values)

    def _multiply(self, walker: Walker, point: Value, panel: Value) -> None:
        """The product of point `point` with weight panel `panel`, into the products' scratch."""
        text, registers, channels = self.text, self.registers, self.params.in_channels
        a = text.at(self.inputs, text.mul(point, self.pitch))
        number = text.add(text.mul(panel, POINTS), point)
        b = text.at(self.weights, text.mul(number, channels * registers.width))
        c = text.at(self.products, text.mul(point, self.limit * registers.width))

        def tile_code(tile: Tile, place: Place) -> None:
            numbers = [text.add(place.row, i) for i in range(tile.rows)]
            rows = [text.at(a, text.mul(number, channels)) for number in numbers]
            for index, value in enumerate(contract(text, tile, rows, [b], channels)):
                row, vector = divmod(index, tile.vectors)
                self._store_product(c, place, row, vector, value)

        walker.unit("0", panel, tile_code)

    def _store_product(self, c: Value, place: Place, row: int, vector: int, value: Value) -> None:
        text, registers = self.text, self.registers
        at = text.add(place.row, row)
        offset = text.add(text.mul(at, registers.width), vector * registers.lanes)
        text.store(self.type, value, text.at(c, offset))

    def _output(self, slot: Value, tile: Value, panel: Value, columns: int) -> None:
        """Transform one tile's products of one panel to 2x2 pixels and store those that exist."""
        text, registers, params = self.text, self.registers, self.params
        image, row, column = self._coordinates(tile)
        top, left = text.mul(row, 2), text.mul(column, 2)
        line = text.add(text.mul(image, self.pixels.out_height), top)
        first = text.add(text.mul(line, self.pixels.out_width), left)
        for vector in range(-(-columns // registers.lanes)):
            offset = text.add(text.mul(slot, registers.width), vector * registers.lanes)
            source = text.at(self.products, offset)
            grid = [
                [
                    text.load(
                        self.type,
                        text.at(source, (4 * i + j) * self.limit * registers.width),
                    )
                    for j in range(4)
                ]
                for i in range(4)
            ]
            result = transform(text, OUTPUT, grid, self._combine)
            mask = mask_of(registers.lanes, columns - vector * registers.lanes)
            channel = text.add(text.mul(panel, registers.width), vector * registers.lanes)
            for i in range(2):
                for j in range(2):
                    pixel = text.add(text.add(first, text.mul(self.pixels.out_width, i)), j)
                    place = text.add(text.mul(pixel, params.out_channels), channel)

                    def store(
                        value: Value = result[i][j],
                        pixel: Value = pixel,
                        place: Value = place,
                        channel: Value = channel,
                        mask: Value | None = mask,
                    ) -> None:
                        stored = params.epilogue.element or "float"
                        finish_vector(
                            text, params.epilogue, self.body, self.type, value, pixel, channel,
                            mask, text.at(self.output, place, stored),
                        )  # fmt: skip

                    self._when_real(i, j, top, left, store)

    def _when_real(
        self, i: int, j: int, top: Value, left: Value, store: Callable[[], None]
    ) -> None:
        """Run `store` unless pixel (i, j) of the tile is past an odd edge."""
        text, pixels = self.text, self.pixels
        checks: list[Value] = []
        for offset, start, size in ((i, top, pixels.out_height), (j, left, pixels.out_width)):
            even = size.isdigit() and int(size) % 2 == 0
            if offset and not even:
                checks.append(text.compare("slt", text.add(start, offset), size))
        if not checks:
            store()
            return
        real = checks[0] if len(checks) == 1 else text.let(f"and i1 {', '.join(checks)}")
        text.when(real, store)


def emit_pack(module: Module, name: str, params: WinogradParams, target: TargetInfo) -> None:
    """Write the prepare kernel `name`: `[OC, C, 3, 3]` to `packed_dims`; a unit is one panel.

    Argument words: 0 source, 1 destination, which must be zeroed beyond the last channel: the
    kernel does that itself.
    """
    text = Text(module, name)
    source, packed = text.argument(0, role="source"), text.argument(1, role="packed")
    _, points, channels, width = packed_dims(params, target)

    def tap(index: Value) -> Value:
        return text.let(f"fpext float {text.load('float', text.at(source, index))} to double")

    def weight(panel: Value, column: Value, channel: Value, real: bool) -> None:
        number = text.add(text.mul(panel, width), column)
        start = text.mul(text.add(text.mul(number, channels), channel), 9)
        grid = [["0.0"] * 4 for _ in range(4)]
        if real:
            loaded = [[tap(text.add(start, 3 * i + j)) for j in range(3)] for i in range(3)]
            grid = transform(text, WEIGHT, loaded, _weigh)
        for point in range(points):
            value = grid[point // 4][point % 4]
            if real:
                value = text.let(f"fptrunc double {value} to float")
            row = text.add(text.mul(text.add(text.mul(panel, points), point), channels), channel)
            text.store("float", value, text.at(packed, text.add(text.mul(row, width), column)))

    def unit(panel: Value, _: list[Value]) -> None:
        left = text.minimum(text.sub(params.out_channels, text.mul(panel, width)), width)
        for start, end, real in (("0", left, True), (left, str(width), False)):
            text.loop(
                start, end, 1,
                lambda column, _, real=real: text.loop(
                    0, channels, 1, lambda channel, _: weight(panel, column, channel, real)
                ) and None,
            )  # fmt: skip

    text.loop("%lo", "%hi", 1, unit)
    text.finish()


def _weigh(text: Text, row: Sequence[float], values: Sequence[Value]) -> Value:
    """A row of G times three doubles; the factors 0.5 are exact."""
    terms = [(c, v) for c, v in zip(row, values, strict=True) if c]
    if len(terms) == 1:
        return terms[0][1]
    total = terms[0][1]
    for coefficient, value in terms[1:]:
        total = text.binary("fadd" if coefficient > 0 else "fsub", "double", total, value)
    return text.binary("fmul", "double", total, "0.5")
