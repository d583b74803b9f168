"""Parameters of transpositions, and their parallel range."""

from __future__ import annotations

from dataclasses import dataclass

from torsh_dialect.dims import Dim, ceildiv

BLOCK = 64
"""Rows and columns of a block: two blocks of 4-byte elements take a level 1 cache."""

NARROW = 4
"""Rows or columns up to which vectors are interleaved."""

NARROW_BLOCK = 4096
"""Columns (or rows) of a block of a narrow matrix."""


@dataclass(frozen=True)
class Apart:
    """Where matrices lie that do not follow each other; None for what is dynamic.

    Attributes:
        row_step: Elements from a row of x to the next.
        column_step: Elements from a column's place in y to that of the next.
        axes: `(extent, step in x, step in y)` of each axis of matrices, from the outermost.
    """

    row_step: int | None
    column_step: int | None
    axes: tuple[tuple[int | None, int | None, int | None], ...]


@dataclass(frozen=True)
class TransposeParams:
    """A transposition of many matrices.

    Attributes:
        rows: Rows of x if static.
        columns: Columns of x if static.
        bytes: Bytes of an element: 1, 2, 4 or 8.
        apart: Where the matrices lie; None if they follow each other in x and y.
    """

    rows: int | None = None
    columns: int | None = None
    bytes: int = 4
    apart: Apart | None = None

    def blocks(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        if self.interleaves:
            return NARROW, NARROW_BLOCK
        if self.separates:
            return NARROW_BLOCK, NARROW
        return BLOCK, BLOCK

    @property
    def interleaves(self) -> bool:
        """Whether few rows become one run of y."""
        whole = self.apart is None or self.apart.column_step == self.rows
        return self.is_narrow(self.rows) and whole

    @property
    def separates(self) -> bool:
        """Whether few columns are one run of x."""
        whole = self.apart is None or self.apart.row_step == self.columns
        return self.is_narrow(self.columns) and whole and not self.interleaves

    @property
    def is_short(self) -> bool:
        """Whether elements are narrower than the lanes that vectors are masked by."""
        return self.bytes < 4

    @staticmethod
    def is_narrow(extent: int | None) -> bool:
        """Whether as few rows or columns are interleaved."""
        return extent is not None and extent <= NARROW


def units(params: TransposeParams, batch: Dim, rows: Dim, columns: Dim) -> Dim:
    """The parallel range."""
    high, wide = params.blocks()
    return batch * ceildiv(rows, high) * ceildiv(columns, wide)
