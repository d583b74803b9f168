"""Floats that Dynamo makes inputs: arithmetic follows them, other uses are guarded constants."""

from __future__ import annotations

import pytest
import torch

import torsh_fx.backend


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 8)
        self.norm = torch.nn.LayerNorm(8)
        self.dropout = torch.nn.Dropout(0.3)
        self.scale = 0.7
        self.slope = 0.2

    def forward(self, x, shift):
        y = self.dropout(self.norm(self.linear(x)))
        return torch.nn.functional.leaky_relu(y * self.scale + shift, self.slope)


@pytest.fixture
def programs(fresh_dynamo, monkeypatch):
    """The programs that the backend compiled."""
    made = []
    original = torsh_fx.backend.compile_model
    monkeypatch.setattr(
        torsh_fx.backend, "compile_model", lambda *a, **k: made.append(1) or original(*a, **k)
    )
    return made


@torch.no_grad()
def test_floats_of_a_dynamic_graph(programs):
    torch.manual_seed(0)
    model = Block().eval()
    compiled = torch.compile(model, backend="torsh", dynamic=True)

    def agrees(batch, shift):
        x = torch.randn(batch, 6)
        torch.testing.assert_close(compiled(x, shift), model(x, shift), rtol=1e-5, atol=1e-6)

    for batch, shift in ((3, 1.0), (4, 2.5), (5, -1.5)):
        agrees(batch, shift)
    model.scale = -0.4
    agrees(5, 0.25)
    assert len(programs) == 1
    model.slope = 0.6
    agrees(5, 0.25)
    assert len(programs) == 2


@torch.no_grad()
def test_a_float_that_is_an_operand_and_a_limit(programs):
    def f(x, limit):
        return torch.clamp(x, max=limit) * (limit * 2)

    compiled = torch.compile(f, backend="torsh", dynamic=True)
    x = torch.randn(4, 3)
    for limit in (0.5, 0.25):
        torch.testing.assert_close(compiled(x, limit), f(x, limit))
