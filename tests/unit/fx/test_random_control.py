"""Random numbers in bodies, branches and mapped functions of both frontends.

Oracles: eager torch with the same seed, and models without control flow that draw in the order in
which the bodies run.
"""

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from torch._higher_order_ops import associative_scan, scan, while_loop
from torch._higher_order_ops import map as map_rows
from torch.nn.attention.flex_attention import flex_attention
from torch_oracle import Function

import torsh_fx
from torsh_dialect.errors import (
    ExecutionError,
    ImportModelError,
    InvalidArgumentError,
    UnsupportedError,
)

HEADER = '<ir_version: 8, opset_import: ["" : {}]>\n'


def model_of(text, version=18):
    model = parser.parse_model(HEADER.format(version) + text)
    onnx.checker.check_model(model)
    return torsh_fx.compile(model)


ONES, TRUE = np.ones(6, np.float32), np.array(True)


def plain_dropout():
    return model_of("""g (float[6] x, float r, bool t) => (float[6] y, bool[6] m) {
      y, m = Dropout(x, r, t)
    }""")


RATIO = np.float32(0.25)


def test_dropout_in_a_branch_of_onnx():
    f, plain = model_of("""g (float[6] x, float r, bool c, bool t) => (float[6] y) {
      y = If(c) <then_branch = a () => (float[6] p) { p = Dropout(x, r, t) },
                 else_branch = b () => (float[6] q) { q = Neg(x) }>
    }"""), plain_dropout()  # fmt: skip
    for training in (True, True, False, True):
        found = f(ONES, RATIO, TRUE, np.array(training))
        wanted, mask = plain(ONES, RATIO, np.array(training))
        np.testing.assert_array_equal(found, wanted)
        scale = np.float32(1) / (np.float32(1) - RATIO) if training else np.float32(1)
        np.testing.assert_array_equal(wanted, np.where(mask, ONES * scale, 0))
        assert mask.all() or training
        f(ONES, RATIO, np.array(False), TRUE)  # draws nothing


def test_dropout_in_a_loop_and_a_scan_of_onnx():
    loop = model_of("""g (float[6] x, float r, int64 k) => (float[6] y, float[u,6] rows) {
      one = Constant<value_int=1>() t = Cast<to=9>(one)
      y, rows = Loop(k,,x) <body = b (int64 i, bool c, float[6] v) => (bool d, float[6] w, float[6] o) {
        d = Identity(c) w = Dropout(v, r, t) o = Identity(w) }>
    }""")  # noqa: E501  # fmt: skip
    over = model_of("""g (float[6] x, float r, float[3,6] s) => (float[6] y, float[3,6] rows) {
      one = Constant<value_int=1>() t = Cast<to=9>(one)
      y, rows = Scan<num_scan_inputs=1, body = b (float[6] v, float[6] e) => (float[6] w, float[6] o) {
        w = Dropout(v, r, t) o = Add(w, e) }>(x, s)
    }""")  # noqa: E501  # fmt: skip
    plain, zeros = plain_dropout(), np.zeros((3, 6), np.float32)
    for count in (3, 0):
        y, rows = loop(ONES, RATIO, np.array(count))
        wanted = [ONES]
        for _ in range(count):
            wanted.append(plain(wanted[-1], RATIO, TRUE)[0])
        np.testing.assert_array_equal(rows, np.reshape(wanted[1:], (count, 6)))
        np.testing.assert_array_equal(y, wanted[-1])
    np.testing.assert_array_equal(over(ONES, RATIO, zeros)[1], _first_rows(loop))


def _first_rows(loop):
    loop.seed(67280421310721)  # what streams start from
    return loop(ONES, RATIO, np.array(3))[1]


SEQUENCE = """g (float[3] x) => (seq(float[3]) s, float[3] y) {
  s0 = SequenceConstruct(x, x)
  s = SequenceMap(s0) <body = b (float[3] e) => (float[3] f) { f = RandomUniformLike(e) }>
  y = RandomUniformLike(x)
}"""


