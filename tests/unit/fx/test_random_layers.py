"""Dropout inside layers: eager torch's masks with the same seed (`mt19937`)."""

import pytest
import torch
from torch_oracle import Function

import torsh_fx
from torsh_dialect.errors import InvalidArgumentError, UnsupportedError

pytestmark = pytest.mark.usefixtures("twister_drops")

MATH = torch.ops.aten._scaled_dot_product_attention_math
attend = torch.nn.functional.scaled_dot_product_attention


def flat(value):
    return [t for v in value for t in flat(v)] if isinstance(value, tuple | list) else [value]


def close(model, *inputs, units=16.0):
    """Two calls in a row; a mask of other draws would be wrong by far more than rounding."""
    compiled = torsh_fx.compile(model, inputs, random="mt19937")
    compiled.seed(6)
    torch.manual_seed(6)
    for _ in range(2):
        for wanted, found in zip(flat(model(*inputs)), flat(compiled(*inputs)), strict=True):
            unit = units * torch.finfo(wanted.dtype).eps
            torch.testing.assert_close(found, wanted.detach(), rtol=unit, atol=unit)


def numbers(*dims):
    return torch.rand(dims, generator=torch.Generator().manual_seed(2)) - 0.5


# -- recurrent layers


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_dropout_between_layers_is_torchs(kind):
    """Between three layers, and not behind the last one: the draw that follows is torch's too."""
    torch.manual_seed(0)
    layers = [
        getattr(torch.nn, kind)(3, 5, 3, dropout=0.4, **options).train()
        for options in ({"bidirectional": True}, {"batch_first": True, "bias": False})
    ]
    close(Function(lambda x: ([layer(x) for layer in layers], torch.rand(3))), numbers(4, 2, 3))


def test_one_program_draws_for_all_lengths_and_batches():
    torch.manual_seed(0)
    layer = torch.nn.GRU(3, 5, 2, dropout=0.4).train()
    model = Function(lambda x: layer(x)[0])
    time, batch = (torch.export.Dim(name, max=99) for name in ("time", "batch"))
    compiled = torsh_fx.compile(
        model, (numbers(4, 2, 3),), dynamic_shapes=(({0: time, 1: batch},),), random="mt19937"
    )
    compiled.seed(1)
    torch.manual_seed(1)
    for dims in ((4, 2, 3), (7, 1, 3), (1, 9, 3)):
        x = numbers(*dims)
        torch.testing.assert_close(compiled(x), layer(x)[0].detach())


def test_a_layer_in_training_that_nothing_uses_draws():
    layer = torch.nn.LSTM(3, 5, 2, dropout=0.4).train()
    close(Function(lambda x: (layer(x), torch.rand(3))[1]), numbers(4, 2, 3), units=0)


# -- attention

Q, K, V = numbers(2, 4, 5, 8), numbers(2, 4, 7, 8) + 0.1, numbers(2, 4, 7, 6)
SEEN = torch.arange(35).reshape(5, 7) % 3 > 0

ATTENTIONS = {
    "plain": lambda q, k, v: attend(q, k, v, dropout_p=0.3),
    "causal": lambda q, k, v: attend(q, k, v, dropout_p=0.3, is_causal=True),
    "mask": lambda q, k, v: attend(q, k, v, dropout_p=0.3, attn_mask=SEEN),
    "bias": lambda q, k, v: attend(q, k, v, dropout_p=0.3, attn_mask=SEEN * 0.3, scale=0.7),
    "groups": lambda q, k, v: attend(q, k[:, :2], v[:, :2], dropout_p=0.3, enable_gqa=True),
    "one sequence": lambda q, k, v: attend(q[0, 0], k[0, 0], v[0, 0], dropout_p=0.3),
    "all": lambda q, k, v: attend(q, k, v, dropout_p=1.0),
    "weights": lambda q, k, v: MATH(q, k, v, None, 0.3),
}


def test_dropout_of_attention_is_torchs():
    """One behind the other, so that each draws as often as torch."""
    close(Function(lambda *x: [attention(*x) for attention in ATTENTIONS.values()]), Q, K, V)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_dropout_of_attention_in_other_types(dtype):
    close(
        Function(lambda *x: (attend(*x, dropout_p=0.25), torch.rand(2))),
        *(x.to(dtype) for x in (Q, K, V)),
    )


def test_a_given_mask_of_dropout_draws_nothing():
    kept = numbers(2, 4, 5, 7) > 0
    compiled = torsh_fx.compile(Function(lambda *x: MATH(*x[:3], None, 0.3, False, x[3])),
                                (Q, K, V, kept))  # fmt: skip
    for found, wanted in zip(
        compiled(Q, K, V, kept), MATH(Q, K, V, None, 0.3, False, kept), strict=True
    ):
        torch.testing.assert_close(found, wanted)
    with pytest.raises(InvalidArgumentError, match="draws no random numbers"):
        compiled.seed(1)


@pytest.mark.parametrize("groups", [1, 2])
def test_attention_of_five_axes_with_groups_of_heads(groups):
    close_to = attend(Q[None], K[None, :, ::groups], V[None, :, ::groups], enable_gqa=True)
    compiled = torsh_fx.compile(
        Function(lambda q, k, v: attend(q, k, v, enable_gqa=True)),
        (Q[None], K[None, :, ::groups], V[None, :, ::groups]),
    )
    found = compiled(Q[None], K[None, :, ::groups], V[None, :, ::groups])
    torch.testing.assert_close(found, close_to)


@pytest.mark.parametrize("weights", [True, False])
def test_multi_head_attention_in_training(weights):
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(8, 2, dropout=0.3).train()
    close(Function(lambda x: [y for y in layer(x, x, x, need_weights=weights) if y is not None]),
          numbers(5, 3, 8))  # fmt: skip


def test_a_transformer_in_training():
    torch.manual_seed(0)
    layer = torch.nn.Transformer(8, 2, 1, 1, 16, dropout=0.2, batch_first=True).train()
    close(layer, numbers(3, 5, 8), numbers(3, 4, 8), units=64)


def test_attention_with_dropout_in_a_branch():
    def dropped(q, k, v):
        return attend(q, k, v, dropout_p=0.3)

    def plain(q, k, v):
        return attend(q, k, v)

    model = Function(lambda *x: (torch.cond(x[0].sum() > 0, dropped, plain, x), torch.rand(2)))
    close(model, Q, K, V)
    close(model, -Q, K, V)


def test_dropout_that_is_switched_off_makes_no_stream():
    """Branches of a graph in eval mode carry no state."""
    model = Function(lambda *x: torch.cond(
        x[0].sum() > 0, lambda q, k, v: attend(q, k, v),
        lambda q, k, v: torch.nn.functional.dropout(attend(q, k, v), 0.3, False), x,
    ))  # fmt: skip
    compiled = torsh_fx.compile(model, (Q, K, V))
    torch.testing.assert_close(compiled(Q, K, V), attend(Q, K, V))
    with pytest.raises(InvalidArgumentError, match="draws no random numbers"):
        compiled.seed(1)


def test_the_flash_kernel_refuses_dropout_as_torch_does():
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with pytest.raises(RuntimeError, match="Currently do not support dropout") as said:
        flash(Q, K, V, 0.5)
    assert said
    with pytest.raises(UnsupportedError, match="Currently do not support dropout"):
        torsh_fx.compile(Function(lambda *x: flash(*x, 0.5)[0]), (Q, K, V))
