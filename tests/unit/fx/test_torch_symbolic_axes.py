"""Axes that a torch user asks to be symbolic: examples of extent 1, recurrent layers over time."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim

import torsh_fx
from torsh_dialect.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")


class Joined(nn.Module):
    def forward(self, x, y):
        return (x.reshape(x.shape[0], -1) + y)[:, 1:].squeeze(-1)


class Recurrent(nn.Module):
    def __init__(self, layer: str):
        super().__init__()
        options = {"num_layers": 2, "bidirectional": layer == "GRU", "batch_first": True}
        self.layer = getattr(nn, layer)(4, 6, **options)

    def forward(self, x):
        y, state = self.layer(x)
        return y[:, -1], state


class Special(nn.Module):
    """Treats one row in its own way."""

    def forward(self, x):
        return x * 2 if x.shape[1] == 1 else x * 3


def image_model() -> nn.Module:
    layers = (nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def check(module: nn.Module, example, shapes, sizes) -> None:
    compiled = torsh_fx.compile(module.eval(), example, dynamic_shapes=shapes)
    for size in sizes:
        inputs = tuple(torch.randn(shape) for shape in size)
        with torch.no_grad():
            torch.testing.assert_close(compiled(*inputs), module(*inputs), rtol=1e-4, atol=1e-5)


BATCH, TIME = Dim("batch", min=1), Dim("time", min=1)


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("example", [(1, 1), (3, 5)])
def test_batch_and_time_of_recurrent_layers(layer, example):
    sizes = [[(b, t, 4)] for b, t in ((1, 1), (2, 7), (5, 31))]
    check(Recurrent(layer), (torch.randn(*example, 4),), ({0: BATCH, 1: TIME},), sizes)


def test_every_axis_of_an_image_from_an_example_of_one():
    side = {"min": 4}
    shapes = ({0: BATCH, 2: Dim("height", **side), 3: Dim("width", **side)},)
    sizes = [[(n, 2, h, w)] for n, h, w in ((1, 8, 8), (3, 7, 13), (2, 4, 31))]
    check(image_model(), (torch.randn(1, 2, 8, 8),), shapes, sizes)


@pytest.mark.parametrize("dim", [BATCH, Dim.DYNAMIC], ids=str)
def test_equal_axes_of_two_inputs(dim):
    example = (torch.randn(1, 3, 4), torch.randn(1, 12))
    sizes = [[(n, 3, 4), (n, 12)] for n in (1, 2, 7)]
    check(Joined(), example, ({0: dim}, {0: dim}), sizes)


def test_a_module_that_treats_one_specially_is_refused_there():
    dims = Dim("rows", min=1)
    compiled = torsh_fx.compile(Special(), (torch.ones(2, 1),), dynamic_shapes=({1: dims},))
    x = torch.ones(2, 5)
    assert torch.equal(compiled(x), Special()(x))
    with pytest.raises(InputError, match=r"rows is 1 .* outside of its bounds 2\.\."):
        compiled(torch.ones(2, 1))


class Strided(nn.Module):
    """A convolution by patches of 4: an axis of 4*n becomes one of n."""

    def __init__(self, special: bool):
        super().__init__()
        self.conv, self.special = nn.Conv2d(2, 3, 4, stride=4), special

    def forward(self, x):
        y = self.conv(x)
        return y * 2 if self.special and y.shape[2] == 1 else y - y.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("example", [8, 4])
def test_multiples_are_symbolic_from_one_on(special, example):
    side = Dim("side", min=1)
    module = Strided(special).eval()
    shapes = ({2: 4 * side, 3: 4 * side},)
    compiled = torsh_fx.compile(
        module, (torch.randn(1, 2, example, example),), dynamic_shapes=shapes
    )
    for count in (1, 2, 5):
        x = torch.randn(1, 2, 4 * count, 4 * count)
        if special and count == 1:
            with pytest.raises(InputError):
                compiled(x)
            continue
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), module(x), rtol=1e-4, atol=1e-5)


class LongConvolution(nn.Module):
    """A convolution as long as its input, by transforms of twice its length."""

    def forward(self, x, kernel):
        steps = x.shape[1]
        spectrum = torch.fft.rfft(x, n=2 * steps) * torch.fft.rfft(kernel, n=2 * steps)
        return torch.fft.irfft(spectrum, n=2 * steps)[:, :steps]


def test_inverse_transforms_of_any_length():
    axes, module = {1: Dim("steps", min=2)}, LongConvolution()
    compiled = torsh_fx.compile(
        module, (torch.randn(2, 8), torch.randn(2, 8)), dynamic_shapes=(axes, axes)
    )
    for steps in (8, 7, 2, 31):
        args = (torch.randn(2, steps), torch.randn(2, steps))
        torch.testing.assert_close(compiled(*args), module(*args), rtol=1e-4, atol=1e-5)
