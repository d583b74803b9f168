"""Random ops of torch models: the numbers of eager torch with the same seed (`mt19937`)."""

import numpy as np
import pytest
import torch
from torch_oracle import Function

import torsh_fx
from torsh_dialect.errors import (
    ExecutionError,
    ImportModelError,
    InvalidArgumentError,
    UnsupportedError,
)
from torsh_fx.random import DEFAULT_SEED, STATE

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
LENGTHS = (0, 1, 2, 15, 16, 17, 31, 32, 1000)
"""Around the 16 numbers that torch's vectorised normal distribution makes at once."""


X = torch.linspace(-2, 2, 60).reshape(4, 15)


def both(function, x=X, seed=5, **options):
    """Results of three calls in a row, of eager torch and of the compiled model."""
    model = Function(function)
    compiled = torsh_fx.compile(torch.export.export(model, (x,)), random="mt19937", **options)
    assert compiled.seed(seed) == seed
    torch.manual_seed(seed)
    return [(flat(model(x)), flat(compiled(x))) for _ in range(3)]


def flat(value):
    found = value if isinstance(value, tuple) else (value,)
    return [torch.view_as_real(one) if one.is_complex() else one for one in found]


def equal(function, x=X, seed=5):
    for wanted, found in both(function, x, seed):
        for a, b in zip(wanted, found, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            torch.testing.assert_close(b, a, rtol=0, atol=0, equal_nan=True)


def near(function, x=X, units=4.0):
    """Equal but for roundings of another maths library: a few units of the largest intermediate."""
    for wanted, found in both(function, x):
        for a, b in zip(wanted, found, strict=True):
            unit = torch.finfo(a.dtype).eps
            torch.testing.assert_close(b, a, rtol=units * unit, atol=units * unit)


# -- plain arithmetic: equal bits

SEQUENCES = {
    "uniform": lambda d: (torch.rand(7, 5, dtype=d), torch.rand(3, dtype=d)),
    "bounds": lambda d: torch.empty(50, dtype=d).uniform_(-2.3, 5.1),
    "bernoulli": lambda d: torch.empty(200, dtype=d).bernoulli_(0.3),
    "random": lambda d: torch.empty(100, dtype=d).random_(),
    "integers": lambda d: torch.randint(3, 100, (50,), dtype=d),
}


@pytest.mark.usefixtures("twister_drops")
@pytest.mark.parametrize("name", SEQUENCES)
def test_plain_draws_of_floats_are_torchs(name):
    equal(lambda _: tuple(
        one for d in FLOATS for one in flat(SEQUENCES[name](d))
    ))  # fmt: skip


def test_integers_are_torchs():
    equal(lambda _: (
        *(torch.empty(60, dtype=d).random_() for d in (*INTEGERS, torch.bool)),
        *(torch.randint(-3, 100, (50,), dtype=d) for d in INTEGERS[:4]),
        *(torch.randint(0, 2**28 + n, (9,)) for n in (-1, 0)),
        torch.randint(-5, 2**40, (50,)),
        torch.randint_like(torch.zeros(5, dtype=torch.int32), 9),
        torch.empty(5, dtype=torch.int64).random_(7),
    ))  # fmt: skip


def drawn_below(x):
    return torch.randint_like(x, x[0, 0].long()), torch.rand(2)


@pytest.mark.parametrize("limit", [1, 2**28 - 1, 2**28, 2**40])
def test_integers_below_a_value(limit):
    """From 2**28 on of 64 bits."""
    equal(drawn_below, torch.full((3, 4), limit, dtype=torch.int64))


def test_an_empty_range_of_integers_ends_the_call():
    f = torsh_fx.compile(Function(drawn_below), (torch.ones(2, 2),))
    for bad in (0.0, -3.0):
        x = torch.full((2, 2), bad)
        with pytest.raises(RuntimeError, match="expects 'from' to be less than 'to'"):
            drawn_below(x)
        with pytest.raises(ExecutionError, match="element 0 of a distribution's parameters"):
            f(x)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_probabilities_of_a_tensor(dtype):
    equal(torch.bernoulli, torch.rand(200, generator=torch.Generator().manual_seed(1)).to(dtype))


@pytest.mark.usefixtures("twister_drops")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_dropouts_are_torchs(dtype):
    f = torch.nn.functional
    equal(lambda x: (
        f.dropout(x, 0.3), f.dropout(x, 1.0), f.dropout(x, 0.0), f.dropout2d(x, 0.4),
        f.alpha_dropout(x, 0.3, True), torch.native_dropout(x, 0.25, True)[0],
    ), torch.linspace(-3, 3, 120).reshape(2, 5, 3, 4).to(dtype))  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rrelu_draws_for_elements_that_are_not_positive(dtype):
    equal(lambda x: (torch.nn.functional.rrelu(x, 0.1, 0.3, True), torch.rand(3)), X.to(dtype))


def test_permutations_are_torchs():
    equal(lambda _: tuple(torch.randperm(n) for n in (0, 1, 2, 3, 100)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_multinomial_is_torchs(dtype):
    chances = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    equal(lambda x: (
        torch.multinomial(x, 1), torch.multinomial(x, 3), torch.multinomial(x, 30, True),
        torch.multinomial(x[0], 4, True),
    ), chances)  # fmt: skip


def test_numbers_follow_torchs_order_in_memory():
    equal(lambda x: (
        torch.rand_like(x), torch.randn_like(x), torch.randint_like(x, 9), torch.bernoulli(x * 0),
    ), torch.zeros(5, 7).t())  # fmt: skip
    equal(
        lambda x: (torch.rand_like(x), torch.randn_like(x)), torch.zeros(2, 3, 4).permute(2, 0, 1)
    )


# -- normal numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_normal_numbers_are_torchs(dtype):
    """By ones with a number kept for the next draw below 16, by lines of 16 above."""
    equal(lambda _: tuple(torch.randn(n, dtype=dtype) for n in LENGTHS))
    equal(lambda _: tuple(torch.empty(n, dtype=dtype).normal_(-2.3, 5.1) for n in (3, 40)))


def test_normal_numbers_of_f64_are_torchs_but_for_the_maths_library():
    near(lambda _: tuple(torch.randn(n, dtype=torch.float64) for n in LENGTHS))
    near(lambda _: torch.empty(40, dtype=torch.float64).normal_(-2.3, 5.1))


def test_means_and_deviations_of_tensors():
    equal(lambda x: (
        torch.normal(x, 2.0), torch.normal(1.0, x.abs()), torch.normal(x, x.abs()),
        torch.normal(1.0, 2.0, (3, 7)),
    ))  # fmt: skip


def test_complex_numbers():
    equal(lambda _: (torch.randn(20, dtype=torch.complex64), torch.rand(5, dtype=torch.complex64)))
    near(lambda _: torch.randn(5, dtype=torch.complex128))


@pytest.mark.usefixtures("twister_drops")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_other_distributions_are_torchs_but_for_the_maths_library(dtype):
    near(lambda _: (
        torch.empty(200, dtype=dtype).exponential_(1.7),
        torch.empty(200, dtype=dtype).geometric_(0.3),
        torch.empty(201, dtype=dtype).log_normal_(0.7, 0.5),
    ))  # fmt: skip
    for wanted, found in both(lambda _: torch.empty(200, dtype=dtype).cauchy_(0.0, 2.0)):
        unit = 32 * torch.finfo(dtype).eps  # the tangent near its poles
        torch.testing.assert_close(found[0], wanted[0], rtol=unit, atol=unit)


def test_numbers_by_rejection_are_torchs():
    """As many words are drawn, so that what follows is torch's too."""
    rates = torch.tensor([0.0, 0.3, 3.0, 9.9, 10.0, 40.0, 1e4]).repeat(20)
    equal(lambda x: (torch.poisson(x), torch.poisson(x.double()), torch.rand(3)), rates)
    counts = torch.tensor([0.0, 1.0, 20.0, 50.0, 1000.0], dtype=torch.float64).repeat(20)[:, None]
    chances = torch.tensor([0.0, 0.01, 0.3, 0.5, 0.8, 1.0], dtype=torch.float64)
    equal(lambda x: (torch.binomial(x.expand(100, 6).contiguous(), chances.repeat(100, 1)),
                     torch.rand(3)), counts)  # fmt: skip


# -- the order of draws, state, seeds


def test_draws_of_all_kinds_in_a_row():
    """What nothing uses is drawn too."""
    equal(lambda _: (
        torch.randn(3), torch.rand(2), torch.randn(4), torch.randn(20), torch.randint(0, 9, (4,)),
        torch.randn(1), torch.randperm(5),
    ))  # fmt: skip
    equal(lambda _: (torch.rand(3), torch.randn(5), torch.rand(2))[2])


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 - 1, DEFAULT_SEED])
def test_seeds_are_read_as_torch_reads_them(seed):
    equal(lambda _: torch.rand(5), seed=seed)


def test_extents_that_are_known_when_the_model_runs():
    """One program draws as torch does below and above 16 numbers."""
    model = Function(lambda x: (torch.randn(x.shape[0], 2), torch.rand_like(x),
                               torch.randperm(x.shape[0]), torch.randn(x.shape[0]),
                               torch.randint(0, x.shape[0] + 1, (3,))))  # fmt: skip
    rows = torch.export.Dim("rows", min=0, max=64)
    compiled = torsh_fx.compile(
        model, (torch.zeros(9),), dynamic_shapes=(({0: rows},),), random="mt19937"
    )
    compiled.seed(11)
    torch.manual_seed(11)
    for count in (7, 8, 9, 1, 16, 3, 40, 17, 0, 64):
        x = torch.zeros(count)
        for a, b in zip(model(x), compiled(x), strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=0)


@pytest.mark.usefixtures("twister_drops")
def test_a_network_in_training_mode():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(12, 40), torch.nn.ReLU(), torch.nn.Dropout(0.2),
        torch.nn.Linear(40, 40), torch.nn.Dropout1d(0.4), torch.nn.Linear(40, 3),
    ).train()  # fmt: skip
    x = torch.randn(6, 12)
    compiled = torsh_fx.compile(model, (x,), random="mt19937")
    compiled.seed(3)
    torch.manual_seed(3)
    for _ in range(3):
        torch.testing.assert_close(compiled(x), model(x).detach())


