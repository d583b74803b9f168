"""Loops of `while_loop` that carry Python numbers beside tensors."""

from __future__ import annotations

import pytest
import torch
from torch._higher_order_ops import while_loop
from torch.export import Dim

import torsh_fx


def counted(x):
    return while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v + i), (0, x))


def downwards(x):
    """The number is below 0 in the end, and is no extent then."""
    return while_loop(lambda i, v: i > -5, lambda i, v: (i - 2, v * i), (x.shape[0], x))


def two(x):
    step = (lambda i, j, v: i + j < 9, lambda i, j, v: (i + j, i + 1, v * j))
    return while_loop(*step, (0, 1, x))


def sized(x):
    """The number is the extent of a tensor, another one in each iteration."""

    def body(i, v):
        torch._check(i >= 0)
        return i + 1, v + torch.ones(i).sum()

    return while_loop(lambda i, v: i < 4, body, (0, x))


def used(x):
    """The number that the loop leaves goes into arithmetic and into an extent."""
    i, v = while_loop(lambda i, v: v.sum() < 30, lambda i, v: (i + 2, v + i + 1), (1, x))
    torch._check(i >= 0)
    return v * i, torch.zeros(i + 1)


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch 2.13 about its own trees
@pytest.mark.parametrize("function", [counted, downwards, two, sized, used])
@pytest.mark.parametrize("decomposed", [False, True])
def test_a_loop_with_numbers(function, decomposed):
    model = Function(function)
    program = torch.export.export(model, (torch.rand(4),), dynamic_shapes=({0: Dim.AUTO},))
    compiled = torsh_fx.compile(program.run_decompositions({}) if decomposed else program)
    for size in (4, 6, 3):
        x = torch.rand(size)
        actual, expected = compiled(x), model(x)
        assert [type(value) for value in actual] == [type(value) for value in expected]
        torch.testing.assert_close(actual, expected)
