"""LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.recurrent import GruOp, LstmOp, RnnOp
from torsh_dialect.types import dims_of
from torsh_fx.importers.onnx_ops.node import Node, converter

LAYERS: dict[str, type[TensorOp]] = {"LSTM": LstmOp, "GRU": GruOp, "RNN": RnnOp}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Rows of the weights for each hidden number."""


@converter(*LAYERS)
def recurrent(n: Node) -> Sequence[SSAValue | None]:
    """`layout = 1` puts the batch first."""
    x, w, r = (n.input(i) for i in range(3))
    states = [n.optional(5)] + ([n.optional(6)] if n.op_type == "LSTM" else [])
    batch_first = bool(n.int("layout", 0))
    if batch_first:
        x = n.c.transpose(x, [1, 0, 2])
        states = [None if s is None else n.c.transpose(s, [1, 0, 2]) for s in states]
    more = [n.optional(7)] if n.op_type == "LSTM" else []
    hidden = n.int("hidden_size") if n.has("hidden_size") else dims_of(r)[2]
    ways, rows = 1 + (n.str("direction", "forward") == "bidirectional"), GATES[n.op_type] * hidden
    steps, batch, width = dims_of(x)
    if isinstance(dims_of(w)[2], int):  # else the weights would be of an unknown extent
        width = dims_of(w)[2]
    x = n.fitted(x, (steps, batch, width))
    w, r = n.fitted(w, (ways, rows, width)), n.fitted(r, (ways, rows, hidden))
    extents = (ways, batch, hidden)
    states = [None if s is None else n.fitted(s, extents) for s in states]
    operands = (x, w, r, n.optional(3), n.optional(4), *states, *more)
    results = n.all(LAYERS[n.op_type], *operands, hidden=hidden, **_options(n, n.op_type))
    if not batch_first:
        return results
    first = n.c.transpose(results[0], [2, 0, 1, 3])
    return [first, *(n.c.transpose(s, [1, 0, 2]) for s in results[1:])]


def lstm_options(n: Node) -> dict[str, Any]:
    """The properties of an LSTM."""
    return {"hidden": n.int("hidden_size"), **_options(n, "LSTM")}


def _options(n: Node, layer: str) -> dict[str, Any]:
    found: dict[str, Any] = {"direction": n.str("direction", "forward")}
    if n.has("activations"):
        found["activations"] = n.strs("activations")
    for name, key in (("activation_alpha", "alphas"), ("activation_beta", "betas")):
        if n.has(name):
            found[key] = n.floats(name)
    if n.has("clip"):
        found["clip"] = n.float("clip")
    if layer == "LSTM" and n.int("input_forget", 0):
        found["input_forget"] = True
    if layer == "GRU" and n.int("linear_before_reset", 0):
        found["linear_before_reset"] = True
    return found
