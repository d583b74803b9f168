"""Non-maximum suppression, random numbers, training steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import Attribute, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import f32
from torsh_dialect.ops.detection import NonMaxSuppressionOp
from torsh_dialect.ops.random import RandomNormalOp, RandomUniformOp
from torsh_dialect.types import dims_of, element_type
from torsh_fx.importers.onnx_ops.node import Node, converter


@converter("NonMaxSuppression")
def non_max_suppression(n: Node) -> SSAValue:
    most = n.optional(2)
    most = n.constant(np.int64(0)) if most is None else n.scalar(most)
    overlap, least = n.optional(3), n.optional(4)
    return n(
        NonMaxSuppressionOp, n.input(0), n.input(1), most,
        n.constant(np.float32(0)) if overlap is None else n.scalar(overlap),
        None if least is None else n.scalar(least),
        centred=bool(n.int("center_point_box", 0)) or None, count=n.fresh("u"),
    )  # fmt: skip


def _seed(n: Node) -> dict[str, Any]:
    return {"seed": int(n.float("seed"))} if n.has("seed") else {}


def _uniform(n: Node, dims: Sequence[Dim], element: Attribute, low: float, high: float) -> SSAValue:
    target = dims_attribute(dims)
    return n(RandomUniformOp, target=target, element=element, low=low, high=high, **_seed(n))


def _element(n: Node) -> Attribute:
    """The attribute `dtype`, or the element type of the input that is imitated."""
    if n.has("dtype"):
        return n.element(n.int("dtype"))
    return element_type(n.input(0)) if n.proto.input else f32


@converter("RandomUniform", "RandomUniformLike")
def random_uniform(n: Node) -> SSAValue:
    dims = n.dims() if n.op_type.endswith("Like") else n.ints("shape")
    return _uniform(n, dims, _element(n), n.float("low", 0.0), n.float("high", 1.0))


@converter("RandomNormal", "RandomNormalLike")
def random_normal(n: Node) -> SSAValue:
    dims = n.dims() if n.op_type.endswith("Like") else n.ints("shape")
    return n(
        RandomNormalOp, target=dims_attribute(dims), element=_element(n),
        mean=n.float("mean", 0.0), scale=n.float("scale", 1.0), **_seed(n),
    )  # fmt: skip


@converter("Bernoulli")
def bernoulli(n: Node) -> SSAValue:
    x = n.input(0)
    drawn = _uniform(n, dims_of(x), element_type(x), 0.0, 1.0)
    return n.c.cast(n.c.lt(drawn, x), _element(n))


@converter("Multinomial")
def multinomial(n: Node) -> SSAValue:
    """Classes drawn by the Gumbel maximum of log probabilities."""
    x, c, count = n.input(0), n.c, n.int("sample_size", 1)
    batch, classes = dims_of(x)
    element = element_type(x)
    drawn = _uniform(n, (batch, count, classes), element, float(np.finfo(np.float32).tiny), 1.0)
    noise = c.neg(c.log(c.neg(c.log(drawn))))
    best = c.argmax(c.add(c.reshape(x, (batch, 1, classes)), noise), 2)
    to = n.element(n.int("dtype")) if n.has("dtype") else dtypes.i32
    return c.cast(c.reshape(best, (batch, count)), to)


# -- ai.onnx.preview.training

TRAINING = "ai.onnx.preview.training"


def _steps(n: Node, kinds: int) -> tuple[SSAValue, SSAValue, list[list[SSAValue]]]:
    """Rate, step number, and for each tensor its value, gradient and states."""
    each = (len(n.proto.input) - 2) // (2 + kinds)
    rows = [[n.input(2 + i + k * each) for k in range(2 + kinds)] for i in range(each)]
    return n.scalar(n.input(0)), n.scalar(n.input(1)), rows


@converter("Adagrad", domain=TRAINING)
def adagrad(n: Node) -> Sequence[SSAValue]:
    c, (rate, step, rows) = n.c, _steps(n, 1)
    decayed = c.add(c.mul(c.cast_like(step, rate), n.float("decay_factor", 0.0)), 1.0)
    rate = c.div(rate, decayed)
    values, squares = list[SSAValue](), list[SSAValue]()
    for x, gradient, square in rows:
        gradient = c.add(gradient, c.mul(x, n.float("norm_coefficient", 0.0)))
        square = c.add(square, c.mul(gradient, gradient))
        spread = c.add(c.sqrt(square), n.float("epsilon", 0.0))
        values.append(c.sub(x, c.div(c.mul(rate, gradient), spread)))
        squares.append(square)
    return [*values, *squares]


@converter("Momentum", domain=TRAINING)
def momentum(n: Node) -> Sequence[SSAValue]:
    c, (rate, step, rows) = n.c, _steps(n, 1)
    alpha, beta = n.float("alpha"), n.float("beta")
    first = c.gt(step, 0)
    share = c.where(first, c.like(beta, rate), c.like(1.0, rate))
    values, speeds = list[SSAValue](), list[SSAValue]()
    for x, gradient, speed in rows:
        gradient = c.add(gradient, c.mul(x, n.float("norm_coefficient")))
        speed = c.add(c.mul(speed, alpha), c.mul(share, gradient))
        move = speed if n.str("mode") == "standard" else c.add(gradient, c.mul(speed, alpha))
        values.append(c.sub(x, c.mul(rate, move)))
        speeds.append(speed)
    return [*values, *speeds]


@converter("Adam", domain=TRAINING)
def adam(n: Node) -> Sequence[SSAValue]:
    c, (rate, step, rows) = n.c, _steps(n, 2)
    alpha, beta = n.float("alpha", 0.9), n.float("beta", 0.999)
    number = c.cast_like(step, rate)
    corrected = c.div(
        c.sqrt(c.sub(c.like(1.0, rate), c.pow(c.like(beta, rate), number))),
        c.sub(c.like(1.0, rate), c.pow(c.like(alpha, rate), number)),
    )
    rate = c.where(c.gt(step, 0), c.mul(rate, corrected), rate)
    found: list[list[SSAValue]] = [[], [], []]
    for x, gradient, speed, square in rows:
        gradient = c.add(gradient, c.mul(x, n.float("norm_coefficient", 0.0)))
        speed = c.add(c.mul(speed, alpha), c.mul(gradient, 1 - alpha))
        square = c.add(c.mul(square, beta), c.mul(c.mul(gradient, gradient), 1 - beta))
        spread = c.add(c.sqrt(square), n.float("epsilon", 0.0))
        value = c.sub(x, c.div(c.mul(rate, speed), spread))
        value = c.mul(value, 1 - n.float("norm_coefficient_post", 0.0))
        for column, part in zip(found, (value, speed, square), strict=True):
            column.append(part)
    return [part for column in found for part in column]
