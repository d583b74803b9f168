"""Element-wise activations. Where half precision comes in, it is computed in f32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import FloatAttr, StringAttr
from xdsl.irdl import opt_prop_def, prop_def

from torsh_dialect.attributes import Array, float_of, str_of
from torsh_dialect.declare import Spelled, op
from torsh_dialect.dtypes import Element
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.kinds import Binary, Unary
from torsh_dialect.ops.half import rounded_once, where
from torsh_dialect.ops.maths import require_inexact
from torsh_dialect.scalar import Scalar, V


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) in numpy."""
    return np.reciprocal(1 + np.exp(-x))


def soft_plus(x: Any) -> Any:
    """log(1 + exp(x)) in numpy, without overflow."""
    return np.logaddexp(x, np.zeros_like(x))


def softly_positive(s: Scalar[V], x: V) -> V:
    """log(1 + exp(x)) in the scalar language, without overflow."""
    tail = s.math("log1p", s.math("exp", s.neg(s.abs(x))))
    return s.add(s.max(x, s.const(0, s.dtype(x))), tail)


class Activation(Unary):
    """A function of one float that networks put between layers."""

    def result_element(self, *elements: Element) -> Element:
        return require_inexact(elements[0])


@op
class ReluOp(Unary):
    """The larger of x and 0; NaN stays NaN.

    %r = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.relu"
    SPELLED: ClassVar = Spelled(torch=("aten.relu.default",), onnx=("Relu",), tensorflow=("Relu",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.maximum(args[0], np.zeros_like(args[0])),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.max(x[0], s.const(0, s.dtype(x[0])))


@op
class Relu6Op(Unary):
    """x limited to 0..6; NaN stays NaN.

    %r = torsh.relu6 %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.relu6"
    SPELLED: ClassVar = Spelled(torch=("aten.relu6.default",), tensorflow=("Relu6",))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (np.clip(args[0], 0, 6),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        return s.min(s.max(x[0], s.const(0, element)), s.const(6, element))


@op
class SigmoidOp(Activation):
    """1 / (1 + exp(-x)).

    %r = torsh.sigmoid %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.sigmoid"
    SPELLED: ClassVar = Spelled(
        torch=("aten.sigmoid.default",), onnx=("Sigmoid",), tensorflow=("Sigmoid",)
    )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        return (sigmoid(args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.math("sigmoid", x[0])


@op
class LogSigmoidOp(Activation):
    """log(sigmoid(x)) without loss for large |x|.

    %r = torsh.log_sigmoid %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.log_sigmoid"

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        return (-soft_plus(-args[0]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.neg(softly_positive(s, s.neg(x[0])))


@op
class HardSigmoidOp(Activation):
    """alpha * x + beta, limited to 0..1.

    %r = torsh.hardsigmoid %x {alpha = 0.2 : f64, beta = 0.5 : f64}
        : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.hardsigmoid"
    alpha = prop_def(FloatAttr)
    beta = prop_def(FloatAttr)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x = args[0]
        alpha, beta = (np.asarray(float_of(v), x.dtype) for v in (self.alpha, self.beta))
        return (np.clip(alpha * x + beta, 0, 1),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        slope = s.mul(x[0], s.const(float_of(self.alpha), element))
        line = s.add(slope, s.const(float_of(self.beta), element))
        return s.min(s.max(line, s.const(0, element)), s.const(1, element))


@op
class HardSwishOp(Activation):
    """x * min(max(x + 3, 0), 6) / 6.

    %r = torsh.hardswish %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.hardswish"
    SPELLED: ClassVar = Spelled(torch=("aten.hardswish.default",), onnx=("HardSwish",))

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x = args[0]
        return (x * np.clip(x + 3, 0, 6) / 6,)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        six = s.const(6, element)
        gate = s.max(s.add(x[0], s.const(3, element)), s.const(0, element))
        return s.div(s.mul(x[0], s.min(gate, six)), six)


@op
class LeakyReluOp(Activation):
    """x where it is above 0, else alpha * x.

    %r = torsh.leaky_relu %x {alpha = 0.01 : f64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.leaky_relu"
    alpha = prop_def(FloatAttr)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x = args[0]
        return (where(x > 0, x, x * np.asarray(float_of(self.alpha), x.dtype)),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        scaled = s.mul(x[0], s.const(float_of(self.alpha), element))
        return s.select(s.gt(x[0], s.const(0, element)), x[0], scaled)


@op
class PReluOp(Binary):
    """a where it is above 0, else a * b; b broadcasts as in any binary op.

    %r = torsh.prelu %x, %slope : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
    """

    name = "torsh.prelu"

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        return (where(args[0] > 0, args[0], args[0] * args[1]),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.select(s.gt(x[0], s.const(0, s.dtype(x[0]))), x[0], s.mul(x[0], x[1]))


@op
class EluOp(Activation):
    """x where it is above 0, else alpha * (exp(x) - 1).

    %r = torsh.elu %x {alpha = 1.0 : f64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.elu"
    alpha = prop_def(FloatAttr)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x = args[0]
        return (where(x > 0, x, float_of(self.alpha) * np.expm1(x)),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        below = s.mul(s.math("expm1", x[0]), s.const(float_of(self.alpha), element))
        return s.select(s.gt(x[0], s.const(0, element)), x[0], below)


@op
class SeluOp(Activation):
    """gamma * x where x is above 0, else gamma * alpha * (exp(x) - 1).

    %r = torsh.selu %x {alpha = 1.6732632423543772 : f64, gamma = 1.0507009873554805 : f64}
        : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.selu"
    alpha = prop_def(FloatAttr)
    gamma = prop_def(FloatAttr)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x = args[0]
        below = float_of(self.alpha) * np.expm1(x)
        return (float_of(self.gamma) * where(x > 0, x, below),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        alpha, gamma = float_of(self.alpha), float_of(self.gamma)
        below = s.mul(s.math("expm1", x[0]), s.const(alpha, element))
        return s.mul(
            s.select(s.gt(x[0], s.const(0, element)), x[0], below), s.const(gamma, element)
        )


@op
class CeluOp(Activation):
    """x where it is above 0, else alpha * (exp(x / alpha) - 1).

    %r = torsh.celu %x {alpha = 1.0 : f64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.celu"
    alpha = prop_def(FloatAttr)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x, alpha = args[0], float_of(self.alpha)
        return (where(x > 0, x, alpha * np.expm1(x / alpha)),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        alpha = s.const(float_of(self.alpha), element)
        below = s.mul(s.math("expm1", s.div(x[0], alpha)), alpha)
        return s.select(s.gt(x[0], s.const(0, element)), x[0], below)


@op
class SoftplusOp(Activation):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above `threshold`, if given.

    %r = torsh.softplus %x {beta = 1.0 : f64, threshold = 20.0 : f64}
        : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.softplus"
    beta = prop_def(FloatAttr)
    threshold = opt_prop_def(FloatAttr)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        scaled = args[0] * np.asarray(float_of(self.beta), args[0].dtype)
        soft = soft_plus(scaled) / float_of(self.beta)
        if self.threshold is None:
            return (soft,)
        return (where(scaled > float_of(self.threshold), args[0], soft),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        beta = s.const(float_of(self.beta), element)
        scaled = s.mul(x[0], beta)
        soft = s.div(softly_positive(s, scaled), beta)
        if self.threshold is None:
            return soft
        return s.select(s.gt(scaled, s.const(float_of(self.threshold), element)), x[0], soft)


@op
class SoftsignOp(Activation):
    """x / (1 + |x|).

    %r = torsh.softsign %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.softsign"
    SPELLED: ClassVar = Spelled(onnx=("Softsign",), tensorflow=("Softsign",))

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        return (args[0] / (1 + np.abs(args[0])),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.div(x[0], s.add(s.const(1, s.dtype(x[0])), s.abs(x[0])))


@op
class MishOp(Activation):
    """x * tanh(log(1 + exp(x))).

    %r = torsh.mish %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.mish"
    SPELLED: ClassVar = Spelled(torch=("aten.mish.default",), onnx=("Mish",))

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        return (args[0] * np.tanh(soft_plus(args[0])),)

    def body(self, s: Scalar[V], *x: V) -> V:
        return s.mul(x[0], s.math("tanh", softly_positive(s, x[0])))


@op
class SiluOp(Activation):
    """x * sigmoid(alpha * x); alpha is 1 where it is missing. Also called swish.

    %r = torsh.silu %x : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.silu"
    alpha = opt_prop_def(FloatAttr)
    SPELLED: ClassVar = Spelled(torch=("aten.silu.default",))

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        alpha = 1.0 if self.alpha is None else float_of(self.alpha)
        return (args[0] * sigmoid(args[0] * np.asarray(alpha, args[0].dtype)),)

    def body(self, s: Scalar[V], *x: V) -> V:
        inner = x[0]
        if self.alpha is not None:
            inner = s.mul(inner, s.const(float_of(self.alpha), s.dtype(inner)))
        return s.mul(x[0], s.math("sigmoid", inner))


@op
class GeluOp(Activation):
    """x times the normal distribution function of x.

    With `approximate = "tanh"` instead of `"none"`: Hendrycks and Gimpel's
    x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))).
    C1: `approximate` is one of the two.

    %r = torsh.gelu %x {approximate = "none"} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.gelu"
    approximate = prop_def(StringAttr)

    def is_tanh(self) -> bool:
        """Whether the tanh form is meant.

        Raises:
            InvalidArgumentError: C1.
        """
        mode = str_of(self.approximate)
        if mode not in ("none", "tanh"):
            raise InvalidArgumentError(f"C1: approximate is {mode!r}; use 'none' or 'tanh'")
        return mode == "tanh"

    def result_element(self, *elements: Element) -> Element:
        self.is_tanh()
        return super().result_element(*elements)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x = args[0].astype(np.float64)
        if self.is_tanh():
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return (0.5 * x * (1 + np.tanh(inner)),)
        return (0.5 * x * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2)),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        one, half = s.const(1, element), s.const(0.5, element)
        if self.is_tanh():
            cube = s.mul(s.mul(x[0], x[0]), x[0])
            inner = s.add(x[0], s.mul(s.const(0.044715, element), cube))
            tanh = s.math("tanh", s.mul(s.const(math.sqrt(2 / math.pi), element), inner))
            return s.mul(s.mul(half, x[0]), s.add(one, tanh))
        erf = s.math("erf", s.mul(x[0], s.const(math.sqrt(0.5), element)))
        return s.mul(s.mul(half, x[0]), s.add(one, erf))


@op
class ThresholdOp(Unary):
    """x where it is above `threshold`, else `value`; NaN stays NaN.

    %r = torsh.threshold %x {threshold = 1.0 : f64, value = 0.0 : f64}
        : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.threshold"
    threshold = prop_def(FloatAttr)
    value = prop_def(FloatAttr)

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x = args[0]
        limit, value = (
            np.asarray(float_of(v)).astype(x.dtype) for v in (self.threshold, self.value)
        )
        return (where(x <= limit, value, x),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        below = s.le(x[0], s.const(float_of(self.threshold), element))
        return s.select(below, s.const(float_of(self.value), element), x[0])


@op
class ShrinkOp(Activation):
    """x - bias above `lambd`, x + bias below -`lambd`, 0 between; NaN stays NaN.

    %r = torsh.shrink %x {lambd = 0.5 : f64, bias = 0.5 : f64} : (tensor<3xf32>) -> tensor<3xf32>
    """

    name = "torsh.shrink"
    lambd = prop_def(FloatAttr)
    bias = prop_def(FloatAttr)

    def result_element(self, *elements: Element) -> Element:
        return elements[0]

    @rounded_once
    def evaluate(self, *args: Any) -> Sequence[Array]:
        x, limit, bias = args[0], float_of(self.lambd), float_of(self.bias)
        return (where(x > limit, x - bias, where(x < -limit, x + bias, x * 0)),)

    def body(self, s: Scalar[V], *x: V) -> V:
        element = s.dtype(x[0])
        limit, bias = s.const(float_of(self.lambd), element), s.const(float_of(self.bias), element)
        inside = s.mul(x[0], s.const(0, element))
        low = s.select(s.lt(x[0], s.neg(limit)), s.add(x[0], bias), inside)
        return s.select(s.gt(x[0], limit), s.sub(x[0], bias), low)
