"""LSTM, GRU and simple RNN over a sequence, in one native loop (ONNX semantics).

The products of the inputs, `Z = X W^T + Wb + Rb`, are one matrix product over all steps and are
made before by the GEMM template; this kernel does what is sequential:

    lstm  i, o, f, c' of Z + h R^T (+ peepholes);  c = f c + i c';  h = o tanh(c)
    gru   z, r, h' ;  h = (1 - z) h' + z h
    rnn   h = f(Z + h R^T)

Gates are in ONNX's order: i o f c, z r h. `h R^T` sums in the order of every contraction (K in
blocks of 256 from zero), so an element's bits do not depend on batch, split or other sequences.

Unit of the parallel range: direction x block of sequences. Argument words: 0 Z, 1 packed R
(per direction; `pack_nk` of `[gates * hidden, hidden]`, for GRU of its first two gates), 2 packed
R of GRU's third gate, 3 initial h, 4 initial c, 5 Y, 6 final h, 7 final c, 8 steps T, 9 batch B,
10 lengths (i32, one per sequence), 11 peepholes `[directions, 3 * hidden]` (i o f), 12 recurrent
bias of GRU's third gate `[directions, hidden]`, 13 scratch, 14 to 16 strides of Z (step, sequence,
direction, in elements), 17 to 19 of Y. States are `[directions, B, hidden]`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lowering.cpu.templates.epilogue import load_lanes, mask_of, store_lanes
from lowering.cpu.templates.gemm import contract
from lowering.cpu.templates.microkernel import Tile, opaque_pointers
from lowering.cpu.templates.schedule import Registers, panels_for_rows, register_tile
from lowering.cpu.text import Module, Text, Value
from lowering.math.exponential import expm1, sigmoid, tanh
from lowering.math.logarithm import softplus
from lowering.math.num import Num, where
from lowering.math.text_prim import TextPrim
from torsh_dialect.target import TargetInfo

Cell = Literal["lstm", "gru", "rnn"]
GATES: dict[Cell, int] = {"lstm": 4, "gru": 3, "rnn": 1}
ACTIVATIONS_OF: dict[Cell, int] = {"lstm": 3, "gru": 2, "rnn": 1}


@dataclass(frozen=True)
class Activation:
    """An activation of ONNX's recurrent ops, with its two parameters.

    Attributes:
        name: ONNX's name.
        alpha: First parameter.
        beta: Second parameter.
    """

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def apply(self, x: Num[Value]) -> Num[Value]:
        """The function on one vector."""
        return _ACTIVATIONS[self.name](x, self.alpha, self.beta)


def _clamp(x: Num[Value], lowest: float, highest: float) -> Num[Value]:
    return where(x < lowest, lowest, where(x > highest, highest, x))


_ACTIVATIONS: dict[str, Callable[[Num[Value], float, float], Num[Value]]] = {
    "Sigmoid": lambda x, a, b: sigmoid(x),
    "Tanh": lambda x, a, b: tanh(x),
    "Relu": lambda x, a, b: where(x < 0.0, 0.0, x),
    "Affine": lambda x, a, b: x * a + b,
    "LeakyRelu": lambda x, a, b: where(x < 0.0, x * a, x),
    "ThresholdedRelu": lambda x, a, b: where(x > a, x, 0.0),
    "ScaledTanh": lambda x, a, b: tanh(x * b) * a,
    "HardSigmoid": lambda x, a, b: _clamp(x * a + b, 0.0, 1.0),
    "Elu": lambda x, a, b: where(x < 0.0, expm1(x) * a, x),
    "Softsign": lambda x, a, b: x / (x.abs() + 1.0),
    "Softplus": lambda x, a, b: softplus(x),
}
SIGMOID, TANH = Activation("Sigmoid"), Activation("Tanh")
DEFAULTS: dict[Cell, tuple[Activation, ...]] = {
    "lstm": (SIGMOID, TANH, TANH),
    "gru": (SIGMOID, TANH),
    "rnn": (TANH,),
}


@dataclass(frozen=True)
class RecurrentParams:
    """A recurrent layer.

    Attributes:
        cell: Which cell.
        hidden: Elements of a state.
        reverse: For each direction, whether it runs from a sequence's end to its start.
        activations: For each direction, ONNX's f, g, h (as many as the cell has); None for the
            cell's defaults.
        initial: Whether initial states are given; else they are 0.
        lengths: Whether sequences have lengths; else all have T steps.
        peepholes: LSTM: whether the cell state feeds the gates.
        input_forget: LSTM: whether the forget gate is one minus the input gate.
        linear_before_reset: GRU: whether the reset gate multiplies `h R^T + Rb` instead of `h`.
        clip: If not 0, bound of what enters the gates' activations; the cell state of an LSTM
            is not clipped (ONNX Runtime's reading of the attribute).
    """

    cell: Cell
    hidden: int
    reverse: tuple[bool, ...] = (False,)
    activations: tuple[tuple[Activation, ...], ...] | None = None
    initial: bool = True
    lengths: bool = False
    peepholes: bool = False
    input_forget: bool = False
    linear_before_reset: bool = False
    clip: float = 0.0

    @property
    def gates(self) -> int:
        """Gates of the cell."""
        return GATES[self.cell]

    @property
    def first_gates(self) -> int:
        """Gates whose recurrent product needs only the last state: all, but two of a GRU."""
        return 2 if self.cell == "gru" else self.gates

    def functions(self, direction: int) -> tuple[Activation, ...]:
        """The activations of a direction."""
        return DEFAULTS[self.cell] if self.activations is None else self.activations[direction]


def block_rows(target: TargetInfo) -> int:
    """Sequences of a unit: two register tiles read the packed weights together."""
    return 2 * register_tile(4096, target).rows


def parallel_extent(params: RecurrentParams, target: TargetInfo, batch: int) -> int:
    """Units for `batch` sequences."""
    return len(params.reverse) * -(-batch // block_rows(target))


def flops(params: RecurrentParams, steps: int, batch: int) -> int:
    """Operations of the recurrent products; the cell's own are a small part."""
    return 2 * len(params.reverse) * steps * batch * params.gates * params.hidden**2


def bytes_moved(params: RecurrentParams, steps: int, batch: int) -> int:
    """Bytes of Z, Y and, once per step and direction, of the recurrent weights."""
    width, directions = params.gates * params.hidden, len(params.reverse)
    return 4 * steps * directions * (batch * (width + params.hidden) + width * params.hidden)


@dataclass(frozen=True)
class _Layout:
    """Offsets in f32 elements of the parts of a worker's scratch, and the padded state width."""

    state: int
    cell: int
    gates: int
    reset: int
    size: int
    width: int
    gate_width: int


def _layout(params: RecurrentParams, target: TargetInfo) -> _Layout:
    rows = block_rows(target)
    width = -(-params.hidden // 32) * 32
    gate_width = -(-params.gates * params.hidden // 32) * 32 + 32
    sizes = (rows * width, rows * width, rows * gate_width, rows * width)
    state, cell, gates, reset, size = (sum(sizes[:i]) for i in range(len(sizes) + 1))
    return _Layout(state, cell, gates, reset, size, width, gate_width)


def scratch_bytes(params: RecurrentParams, target: TargetInfo) -> int:
    """Bytes of scratch per worker, to be aligned to 64."""
    return 4 * _layout(params, target).size


def emit(module: Module, name: str, params: RecurrentParams, target: TargetInfo) -> None:
    """Write kernel `name`."""
    _Recurrent(module, name, params, target).write()


@dataclass(frozen=True)
class _Unit:
    """What is being written: direction number (static), first sequence, how many."""

    direction: int
    first: Value
    count: Value


@dataclass(frozen=True)
class _Row:
    """One sequence at one step: where its values lie, and whether the step is one of its own."""

    z: Value
    y: Value
    state: Value
    cell: Value
    gates: Value
    reset: Value
    active: Value


class _Recurrent:
    """Writes one kernel."""

    def __init__(self, module: Module, name: str, params: RecurrentParams, target: TargetInfo):
        self.params, self.target = params, target
        self.layout = _layout(params, target)
        self.lanes = target.lanes(4)
        self.vector = f"<{self.lanes} x float>"
        self.rows = block_rows(target)
        self.text = text = Text(module, name)
        roles = ("z", "r", "rh", "h0", "c0", "y", "hn", "cn")
        self.words = {role: text.argument(i, role=role) for i, role in enumerate(roles)}
        self.steps, self.batch = text.argument(8, "i64", "T"), text.argument(9, "i64", "B")
        for word, role in ((10, "lengths"), (11, "peepholes"), (12, "bias")):
            self.words[role] = text.argument(word, role=role)
        base = text.argument(13, role="scratch")
        self.scratch = text.at(base, text.mul("%worker", self.layout.size))
        self.strides = [text.argument(i, "i64", "stride") for i in range(14, 20)]

    def part(self, offset: int, row: Value, width: int) -> Value:
        """Row `row` of a part of the scratch."""
        return self.text.at(self.scratch, self.text.add(self.text.mul(row, width), offset))

    def write(self) -> None:
        """Write the loop over units; each direction has its own code."""
        text = self.text
        blocks = text.ceildiv(self.batch, self.rows)

        def unit(index: Value, _: list[Value]) -> None:
            which, block = text.udiv(index, blocks), text.urem(index, blocks)
            first = text.mul(block, self.rows)
            count = text.minimum(text.sub(self.batch, first), self.rows)
            for direction in range(len(self.params.reverse)):
                here = text.compare("eq", which, direction)
                text.when(here, lambda d=direction: self.unit(_Unit(d, first, count)))

        text.loop("%lo", "%hi", 1, unit)
        text.finish()

    def unit(self, unit: _Unit) -> None:
        """Write one unit: load the states, run the steps, store the states."""
        text = self.text
        text.loop(0, unit.count, 1, lambda row, _: self.copy_states(unit, row, load=True))

        def step(time: Value, _: list[Value]) -> None:
            first = self.params.first_gates
            self.products(unit, "r", 0, first, self.layout.state)
            text.loop(0, unit.count, 1, lambda row, _: self.early(unit, time, row))
            if self.params.cell == "gru":
                linear = self.params.linear_before_reset
                source = self.layout.state if linear else self.layout.reset
                self.products(unit, "rh", first, 1, source)
                text.loop(0, unit.count, 1, lambda row, _: self.late_gru(unit, time, row))

        text.loop(0, self.steps, 1, step)
        text.loop(0, unit.count, 1, lambda row, _: self.copy_states(unit, row, load=False))

    def columns(self, visit: Callable[[Value, Value | None], None]) -> None:
        """Visit the state's vectors; the last one with a mask."""
        hidden, lanes = self.params.hidden, self.lanes
        whole = hidden // lanes * lanes
        self.text.loop(0, whole, lanes, lambda column, _: visit(column, None))
        if whole < hidden:
            visit(str(whole), mask_of(lanes, hidden - whole))

    def copy_states(self, unit: _Unit, row: Value, load: bool) -> None:
        """Bring one sequence's states into the scratch, or store them as results."""
        text = self.text
        place = text.add(text.mul(self.batch, unit.direction), text.add(unit.first, row))
        offset = text.mul(place, self.params.hidden)
        parts = [("h", self.layout.state)]
        if self.params.cell == "lstm":
            parts.append(("c", self.layout.cell))
        for name, part in parts:
            inside = self.part(part, row, self.layout.width)
            outside = text.at(self.words[f"{name}0" if load else f"{name}n"], offset)

            def move(
                column: Value, mask: Value | None, inside: Value = inside, outside: Value = outside
            ) -> None:
                near, far = text.at(inside, column), text.at(outside, column)
                if not load:
                    value = text.load(self.vector, near)
                    store_lanes(text, self.vector, value, far, mask)
                elif self.params.initial:
                    value = load_lanes(text, self.vector, far, mask)
                    text.store(self.vector, value, near)
                else:
                    text.store(self.vector, "zeroinitializer", near)

            self.columns(move)

    # -- recurrent products

    def products(self, unit: _Unit, word: str, gate: int, gates: int, source: int) -> None:
        """Write `gates = source R^T` for the sequences of a unit, tile by tile."""
        text, hidden = self.text, self.params.hidden
        registers = register_tile(gates * hidden, self.target)
        packed = -(-gates * hidden // registers.width) * registers.width * hidden
        weights = text.at(self.words[word], packed * unit.direction)
        first: Value = "0"
        for size in dict.fromkeys((registers.rows, -(-registers.rows // 2), 1)):
            rest = text.sub(unit.count, first)
            end = text.add(first, text.mul(text.udiv(rest, size), size))

            def tile(row: Value, _: list[Value], size: int = size) -> None:
                rows = [self.part(source, text.add(row, i), self.layout.width) for i in range(size)]
                self.tile(registers, weights, opaque_pointers(text, rows), row, gate, gates)

            text.loop(first, end, size, tile)
            first = end

    def tile(
        self,
        registers: Registers,
        weights: Value,
        rows: Sequence[Value],
        row: Value,
        gate: int,
        gates: int,
    ) -> None:
        """Write the product of one row tile with all panels."""
        text, hidden, width = self.text, self.params.hidden, registers.width
        panels = -(-gates * hidden // width)

        def panel(index: Value, span: int) -> None:
            first = text.at(weights, text.mul(index, width * hidden))
            starts = [text.at(first, i * width * hidden) for i in range(span)]
            tile = Tile(registers, len(rows), span * registers.vectors)
            values = contract(text, tile, list(rows), starts, hidden)
            for number, value in enumerate(values):
                i, vector = divmod(number, tile.vectors)
                line = self.part(self.layout.gates, text.add(row, i), self.layout.gate_width)
                column = text.add(text.mul(index, width), vector * registers.lanes)
                text.store(self.vector, value, text.at(line, text.add(column, gate * hidden)))

        span = min(panels_for_rows(registers, len(rows)), panels)
        whole = panels // span * span
        text.loop(0, whole, span, lambda index, _: panel(index, span))
        text.loop(whole, panels, 1, lambda index, _: panel(index, 1))

    # -- cells

    def row(self, unit: _Unit, time: Value, row: Value) -> _Row:
        """Where sequence `row` of the unit reads and writes at loop step `time`.

        Steps beyond a sequence's length visit the rest of Y, which becomes 0.
        """
        text, layout = self.text, self.layout
        sequence = text.add(unit.first, row)
        length = self.steps
        if self.params.lengths:
            stored = text.load("i32", text.at(self.words["lengths"], sequence, "i32"))
            length = text.let(f"sext i32 {stored} to i64", "length")
        active = text.compare("slt", time, length)
        position = time
        if self.params.reverse[unit.direction]:
            position = text.choose(active, text.sub(text.sub(length, 1), time), time)

        def place(word: str, first: int) -> Value:
            offset = text.mul(position, self.strides[first])
            offset = text.add(offset, text.mul(sequence, self.strides[first + 1]))
            offset = text.add(offset, text.mul(self.strides[first + 2], unit.direction))
            return text.at(self.words[word], offset)

        return _Row(
            place("z", 0),
            place("y", 3),
            self.part(layout.state, row, layout.width),
            self.part(layout.cell, row, layout.width),
            self.part(layout.gates, row, layout.gate_width),
            self.part(layout.reset, row, layout.width),
            active,
        )

    def early(self, unit: _Unit, time: Value, number: Value) -> None:
        """Write what follows the first product: whole cells of LSTM and RNN, two gates of GRU."""
        row = self.row(unit, time, number)
        cell = {"lstm": self.lstm, "rnn": self.rnn, "gru": self.early_gru}[self.params.cell]
        self.columns(lambda column, mask: cell(unit, row, column, mask))

    def load(self, base: Value, column: Value, mask: Value | None = None) -> Num[Value]:
        """A vector of the state's width."""
        value = load_lanes(self.text, self.vector, self.text.at(base, column), mask)
        return TextPrim(self.text, self.lanes).num("f32", value)

    def gate(self, row: _Row, number: int, column: Value, mask: Value | None) -> Num[Value]:
        """`Z + h R^T` of one gate."""
        place = self.text.add(column, number * self.params.hidden)
        return self.load(row.z, place, mask) + self.load(row.gates, place)

    def activate(self, unit: _Unit, which: int, x: Num[Value]) -> Num[Value]:
        """Clip and apply activation number `which` of the direction."""
        clip = self.params.clip
        return self.params.functions(unit.direction)[which].apply(
            _clamp(x, -clip, clip) if clip else x
        )

    def keep(
        self, row: _Row, part: Value, column: Value, new: Num[Value], old: Num[Value]
    ) -> Num[Value]:
        """Store a state, the old one where the step is not the sequence's own."""
        value = new
        if self.params.lengths:
            chosen = self.text.let(
                f"select i1 {row.active}, {self.vector} {new.value}, {self.vector} {old.value}"
            )
            value = TextPrim(self.text, self.lanes).num("f32", chosen)
        self.text.store(self.vector, value.value, self.text.at(part, column))
        return value

    def output(self, row: _Row, column: Value, mask: Value | None, h: Num[Value]) -> None:
        """Store to Y: 0 beyond the sequence's length."""
        value = h.value
        if self.params.lengths:
            value = self.text.let(
                f"select i1 {row.active}, {self.vector} {value}, {self.vector} zeroinitializer"
            )
        store_lanes(self.text, self.vector, value, self.text.at(row.y, column), mask)

    def lstm(self, unit: _Unit, row: _Row, column: Value, mask: Value | None) -> None:
        """One vector of an LSTM cell."""
        text, params = self.text, self.params
        i, o, f, c = (self.gate(row, k, column, mask) for k in range(4))
        before, state = self.load(row.cell, column), self.load(row.state, column)

        def peephole(k: int) -> Num[Value]:
            start = (3 * unit.direction + k) * params.hidden
            return self.load(self.words["peepholes"], text.add(column, start), mask)

        if params.peepholes:
            i, f = i + peephole(0) * before, f + peephole(2) * before
        i = self.activate(unit, 0, i)
        f = 1.0 - i if params.input_forget else self.activate(unit, 0, f)
        now = f * before + i * self.activate(unit, 1, c)
        if params.peepholes:
            o = o + peephole(1) * now
        h = self.activate(unit, 0, o) * params.functions(unit.direction)[2].apply(now)
        self.keep(row, row.cell, column, now, before)
        self.output(row, column, mask, self.keep(row, row.state, column, h, state))

    def rnn(self, unit: _Unit, row: _Row, column: Value, mask: Value | None) -> None:
        """One vector of a simple cell."""
        h = self.activate(unit, 0, self.gate(row, 0, column, mask))
        state = self.load(row.state, column)
        self.output(row, column, mask, self.keep(row, row.state, column, h, state))

    def early_gru(self, unit: _Unit, row: _Row, column: Value, mask: Value | None) -> None:
        """Update and reset gates of one vector: z stays in the gates, r (or r h) in `reset`."""
        text = self.text
        z = self.activate(unit, 0, self.gate(row, 0, column, mask))
        r = self.activate(unit, 0, self.gate(row, 1, column, mask))
        if not self.params.linear_before_reset:
            r = r * self.load(row.state, column)
        store_lanes(text, self.vector, z.value, text.at(row.gates, column), mask)
        text.store(self.vector, r.value, text.at(row.reset, column))

    def late_gru(self, unit: _Unit, time: Value, number: Value) -> None:
        """Write what follows GRU's second product."""
        text, params = self.text, self.params
        row = self.row(unit, time, number)

        def vector(column: Value, mask: Value | None) -> None:
            place = text.add(column, 2 * params.hidden)
            product = self.load(row.gates, place)
            if params.linear_before_reset:
                offset = text.add(column, unit.direction * params.hidden)
                bias = self.load(self.words["bias"], offset, mask)
                product = self.load(row.reset, column) * (product + bias)
            candidate = self.activate(unit, 1, self.load(row.z, place, mask) + product)
            z, state = self.load(row.gates, column), self.load(row.state, column)
            h = (1.0 - z) * candidate + z * state
            self.output(row, column, mask, self.keep(row, row.state, column, h, state))

        self.columns(vector)
