"""What the ops of a kernel need of extents that types do not prove: checked before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from lowering.kern.builder import KernBuilder
from torsh_dialect.dims import Dim, provably_equal, symbols_of
from torsh_dialect.kinds import Contract, Elementwise
from torsh_dialect.ops.complex import ComplexOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.types import dims_of


@dataclass(frozen=True)
class Relation:
    """`left` is `eq`, `ne`, `le` or `lt` to `right`, or `fits` it: is equal or 1."""

    left: Dim
    kind: str
    right: Dim

    def symbols(self) -> frozenset[str]:
        """The symbols on both sides."""
        return symbols_of(self.left) | symbols_of(self.right)

    def build(self, b: KernBuilder) -> SSAValue:
        """Whether it holds."""
        left, right = b.dim(self.left), b.dim(self.right)
        if self.kind != "fits":
            return b.compare_index(self.kind, left, right)
        equal = b.compare_index("eq", left, right)
        return b.or_(equal, b.compare_index("eq", left, 1))


def relations(op: FusedOp) -> Iterator[tuple[Relation, Operation]]:
    """The relations that a kernel relies on, each with the op that does."""
    seen: set[Relation] = set()
    for inner in op.body.block.ops:
        for relation in _of(inner):
            if relation not in seen and not _is_certain(relation):
                seen.add(relation)
                yield relation, inner


def _of(op: Operation) -> Iterator[Relation]:
    if isinstance(op, Elementwise | ComplexOp):
        result = dims_of(op.results[0])
        for operand in op.operands:
            dims = dims_of(operand)
            for own, extent in zip(reversed(dims), reversed(result), strict=False):
                yield Relation(own, "fits", extent)
    elif isinstance(op, Contract):
        yield from _labelled(op)


def _labelled(op: Contract) -> Iterator[Relation]:
    *terms, result = op.labels()
    bias = getattr(op, "bias", None)
    factors: Sequence[SSAValue] = [v for v in op.operands if v is not bias]
    extents = dict(zip(result, dims_of(op.results[0]), strict=True))
    for value, labels in zip(factors, terms, strict=False):
        for label, dim in zip(labels, dims_of(value), strict=True):
            if dim != 1:
                yield Relation(dim, "fits", extents.setdefault(label, dim))


def _is_certain(relation: Relation) -> bool:
    return relation.left == 1 or provably_equal(relation.left, relation.right)
