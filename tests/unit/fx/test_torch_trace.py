"""Models whose `forward` differentiates, autocasts or checkpoints, next to eager torch."""

from __future__ import annotations

import pytest
import torch

import torsh_fx

pytestmark = [
    # torch's own forward derivatives are scripted
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is dep:DeprecationWarning"),
    pytest.mark.usefixtures("fresh_dynamo"),
]


class Energy(torch.nn.Module):
    """An energy and the force on each atom."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.Softplus(), torch.nn.Linear(8, 1)
        )

    def forward(self, x):
        force, energy = torch.func.grad_and_value(lambda at: self.net(at).sum())(x)
        return -force, energy


class Jacobians(torch.nn.Module):
    """First and second derivatives of each row."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
        )

    def forward(self, x):
        reverse = torch.vmap(torch.func.jacrev(self.net))(x)
        forward = torch.vmap(torch.func.jacfwd(self.net))(x)
        return reverse, forward, torch.vmap(torch.func.hessian(self.net))(x)


class Mixed(torch.nn.Module):
    """A part in bf16, by autocast."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 8)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            y = torch.relu(self.linear(x)) @ torch.ones(8, 4)
            with torch.autocast("cpu", enabled=False):
                z = x @ torch.ones(3, 4)
        return y, y.float() + z


class Checkpointed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 8)

    def forward(self, x):
        from torch.utils.checkpoint import checkpoint

        return checkpoint(lambda at: self.linear(at).relu(), x, use_reentrant=False)


def compared(actual, expected, tolerance):
    actual, expected = (v if isinstance(v, tuple) else (v,) for v in (actual, expected))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=tolerance, atol=tolerance)


CASES = [(Energy, 1e-5), (Jacobians, 1e-5), (Mixed, 1e-2), (Checkpointed, 1e-5)]


@pytest.mark.parametrize(("model", "tolerance"), CASES)
def test_a_module(model, tolerance):
    x, module = torch.randn(4, 3), model().eval()
    compared(torsh_fx.compile(module, (x,))(x), module(x), tolerance)


@pytest.mark.parametrize(("model", "tolerance"), CASES)
def test_torch_compile(model, tolerance):
    x, module = torch.randn(4, 3), model().eval()
    compiled = torch.compile(module, backend="torsh", fullgraph=True)
    with torch.no_grad():
        compared(compiled(x), module(x), tolerance)


def test_an_exported_autocast():
    """Its casts are those of the exported program: products of bf16, rounded to bf16."""
    x, module = torch.randn(4, 3), Mixed().eval()
    compiled = torsh_fx.compile(torch.export.export(module, (x,)))
    with torch.autocast("cpu", torch.bfloat16):
        halves = torch.nn.functional.linear(x, module.linear.weight, module.linear.bias)
    assert halves.dtype == compiled(x)[0].dtype == torch.bfloat16
    compared(compiled(x), module(x), 1e-2)
