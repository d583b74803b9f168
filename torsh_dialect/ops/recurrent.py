"""Recurrent layers over time: LSTM, GRU and the simple RNN, with ONNX's conventions."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import (
    I64,
    ArrayAttr,
    BoolAttr,
    Float64Type,
    FloatAttr,
    IntegerAttr,
    StringAttr,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)

from torsh_dialect.attributes import Array, bool_of, dims_attribute, floats_of, strs_of
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim
from torsh_dialect.dtypes import i1, is_float
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.control import LoopOp
from torsh_dialect.ops.recurrent_activations import Activation, activations_of
from torsh_dialect.ops.reference import (
    Real,
    narrow,
    operands_by_value,
    require_equal,
    require_rank,
    wide,
)
from torsh_dialect.ops.shape import AssumeOp
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor

State = tuple[SSAValue, ...]


class Recurrent(Composite):
    """What the recurrent layers share.

    x is [T, B, I]; for each of D directions w is [D, G * H, I], r [D, G * H, H], bias
    [D, 2 * G * H] (of w, then of r), h0 [D, B, H]; `lengths` (i32, [B]) ends each sequence early:
    from there on the outputs are 0 and the state stays. Results are the outputs [T, D, B, H] and
    the last state(s) [D, B, H]. `direction` is forward, reverse or bidirectional; `clip` bounds
    what enters an activation. An op with more operands declares all again: those of a base come
    last.
    """

    GATES: ClassVar[int]
    DEFAULTS: ClassVar[tuple[str, ...]]
    x = operand_def()
    w = operand_def()
    r = operand_def()
    bias = opt_operand_def()
    lengths = opt_operand_def()
    h0 = opt_operand_def()
    hidden = prop_def(IntegerAttr[I64])
    direction = opt_prop_def(StringAttr)
    activations = opt_prop_def(ArrayAttr[StringAttr])
    alphas = opt_prop_def(Attribute)
    betas = opt_prop_def(Attribute)
    clip = opt_prop_def(FloatAttr[Float64Type])
    y = result_def()
    h = result_def()

    def directions(self) -> tuple[bool, ...]:
        """For each direction, whether it runs backwards in time."""
        name = self.direction.data if self.direction is not None else "forward"
        known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
        if name not in known:
            raise ShapeError(f"direction is {name!r}, expected one of {', '.join(known)}")
        return known[name]

    def functions(self, number: int) -> list[Activation]:
        """The activations of direction `number`."""
        names = strs_of(self.activations) if self.activations else self.DEFAULTS * 2
        alphas = floats_of(self.alphas) if self.alphas is not None else ()
        betas = floats_of(self.betas) if self.betas is not None else ()
        count = len(self.DEFAULTS)
        return activations_of(names, alphas, betas)[number * count : (number + 1) * count]

    def initial(self) -> list[SSAValue | None]:
        """The first states, where they are given."""
        return [self.h0]

    def more(self, hidden: int) -> list[tuple[str, SSAValue | None, tuple[Dim, ...]]]:
        """Further operands with their extents."""
        return []

    def infer(self) -> Sequence[AnyTensor]:
        if not is_float(element_type(self.x)):
            raise ShapeError(f"x has element type {element_type(self.x)}, expected a float (C1)")
        for what, value in (("x", self.x), ("w", self.w), ("r", self.r)):
            require_rank(f"{what} (C1)", rank_of(value), 3)
        hidden, count = self.hidden.value.data, len(self.directions())
        (time, batch, size), w, r = map(dims_of, (self.x, self.w, self.r))
        require_equal("directions and the first extent of w (C1)", w[0], count)
        require_equal("gates * hidden and the second extent of w (C1)", w[1], self.GATES * hidden)
        require_equal("input size and the third extent of w (C1)", w[2], size)
        require_equal("gates * hidden and the second extent of r (C1)", r[1], self.GATES * hidden)
        require_equal("hidden size and the third extent of r (C1)", r[2], hidden)
        given = [("bias", self.bias, (count, 2 * self.GATES * hidden)), *self.more(hidden)]
        given += [("a first state", v, (count, batch, hidden)) for v in self.initial()]
        given += [("lengths", self.lengths, (batch,))]
        for what, value, dims in given:
            if value is not None:
                require_rank(f"{what} (C1)", rank_of(value), len(dims))
                for axis, (own, expected) in enumerate(zip(dims_of(value), dims, strict=True)):
                    require_equal(f"extent {axis} of {what} (C1)", own, expected)
        element, states = element_type(self.x), len(self.initial())
        last = tensor(element, (count, batch, hidden))
        return [tensor(element, (time, count, batch, hidden)), *[last] * states]

    # -- reference

    @abc.abstractmethod
    def step(
        self, gates: Real, r: Real, rb: Real, state: list[Real], f: list[Activation], p: Real | None
    ) -> list[Real]:
        """The next states from the input's share of the gates and the states before."""

    def evaluate(self, *args: Array) -> Sequence[Array]:
        at = operands_by_value(self, args)
        x, w, r = (wide(at(v)) for v in (self.x, self.w, self.r))
        time, batch, hidden = x.shape[0], x.shape[1], r.shape[2]
        lengths = at(self.lengths)
        lengths = np.full(batch, time) if lengths is None else lengths
        y = np.zeros((time, w.shape[0], batch, hidden), x.dtype)
        last: list[list[Real]] = []
        for d, backward in enumerate(self.directions()):
            both = np.zeros(2 * w.shape[1], x.dtype)
            if self.bias is not None:
                both = wide(at(self.bias))[d]
            wb, rb = np.split(both, 2)
            state = [
                np.zeros((batch, hidden), x.dtype) if v is None else wide(at(v))[d]
                for v in self.initial()
            ]
            peephole = self.peephole_of(at, d)
            for t in range(time)[:: -1 if backward else 1]:
                gates = x[t] @ w[d].T + wb
                new = self.step(gates, r[d], rb, state, self.functions(d), peephole)
                live = (t < lengths)[:, None]
                state = [np.where(live, n, o) for n, o in zip(new, state, strict=True)]
                y[t, d] = np.where(live, new[0], 0)
            last.append(state)
        finals = [np.stack(states) for states in zip(*last, strict=True)]
        return [narrow(array, args[0]) for array in (y, *finals)]

    def peephole_of(self, at: Callable[[SSAValue | None], Array | None], d: int) -> Real | None:
        """The peephole weights of direction `d`; only an LSTM has them."""
        return None

    def clipped(self, x: Real) -> Real:
        """`x` within the bounds of `clip`."""
        return x if self.clip is None else np.clip(x, -self.clip.value.data, self.clip.value.data)

    # -- expansion

    @abc.abstractmethod
    def cell(
        self, c: Compose, gates: SSAValue, r: SSAValue, rb: SSAValue | None, state: State,
        f: list[Activation], p: SSAValue | None,
    ) -> State:  # fmt: skip
        """`step` in torsh ops."""

    def bounded(self, c: Compose, x: SSAValue) -> SSAValue:
        """`clipped` in torsh ops."""
        if self.clip is None:
            return x
        bound = self.clip.value.data
        return c.minimum(c.maximum(x, -bound), bound)

    def peepholes(self, c: Compose, d: int) -> SSAValue | None:
        """`peephole_of` in torsh ops."""
        return None

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        c = Compose(b)
        runs = [self._run(c, d, back) for d, back in enumerate(self.directions())]
        time, batch, _ = dims_of(self.x)
        hidden = self.hidden.value.data
        ys = [c.reshape(run[0], (time, 1, batch, hidden)) for run in runs]
        finals = [
            c.concat([c.reshape(run[1 + n], (1, batch, hidden)) for run in runs], 0)
            for n in range(len(self.initial()))
        ]
        return [c.narrow(v, self.x) for v in (c.concat(ys, 1), *finals)]

    def _of(self, c: Compose, value: SSAValue, d: int) -> SSAValue:
        part = c.slice(c.wide(value), 0, d, 1)
        return c.reshape(part, dims_of(value)[1:])

    def _start(self, c: Compose, value: SSAValue, d: int) -> SSAValue:
        """An initial state of x's batch and the layer's width, which the run checks if need be."""
        state, wanted = self._of(c, value, d), (dims_of(self.x)[1], self.hidden.value.data)
        if dims_of(state) == wanted:
            return state
        for own, extent in zip(dims_of(state), wanted, strict=True):
            if own != extent:
                left, right = dims_attribute([own]), dims_attribute([extent])
                state = c.b(AssumeOp, state, left=left, relation="eq", right=right)
        return c.reshape(state, wanted)

    def _run(self, c: Compose, d: int, backward: bool) -> list[SSAValue]:
        time, batch, _ = dims_of(self.x)
        hidden = self.hidden.value.data
        wb, rb = None, None
        if self.bias is not None:
            both, width = self._of(c, self.bias, d), self.GATES * hidden
            wb, rb = c.slice(both, 0, 0, width), c.slice(both, 0, width, width)
        gates = c.linear(c.wide(self.x), self._of(c, self.w, d), wb)
        r, p = self._of(c, self.r, d), self.peepholes(c, d)
        zero = c.broadcast(c.like(0.0, gates), (batch, hidden))
        first = [zero if v is None else self._start(c, v, d) for v in self.initial()]

        def body(inner: BlockBuilder, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
            k = Compose(inner)
            t = k.sub(k.sub(k.dim(time), 1), args[0]) if backward else args[0]
            mine = k.reshape(k.take(gates, t, 0), (batch, self.GATES * hidden))
            state = self.cell(k, mine, r, rb, tuple(args[1:]), self.functions(d), p)
            y = state[0]
            if self.lengths is not None:
                live = k.lt(t, k.cast_like(self.lengths, t))
                live = k.reshape(live, (batch, 1))
                y = k.where(live, y, k.like(0.0, y))
                state = [k.where(live, n, o) for n, o in zip(state, args[1:], strict=True)]
            return [k.constant(True, i1), *state, y]

        results = self._loop(c, time, first, body)
        y = c.flip(results[-1], 0) if backward else results[-1]
        return [y, *results[:-1]]

    def _loop(
        self, c: Compose, time: Dim, first: list[SSAValue],
        body: Callable[[BlockBuilder, Sequence[SSAValue]], Sequence[SSAValue]],
    ) -> Sequence[SSAValue]:  # fmt: skip
        trips = c.dim(time)
        region = c.region([trips.type, *(v.type for v in first)], body)
        return c.loop(LoopOp, trips, c.constant(True, i1), first, region, extent=time, scans=1)


@op
class LstmOp(Recurrent):
    """Long short-term memory; gates are i, o, f, c, activations f, g, h (ONNX `LSTM`).

    i, f = f(x w + h r + p c), c' = f * c + i * g(...), o = f(... + p_o c'), h' = o * h(c'). With
    `input_forget` f = 1 - i. Peephole weights are [D, 3 * H], of i, o, f.

    C1: x [T, B, I], w [D, 4H, I] and r [D, 4H, H] fit, and so do the others.

    %y, %h, %c = torsh.lstm %x, %w, %r {hidden = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0>} : (tensor<3x1x4xf32>, tensor<1x8x4xf32>, tensor<1x8x2xf32>) -> (tensor<3x1x1x2xf32>, tensor<1x1x2xf32>, tensor<1x1x2xf32>)
    """  # noqa: E501

    name = "torsh.lstm"
    x = operand_def()
    w = operand_def()
    r = operand_def()
    bias = opt_operand_def()
    lengths = opt_operand_def()
    h0 = opt_operand_def()
    GATES: ClassVar = 4
    DEFAULTS: ClassVar = ("Sigmoid", "Tanh", "Tanh")
    c0 = opt_operand_def()
    peephole = opt_operand_def()
    input_forget = opt_prop_def(BoolAttr)
    y = result_def()
    h = result_def()
    c = result_def()
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def initial(self) -> list[SSAValue | None]:
        return [self.h0, self.c0]

    def more(self, hidden: int) -> list[tuple[str, SSAValue | None, tuple[Dim, ...]]]:
        return [("peephole", self.peephole, (len(self.directions()), 3 * hidden))]

    def peephole_of(self, at: Callable[[SSAValue | None], Array | None], d: int) -> Real | None:
        array = at(self.peephole)
        return None if array is None else wide(array)[d]

    def peepholes(self, c: Compose, d: int) -> SSAValue | None:
        return None if self.peephole is None else self._of(c, self.peephole, d)

    def step(
        self, gates: Real, r: Real, rb: Real, state: list[Real], f: list[Activation], p: Real | None
    ) -> list[Real]:
        h, c = state
        i, o, forget, new = np.split(gates + h @ r.T + rb, 4, axis=1)
        pi, po, pf = (0, 0, 0) if p is None else np.split(p, 3)
        i = f[0].reference(self.clipped(i + pi * c))
        forget = f[0].reference(self.clipped(forget + pf * c))
        forget = 1 - i if bool_of(self.input_forget) else forget
        c = forget * c + i * f[1].reference(self.clipped(new))
        o = f[0].reference(self.clipped(o + po * c))
        return [o * f[2].reference(c), c]

    def cell(
        self, c: Compose, gates: SSAValue, r: SSAValue, rb: SSAValue | None, state: State,
        f: list[Activation], p: SSAValue | None,
    ) -> State:  # fmt: skip
        hidden = self.hidden.value.data
        old = state[1]
        total = c.add(gates, c.linear(state[0], r, rb))
        parts = [c.slice(total, 1, n * hidden, hidden) for n in range(4)]

        def gate(part: SSAValue, number: int, cell: SSAValue) -> SSAValue:
            if p is not None:
                part = c.add(part, c.mul(c.slice(p, 0, number * hidden, hidden), cell))
            return f[0].expanded(c, self.bounded(c, part))

        i = gate(parts[0], 0, old)
        coupled = bool_of(self.input_forget)
        forget = c.sub(c.like(1.0, i), i) if coupled else gate(parts[2], 2, old)
        candidate = f[1].expanded(c, self.bounded(c, parts[3]))
        new = c.add(c.mul(forget, old), c.mul(i, candidate))
        o = gate(parts[1], 1, new)
        return c.mul(o, f[2].expanded(c, new)), new


@op
class GruOp(Recurrent):
    """Gated recurrent unit; gates are z, r, h, activations f, g (ONNX `GRU`).

    z, r = f(x w + h r), n = g(x w + (r * h) r), or g(x w + r * (h r + b)) with
    `linear_before_reset`; h' = (1 - z) * n + z * h.

    C1: x [T, B, I], w [D, 3H, I] and r [D, 3H, H] fit, and so do the others.

    %y, %h = torsh.gru %x, %w, %r {hidden = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>} : (tensor<3x1x4xf32>, tensor<1x6x4xf32>, tensor<1x6x2xf32>) -> (tensor<3x1x1x2xf32>, tensor<1x1x2xf32>)
    """  # noqa: E501

    name = "torsh.gru"
    GATES: ClassVar = 3
    DEFAULTS: ClassVar = ("Sigmoid", "Tanh")
    linear_before_reset = opt_prop_def(BoolAttr)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def step(
        self, gates: Real, r: Real, rb: Real, state: list[Real], f: list[Activation], p: Real | None
    ) -> list[Real]:
        h = state[0]
        (xz, xr, xn), (rz, rr, rn) = np.split(gates, 3, axis=1), np.split(r, 3)
        bz, br, bn = np.split(rb, 3)
        z = f[0].reference(self.clipped(xz + h @ rz.T + bz))
        reset = f[0].reference(self.clipped(xr + h @ rr.T + br))
        if bool_of(self.linear_before_reset):
            n = f[1].reference(self.clipped(xn + reset * (h @ rn.T + bn)))
        else:
            n = f[1].reference(self.clipped(xn + (reset * h) @ rn.T + bn))
        return [(1 - z) * n + z * h]

    def cell(
        self, c: Compose, gates: SSAValue, r: SSAValue, rb: SSAValue | None, state: State,
        f: list[Activation], p: SSAValue | None,
    ) -> State:  # fmt: skip
        hidden, h = self.hidden.value.data, state[0]
        x = [c.slice(gates, 1, n * hidden, hidden) for n in range(3)]
        biases = [None if rb is None else c.slice(rb, 0, n * hidden, hidden) for n in range(3)]
        rows = [c.slice(r, 0, n * hidden, hidden) for n in range(3)]
        z, reset = (
            f[0].expanded(c, self.bounded(c, c.add(x[n], c.linear(h, rows[n], biases[n]))))
            for n in range(2)
        )
        if bool_of(self.linear_before_reset):
            share = c.mul(reset, c.linear(h, rows[2], biases[2]))
        else:
            share = c.linear(c.mul(reset, h), rows[2], biases[2])
        new = f[1].expanded(c, self.bounded(c, c.add(x[2], share)))
        return (c.add(c.mul(c.sub(c.like(1.0, z), z), new), c.mul(z, h)),)


@op
class RnnOp(Recurrent):
    """Simple recurrent layer: h' = f(x w + h r + b) (ONNX `RNN`).

    C1: x [T, B, I], w [D, H, I] and r [D, H, H] fit, and so do the others.

    %y, %h = torsh.rnn %x, %w, %r {hidden = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>} : (tensor<3x1x4xf32>, tensor<1x2x4xf32>, tensor<1x2x2xf32>) -> (tensor<3x1x1x2xf32>, tensor<1x1x2xf32>)
    """  # noqa: E501

    name = "torsh.rnn"
    GATES: ClassVar = 1
    DEFAULTS: ClassVar = ("Tanh",)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def step(
        self, gates: Real, r: Real, rb: Real, state: list[Real], f: list[Activation], p: Real | None
    ) -> list[Real]:
        return [f[0].reference(self.clipped(gates + state[0] @ r.T + rb))]

    def cell(
        self, c: Compose, gates: SSAValue, r: SSAValue, rb: SSAValue | None, state: State,
        f: list[Activation], p: SSAValue | None,
    ) -> State:  # fmt: skip
        total = c.add(gates, c.linear(state[0], r, rb))
        return (f[0].expanded(c, self.bounded(c, total)),)
