"""Zoo models with every sensible axis symbolic: one program, at sizes down to 1, against eager.

`TORSH_SWEEP=all` takes all models; otherwise the small ones.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import torsh_fx
from lowering.codegen import CodeGenerator

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import dynamic
import zoo

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SMALL = ("mlp_b64", "lstm_256", "audio_cnn")
MODELS = tuple(dynamic.AXES) if os.environ.get("TORSH_SWEEP") == "all" else SMALL

OWN = {
    "batch": (1, 2, 5, 0), "length": (1, 2, 13, 7), "height": (67, 33, 34, 40),
    "width": (33, 61, 40, 37),
}  # fmt: skip
"""Sizes beside those of the benchmark: 1, small, prime, and an empty batch."""


def refuse(*_: object, **__: object) -> None:
    pytest.fail("a call compiles")


def sizes(axes: dynamic.Axes) -> list[dict[str, int]]:
    factors = {name: factor for row in axes.names for name, factor in row.values()}
    own = [{n: OWN[n][k] // f * f or f for n, f in factors.items()} for k in range(4)]
    return [*own, *axes.sizes[1:]]


@pytest.mark.parametrize("name", MODELS)
def test_one_program_for_all_sizes(name: str, monkeypatch: pytest.MonkeyPatch):
    model, axes = zoo.build(name), dynamic.AXES[name]
    compiled = torsh_fx.compile(
        model.module, model.inputs, dynamic_shapes=dynamic.dynamic_shapes(axes)
    )
    monkeypatch.setattr(CodeGenerator, "compile", refuse)
    for size in sizes(axes):
        inputs = [
            dynamic.resized(x, a, size) for x, a in zip(model.inputs, axes.names, strict=True)
        ]
        with torch.no_grad():
            expected = model.module(*inputs)
        ours = compiled(*inputs)
        pairs = (
            zip(ours, expected, strict=True) if isinstance(expected, tuple) else [(ours, expected)]
        )
        for a, b in pairs:
            scale = float(b.abs().max()) if b.numel() else 1.0
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=2e-5 * scale)
    assert len(compiled.executable._idle) == 1
