"""The taps of a window by element: which there are, and where they leave the input."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from xdsl.ir import SSAValue

from lowering.generic.evaluator import Evaluator
from lowering.kern.builder import Index, KernBuilder
from torsh_dialect.attributes import bool_of
from torsh_dialect.dims import product
from torsh_dialect.ops.pool import Pool
from torsh_dialect.ops.window import SlidingWindow
from torsh_dialect.types import dims_of

Tap = Callable[[Sequence[Index], SSAValue | None, Sequence[SSAValue]], Sequence[SSAValue]]

MOST_LANES = 32
"""Lanes of the widest vector: there are 128 bytes, and indices count as 4."""

WRITTEN_OUT = 9
"""Taps up to which they are no loop: where they leave the input then is found outside of the loops
that it does not depend on."""


def spatial_of(op: SlidingWindow, index: Sequence[Index]) -> tuple[Index, Index, Sequence[Index]]:
    """Batch, channel and spatial parts of an index in the op's layout."""
    if op.channels_last():
        return index[0], index[-1], index[1:-1]
    return index[0], index[1], index[2:]


def joined(
    op: SlidingWindow, batch: Index, channel: Index, spatial: Sequence[Index]
) -> list[Index]:
    """The inverse of `spatial_of`."""
    if op.channels_last():
        return [batch, *spatial, channel]
    return [batch, channel, *spatial]


def over_window(
    e: Evaluator,
    op: SlidingWindow,
    place: Sequence[Index],
    init: Sequence[SSAValue],
    tap: Tap,
    *,
    skips: bool = False,
) -> Sequence[SSAValue]:
    """Visit the taps of the window at `place` in row-major order.

    Args:
        e: The evaluator.
        op: The window.
        place: Which window, one index for each spatial axis.
        init: Carried values at the start.
        tap: From (input position and tap indices, whether inside, carried) to carried values.
        skips: Whether taps outside of the input change nothing: loops leave them out.
    """
    b, g, rank = e.builder, op.geometry(), len(place)
    inside = [is_inside(op, axis) or place[axis] in e.interior for axis in range(rank)]
    bounded = [skips and not inside[axis] and axis < rank - 1 for axis in range(rank)]

    def level(
        position: list[Index], taps: list[Index], within: SSAValue | None, acc: Sequence[SSAValue]
    ) -> Sequence[SSAValue]:
        axis = len(position)
        if axis == rank:
            return tap([*position, *taps], within, acc)
        start = b.sub_index(b.mul_index(place[axis], g.strides[axis]), b.dim(g.begin[axis]))

        def one(k: Index, *carried: SSAValue) -> Sequence[SSAValue]:
            at = b.add_index(start, b.mul_index(k, g.dilations[axis]))
            ok = None if inside[axis] or bounded[axis] else _within(b, op, axis, at)
            return level([*position, at], [*taps, k], e.both(within, ok), carried)

        count, rest = g.kernel[axis], product(g.kernel[axis:])
        if bounded[axis]:
            return b.for_(*_taps_inside(b, op, axis, start), one, acc, pure=True)
        few = isinstance(rest, int) and rest <= WRITTEN_OUT
        if few and isinstance(count, int) and not any(bounded[axis:]):
            for k in range(count):
                acc = one(k, *acc)
            return acc
        return b.for_(0, b.dim(count), one, acc, pure=True)

    return level([], [], None, init)


def is_inside(op: SlidingWindow, axis: int) -> bool:
    """Whether no window leaves the input along a spatial axis."""
    return not begins_before(op, axis) and not ends_after(op, axis)


def begins_before(op: SlidingWindow, axis: int) -> bool:
    """Whether windows may begin before the input along a spatial axis."""
    return op.geometry().begin[axis] != 0


