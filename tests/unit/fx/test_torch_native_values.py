"""What torch models compute natively where dtypes and values are unusual, next to eager torch."""

from __future__ import annotations

import pytest
import torch
from torch_oracle import Function, compared

import torsh_fx


def check(function, *args, others=()):
    """Compile natively, run, and compare with eager torch; on other arguments too."""
    compiled = torsh_fx.compile(Function(function).eval(), args, threads=1)
    for given in (args, *others):
        compared(compiled(*given), function(*given))


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


def test_a_number_read_from_a_tensor_may_be_negative():
    x = torch.tensor([1.5, -2.0])
    calls = [(x, torch.tensor(value)) for value in (-8, 0, 5)]
    check(lambda x, n: (n.item(), x * n.item() + (n.item() - 3)), *calls[0], others=calls[1:])


def test_a_number_that_is_a_size_is_an_extent():
    def f(x, n):
        size = n.item()
        torch._check(size >= 0)
        torch._check(size <= 4)
        return x[:size] * size

    x = torch.randn(4)
    check(f, x, torch.tensor(3), others=[(x, torch.tensor(0)), (x, torch.tensor(4))])


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([1.5, 2.5, -3.0]),
        torch.tensor([[1, 2, -7], [3, 4, 5]]),
        torch.tensor([True, False, True]),
        torch.tensor([3, 250], dtype=torch.uint8),
        torch.tensor([1.5, 2.25], dtype=torch.bfloat16),
    ],
)
def test_hash_tensor(x):
    check(lambda x: (torch.hash_tensor(x), torch.hash_tensor(x, -1, keepdim=True)), x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("density", [False, True])
def test_histogram(weighted, density):
    x = torch.tensor([0.0, 0.1, 0.5, 0.99, 1.0, 2.0, -1.0, float("nan"), 0.25, 0.75])
    weight = torch.arange(1.0, 11.0) if weighted else None
    edges = torch.tensor([-0.5, 0.25, 0.5, 3.0])

    def f(x):
        by_count = torch.histogram(x, 4, range=(0.0, 1.0), weight=weight, density=density)
        return *by_count, *torch.histogram(x, edges, weight=weight, density=density)

    check(f, x)


def test_histogram_of_its_own_range():
    x = torch.linspace(-3, 5, 40).reshape(5, 8)
    check(lambda x: (*torch.histogram(x, 7), *torch.histogram(x * 0 + 2, 3)), x)


def test_histogram_of_points():
    points = torch.rand(50, 2, generator=torch.Generator().manual_seed(1))

    def f(points):
        hist, edges = torch.histogramdd(points, [3, 4], density=True)
        other, _ = torch.histogramdd(points, [torch.tensor([0.0, 0.5, 1.0])] * 2)
        return hist, *edges, other

    check(f, points)


@pytest.mark.parametrize("to", [torch.int32, torch.uint8, torch.float16, torch.float64])
def test_bytes_as_another_dtype(to):
    x = torch.tensor([[1.5, -2.25, 3e20, 0.0]])
    check(lambda x: x.view(to), x)


def test_bytes_of_complex_numbers():
    z = torch.tensor([1 + 2j, -3.5j])
    check(lambda z, x: (z.view(torch.float32), x.view(torch.complex64)), z, torch.randn(3, 4))


def test_resize():
    x, y = torch.arange(6.0).reshape(2, 3), torch.zeros(2, 2)
    check(lambda x, y: x.clone().resize_as_(y), x, y)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_linear_cross_entropy_in_chunks(reduction):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(5, 3, generator=generator), torch.randn(4, 3, generator=generator)
    target = torch.tensor([0, 3, -100, 1, 2])
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2, allow_retain_graph=True)
    balance = torch.tensor([1.0, 2.0, 0.5, 3.0])

    def f(x, weight, target):
        return torch.nn.functional.linear_cross_entropy(
            x, weight, target, weight=balance, reduction=reduction, options=options
        )

    with torch.no_grad():
        check(f, x, weight, target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_neighbours_of_half_precision(dtype):
    a = torch.tensor([0.0, 0.0, -0.0, 1.0, 1.0, -2.0, -2.0, float("nan"), 3.0, 65504.0])
    b = torch.tensor([1.0, -1.0, 0.0, 2.0, -2.0, 0.0, -9.0, 1.0, 3.0, float("inf")])
    check(torch.nextafter, a.to(dtype), b.to(dtype))


def test_half_precision_rounds_once_behind_a_product():
    generator = torch.Generator().manual_seed(3)
    x, a, b = (torch.randn(8, 8, generator=generator).to(torch.bfloat16) for _ in range(3))
    compiled = torsh_fx.compile(
        Function(lambda x, a, b: torch.addmm(x, a, b, beta=0.3, alpha=0.7)), (x, a, b), threads=1
    )
    exact = 0.3 * x.double() + 0.7 * (a.double() @ b.double())
    assert ((compiled(x, a, b).double() - exact).abs() <= exact.abs() * 2**-8 + 1e-6).all()


def test_a_model_without_inputs_gives_tensors():
    check(lambda: (torch.arange(5, dtype=torch.bfloat16), torch.eye(2)))


def test_logcumsumexp_of_complex_numbers():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 5, 2, dtype=torch.complex64, generator=generator)
    z[0, 2] += 200
    check(lambda z: (torch.logcumsumexp(z, 1), torch.logcumsumexp(z, -1)), z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_airy_and_zeta(dtype):
    x = torch.tensor([-30.0, -8.5, -4.0, -1.0, 0.0, 1.0, 2.0, 5.0, 40.0]).to(dtype)
    q = torch.tensor([-8.25, -1.5, -0.5, 0.0, 0.25, 3.0, -2.0])
    check(lambda x: torch.special.airy_ai(x), x)
    check(lambda q: torch.special.zeta(torch.tensor(3, dtype=dtype), q), q)


@pytest.mark.parametrize("dims", [(2, 3, 7, 6), (3, 7, 6), (1, 2, 4, 5, 6)], ids=str)
def test_what_max_pooling_passes_back(dims):
    """Windows overlap, so that some elements get several addends: of small integers, exactly."""
    rank = 3 if len(dims) == 5 else 2
    name = f"max_pool{rank}d_with_indices"
    pool, back = (getattr(torch.ops.aten, n).default for n in (name, f"{name}_backward"))
    window = ([3] * rank, [2] * rank, [1] * rank, [1] * rank, False)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(dims, generator=generator)
    y, indices = pool(x, *window)
    passed = torch.randint(-8, 9, y.shape, generator=generator).float()
    check(lambda g, x, i: back(g, x, *window, i), passed, x, indices)
