"""One `kern.func` for a region: its loop nest, its stores, and what the host passes to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce

from xdsl.ir import Block, Operation, SSAValue

import lowering.generic.all_rules  # noqa: F401  # pyright: ignore[reportUnusedImport]
from lowering.generic.evaluator import (
    Evaluator,
    Groups,
    merged_groups,
    region_values,
    unknown_extents,
)
from lowering.generic.rules import is_plain
from lowering.generic.strips import Strips, is_stripped, padded_rows
from lowering.kern.builder import Index, IndexView, KernBuilder, buffer_of
from lowering.kern.dialect import INDEX
from lowering.kernel import Argument, Buffer, DimArgument, Kernel, Record, grain_of
from torsh_dialect import dtypes
from torsh_dialect.attributes import ints_of
from torsh_dialect.dims import Dim, ceildiv, maximum, product
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.kinds import Elementwise, Movement, Reduce
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.ops.movement import TransposeOp
from torsh_dialect.types import dims_of, element_type, rank_of

CHUNK = 4096
"""Elements that one unit of a flat loop handles: enough to pay for a call, few enough to share."""

ROWS = 16
"""Rows of a tile of a transposition: what a line of cache holds of f32."""

SPAN = 256
"""Elements of each row of a tile: few enough that the lines of all stay in the first cache."""

VECTOR = 128
"""Bytes of a virtual vector, of which an element has at least `LEAST_BYTES` (`cpu.lanes`)."""

LEAST_BYTES = 4

MOST_TWICE = 8
"""Ops of a region that is not too long to have its code for rows of a vector again."""

MOST_THRICE = 4
"""Ops of a region that is not too long to have it for rows of half a vector or two, too."""

Case = tuple[SSAValue, Callable[[], object]]
"""A condition of the run, and the code that is better where it holds."""

Parts = Sequence[tuple[Index, Index, int | None]]
"""First index and end of each part of a row, and the most elements that it can have if known."""

Place = Callable[[SSAValue], tuple[Sequence[Index], Index]]
"""From a lane's index to the index of an element and its position in memory."""

Whole = Callable[[Sequence[Index]], list[Index]]
"""From the index in the loops to the index of an element: axes of extent 1 have no loop."""


