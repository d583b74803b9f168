"""Operators of com.microsoft that onnxruntime's optimiser and quantiser write into models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.dims import product
from torsh_dialect.dtypes import f32, i32, i64
from torsh_dialect.ops.activation import (
    EluOp,
    HardSigmoidOp,
    LeakyReluOp,
    ReluOp,
    SigmoidOp,
    SoftplusOp,
    SoftsignOp,
)
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.logic import BitwiseAndOp, ShiftRightOp
from torsh_dialect.ops.maths import TanhOp
from torsh_dialect.ops.norm import LayerNormOp
from torsh_dialect.ops.pool import AvgPoolOp
from torsh_dialect.ops.quant import DequantizeLinearOp, MatMulIntegerOp, QuantizeLinearOp
from torsh_dialect.ops.reduce import MeanOp
from torsh_dialect.ops.softmax import SoftmaxOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter
from torsh_fx.importers.onnx_ops.products import conv, gemm, kernel_shape, window


def _activated(n: Node, x: SSAValue) -> SSAValue:
    """The activation that a fused operator names."""
    name = n.str("activation", "")
    values = n.floats("activation_params", [])
    match name:
        case "":
            return x
        case "Relu":
            return n(ReluOp, x)
        case "Sigmoid":
            return n(SigmoidOp, x)
        case "Tanh":
            return n(TanhOp, x)
        case "LeakyRelu":
            alpha = values[0] if values else n.float("activation_alpha", 0.01)
            return n(LeakyReluOp, x, alpha=alpha)
        case "HardSigmoid":
            alpha, beta = values or _parameters(n, 0.2, 0.5)
            return n(HardSigmoidOp, x, alpha=alpha, beta=beta)
        case "Elu":
            return n(EluOp, x, alpha=_parameters(n, 1.0, 0.0)[0])
        case "ThresholdedRelu":
            alpha = _parameters(n, 1.0, 0.0)[0]
            return n.c.where(n.c.gt(x, alpha), x, n.c.like(0.0, x))
        case "Softplus":
            return n(SoftplusOp, x, beta=1.0, threshold=math.inf)
        case "Softsign":
            return n(SoftsignOp, x)
        case "Clip":
            return n.c.minimum(n.c.maximum(x, values[0]), values[1])
        case _:
            raise NotSupported(f"the fused activation {name!r}")


def _parameters(n: Node, alpha: float, beta: float) -> tuple[float, float]:
    return n.float("activation_alpha", alpha), n.float("activation_beta", beta)


@converter("FusedConv", domain=MS)
def fused_conv(n: Node) -> SSAValue:
    """A convolution, a fourth input added, an activation."""
    y, more = conv(n), n.optional(3)
    return _activated(n, y if more is None else n.c.add(y, more))


@converter("FusedGemm", domain=MS)
def fused_gemm(n: Node) -> SSAValue:
    return _activated(n, gemm(n))


@converter("EmbedLayerNormalization", domain=MS)
def embed_layer_norm(n: Node) -> Sequence[SSAValue | None]:
    """Word, position and segment embeddings added and normalised."""
    ids, segments, c = n.input(0), n.optional(1), n.c
    words, places, kinds = n.input(2), n.input(3), n.optional(4)
    length = dims_of(ids)[1]
    total = n(GatherOp, words, ids, axis=0)
    positions = n.optional(8)
    if positions is None:
        total = c.add(total, c.slice(places, 0, 0, length))
    else:
        total = c.add(total, n(GatherOp, places, positions, axis=0))
    if segments is not None and kinds is not None:
        total = c.add(total, n(GatherOp, kinds, segments, axis=0))
    epsilon = n.float("epsilon", 1e-12)
    y = n(LayerNormOp, total, n.input(5), n.input(6), axis=-1, epsilon=epsilon)
    mask = n.optional(7)
    batch = dims_of(ids)[0]
    if mask is None:
        counts = c.broadcast(n.constant(np.int32(0)), (batch,))
    else:
        counts = c.cast(c.sum(c.cast(mask, i64), [1]), i32)
    return [y, counts, total]


# -- quantised


def _scalar(n: Node, index: int) -> SSAValue | None:
    value = n.optional(index)
    return None if value is None else n.scalar(value)


def _through_floats(n: Node, work: Callable[[SSAValue], SSAValue], first: int) -> SSAValue:
    """Dequantise the input by inputs 1 and 2, work, quantise by inputs `first` and after."""
    x = n(DequantizeLinearOp, n.input(0), n.scalar(n.input(1)), _scalar(n, 2))
    to = element_type(n.input(0))
    scale = n.scalar(n.input(first))
    return n(QuantizeLinearOp, work(x), scale, _scalar(n, first + 1), to=to)


@converter("QLinearSigmoid", domain=MS)
def qlinear_sigmoid(n: Node) -> SSAValue:
    return _through_floats(n, lambda x: n(SigmoidOp, x), 3)


@converter("QLinearLeakyRelu", domain=MS)
def qlinear_leaky_relu(n: Node) -> SSAValue:
    return _through_floats(n, lambda x: n(LeakyReluOp, x, alpha=n.float("alpha", 0.01)), 3)


@converter("QLinearSoftmax", domain=MS)
def qlinear_softmax(n: Node) -> SSAValue:
    """Before opset 13 all axes from `axis` on are one."""
    axis, dims = n.axis(-1), n.dims()
    if n.int("opset") >= 13 or axis == len(dims) - 1:
        return _through_floats(n, lambda x: n(SoftmaxOp, x, axis=axis), 3)
    flat = (*dims[:axis], product(dims[axis:]))
    return _through_floats(
        n, lambda x: n.c.reshape(n(SoftmaxOp, n.c.reshape(x, flat), axis=axis), dims), 3
    )


@converter("QLinearGlobalAveragePool", domain=MS)
def qlinear_global_average_pool(n: Node) -> SSAValue:
    axes = list(range(1, n.rank() - 1) if n.int("channels_last", 0) else range(2, n.rank()))
    return _through_floats(n, lambda x: n(MeanOp, x, axes=axes, keepdims=True), 3)


@converter("QLinearAveragePool", domain=MS)
def qlinear_average_pool(n: Node) -> SSAValue:
    kernel = kernel_shape(n)
    more = window(n, len(kernel))
    if n.int("channels_last", 0):
        more["data_layout"] = "NHWC"
    inside = bool(n.int("count_include_pad", 0)) or None
    ceil = bool(n.int("ceil_mode", 0)) or None
    return _through_floats(
        n,
        lambda x: n(AvgPoolOp, x, kernel=kernel, include_pad=inside, ceil_mode=ceil, **more),
        3,
    )


@converter("QLinearConcat", domain=MS)
def qlinear_concat(n: Node) -> SSAValue:
    """Scale and zero point of the result, then each item with its own."""
    items = [
        n(DequantizeLinearOp, n.input(i), n.scalar(n.input(i + 1)), _scalar(n, i + 2))
        for i in range(2, len(n.proto.input), 3)
    ]
    whole = n.c.concat(items, n.int("axis") % rank_of(items[0]))
    to = element_type(n.input(2))
    return n(QuantizeLinearOp, whole, n.scalar(n.input(0)), _scalar(n, 1), to=to)


@converter("QGemm", domain=MS)
def qgemm(n: Node) -> SSAValue:
    """An integer Gemm, in floats where no result scale is given."""
    c = n.c
    a, b = n.input(0), n.input(3)
    a = c.transpose(a, [1, 0]) if n.int("transA", 0) else a
    b = c.transpose(b, [1, 0]) if n.int("transB", 0) else b
    total = n(MatMulIntegerOp, a, b, _scalar(n, 2), n.optional(5))
    bias = n.optional(6)
    if bias is not None:
        total = c.add(total, bias)
    y = c.mul(c.cast(total, f32), c.mul(n.scalar(n.input(1)), n.input(4)))
    y = y if n.float("alpha", 1.0) == 1 else c.mul(y, n.float("alpha"))
    scale = _scalar(n, 7)
    if scale is None:
        return y
    return n(QuantizeLinearOp, y, scale, _scalar(n, 8), to=element_type(a))


@converter("MatMulNBits", domain=MS)
def matmul_nbits(n: Node) -> SSAValue:
    """X @ transpose(w), where w [N, K] is packed in blocks of 4 or 8 bits with a scale each."""
    c, bits = n.c, n.int("bits", 4)
    rows, depth, block = n.int("N"), n.int("K"), n.int("block_size")
    if bits not in (2, 4, 8):
        raise NotSupported(f"weights of {bits} bits")
    x, packed, groups = n.input(0), n.input(1), n.optional(4)
    blocks = -(-depth // block)
    whole = c.reshape(_unpacked(n, packed, bits, rows * blocks * block), (rows, blocks * block))
    w, zero = c.slice(whole, 1, 0, depth), n.optional(3)
    scale = c.reshape(n.input(2), (rows, blocks))
    if groups is not None or bits == 2 or (zero is not None and element_type(zero) != dtypes.ui8):
        offset = _offset(n, zero, bits, (rows, blocks))
        if groups is None:
            groups = n.constant(np.arange(depth) // block)
        group = c.slice(c.cast(groups, i64), 0, 0, depth)
        spread, offset = (c.take(c.cast(t, f32), group, 1) for t in (scale, offset))
        w = c.mul(c.sub(c.cast(w, f32), offset), spread)
    else:
        w, zero = _weights_and_zero(n, w, zero, bits, (rows, blocks))
        w = n(DequantizeLinearOp, w, c.cast(scale, f32), zero, axis=1, block_size=block)
    y = c.linear(x, c.cast_like(w, x), None)
    bias = n.optional(5)
    return y if bias is None else c.add(y, bias)


def _weights_and_zero(
    n: Node, w: SSAValue, zero: SSAValue | None, bits: int, dims: tuple[int, int]
) -> tuple[SSAValue, SSAValue | None]:
    """Weights of 4 or 8 bits: signed without a zero point, unsigned with one of `dims`."""
    c, (rows, blocks) = n.c, dims
    if zero is None:
        signed = c.cast(c.sub(c.cast(w, i32), 2 ** (bits - 1)), dtypes.i8)
        return c.cast(signed, dtypes.i4 if bits == 4 else dtypes.i8), None
    width = -(-blocks * bits // 8) * 8 // bits
    flat = c.reshape(_unpacked(n, zero, bits, rows * width), (rows, width))
    point = c.slice(flat, 1, 0, blocks)
    narrow = dtypes.ui4 if bits == 4 else dtypes.ui8
    return c.cast(w, narrow), c.cast(point, narrow)


def _offset(n: Node, zero: SSAValue | None, bits: int, dims: tuple[int, int]) -> SSAValue:
    """What is taken off the stored weights of each block: numbers [rows, blocks]."""
    c, (rows, blocks) = n.c, dims
    if zero is None:
        return c.broadcast(c.constant(float(2 ** (bits - 1)), f32), dims)
    if element_type(zero) != dtypes.ui8:
        return c.reshape(zero, dims)
    width = -(-blocks * bits // 8) * 8 // bits
    return c.slice(c.reshape(_unpacked(n, zero, bits, rows * width), (rows, width)), 1, 0, blocks)


def _unpacked(n: Node, packed: SSAValue, bits: int, count: int) -> SSAValue:
    """Bytes as one integer for each group of `bits`, the low bits first."""
    c, each = n.c, 8 // bits
    flat = c.reshape(packed, (count // each,))
    if bits == 8:
        return flat
    mask = c.like(2**bits - 1, flat)
    shifted = (n(ShiftRightOp, flat, c.like(bits * i, flat)) if i else flat for i in range(each))
    parts = [c.reshape(n(BitwiseAndOp, v, mask), (count // each, 1)) for v in shifted]
    return c.reshape(c.concat(parts, 1), (count,))
