"""Quantised values: conversion by scale and zero point, and integer products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, IntegerAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from torsh_dialect.attributes import Array, bool_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dims import ceildiv
from torsh_dialect.dtypes import DType, dtype_of, f32, i32, ui8
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite, Geometry, normal_axes
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.contract import MatMulOp
from torsh_dialect.ops.conv import ConvOp, convolve
from torsh_dialect.ops.half import widened
from torsh_dialect.ops.reference import operands_by_value, require_equal, row_of
from torsh_dialect.ops.select import cast
from torsh_dialect.ops.window import SlidingWindow, window_count
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


def integer_range(row: DType) -> tuple[int, int]:
    """The smallest and largest value of an integer type."""
    if row.kind == "uint":
        return 0, 2**row.bits - 1
    return -(2 ** (row.bits - 1)), 2 ** (row.bits - 1) - 1


def saturated(c: Compose, y: SSAValue, to: DType) -> SSAValue:
    """Whole floats as an integer type, the nearest one where they are beyond its range.

    A cast does so for the types that fill their bytes.
    """
    low, high = integer_range(to)
    if to.bits % 8:
        y = c.minimum(c.maximum(y, float(low)), float(high))
    return c.cast(y, to.element)


class Quantisation(Composite):
    """x with a scale and a zero point for the whole tensor, each index of `axis`, or each block.

    The scale has one element; or one for each index along `axis`; or, with `block_size` b, x's
    rank and ceil(extent / b) elements along `axis`. The zero point is shaped like the scale.
    """

    x = operand_def()
    scale = operand_def()
    zero = opt_operand_def()
    axis = opt_prop_def(IntegerAttr[I64])
    block_size = opt_prop_def(IntegerAttr[I64])
    y = result_def()

    def check(self) -> None:
        """Refuse a scale or zero point that does not fit x.

        Raises:
            ShapeError: It does not.
        """
        scale, x = dims_of(self.scale), dims_of(self.x)
        if self.zero is not None and rank_of(self.zero) != len(scale) and not self.single():
            raise ShapeError(f"scale and zero point have types {self.scale.type}, {self.zero.type}")
        if not self.single():
            axis, block = self.normal_axis(), self._block()
            if block and len(scale) != len(x):
                raise ShapeError(f"a blocked scale needs rank {len(x)}, got {list(scale)} (C2)")
            if not block and len(scale) != 1:
                raise ShapeError(f"a scale along an axis needs rank 1, got {list(scale)} (C2)")
            mine = scale[axis] if block else scale[0]
            require_equal("scales along the axis (C2)", mine, ceildiv(x[axis], block or 1))

    def single(self) -> bool:
        """Whether there is one scale for the whole tensor."""
        return all(d == 1 for d in dims_of(self.scale)) and not self._block()

    def _block(self) -> int:
        return 0 if self.block_size is None else self.block_size.value.data

    def normal_axis(self) -> int:
        """The axis as a number in 0..rank-1."""
        axis = 1 if self.axis is None else self.axis.value.data
        return normal_axes([axis], rank_of(self.x))[0]

    def spread(self, value: Array) -> Array:
        """A scale or zero point as an array that broadcasts to x."""
        if self.single():
            return value.reshape(())
        axis, block = self.normal_axis(), self._block()
        if not block:
            return value.reshape([-1 if n == axis else 1 for n in range(rank_of(self.x))])
        return np.repeat(value, block, axis=axis)

    def spread_ops(self, c: Compose, value: SSAValue) -> SSAValue:
        """`spread` in torsh ops, cut to x."""
        if self.single():
            return c.reshape(value, ())
        axis, block = self.normal_axis(), self._block()
        if not block:
            return c.per_channel(value, rank_of(self.x), axis)
        return c.slice(c.repeat(value, block, axis), axis, 0, dims_of(self.x)[axis])


def _cut(array: Array, x: Array) -> Array:
    if array.ndim != x.ndim:
        return array
    return array[tuple(slice(0, n) for n in x.shape)]


@op
class QuantizeLinearOp(Quantisation):
    """saturate(round(x / scale) + zero) as the integer type `to`; ties round to even.

    As fp8 or fp4, saturate(x / scale + zero), where `saturate` (default) makes too large values
    the largest finite one. The quotient is computed in x's type, or in `precision`.

    C1: x and the scale are floating-point.
    C2: the scale fits x (see the class's bases: per tensor, axis or block).
    C3: the zero point has the type `to`.

    %r = torsh.quantize_linear %x, %s, %z {to = ui8} : (tensor<2x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<2x3xui8>
    """  # noqa: E501

    name = "torsh.quantize_linear"
    to = prop_def(Attribute)
    saturate = opt_prop_def(BoolAttr)
    precision = opt_prop_def(Attribute)
    SPELLED: ClassVar = Spelled()

    def infer(self) -> Sequence[AnyTensor]:
        self.check()
        if row_of(self.scale).kind != "float":
            raise ShapeError(f"the scale is {row_of(self.scale).name}, expected a float (C1)")
        if self.zero is not None and element_type(self.zero) != self.to:
            raise ShapeError(f"the zero point is {self.zero.type}, expected {self.to} (C3)")
        return (tensor(self.to, dims_of(self.x)),)

    def _working(self) -> DType:
        return dtype_of(self.precision) if self.precision is not None else row_of(self.x)

    def _clips(self) -> bool:
        return self.saturate is None or bool_of(self.saturate)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at, to, working = operands_by_value(self, args), dtype_of(self.to), self._working()
        x = at(self.x).astype(working.numpy)
        scale = _cut(self.spread(at(self.scale).astype(working.numpy)), x)
        with np.errstate(all="ignore"):
            wide_x: Any = widened(x)
            quotient: Any = widened((wide_x / widened(scale)).astype(working.numpy))
        zero = 0 if self.zero is None else _cut(self.spread(widened(at(self.zero))), x)
        if to.kind not in ("int", "uint"):
            shifted = (quotient + np.asarray(zero).astype(quotient.dtype)).astype(np.float32)
            return (cast(shifted, to, self._clips(), "up"),)
        low, high = integer_range(to)
        whole = np.rint(quotient).astype(np.float64) + np.asarray(zero).astype(np.float64)
        return (np.clip(whole, low, high).astype(to.numpy),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, to, working = Compose(b), dtype_of(self.to), self._working().element
        scale = self.spread_ops(c, c.cast(self.scale, working))
        y = c.wide(c.div(c.cast(self.x, working), scale))
        zero = None if self.zero is None else c.cast(self.spread_ops(c, self.zero), element_type(y))
        if to.kind in ("int", "uint"):
            y = c.round(y)
            return (saturated(c, y if zero is None else c.add(y, zero), to),)
        y = y if zero is None else c.add(y, zero)
        return (c.cast(y, self.to, saturate=self._clips()),)


@op
class DequantizeLinearOp(Quantisation):
    """(x - zero) * scale in the element type `to`, which is the scale's by default.

    C1: the scale is floating-point; x is an integer, fp8 or fp4.
    C2: the scale fits x (see the class's bases: per tensor, axis or block).
    C3: the zero point has x's element type.

    %r = torsh.dequantize_linear %x, %s, %z : (tensor<2x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x3xf32>
    """  # noqa: E501

    name = "torsh.dequantize_linear"
    to = opt_prop_def(Attribute)
    SPELLED: ClassVar = Spelled()

    def infer(self) -> Sequence[AnyTensor]:
        self.check()
        if row_of(self.scale).kind != "float":
            raise ShapeError(f"the scale is {row_of(self.scale).name}, expected a float (C1)")
        if self.zero is not None and element_type(self.zero) != element_type(self.x):
            raise ShapeError(f"the zero point is {self.zero.type}, x is {self.x.type} (C3)")
        return (tensor(self.to or element_type(self.scale), dims_of(self.x)),)

    def _working(self) -> Attribute:
        return f32 if row_of(self.scale).bits < 32 else element_type(self.scale)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at, working = operands_by_value(self, args), dtype_of(self._working()).numpy
        x = at(self.x)
        scale = _cut(self.spread(at(self.scale).astype(working)), x)
        centred: Any
        if self.zero is None:
            centred = x.astype(working)
        elif row_of(self.x).kind == "float":
            centred = x.astype(working) - _cut(self.spread(at(self.zero).astype(working)), x)
        else:
            wide: Any = widened(x).astype(np.int64)
            centred = wide - _cut(self.spread(widened(at(self.zero)).astype(np.int64)), x)
        return ((centred.astype(working) * scale).astype(row_of(self.results[0]).numpy),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, working = Compose(b), self._working()
        x = self.x
        if self.zero is not None:
            zero = self.spread_ops(c, self.zero)
            middle = working if row_of(self.x).kind == "float" else i32
            x = c.sub(c.cast(x, middle), c.cast(zero, middle))
        scale = self.spread_ops(c, c.cast(self.scale, working))
        y = c.mul(c.cast(x, working), scale)
        return (c.cast(y, element_type(self.results[0])),)


@op
class DynamicQuantizeLinearOp(Composite):
    """x as ui8, with the scale and zero point that its range, widened to contain 0, asks for.

    scale = (max - min) / 255, or 1 / 255 for a range of 0; zero = saturate(round(-min / scale)).

    C1: x is f32.

    %y, %s, %z = torsh.dynamic_quantize_linear %x : (tensor<2x3xf32>) -> (tensor<2x3xui8>, tensor<f32>, tensor<ui8>)
    """  # noqa: E501

    name = "torsh.dynamic_quantize_linear"
    x = operand_def()
    y = result_def()
    scale = result_def()
    zero = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if element_type(self.x) != f32:
            raise ShapeError(f"x is {self.x.type}, expected f32 (C1)")
        return tensor(ui8, dims_of(self.x)), tensor(f32, ()), tensor(ui8, ())

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x = args[0].astype(np.float32)
        high = np.float32(max(x.max(initial=0), 0))
        low = np.float32(min(x.min(initial=0), 0))
        span = high - low
        scale = np.float32((span if span else np.float32(1)) / np.float32(255))
        zero = np.rint(np.clip(-low / scale, 0, 255))
        y = np.clip(np.rint(x / scale) + zero, 0, 255)
        return y.astype(np.uint8), np.asarray(scale), np.asarray(zero).astype(np.uint8)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c, axes = Compose(b), range(rank_of(self.x))
        high = c.maximum(c.max(self.x, axes), 0.0)
        low = c.minimum(c.min(self.x, axes), 0.0)
        span = c.sub(high, low)
        flat = c.eq(span, 0.0)
        scale = c.div(c.where(flat, c.like(1.0, span), span), 255.0)
        zero = c.round(c.minimum(c.maximum(c.div(c.neg(low), scale), 0.0), 255.0))
        y = c.add(c.round(c.div(self.x, scale)), zero)
        y = c.minimum(c.maximum(y, 0.0), 255.0)
        return c.cast(y, ui8), scale, c.cast(zero, ui8)


@op
class MatMulIntegerOp(Composite):
    """The matrix product of 8-bit integers less their zero points, in i32 (numpy `matmul`).

    A zero point has one element, or one for each row of `a` ([M] or [..., M, 1]) or column of
    `b` ([N] or [..., 1, N]).

    C1: a and b are 8-bit integers; a zero point has its operand's element type.
    C2: contracted extents are equal.

    %r = torsh.matmul_integer %a, %b {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<2x3xui8>, tensor<3x4xi8>) -> tensor<2x4xi32>
    """  # noqa: E501

    name = "torsh.matmul_integer"
    a = operand_def()
    b = operand_def()
    a_zero = opt_operand_def()
    b_zero = opt_operand_def()
    y = result_def()
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def infer(self) -> Sequence[AnyTensor]:
        if {row_of(self.a).bits, row_of(self.b).bits} != {8}:
            raise ShapeError(f"operands are {self.a.type} and {self.b.type}, expected 8 bits (C1)")
        probe = MatMulOp.create(operands=[self.a, self.b], properties={"accumulate": i32})
        try:
            return probe.infer()
        finally:
            probe.drop_all_references()

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        a, b = at(self.a).astype(np.int32), at(self.b).astype(np.int32)
        if self.a_zero is not None:
            zero = at(self.a_zero).astype(np.int32)
            a = a - (zero[:, None] if zero.ndim == 1 and zero.size > 1 else zero)
        if self.b_zero is not None:
            b = b - at(self.b_zero).astype(np.int32)
        return (np.matmul(a, b),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        left, right = c.cast(self.a, i32), c.cast(self.b, i32)
        if self.a_zero is not None:
            zero = c.cast(self.a_zero, i32)
            if rank_of(zero) == 1 and dims_of(zero)[0] != 1:
                zero = c.reshape(zero, (dims_of(zero)[0], 1))
            left = c.sub(left, zero)
        if self.b_zero is not None:
            right = c.sub(right, c.cast(self.b_zero, i32))
        return (c.matmul(left, right),)


@op
class ConvIntegerOp(SlidingWindow, Composite):
    """The convolution of 8-bit integers less their zero points, in i32; the padding is x's zero.

    x, w, groups and windows are as in `torsh.conv`. The zero point of w has one element or one
    for each filter.

    C1: x and w are 8-bit integers; a zero point has its operand's element type.

    %r = torsh.conv_integer %x, %w {operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<1x1x3x3xui8>, tensor<1x1x2x2xui8>) -> tensor<1x1x2x2xi32>
    """  # noqa: E501

    name = "torsh.conv_integer"
    x = operand_def()
    w = operand_def()
    x_zero = opt_operand_def()
    w_zero = opt_operand_def()
    groups = opt_prop_def(IntegerAttr[I64])
    y = result_def()
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def geometry(self) -> Geometry:
        return self.slide(dims_of(self.w)[2:], self.split(self.x)[2])

    def infer(self) -> Sequence[AnyTensor]:
        if {row_of(self.x).bits, row_of(self.w).bits} != {8}:
            raise ShapeError(f"operands are {self.x.type} and {self.w.type}, expected 8 bits (C1)")
        batch, channels, spatial = self.split(self.x)
        groups = 1 if self.groups is None else self.groups.value.data
        require_equal("channels and filter channels", channels, dims_of(self.w)[1] * groups)
        g = self.geometry()
        counts = [window_count(g, axis, n) for axis, n in enumerate(spatial)]
        return (tensor(i32, self.joined(batch, dims_of(self.w)[0], counts)),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        x, w = at(self.x).astype(np.int32), at(self.w).astype(np.int32)
        if self.x_zero is not None:
            x = x - at(self.x_zero).astype(np.int32).reshape(())
        if self.w_zero is not None:
            zero = at(self.w_zero).astype(np.int32)
            w = w - (zero.reshape(-1, *[1] * (w.ndim - 1)) if zero.size > 1 else zero.reshape(()))
        x = np.moveaxis(x, -1, 1) if self.channels_last() else x
        groups = 1 if self.groups is None else self.groups.value.data
        y = convolve(x, w, self.slide(w.shape[2:], x.shape[2:]), groups)
        y = np.moveaxis(y, 1, -1) if self.channels_last() else y
        return (np.ascontiguousarray(y.astype(np.int32)),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        """Build the torsh ops that mean the same: casts, differences and `torsh.conv`."""
        c = Compose(b)
        x, w = c.cast(self.x, i32), c.cast(self.w, i32)
        if self.x_zero is not None:
            x = c.sub(x, c.reshape(c.cast(self.x_zero, i32), ()))
        if self.w_zero is not None:
            zero = c.cast(self.w_zero, i32)
            single = all(d == 1 for d in dims_of(zero))
            w = c.sub(w, c.reshape(zero, ()) if single else c.per_channel(zero, rank_of(w), 0))
        names = ("strides", "dilations", "pads", "auto_pad", "data_layout", "groups")
        kept = {name: self.properties[name] for name in names if name in self.properties}
        return (b(ConvOp, x, w, None, **kept),)
