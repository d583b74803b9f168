"""What index maps and windows are written in: protocols that lowering interprets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torsh_dialect.dims import Dim

I = TypeVar("I")  # noqa: E741
C = TypeVar("C")


class Indices(Protocol[I, C]):
    """Arithmetic on index values, interpreted by lowering; `C` is a condition."""

    def dim(self, dim: Dim) -> I:
        """An extent as an index value."""
        ...

    def add(self, a: I, b: I) -> I: ...
    def sub(self, a: I, b: I) -> I: ...
    def mul(self, a: I, b: I) -> I: ...
    def floordiv(self, a: I, b: I) -> I: ...
    def mod(self, a: I, b: I) -> I: ...
    def min(self, a: I, b: I) -> I: ...
    def max(self, a: I, b: I) -> I: ...
    def lt(self, a: I, b: I) -> C: ...
    def ge(self, a: I, b: I) -> C: ...
    def eq(self, a: I, b: I) -> C: ...
    def both(self, a: C, b: C) -> C: ...
    def select(self, condition: C, a: I, b: I) -> I: ...


@dataclass(frozen=True)
class Pick(Generic[I, C]):
    """Where a result element comes from: `index` of operand `operand`, if `where` holds."""

    operand: int
    index: Sequence[I]
    where: C | None = None


class Read(Protocol[I]):
    """Reads the element of an integer operand at `index`, as an index value."""

    def __call__(self, operand: int, index: Sequence[I], /) -> I: ...


@dataclass(frozen=True)
class Geometry:
    """How a window slides: one entry for each spatial axis.

    Attributes:
        kernel: Elements of the window.
        strides: Steps between windows.
        dilations: Steps between the elements of a window.
        begin: Elements of padding before the axis; negative crops.
        end: Elements of padding behind it.
    """

    kernel: tuple[Dim, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[Dim, ...]
    end: tuple[Dim, ...]

    def extent(self, axis: int) -> Dim:
        """Input elements from the first to the last of a window, along a spatial axis."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1