def test_items_of_a_sequence_map_draw_one_after_the_other():
    f = model_of(SEQUENCE)
    plain = model_of("g (float[3] x) => (float[3] y) { y = RandomUniformLike(x) }")
    x = np.zeros(3, np.float32)
    for _ in range(2):
        items, y = f(x)
        for found in (*items, y):
            np.testing.assert_array_equal(found, plain(x))


TAKEN = """g (float[3] x, int64 k, bool b) => (float[3] y) {
  y = If(b) <then_branch = t () => (float[3] p) {
    p = Loop(k,,x) <body = lb (int64 i, bool c, float[3] v) => (bool c2, float[3] v2) {
      c2 = Identity(c) s0 = SequenceConstruct(v, v)
      s = SequenceMap(s0) <body = m (float[3] e) => (float[3] f) {
        h = RandomUniformLike(e) f = Add(h, e) }>
      i1 = Constant<value_int=1>() v2 = SequenceAt(s, i1) }> },
  else_branch = e () => (float[3] q) { q = RandomUniformLike(x) }>
}"""


def test_sequence_maps_in_loops_and_branches_draw_from_the_stream():
    """An iteration draws for two items and keeps the second."""
    f = model_of(TAKEN)
    plain = model_of("g (float[3] x) => (float[3] y) { y = RandomUniformLike(x) }")
    x = np.zeros(3, np.float32)
    for count, taken in ((2, True), (1, False), (0, True), (1, True)):
        wanted = x if taken else plain(x)
        for _ in range(count if taken else 0):
            plain(x)
            wanted = wanted + plain(x)
        np.testing.assert_array_equal(f(x, np.array(count), np.array(taken)), wanted)


def test_a_loop_with_dropout_in_inference_has_no_stream():
    f = model_of("""g (float[6] x, int64 k) => (float[6] y) {
      y = Loop(k,,x) <body = b (int64 i, bool c, float[6] v) => (bool d, float[6] w) {
        d = Identity(c) w = Dropout(v) }>
    }""")
    np.testing.assert_array_equal(f(ONES, np.array(3)), ONES)
    with pytest.raises(InvalidArgumentError, match="draws no random numbers"):
        f.seed(1)


def test_dropout_of_old_opsets():
    """Before opset 7 an attribute says that it is inference, and the mask has x's type."""
    count = 20_000
    text = "g (float[{0}] x) => (float[{0}] y, float[{0}] m) {{ y, m = Dropout<{1}>(x) }}"
    x = np.full(count, 3, np.float32)
    y, mask = model_of(text.format(count, "ratio=0.25"), 6)(x)
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert abs(mask.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / count)
    np.testing.assert_array_equal(y, np.where(mask, x / np.float32(0.75), 0))
    for version, options in ((6, "is_test=1"), (7, "ratio=0.25")):
        y, mask = model_of(text.format(count, options), version)(x)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(mask, np.ones(count, np.float32))


@pytest.mark.parametrize("bad", [1.0, -0.5, np.nan])
def test_a_ratio_that_is_a_value_is_checked_in_training(bad):
    f = plain_dropout()
    f(ONES, np.float32(bad), np.array(False))
    with pytest.raises(ExecutionError, match="element 0 of a distribution's parameters"):
        f(ONES, np.float32(bad), TRUE)


# -- torch


ZERO = torch.zeros((), dtype=torch.int64)
MAPS = {
    "scan": lambda x: scan(
        lambda c, r: (c + torch.rand(3), r + torch.randn(3)), torch.zeros(3), x.reshape(4, 3)
    ),
    "map": lambda x: map_rows(lambda r: torch.nn.functional.dropout(r, 0.4), x.reshape(4, 3)),
    "condition": lambda x: while_loop(
        lambda i, y: torch.rand(()) < 0.8, lambda i, y: (i + 1, y + torch.rand(12)), (ZERO, x)
    ),
    "nested": lambda x: while_loop(
        lambda i, y: i < 4,
        lambda i, y: (i + 1, torch.cond(
            i > 1, lambda z: z + torch.rand(12), lambda z: z + torch.randn(12), (y,)
        )),
        (ZERO, x),
    ),
    "gamma in a loop": lambda x: while_loop(
        lambda i, y: i < 3, lambda i, y: (i + 1, y + torch._standard_gamma(y)), (ZERO, x)
    ),
    "vmap of own draws": lambda x: torch.vmap(
        lambda r: r + torch.rand(3), randomness="different"
    )(x.reshape(4, 3)),
    "vmap of one draw": lambda x: torch.vmap(
        lambda r: r + torch.rand(3), randomness="same"
    )(x.reshape(4, 3)),
}  # fmt: skip


