"""Half precision where torch rounds on the way: the same bits as eager torch.

The inputs are small integers over powers of two wherever sums must not depend on their order:
their sums are exact in f32, so that only the roundings decide.
"""

from __future__ import annotations

import pytest
import torch
from torch_oracle import Function

import torsh_fx

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

F = torch.nn.functional
HALVES = [torch.bfloat16, torch.float16]


def grid(generator, *shape, step=0.125):
    """Numbers of the form n / 8, |n| <= 16."""
    return torch.randint(-16, 17, shape, generator=generator) * step


def both(function, *args):
    """The results of the native program, and of torch."""
    with torch.no_grad():
        program = torch.export.export(Function(function), args, strict=False).run_decompositions()
        got = torsh_fx.compile(program, threads=1)(*(a.clone() for a in args))
        expected = function(*(a.clone() for a in args))
    several = isinstance(expected, tuple)
    return (tuple(got), expected) if several else ((got,), (expected,))


def check(function, *args):
    for a, b in zip(*both(function, *args), strict=True):
        assert torch.equal(a, b), f"{int((a != b).sum())} of {b.numel()} differ"


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scales", [(1, 1), (0.5, 2), (0, 1.5)])
@pytest.mark.parametrize("batch", [1, 7])
def test_addbmm_is_an_addmm_for_each_matrix(dtype, scales, batch):
    generator = torch.Generator().manual_seed(batch)
    x, a, b = (grid(generator, *s).to(dtype) for s in ((4, 6), (batch, 4, 9), (batch, 9, 6)))
    beta, alpha = scales
    check(lambda x, a, b: torch.addbmm(x, a, b, beta=beta, alpha=alpha), x, a, b)


def test_addbmm_of_no_matrices():
    x = torch.ones(2, 3).bfloat16()
    check(
        lambda x, a, b: torch.addbmm(x, a, b, beta=3), x, x.new_ones(0, 2, 4), x.new_ones(0, 4, 3)
    )


@pytest.mark.parametrize("dtype", HALVES)
def test_bilinear_rounds_the_product_of_the_first_pair(dtype):
    generator = torch.Generator().manual_seed(0)
    shapes = ((7, 12), (7, 5), (6, 12, 5), (6,))
    check(F.bilinear, *(grid(generator, *s).to(dtype) for s in shapes))


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
@pytest.mark.parametrize(("summed", "unroll"), [((2, 3), 1), ((0, 2, 3), 0), ((2,), 2), ((), 3)])
def test_trilinear(dtype, summed, unroll):
    generator = torch.Generator().manual_seed(0)
    a, b, d = (grid(generator, *s).to(dtype) for s in ((6, 4), (3, 4, 5), (6, 5)))

    def f(a, b, d):
        return torch._trilinear(a, b, d, [1, 3], [0], [1, 2], list(summed), unroll)

    check(f, a, b, d)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", [(5, 4, 5), (2, 3, 4, 8), (16, 6)])
@pytest.mark.parametrize("mixed", [False, True])
def test_batch_norm_normalises_by_the_statistics_that_it_keeps(dtype, shape, mixed):
    """And moves the running ones to them, in the parameters' type."""
    generator = torch.Generator().manual_seed(0)
    x = grid(generator, *shape, step=0.25).to(dtype)
    kept = torch.float32 if mixed else dtype
    w, b, mean, variance = (torch.rand(shape[1], generator=generator).to(kept) for _ in range(4))

    def f(x, w, b, mean, variance):
        y = F.batch_norm(x, mean, variance, w, b, training=True, momentum=0.3)
        return y, mean, variance

    (y, *moved), (wanted, *expected) = both(f, x, w, b, mean, variance)
    assert (y != wanted).sum() <= y.numel() // 200  # a tie that f32 decides
    torch.testing.assert_close(y, wanted, rtol=1e-2 if dtype == torch.bfloat16 else 2e-3, atol=0)
    for a, e in zip(moved, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", HALVES)
def test_instance_norm(dtype):
    x = grid(torch.Generator().manual_seed(0), 2, 3, 4, 8).to(dtype)
    check(F.instance_norm, x)


WRITTEN = {
    "addr": (lambda x, y, z: torch.addr(x, y, z), ((4, 5), (4,), (5,))),
    "cross": (torch.linalg.cross, ((6, 3), (6, 3))),
    "logit": (lambda x: torch.logit(x, 0.1), ((40,),)),
    "mse_loss": (F.mse_loss, ((40,), (40,))),
    "huber_loss": (lambda x, y: F.huber_loss(x, y, reduction="none"), ((40,), (40,))),
    "xlog1py": (lambda x, y: torch.special.xlog1py(x, y.abs()), ((40,), (40,))),
    "entr": (torch.special.entr, ((40,),)),
}
"""Ops that torch's decompositions write in f32 with one rounding, while its kernels round more."""


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", WRITTEN)
def test_what_the_exported_program_computes_in_f32_is_computed_in_f32(name, dtype):
    function, shapes = WRITTEN[name]
    generator = torch.Generator().manual_seed(0)
    args = tuple(torch.rand(s, generator=generator).to(dtype) for s in shapes)
    program = torch.export.export(Function(function), args, strict=False).run_decompositions()
    got = torsh_fx.compile(program, threads=1)(*args)
    assert torch.equal(got, program.module()(*args))


def test_a_batch_of_any_size():
    """The sums of addbmm and the statistics of a batch follow an extent that is not known."""
    generator = torch.Generator().manual_seed(0)

    def f(x, a, b, w):
        return torch.addbmm(x, a, b), F.batch_norm(a, None, None, w, w, training=True)

    def args(count):
        shapes = ((3, 5), (count, 3, 4), (count, 4, 5), (3,))
        return tuple(grid(generator, *s).bfloat16() for s in shapes)

    any_size = {0: torch.export.Dim("batch", min=1, max=32)}
    axes = ((None, any_size, any_size, None),)
    compiled = torsh_fx.compile(Function(f).eval(), args(4), dynamic_shapes=axes, threads=1)
    for count in (1, 2, 31):
        given = args(count)
        for got, expected in zip(compiled(*given), f(*given), strict=True):
            assert torch.equal(got, expected)
