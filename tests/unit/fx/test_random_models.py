"""Random numbers of models: distributions, seeds, streams that calls, sessions and files keep."""

import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from scipy import stats
from torch_oracle import Function

import torsh_fx
from torsh_dialect.errors import InvalidArgumentError, UnsupportedError
from torsh_fx.random import DEFAULT_SEED, STATE

COUNT = 100_000
LEAST = 1e-4
"""The least p-value of a right distribution; seeds are fixed, so a test passes always or never."""


def model_of(nodes, outputs, inputs=(), version=20):
    """An ONNX model of nodes; inputs and outputs are (name, type, dims)."""
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    onnx.checker.check_model(model)
    return model


def drawing(op, outputs=("y",), dims=(COUNT,), to=TensorProto.FLOAT, **attributes):
    """A model of one node without inputs that draws numbers."""
    node = helper.make_node(op, [], list(outputs), shape=list(dims), dtype=to, **attributes)
    return model_of([node], [(name, to, dims) for name in outputs])


def distributed(values, cdf):
    """Kolmogorov and Smirnov's test of independent numbers, and no correlation of neighbours."""
    values = np.asarray(values, np.float64)
    assert stats.kstest(values, cdf).pvalue > LEAST
    ranks = cdf(values) - 0.5
    assert abs(np.mean(ranks[1:] * ranks[:-1])) * 12 < 5 / np.sqrt(len(values))


def counted(values, chances):
    """The chi-square test of numbers 0, 1, ... with these chances."""
    found = np.bincount(np.asarray(values).astype(np.int64), minlength=len(chances))
    assert stats.chisquare(found, np.asarray(chances) * found.sum()).pvalue > LEAST


# -- distributions of the Philox stream


@pytest.mark.parametrize("seed", [{}, {"seed": 3.0}], ids=["stream", "seed"])
@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_onnx_distributions(to, seed):
    uniform = torsh_fx.compile(drawing("RandomUniform", to=to, low=-1.0, high=3.0, **seed))()
    distributed(uniform, stats.uniform(-1, 4).cdf)
    normal = torsh_fx.compile(drawing("RandomNormal", to=to, mean=2.0, scale=0.5, **seed))()
    distributed(normal, stats.norm(2, 0.5).cdf)


