"""`torch.einsum` of every spelling, next to eager torch."""

from __future__ import annotations

import pytest
import torch

import torsh_fx

CASES = [
    ("b h i d, b h j d -> b h i j", (2, 3, 4, 5), (2, 3, 6, 5)),
    (" i j , j k ", (3, 4), (4, 5)),
    ("ij,jk", (3, 4), (4, 5)),
    ("ji", (3, 4)),
    ("bB", (3, 4)),
    ("...ij,...jk", (2, 3, 4), (2, 4, 5)),
    ("i..., j... -> ...", (2, 3), (4, 3)),
    ("...i,...j->ij", (2, 3), (2, 4)),
    ("i...,j...->ij", (3, 5, 2), (4, 2)),
    ("ij,jk->ik", (3, 4), (1, 5)),
    ("b...c, c k -> b k ...", (2, 3, 4, 5), (5, 6)),
    ("bii->b", (2, 3, 3)),
    ("ii", (3, 3)),
    ("a,b,c->abc", (2,), (3,), (4,)),
    ("ij,ij,ij", (2, 3), (2, 3), (2, 3)),
]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("equation", "dims"), [(case[0], case[1:]) for case in CASES])
def test_equation(equation, dims, symbolic):
    class Model(torch.nn.Module):
        def forward(self, *tensors):
            return torch.einsum(equation, *tensors)

    torch.manual_seed(0)
    args = tuple(torch.randn(d) for d in dims)
    every = tuple(dict.fromkeys(range(len(d)), torch.export.Dim.AUTO) for d in dims)
    program = torch.export.export(Model(), args, dynamic_shapes=(every,) if symbolic else None)
    torch.testing.assert_close(
        torsh_fx.compile(program)(*args), torch.einsum(equation, *args), rtol=1e-5, atol=1e-5
    )
