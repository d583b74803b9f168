"""Regions around a window or a resampling: several rows for each vector of columns.

What depends on the column alone, such as which taps leave the input to the side, is found once
for a strip of rows. Rows whose windows lie inside of the input have code without checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.ir import Block, Operation, SSAValue

from lowering.generic.evaluator import Evaluator
from lowering.generic.sliding import interior, is_inside, reads_freely, roomy_rows
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
        e, b = self.e, self.e.builder

        def strip(first: SSAValue) -> None:
            last = b.min_index(b.add_index(first, ROWS), upper)

            def column(i: SSAValue) -> None:
                e.lanes_depth = b.depth(i)
                self._planes(first, last, i)
                e.lanes_depth = None

            b.lanes(0, b.dim(self.dims[-1]), column)

        b.each(lower, upper, strip, ROWS)

    def _planes(self, first: Index, last: Index, column: SSAValue) -> None:
        """Rows `[first, last)`, of which there is one at least, plane by plane."""
        b = self.e.builder
        height = b.max_index(b.dim(self.dims[-2]), 1)
        planes = b.add_index(b.floordiv(b.sub_index(last, 1), height), 1)

        def plane(number: SSAValue, outer: Sequence[Index]) -> None:
            begin = b.mul_index(number, height)
            top = b.max_index(first, begin)
            bottom = b.min_index(last, b.add_index(begin, height))
            self._plane(number, begin, (top, bottom), outer, column)

        b.each_place(b.floordiv(first, height), planes, self.dims[:-2], plane)

    def _plane(
        self,
        number: Index,
        begin: Index,
        bounds: tuple[Index, Index],
        outer: Sequence[Index],
        column: SSAValue,
    ) -> None:
        """Rows `bounds` of the plane whose first is `begin`."""
        b, e, extent = self.e.builder, self.e, self.e.builder.dim(self.dims[-1])
        (top, bottom), op = bounds, self.window
        roomy = op is not None and reads_freely(op, e.buffers)

        def rows(start: Index, end: Index, inside: bool) -> None:
            def row(unit: SSAValue) -> None:
                place = b.index(b.sub_index(unit, begin))
                e.interior = {place} if inside else set()
                e.roomy = e.interior if roomy else set()
                flat = b.add_index(b.mul_index(unit, extent), column)
                self.store([*outer, place, column], flat)
                e.interior = e.roomy = set()

            b.each(start, end, row)

        if op is None:
            rows(top, bottom, inside=False)
            return
        axis = len(dims_of(op.results[0])) - 4
        first, last = roomy_rows(b, op, number) if roomy else interior(b, op, axis)
        left = b.min_index(b.max_index(b.add_index(begin, first), top), bottom)
        right = b.max_index(b.min_index(b.add_index(begin, last), bottom), left)

        def border(side: SSAValue) -> None:
            above = b.compare_index("eq", side, 0)
            start, end = b.select_index(above, top, right), b.select_index(above, left, bottom)
            rows(start, end, inside=False)

        b.each(0, 2, border)
        rows(left, right, inside=True)
