"""Recurrent layers as single ops while a module is exported.

Torch unrolls LSTM, GRU and RNN over the example's time steps to find the sizes of their results,
which makes the number of steps a constant. Under `WholeRecurrent` each is an op of the library
`torsh` whose result sizes are known at once, so that batch and time can be symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from torsh_fx.importers.torch_ops import CONVERTERS

LIBRARY: Any = cast(Any, torch.library).Library("torsh", "DEF")

OPTIONS = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, "
    "bool bidirectional, bool batch_first"
)

WHOLE = {
    "lstm": ("Tensor[] hx", "(Tensor, Tensor, Tensor)", "aten.lstm.input"),
    "gru": ("Tensor hx", "(Tensor, Tensor)", "aten.gru.input"),
    "rnn_tanh": ("Tensor hx", "(Tensor, Tensor)", "aten.rnn_tanh.input"),
    "rnn_relu": ("Tensor hx", "(Tensor, Tensor)", "aten.rnn_relu.input"),
}
"""By name of torch's function: its first state, its results, and the op whose converter it has."""


def _sizes(
    x: Tensor, hx: Sequence[Tensor] | Tensor, params: Sequence[Tensor], *values: Any
) -> tuple[Tensor, ...]:
    """The results' sizes; an LSTM with a projection has states of two sizes."""
    bidirectional = bool(values[4])
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    width = states[0].shape[-1] * (2 if bidirectional else 1)
    return (x.new_empty((*x.shape[:-1], width)), *(torch.empty_like(s) for s in states))


for _name, (_state, _results, _known) in WHOLE.items():
    LIBRARY.define(
        f"{_name}(Tensor x, {_state}, {OPTIONS}) -> {_results}",
        tags=(torch.Tag.nondeterministic_seeded,),
    )
    cast(Any, torch.library).register_fake(f"torsh::{_name}", _sizes, lib=LIBRARY)
    CONVERTERS[f"torsh.{_name}.default"] = CONVERTERS[_known]


class WholeRecurrent(TorchFunctionMode):
    """Calls the ops of this module where a module calls torch's recurrent functions."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, or the op that stands for it; a packed sequence goes to torch's own."""
        name = getattr(func, "__name__", "")
        packed = len(args) < 4 or not isinstance(args[3], bool)
        if name in WHOLE and not packed and not kwargs:
            return getattr(cast(Any, torch.ops).torsh, name)(*args)
        return func(*args, **(kwargs or {}))
