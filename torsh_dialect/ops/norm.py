"""Normalisations: each subtracts a mean, divides by a spread, scales and shifts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, DenseArrayBase, Float64Type, FloatAttr, IntegerAttr
from xdsl.ir import SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    operand_def,
    opt_operand_def,
    prop_def,
    result_def,
)

from torsh_dialect.attributes import Array, dims_attribute, ints_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import Dim, floordiv, product, provably_different
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite, normal_axes
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.reference import (
    Real,
    narrow,
    operands_by_value,
    require_equal,
    row_of,
    wide,
)
from torsh_dialect.ops.shape import AssumeOp
from torsh_dialect.types import AnyTensor, dims_of, rank_of, tensor_type

F64 = FloatAttr[Float64Type]


class Normalisation(Composite):
    """A result like x. An op with more operands declares x again: those of a base come last."""

    x = operand_def()
    epsilon = prop_def(F64)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if row_of(self.x).kind != "float":
            raise ShapeError(f"x has element type {row_of(self.x).name}, expected a float (C1)")
        self.check()
        return (tensor_type(self.x),)

    def check(self) -> None:
        """Refuse operands that do not fit.

        Raises:
            ShapeError: They do not.
        """


def fitted(b: Builder, x: SSAValue, axis: int, *others: SSAValue | None) -> SSAValue:
    """x, where its axes from `axis` on have the extents of `others`, checked at run time.

    An extent of 1 in `others` broadcasts, one in x does not: the result is like x.
    """
    dims = dims_of(x)
    for other in others:
        for dim, wanted in zip(dims[axis:], () if other is None else dims_of(other), strict=False):
            if dim != wanted and isinstance(wanted, int) and wanted != 1:
                sides = {"left": dims_attribute([dim]), "right": dims_attribute([wanted])}
                x = b(AssumeOp, x, relation="eq", **sides)
    return x


def _require_broadcast(x: SSAValue, *others: SSAValue | None) -> None:
    for other in others:
        given = () if other is None else dims_of(other)
        places = zip(reversed(dims_of(x)), reversed(given), strict=False)
        wrong = any(
            isinstance(d, int) and isinstance(s, int) and s not in (1, d) for d, s in places
        )
        if wrong or len(given) > rank_of(x):
            raise ShapeError(f"{list(given)} does not broadcast to x {list(dims_of(x))}")


def per_channel(array: Real, rank: int, axis: int = 1) -> Real:
    """A vector as an array that broadcasts along `axis` of `rank` axes."""
    return array.reshape([-1 if n == axis else 1 for n in range(rank)])


def normalised(x: Real, axes: tuple[int, ...], epsilon: float) -> Real:
    """(x - mean) / sqrt(variance + epsilon) over `axes`; the variance is biased."""
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + x.dtype.type(epsilon))


@op
class LayerNormOp(Normalisation):
    """(x - mean) / sqrt(variance + epsilon) over the axes from `axis` on, times scale plus bias.

    The variance is biased. scale and bias broadcast to x.

    C1: x is floating-point; half precision is computed in f32 and rounded once.
    C2: `axis` is in range.

    %r = torsh.layer_norm %x, %s {axis = -1 : i64, epsilon = 1.0e-05 : f64, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
    """  # noqa: E501

    name = "torsh.layer_norm"
    x = operand_def()
    scale = opt_operand_def()
    bias = opt_operand_def()
    axis = prop_def(IntegerAttr[I64])
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def axes(self) -> tuple[int, ...]:
        """The normalised axes."""
        rank = rank_of(self.x)
        return tuple(range(normal_axes([self.axis.value.data], rank)[0], rank))

    def check(self) -> None:
        self.axes()
        _require_broadcast(self.x, self.scale, self.bias)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        y = normalised(wide(args[0]), self.axes(), self.epsilon.value.data)
        if self.scale is not None:
            y = y * wide(at(self.scale))
        if self.bias is not None:
            y = y + wide(at(self.bias))
        return (narrow(y, args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, x = Compose(b), self.x
        for value in (self.scale, self.bias):
            x = x if value is None else fitted(b, x, rank_of(x) - rank_of(value), value)
        y = c.normalised(c.wide(x), self.axes(), self.epsilon.value.data)
        return (c.narrow(c.affine(y, self.scale, self.bias), self.x),)


@op
class RmsNormOp(Normalisation):
    """x / sqrt(mean(x^2) + epsilon) over the axes from `axis` on, times scale.

    C1: x is floating-point; half precision is computed in f32 and rounded once.
    C2: `axis` is in range; scale broadcasts to x.

    %r = torsh.rms_norm %x, %s {axis = -1 : i64, epsilon = 1.0e-05 : f64} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
    """  # noqa: E501

    name = "torsh.rms_norm"
    x = operand_def()
    scale = opt_operand_def()
    axis = prop_def(IntegerAttr[I64])

    def axes(self) -> tuple[int, ...]:
        """The normalised axes."""
        rank = rank_of(self.x)
        return tuple(range(normal_axes([self.axis.value.data], rank)[0], rank))

    def check(self) -> None:
        self.axes()
        _require_broadcast(self.x, self.scale)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        first, x = args[0], wide(args[0])
        square = (x * x).mean(axis=self.axes(), keepdims=True)
        y = x / np.sqrt(square + x.dtype.type(self.epsilon.value.data))
        return (narrow(y * wide(args[1]) if len(args) > 1 else y, first),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, x, scale = Compose(b), self.x, self.scale
        x = c.wide(x if scale is None else fitted(b, x, rank_of(x) - rank_of(scale), scale))
        square = c.mean(c.mul(x, x), self.axes(), keep=True)
        y = c.div(x, c.sqrt(c.add(square, self.epsilon.value.data)))
        return (c.narrow(c.affine(y, self.scale, None), self.x),)


@op
class BatchNormOp(Normalisation):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, with statistics given per channel.

    Channels are axis 1. Inference only: nothing is computed over the batch.

    C1: x is floating-point; half precision is computed in f32 and rounded once.
    C2: scale, bias, mean and variance have one element for each channel.

    %r = torsh.batch_norm %x, %s, %b, %m, %v {epsilon = 1.0e-05 : f64} : (tensor<2x3x4xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) -> tensor<2x3x4xf32>
    """  # noqa: E501

    name = "torsh.batch_norm"
    x = operand_def()
    scale = operand_def()
    bias = operand_def()
    mean = operand_def()
    variance = operand_def()
    SPELLED: ClassVar = Spelled()

    def check(self) -> None:
        dims = dims_of(self.x)
        if len(dims) < 1:
            raise ShapeError("x is a scalar, it has no channels (C2)")
        channels = dims[1] if len(dims) > 1 else 1
        for value in (self.scale, self.bias, self.mean, self.variance):
            if rank_of(value) != 1:
                raise ShapeError(f"statistics need rank 1, got {list(dims_of(value))} (C2)")
            require_equal("channels and statistics (C2)", channels, dims_of(value)[0])

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, scale, bias, mean, variance = map(wide, args)
        scale, bias, mean, variance = (
            per_channel(v, x.ndim) for v in (scale, bias, mean, variance)
        )
        y = (x - mean) / np.sqrt(variance + variance.dtype.type(self.epsilon.value.data))
        return (narrow(y * scale + bias, args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        rank, x = rank_of(self.x), c.wide(fitted(b, self.x, 1, self.scale))
        scale, bias, mean, variance = (
            c.per_channel(c.cast_like(v, x), rank)
            for v in (self.scale, self.bias, self.mean, self.variance)
        )
        spread = c.sqrt(c.add(variance, self.epsilon.value.data))
        y = c.add(c.mul(c.div(c.sub(x, mean), spread), scale), bias)
        return (c.narrow(y, self.x),)


def _grouped(dims: Sequence[Dim], groups: int) -> tuple[Dim, ...]:
    if isinstance(dims[1], int) and dims[1] % groups:
        raise ShapeError(f"{groups} groups do not divide {dims[1]} channels (C2)")
    return (dims[0], groups, floordiv(dims[1], groups), *dims[2:])


@op
class GroupNormOp(Normalisation):
    """Normalises each group of channels of each batch entry, then scales and shifts channels.

    C1: x is floating-point; half precision is computed in f32 and rounded once.
    C2: x is [N, C, ...] and `groups` divides C; scale and bias are [C].

    %r = torsh.group_norm %x, %s, %b {epsilon = 1.0e-05 : f64, groups = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<2x4x3xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<2x4x3xf32>
    """  # noqa: E501

    name = "torsh.group_norm"
    x = operand_def()
    scale = opt_operand_def()
    bias = opt_operand_def()
    groups = prop_def(IntegerAttr[I64])
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def check(self) -> None:
        if rank_of(self.x) < 2:
            raise ShapeError(f"x needs a batch and a channel axis, got {list(dims_of(self.x))}")
        _grouped(dims_of(self.x), self.groups.value.data)
        channels = dims_of(self.x)[1]
        for value in (self.scale, self.bias):
            if value is not None and (
                rank_of(value) != 1 or provably_different(dims_of(value)[0], channels)
            ):
                given = list(dims_of(value))
                raise ShapeError(f"a scale or bias is {given}, expected [{channels}] (C2)")

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        x, groups = wide(args[0]), self.groups.value.data
        parts = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
        axes = tuple(range(2, parts.ndim))
        y = normalised(parts, axes, self.epsilon.value.data).reshape(x.shape)
        if self.scale is not None:
            y = y * per_channel(wide(at(self.scale)), x.ndim)
        if self.bias is not None:
            y = y + per_channel(wide(at(self.bias)), x.ndim)
        return (narrow(y, args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        dims, rank = dims_of(self.x), rank_of(self.x)
        x = c.wide(fitted(b, self.x, 1, self.scale, self.bias))
        parts = c.reshape(x, _grouped(dims, self.groups.value.data))
        whole = c.normalised(parts, range(2, rank + 1), self.epsilon.value.data)
        y = c.reshape(whole, dims)
        scale, bias = (
            None if v is None else c.per_channel(c.cast_like(v, y), rank)
            for v in (self.scale, self.bias)
        )
        return (c.narrow(c.affine(y, scale, bias), self.x),)


@op
class InstanceNormOp(Normalisation):
    """Normalises each channel of each batch entry over its spatial axes, then scales and shifts.

    C1: x is floating-point; half precision is computed in f32 and rounded once.
    C2: x is [N, C, ...]; scale and bias are [C].

    %r = torsh.instance_norm %x, %s, %b {epsilon = 1.0e-05 : f64} : (tensor<2x4x3xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<2x4x3xf32>
    """  # noqa: E501

    name = "torsh.instance_norm"
    x = operand_def()
    scale = operand_def()
    bias = operand_def()

    def check(self) -> None:
        if rank_of(self.x) < 3:
            raise ShapeError(f"x needs a spatial axis, got {list(dims_of(self.x))} (C2)")
        for value in (self.scale, self.bias):
            require_equal("channels and scale or bias (C2)", dims_of(self.x)[1], dims_of(value)[0])

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, scale, bias = map(wide, args)
        y = normalised(x, tuple(range(2, x.ndim)), self.epsilon.value.data)
        return (narrow(y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim), args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, rank = Compose(b), rank_of(self.x)
        x = fitted(b, self.x, 1, self.scale, self.bias)
        y = c.normalised(c.wide(x), range(2, rank), self.epsilon.value.data)
        scale, bias = (c.per_channel(c.cast_like(v, y), rank) for v in (self.scale, self.bias))
        return (c.narrow(c.affine(y, scale, bias), self.x),)


@op
class MeanVarianceNormOp(Normalisation):
    """(x - mean) / (sqrt(variance) + epsilon) over `axes`, where variance = mean(x^2) - mean^2.

    C1: x is floating-point; half precision is computed in f32 and rounded once.
    C2: `axes` are in range.

    %r = torsh.mean_variance_norm %x {axes = array<i64: 0>, epsilon = 1.0e-09 : f64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    """  # noqa: E501

    name = "torsh.mean_variance_norm"
    x = operand_def()
    axes = prop_def(DenseArrayBase[I64])

    def check(self) -> None:
        normal_axes(ints_of(self.axes), rank_of(self.x))

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, axes = wide(args[0]), ints_of(self.axes)
        mean = x.mean(axis=axes, keepdims=True)
        variance = (x * x).mean(axis=axes, keepdims=True) - mean**2
        spread = np.sqrt(variance) + x.dtype.type(self.epsilon.value.data)
        return (narrow((x - mean) / spread, args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, axes = Compose(b), normal_axes(ints_of(self.axes), rank_of(self.x))
        x = c.wide(self.x)
        mean = c.mean(x, axes, keep=True)
        variance = c.sub(c.mean(c.mul(x, x), axes, keep=True), c.mul(mean, mean))
        spread = c.add(c.sqrt(variance), self.epsilon.value.data)
        return (c.narrow(c.div(c.sub(x, mean), spread), self.x),)


@op
class LpNormalizeOp(Normalisation):
    """x divided by its p-norm along `axis`, or by `epsilon` where the norm is smaller.

    C1: x is floating-point. C2: `axis` is in range. C3: p is 1 or 2.
    A norm of 0 with an epsilon of 0 gives 0.

    %r = torsh.lp_normalize %x {axis = 1 : i64, epsilon = 0.0 : f64, p = 2 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
    """  # noqa: E501

    name = "torsh.lp_normalize"
    x = operand_def()
    axis = prop_def(IntegerAttr[I64])
    p = prop_def(IntegerAttr[I64])

    def check(self) -> None:
        normal_axes([self.axis.value.data], rank_of(self.x))
        if self.p.value.data not in (1, 2):
            raise ShapeError(f"p is {self.p.value.data}, expected 1 or 2 (C3)")

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, axis = wide(args[0]), self.axis.value.data
        norm = np.linalg.norm(x, ord=self.p.value.data, axis=axis, keepdims=True)
        norm = np.maximum(norm, norm.dtype.type(self.epsilon.value.data))
        return (narrow(np.divide(x, norm, out=np.zeros_like(x), where=norm != 0), args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, axes = Compose(b), normal_axes([self.axis.value.data], rank_of(self.x))
        x = c.wide(self.x)
        if self.p.value.data == 1:
            norm = c.sum(c.abs(x), axes, keep=True)
        else:
            norm = c.sqrt(c.sum(c.mul(x, x), axes, keep=True))
        norm = c.maximum(norm, self.epsilon.value.data)
        zero = c.eq(norm, 0.0)
        y = c.where(zero, c.like(0.0, x), c.div(x, c.where(zero, c.like(1.0, x), norm)))
        return (c.narrow(y, self.x),)


@op
class LrnOp(Composite):
    """x / (bias + alpha / size * sum of x^2 over the `size` nearest channels) ^ beta.

    The channels are axis 1; those of c - floor((size - 1) / 2) to c + ceil((size - 1) / 2) count,
    where they exist.

    C1: x is floating-point and has a channel axis; size is positive.

    %r = torsh.lrn %x {alpha = 1.0e-04 : f64, beta = 0.75 : f64, bias = 1.0 : f64, size = 3 : i64} : (tensor<1x5x4x4xf32>) -> tensor<1x5x4x4xf32>
    """  # noqa: E501

    name = "torsh.lrn"
    x = operand_def()
    size = prop_def(IntegerAttr[I64])
    alpha = prop_def(F64)
    beta = prop_def(F64)
    bias = prop_def(F64)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if row_of(self.x).kind != "float" or rank_of(self.x) < 2 or self.size.value.data < 1:
            raise ShapeError(f"x is {self.x.type}, size {self.size.value.data} (C1)")
        return (tensor_type(self.x),)

    def _reach(self) -> tuple[int, int]:
        size = self.size.value.data
        return (size - 1) // 2, size // 2

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, (before, after) = wide(args[0]), self._reach()
        total = np.zeros_like(x)
        for channel in range(x.shape[1]):
            near = x[:, max(channel - before, 0) : channel + after + 1]
            total[:, channel] = (near**2).sum(axis=1)
        share = self.alpha.value.data / self.size.value.data
        spread = x.dtype.type(self.bias.value.data) + x.dtype.type(share) * total
        return (narrow(x / spread ** x.dtype.type(self.beta.value.data), args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, (before, after) = Compose(b), self._reach()
        whole = dims_of(self.x)
        dims = (*whole[:2], product(whole[2:]))  # what lies behind the channels is one axis
        x = c.reshape(c.wide(self.x), dims)
        square = c.pad(c.mul(x, x), 1, before, after)
        total = c.slice(square, 1, 0, dims[1])
        for shift in range(1, self.size.value.data):
            total = c.add(total, c.slice(square, 1, shift, dims[1]))
        share = self.alpha.value.data / self.size.value.data
        spread = c.pow(c.add(c.mul(total, share), self.bias.value.data), self.beta.value.data)
        return (c.narrow(c.reshape(c.div(x, spread), whole), self.x),)
