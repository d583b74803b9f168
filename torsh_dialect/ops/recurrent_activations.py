"""The activations that ONNX allows in recurrent layers, in numpy and in torsh ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect.errors import ShapeError
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.reference import Real

Numeric = Callable[[Real, float, float], Real]
Built = Callable[[Compose, SSAValue, float, float], SSAValue]


def _sigmoid(x: Real, a: float, b: float) -> Real:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _expanded_affine(c: Compose, x: SSAValue, a: float, b: float) -> SSAValue:
    return c.add(c.mul(x, a), b)


def _expanded_hard_sigmoid(c: Compose, x: SSAValue, a: float, b: float) -> SSAValue:
    return c.minimum(c.maximum(_expanded_affine(c, x, a, b), 0.0), 1.0)


def _expanded_elu(c: Compose, x: SSAValue, a: float, b: float) -> SSAValue:
    below = c.mul(c.sub(c.exp(c.minimum(x, 0.0)), 1.0), a)
    return c.where(c.lt(x, c.like(0.0, x)), below, x)


def _expanded_leaky(c: Compose, x: SSAValue, a: float, b: float) -> SSAValue:
    return c.where(c.lt(x, c.like(0.0, x)), c.mul(x, a), x)


def _expanded_threshold(c: Compose, x: SSAValue, a: float, b: float) -> SSAValue:
    return c.where(c.lt(x, c.like(a, x)), c.like(0.0, x), x)


def _expanded_scaled_tanh(c: Compose, x: SSAValue, a: float, b: float) -> SSAValue:
    return c.mul(c.tanh(c.mul(x, b)), a)


def _expanded_softsign(c: Compose, x: SSAValue, a: float, b: float) -> SSAValue:
    return c.div(x, c.add(c.abs(x), 1.0))


def _expanded_softplus(c: Compose, x: SSAValue, a: float, b: float) -> SSAValue:
    tail = c.log(c.add(c.exp(c.neg(c.abs(x))), 1.0))
    return c.add(c.maximum(x, 0.0), tail)


@dataclass(frozen=True)
class Row:
    """Default alpha and beta of an activation, its numpy form and its expansion."""

    alpha: float | None
    beta: float | None
    numeric: Numeric
    built: Built


TABLE: dict[str, Row] = {
    "relu": Row(None, None, lambda x, a, b: np.maximum(x, 0), lambda c, x, a, b: c.maximum(x, 0.0)),
    "tanh": Row(None, None, lambda x, a, b: np.tanh(x), lambda c, x, a, b: c.tanh(x)),
    "sigmoid": Row(None, None, _sigmoid, lambda c, x, a, b: c.sigmoid(x)),
    "affine": Row(1.0, 0.0, lambda x, a, b: a * x + b, _expanded_affine),
    "leakyrelu": Row(0.01, None, lambda x, a, b: np.where(x < 0, a * x, x), _expanded_leaky),
    "thresholdedrelu": Row(1.0, None, lambda x, a, b: np.where(x >= a, x, 0), _expanded_threshold),
    "scaledtanh": Row(1.0, 1.0, lambda x, a, b: a * np.tanh(b * x), _expanded_scaled_tanh),
    "hardsigmoid": Row(
        0.2, 0.5, lambda x, a, b: np.clip(a * x + b, 0, 1), _expanded_hard_sigmoid
    ),
    "elu": Row(
        1.0, None, lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x), _expanded_elu
    ),
    "softsign": Row(None, None, lambda x, a, b: x / (1 + np.abs(x)), _expanded_softsign),
    "softplus": Row(None, None, lambda x, a, b: np.logaddexp(x, 0), _expanded_softplus),
}  # fmt: skip


@dataclass(frozen=True)
class Activation:
    """An activation with its alpha and beta."""

    name: str
    alpha: float
    beta: float

    def reference(self, x: Real) -> Real:
        """The activation by numpy."""
        return TABLE[self.name].numeric(x, self.alpha, self.beta).astype(x.dtype)

    def expanded(self, c: Compose, x: SSAValue) -> SSAValue:
        """The activation in torsh ops."""
        return TABLE[self.name].built(c, x, self.alpha, self.beta)


def activations_of(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[Activation]:
    """Activations by their names in any case; each that has parameters takes the next given ones.

    Raises:
        ShapeError: A name is unknown.
    """
    left, right = iter(alphas), iter(betas)
    found: list[Activation] = []
    for name in names:
        row = TABLE.get(name.lower())
        if row is None:
            raise ShapeError(f"unknown activation {name!r}; known: {', '.join(TABLE)}")
        alpha = 0.0 if row.alpha is None else next(left, row.alpha)
        beta = 0.0 if row.beta is None else next(right, row.beta)
        found.append(Activation(name.lower(), alpha, beta))
    return found
