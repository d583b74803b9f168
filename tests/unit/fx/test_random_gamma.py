"""Gamma numbers and what is made of them: eager torch's, or of the right distribution."""

import numpy as np
import pytest
import torch
import torch.distributions as laws
from scipy import stats
from torch_oracle import Function

import torsh_fx
from torsh_dialect.errors import ExecutionError

LEAST = 1e-4
"""The least p-value of a right distribution; seeds are fixed, so a test passes always or never."""

SHAPES = torch.tensor([0.0, 1e-3, 0.1, 0.5, 0.99, 1.0, 1.5, 3.0, 10.0, 100.0, 1e6]).repeat(50)


def torchs(function, x, units=0.0):
    """Two calls in a row; what is drawn behind the numbers is torch's too."""

    def draw(x):
        return (function(x), torch.randn(3), torch.rand(2))

    compiled = torsh_fx.compile(Function(draw), (x,), random="mt19937")
    compiled.seed(8)
    torch.manual_seed(8)
    for _ in range(2):
        wanted, found = draw(x), compiled(x)
        unit = units * torch.finfo(wanted[0].dtype).eps
        torch.testing.assert_close(found[0], wanted[0], rtol=unit, atol=0)
        torch.testing.assert_close(found[1:], wanted[1:], rtol=0, atol=0)


@pytest.mark.parametrize(("dtype", "units"), [(torch.float32, 0), (torch.float64, 16)], ids=str)
def test_gamma_numbers_are_torchs(dtype, units):
    """Those of f64 but for the last bits of another maths library, as shapes are drawn from it."""
    torchs(torch._standard_gamma, SHAPES.to(dtype), units)
    torchs(torch._sample_dirichlet, SHAPES.reshape(-1, 11).to(dtype) + 0.1, units)


def test_the_kept_normal_number_is_the_first_one():
    """Five normal numbers leave the sixth, with which the gamma number begins."""
    torchs(lambda x: torch.cat([torch.randn(5), torch._standard_gamma(x)]), SHAPES)


def test_elements_are_drawn_in_row_major_order():
    x = SHAPES.reshape(50, 11)
    counts = torch.full((11, 1), 60.0)
    torchs(lambda x: torch._standard_gamma(x.t()), x)
    torchs(lambda x: torch.poisson(x.t()), x)
    torchs(lambda x: torch.binomial(counts.expand(11, 50), (x / 1e6).t()), x)


def test_binomial_numbers_of_f32_are_torchs():
    counts = torch.tensor([0.0, 1.0, 20.0, 50.0, 1000.0, 1e8]).repeat(20)[:, None]
    chances = torch.tensor([0.0, 0.01, 0.3, 0.5, 0.8, 1.0])
    torchs(lambda x: torch.binomial(x.expand(120, 6), chances.expand(120, 6)), counts)


DISTRIBUTIONS = {
    "Gamma": lambda x: laws.Gamma(x, x + 1),
    "Beta": lambda x: laws.Beta(x, x + 1),
    "Dirichlet": lambda x: laws.Dirichlet(x.reshape(10, 5)),
    "Chi2": laws.Chi2,
    "StudentT": laws.StudentT,
    "FisherSnedecor": lambda x: laws.FisherSnedecor(x, x + 1),
    "InverseGamma": lambda x: laws.InverseGamma(x, x + 1),
    "NegativeBinomial": lambda x: laws.NegativeBinomial(x, x / 9),
}


@pytest.fixture
def unchecked():
    """`torch.export` cannot trace the checks of a distribution's arguments."""
    laws.Distribution.set_default_validate_args(False)
    yield
    laws.Distribution.set_default_validate_args(__debug__)


@pytest.mark.usefixtures("unchecked")
def test_distributions_of_torch():
    def draw(x):
        return torch.cat([make(x).sample((3,)).flatten() for make in DISTRIBUTIONS.values()])

    torchs(draw, torch.linspace(0.2, 4, 50), units=2)


# -- the parallel stream

COUNT = 20_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gamma_numbers_of_the_parallel_stream(dtype):
    shapes = (0.05, 0.5, 1.0, 2.5, 40.0)
    model = Function(lambda x: torch._standard_gamma(x[:, None].expand(len(shapes), COUNT)))
    x = torch.tensor(shapes, dtype=dtype)
    for shape, drawn in zip(shapes, torsh_fx.compile(model, (x,))(x), strict=True):
        kept = drawn.numpy()[drawn > torch.finfo(dtype).tiny].astype(np.float64)
        assert stats.kstest(kept, stats.gamma(shape).cdf).pvalue > LEAST
        ranks = stats.gamma(shape).cdf(kept) - 0.5
        assert abs(np.mean(ranks[1:] * ranks[:-1])) * 12 < 5 / np.sqrt(len(kept))


def test_dirichlet_numbers_of_the_parallel_stream():
    """Each share has the Beta distribution of its parameter and the others' sum."""
    x = torch.tensor([0.4, 1.0, 3.0])
    model = Function(lambda x: torch._sample_dirichlet(x.expand(COUNT, 3)))
    drawn = torsh_fx.compile(model, (x,))(x).double().numpy()
    np.testing.assert_allclose(drawn.sum(1), 1, atol=1e-6)
    for share, own in zip(drawn.T, x.tolist(), strict=True):
        assert stats.kstest(share, stats.beta(own, 4.4 - own).cdf).pvalue > LEAST


@pytest.mark.parametrize("stream", ["philox", "mt19937"])
def test_threads_draw_the_same_gamma_numbers(stream):
    def bits(threads):
        f = torsh_fx.compile(
            Function(torch._standard_gamma), (SHAPES,), random=stream, threads=threads
        )
        return [f(SHAPES).numpy().tobytes() for _ in range(2)]

    first = bits(1)
    assert first[0] != first[1]
    assert first == bits(2) == bits(4)


def test_extremes_are_torchs():
    """0 gives the least normal number, infinity itself; no share is 0, 1 or NaN."""
    x = torch.tensor([[0.0, torch.inf, 1e-30], [0.0, 0.0, 0.0]])
    torchs(torch._standard_gamma, x)
    torchs(torch._sample_dirichlet, torch.tensor([[0.0, 1e9, 1e-30], [0.0] * 3, [torch.inf] * 3]))


@pytest.mark.parametrize("bad", [-0.5, float("nan")])
def test_bad_shapes_end_the_call(bad):
    """Torch's own loop never ends for them."""
    f = torsh_fx.compile(Function(torch._standard_gamma), (torch.ones(4),))
    f(torch.ones(4))
    with pytest.raises(ExecutionError, match="element 2 of a distribution's parameters"):
        f(torch.tensor([1.0, 1.0, bad, 1.0]))
