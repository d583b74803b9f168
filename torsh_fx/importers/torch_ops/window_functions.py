"""Window functions and sample frequencies: constants, computed in float64 and rounded once.

Formulas of aten/native/TensorFactories.cpp and SpectralOps.cpp of torch 2.13; `hann_window` is
decomposed by torch itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect.attributes import Array
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts


def _hamming(count: int, alpha: float = 0.54, beta: float = 0.46) -> Array:
    turns = np.arange(count) / max(count - 1, 1)
    return alpha - beta * np.cos(2 * np.pi * turns)


def _kaiser(count: int, beta: float = 12.0) -> Array:
    return np.kaiser(count, beta)


WINDOWS: dict[str, Callable[..., Array]] = {
    "bartlett_window": np.bartlett,
    "blackman_window": np.blackman,
    "hamming_window": _hamming,
    "kaiser_window": _kaiser,
}
"""Symmetric windows by name; periodic ones are those of one more sample, without the last."""


@converts(
    "bartlett_window",
    "bartlett_window.periodic",
    "blackman_window",
    "blackman_window.periodic",
    "hamming_window",
    "hamming_window.periodic",
    "hamming_window.periodic_alpha",
    "hamming_window.periodic_alpha_beta",
    "kaiser_window",
    "kaiser_window.periodic",
    "kaiser_window.beta",
)
def _window(
    c: NodeBuilder, count: int, periodic: bool = True, *shape: float, **options: Any
) -> SSAValue:
    window = WINDOWS[str(c.node.target).split(".")[1]]
    if count <= 1:
        return c.full(1.0, [count], c.out_element())
    return c.constant(window(count + periodic, *shape)[:count], c.out_element())


@converts("fft_fftfreq", "fft_rfftfreq")
def _frequencies(c: NodeBuilder, count: int, spacing: float = 1.0, **options: Any) -> SSAValue:
    of = np.fft.rfftfreq if "rfftfreq" in str(c.node.target) else np.fft.fftfreq
    return c.constant(of(count, spacing), c.out_element())
