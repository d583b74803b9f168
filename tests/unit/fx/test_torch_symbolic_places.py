"""Slices and single elements whose places are symbolic, from either end."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

import torsh_fx


class Ends(torch.nn.Module):
    """`y` has as many elements as are taken of `x`."""

    def forward(self, x, y):
        n = y.shape[0]
        written = x.clone()
        written[-n:] = y
        return x[-n:] * 1, x[:-n] * 1, x[-n:-1] * 1, x[n:] * 1, x[:n] * 1, x[-n] * 1, written


class Whole(torch.nn.Module):
    """All elements, by their number, as rotary embeddings take the last positions."""

    def forward(self, x):
        return x[-x.shape[0] :] * 1, x[1 - x.shape[0] :] * 1


@pytest.mark.parametrize(
    "shapes",
    [
        ({0: Dim.AUTO}, {0: Dim.AUTO}),
        ({0: Dim("m", min=8, max=64)}, {0: Dim("n", min=3, max=7)}),
    ],
)
def test_the_last_elements(shapes):
    first = (torch.arange(8.0), -torch.arange(5.0))
    program = torch.export.export(Ends(), first, dynamic_shapes=shapes)
    compiled = torsh_fx.compile(program)
    for m, n in ((8, 5), (9, 3), (30, 7)):
        args = (torch.arange(float(m)), -torch.arange(float(n)))
        for y, expected in zip(compiled(*args), Ends()(*args), strict=True):
            assert torch.equal(y, expected)


def test_all_elements():
    compiled = torsh_fx.compile(
        Whole(), (torch.arange(8.0),), dynamic_shapes=({0: Dim("m", min=3)},)
    )
    for m in (8, 3, 31):
        x = torch.arange(float(m))
        assert all(map(torch.equal, compiled(x), Whole()(x)))
