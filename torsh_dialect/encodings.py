"""The encodings of tensor types: what a type says beside element type and static extents.

`#torsh.dims<[batch, 784]>` names symbolic extents. `#torsh.tensor` also says how the elements lie
in memory, or on which device; what it leaves out is the default:

    tensor<?x3x?x?xf32, #torsh.tensor<dims = [n, 3, h, w], layout = [0, 2, 3, 1]>>
    tensor<2x3xf32, #torsh.tensor<device = "cuda:0">>

`layout` lists the axes as memory has them, outermost first; without it, they lie in order
(row-major). Without `device`, a value is wherever the program is compiled for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from torsh_dialect.dims import Dim, Expr, parse_dim, symbol
from torsh_dialect.errors import DeviceError, InvalidArgumentError, TorshError

Layout = tuple[int, ...]

DEVICE = re.compile(r"cpu|cuda(:(0|[1-9][0-9]{0,2}))?", re.ASCII)
"""How devices are called; `cuda` is any GPU of CUDA."""


@irdl_attr_definition
class DimsAttr(Data[tuple[Dim, ...]]):
    """The extents of a tensor that has symbolic ones: `#torsh.dims<[batch, 784]>`."""

    name = "torsh.dims"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[Dim, ...]:
        """Read `<[...]>`; anything but an integer or a bare symbol is a string."""
        with parser.in_angle_brackets():
            return _extents(parser)

    def print_parameter(self, printer: Printer) -> None:
        """Write `<[...]>`."""
        with printer.in_angle_brackets():
            printer.print_string(_spelled(self.data))


def _extents(parser: AttrParser) -> tuple[Dim, ...]:
    square = parser.Delimiter.SQUARE
    return tuple(parser.parse_comma_separated_list(square, lambda: _extent(parser)))


def _extent(parser: AttrParser) -> Dim:
    if (number := parser.parse_optional_integer(allow_boolean=False)) is not None:
        return number
    position = parser.pos
    try:
        if (name := parser.parse_optional_identifier()) is not None:
            return symbol(name)
        return parse_dim(parser.parse_str_literal("an extent"))
    except TorshError as error:
        parser.raise_error(error.message, position)


def _spelled(dims: tuple[Dim, ...]) -> str:
    return f"[{', '.join(map(_spelled_extent, dims))}]"


def _spelled_extent(dim: Dim) -> str:
    text = str(dim)
    return text if text.isidentifier() or isinstance(dim, int) else f'"{text}"'


@dataclass(frozen=True)
class Storage:
    """What `#torsh.tensor` says; None is the default of each.

    Attributes:
        dims: Extents, where one is symbolic.
        layout: The order of the axes in memory, outermost first, where it is not row-major.
        device: Where the value is.
    """

    dims: tuple[Dim, ...] | None = None
    layout: Layout | None = None
    device: str | None = None

    def problem(self) -> str | None:
        """What breaks the canonical form; None where nothing does."""
        if self.layout is None and self.device is None:
            return "#torsh.tensor needs a layout or a device; extents alone are #torsh.dims"
        if self.dims is not None and not any(isinstance(dim, Expr) for dim in self.dims):
            return "#torsh.tensor has dims only where an extent is symbolic"
        if self.layout is not None:
            if (reason := layout_problem(self.layout)) is not None:
                return reason
            if self.layout == tuple(range(len(self.layout))):
                return f"layout {list(self.layout)} is row-major: leave it out"
            if self.dims is not None and len(self.dims) != len(self.layout):
                return f"layout {list(self.layout)} is for another rank than {len(self.dims)}"
        return None if self.device is None else device_problem(self.device)


def layout_problem(layout: Layout) -> str | None:
    """Why this is no order of axes; None where it is."""
    if sorted(layout) != list(range(len(layout))):
        return f"layout {list(layout)} is no order of the axes 0 to {len(layout) - 1}"
    return None


def device_problem(device: str) -> str | None:
    """Why this names no device; None where it does."""
    if DEVICE.fullmatch(device) is None:
        return f"{device[:40]!r} is no device; write cpu, cuda, or cuda:N with N from 0 to 999"
    return None


def require_device(device: str) -> str:
    """The device's name itself.

    Raises:
        InvalidArgumentError: It names no device.
    """
    if (reason := device_problem(device)) is not None:
        raise InvalidArgumentError(reason)
    return device


def joined_device(a: str | None, b: str | None) -> str | None:
    """The device of what is computed from values on both.

    A value without a device is on any; one on `cuda` is on any GPU.

    Raises:
        DeviceError: They are on different devices.
    """
    if a == b or b is None or (b == "cuda" and str(a).startswith("cuda:")):
        return a
    if a is None or (a == "cuda" and b.startswith("cuda:")):
        return b
    raise DeviceError(f"operands are on {a} and on {b}; move one of them with torsh.to_device")


@irdl_attr_definition
class TensorAttr(Data[Storage]):
    """Layout and device of a tensor: `#torsh.tensor<layout = [1, 0], device = "cuda:0">`."""

    name = "torsh.tensor"

    def verify(self) -> None:
        """Check the canonical form, which is the only one.

        Raises:
            VerifyException: With what breaks it.
        """
        if (reason := self.data.problem()) is not None:
            raise VerifyException(reason)

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Storage:
        """Read `<dims = [...], layout = [...], device = "...">`; each may be missing."""
        start = parser.pos
        entries: dict[str, object] = {}
        with parser.in_angle_brackets():
            while True:
                position = parser.pos
                key = parser.parse_identifier("dims, layout or device")
                if key in entries or key not in _READERS:
                    parser.raise_error(
                        f"expected dims, layout and device, once each: {key}", position
                    )
                parser.parse_punctuation("=")
                entries[key] = _READERS[key](parser)
                if parser.parse_optional_punctuation(",") is None:
                    break
        storage = Storage(**entries)  # pyright: ignore[reportArgumentType]
        if (reason := storage.problem()) is not None:
            parser.raise_error(reason, start, parser.pos)
        return storage

    def print_parameter(self, printer: Printer) -> None:
        """Write `<dims = [...], layout = [...], device = "...">`."""
        parts: list[str] = []
        if self.data.dims is not None:
            parts.append(f"dims = {_spelled(self.data.dims)}")
        if self.data.layout is not None:
            parts.append(f"layout = {list(self.data.layout)}")
        if self.data.device is not None:
            parts.append(f'device = "{self.data.device}"')
        with printer.in_angle_brackets():
            printer.print_string(", ".join(parts))


def _layout(parser: AttrParser) -> Layout:
    square = parser.Delimiter.SQUARE
    axes = parser.parse_comma_separated_list(
        square, lambda: parser.parse_integer(allow_boolean=False, allow_negative=False)
    )
    return tuple(axes)


def _device(parser: AttrParser) -> str:
    return parser.parse_str_literal("a device")


_READERS = {"dims": _extents, "layout": _layout, "device": _device}
