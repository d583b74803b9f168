"""What the ops of a kernel need of extents that types do not prove: checked before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from lowering.kern.builder import KernBuilder
from torsh_dialect.attributes import extents_of
from torsh_dialect.dims import (
    Dim,
    assumptions,
    bounds_of,
    broadcast_shapes,
    provably_equal,
    symbols_of,
)
from torsh_dialect.kinds import Contract, Control, Elementwise, TensorOp
from torsh_dialect.ops.complex import ComplexOp
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.datadependent import MaskedSelectOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.gather import GatherElementsOp
from torsh_dialect.ops.join import one_axis
from torsh_dialect.ops.movement import BroadcastToOp
from torsh_dialect.ops.shape import RangeOp
from torsh_dialect.ops.sort import TopKOp
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


def relations(op: Operation) -> Iterator[tuple[Relation, Operation]]:
    """The relations that a kernel or view relies on, each with the op that does."""
    seen: set[Relation] = set()
    for inner in op.body.block.ops if isinstance(op, FusedOp) else (op,):
        if not isinstance(inner, TensorOp) or isinstance(inner, Control | YieldOp):
            continue
        if not _is_symbolic(inner):
            continue
        for relation in _of(inner):
            if relation not in seen and not _is_certain(relation):
                seen.add(relation)
                yield relation, inner


def _is_symbolic(op: TensorOp) -> bool:
    return any(
        symbols_of(dim)
        for value in (*op.operands, *op.results)
        if hasattr(value.type, "element_type")
        for dim in dims_of(value)
    )


def _of(op: TensorOp) -> Iterator[Relation]:
    if isinstance(op, Elementwise | ComplexOp):
        yield from _broadcast(op.operands, dims_of(op.results[0]))
    elif isinstance(op, MaskedSelectOp):
        yield from _broadcast(op.operands, broadcast_shapes(*map(dims_of, op.operands)))
    elif isinstance(op, BroadcastToOp):
        yield from _broadcast(op.operands, extents_of(op.target))
    elif isinstance(op, Contract):
        yield from _labelled(op)
    elif isinstance(op, TopKOp) and (dims := dims_of(op.x)):
        yield Relation(extents_of(op.k)[0], "le", dims[one_axis(op.axis, len(dims))])
    elif isinstance(op, GatherElementsOp) and (dims := dims_of(op.x)):
        axis = one_axis(op.axis, len(dims))
        pairs = zip(dims_of(op.indices), dims, strict=True)
        yield from (Relation(i, "le", d) for n, (i, d) in enumerate(pairs) if n != axis)
    if isinstance(op, RangeOp):
        return  # its length is that of known contents, which a region's arguments do not show
    with assumptions() as found:
        op.infer()
    yield from (Relation(left, "eq", right) for left, right in found)


def _broadcast(operands: Sequence[SSAValue], result: Sequence[Dim]) -> Iterator[Relation]:
    for operand in operands:
        for own, extent in zip(reversed(dims_of(operand)), reversed(result), strict=False):
            yield Relation(own, "fits", extent)


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
    left, kind, right = relation.left, relation.kind, relation.right
    if provably_equal(left, right):
        return True
    if kind == "le":
        least, _ = bounds_of(right - left, {})
        return least is not None and least >= 0
    return kind == "fits" and left == 1