@pytest.mark.usefixtures("twister_drops")
@pytest.mark.parametrize("name", MAPS)
def test_draws_in_torchs_graphs_are_torchs(name):
    def function(x):
        found = MAPS[name](x)
        return (*(found if isinstance(found, tuple | list) else [found]), torch.rand(2))

    x = torch.ones(12)
    compiled = torsh_fx.compile(Function(function), (x,), random="mt19937")
    compiled.seed(3)
    torch.manual_seed(3)
    for _ in range(2):
        for wanted, found in zip(function(x), compiled(x), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def without_gradients(x):
    with torch.no_grad():
        return x + torch.rand(12)


UNUSED = {
    "cond": lambda x: torch.cond(
        x.sum() > 1,
        lambda y: torch.cond(y.sum() > 2, lambda z: z + torch.rand(12), lambda z: z + 1, (y,)),
        lambda y: y + torch.randn(12), (x,),
    ),
    "graph that is called": without_gradients,
    **{name: MAPS[name] for name in ("scan", "nested")},
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSED)
def test_graphs_that_nothing_uses_draw(name):
    def function(x):
        UNUSED[name](x)
        return torch.rand(3)

    x = torch.ones(12)
    compiled = torsh_fx.compile(Function(function), (x,), random="mt19937")
    compiled.seed(3)
    torch.manual_seed(3)
    for _ in range(2):
        torch.testing.assert_close(compiled(x), function(x), rtol=0, atol=0)


# -- what torch itself refuses

REFUSED = "called random operation while in randomness error mode"


PLAIN_FLEX = "ignore:flex_attention called without torch.compile"


@pytest.mark.filterwarnings(PLAIN_FLEX)
def test_draws_of_single_attention_scores_are_refused_as_in_torch():
    model = Function(lambda x: flex_attention(
        x, x, x, score_mod=lambda score, b, h, i, j: score + torch.rand(())
    ))  # fmt: skip
    x = torch.rand(1, 2, 8, 4)
    with pytest.raises(RuntimeError, match=REFUSED):
        model(x)
    with pytest.raises(UnsupportedError, match=REFUSED):
        torsh_fx.compile(model, (x,))


@pytest.mark.filterwarnings(PLAIN_FLEX)
def test_numbers_drawn_before_attention_reach_its_scores():
    def function(x):
        noise = torch.rand(1, 2, 8, 8)
        return flex_attention(
            x, x, x, score_mod=lambda score, b, h, i, j: score + noise[b, h, i, j]
        )

    x = torch.rand(1, 2, 8, 4, generator=torch.Generator().manual_seed(1))
    compiled = torsh_fx.compile(Function(function), (x,), random="mt19937")
    compiled.seed(3)
    torch.manual_seed(3)
    torch.testing.assert_close(compiled(x), function(x))


VMAPS = {
    "associative scan": lambda x: associative_scan(
        lambda a, b: a + b + torch.rand_like(a), x, 0, combine_mode="generic"
    ),
    "vmap": lambda x: torch.vmap(lambda r: r + torch.rand(3))(x),
}


@pytest.mark.parametrize("name", VMAPS)
def test_draws_that_torch_refuses_to_map_are_refused(name):
    model, x = Function(VMAPS[name]), torch.zeros(4, 3)
    with pytest.raises(RuntimeError, match=REFUSED):
        model(x)
    with pytest.raises(ImportModelError, match=REFUSED):
        torsh_fx.compile(model, (x,))
