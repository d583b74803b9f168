"""Pooling of channels-last images: maximum and average windows, and the mean of whole images.

Channels are vectors. A window visits its taps that lie in the image, in the order (kh, kw), by
loop bounds: padding needs no value.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lowering.cpu.templates.epilogue import (
    IDENTITY,
    Epilogue,
    constant,
    finish_vector,
    load_lanes,
    mask_of,
)
from lowering.cpu.templates.schedule import ELEMENT_BYTES, K_BLOCK, Extent
from lowering.cpu.templates.window import Axis, read_pixels
from lowering.cpu.text import Module, Text, Value
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TargetInfo

BLOCK_VECTORS = 4
"""Vectors of channels that share the loop over taps: enough loads in flight to hide latency."""

SHORT = 16
"""Bytes of the shortest vector."""

Vectors = list[tuple[int, Value | None]]


@dataclass(frozen=True)
class PoolParams:
    """Pooling `[N, H, W, C] -> [N, OH, OW, C]`.

    Argument words: 0 input, 1 unused, 2 output, 3 N (not read), 4 H, 5 W, 8 and on: the
    epilogue's.

    Attributes:
        kind: `max` (NaN if the window holds one) or `avg`.
        channels: Channels.
        vertical: Window along H.
        horizontal: Window along W.
        count_include_pad: Whether an average divides by taps in the padding as well (but never
            by taps past it, which ceil_mode can reach).
        divisor: Divide by this number instead.
        dims: Static N, H, W, None where dynamic.
        epilogue: Applied to each result vector; its row is the flat output pixel.
        element: `float`, `double`, or `i8` for a maximum of bytes.
        unsigned: Whether bytes are u8.
    """

    kind: str
    channels: int
    vertical: Axis
    horizontal: Axis
    count_include_pad: bool = True
    divisor: int | None = None
    dims: tuple[int | None, int | None, int | None] = (None, None, None)
    epilogue: Epilogue = IDENTITY
    element: str = "float"
    unsigned: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("max", "avg"):
            raise InvalidArgumentError(f"kind of pooling is {self.kind!r}; use 'max' or 'avg'")
        if self.element == "i8" and self.kind != "max":
            raise InvalidArgumentError("bytes are pooled by their maximum, not by their mean")


@dataclass(frozen=True)
class GlobalMeanParams:
    """The mean over H and W: `[N, H, W, C] -> [N, C]`.

    Argument words as of `PoolParams`. Pixels are summed in blocks of `K_BLOCK`, each from zero,
    and block sums added in order.

    Attributes:
        channels: Channels.
        dims: Static N, H, W, None where dynamic.
        epilogue: Applied to each result vector; its row is the image.
        element: `float` or `double`.
    """

    channels: int
    dims: tuple[int | None, int | None, int | None] = (None, None, None)
    epilogue: Epilogue = IDENTITY
    element: str = "float"


def parallel_extent(params: PoolParams | GlobalMeanParams, target: TargetInfo) -> Extent:
    """Units as a function of output rows (N * OH); of images (N) for the mean."""
    if isinstance(params, PoolParams):
        return Extent(1, 1)
    return Extent(1, -(-params.channels // _block(params, target)))


def flops(params: PoolParams, batch: int, height: int, width: int) -> int:
    """Operations of full windows."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    return pixels * params.channels * params.vertical.kernel * params.horizontal.kernel


def bytes_moved(params: PoolParams, batch: int, height: int, width: int) -> int:
    """Bytes of input and output, each counted once."""
    pixels = batch * params.vertical.output(height) * params.horizontal.output(width)
    elements = params.channels * (batch * height * width + pixels)
    return ELEMENT_BYTES.get(params.element, 1) * elements


def _lanes(params: PoolParams | GlobalMeanParams, target: TargetInfo) -> int:
    """Lanes of a vector of channels.

    Of bytes as many as divide the channels, because few targets mask bytes; 16 where an epilogue
    may widen them.
    """
    if params.element != "i8":
        return target.lanes(ELEMENT_BYTES[params.element])
    most = target.lanes(1) if params.epilogue is IDENTITY else SHORT
    fitting = (n for n in (64, 32) if n <= most and params.channels % n == 0)
    return next(fitting, min(most, SHORT))


def _block(params: PoolParams | GlobalMeanParams, target: TargetInfo) -> int:
    """Channels of a block."""
    return BLOCK_VECTORS * _lanes(params, target)


