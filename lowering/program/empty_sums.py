"""Calls that sum nothing: all elements of each result are one value, whatever the data are.

A product of [m, k] by [k, n] is zeros where k = 0, and so are the corrections of its zero points.
What is computed from such sums and from scalars alone is a region that fills the result:

    y = ((a @ b) - zero * sum(b)) * scale,  k = 0:  y = fill((0 - zero * 0) * scale)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.func import ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.rewriter import Rewriter

from torsh_dialect.attributes import dims_attribute, integers
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import Bounds, Dim, product, substitute, symbols_of
from torsh_dialect.errors import ShapeError, TorshError
from torsh_dialect.kinds import Contract, DataDependent, Elementwise, Movement, Reduce, TensorOp
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.movement import BroadcastToOp, TransposeOp
from torsh_dialect.types import dims_of, element_type, rank_of

Values = Mapping[str, Dim]


def empty_calls(
    block: Block, results: Sequence[SSAValue], bounds: Mapping[str, Bounds]
) -> Iterator[tuple[str, list[FusedOp]]]:
    """Symbols that make every result one value where they are 0, with a region for each result.

    A region yields the elements of its result as one row, and its operands are copies of weights.

    Args:
        block: Yields nothing where it has more than regions, views, weights and constants.
        results: What the block returns.
        bounds: The bounds of its symbols.
    """
    if not all(map(_is_plain, block.ops)):
        return
    for name in dict.fromkeys(_summed(block)):
        if bounds.get(name, (0, None))[0] > 0:
            continue
        found = _Equal({name: 0})
        found.visit(block.ops)
        regions = [found.region(value) for value in results]
        if regions and None not in regions:
            yield name, [region for region in regions if region is not None]


def _is_plain(op: Operation) -> bool:
    """Whether running the op checks nothing and gives no symbol a value."""
    if isinstance(op, FusedOp):
        return not any(isinstance(inner, DataDependent) for inner in op.body.block.ops)
    return isinstance(op, WeightOp | ConstantOp | ReturnOp | Movement)


def _summed(block: Block) -> Iterator[str]:
    """The symbols of extents that are summed."""
    for op in block.walk():
        if isinstance(op, Reduce | Contract):
            for dim in _summed_dims(op):
                yield from sorted(symbols_of(dim))


def _summed_dims(op: Reduce | Contract) -> list[Dim]:
    """The extents that an op folds away."""
    if isinstance(op, Reduce):
        dims = dims_of(op.x)
        return [dims[axis] for axis in op.axis_list()]
    *terms, result = op.labels()
    return [
        dim
        for labels, value in zip(terms, op.operands, strict=True)
        for label, dim in zip(labels, dims_of(value), strict=True)
        if label not in result
    ]


@dataclass
class _Equal:
    """Finds the tensors of equal elements, and builds what computes one element.

    Attributes:
        values: What is known of symbols.
        sources: For results and arguments of regions, and for what only moves elements: the value
            whose element theirs is.
        makers: The ops of which the element is made, by result.
    """

    values: Values
    sources: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    makers: dict[SSAValue, Operation] = field(default_factory=dict[SSAValue, Operation])

    def visit(self, ops: Iterable[Operation]) -> None:
        """Look at ops in their order."""
        for op in ops:
            if isinstance(op, FusedOp):
                self.sources.update(zip(op.body.block.args, op.operands, strict=True))
                self.visit(op.body.block.ops)
                last = op.body.block.last_op
                assert last is not None
                self.sources.update(zip(op.results, last.operands, strict=True))
            elif isinstance(op, Movement) and _only_moves(op):
                self.sources[op.results[0]] = op.operands[0]
            elif self._is_equal(op):
                self.makers[op.results[0]] = op

    def _is_equal(self, op: Operation) -> bool:
        if isinstance(op, ConstantOp | WeightOp):
            return all(dim == 1 for dim in dims_of(op.results[0]))
        if isinstance(op, Elementwise):
            return all(self._source(v) in self.makers for v in op.operands)
        return self._is_empty(op)

    def _is_empty(self, op: Operation) -> bool:
        """Whether it sums nothing, and nothing is added to that."""
        if not isinstance(op, Reduce | Contract) or getattr(op, "bias", None) is not None:
            return False
        return any(self._extent(dim) == 0 for dim in _summed_dims(op))

    def _extent(self, dim: Dim) -> Dim | None:
        """An extent there; None where it is divided by one that is 0: no call has such extents."""
        try:
            return substitute(dim, self.values)
        except ShapeError:
            return None

    def _source(self, value: SSAValue) -> SSAValue:
        while value in self.sources:
            value = self.sources[value]
        return value

    def region(self, value: SSAValue) -> FusedOp | None:
        """A region that fills a value; None where it depends on data, or is refused or empty."""
        source = self._source(value)
        if source not in self.makers:
            return None
        size = self._extent(product(dims_of(value)))
        if size is None or size == 0:
            return None
        ops = self._needed(source)
        copies = [op.clone().results[0] for op in ops if isinstance(op, WeightOp)]
        block = Block(arg_types=[copy.type for copy in copies])
        arguments, b = iter(block.args), BlockBuilder(block)
        made: dict[SSAValue, SSAValue] = {}
        try:
            for op in ops:
                weight = isinstance(op, WeightOp)
                made[op.results[0]] = next(arguments) if weight else self._one(b, op, made)
        except TorshError:
            return None
        element = made[source]
        target = dims_attribute([*[1] * (rank_of(element) - 1), size])
        row = b(BroadcastToOp, element, target=target)
        b.put(YieldOp.create(operands=[row]))
        return FusedOp.create(operands=copies, result_types=[row.type], regions=[Region(block)])

    def _needed(self, source: SSAValue) -> list[Operation]:
        """The ops of which an element is made, in their order."""
        needed, left = set[SSAValue](), [source]
        while left:
            value = left.pop()
            if value not in needed:
                needed.add(value)
                op = self.makers[value]
                if isinstance(op, Elementwise):
                    left.extend(map(self._source, op.operands))
        return [op for value, op in self.makers.items() if value in needed]

    def _one(self, b: BlockBuilder, op: Operation, made: Mapping[SSAValue, SSAValue]) -> SSAValue:
        """Build what computes one element, with all extents 1.

        Raises:
            TorshError: The op refuses to fold no elements.
        """
        if isinstance(op, Contract):
            return b.constant(0, element_type(op.results[0]))
        if isinstance(op, Reduce):
            zero = b.constant(0, element_type(op.x))
            copy = op.clone({op.x: b(BroadcastToOp, zero, target=dims_attribute([0]))})
            copy.properties["axes"] = integers((0,))
            copy.properties.pop("keepdims", None)
        else:
            copy = op.clone({v: made[self._source(v)] for v in op.operands})
        b.put(copy)
        assert isinstance(copy, TensorOp)
        (type,) = copy.implied_types()
        return Rewriter.replace_value_with_new_type(copy.results[0], type)


def _only_moves(op: Movement) -> bool:
    """Whether each element of the result is one of the first operand's."""
    return op.is_view() or isinstance(op, TransposeOp | BroadcastToOp)
