"""The zoo: equal to float64 within the numerics contract, with the same bits however it is run.

Oracle: the source module in float64 under torch, whose own float32 error sets the measure.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import torsh_fx.compiler as compiler
from lowering.runtime.executable import Executable, RunOptions

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import zoo

SMALL = ("mobilenet_v2", "lstm_256", "mlp_b64", "audio_cnn", "unet_small")
BATCHED = ("mobilenet_v2", "audio_cnn", "mlp_b64")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@cache
def compiled(name: str):
    model = zoo.build(name)
    return model, compiler.compile(model.module, model.inputs, threads=1)


def other_inputs(model: zoo.Model, seed: int) -> tuple[torch.Tensor, ...]:
    """Inputs of the same shapes and kinds as the example's."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(x.shape, generator=generator)
        if x.is_floating_point()
        else torch.randint(0, 30000, x.shape, generator=generator)
        for x in model.inputs
    )


def outputs_of(module, inputs) -> list[np.ndarray]:
    with torch.no_grad():
        y = module(*inputs)
    return [t.double().numpy() for t in (y if isinstance(y, tuple) else (y,))]


def in_float64(model: zoo.Model, inputs) -> list[np.ndarray]:
    wide = zoo.build(model.name).module.double()
    return outputs_of(wide, [x.double() if x.is_floating_point() else x for x in inputs])


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


@pytest.mark.parametrize("name", zoo.MODELS)
def test_error_is_as_small_as_the_source_frameworks_own(name):
    model, ours = compiled(name)
    inputs = other_inputs(model, 7)
    reference = in_float64(model, inputs)
    theirs = outputs_of(model.module, inputs)
    result = ours(*inputs)
    mine = [t.double().numpy() for t in (result if isinstance(result, tuple) else (result,))]
    assert len(mine) == len(reference)
    for y, t, r in zip(mine, theirs, reference, strict=True):
        assert y.shape == r.shape
        ulp = 2.0**-23 * rms(r)
        assert rms(y - r) <= max(1.5 * rms(t - r), 4 * ulp)
        assert np.abs(y - r).max() <= max(4 * np.abs(t - r).max(), 16 * ulp)
        assert np.abs(y - r).max() <= max(1e-5 * np.abs(r).max(), 4 * np.abs(t - r).max())


def bytes_of(arrays) -> list[bytes]:
    return [np.ascontiguousarray(a).tobytes() for a in arrays]


@pytest.mark.parametrize("name", SMALL)
def test_threads_and_copies_of_the_weights_do_not_change_a_bit(name):
    model, ours = compiled(name)
    inputs = [x.numpy() for x in other_inputs(model, 3)]
    first = bytes_of(ours.run(inputs))
    for threads in (1, 2, 4):
        executable = Executable(ours.program, "main", RunOptions(threads=threads))
        assert bytes_of(executable.run(inputs)) == first
    names = [spec.name for spec in ours.program.spec.weights]
    copies = {n: a.copy() for n, a in zip(names, ours.program.weights.arrays, strict=True)}
    ours.program.update_weights(copies)
    assert bytes_of(ours.run(inputs)) == first


@pytest.mark.parametrize("name", BATCHED)
def test_a_row_of_a_batch_has_the_bits_of_that_input_alone(name):
    model = zoo.build(name)
    batch = torch.export.Dim("batch", min=1, max=64)
    example = torch.cat([x[:1] for x in model.inputs] * 2)
    ours = compiler.compile(model.module, (example,), dynamic_shapes=({0: batch},))
    for size in (2, 3, 7):
        generator = torch.Generator().manual_seed(size)
        x = torch.randn((size, *example.shape[1:]), generator=generator)
        whole = ours(x)
        for row in range(size):
            alone = ours(x[row : row + 1])
            assert torch.equal(whole[row : row + 1], alone)
