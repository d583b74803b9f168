"""Sums of products over shared axes: matrix products in all forms, and einsum."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute
from xdsl.irdl import (
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    var_operand_def,
)

from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import Dim, broadcast
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Contract, Labels
from torsh_dialect.ops.reference import narrow, precise, require_equal, row_of
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


def result_element(op: Contract, accumulate: Attribute | None) -> Attribute:
    """The element type of a product: `accumulate` if given, else that of equal operands.

    Raises:
        ShapeError: Operands differ in element type and no result type is given.
    """
    if accumulate is not None:
        return accumulate
    elements = {element_type(operand): None for operand in op.operands}
    if len(elements) > 1:
        raise ShapeError(f"operands have element types {', '.join(map(str, elements))}")
    return next(iter(elements))


def labelled_dims(labels: Labels, operands: Sequence[Sequence[Dim]]) -> dict[str, Dim]:
    """The extent of each label; an axis of extent 1 stretches to the label's extent.

    Raises:
        ShapeError: Two axes of one label have different extents, neither 1.
    """
    found: dict[str, Dim] = {}
    for names, dims in zip(labels[:-1], operands, strict=True):
        for name, dim in zip(names, dims, strict=True):
            try:
                found[name] = broadcast(found.get(name, 1), dim)
            except ShapeError:
                raise ShapeError(f"axis {name!r} has extents {found[name]} and {dim}") from None
    return found


def _operand(array: Array, accumulate: Attribute | None) -> Any:
    return precise(array) if accumulate is None else array.astype(dtype_of(accumulate).numpy)


@op
class MatMulOp(Contract):
    """The matrix product over the last two axes; leading axes broadcast (numpy `matmul`).

    A 1-d `a` is a row and a 1-d `b` a column, whose axis is absent from the result.

    C1: no operand is a scalar.
    C2: the last axis of `a` and the last but one of `b` have equal extents.
    C3: operands have one element type, or `accumulate` gives the result's, in which the
        product is computed (integers wrap).

    %r = torsh.matmul %a, %b : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
    """

    name = "torsh.matmul"
    a = operand_def()
    b = operand_def()
    accumulate = opt_prop_def(Attribute)
    y = result_def()
    SPELLED: ClassVar = Spelled(
        torch=("aten.matmul.default", "aten.mm.default", "aten.bmm.default", "aten.mv.default",
               "aten.dot.default"),
        onnx=("MatMul",),
        tensorflow=("MatMul", "BatchMatMul", "BatchMatMulV2"),
    )  # fmt: skip

    def labels(self) -> Labels:
        rank_a, rank_b = rank_of(self.a), rank_of(self.b)
        batch = tuple(ascii_letters[: max(rank_a, rank_b, 2) - 2])
        a = (*batch[len(batch) - max(rank_a - 2, 0) :], "M", "K") if rank_a > 1 else ("K",)
        b = (*batch[len(batch) - max(rank_b - 2, 0) :], "K", "N") if rank_b > 1 else ("K",)
        return a, b, (*batch, *a[-2:-1], *(b[-1:] if rank_b > 1 else ()))

    def infer(self) -> Sequence[AnyTensor]:
        a, b = dims_of(self.a), dims_of(self.b)
        if not a or not b:
            raise ShapeError("a matrix product needs operands of rank 1 or more, got a scalar (C1)")
        require_equal("contracted extents (C2)", a[-1], b[max(len(b) - 2, 0)])
        labels = self.labels()
        extents = labelled_dims(labels, (a, b))
        element = result_element(self, self.accumulate)
        return (tensor(element, [extents[name] for name in labels[-1]]),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        a, b = (_operand(x, self.accumulate) for x in args)
        return (np.matmul(a, b).astype(row_of(self.y).numpy),)


@op
class LinearOp(Contract):
    """x @ transpose(w) + bias: x is [..., K], w is [N, K], bias is [N], the result [..., N].

    C1: x has rank 1 or more, w rank 2, bias rank 1.
    C2: the last axes of x and w have equal extents.
    C3: the bias has N elements and the same element type.

    %r = torsh.linear %x, %w, %b : (tensor<2x3xf32>, tensor<4x3xf32>, tensor<4xf32>) -> tensor<2x4xf32>
    """  # noqa: E501

    name = "torsh.linear"
    x = operand_def()
    w = operand_def()
    bias = opt_operand_def()
    y = result_def()
    SPELLED: ClassVar = Spelled(torch=("aten.linear.default",))

    def labels(self) -> Labels:
        batch = tuple(ascii_letters[: rank_of(self.x) - 1])
        bias = () if self.bias is None else (("N",),)
        return (*batch, "K"), ("N", "K"), *bias, (*batch, "N")

    def infer(self) -> Sequence[AnyTensor]:
        x, w = dims_of(self.x), dims_of(self.w)
        if not x or len(w) != 2:
            raise ShapeError(f"linear needs x of rank >= 1 and w of rank 2 (C1), got {x} and {w}")
        require_equal("contracted extents (C2)", x[-1], w[1])
        if self.bias is not None:
            bias = dims_of(self.bias)
            if len(bias) != 1:
                raise ShapeError(f"the bias needs rank 1 (C1), got {bias}")
            require_equal("bias and rows of w (C3)", bias[0], w[0])
        return (tensor(result_element(self, None), (*x[:-1], w[0])),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        first, x, w = args[0], precise(args[0]), precise(args[1])
        y = np.matmul(x, w.T)
        return (narrow(y + precise(args[2]) if len(args) > 2 else y, first),)


@op
class EinsumOp(Contract):
    """The Einstein summation of any number of operands, as `numpy.einsum` spells it.

    `equation` is explicit and without spaces (`ij,jk->ik`); `...` stands for broadcast axes. A
    letter that an operand repeats takes its diagonal; one that the result lacks is summed.

    C1: the equation has one term for each operand, with a letter for each axis.
    C2: axes of one letter have equal extents (or 1); all operands have one element type.
    C3: the result's letters are distinct and occur in a term.

    %r = torsh.einsum %a, %b {equation = "ij,jk->ik"} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
    """  # noqa: E501

    name = "torsh.einsum"
    inputs = var_operand_def()
    equation = prop_def(StringAttr)
    y = result_def()

    def labels(self) -> Labels:
        inputs, _, output = self.equation.data.partition("->")
        terms = inputs.split(",")
        if len(terms) != len(self.inputs):
            raise ShapeError(
                f"the equation {self.equation.data!r} has {len(terms)} terms "
                f"for {len(self.inputs)} operands (C1)"
            )
        ranks = [rank_of(value) for value in self.inputs]
        widths = [rank - len(t) + 3 for t, rank in zip(terms, ranks, strict=True) if "..." in t]
        stretch = tuple(f"...{n}" for n in range(max(widths, default=0)))
        split = [_split(term, rank, stretch) for term, rank in zip(terms, ranks, strict=True)]
        result = _split(output, len(output.replace("...", "")) + len(stretch), stretch)
        if len(set(result)) < len(result) or not set(result) <= {x for t in split for x in t}:
            raise ShapeError(f"{self.equation.data!r} has letters of no term or twice (C3)")
        return *split, result

    def infer(self) -> Sequence[AnyTensor]:
        labels = self.labels()
        extents = labelled_dims(labels, [dims_of(value) for value in self.inputs])
        return (tensor(result_element(self, None), [extents[name] for name in labels[-1]]),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (narrow(np.einsum(self.equation.data, *map(precise, args)), args[0]),)


def explicit_equation(equation: str) -> str:
    """An equation of any spelling without spaces and with a result.

    An implicit result has the axes of the ellipsis, then the letters that occur once, in order.
    """
    equation = "".join(equation.split())
    if "->" in equation:
        return equation
    letters = equation.replace("...", "").replace(",", "")
    once = sorted(x for x in set(letters) if letters.count(x) == 1)
    return f"{equation}->{'...' if '...' in equation else ''}{''.join(once)}"


def _split(term: str, rank: int, stretch: tuple[str, ...]) -> tuple[str, ...]:
    before, dots, after = term.partition("...")
    middle = stretch[len(stretch) - (rank - len(before) - len(after)) :] if dots else ()
    if rank - len(before) - len(after) <= 0:
        middle = ()
    names = (*before, *middle, *after)
    if len(names) != rank:
        raise ShapeError(f"the term {term!r} does not name the {rank} axes of its operand (C1)")
    return names
