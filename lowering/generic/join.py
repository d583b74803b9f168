"""The kernel of a `torsh.concat` along an outer axis: runs of its operands one after the other.

From the axis on, an operand is one run of memory for each place in the axes before it, and so is
the result:

    y[n, a + b, p] = concat(x[n, a, p], z[n, b, p])  ->  for n: y[n, :a*p] = x[n]; y[n, a*p:] = z[n]

No element is asked which operand it is of, which the rule by element does (`rules.movement`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from xdsl.ir import Block, Operation, SSAValue

from lowering.generic.whole import WholeKernelBuilder
from lowering.kern.builder import Index
from lowering.kernel import Kernel
from torsh_dialect.dims import Dim, ceildiv, product
from torsh_dialect.ops.join import ConcatOp, one_axis
from torsh_dialect.types import dims_of

CHUNK = 4096
"""Elements of a unit, a part of a run of the result: so threads share few long runs too."""

MOST_OPERANDS = 8
"""Each has a loop of its own: the code grows with their number."""


def join_kernel(op: Operation | Block, inputs: Sequence[SSAValue]) -> Kernel | None:
    """The kernel of a join of all `inputs` in order; None where elements are better asked for.

    Along the innermost axis runs are short, and one vector with a mask may hold all of them.
    """
    if not isinstance(op, ConcatOp) or tuple(inputs) != tuple(dict.fromkeys(op.items)):
        return None
    dims = dims_of(op.results[0])
    axis = one_axis(op.axis, len(dims))
    if len(op.items) > MOST_OPERANDS or product(dims[axis + 1 :]) == 1:
        return None
    return _Join(op, axis).build()


class _Join:
    """Writes the kernel: a unit is a chunk of the run of a place in the axes before `axis`.

    The first chunks of all places come first, as there is often one, and what is the same for all
    places then stands before their loop.
    """

    def __init__(self, op: ConcatOp, axis: int):
        self.whole = WholeKernelBuilder(op)
        dims = dims_of(op.results[0])
        self.places, self.run = product(dims[:axis]), product(dims[axis:])
        self.sizes: list[Dim] = [product(dims_of(item)[axis:]) for item in op.items]
        self.chunks = ceildiv(self.run, CHUNK)

    def build(self) -> Kernel:
        """The kernel with its launch parameters."""
        w = self.whole
        dims = (self.chunks, self.places)
        w.b.each_place(w.lo, w.hi, dims, lambda _, index: self._unit(index[1], index[0]))
        return w.finish(self.places * self.chunks, CHUNK)

    def _unit(self, place: Index, chunk: Index) -> None:
        b = self.whole.b
        start = b.mul_index(chunk, CHUNK)
        end = b.min_index(b.add_index(start, CHUNK), b.dim(self.run))
        ends = list(accumulate(self.sizes, initial=0))
        for source, size, begin in zip(self.whole.sources, self.sizes, ends, strict=False):
            self._copy(source, place, size, begin, (start, end))

    def _copy(
        self, source: SSAValue, place: Index, size: Dim, begin: Dim, chunk: tuple[Index, Index]
    ) -> None:
        """The part of an operand's run, `begin` elements behind the result's, in a chunk of it."""
        b, (start, end) = self.whole.b, chunk
        own, before = b.mul_index(place, b.dim(size)), b.dim(begin)
        behind = b.add_index(b.mul_index(place, b.dim(self.run)), before)
        first, last = 0, b.dim(size)
        if self.chunks != 1:
            first = b.max_index(b.sub_index(start, before), 0)
            last = b.max_index(b.min_index(b.sub_index(end, before), last), first)

        def element(i: SSAValue) -> None:
            value = b.load(source, b.add_index(own, i))
            b.store(value, self.whole.targets[0], b.add_index(behind, i))

        b.lanes(first, last, element)
