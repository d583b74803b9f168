"""Fused quantised operators of com.microsoft: attention and LSTM by integer products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dtypes import f32, i1
from torsh_dialect.kinds import Builder
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.control import LoopOp
from torsh_dialect.ops.quant import DynamicQuantizeLinearOp, MatMulIntegerOp
from torsh_dialect.ops.recurrent import LstmOp
from torsh_dialect.types import dims_of
from torsh_fx.importers.onnx_ops.contrib_attention import self_attention
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter
from torsh_fx.importers.onnx_ops.quant import zero_point
from torsh_fx.importers.onnx_ops.recurrent import lstm_options


@converter("QAttention", domain=MS)
def qattention(n: Node) -> Sequence[SSAValue | None]:
    """Self-attention whose q, k and v are one product of 8-bit integers."""
    c = n.c
    if n.int("do_rotary", 0):
        raise NotSupported("rotary embedding")
    zeros = (zero_point(n, 6), zero_point(n, 7))
    total = n(MatMulIntegerOp, n.input(0), n.input(1), *zeros)
    packed = c.mul(c.cast(total, f32), c.mul(n.scalar(n.input(3)), _one_or_each(n, 4)))
    return self_attention(n, c.add(packed, n.input(2)), 5, 8, None)


def _one_or_each(n: Node, index: int) -> SSAValue:
    """A scale as a scalar, or with one for each column."""
    value = n.input(index)
    return n.scalar(value) if all(d == 1 for d in dims_of(value)) else value


@dataclass(frozen=True)
class Weights:
    """The matrix of one direction.

    Attributes:
        matrix: [depth, columns] of 8 bits.
        scale: A scalar, or one for each column.
        zero: Likewise; None is 0.
    """

    matrix: SSAValue
    scale: SSAValue
    zero: SSAValue | None

    def product(self, b: Builder, x: SSAValue) -> SSAValue:
        """x, quantised by its range, times the matrix, in f32."""
        c = Compose(b)
        q, scale, zero = b.all(DynamicQuantizeLinearOp, x)
        total = b(MatMulIntegerOp, q, self.matrix, zero, self.zero)
        return c.mul(c.cast(total, f32), c.mul(scale, self.scale))


@dataclass
class QuantisedCompose(Compose):
    """Builds a cell whose recurrent product is one of quantised weights."""

    weights: Weights

    def linear(self, x: SSAValue, w: SSAValue, bias: SSAValue | None) -> SSAValue:
        y = self.weights.product(self.b, x)
        return y if bias is None else self.add(y, bias)


@dataclass
class _Direction:
    """One direction of the layer.

    Attributes:
        n: The node.
        number: Which one.
        backward: Whether time runs backwards.
        cell: Says what a step does; its own operands are not used.
    """

    n: Node
    number: int
    backward: bool
    cell: LstmOp

    def of(self, value: SSAValue) -> SSAValue:
        """The part of an input [directions, ...]."""
        c = self.n.c
        return c.reshape(c.slice(value, 0, self.number, 1), dims_of(value)[1:])

    def weights(self, index: int, first: int) -> Weights:
        """The matrix at input `index`, whose scale and zero point are inputs `first` and after."""
        zero = zero_point(self.n, first + 1)
        if zero is not None and dims_of(zero):
            zero = self.of(zero)
        return Weights(self.of(self.n.input(index)), self.of(self.n.input(first)), zero)

    def turned(self, x: SSAValue) -> SSAValue:
        """What is [time, batch, ...] from the end of each sequence, where time runs backwards."""
        c, lengths = self.n.c, self.n.optional(4)
        if not self.backward or lengths is None:
            return c.flip(x, 0) if self.backward else x
        time, batch, _ = dims_of(x)
        place = c.reshape(c.iota(time), (time, 1, 1))
        ends = c.reshape(c.cast_like(lengths, place), (1, batch, 1))
        index = c.where(c.lt(place, ends), c.sub(c.sub(ends, 1), place), place)
        return c.take_along(x, c.broadcast(index, dims_of(x)), 0)

    def run(self) -> Sequence[SSAValue]:
        """Outputs [time, batch, hidden] and the last states."""
        n, c = self.n, self.n.c
        x, hidden, lengths = n.input(0), self.cell.hidden.value.data, n.optional(4)
        time, batch, _ = dims_of(x)
        gates, recurrent = self.weights(1, 8).product(c.b, x), self.weights(2, 10)
        bias = n.optional(3)
        if bias is not None:
            both = self.of(bias)
            halves = (c.slice(both, 0, i * 4 * hidden, 4 * hidden) for i in (0, 1))
            gates = c.add(gates, c.add(*halves))
        gates = self.turned(gates)
        zeros = c.broadcast(c.constant(0.0, f32), (batch, hidden))
        given = (n.optional(5), n.optional(6))
        first = [zeros if v is None else n.fitted(self.of(v), (batch, hidden)) for v in given]
        peephole = None if n.optional(7) is None else self.of(n.input(7))

        def body(inner: BlockBuilder, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
            k = QuantisedCompose(inner, recurrent)
            t = args[0]
            mine = k.reshape(k.take(gates, t, 0), (batch, 4 * hidden))
            functions, before = self.cell.functions(self.number), tuple(args[1:])
            live = None
            if lengths is not None:
                ends = k.reshape(k.cast_like(lengths, t), (batch, 1))
                live, recent = k.lt(t, ends), k.le(t, ends)
                # a sequence that ended before the last step is 0 there, in the range too
                before = (k.where(recent, args[1], k.like(0.0, args[1])), args[2])
            state = self.cell.cell(k, mine, recurrent.matrix, None, before, functions, peephole)
            y = state[0]
            if live is not None:
                y = k.where(live, y, k.like(0.0, y))
                state = [k.where(live, a, b) for a, b in zip(state, args[1:], strict=True)]
            return [k.constant(True, i1), *state, y]

        trips = c.dim(time)
        region = c.region([trips.type, *(v.type for v in first)], body)
        *states, ys = c.loop(
            LoopOp, trips, c.constant(True, i1), first, region, extent=time, scans=1
        )
        return [self.turned(ys), *states]


@converter("DynamicQuantizeLSTM", domain=MS)
def dynamic_quantize_lstm(n: Node) -> Sequence[SSAValue | None]:
    """LSTM with 8-bit weights [directions, depth, 4 * hidden].

    The input is quantised by its range once, the state of each step by its own over the whole
    batch. (onnxruntime cuts the batch into parts with ranges of their own when several threads
    share a step.)
    """
    c = n.c
    cell = LstmOp.make(*_placeholders(n), **lstm_options(n))
    runs = [_Direction(n, d, back, cell).run() for d, back in enumerate(cell.directions())]
    cell.drop_all_references()
    (time, batch, _), hidden = dims_of(n.input(0)), cell.hidden.value.data
    ys = c.concat([c.reshape(run[0], (time, 1, batch, hidden)) for run in runs], 1)
    states = [c.concat([c.reshape(run[i], (1, batch, hidden)) for run in runs], 0) for i in (1, 2)]
    return [ys, *states]


def _placeholders(n: Node) -> Sequence[SSAValue]:
    """Operands with which the layer's shapes are checked: weights in ONNX's order, as f32."""
    weights = (n.c.transpose(n.c.cast(n.input(i), f32), [0, 2, 1]) for i in (1, 2))
    return [n.input(0), *weights]
