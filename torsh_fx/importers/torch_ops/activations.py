"""Activations."""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect.dims import floordiv
from torsh_dialect.ops import activation as act
from torsh_dialect.ops import maths, select
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts


@converts("relu", "relu6")
def _relu(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.b(act.Relu6Op if "relu6" in str(c.node.target) else act.ReluOp, x)


@converts("hardtanh")
def _hardtanh(c: NodeBuilder, x: SSAValue, min_val: float = -1, max_val: float = 1) -> SSAValue:
    return c.b(select.ClampOp, x, c.like(min_val, x), c.like(max_val, x))


@converts("gelu")
def _gelu(c: NodeBuilder, x: SSAValue, approximate: str = "none") -> SSAValue:
    return c.b(act.GeluOp, x, approximate=approximate)


@converts("leaky_relu")
def _leaky_relu(c: NodeBuilder, x: SSAValue, negative_slope: float = 0.01) -> SSAValue:
    return c.b(act.LeakyReluOp, x, alpha=float(negative_slope))


@converts("prelu", "_prelu_kernel")
def _prelu(c: NodeBuilder, x: SSAValue, weight: SSAValue) -> SSAValue:
    if "kernel" not in str(c.node.target) and rank_of(weight) == 1 and rank_of(x) > 1:
        weight = c.per_channel(weight, rank_of(x))
    return c.b(act.PReluOp, x, weight)


@converts("elu")
def _elu(
    c: NodeBuilder, x: SSAValue, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> SSAValue:
    if input_scale != 1:
        return c.where(
            c.gt(x, 0),
            c.mul(x, scale),
            c.mul(c.b(maths.Expm1Op, c.mul(x, input_scale)), float(alpha) * scale),
        )
    if scale != 1:
        return c.b(act.SeluOp, x, alpha=float(alpha), gamma=float(scale))
    return c.b(act.EluOp, x, alpha=float(alpha))


@converts("selu")
def _selu(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.b(act.SeluOp, x, alpha=1.6732632423543772, gamma=1.0507009873554805)


@converts("celu")
def _celu(c: NodeBuilder, x: SSAValue, alpha: float = 1.0) -> SSAValue:
    return c.b(act.CeluOp, x, alpha=float(alpha))


@converts("softplus")
def _softplus(c: NodeBuilder, x: SSAValue, beta: float = 1, threshold: float = 20) -> SSAValue:
    return c.b(act.SoftplusOp, x, beta=float(beta), threshold=float(threshold))


@converts("hardsigmoid")
def _hardsigmoid(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.b(act.HardSigmoidOp, x, alpha=1 / 6, beta=0.5)


@converts("threshold")
def _threshold(c: NodeBuilder, x: SSAValue, threshold: float, value: float) -> SSAValue:
    return c.b(act.ThresholdOp, x, threshold=float(threshold), value=float(value))


@converts("hardshrink", "softshrink")
def _shrink(c: NodeBuilder, x: SSAValue, lambd: float = 0.5) -> SSAValue:
    soft = "softshrink" in str(c.node.target)
    if soft:
        return c.b(act.ShrinkOp, x, lambd=float(lambd), bias=float(lambd))
    inside = c.both(c.ge(x, -lambd), c.le(x, lambd))
    return c.where(inside, c.like(0, x), x)


@converts("log_sigmoid", "log_sigmoid_forward")
def _log_sigmoid(c: NodeBuilder, x: SSAValue) -> Any:
    y = c.b(act.LogSigmoidOp, x)
    return (y, c.exp(c.neg(c.abs(x)))) if "forward" in str(c.node.target) else y


@converts("glu")
def _glu(c: NodeBuilder, x: SSAValue, dim: int = -1) -> SSAValue:
    axis = dim % rank_of(x)
    size = floordiv(dims_of(x)[axis], 2)
    return c.mul(c.cut(x, axis, 0, size), c.sigmoid(c.cut(x, axis, size, size)))
