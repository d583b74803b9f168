"""Factorisations that torch's linear algebra has beside the common ones, compiled, next to LAPACK.

Torch calls LAPACK; results that it defines up to signs only are compared by their definition.
"""

from __future__ import annotations

import pytest
import torch
from torch_oracle import Function

import torsh_fx

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def matrices(*dims, dtype, seed=0):
    return torch.randn(*dims, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def check(function, *args, tolerance=None):
    compiled = torsh_fx.compile(Function(function).eval(), args, threads=1)
    expected, actual = function(*args), compiled(*args)
    scale = tolerance or 300 * torch.finfo(args[0].dtype).eps
    torch.testing.assert_close(tuple(actual), tuple(expected), rtol=scale, atol=scale)


@pytest.mark.parametrize("dims", [(4, 4), (5, 3), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_geqrf(dtype, dims):
    check(torch.geqrf, matrices(*dims, dtype=dtype))


def indefinite(count, dtype, hermitian, seed):
    x = matrices(3, count, count, dtype=dtype, seed=seed)
    x = x + (x.mH if hermitian else x.mT)
    x[0].diagonal()[:] = 0  # pivots of 2 x 2
    return x


@pytest.mark.parametrize("hermitian", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ldl(dtype, hermitian):
    def f(x, b):
        ld, pivots, status = torch.linalg.ldl_factor_ex(x, hermitian=hermitian)
        return ld, pivots, status, torch.linalg.ldl_solve(ld, pivots, b, hermitian=hermitian)

    x = indefinite(7, dtype, hermitian, seed=2)
    b = matrices(3, 7, 2, dtype=dtype, seed=5)
    check(f, x, b, tolerance=3e4 * torch.finfo(dtype).eps)


def test_ldl_of_a_singular_matrix():
    check(torch.linalg.ldl_factor_ex, torch.zeros(3, 3))


def in_order(values, vectors):
    """Eigenvalues by real and imaginary part, as sums of near ones do not tell them apart."""
    order = torch.argsort(values.real + 1e-3 * values.imag, dim=-1)
    vectors = torch.gather(vectors, -1, order.unsqueeze(-2).expand(vectors.shape))
    return torch.gather(values, -1, order), vectors


@pytest.mark.parametrize("dims", [(1, 1), (2, 2), (3, 6, 6), (20, 20)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_eig(dtype, dims):
    x = matrices(*dims, dtype=dtype, seed=4)
    values, vectors = torsh_fx.compile(Function(torch.linalg.eig), (x,), threads=1)(x)
    eps = 2000 * torch.finfo(dtype).eps
    whole = x.to(values.dtype)
    torch.testing.assert_close(whole @ vectors, vectors * values[..., None, :], rtol=eps, atol=eps)
    torch.testing.assert_close(vectors.norm(dim=-2), torch.ones(dims[:-1], dtype=x.real.dtype))
    wide = x.to(torch.complex128)
    expected, _ = in_order(*torch.linalg.eig(wide))
    actual, _ = in_order(values, vectors)
    torch.testing.assert_close(actual.to(torch.complex128), expected, rtol=eps, atol=eps)


def test_eig_of_special_matrices():
    rotation = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # Wilkinson's shift stays at 0
    triangle = torch.triu(matrices(4, 4, dtype=torch.float32))
    for x in (rotation, triangle, torch.zeros(3, 3), torch.eye(3)):
        values, _ = torsh_fx.compile(Function(torch.linalg.eig), (x,), threads=1)(x)
        expected = torch.linalg.eigvals(x)
        for value in expected:
            assert (values - value).abs().min() < 1e-5
    nan = torsh_fx.compile(Function(torch.linalg.eigvals), (rotation,), threads=1)
    assert nan(torch.full((3, 3), float("nan"))).isnan().all()