class _Channels:
    """Loops over blocks of channel vectors."""

    def __init__(self, text: Text, params: PoolParams | GlobalMeanParams, target: TargetInfo):
        self.text, self.channels, self.element = text, params.channels, params.element
        self.lanes = _lanes(params, target)
        self.type = f"<{self.lanes} x {params.element}>"
        self.block = _block(params, target)

    def vectors(self, count: int) -> Vectors:
        """Offset and mask of the vectors that hold `count` channels."""
        return [
            (offset, mask_of(self.lanes, count - offset)) for offset in range(0, count, self.lanes)
        ]

    def each(self, body: Callable[[Value, Vectors], None]) -> None:
        """Call `body(first channel, vectors)` for full blocks in a loop, then for the rest."""
        whole = self.channels // self.block * self.block
        full = self.vectors(self.block)
        self.text.loop(0, whole, self.block, lambda channel, _: body(channel, full))
        if self.channels > whole:
            body(str(whole), self.vectors(self.channels - whole))

    def load(self, source: Value, vectors: Vectors) -> list[Value]:
        """The vectors of one pixel at `source`."""
        return [
            load_lanes(self.text, self.type, self.text.at(source, offset, self.element), mask)
            for offset, mask in vectors
        ]


def emit(module: Module, name: str, params: PoolParams, target: TargetInfo) -> None:
    """Write kernel `name`; its parallel range is `parallel_extent`."""
    text = Text(module, name)
    emitter = _PoolEmitter(text, params, target)
    text.loop("%lo", "%hi", 1, lambda index, _: emitter.unit(index))
    text.finish()


class _PoolEmitter:
    def __init__(self, text: Text, params: PoolParams, target: TargetInfo):
        self.text, self.params = text, params
        self.input, self.output = text.argument(0, role="input"), text.argument(2, role="output")
        self.pixels = read_pixels(text, params.vertical, params.horizontal, params.dims)
        self.channels = _Channels(text, params, target)
        self.body = params.epilogue.begin(text)

    def unit(self, index: Value) -> None:
        """Write unit `index`: one output row."""
        text, params, pixels = self.text, self.params, self.pixels
        image, row = text.udiv(index, pixels.out_height), text.urem(index, pixels.out_height)
        top = text.sub(text.mul(row, params.vertical.stride), params.vertical.before)
        rows = params.vertical.emit_range(text, top, pixels.height)
        lines = text.add(text.mul(image, pixels.height), top)

        def pixel(column: Value, _: list[Value]) -> None:
            across = params.horizontal
            left = text.sub(text.mul(column, across.stride), across.before)
            columns = across.emit_range(text, left, pixels.width)
            flat = text.add(text.mul(index, pixels.out_width), column)
            corner = text.add(text.mul(lines, pixels.width), left)
            divisor = self._divisor(top, left, rows, columns)
            self.channels.each(
                lambda channel, vectors: self._window(
                    flat, corner, rows, columns, divisor, channel, vectors
                )
            )

        text.loop(0, pixels.out_width, 1, pixel)

    def _divisor(
        self, top: Value, left: Value, rows: tuple[Value, Value], columns: tuple[Value, Value]
    ) -> Value | None:
        """What an average is divided by, as a vector; None for a maximum."""
        text, params, type = self.text, self.params, self.channels.type
        if params.kind == "max":
            return None
        if params.divisor is not None:
            return constant(type, params.divisor)
        extents: list[Value] = []
        for axis, start, taps, size in (
            (params.vertical, top, rows, self.pixels.height),
            (params.horizontal, left, columns, self.pixels.width),
        ):
            if params.count_include_pad and axis.padded:
                room = text.sub(text.add(size, axis.after), start)
                extents.append(text.minimum(text.ceildiv(room, axis.dilation), axis.kernel))
            else:
                extents.append(text.sub(taps[1], taps[0]))
        count = text.mul(*extents)
        if count.isdigit():
            return constant(type, int(count))
        number = text.let(f"sitofp i64 {count} to {params.element}")
        return text.splat(type, number)

    def _window(
        self,
        flat: Value,
        corner: Value,
        rows: tuple[Value, Value],
        columns: tuple[Value, Value],
        divisor: Value | None,
        channel: Value,
        vectors: Vectors,
    ) -> None:
        """One window for one block of channels."""
        text, params, type = self.text, self.params, self.channels.type
        start = self._least() if divisor is None else constant(type, 0.0)
        carried = [(type, start)] * len(vectors)

        def row(kh: Value, values: list[Value]) -> list[Value]:
            line = text.mul(text.mul(kh, params.vertical.dilation), self.pixels.width)

            def tap(kw: Value, inner: list[Value]) -> list[Value]:
                shift = text.add(line, text.mul(kw, params.horizontal.dilation))
                offset = text.mul(text.add(corner, shift), params.channels)
                source = text.at(self.input, text.add(offset, channel), params.element)
                loaded = self.channels.load(source, vectors)
                return [self._combine(a, b) for a, b in zip(inner, loaded, strict=True)]

            return text.loop(*columns, 1, tap, [(type, value) for value in values])

        place = text.add(text.mul(flat, params.channels), channel)
        for (offset, mask), value in zip(vectors, text.loop(*rows, 1, row, carried), strict=True):
            if divisor is not None:
                value = text.binary("fdiv", type, value, divisor)
            address = text.at(
                self.output, text.add(place, offset), params.epilogue.element or params.element
            )
            finish_vector(
                text, params.epilogue, self.body, type, value, flat, text.add(channel, offset),
                mask, address,
            )  # fmt: skip

    def _least(self) -> Value:
        """What a maximum begins with."""
        if self.params.element == "i8":
            return f"splat (i8 {0 if self.params.unsigned else -128})"
        return constant(self.channels.type, float("-inf"))

    def _combine(self, so_far: Value, value: Value) -> Value:
        """The sum, or the maximum that keeps a NaN."""
        text, type = self.text, self.channels.type
        if self.params.kind == "avg":
            return text.binary("fadd", type, so_far, value)
        if self.params.element == "i8":
            order = "ugt" if self.params.unsigned else "sgt"
            larger = text.let(f"icmp {order} {type} {value}, {so_far}", "larger")
            return text.select(type, larger, value, so_far)
        larger = text.let(f"fcmp ogt {type} {value}, {so_far}", "larger")
        nan = text.let(f"fcmp uno {type} {value}, {value}", "nan")
        taken = text.binary("or", f"<{self.channels.lanes} x i1>", larger, nan)
        return text.select(type, taken, value, so_far)