@pytest.mark.parametrize("to", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_rounding_does_not_reach_the_upper_bound(to):
    y = torsh_fx.compile(drawing("RandomUniform", to=to, low=0.0, high=1.0))().astype(np.float32)
    assert y.min() >= 0
    assert y.max() < 1
    assert abs(y.mean() - 0.5) < 5 / np.sqrt(12 * COUNT) + 2.0**-9


def test_onnx_choices():
    chances = np.array([0.0, 0.1, 0.2, 0.7], np.float32)
    nodes = [
        helper.make_node("Multinomial", ["logs"], ["classes"], sample_size=COUNT),
        helper.make_node("Bernoulli", ["p"], ["bits"], dtype=TensorProto.INT32),
        helper.make_node("Dropout", ["ones", "ratio", "train"], ["kept", "mask"]),
    ]
    model = model_of(
        nodes,
        [("classes", TensorProto.INT32, [1, COUNT]), ("bits", TensorProto.INT32, [COUNT]),
         ("kept", TensorProto.FLOAT, [COUNT]), ("mask", TensorProto.BOOL, [COUNT])],
        [("logs", TensorProto.FLOAT, [1, 4]), ("p", TensorProto.FLOAT, [COUNT]),
         ("ones", TensorProto.FLOAT, [COUNT]), ("ratio", TensorProto.FLOAT, []),
         ("train", TensorProto.BOOL, [])],
    )  # fmt: skip
    with np.errstate(divide="ignore"):
        logs = np.log(chances)[None]
    classes, bits, kept, mask = torsh_fx.compile(model)(
        logs, np.full(COUNT, 0.3, np.float32), np.ones(COUNT, np.float32),
        np.array(0.25, np.float32), np.array(True),
    )  # fmt: skip
    assert not (classes == 0).any()
    counted(classes[0] - 1, chances[1:])
    counted(bits, [0.7, 0.3])
    counted(mask, [0.25, 0.75])
    np.testing.assert_array_equal(kept, np.where(mask, np.float32(1 / 0.75), 0))


def test_torch_distributions_of_the_parallel_stream():
    n = COUNT
    draws = {
        "uniform": (lambda: torch.rand(n), stats.uniform().cdf),
        "f64": (lambda: torch.rand(n, dtype=torch.float64), stats.uniform().cdf),
        "normal": (lambda: torch.randn(n), stats.norm().cdf),
        "normal f64": (lambda: torch.randn(n, dtype=torch.float64), stats.norm().cdf),
        "exponential": (lambda: torch.empty(n).exponential_(2.0), stats.expon(0, 0.5).cdf),
        "cauchy": (lambda: torch.empty(n).cauchy_(1.0, 2.0), stats.cauchy(1, 2).cdf),
        "log normal": (lambda: torch.empty(n).log_normal_(0.5, 0.25),
                       stats.lognorm(0.25, 0, np.exp(0.5)).cdf),
    }  # fmt: skip
    found = torsh_fx.compile(
        Function(lambda x: tuple(draw() for draw, _ in draws.values())), (torch.zeros(1),)
    )(torch.zeros(1))
    for values, (_, cdf) in zip(found, draws.values(), strict=True):
        distributed(values, cdf)


def test_torch_choices_of_the_parallel_stream():
    chances = torch.tensor([0.1, 0.2, 0.7])

    def draw(x):
        return (
            torch.randint(0, 10, (COUNT,)), torch.empty(COUNT).bernoulli_(0.3),
            torch.multinomial(x, COUNT, True), torch.multinomial(x.expand(COUNT, 3), 1)[:, 0],
            torch.multinomial(x.expand(COUNT, 3), 3)[:, 0], torch.empty(COUNT).geometric_(0.5) - 1,
            torch.nn.functional.dropout(torch.ones(COUNT), 0.25) > 0,
        )  # fmt: skip

    digits, bits, many, one, first, trials, kept = torsh_fx.compile(Function(draw), (chances,))(
        chances
    )
    counted(digits, np.full(10, 0.1))
    counted(bits, [0.7, 0.3])
    for values in (many, one, first):
        counted(values, [0.1, 0.2, 0.7])
    counted(trials[trials < 8], 0.5 ** np.arange(1, 9) / (1 - 0.5**8))
    counted(kept, [0.25, 0.75])


def test_numbers_by_rejection_of_the_parallel_stream():
    """Chi-square over the values with at least 20 expected numbers each."""
    rates, trials = (0.7, 4.0, 10.0, 33.0), ((7.0, 0.3), (100.0, 0.05), (60.0, 0.5), (90.0, 0.8))

    def draw(x):
        return (
            *(torch.poisson(torch.full((COUNT // 4,), rate)) for rate in rates),
            *(torch.binomial(torch.full((COUNT // 4,), n), torch.full((COUNT // 4,), p))
              for n, p in trials),
        )  # fmt: skip

    found = torsh_fx.compile(Function(draw), (torch.zeros(1),))(torch.zeros(1))
    laws = [*(stats.poisson(rate) for rate in rates), *(stats.binom(n, p) for n, p in trials)]
    for values, law in zip(found, laws, strict=True):
        chances = law.pmf(np.arange(200))
        usual = chances * (COUNT // 4) >= 20
        kept = np.bincount(values.numpy().astype(np.int64), minlength=200)[:200]
        groups = [*kept[usual], kept[~usual].sum()]
        expected = [*chances[usual], chances[~usual].sum()]
        expected = np.array(expected) / np.sum(expected) * sum(groups)
        assert stats.chisquare(groups, expected).pvalue > LEAST


def test_permutations_are_equally_likely():
    run = torsh_fx.compile(
        Function(lambda x: torch.stack([torch.randperm(3) for _ in range(60)])), (torch.zeros(1),)
    )
    found = np.concatenate([run(torch.zeros(1)) for _ in range(100)])
    assert (np.sort(found, 1) == [0, 1, 2]).all()
    counted(found[:, 0] * 2 + (found[:, 1] > found[:, 2]), np.full(6, 1 / 6))


# -- streams


def test_calls_draw_new_numbers_and_a_seed_starts_again():
    f = torsh_fx.compile(drawing("RandomNormal", dims=(1000,)))
    first, second = f(), f()
    assert not np.isin(first, second).any()
    assert f.seed(DEFAULT_SEED) == DEFAULT_SEED
    np.testing.assert_array_equal(f(), first)
    np.testing.assert_array_equal(f(), second)
    drawn = f.seed()
    own = f()
    f.seed(drawn)
    np.testing.assert_array_equal(f(), own)
    assert f.seed() != drawn


def test_run_may_leave_the_stream_out():
    f, g = (torsh_fx.compile(drawing("RandomUniform", dims=(5,))) for _ in range(2))
    first, second = f(), f()
    for given in ([], {}):
        g.seed(DEFAULT_SEED)
        for expected in (first, second):
            (found,) = g.run(given)
            np.testing.assert_array_equal(found, expected)
    state = np.array([DEFAULT_SEED, 0], np.uint64)
    found, after = g.run([state])
    np.testing.assert_array_equal(found, first)
    np.testing.assert_array_equal(after, [DEFAULT_SEED, 5])


def test_nodes_of_one_stream_differ_and_those_of_one_seed_do_not():
    def pair(**seed):
        nodes = [helper.make_node("RandomUniform", [], [n], shape=[50], **seed) for n in "ab"]
        return torsh_fx.compile(model_of(nodes, [(n, TensorProto.FLOAT, [50]) for n in "ab"]))

    f = pair()
    a, b = f()
    assert not np.isin(a, b).any()
    g = pair(seed=4.0)
    a, b = g()
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(g()[0], a)
    with pytest.raises(InvalidArgumentError, match="draws no random numbers"):
        g.seed(1)


def test_sessions_have_streams_of_their_own():
    f = torsh_fx.compile(drawing("RandomUniform", dims=(9,)))
    s, t = f.session(), f.session()
    a = [s(), s()]
    np.testing.assert_array_equal(t(), a[0])
    saved = s.state
    third = s()
    s.set(saved)
    np.testing.assert_array_equal(s(), third)
    np.testing.assert_array_equal(s.state[STATE], [DEFAULT_SEED, 27])
    s.reset()
    np.testing.assert_array_equal(s(), a[0])
    s.seed(5)
    f.seed(5)
    np.testing.assert_array_equal(s(), f())


def test_threads_give_the_same_bytes():
    def bits(threads, stream):
        model = Function(lambda x: (torch.randn(70_001), torch.rand(50_003)))
        f = torsh_fx.compile(model, (torch.zeros(1),), random=stream, threads=threads)
        f.seed(1)
        return [value.numpy().tobytes() for value in f(torch.zeros(1))]

    for stream in ("philox", "mt19937"):
        assert bits(1, stream) == bits(2, stream) == bits(4, stream)


def test_callers_of_one_model_never_get_the_same_numbers():
    f = torsh_fx.compile(drawing("RandomUniform", dims=(64,), to=TensorProto.DOUBLE))
    found = []

    def call():
        found.extend(f() for _ in range(50))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert len(np.unique(np.concatenate(found))) == 200 * 64


def test_updated_weights_leave_the_stream_alone():
    layer = torch.nn.Sequential(torch.nn.Linear(3, 50), torch.nn.Dropout(0.5)).train()
    f = torsh_fx.compile(layer, (torch.ones(1, 3),))
    before = f(torch.ones(1, 3)) == 0
    f.update_weights({"0.weight": np.ones((50, 3), np.float32)})
    assert not torch.equal(before, f(torch.ones(1, 3)) == 0)


@pytest.mark.parametrize("stream", ["philox", "mt19937"])
def test_saved_models_start_from_the_same_stream(tmp_path, stream):
    model = Function(lambda x: x + torch.rand(5))
    f = torsh_fx.compile(model, (torch.zeros(5),), random=stream)
    f.save(tmp_path / "m.mlir")
    f.save(tmp_path / "m.torshpkg")
    zero = np.zeros(5, np.float32)
    expected = [f(zero), f(zero)]
    for name in ("m.mlir", "m.torshpkg"):
        g = torsh_fx.load(tmp_path / name)
        for one in expected:
            np.testing.assert_array_equal(g(zero), one)
        g.seed(3)
        f.seed(3)
        np.testing.assert_array_equal(g(zero), f(zero))
        f.seed(DEFAULT_SEED)
        expected = [f(zero), f(zero)]


def test_a_second_process_draws_the_same(tmp_path):
    f = torsh_fx.compile(drawing("RandomNormal", dims=(4,)))
    onnx.save(drawing("RandomNormal", dims=(4,)), tmp_path / "m.onnx")
    code = "import sys, torsh_fx; f = torsh_fx.compile(sys.argv[1]); f.seed(8); print(f().tolist())"
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.onnx")],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    f.seed(8)
    assert said.strip() == str(f().tolist())


def test_dynamic_and_zero_extents():
    node = helper.make_node("RandomNormalLike", ["x"], ["y"])
    model = model_of([node], [("y", TensorProto.FLOAT, ["n", "m"])],
                     [("x", TensorProto.FLOAT, ["n", "m"])])  # fmt: skip
    f = torsh_fx.compile(model)
    s, start = f.session(), 0
    for dims in ((3, 5), (0, 5), (7, 1), (2, 0), (64, 33)):
        y = s(np.zeros(dims, np.float32))
        assert y.shape == dims
        start += y.size
        assert s.state[STATE][1] == start
    distributed(y.reshape(-1), stats.norm().cdf)


# -- branches and loops


def loop_body(op="RandomUniform", dims=(4,), **attributes):
    """A body that draws once in each iteration."""
    nodes = [
        helper.make_node("Identity", ["go"], ["again"]),
        helper.make_node(op, [], ["drawn"], shape=list(dims), **attributes),
    ]
    return helper.make_graph(
        nodes, "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, []),
         helper.make_tensor_value_info("drawn", TensorProto.FLOAT, dims)],
    )  # fmt: skip


def test_iterations_of_a_loop_draw_what_calls_in_a_row_draw():
    node = helper.make_node("Loop", ["count", "go"], ["rows"], body=loop_body())
    model = model_of([node, helper.make_node("RandomUniform", [], ["after"], shape=[4])],
                     [("rows", TensorProto.FLOAT, [None, 4]), ("after", TensorProto.FLOAT, [4])],
                     [("count", TensorProto.INT64, []), ("go", TensorProto.BOOL, [])])  # fmt: skip
    f = torsh_fx.compile(model)
    plain = torsh_fx.compile(drawing("RandomUniform", dims=(4,)))
    for count in (3, 0, 2):
        rows, after = f(np.array(count), np.array(True))
        for row in (*rows, after):
            np.testing.assert_array_equal(row, plain())


def test_branches_draw_from_the_stream():
    def branch(op):
        node = helper.make_node(op, [], ["drawn"], shape=[6])
        out = helper.make_tensor_value_info("drawn", TensorProto.FLOAT, [6])
        return helper.make_graph([node], op, [], [out])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("RandomUniform"),
                            else_branch=branch("RandomNormal"))  # fmt: skip
    model = model_of([node], [("y", TensorProto.FLOAT, [6])], [("c", TensorProto.BOOL, [])])
    f = torsh_fx.compile(model)
    both = {
        True: torsh_fx.compile(drawing("RandomUniform", dims=(6,))),
        False: torsh_fx.compile(drawing("RandomNormal", dims=(6,))),
    }
    s = {c: g.session() for c, g in both.items()}
    for c in (True, False, False, True):
        found = f(np.array(c))
        np.testing.assert_array_equal(found, s[c]())
        for other in s.values():
            other.set({STATE: s[c].state[STATE]})


def test_torch_loops_and_branches_draw_torchs_numbers():
    from torch._higher_order_ops import while_loop

    def uniform(y):
        return y + torch.rand(20)

    def normal(y):
        return y + torch.randn(20)

    def draw(x):
        start = torch.zeros((), dtype=torch.int64)
        count, rows = while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, normal(y)), (start, x))
        return torch.cond(count > 9, uniform, normal, (rows,)), torch.rand(3)

    x = torch.zeros(20)
    program = torch.export.export(Function(draw), (x,))
    f = torsh_fx.compile(program, random="mt19937")
    f.seed(2)
    torch.manual_seed(2)
    for _ in range(2):
        y = x
        for _ in range(4):
            y = y + torch.randn(20)
        y = y + torch.randn(20)
        for found, wanted in zip(f(x), (y, torch.rand(3)), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)


# -- torch.compile


@pytest.mark.usefixtures("twister_drops")
def test_torch_compile_draws_from_torchs_generator():
    def function(x):
        return torch.nn.functional.dropout(x, 0.5) + torch.randn(20) * torch.rand(())

    compiled = torch.compile(function, backend="torsh")
    x, found = torch.ones(20), []
    for one in (function, compiled):
        torch.manual_seed(4)
        found.append([*(one(x) for _ in range(3)), torch.randn(5), torch.rand(2), one(x)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-7)


# -- bad input


@pytest.mark.parametrize(
    ("op", "attributes", "what"),
    [("RandomUniform", {"seed": float("nan")}, "the seed is nan"),
     ("RandomUniform", {"low": 2.0, "high": 1.0}, "low is 2.0, high 1.0"),
     ("RandomNormal", {"to": TensorProto.INT32}, "random numbers of type i32")],
)  # fmt: skip
def test_bad_attributes_are_refused(op, attributes, what):
    with pytest.raises(UnsupportedError, match=what):
        torsh_fx.compile(drawing(op, dims=(3,), **attributes))


def test_a_dropout_of_everything_is_refused():
    node = helper.make_node("Dropout", ["x", "ratio", "train"], ["y"])
    constants = [
        helper.make_node("Constant", [], ["ratio"], value_float=1.5),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Cast", ["one"], ["train"], to=TensorProto.BOOL),
    ]
    model = model_of([*constants, node], [("y", TensorProto.FLOAT, [3])],
                     [("x", TensorProto.FLOAT, [3])])  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"the ratio is 1.5"):
        torsh_fx.compile(model)
