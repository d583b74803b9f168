"""What torch models compute natively where dtypes and values are unusual, next to eager torch."""

from __future__ import annotations

import pytest
import torch
from torch_oracle import Function, compared

import torsh_fx

DTYPES = [torch.int64, torch.bool, torch.float64, torch.bfloat16, torch.complex64]


def check(function, *args):
    """Compile natively, run, and compare with eager torch."""
    compiled = torsh_fx.compile(Function(function).eval(), args, threads=1)
    compared(compiled(*args), function(*args))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_values_that_are_used_often_are_built_once(dtype):
    """Five uses a step: built once for each use, 30 steps would be 5**30 values."""

    def steps(x):
        for _ in range(30):
            x = torch.where(x > 1, x * x + x, x - 1)
        return x

    check(steps, torch.arange(-3, 4).to(dtype))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_gcd_and_lcm(dtype):
    a = torch.tensor([0, 12, 17, 250, 6, 0, 90], dtype=dtype)
    b = torch.tensor([0, 18, 5, 100, 0, 7, 84], dtype=dtype)
    check(lambda a, b: (torch.gcd(a, b), torch.lcm(a, b)), a, b)
