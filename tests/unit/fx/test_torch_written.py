"""Inputs and buffers that a model writes, and outputs that are views, next to eager torch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch_oracle import Function

import torsh_fx
import torsh_fx.backend
from torsh_dialect.errors import InputError

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


def both(function, *args, dynamic=None):
    """Run eagerly and compiled on copies; the results and the arguments behind the call."""
    found = []
    for run in (function, torch.compile(function, backend="torsh", dynamic=dynamic)):
        given = copy.deepcopy(args)
        with torch.no_grad():
            found.append((run(*given), given))
    (expected, wanted), (actual, left) = found
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(left, wanted)
    return actual, left


def add_to_a_row(x, y):
    x[1].add_(y)
    return x.sum()


def swap(x, y):
    x, y = x.clone(), y.clone()
    return y, x


def write_both(x, y):
    x.mul_(2)
    y.copy_(x[0])
    return x + 1


@pytest.mark.parametrize("function", [add_to_a_row, write_both, swap])
def test_torch_compile_writes_its_inputs(function):
    both(function, torch.randn(3, 4), torch.randn(4))


def test_inputs_that_are_not_contiguous():
    both(lambda x: x.add_(1), torch.randn(4, 3).T)
    both(lambda x: x[:, 0].zero_(), torch.randn(4, 6)[:, ::2])


@pytest.mark.parametrize("dynamic", [None, True])
def test_outputs_that_are_views_of_an_input(dynamic):
    def f(x):
        x.add_(1)
        return x, x.T, x[1:].reshape(-1), x * 2

    actual, (x,) = both(f, torch.randn(3, 4), dynamic=dynamic)
    assert actual[0] is x
    x.fill_(7)
    assert all((view == 7).all() for view in actual[:3])
    assert not (actual[3] == 7).any()


def test_an_output_that_is_given_twice_is_one_tensor():
    def f(x):
        y = x * 2
        return y, y

    (first, second), _ = both(f, torch.randn(3))
    assert first is second


def test_torsh_compile_writes_tensors_and_arrays():
    x, y = torch.randn(3, 4), torch.randn(4)
    compiled = torsh_fx.compile(Function(add_to_a_row), (x.clone(), y.clone()))
    expected, actual = x.clone(), x.clone()
    total = add_to_a_row(expected, y)
    torch.testing.assert_close(compiled(actual, y), total)
    torch.testing.assert_close(actual, expected)
    array = x.numpy().copy()
    compiled(array, y.numpy())
    np.testing.assert_array_equal(array, expected.numpy())


def test_memory_that_is_shared_or_read_only_is_refused():
    x = torch.randn(4, 4)
    compiled = torsh_fx.compile(Function(add_to_a_row), (x.clone(), torch.randn(4)))
    with pytest.raises(InputError, match="shares memory"):
        compiled(x, x[2])
    array = x.numpy().copy()
    array.flags.writeable = False
    with pytest.raises(InputError, match="read-only"):
        compiled(array, np.ones(4, np.float32))


class Cache(torch.nn.Module):
    """A cache of rows: each call writes one and reads all."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(8, 4))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        self.rows.index_copy_(0, self.count, x * self.scale)
        self.count.add_(1)
        return self.rows.sum(0)


def follow(eager, compiled, session, inputs):
    """Each call in a row gives what the eager module gives, compiled and in a session."""
    for x in inputs:
        expected = eager(x)
        torch.testing.assert_close(compiled(x), expected)
        torch.testing.assert_close(session(x), expected)


@torch.no_grad()
def test_a_cache_in_buffers_prepares_no_weights_again(monkeypatch):
    eager, model = Cache(), Cache()
    compiled = torch.compile(model, backend="torsh")
    session = torsh_fx.compile(Cache(), (torch.randn(1, 4),)).session()
    updates = []
    original = torsh_fx.backend.CompiledModule.update_weights
    monkeypatch.setattr(
        torsh_fx.backend.CompiledModule,
        "update_weights",
        lambda *args: updates.append(1) or original(*args),
    )
    follow(eager, compiled, session, [torch.randn(1, 4) for _ in range(5)])
    torch.testing.assert_close(dict(model.named_buffers()), dict(eager.named_buffers()))
    assert not updates


@torch.no_grad()
def test_batch_norm_in_training_updates_its_statistics():
    eager = torch.nn.BatchNorm1d(4).train()
    model, other = copy.deepcopy(eager), copy.deepcopy(eager)
    compiled = torch.compile(model, backend="torsh")
    session = torsh_fx.compile(other, (torch.randn(6, 4),)).session()
    follow(eager, compiled, session, [torch.randn(6, 4) for _ in range(3)])
    torch.testing.assert_close(dict(model.named_buffers()), dict(eager.named_buffers()))
    for name, value in session.state.items():
        torch.testing.assert_close(torch.as_tensor(value), eager.get_buffer(name))
