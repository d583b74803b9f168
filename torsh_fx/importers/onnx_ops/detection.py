"""Non-maximum suppression, training steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect.ops.detection import NonMaxSuppressionOp
from torsh_dialect.types import dims_of
from torsh_fx.importers.onnx_ops.node import Node, converter


@converter("NonMaxSuppression")
def non_max_suppression(n: Node) -> SSAValue:
    most = n.optional(2)
    most = n.constant(np.int64(0)) if most is None else n.scalar(most)
    overlap, least = n.optional(3), n.optional(4)
    batch, _, count = dims_of(n.input(1))
    boxes = n.fitted(n.input(0), (batch, count, 4))
    return n(
        NonMaxSuppressionOp, boxes, n.input(1), most,
        n.constant(np.float32(0)) if overlap is None else n.scalar(overlap),
        None if least is None else n.scalar(least),
        centred=bool(n.int("center_point_box", 0)) or None, count=n.fresh("u"),
    )  # fmt: skip


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
