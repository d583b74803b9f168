"""Window geometry of convolution and pooling, for static and dynamic extents."""

from dataclasses import dataclass

from lowering.cpu.text import Text, Value


@dataclass(frozen=True)
class Axis:
    """A window along one spatial axis.

    Attributes:
        kernel: Taps of the window.
        stride: Distance of windows.
        dilation: Distance of taps.
        before: Padding before the first element.
        after: Padding after the last element.
        ceil: Whether a last window that is only partly inside counts (pooling's ceil_mode); it
            must begin inside the input or the padding before it.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    ceil: bool = False

    @property
    def reach(self) -> int:
        """Input elements from a window's first tap to its last."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def padded(self) -> bool:
        """Whether a tap may fall outside the input."""
        return self.before > 0 or self.after > 0 or self.ceil

    def output(self, size: int) -> int:
        """Number of windows over `size` elements."""
        room = size + self.before + self.after - self.reach
        if not self.ceil:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        return count - ((count - 1) * self.stride >= size + self.before)

    def emit_output(self, text: Text, size: Value) -> Value:
        """`output` as an i64 of the function `text`."""
        room = text.add(size, self.before + self.after - self.reach)
        if not self.ceil:
            return text.add(text.udiv(room, self.stride), 1)
        last = text.ceildiv(room, self.stride)
        outside = text.compare("sge", text.mul(last, self.stride), text.add(size, self.before))
        return text.add(text.sub(last, text.let(f"zext i1 {outside} to i64")), 1)

    def emit_range(self, text: Text, start: Value, size: Value) -> tuple[Value, Value]:
        """Taps `[first, end)` of the window that begins at `start` which lie inside the input."""
        if not self.padded:
            return "0", str(self.kernel)
        first = text.ceildiv(text.maximum(text.sub(0, start), 0), self.dilation)
        room = text.maximum(text.sub(size, start), 0)
        return first, text.minimum(text.ceildiv(room, self.dilation), self.kernel)

    def emit_interior(self, text: Text, size: Value, windows: Value) -> tuple[Value, Value]:
        """Windows `[first, end)` all of whose taps lie inside the input."""
        if not self.padded:
            return "0", windows
        first = text.minimum(-(-self.before // self.stride), windows)
        room = text.add(size, self.before - self.reach)
        fitting = text.let(f"sdiv i64 {text.add(room, self.stride)}, {self.stride}")
        end = text.minimum(text.maximum(fitting, first), windows)
        return first, end


@dataclass(frozen=True)
class Pixels:
    """Extents of a channels-last image: `[batch, height, width]`, each static or an i64."""

    batch: Value
    height: Value
    width: Value
    out_height: Value
    out_width: Value


def read_pixels(
    text: Text, vertical: Axis, horizontal: Axis, dims: tuple[int | None, int | None, int | None]
) -> Pixels:
    """Extents from argument words 3, 4, 5 (batch, height, width), or static where given."""
    batch, height, width = (
        text.argument(3 + i, "i64", role) if dim is None else str(dim)
        for i, (dim, role) in enumerate(zip(dims, ("batch", "height", "width"), strict=True))
    )
    return Pixels(
        batch,
        height,
        width,
        vertical.emit_output(text, height),
        horizontal.emit_output(text, width),
    )


def neighbouring_pixels(
    text: Text, pixels: Pixels, first: Value, count: int
) -> list[tuple[Value, Value, Value]]:
    """Coordinates (image, row, column) of `count` output pixels from flat number `first` on."""
    column = text.urem(first, pixels.out_width)
    lines = text.udiv(first, pixels.out_width)
    row, image = text.urem(lines, pixels.out_height), text.udiv(lines, pixels.out_height)
    found = [(image, row, column)]
    for _ in range(1, count):
        next_column = text.add(column, 1)
        wraps = text.compare("eq", next_column, pixels.out_width)
        next_column = text.select("i64", wraps, "0", next_column)
        next_row = text.add(row, text.let(f"zext i1 {wraps} to i64"))
        ends = text.compare("eq", next_row, pixels.out_height)
        next_image = text.add(image, text.let(f"zext i1 {ends} to i64"))
        next_row = text.select("i64", ends, "0", next_row)
        image, row, column = next_image, next_row, next_column
        found.append((image, row, column))
    return found
