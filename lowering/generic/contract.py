"""Matrix products in all forms, by element: chains of fused multiply-adds over the shared axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Attribute, Operation, SSAValue

from lowering.generic.evaluator import Evaluator, compute_type, result_element, rule
from lowering.kern.builder import Index, KernBuilder
from torsh_dialect.dims import Dim
from torsh_dialect.kinds import Contract
from torsh_dialect.ops.contract import EinsumOp, LinearOp, MatMulOp
from torsh_dialect.types import dims_of

Product = Callable[[dict[str, Index], SSAValue], SSAValue]
"""From indices of the summed labels and a running total to the next total."""

K_BLOCK = 256
"""Steps of one chain; sums of chains are added in order (numerics contract)."""


@rule(Contract)
def contract(
    e: Evaluator, op: Operation, number: int, index: Sequence[Index], where: SSAValue | None
) -> SSAValue:
    """The sum over the labels that the result lacks of the product of the operands' elements."""
    assert isinstance(op, MatMulOp | LinearOp | EinsumOp)
    *terms, result = op.labels()
    place = dict(zip(result, index, strict=True))
    bias = op.bias if isinstance(op, LinearOp) else None
    factors = [(v, t) for v, t in zip(op.operands, terms, strict=True) if v is not bias]
    extents = {
        label: dim
        for value, labels in factors
        for label, dim in zip(labels, dims_of(value), strict=True)
        if dim != 1
    }
    sizes = dict(zip(result, dims_of(op.results[0]), strict=True))
    summed = [n for n in dict.fromkeys(x for _, t in factors for x in t) if n not in place]
    compute = compute_type(result_element(op))

    def element(value: SSAValue, labels: Sequence[str], at: dict[str, Index]) -> SSAValue:
        own = [
            e.along(dim, at[label], sizes.get(label, dim))
            for label, dim in zip(labels, dims_of(value), strict=True)
        ]
        return e.builder.cast(e.computed(value, own, where), compute)

    def product(at: dict[str, Index], total: SSAValue) -> SSAValue:
        values = [element(v, labels, {**place, **at}) for v, labels in factors]
        return multiply_add(e.builder, values, total)

    total = nested_sum(e, [(n, extents.get(n, 1)) for n in summed], compute, product)
    if bias is not None:
        total = e.builder.add(total, e.builder.cast(e.computed(bias, index[-1:], where), compute))
    return e.builder.cast(total, result_element(op))


def multiply_add(b: KernBuilder, values: Sequence[SSAValue], total: SSAValue) -> SSAValue:
    """`total` plus the product of `values`; the last product and the sum are fused for floats."""
    first, *rest = values
    if not rest:
        return b.add(total, first)
    for value in rest[:-1]:
        first = b.mul(first, value)
    if b.is_float(first):
        return b.fma(first, rest[-1], total)
    return b.add(total, b.mul(first, rest[-1]))


def nested_sum(
    e: Evaluator, axes: Sequence[tuple[str, Dim]], compute: Attribute, product: Product
) -> SSAValue:
    """Sum over nested axes; the innermost in blocks of `K_BLOCK` that start from zero."""
    b = e.builder
    zero = b.const(0, compute)

    def level(at: dict[str, Index], rest: Sequence[tuple[str, Dim]], total: SSAValue) -> SSAValue:
        if not rest:
            return product(at, total)
        (label, dim), *inner = rest
        extent = b.dim(dim)
        if inner:
            return b.for_(
                0, extent, lambda i, *acc: [level({**at, label: i}, inner, acc[0])], [total],
                pure=True,
            )[0]  # fmt: skip

        def chain(start: SSAValue, *acc: SSAValue) -> Sequence[SSAValue]:
            end = b.min_index(b.add_index(start, K_BLOCK), extent)
            block = b.for_(
                start, end, lambda i, *one: [product({**at, label: i}, one[0])], [zero], pure=True
            )
            return [b.add(acc[0], block[0])]

        if isinstance(extent, int) and extent <= K_BLOCK:
            end = b.for_(
                0, extent, lambda i, *one: [product({**at, label: i}, one[0])], [zero], pure=True
            )
            return b.add(total, end[0]) if at else end[0]
        return b.for_(0, extent, chain, [total], step=K_BLOCK, pure=True)[0]

    return level({}, axes, zero)
