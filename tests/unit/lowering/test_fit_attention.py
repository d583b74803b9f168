"""Attention and norms that models write out: compiled against eager torch in float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import torsh_fx
from torsh_dialect.ops.norm import LayerNormOp, RmsNormOp
from torsh_dialect.ops.strided_attention import StridedAttentionOp
from torsh_dialect.settings import Settings

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Function(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., torch.Tensor]):
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        return self.function(*args)


def softmax_of(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)


def projected(heads: int, attend: Attend) -> Callable[[torch.Tensor], torch.Tensor]:
    """Self-attention on a projection [B, L, 3 C], results as [B, L, C]."""

    def run(x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = (t.squeeze(2) for t in x.view(batch, length, 3, heads, -1).split(1, 2))
        y = attend(*(t.transpose(1, 2) for t in (q, k, v)))
        return y.transpose(1, 2).reshape(batch, length, width // 3)

    return run


HIDDEN = torch.triu(torch.ones(9, 9, dtype=torch.bool), 1)
BIAS = torch.linspace(-3, 3, 4 * 9).reshape(4, 1, 9)

FORMS: dict[str, Attend] = {
    "divided": lambda q, k, v: softmax_of(q, k) @ v,
    "both factors scaled": lambda q, k, v: torch.softmax((q * 0.3) @ (k * 0.4).mT, -1) @ v,
    "mask added": lambda q, k, v: torch.softmax(q @ k.mT + BIAS.to(q), -1) @ v,
    "mask first": lambda q, k, v: torch.softmax(BIAS.to(q) + q @ k.mT * 0.5, -1) @ v,
    "hidden": lambda q, k, v: torch.softmax(
        torch.where(HIDDEN, torch.tensor(float("-inf"), dtype=q.dtype), q @ k.mT), -1) @ v,
    "shown": lambda q, k, v: torch.softmax(
        torch.where(~HIDDEN, q @ k.mT, torch.tensor(float("-inf"), dtype=q.dtype)), -1) @ v,
    "function": torch.nn.functional.scaled_dot_product_attention,
    "causal": lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=True),
}  # fmt: skip


def count(f: torsh_fx.CompiledModule, *classes: type) -> int:
    return sum(isinstance(op, classes) for op in f.optimised.walk())


def near(function: Callable[..., torch.Tensor], f: Any, *args: torch.Tensor) -> None:
    exact = function(*(a.double() if a.is_floating_point() else a for a in args))
    ours, theirs = f(*args).double(), function(*args).double()
    scale = exact.abs().max()
    assert (ours - exact).abs().max() <= max(4 * (theirs - exact).abs().max(), 2e-6 * scale)


@pytest.mark.parametrize("form", FORMS)
def test_attention_reads_the_projection_in_place(form: str) -> None:
    run = projected(4, FORMS[form])
    x = torch.randn(2, 9, 3 * 4 * 5, generator=torch.Generator().manual_seed(1))
    f = torsh_fx.compile(Function(run), (x,))
    near(run, f, x)
    found = [op for op in f.optimised.walk() if isinstance(op, StridedAttentionOp)]
    assert len(found) == 1
    for op in found:
        assert op.q is op.k is op.v
        assert op.rows_first is not None


def test_the_same_without_the_rewrite() -> None:
    run = projected(4, FORMS["divided"])
    x = torch.randn(2, 9, 60)
    f = torsh_fx.compile(
        Function(run), (x,), settings=Settings(disabled_rewrites=frozenset({"recognize"}))
    )
    near(run, f, x)
    assert count(f, StridedAttentionOp) == 0


def test_a_batched_product_of_rank_three() -> None:
    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)

    q, k, v = torch.randn(6, 3, 8), torch.randn(6, 150, 8), torch.randn(6, 150, 5)
    f = torsh_fx.compile(Function(run), (q, k, v))
    near(run, f, q, k, v)
    assert count(f, StridedAttentionOp) == 1


def test_a_row_that_sees_nothing_is_nan_where_a_softmax_says_so() -> None:
    def run(q: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ q.mT + mask, -1) @ q

    q, mask = torch.randn(1, 2, 3, 4), torch.zeros(3, 3)
    mask[1] = float("-inf")
    f = torsh_fx.compile(Function(run), (q, mask))
    assert count(f, StridedAttentionOp) == 1
    ours = f(q, mask)
    assert ours[:, :, 1].isnan().all()
    assert torch.allclose(ours[:, :, ::2], run(q, mask)[:, :, ::2], atol=1e-6)


def test_lengths_and_batch_are_dynamic() -> None:
    run = projected(4, FORMS["divided"])
    dims = {0: torch.export.Dim("b", max=8), 1: torch.export.Dim("n", max=300)}
    f = torsh_fx.compile(Function(run), (torch.randn(2, 9, 60),), dynamic_shapes=((dims,),))
    assert count(f, StridedAttentionOp) == 1
    for batch, length in ((1, 1), (3, 17), (2, 128), (1, 257)):
        near(run, f, torch.randn(batch, length, 60))


def written_layer_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-3) * scale + bias


def written_rms_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return scale * (x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-3)) - bias


@pytest.mark.parametrize(
    ("written", "op"), [(written_layer_norm, LayerNormOp), (written_rms_norm, RmsNormOp)]
)
def test_norms(written: Callable[..., torch.Tensor], op: type) -> None:
    args = torch.randn(3, 7, 50) + 2, torch.randn(50), torch.randn(50)
    f = torsh_fx.compile(Function(written), args)
    near(written, f, *args)
    assert count(f, op) == 1


@pytest.mark.parametrize("columns", [1, 31, 50, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_code_around_rows(columns: int, dtype: torch.dtype) -> None:
    """What is before and after a softmax or norm is part of its kernel."""

    def run(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        first = torch.softmax(x * 0.5 + y, -1) * z + 1
        return torch.nn.functional.layer_norm(first * first, (columns,), eps=1e-2) - x

    x, y, z = (torch.randn(*s, dtype=dtype) for s in ((4, 3, columns), (3, 1), (4, 1, columns)))
    f = torsh_fx.compile(Function(run), (x, y, z))
    fused = [op for op in f.optimised.walk() if op.name == "torsh.fused"]
    assert len(fused) <= 2
    exact = run(x.double(), y.double(), z.double())
    error = (f(x, y, z).double() - exact).abs().max() / exact.abs().max()
    assert error < (3e-6 if dtype == torch.float32 else 1e-13)


def test_rows_are_the_same_bits_in_any_batch() -> None:
    run = projected(4, FORMS["causal"])
    dims = {0: torch.export.Dim("b", max=8)}
    f = torsh_fx.compile(Function(run), (torch.randn(2, 40, 60),), dynamic_shapes=((dims,),))
    x = torch.randn(5, 40, 60)
    whole = f(x).numpy()
    for row in range(5):
        assert np.array_equal(f(x[row : row + 1]).numpy()[0], whole[row])