def emit_global_mean(
    module: Module, name: str, params: GlobalMeanParams, target: TargetInfo
) -> None:
    """Write kernel `name`: unit `u` is image `u // blocks`, block of channels `u % blocks`."""
    text = Text(module, name)
    source, output = text.argument(0, role="input"), text.argument(2, role="output")
    height, width = (
        text.argument(4 + i, "i64", "size") if dim is None else str(dim)
        for i, dim in enumerate(params.dims[1:])
    )
    pixels = text.mul(height, width)
    channels = _Channels(text, params, target)
    type, count = channels.type, channels.block
    body = params.epilogue.begin(text)
    number = text.let(f"uitofp i64 {pixels} to {params.element}")
    divisor = text.splat(type, number)
    full, rest = divmod(params.channels, count)
    blocks = full + bool(rest)

    def block_of_channels(image: Value, channel: Value, vectors: Vectors) -> None:
        start = text.mul(text.mul(image, pixels), params.channels)
        first = text.at(source, text.add(start, channel), params.element)
        carried = [(type, "zeroinitializer")] * len(vectors)

        def pixel(index: Value, values: list[Value]) -> list[Value]:
            at = text.at(first, text.mul(index, params.channels), params.element)
            loaded = channels.load(at, vectors)
            return [text.binary("fadd", type, a, b) for a, b in zip(values, loaded, strict=True)]

        def block(index: Value, totals: list[Value]) -> list[Value]:
            end = text.minimum(text.add(index, K_BLOCK), pixels)
            sums = text.loop(index, end, 1, pixel, carried, guarded=False)
            return [text.binary("fadd", type, a, b) for a, b in zip(totals, sums, strict=True)]

        totals = text.loop(0, pixels, K_BLOCK, block, carried)
        for (offset, mask), total in zip(vectors, totals, strict=True):
            value = text.binary("fdiv", type, total, divisor)
            column = text.add(channel, offset)
            place = text.add(text.mul(image, params.channels), column)
            address = text.at(output, place, params.epilogue.element or params.element)
            finish_vector(text, params.epilogue, body, type, value, image, column, mask, address)

    def unit(index: Value, _: list[Value]) -> None:
        image, number = text.udiv(index, blocks), text.urem(index, blocks)
        channel = text.mul(number, count)
        if full:
            whole = text.compare("slt", number, full)
            text.when(whole, lambda: block_of_channels(image, channel, channels.vectors(count)))
        if rest:
            last = text.compare("eq", number, full)
            text.when(last, lambda: block_of_channels(image, channel, channels.vectors(rest)))

    text.loop("%lo", "%hi", 1, unit)
    text.finish()
