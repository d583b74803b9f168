"""Regions around a window or a resampling: several rows for each vector of columns.

What depends on the column alone, such as which taps leave the input to the side, is found once
for a strip of rows. Rows whose windows lie inside of the input have code without checks. Rows at
the ends of the buffer, where a vector may not be read whole, are done apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.ir import Block, Operation, SSAValue

from lowering.generic.evaluator import Evaluator
from lowering.generic.sliding import (
    begins_before,
    ends_after,
    free_rows,
    interior,
    is_inside,
    reads_freely,
)
from lowering.kern.builder import Index
from torsh_dialect.dims import Dim
from torsh_dialect.kinds import Reduce, Window
from torsh_dialect.ops.resize import ResizeOp
from torsh_dialect.ops.window import SlidingWindow
from torsh_dialect.types import dims_of

ROWS = 128
"""Rows of a strip: enough to pay for its beginning, few enough that its lines stay in a cache."""

Store = Callable[[Sequence[Index], Index], None]
"""Writes the element of an index in the loops, which is that far from the first."""


def is_stripped(ops: Sequence[Operation | Block]) -> bool:
    """Whether a region of `ops` is computed in strips: reductions are in lanes of their own."""
    return any(isinstance(op, Window | ResizeOp) for op in ops) and not any(
        isinstance(op, Reduce) for op in ops
    )


def padded_rows(ops: Sequence[Operation | Block], result: SSAValue) -> SlidingWindow | None:
    """The window of a region whose rows are those of the region's result, if they leave its input.

    None also where there are several windows.
    """
    found = [op for op in ops if isinstance(op, SlidingWindow)]
    if len(found) != 1 or found[0].channels_last():
        return None
    (op,) = found
    dims = dims_of(op.results[0])
    rank = len(dims) - 2
    if rank < 2 or dims != dims_of(result) or 1 in dims[-2:]:
        return None
    return None if is_inside(op, rank - 2) else op


@dataclass
class Strips:
    """Builds the loops.

    Attributes:
        e: The evaluator of the region.
        dims: Extents of the loops.
        window: What `padded_rows` says.
        store: Writes an element.
    """

    e: Evaluator
    dims: Sequence[Dim]
    window: SlidingWindow | None
    store: Store

    def build(self, lower: SSAValue, upper: SSAValue) -> None:
        """Write rows `[lower, upper)`."""
        e, b, op = self.e, self.e.builder, self.window
        free = free_rows(b, op) if op is not None and reads_freely(op, e.buffers) else None

        def strip(first: SSAValue) -> None:
            last = b.min_index(b.add_index(first, ROWS), upper)

            def column(i: SSAValue) -> None:
                e.lanes_depth = b.depth(i)
                if free is None:
                    self._planes(first, last, i)
                else:
                    self._guarded(first, last, free, i)
                e.lanes_depth = None

            b.lanes(0, b.dim(self.dims[-1]), column)

        b.each(lower, upper, strip, ROWS)

    def _guarded(
        self, first: Index, last: Index, free: tuple[Index, Index], column: SSAValue
    ) -> None:
        """Rows `[first, last)`, those of `free` with code that reads whole vectors."""
        b = self.e.builder
        start = b.min_index(b.max_index(free[0], first), last)
        end = b.max_index(b.min_index(free[1], last), start)

        def side(number: SSAValue) -> None:
            above = b.compare_index("eq", number, 0)
            self._planes(
                b.select_index(above, first, end), b.select_index(above, start, last), column
            )

        before, after = b.compare_index("lt", first, start), b.compare_index("lt", end, last)
        b.each(b.select_index(before, 0, 1), b.select_index(after, 2, 1), side)
        self._planes(start, end, column, free=True)

    def _planes(self, first: Index, last: Index, column: SSAValue, free: bool = False) -> None:
        """Rows `[first, last)` plane by plane; those of `free_rows` if `free`."""
        b = self.e.builder
        height = b.max_index(b.dim(self.dims[-2]), 1)
        planes = b.add_index(b.floordiv(b.sub_index(last, 1), height), 1)

        def plane(number: SSAValue, outer: Sequence[Index]) -> None:
            begin = b.mul_index(number, height)
            top = b.max_index(b.sub_index(first, begin), 0)
            bottom = b.min_index(b.sub_index(last, begin), height)
            self._plane(begin, (top, bottom), outer, column, free)

        b.each_place(b.floordiv(first, height), planes, self.dims[:-2], plane)

    def _plane(
        self,
        begin: Index,
        bounds: tuple[Index, Index],
        outer: Sequence[Index],
        column: SSAValue,
        free: bool,
    ) -> None:
        """Rows `bounds` of the plane before which there are `begin` rows."""
        b, e, extent = self.e.builder, self.e, self.e.builder.dim(self.dims[-1])
        (top, bottom), op = bounds, self.window
        before = b.add_index(b.mul_index(begin, extent), column)

        def row(place: SSAValue, inside: bool) -> None:
            e.interior = {place} if inside else set()
            e.roomy = {place} if free else set()
            self.store([*outer, place, column], b.add_index(before, b.mul_index(place, extent)))
            e.interior = e.roomy = set()

        if op is None or (not free and reads_freely(op, e.buffers)):
            b.each(top, bottom, lambda place: row(place, inside=False))
            return
        axis = len(dims_of(op.results[0])) - 4
        first, last = interior(b, op, axis)
        left = b.min_index(b.max_index(first, top), bottom) if begins_before(op, axis) else top
        right = b.max_index(b.min_index(last, bottom), left) if ends_after(op, axis) else bottom
        between = b.sub_index(right, left)

        def border(number: SSAValue) -> None:
            below = b.compare_index("ge", number, left)
            row(b.index(b.add_index(number, b.select_index(below, between, 0))), inside=False)

        if ends_after(op, axis):
            b.each(top, b.sub_index(bottom, between), border)
        else:
            b.each(top, left, lambda place: row(place, inside=False))
        b.each(left, right, lambda place: row(place, inside=True))
