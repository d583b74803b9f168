"""Buffers that graphs of torch.compile write, read by other graphs and by eager code."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import torsh_fx
import torsh_fx.backend  # pyright: ignore[reportUnusedImport]  (registers the backend)


class Ring(nn.Module):
    """The rows of the last calls; Dynamo breaks its graph at the write by a tensor's value."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(4, 3))
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.rows[self.at % 4] = x[0]
        self.at += 1
        order = (self.at + torch.arange(4)) % 4
        return self.rows[order].cumsum(0), self.rows.mean(0)


class Replaced(nn.Module):
    """A weight that eager code puts another tensor in place of, at times at the same address."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w", torch.ones(1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (self.w * 2)


def norm(*shape: int, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    kinds = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
    return kinds[len(shape)](shape[1], track_running_stats=True, **options), shape


CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "ring": (Ring(), (1, 3)),
    "instance norm": norm(2, 3, 5, 7),
    "affine": norm(3, 2, 9, affine=True, momentum=0.3),
    "volumes": norm(1, 2, 3, 4, 5, eps=0.1),
}


@pytest.mark.parametrize("case", list(CASES))
def test_buffers_are_eager_torchs_after_each_call(case: str):
    torch._dynamo.reset()
    eager, shape = CASES[case]
    compiled = copy.deepcopy(eager)
    call: Any = torch.compile(compiled, backend="torsh")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _ in range(6):
            x = torch.randn(shape, generator=generator) + 1
            torch.testing.assert_close(call(x), eager(x), rtol=1e-5, atol=1e-5)
            for ours, theirs in zip(compiled.buffers(), eager.buffers(), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_exported_instance_norm_keeps_its_statistics():
    eager, shape = norm(2, 3, 5, 7)
    compiled = torsh_fx.compile(copy.deepcopy(eager).train(), (torch.zeros(shape),))
    session, generator = compiled.session(), torch.Generator().manual_seed(4)
    with torch.no_grad():
        for _ in range(3):
            x = torch.randn(shape, generator=generator) * 2 + 1
            torch.testing.assert_close(torch.as_tensor(session(x)), eager(x), rtol=1e-5, atol=1e-5)
        x = torch.randn(shape, generator=generator)
        buffers = dict(eager.named_buffers())
        assert set(session.state) == {"running_mean", "running_var"}
        for name, ours in session.state.items():
            torch.testing.assert_close(torch.as_tensor(ours), buffers[name], rtol=1e-5, atol=1e-5)


def test_a_buffer_that_is_replaced_is_noticed():
    torch._dynamo.reset()
    module = Replaced()
    call: Any = torch.compile(module, backend="torsh")
    x, addresses = torch.ones(1000), set[int]()
    with torch.no_grad():
        for number in range(1, 20):
            module.w = None  # frees the memory, which the next tensor may get
            module.w = torch.full((1000,), float(number))
            addresses.add(module.w.data_ptr())
            assert call(x)[0] == 2 * number
    assert len(addresses) < 19


def test_an_output_that_is_a_written_input_is_that_tensor():
    torch._dynamo.reset()

    def step(total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        total += x
        return total

    total, x = torch.zeros(5), torch.ones(5)
    with torch.no_grad():
        found = torch.compile(step, backend="torsh")(total, x)
    assert found is total
    assert total.tolist() == [1.0] * 5
