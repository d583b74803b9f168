"""Sizes that a factor makes of symbolic ones: torch computes them in f64, extents are exact."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.export import Dim
from torch_oracle import Function

import torsh_fx
from torsh_dialect.errors import UnsupportedError

SIZES = [(4, 4), (5, 7), (13, 8), (31, 9)]


def compiled(function: Function) -> torsh_fx.CompiledModule:
    dims = {2: Dim("h", min=4, max=100), 3: Dim("w", min=4, max=100)}
    program = torch.export.export(function, (torch.randn(1, 2, 8, 10),), dynamic_shapes=((dims,),))
    return torsh_fx.compile(program)


@pytest.mark.parametrize(
    ("factor", "mode"),
    [
        (1.5, "bilinear"),
        (0.5, "nearest"),
        ((2.0, 0.75), "bicubic"),
        (1.125, "nearest"),
        (2.25, "nearest"),
        (1.25, "bilinear"),
        (1.7, "nearest"),
        (0.6, "bilinear"),
        ((1.7, 0.8), "area"),
    ],
)
def test_images_are_scaled(factor: float | tuple[float, float], mode: str) -> None:
    function = Function(
        lambda x: torch.nn.functional.interpolate(x, scale_factor=factor, mode=mode)
    )
    model = compiled(function)
    for size in SIZES:
        x = torch.randn(1, 2, *size)
        torch.testing.assert_close(model(x), function(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "size",
    [
        lambda n: math.trunc(n * 1.7),
        lambda n: math.ceil(n * 0.6) + math.floor(n * 0.1),
        lambda n: math.trunc(n * 1.75) + 3,
        lambda n: math.floor(n * 0.375 + 2.5),
        lambda n: math.ceil(n * 0.375 - 1.25) + 3,
        lambda n: math.floor((n + 1) * 0.5) + 2,
    ],
)
def test_sizes_are_those_of_python(size: Callable[[Any], Any]) -> None:
    function = Function(lambda x: x.new_ones(size(x.shape[2])).cumsum(0) + x.sum())
    model = compiled(function)
    for height in (4, 5, 6, 7, 50, 99, 100):
        x = torch.randn(1, 2, height, 4)
        torch.testing.assert_close(model(x), function(x))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [1.125, 2.1, 0.9])
def test_extents_that_stay_or_double_by_another_factor(mode: str, factor: float) -> None:
    """ATen has special cases for some modes only."""
    function = Function(
        lambda x: torch.nn.functional.interpolate(x, scale_factor=factor, mode=mode)
    )
    x = torch.randn(2, 3, 4, 5)
    model = torsh_fx.compile(function, (x,))
    torch.testing.assert_close(model(x), function(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_smoothed_images_that_stay(mode: str) -> None:
    function = Function(
        lambda x: torch.nn.functional.interpolate(
            x, scale_factor=(1.125, 1.5), mode=mode, antialias=True
        )
    )
    x = torch.randn(2, 3, 4, 5)
    model = torsh_fx.compile(function, (x,))
    torch.testing.assert_close(model(x), function(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["nearest", "linear", "trilinear"])
def test_lines_and_volumes(mode: str) -> None:
    shape = (2, 3, 4) if mode == "linear" else (2, 3, 4, 5, 4)
    function = Function(lambda x: torch.nn.functional.interpolate(x, scale_factor=1.125, mode=mode))
    x = torch.randn(*shape)
    model = torsh_fx.compile(function, (x,))
    torch.testing.assert_close(model(x), function(x), rtol=1e-4, atol=1e-4)


def test_a_factor_that_floats_round_is_refused() -> None:
    function = Function(lambda x: torch.nn.functional.interpolate(x, scale_factor=0.7))
    with pytest.raises(UnsupportedError, match=r"product with 0\.7.* give the size itself"):
        compiled(function)


@pytest.mark.parametrize(("start", "more", "step"), [(0.5, 0, 1), (-1.5, 0, 1.25), (0, 2.5, 0.5)])
def test_places_between_whole_numbers(start: float, more: float, step: float) -> None:
    """The number of places is a quotient of floats: the grids of rotary positions have such."""
    function = Function(lambda x: torch.arange(start, x.shape[2] + more, step) + x.sum())
    model = compiled(function)
    for size in SIZES:
        x = torch.randn(1, 2, *size)
        torch.testing.assert_close(model(x), function(x), rtol=1e-4, atol=1e-4)