def test_the_state_is_torchs():
    """The generator's own words after the same draws (`torch.get_rng_state`, mt19937_data_pod)."""
    model = Function(lambda x: (torch.randn(5), torch.rand(700)))
    compiled = torsh_fx.compile(model, (X,), random="mt19937")
    session = compiled.session()
    session.seed(9)
    torch.manual_seed(9)
    session(X), model(X)
    words = torch.get_rng_state().numpy().view(np.uint64)
    left, next_ = (int(v) for v in words[1:3].view(np.uint32)[[0, 2]])
    state = session.state[STATE]
    np.testing.assert_array_equal(state[:624], words[3 : 3 + 624].astype(np.uint32))
    assert state[624] == next_ or left == 1
    assert state[625] == 1, "five numbers leave the sixth for the next draw"


BAD = {
    "probability": lambda x: torch.ops.aten.bernoulli.p(x, 1.5),
    "dropout": lambda x: torch.ops.aten.native_dropout(x, -0.25, True)[0],
    "deviation": lambda x: torch.ops.aten.normal_functional(x, 0.0, -1.0),
    "bounds": lambda x: torch.ops.aten.uniform(x, 2.0, 1.0),
    "rate": lambda x: torch.ops.aten.exponential(x, 0.0),
    "geometric": lambda x: torch.ops.aten.geometric(x, 1.0),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_parameters_are_refused_with_their_limits(name):
    with pytest.raises((UnsupportedError, ImportModelError), match=r"from|outside|expects"):
        torsh_fx.compile(Function(BAD[name]), (X,))


@pytest.mark.parametrize("bad", [-0.5, 1.5, float("nan")])
def test_bad_probabilities_end_the_call(bad):
    f = torsh_fx.compile(Function(lambda x: (torch.bernoulli(x), torch.randn(3))), (X.abs() / 9,))
    x = X.abs() / 9
    f(x)
    x[2, 3] = bad
    with pytest.raises(ExecutionError, match="element 33 of a distribution's parameters"):
        f(x)


def test_bad_weights_of_classes_end_the_call():
    f = torsh_fx.compile(Function(lambda x: torch.multinomial(x, 2)), (torch.ones(5),))
    for bad in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ExecutionError, match="element 4 of a distribution's parameters"):
            f(torch.tensor([1.0, 1.0, 1.0, 1.0, bad]))


def test_bad_streams_and_seeds_are_refused():
    with pytest.raises(InvalidArgumentError, match="random='mersenne' is no stream"):
        torsh_fx.compile(Function(torch.rand_like), (X,), random="mersenne")
    drawing = torsh_fx.compile(Function(torch.rand_like), (X,))
    with pytest.raises(InvalidArgumentError, match="does not fit 64 bits"):
        drawing.seed(2**64)
    plain = torsh_fx.compile(Function(torch.relu), (X,))
    with pytest.raises(InvalidArgumentError, match="draws no random numbers"):
        plain.seed(1)
    with pytest.raises(InvalidArgumentError, match="draws no random numbers"):
        plain.session().seed(1)
