"""Places in sorted rows with NaN, and polynomials of any degree, as eager torch gives them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch_oracle import Function

import torsh_fx

NAN, INF = math.nan, math.inf
VALUES = torch.tensor([NAN, 0.0, 2.0, 3.0, 4.0, INF, -INF])


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize(
    "row",
    [[1.0, 2.0, 3.0, NAN, NAN], [NAN, 1.0, 2.0], [1.0, NAN, 2.0], [NAN] * 3, [3.0, 1.0, 2.0], []],
)
def test_places_in_rows_with_nan(row: list[float], right: bool):
    """Also in rows that are not sorted: bisection goes the same way."""

    def both(row: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.searchsorted(row, values, right=right)
        return found, torch.bucketize(values, row, right=right)

    given = torch.tensor(row), VALUES
    for ours, theirs in zip(
        torsh_fx.compile(Function(both), given)(*given), both(*given), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_places_in_rows_of_their_own():
    rows = torch.tensor([[0.0, 1.0, NAN, NAN], [-INF, 2.0, 3.0, INF]])
    values = torch.stack([VALUES, VALUES.flip(0)])
    function = Function(torch.searchsorted)
    torch.testing.assert_close(
        torsh_fx.compile(function, (rows, values))(rows, values),
        torch.searchsorted(rows, values),
    )


NAMES = (
    "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v",
    "chebyshev_polynomial_w", "shifted_chebyshev_polynomial_t", "hermite_polynomial_h",
    "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_polynomials_of_high_degrees(name: str):
    """Torch's own error near the zeros, by arc cosines, is the degree times an ulp."""
    function = getattr(torch.special, name)
    points = torch.tensor([-1.2, -1.0, -0.3, 0.0, 0.45, 0.99, 1.0, 1.2], dtype=torch.float64)
    degrees = [-3.0, 0.0, 1.0, 2.9, 7.0, 64.0, 65.0, 66.0, 130.0, 300.0, 700.0, INF, NAN]
    x = points[:, None]
    n = torch.tensor(degrees, dtype=torch.float64)[None]
    wanted = function(x, n)
    compiled = torsh_fx.compile(Function(function), (x, n))
    torch.testing.assert_close(compiled(x, n), wanted, rtol=1e-9, atol=1e-11, equal_nan=True)
    small = n[:, :5].clone()  # the same program for other degrees: its loop has no trips
    wide = torch.cat([small, small, small[:, :3]], 1)
    torch.testing.assert_close(compiled(x, wide), function(x, wide), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["legendre_polynomial_p", "hermite_polynomial_h"])
def test_a_degree_that_is_a_number(name: str):
    function = getattr(torch.special, name)
    x = torch.tensor([-1.1, -0.5, 0.0, 0.7, 1.0])

    def several(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(x, degree) for degree in (-1, 0, 1, 9, 100, 130))

    for ours, theirs in zip(torsh_fx.compile(Function(several), (x,))(x), several(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5, equal_nan=True)
