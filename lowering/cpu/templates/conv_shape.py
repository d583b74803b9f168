"""What a convolution template and a transposed one are told."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lowering.cpu.templates.epilogue import IDENTITY, Epilogue


class WindowAxis(Protocol):
    """A window along one axis."""

    @property
    def kernel(self) -> int:
        """Taps."""
        ...


AxisT = TypeVar("AxisT", bound=WindowAxis)


@dataclass(frozen=True)
class ConvShape(Generic[AxisT]):
    """Channels, windows and extents of `[N, H, W, C] -> [N, OH, OW, OC]`.

    Attributes:
        in_channels: Input channels of all groups.
        out_channels: Output channels of all groups.
        vertical: Window along H.
        horizontal: Window along W.
        groups: Groups of channels.
        dims: Static N, H, W, None where dynamic.
        epilogue: Applied to each result vector; its row is the flat output pixel.
        element: `float` or `double`.
    """

    in_channels: int
    out_channels: int
    vertical: AxisT
    horizontal: AxisT
    groups: int = 1
    dims: tuple[int | None, int | None, int | None] = (None, None, None)
    epilogue: Epilogue = IDENTITY
    element: str = "float"

    @property
    def channels(self) -> int:
        """Input channels of a group."""
        return self.in_channels // self.groups

    @property
    def columns(self) -> int:
        """Output channels of a group."""
        return self.out_channels // self.groups

    @property
    def taps(self) -> int:
        """Taps of the window."""
        return self.vertical.kernel * self.horizontal.kernel
