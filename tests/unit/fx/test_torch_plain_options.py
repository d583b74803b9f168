"""Operators in programs that are not decomposed, sizes fixed and symbolic, against eager torch."""

import pytest
import torch
from torch.export import Dim
from torch.nn import functional
from torch_oracle import Function

import torsh_fx

torch.manual_seed(12)
R = torch.randn


def square(*shape):
    return R(*shape) + 3 * torch.eye(shape[-1])


def reflections(rows, columns):
    return torch.geqrf(R(2, rows, columns))


CASES = {
    "inner": (torch.inner, (R(3, 4, 5), R(2, 5)), (R(1, 9, 3), R(8, 3))),
    "inner of vectors": (torch.inner, (R(5), R(3, 5)), (R(3), R(4, 3))),
    "inner of a number": (torch.inner, (R(()), R(3, 5)), (R(()), R(4, 3))),
    "dsplit": (
        lambda x: torch.dsplit(x, 2) + torch.dsplit(x, [1, 3]),
        (R(2, 3, 8),),
        (R(5, 3, 6),),
    ),
    "hsplit": (lambda x: torch.hsplit(x, 2) + torch.hsplit(x, [1, 3]), (R(2, 8),), (R(5, 6),)),
    "hsplit of a vector": (lambda x: torch.hsplit(x, 2), (R(8),), (R(6),)),
    "vsplit": (lambda x: torch.vsplit(x, 2), (R(8, 3),), (R(6, 2),)),
    "conv with an even kernel": (
        lambda x, w: functional.conv2d(x, w, padding="same", dilation=2),
        (R(2, 3, 8, 9), R(4, 3, 2, 3)),
        (R(2, 3, 5, 9), R(4, 3, 4, 5)),
    ),
    "pdist": (lambda x: (torch.pdist(x), torch.pdist(x, 3.0)), (R(5, 4),), (R(9, 3),)),
    "means of columns": (
        lambda x: functional.adaptive_avg_pool2d(x, (None, 7)),
        (R(2, 3, 8, 9),),
        (R(2, 3, 4, 11),),
    ),
    "maxima of planes": (
        lambda x: functional.adaptive_max_pool3d(x, (5, None, 2), return_indices=True),
        ((R(2, 3, 8, 9, 4) * 2).round(),),
        (torch.full((2, 3, 4, 9, 5), -torch.inf),),
    ),
    "bins by another input": (
        lambda x, y: functional.adaptive_avg_pool2d(x, (y.shape[0] + 1, 2)),
        (R(3, 8, 9), R(5)),
        (R(3, 4, 11), R(8)),
    ),
    "solve": (torch.linalg.solve, (square(2, 5, 5), R(2, 5, 3)), (square(3, 7, 7), R(3, 7, 2))),
    "lu": (lambda x: torch.linalg.lu(x)[0], (R(2, 5, 6),), (R(3, 8, 7),)),
    "inverse": (torch.linalg.inv, (square(2, 5, 5),), (square(3, 7, 7),)),
    "reflections": (
        lambda v, t, x: (torch.ormqr(v, t, x), torch.ormqr(v, t, x, transpose=True)),
        (*reflections(5, 5), R(2, 5, 3)),
        (*reflections(4, 4), R(2, 4, 6)),
    ),
    "renorm": (lambda x: x.renorm(torch.inf, 1, 0.7), (R(2, 5, 3),), (R(3, 7, 4),)),
}


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("function", "args", "others"), CASES.values(), ids=CASES)
def test_a_program_that_names_them(function, args, others, symbolic):
    fixed = {4} if len(args[0].shape) == 5 else set()
    shapes = tuple(
        {n: Dim.AUTO if n + 1 not in fixed else Dim.STATIC for n in range(x.dim())} for x in args
    )
    program = torch.export.export(
        Function(function), args, dynamic_shapes=(shapes,) if symbolic else None
    )
    compiled = torsh_fx.compile(program)
    for given in (args, others) if symbolic else (args,):
        torch.testing.assert_close(compiled(*given), function(*given), rtol=1e-4, atol=1e-4)


def same(function, *args):
    compiled = torsh_fx.compile(torch.export.export(Function(function), args))
    ours, theirs = compiled(*args), function(*args)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_differences_of_order_0_join_nothing():
    same(lambda x, y: torch.diff(x, 0, 1, y, y), R(3, 4), R(3, 2))


def test_integers_at_equal_distances_of_ends_that_are_cut():
    same(lambda x: x + torch.linspace(4.3, 50.9, 50, dtype=torch.int64), torch.zeros(1))
    same(lambda x: x + torch.logspace(0.9, 4.3, 5, base=2.5, dtype=torch.int64), torch.zeros(1))


def test_nothing_is_gathered_by_an_index_of_another_rank():
    same(lambda x, i: x.gather(0, i), R(5), torch.zeros(2, 0, dtype=torch.int64))


def test_statistics_of_no_channels():
    same(lambda x, m, v: functional.batch_norm(x, m, v), R(0), R(0), R(0))


def test_the_exponential_of_a_matrix_is_as_exact_as_eager_torch():
    x = 3 * R(4, 5, 5)
    ours = torsh_fx.compile(Function(torch.linalg.matrix_exp), (x,))(x)
    exact = torch.linalg.matrix_exp(x.double())
    scale = exact.abs().amax((-2, -1), keepdim=True)
    theirs = ((torch.linalg.matrix_exp(x) - exact).abs() / scale).max()
    assert ((ours - exact).abs() / scale).max() < 3 * theirs


COMPLEX = torch.randn(3, 4, dtype=torch.complex64)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.logsumexp(x, 1),
        lambda x: torch.logaddexp(x, x * 2),
        lambda x: functional.rms_norm(x, (4,)),
        lambda x: x.renorm(2, 0, 0.5),
    ],
)
def test_complex_numbers(function):
    same(function, COMPLEX)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_angles_of_sums_of_complex_exponentials_grow(axis):
    torch.manual_seed(3)
    x = 4 * torch.randn(5, 6, 4, dtype=torch.complex64)
    assert x.logcumsumexp(axis).imag.abs().max() > 2 * torch.pi
    same(lambda x: torch.logcumsumexp(x, axis), x)


def test_bytes():
    x = torch.randint(0, 250, (4, 5), dtype=torch.uint8)
    same(lambda x: torch.einsum("iji->j", x[:, :, None].expand(4, 5, 4)), x)
    same(lambda x: torch.einsum("ij,kj->ik", x, x), x)
    same(lambda x: torch.matmul(x, x[0]), x)
    same(lambda x: torch.any(x[0, 0], ()), x)


def test_sums_of_complex_exponentials_without_end():
    inf, nan = torch.inf, torch.nan
    for real in ((-inf, -inf, 3.0, inf, 2.0), (1.0, -inf, 3.0, nan, 2.0)):
        x = torch.complex(torch.tensor(real), torch.tensor((2.0, 1.0, -2.0, 0.5, 2.0)))
        same(lambda x: torch.logcumsumexp(x, 0), x)
    same(lambda x: torch.logcumsumexp(x, 0), torch.tensor(2 + 3j))
