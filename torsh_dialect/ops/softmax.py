"""Softmax and its relatives along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, IntegerAttr
from xdsl.ir import SSAValue
from xdsl.irdl import operand_def, prop_def, result_def

from torsh_dialect.attributes import Array
from torsh_dialect.declare import Spelled, op
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite, normal_axes
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.reference import narrow, row_of, wide
from torsh_dialect.types import AnyTensor, rank_of, tensor_type


class AlongAxis(Composite):
    """A result like x, computed from each run of elements along `axis`."""

    x = operand_def()
    axis = prop_def(IntegerAttr[I64])
    y = result_def()

    def normal_axis(self) -> int:
        """The axis as a number in 0..rank-1."""
        if rank_of(self.x) == 0:
            raise ShapeError("x is a scalar, it has no axis (C1)")
        return normal_axes([self.axis.value.data], rank_of(self.x))[0]

    def infer(self) -> Sequence[AnyTensor]:
        self.normal_axis()
        if row_of(self.x).kind != "float":
            raise ShapeError(f"x has element type {row_of(self.x).name}, expected a float (C2)")
        return (tensor_type(self.x),)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """exp(x - max) / sum(exp(x - max)) along `axis`."""
    e = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=axis, keepdims=True)


@op
class SoftmaxOp(AlongAxis):
    """exp(x - m) / sum(exp(x - m)) along `axis`, where m is the largest element there.

    C1: `axis` is in range.
    C2: x is floating-point; half precision is computed in f32 and rounded once.

    %r = torsh.softmax %x {axis = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    """

    name = "torsh.softmax"
    SPELLED: ClassVar = Spelled(tensorflow=("Softmax",))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        with np.errstate(invalid="ignore"):
            return (narrow(softmax(wide(args[0]), self.axis.value.data), args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, axes = Compose(b), [self.normal_axis()]
        x = c.wide(self.x)
        e = c.exp(c.sub(x, c.max(x, axes, keep=True)))
        return (c.narrow(c.div(e, c.sum(e, axes, keep=True)), self.x),)


@op
class LogSoftmaxOp(AlongAxis):
    """x - m - log(sum(exp(x - m))) along `axis`, where m is the largest element there.

    C1: `axis` is in range.
    C2: x is floating-point; half precision is computed in f32 and rounded once.

    %r = torsh.log_softmax %x {axis = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    """

    name = "torsh.log_softmax"
    SPELLED: ClassVar = Spelled(tensorflow=("LogSoftmax",))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, axis = wide(args[0]), self.axis.value.data
        with np.errstate(invalid="ignore", divide="ignore"):
            shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
            y = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return (narrow(y, args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, axes = Compose(b), [self.normal_axis()]
        x = c.wide(self.x)
        shifted = c.sub(x, c.max(x, axes, keep=True))
        total = c.sum(c.exp(shifted), axes, keep=True)
        return (c.narrow(c.sub(shifted, c.log(total)), self.x),)


@op
class HardmaxOp(AlongAxis):
    """1 at the first largest element along `axis`, 0 elsewhere.

    C1: `axis` is in range.
    C2: x is floating-point.

    %r = torsh.hardmax %x {axis = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    """

    name = "torsh.hardmax"

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, axis = args[0], self.normal_axis()
        y = np.zeros_like(x)
        best = np.expand_dims(wide(x).argmax(axis=axis), axis)
        np.put_along_axis(y, best, np.asarray(1, x.dtype), axis=axis)
        return (y,)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, axis = Compose(b), self.normal_axis()
        best = c.argmax(self.x, axis)
        return (c.cast(c.eq(best, c.positions(self.x, axis)), row_of(self.x).element),)