def ends_after(op: SlidingWindow, axis: int) -> bool:
    """Whether windows may end after the input along a spatial axis."""
    g = op.geometry()
    beyond = isinstance(op, Pool) and bool_of(op.ceil_mode)
    return g.end[axis] != 0 or (beyond and g.kernel[axis] != 1)


def interior(b: KernBuilder, op: SlidingWindow, axis: int) -> tuple[Index, Index]:
    """The windows `[first, end)` along a spatial axis that lie inside of the input.

    Either may be beyond the last window, and `end` before `first`.
    """
    g, extent = op.geometry(), op.split(op.operands[0])[2][axis]
    reach = b.add_index(b.mul_index(b.sub_index(b.dim(g.kernel[axis]), 1), g.dilations[axis]), 1)
    begin, stride = b.dim(g.begin[axis]), g.strides[axis]
    room = b.sub_index(b.add_index(b.dim(extent), begin), reach)
    first = b.floordiv(b.add_index(begin, stride - 1), stride)
    return first, b.add_index(b.floordiv(room, stride), 1)


def reads_freely(op: SlidingWindow, buffers: Container[SSAValue]) -> bool:
    """Whether vectors may be read whole in `free_rows`."""
    plane = isinstance(op, Pool) and len(dims_of(op.x)) == 4 and not op.channels_last()
    return plane and op.operands[0] in buffers


def free_rows(b: KernBuilder, op: SlidingWindow) -> tuple[Index, Index]:
    """The rows `[first, end)` of all planes where a whole vector at any tap lies in the buffer.

    Numbers go on from plane to plane. Others are some of the first and of the last planes.
    """
    g, dims = op.geometry(), dims_of(op.operands[0])
    height = b.max_index(b.dim(dims_of(op.results[0])[2]), 1)
    rows, width = (b.max_index(b.dim(dim), 1) for dim in dims[2:])
    above, before = b.dim(g.begin[0]), b.max_index(b.dim(g.begin[1]), 0)
    # A vector may begin `before` elements ahead of its row, which are in so many rows above.
    reach = b.add_index(b.add_index(above, before), g.strides[0] - 1)
    first = b.min_index(b.floordiv(reach, g.strides[0]), height)
    plane = b.select_index(b.compare_index("le", before, rows), 0, before)
    first = b.add_index(b.mul_index(plane, height), first)
    first = b.select_index(b.compare_index("eq", before, 0), 0, first)
    # It may end so many rows after its own.
    beyond = b.dim((MOST_LANES + 1) * g.strides[1] + g.extent(1) + g.end[1])
    more = b.floordiv(b.sub_index(b.add_index(beyond, width), 1), width)
    last = b.sub_index(b.sub_index(b.mul_index(b.dim(product(dims[:2])), rows), more), 1)
    plane = b.floordiv(last, rows)
    room = b.sub_index(last, b.mul_index(plane, rows))
    room = b.sub_index(b.add_index(b.add_index(room, above), 1), b.dim(g.extent(0)))
    end = b.add_index(b.floordiv(room, g.strides[0]), 1)
    end = b.min_index(b.max_index(end, 0), height)
    return first, b.add_index(b.mul_index(plane, height), end)


def _taps_inside(b: KernBuilder, op: SlidingWindow, axis: int, start: Index) -> tuple[Index, Index]:
    """The taps of the window that begins at `start` which lie inside of the input."""
    g, extent = op.geometry(), op.split(op.operands[0])[2][axis]
    apart = g.dilations[axis]

    def before(position: Index) -> Index:
        return b.floordiv(b.add_index(b.sub_index(position, start), apart - 1), apart)

    return b.max_index(before(0), 0), b.min_index(before(b.dim(extent)), b.dim(g.kernel[axis]))


def _within(b: KernBuilder, op: SlidingWindow, axis: int, at: Index) -> SSAValue:
    extent = op.split(op.operands[0])[2][axis]
    return b.and_(b.compare_index("ge", at, 0), b.compare_index("lt", at, b.dim(extent)))
