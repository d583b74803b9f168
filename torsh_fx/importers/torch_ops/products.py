"""Matrix products and convolutions."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import floordiv
from torsh_dialect.ops import (
    contract,
    conv,
    gather,
)
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts, spatial
from torsh_fx.importers.torch_ops.control import counted_loop

HALVES = (dtypes.f16, dtypes.bf16)


@converts("mm", "bmm", "matmul", "dot", "mv", "vdot")
def _matmul(c: NodeBuilder, a: SSAValue, b: SSAValue) -> SSAValue:
    return c.matmul(a, b)


@converts("inner")
def _inner(c: NodeBuilder, a: SSAValue, b: SSAValue) -> SSAValue:
    """Products over the last axes of both; all other axes stand in the result."""
    if rank_of(a) == 0 or rank_of(b) == 0:
        return c.finished(c.mul(a, b))
    left, right = rank_of(a) - 1, rank_of(b) - 1
    letters = string.ascii_letters
    outer, inner, last = letters[:left], letters[left : left + right], letters[left + right]
    return c.b(contract.EinsumOp, [a, b], equation=f"{outer}{last},{inner}{last}->{outer}{inner}")


@converts("linear")
def _linear(c: NodeBuilder, x: SSAValue, w: SSAValue, bias: SSAValue | None = None) -> SSAValue:
    if rank_of(w) == 1:
        y = c.matmul(x, w)
        return y if bias is None else c.add(y, bias)
    return c.linear(x, w, bias)


@converts("addmm", "addbmm", "baddbmm", "addmv", "addr")
def _addmm(
    c: NodeBuilder, x: SSAValue, a: SSAValue, b: SSAValue, *, beta: Scalar = 1, alpha: Scalar = 1
) -> SSAValue:
    """Beta x + alpha a b; half precision is rounded once, at the end.

    But for addbmm, which ATen defines as one addmm for each matrix of the batch.
    """
    name = str(c.node.target).split(".")[1]
    if name == "addmm" and alpha == beta == 1 and rank_of(x) == 1 and element_type(a) in HALVES:
        return c.linear(a, c.transpose(b, [1, 0]), x)
    x, a, b = c.wide(x), c.wide(a), c.wide(b)
    outer = name == "addr"
    y = c.mul(c.unsqueeze(a, 1), c.unsqueeze(b, 0)) if outer else c.matmul(a, b)
    steps = name == "addbmm" and c.out_element() in HALVES
    y = c.sum(y, [0]) if name == "addbmm" and not steps else y
    if alpha != 1:
        y = c.mul(y, c.tensor(alpha, element_type(y)))
    if beta == 0 and not steps:
        return c.finished(y)
    x = c.cast(x, element_type(y))
    if beta != 1:
        x = (
            c.mul(x, c.tensor(beta, element_type(x)))
            if beta
            else c.full(0.0, c.out_dims(), element_type(x))
        )
    return rounded_sums(c, x, y) if steps else c.finished(c.add(x, y))


def rounded_sums(c: NodeBuilder, start: SSAValue, terms: SSAValue) -> SSAValue:
    """`start` + terms[0] + terms[1] + ... (f32), each sum rounded to the node's half precision.

    So a kernel adds that keeps its accumulator in the result.
    """

    def fill(builder: BlockBuilder, arguments: Sequence[SSAValue]) -> Sequence[SSAValue]:
        inner = NodeBuilder(builder, c.node, c.graph)
        place, total = arguments
        total = inner.finished(inner.add(total, inner.take(terms, place, 0)))
        return [inner.tensor(True, dtypes.i1), inner.wide(total)]

    start = c.expand(start, c.out_dims())
    return c.finished(counted_loop(c, dims_of(terms)[0], [start], fill)[0])


@converts("transformers.grouped_mm_fallback")
def _grouped_mm(c: NodeBuilder, x: SSAValue, w: SSAValue, offs: SSAValue) -> SSAValue:
    """Row s times the matrix of its group, the number of ends `offs` up to s; else zeros."""
    groups = dims_of(w)[0]
    row = c.unsqueeze(c.iota(dims_of(x)[0]), 1)
    ended = c.le(c.cast(offs, dtypes.i64), row)
    group = c.sum(c.cast(ended, dtypes.i64), [1])
    last = c.sub(c.dim(groups), 1)
    chosen = c.b(gather.GatherOp, w, c.minimum(group, last), axis=0)
    y = c.squeeze(c.matmul(c.unsqueeze(x, 1), chosen), 1)
    inside = c.unsqueeze(c.lt(group, c.dim(groups)), 1)
    return c.finished(c.where(inside, y, c.like(0, y)))


@converts("einsum")
def _einsum(
    c: NodeBuilder, equation: str, tensors: Sequence[SSAValue], path: Any = None
) -> SSAValue:
    equation = contract.explicit_equation(equation)
    inputs, _, output = equation.partition("->")
    if "..." in inputs and "..." not in output:  # torch sums these axes; numpy refuses them
        spare = "".join(x for x in string.ascii_letters if x not in equation)
        terms = list[str]()
        for term, x in zip(inputs.split(","), tensors, strict=True):
            width = rank_of(x) - len(term) + len("...")
            terms.append(term.replace("...", spare[:width][::-1]))
        equation = f"{','.join(terms)}->{output}"
    operands = [c.finished(x) for x in tensors]  # small integers of one operand add up as i64
    return c.b(contract.EinsumOp, operands, equation=equation)


@converts("_trilinear")
def _trilinear(
    c: NodeBuilder,
    a: SSAValue,
    b: SSAValue,
    d: SSAValue,
    expand_a: Sequence[int],
    expand_b: Sequence[int],
    expand_d: Sequence[int],
    summed: Sequence[int],
    unroll: int = 1,
) -> SSAValue:
    """The sum of products of three tensors, as ATen defines it: by pairs, for each `unroll`.

    The product of the first two is summed over what the third lacks, and rounded; where `unroll`
    is summed too, that sum is kept in the result.
    """
    letters = string.ascii_letters[: rank_of(a) + len(expand_a)]
    terms = [_without(letters, axes) for axes in (expand_a, expand_b, expand_d)]
    early = [n for n in summed if n in expand_d and n != unroll]
    both = "".join(x for x in _without(letters, early) if x in terms[0] + terms[1])
    pair = c.b(contract.EinsumOp, [a, b], equation=f"{terms[0]},{terms[1]}->{both}")
    outer, rest = letters[unroll], _without(letters, [*summed, unroll])
    kept = unroll in summed and c.out_element() in HALVES
    result = outer + rest if kept else _without(letters, summed)
    y = c.b(contract.EinsumOp, [pair, d], equation=f"{both},{terms[2]}->{result}")
    return rounded_sums(c, c.like(0.0, c.wide(y)), c.wide(y)) if kept else y


def _without(letters: str, axes: Sequence[int]) -> str:
    return "".join(x for n, x in enumerate(letters) if n not in axes)


@converts(
    "convolution",
    "_convolution",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv1d.padding",
    "conv2d.padding",
    "conv3d.padding",
    "conv_transpose1d",
    "conv_transpose2d.input",
    "conv_transpose3d.input",
)
def _convolution(c: NodeBuilder, x: SSAValue, w: SSAValue, *rest: Any, **options: Any) -> SSAValue:
    name = str(c.node.target)
    rank = rank_of(w) - 2
    (bias, stride, padding, dilation, transposed, extra, groups) = _conv_arguments(
        name, rest, options
    )
    batched = rank_of(x) == rank + 2
    x = x if batched else c.unsqueeze(x, 0)
    strides, dilations = spatial(stride, rank), spatial(dilation, rank)
    if transposed:
        pads = spatial(padding, rank)
        y = c.b(
            conv.ConvTransposeOp,
            x,
            w,
            bias,
            strides=strides,
            dilations=dilations,
            pads=pads * 2,
            groups=groups,
            output_padding=spatial(extra, rank),
        )
    else:
        if padding == "same" and not all(isinstance(k, int) for k in dims_of(w)[2:]):
            x, padding = _padded_same(c, x, w, dilations), 0
        begin, end = _conv_pads(padding, w, dilations, rank)
        y = c.b(
            conv.ConvOp,
            x,
            w,
            bias,
            strides=strides,
            dilations=dilations,
            pads=begin + end,
            groups=groups,
        )
    return y if batched else c.squeeze(y, 0)


def _conv_arguments(name: str, rest: Sequence[Any], options: dict[str, Any]) -> tuple[Any, ...]:
    if "convolution" in name:
        order = ("bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups")
    elif "transpose" in name:
        order = ("bias", "stride", "padding", "output_padding", "groups", "dilation")
    else:
        order = ("bias", "stride", "padding", "dilation", "groups")
    given = {
        "bias": None,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "transposed": "transpose" in name,
        "output_padding": 0,
        "groups": 1,
        **dict(zip(order, rest, strict=False)),
        **options,
    }
    keys = ("bias", "stride", "padding", "dilation", "transposed", "output_padding", "groups")
    return tuple(given[k] for k in keys)


def _padded_same(c: NodeBuilder, x: SSAValue, w: SSAValue, dilations: list[int]) -> SSAValue:
    """The image with the zeros of `padding="same"` around it, for a kernel of symbolic extents."""
    for axis, (extent, dilation) in enumerate(zip(dims_of(w)[2:], dilations, strict=True), 2):
        total = (extent - 1) * dilation
        x = c.pad(x, axis, floordiv(total, 2), total - floordiv(total, 2))
    return x


def _conv_pads(
    padding: Any, w: SSAValue, dilations: list[int], rank: int
) -> tuple[list[int], list[int]]:
    if padding == "valid":
        return [0] * rank, [0] * rank
    if padding == "same":
        total = [d * (int(str(k)) - 1) for k, d in zip(dims_of(w)[2:], dilations, strict=True)]
        return [t // 2 for t in total], [t - t // 2 for t in total]
    pads = spatial(padding, rank)
    return pads, pads
