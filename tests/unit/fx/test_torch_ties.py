"""Positions of equal elements: those of ATen's algorithms, for torch's ordering operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_oracle import Function

import torsh_fx

LENGTHS = (1, 2, 4, 17, 64, 129, 300)
RNG = np.random.default_rng(7)


def killer(n: int) -> np.ndarray:
    """Musser's sequence, which medians of three split badly: the heap has to take over."""
    half = n // 2
    odd = [i if i % 2 else half + i - 1 for i in range(1, half + 1)]
    return np.array([*odd, *range(2, 2 * half + 1, 2), *([n] if n % 2 else [])], np.float32)


def rows(n: int) -> np.ndarray:
    """Rows with many ties, few, none, NaN, and one that is hard to split."""
    drawn = [RNG.integers(0, values, n) for values in (1, 2, 3, 8, 1000)]
    sparse = np.where(RNG.random(n) < 0.2, np.nan, RNG.integers(0, 4, n))
    return np.stack([*drawn, sparse, killer(n), np.arange(n)]).astype(np.float32)


def assert_same(function: Callable[[Tensor], object], x: Tensor) -> None:
    wanted = function(x)
    found = torsh_fx.compile(Function(function), (x,))(x)
    pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("largest", [True, False])
def test_topk(n: int, largest: bool):
    x = torch.from_numpy(rows(n))
    counts = sorted(
        {k for k in (1, 2, 3, 5, n // 64, n // 64 + 1, n // 2, n - 1, n) if 1 <= k <= n}
    )

    def function(x: Tensor) -> object:
        return tuple(
            part
            for k in counts
            for order in (True, False)
            for part in x.topk(k, largest=largest, sorted=order)
        )

    assert_same(function, x)


@pytest.mark.parametrize("n", LENGTHS)
def test_unstable_sort_and_what_is_made_of_it(n: int):
    x = torch.from_numpy(rows(n))
    assert_same(lambda x: (*x.sort(), *x.sort(descending=True), x.argsort(), x.msort()), x)
    assert_same(lambda x: (*x.sort(stable=True), x.argsort(descending=True, stable=True)), x)


@pytest.mark.parametrize("n", LENGTHS)
def test_kth_value_median_and_mode(n: int):
    x = torch.from_numpy(rows(n))
    places = sorted({1, (n + 1) // 2, n})
    assert_same(lambda x: tuple(part for k in places for part in x.kthvalue(k)), x)
    assert_same(lambda x: (*x.median(1), *x.nanmedian(1)), x)
    assert_same(lambda x: tuple(x.mode(1)), x[~x.isnan().any(1)])


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("dim", [0, 1])
def test_types_and_axes(dtype: torch.dtype, dim: int):
    x = torch.from_numpy(RNG.integers(0, 3, (40, 50, 2))).to(dtype)
    assert_same(lambda x: (*x.sort(dim), *x.sort(dim, descending=True)), x)
    if dtype != torch.bool:
        assert_same(lambda x: (*x.topk(7, dim), *x.kthvalue(9, dim)), x)


def test_a_long_row_of_integers_is_sorted_by_radix():
    x = torch.from_numpy(RNG.integers(0, 10, 40000))
    assert_same(lambda x: (*x.sort(), *x.sort(descending=True), x.to(torch.float32).argsort()), x)


def test_a_dynamic_extent():
    count = torch.export.Dim("count", min=10, max=4000)
    model = Function(lambda x: (*x.topk(10), *x.sort()))
    compiled = torsh_fx.compile(model, (torch.zeros(2, 50),), dynamic_shapes=(({1: count},),))
    for n in (10, 50, 639, 640, 1000):
        x = torch.from_numpy(RNG.integers(0, 5, (2, n)).astype(np.float32))
        for ours, theirs in zip(compiled(x), model(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