class RegionKernel:
    """Builds the kernel of a pure region by elements.

    Args:
        inputs: Values that are read from memory, in the order of the kernel's arguments.
        outputs: Values that are stored; all have the extents of the first.
    """

    def __init__(self, inputs: Sequence[SSAValue], outputs: Sequence[SSAValue]):
        self.inputs = inputs
        self.outputs = outputs
        self.b = KernBuilder("kernel")
        self.lo, self.hi, _ = (self.b.argument(INDEX, n) for n in ("lo", "hi", "worker"))
        sources = [self.b.argument(buffer_of(element_type(v)), "in") for v in inputs]
        self.targets = [self.b.argument(buffer_of(element_type(v)), "out") for v in outputs]
        self.buffers = dict(zip(inputs, sources, strict=True))
        self.record = self.b.argument(buffer_of(dtypes.i64), "error")
        values = region_values(outputs, self.buffers)
        self.values = values
        self.computed = [v.owner for v in values if v not in self.buffers]

    def build(self) -> Kernel:
        """The kernel with its launch parameters."""
        e = Evaluator(self.b, self.buffers, self.record, self._groups())
        dims = e.dims(self.outputs[0])
        loops = [axis for axis, dim in enumerate(dims) if dim != 1]
        extents = [dims[axis] for axis in loops]

        def whole(index: Sequence[Index]) -> list[Index]:
            found = dict(zip(loops, index, strict=True))
            return [found.get(axis, 0) for axis in range(len(dims))]

        scalar = bool(loops) and self._scalar_rows(len(dims) - loops[-1])
        turned = None if scalar else self._turned_axis(loops)
        if turned is not None:
            return self._finish(self._tiles(e, extents, whole, turned), extents[-1])
        if len(loops) > 1:
            return self._finish(self._nest(e, extents, whole, scalar), extents[-1])
        return self._finish(self._flat(e, extents, whole, scalar), 1 if scalar else CHUNK)

    def _turned_axis(self, loops: Sequence[int]) -> int | None:
        """The loop along which a transposed operand is contiguous, where that is no inner loop."""
        for op in self.computed:
            if not isinstance(op, TransposeOp) or dims_of(op.y) != dims_of(self.outputs[0]):
                continue
            moving = [axis for axis in ints_of(op.perm) if dims_of(op.x)[axis] != 1]
            along = moving.index(max(moving)) if moving else -1
            if len(moving) == len(loops) and 0 <= along < len(loops) - 1:
                return along
        return None

    def _groups(self) -> Groups | None:
        if not all(v in self.buffers or is_plain(v) for v in self.values):
            return None
        dims = dims_of(self.outputs[0])
        return merged_groups(self.values, dims, [False] * len(dims))

    def _scalar_rows(self, from_end: int) -> bool:
        """Whether each element along the axis `from_end` is a reduction of its own row.

        Then lanes are in the reduction, not across results.
        """
        for op in self.computed:
            if isinstance(op, Reduce) and rank_of(op.x) - 1 in op.axis_list():
                dims = dims_of(op.y)
                if from_end <= len(dims) and dims[-from_end] != 1:
                    return True
        return False

    def _flat(self, e: Evaluator, dims: Sequence[Dim], whole: Whole, scalar: bool) -> Dim:
        """No or one axis: units are chunks of it."""
        b = self.b
        if not dims:
            b.each(self.lo, self.hi, lambda u: self._store(e, whole([]), 0))
            return 1
        if scalar:
            b.each(self.lo, self.hi, lambda u: self._store(e, whole([u]), u))
            return dims[0]
        extent = b.dim(dims[0])

        def chunk(unit: SSAValue) -> None:
            start = b.mul_index(unit, CHUNK)
            end = b.min_index(b.add_index(start, CHUNK), extent)
            self._lanes(e, start, end, lambda i: (whole([i]), i))

        b.each(self.lo, self.hi, chunk)
        return ceildiv(dims[0], CHUNK)

    def _nest(self, e: Evaluator, dims: Sequence[Dim], whole: Whole, scalar: bool) -> Dim:
        """Several axes: units are rows, the innermost axis is in lanes.

        What only the run knows can make other loops much better; there is code for these cases.
        """
        b, outer = self.b, dims[:-1]
        extent = b.dim(dims[-1])
        if not scalar and is_stripped(self.computed):
            window = padded_rows(self.computed, self.outputs[0])
            strips = Strips(e, dims, window, lambda i, flat: self._store(e, whole(i), flat))
            strips.build(self.lo, self.hi)
            return product(outer)

        whole_row: Parts = ((0, extent, None),)

        def row(e: Evaluator, unit: SSAValue, index: Sequence[Index], parts: Parts) -> None:
            start = b.mul_index(unit, extent)
            if scalar:

                def single(i: SSAValue) -> None:
                    self._store(e, whole([*index, i]), b.add_index(start, i))

                b.each(0, extent, single)
                return

            def place(i: SSAValue) -> tuple[Sequence[Index], Index]:
                return whole([*index, i]), b.add_index(start, i)

            for first, end, most in parts:
                self._lanes(e, first, end, place, most)

        def rows(case: Evaluator = e, parts: Parts = whole_row) -> Sequence[SSAValue]:
            b.each_place(self.lo, self.hi, outer, lambda u, index: row(case, u, index, parts))
            return ()

        cases: list[Case | None] = []
        if not scalar:
            short = self._short_rows(extent, lambda parts: rows(parts=parts))
            along = self._equal_rows(e, rows)
            column, flat = self._one_column(e, dims, whole), self._all_equal(e, extent)
            cases = [along, *short, column, flat]
        chosen: Callable[[], Sequence[SSAValue]] = rows
        for case in cases:
            if case is not None:
                chosen = self._either(*case, chosen)
        chosen()
        return product(outer)

    def _short_rows(self, extent: Index, rows: Callable[[Parts], object]) -> list[Case]:
        """Rows that fit few vectors, where only the run knows: these have masks and no loop.

        Ops whose elements have several sources have masks in loops, too.
        """
        ops = len(self.computed)
        if isinstance(extent, int) or not self._is_simple() or ops > MOST_TWICE:
            return []
        sizes = (dtype_of(element_type(value)).bytes for value in self.values)
        most = VECTOR // max(LEAST_BYTES, *sizes)
        one: Parts = ((0, extent, most),)
        found: list[tuple[Parts, int]] = [(one, most)]
        if ops <= MOST_THRICE and any(_has_sources(op) for op in self.computed):
            found.insert(0, (((0, most, None), (most, extent, most)), 2 * most))
        elif ops <= MOST_THRICE and not any(isinstance(op, Movement) for op in self.computed):
            found.append((((0, extent, most // 2),), most // 2))
        return [
            (self.b.compare_index("le", extent, longest), partial(rows, parts))
            for parts, longest in found
        ]

    def _either(
        self,
        condition: SSAValue,
        then: Callable[[], object],
        otherwise: Callable[[], Sequence[SSAValue]],
    ) -> Callable[[], Sequence[SSAValue]]:
        def first() -> Sequence[SSAValue]:
            then()
            return ()

        return lambda: self.b.if_(condition, first, otherwise)

    def _is_simple(self) -> bool:
        return all(isinstance(op, Elementwise | Movement | ConstantOp) for op in self.computed)

    def _one_column(
        self, e: Evaluator, dims: Sequence[Dim], whole: Whole
    ) -> tuple[SSAValue, Callable[[], None]] | None:
        """Rows of one element, where that is possible: rows are in lanes."""
        if len(dims) != 2 or isinstance(dims[1], int) or not self._is_simple():
            return None
        case = replace(e, assumed={dims[1]: 1})

        def body() -> None:
            self._lanes(case, self.lo, self.hi, lambda i: (whole([i, 0]), i))

        return self.b.compare_index("eq", self.b.dim(dims[1]), 1), body

    def _equal_rows(self, e: Evaluator, rows: Callable[[Evaluator], object]) -> Case | None:
        """Operands that may be broadcast, but are not along the innermost of several axes."""
        b, dims = self.b, dims_of(self.outputs[0])
        pairs = unknown_extents(self.values, dims) if e.groups is not None else {}
        inner = {pair: None for pair in pairs if pair[1] == dims[-1]}
        if not inner or len(inner) == len(pairs):
            return None
        case = replace(e, assumed=dict(inner))
        equal = [b.compare_index("eq", b.dim(own), b.dim(extent)) for own, extent in inner]
        return reduce(b.and_, equal), lambda: rows(case)

    def _all_equal(self, e: Evaluator, extent: Index) -> tuple[SSAValue, Callable[[], None]] | None:
        """Operands that may be broadcast but are not: all axes are one."""
        b, dims = self.b, dims_of(self.outputs[0])
        pairs = unknown_extents(self.values, dims) if e.groups is not None else {}
        if not pairs:
            return None
        groups = merged_groups(self.values, dims, [False] * len(dims), pairs)
        case = replace(e, groups=groups, assumed=dict(pairs))
        if sum(dim != 1 for dim in case.dims(self.outputs[0])) != 1:
            return None
        equal = [b.compare_index("eq", b.dim(own), b.dim(extent)) for own, extent in pairs]

        def body() -> None:
            start, end = (b.mul_index(bound, extent) for bound in (self.lo, self.hi))
            axes = case.dims(self.outputs[0])
            self._lanes(case, start, end, lambda i: ([i if d != 1 else 0 for d in axes], i))

        return reduce(b.and_, equal), body

    def _tiles(self, e: Evaluator, dims: Sequence[Dim], whole: Whole, turned: int) -> Dim:
        """Units are blocks of rows along `turned`, in spans, so that lines of cache are used up."""
        b, extent = self.b, self.b.dim(dims[-1])
        blocks = [ceildiv(d, ROWS) if n == turned else d for n, d in enumerate(dims[:-1])]

        def block(unit: SSAValue) -> None:
            place = self.b.unravel(unit, blocks)
            first = b.mul_index(place[turned], ROWS)
            last = b.min_index(b.add_index(first, ROWS), b.dim(dims[turned]))

            def span(start: SSAValue) -> None:
                end = b.min_index(b.add_index(start, SPAN), extent)

                def row(r: SSAValue) -> None:
                    index = [r if n == turned else i for n, i in enumerate(place)]
                    before = b.mul_index(_row_major(b, dims[:-1], index), extent)
                    self._lanes(
                        e, start, end, lambda i: (whole([*index, i]), b.add_index(before, i))
                    )

                b.each(first, last, row)

            b.each(0, extent, span, SPAN)

        b.each(self.lo, self.hi, block)
        return product(blocks)

    def _lanes(
        self, e: Evaluator, start: Index, end: Index, place: Place, most: int | None = None
    ) -> None:
        def body(i: SSAValue) -> None:
            e.lanes_depth = self.b.depth(i)
            index, flat = place(i)
            self._store(e, index, flat)
            e.lanes_depth = None

        self.b.lanes(start, end, body, most)

    def _store(self, e: Evaluator, index: Sequence[Index], flat: Index) -> None:
        for value, target in zip(self.outputs, self.targets, strict=True):
            self.b.store(e.element(value, index), target, flat)

    def _finish(self, units: Dim, size: Dim) -> Kernel:
        """The kernel, with units of `size` elements each."""
        count = len(self.inputs) + len(self.outputs)
        arguments: list[Argument] = [Buffer(n) for n in range(count)]
        arguments.append(Record())
        arguments.extend(DimArgument(dim) for dim in self.b.dim_arguments)
        grain = grain_of(size * maximum(self._weight(), 1))
        return Kernel(self.b.finish(), units, grain, tuple(arguments))

    def _weight(self) -> Dim:
        """Element operations for one element of the result, roughly."""
        weight: Dim = 0
        for op in self.computed:
            weight = weight + (_reduction_size(op) if isinstance(op, Reduce) else 1)
        return weight


def _has_sources(op: Operation | Block) -> bool:
    """Whether an op moves elements from several places, or fills some of its result."""
    if not isinstance(op, Movement):
        return False
    probe = KernBuilder("probe")
    index = [probe.argument(INDEX) for _ in dims_of(op.results[0])]
    return any(pick.where is not None for pick in op.pick(IndexView(probe), index))


def _row_major(b: KernBuilder, dims: Sequence[Dim], index: Sequence[Index]) -> Index:
    position: Index = 0
    for dim, i in zip(dims, index, strict=True):
        position = b.add_index(b.mul_index(position, b.dim(dim)), i)
    return position


def _reduction_size(op: Reduce) -> Dim:
    dims = dims_of(op.x)
    return product(dims[axis] for axis in op.axis_list())
