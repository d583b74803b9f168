"""LSTM, GRU and plain recurrent layers, kept whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from torsh_dialect.ops import recurrent
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts
from torsh_fx.importers.torch_ops.random import dropped

ORDERS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
"""Where the dialect's gates stand among torch's: LSTM i o f c in i f c o, GRU z r h in r z h."""


def _reordered(c: NodeBuilder, w: SSAValue, kind: str, hidden: int) -> SSAValue:
    """Torch's weights or biases of one direction in the dialect's order of gates."""
    parts = [c.slice(w, 0, n * hidden, hidden) for n in ORDERS[kind]]
    return c.concat(parts, 0)


def _weights(
    c: NodeBuilder, params: Sequence[SSAValue], kind: str, biased: bool
) -> list[SSAValue | None]:
    """w, r and bias of one layer with a leading axis of directions, from torch's flat list."""
    each = 4 if biased else 2
    hidden = int(str(dims_of(params[1])[1]))
    rows: list[list[SSAValue]] = []
    for start in range(0, len(params), each):
        w, r, *biases = (_reordered(c, p, kind, hidden) for p in params[start : start + each])
        rows.append([w, r, *([c.concat(biases, 0)] if biases else [])])
    stacked: list[SSAValue | None] = [
        c.concat([c.unsqueeze(row[n], 0) for row in rows], 0) for n in range(len(rows[0]))
    ]
    return stacked if biased else [*stacked, None]


def _layers(
    c: NodeBuilder,
    kind: str,
    x: SSAValue,
    states: Sequence[SSAValue],
    params: Sequence[SSAValue],
    options: dict[str, Any],
) -> list[SSAValue]:
    """Runs the layers, with dropout between them in training; the output and the last states."""
    directions, layers = (2 if options["bidirectional"] else 1), options["layers"]
    lacking = rank_of(x) == 2
    if lacking:
        x = c.unsqueeze(x, 0 if options["batch_first"] else 1)
        states = [c.unsqueeze(s, 1) for s in states]
    x = c.transpose(x, [1, 0, 2]) if options["batch_first"] else x
    per_layer = directions * (4 if options["biased"] else 2)
    lasts: list[Sequence[SSAValue]] = []
    for layer in range(layers):
        w, r, bias = _weights(
            c, params[layer * per_layer : (layer + 1) * per_layer], kind, options["biased"]
        )
        first = [c.slice(s, 0, layer * directions, directions) for s in states]
        y, *last = _layer(c, kind, (x, w, r, bias), first, options)
        time, _, batch, hidden = dims_of(y)
        x = c.reshape(c.transpose(y, [0, 2, 1, 3]), [time, batch, hidden * directions])
        if options["train"] and layer < layers - 1:
            x = dropped(c, x, options["dropout"])
        lasts.append(last)
    finals = [c.concat([last[n] for last in lasts], 0) for n in range(len(states))]
    x = c.transpose(x, [1, 0, 2]) if options["batch_first"] else x
    if lacking:
        x = c.squeeze(x, 0 if options["batch_first"] else 1)
        finals = [c.squeeze(f, 1) for f in finals]
    return [x, *finals]


def _layer(
    c: NodeBuilder,
    kind: str,
    weights: Sequence[Any],
    first: Sequence[SSAValue],
    options: dict[str, Any],
) -> Sequence[SSAValue]:
    x, w, r, bias = weights
    hidden = int(str(dims_of(r)[2]))
    direction = "bidirectional" if options["bidirectional"] else None
    if kind == "lstm":
        return c.b.all(
            recurrent.LstmOp, x, w, r, bias, None, *first, None, hidden=hidden, direction=direction
        )
    if kind == "gru":
        return c.b.all(
            recurrent.GruOp,
            x,
            w,
            r,
            bias,
            None,
            *first,
            hidden=hidden,
            direction=direction,
            linear_before_reset=True,
        )
    count = 2 if options["bidirectional"] else 1
    return c.b.all(
        recurrent.RnnOp,
        x,
        w,
        r,
        bias,
        None,
        *first,
        hidden=hidden,
        direction=direction,
        activations=[options["activation"]] * count,
    )


def _options(values: Sequence[Any], activation: str = "") -> dict[str, Any]:
    names = ("biased", "layers", "dropout", "train", "bidirectional", "batch_first")
    return {**dict(zip(names, values, strict=True)), "activation": activation}


@converts("lstm.input")
def _lstm(
    c: NodeBuilder,
    x: SSAValue,
    states: Sequence[SSAValue],
    params: Sequence[SSAValue],
    *values: Any,
) -> list[SSAValue]:
    hidden = dims_of(states[0])[-1]
    if len(params) and dims_of(params[1])[1] != hidden:
        raise c.refuse("an LSTM with a projection (proj_size)")
    return _layers(c, "lstm", x, states, params, _options(values))


@converts("gru.input")
def _gru(
    c: NodeBuilder, x: SSAValue, state: SSAValue, params: Sequence[SSAValue], *values: Any
) -> list[SSAValue]:
    return _layers(c, "gru", x, [state], params, _options(values))


@converts("rnn_tanh.input", "rnn_relu.input")
def _rnn(
    c: NodeBuilder, x: SSAValue, state: SSAValue, params: Sequence[SSAValue], *values: Any
) -> list[SSAValue]:
    activation = "Relu" if "relu" in str(c.node.target) else "Tanh"
    return _layers(c, "rnn", x, [state], params, _options(values, activation))
