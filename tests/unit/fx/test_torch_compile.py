"""`torch.compile(model, backend="torsh")` against eager."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch_oracle import Total

import torsh_fx.backend
from torsh_dialect.errors import InvalidArgumentError, TorshError, UnsupportedError

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(10, 20)
        self.norm = torch.nn.BatchNorm1d(20)
        self.second = torch.nn.Linear(20, 4)

    def forward(self, x):
        y = self.norm(torch.relu(self.first(x)))
        return self.second(y).reshape(x.shape[0], 2, -1) * 2, y


def agree(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_batches_of_all_sizes_and_changed_weights():
    model = Mlp().eval()
    compiled = torch.compile(model, backend="torsh")
    for batch in (4, 5, 7, 1):
        x = torch.randn(batch, 10)
        agree(compiled(x), model(x))
    model.first.weight.mul_(2)
    model.norm.running_mean.add_(0.5)
    agree(compiled(x), model(x))
    model.second.weight.data = torch.randn(4, 20)
    agree(compiled(x), model(x))


def test_two_symbols_make_one_program(monkeypatch):
    made = []
    original = torsh_fx.backend.compile_model
    monkeypatch.setattr(
        torsh_fx.backend, "compile_model", lambda *a, **k: made.append(1) or original(*a, **k)
    )

    def f(x, y):
        return torch.cat([x, y]).sum(1) * x.shape[0]

    compiled = torch.compile(f, backend="torsh", dynamic=True)
    for m, n in ((3, 4), (5, 2), (2, 7)):
        x, y = torch.randn(m, 6), torch.randn(n, 6)
        torch.testing.assert_close(compiled(x, y), f(x, y))
    assert len(made) == 1


@torch.no_grad()
def test_a_graph_break_falls_back_for_what_breaks_only():
    seen = []

    def f(x):
        y = torch.relu(x) + 1
        seen.append(float(y.sum()))
        return torch.tanh(y) * seen[-1]

    x = torch.randn(3, 4)
    compiled = torch.compile(f, backend="torsh")
    torch.testing.assert_close(compiled(x), f(x))
    assert seen[0] == pytest.approx(seen[1])


@torch.no_grad()
def test_buffers_that_change_keep_their_values():
    eager, model = Total(4, times=2), Total(4, times=2)
    compiled = torch.compile(model, backend="torsh")
    for _ in range(3):
        x = torch.randn(4)
        torch.testing.assert_close(compiled(x), eager(x))
    torch.testing.assert_close(model.total, eager.total)


def test_an_unknown_op_is_an_error_that_names_it():
    @torch.library.custom_op("torsh_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 2)

    @twice.register_fake
    def _(x):
        return torch.empty_like(x)

    compiled = torch.compile(lambda x: twice(x) + 1, backend="torsh")
    with pytest.raises(UnsupportedError, match=r"torsh_test\.twice"):
        compiled(torch.randn(3))


def test_gradients_are_refused_on_the_way_back():
    model = Mlp().eval()
    x = torch.randn(2, 10)
    outputs = torch.compile(model, backend="torsh")(x)
    agree(outputs, model(x))
    with pytest.raises(UnsupportedError, match="inference"):
        outputs[0].sum().backward()


def test_options():
    x = torch.randn(8)
    compiled = torch.compile(torch.exp, backend="torsh", options={"threads": 1})
    torch.testing.assert_close(compiled(x), torch.exp(x))
    with pytest.raises(InvalidArgumentError, match="no options colour"):
        torsh_fx.backend.torsh(torch.fx.symbolic_trace(torch.nn.ReLU()), [x], options={"colour": 1})
    with pytest.raises(InvalidArgumentError, match="no modes"):
        torsh_fx.backend.torsh(torch.fx.symbolic_trace(torch.nn.ReLU()), [x], mode="default")


def test_the_name_is_registered():
    assert "torsh" in torch._dynamo.list_backends(exclude_tags=())


def test_importing_torsh_fx_imports_no_framework():
    code = (
        "import sys, torsh_fx; torsh_fx.FxGraph; torsh_fx.compile;"
        "print([m for m in ('torch', 'onnx', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("norm_first", "activation"), [(False, "relu"), (True, "gelu")])
@torch.no_grad()
def test_the_fused_encoder_layer_of_eval_mode(norm_first, activation):
    layer = torch.nn.TransformerEncoderLayer(
        16, 4, 32, batch_first=True, norm_first=norm_first, activation=activation
    ).eval()
    x = torch.randn(2, 7, 16)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 5:] = True
    causal = torch.triu(torch.full((7, 7), float("-inf")), 1)
    compiled = torch.compile(layer, backend="torsh")
    for given in ({}, {"src_key_padding_mask": padding}, {"src_mask": causal}):
        expected = layer(x, **given)
        torch.testing.assert_close(compiled(x, **given), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_fused_attention_of_eval_mode():
    attention = torch.nn.MultiheadAttention(16, 4, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    compiled = torch.compile(lambda x: attention(x, x, x), backend="torsh")
    agree(compiled(x), attention(x, x, x))


@torch.no_grad()
def test_autocast_around_the_call():
    """What autocast casts is cast, in the calls that it is on in only."""
    model = Mlp().eval()
    compiled, x = torch.compile(model, backend="torsh"), torch.randn(4, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual, expected = compiled(x), model(x)
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype == torch.bfloat16
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)
    agree(compiled(x), model(x))


@torch.no_grad()
def test_outputs_that_are_views_of_an_output():
    def f(x):
        y = x + 1
        return y.t(), y, y[1:], x * 2

    compiled = torch.compile(f, backend="torsh")
    for size in (3, 5, 7):
        results = []
        for function in (f, compiled):
            found = function(torch.arange(size * 4.0).view(size, 4))
            found[1].mul_(3)
            found[2][0, 0] = -1
            results.append(found)
        for actual, expected in zip(results[1], results[0], strict=True):
            assert torch.equal(actual, expected)


@pytest.mark.parametrize("kind", ["meta", "nested"])
def test_tensors_that_no_program_takes(kind):
    rows = [torch.ones(2, 3), torch.ones(4, 3)]
    nested = torch.nested.nested_tensor(rows, layout=torch.jagged)
    given = nested if kind == "nested" else torch.ones(3, device="meta")
    compiled = torch.compile(lambda x: x * 2, backend="torsh")
    with pytest.raises(UnsupportedError, match=kind):
        compiled(given)


@torch.no_grad()
def test_inputs_that_overlap_and_are_written():
    compiled = torch.compile(lambda x, y: (x.add_(1), y * 3), backend="torsh")
    base = torch.ones(8)
    with pytest.raises(TorshError):
        compiled(base[:6], base[2:])
