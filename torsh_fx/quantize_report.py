"""Float and quantised programs side by side: what each layer and output is off by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from xdsl.dialects.builtin import FunctionType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import BlockArgument, SSAValue

from lowering.runtime.executable import RunOptions
from torsh_dialect.attributes import Array
from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError
from torsh_fx.compilation import compile_imported
from torsh_fx.compiled import first_state
from torsh_fx.importers.model import ImportedModel, set_names
from torsh_fx.quantize_layers import layers_of, main_of


@dataclass(frozen=True)
class LayerRow:
    """One layer or output.

    Attributes:
        name: The layer's weight, or the output.
        kind: `conv`, `linear`, `matmul` or `output`.
        bits: Of its weights; 0 where it stayed in floats.
        sqnr: Signal to quantisation noise of its result in dB; infinite where it is the same, NaN
            where it was not measured.
        max_error: Largest difference of its result.
        scale: Largest magnitude of its result.
    """

    name: str
    kind: str
    bits: int
    sqnr: float = math.nan
    max_error: float = math.nan
    scale: float = math.nan


@dataclass(frozen=True)
class QuantizeReport:
    """Accuracy by layer and output, and the weights' size.

    Attributes:
        layers: All layers in order.
        outputs: The model's outputs.
        calls: How many calls were compared.
        float_bytes: Bytes of the weights before.
        quantised_bytes: Bytes after; two 4-bit weights share a byte once they are packed.
    """

    layers: tuple[LayerRow, ...]
    outputs: tuple[LayerRow, ...]
    calls: int
    float_bytes: int
    quantised_bytes: int

    def rows(self) -> list[list[str]]:
        """The report as rows of text under a header."""
        header = ["layer", "kind", "bits", "SQNR dB", "max error", "of scale"]
        return [header, *map(_cells, (*self.layers, *self.outputs))]

    def table(self) -> str:
        """The report as aligned text."""
        rows = self.rows()
        widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
        return "\n".join([*(line.rstrip() for line in lines), self.summary()])

    def summary(self) -> str:
        """Sizes, and how much was compared, in a line."""
        part = self.quantised_bytes / max(1, self.float_bytes)
        return (
            f"weights: {self.float_bytes} -> {self.quantised_bytes} bytes ({part:.0%}); "
            f"calls compared: {self.calls}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON; what was not measured or is infinite is None."""

        def row(one: LayerRow) -> dict[str, Any]:
            values = asdict(one)
            return {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in values.items()
            }

        return {
            "layers": [row(one) for one in self.layers],
            "outputs": [row(one) for one in self.outputs],
            "calls": self.calls,
            "float_bytes": self.float_bytes,
            "quantised_bytes": self.quantised_bytes,
        }


def _cells(row: LayerRow) -> list[str]:
    bits = str(row.bits) if row.bits else "float" if row.kind != "output" else ""
    if math.isnan(row.sqnr):
        return [row.name, row.kind, bits, "", "", ""]
    relative = row.max_error / row.scale if row.scale else 0.0
    return [
        row.name, row.kind, bits, f"{row.sqnr:.1f}", f"{row.max_error:.3g}", f"{relative:.2%}"
    ]  # fmt: skip


@dataclass
class _Difference:
    """Sums over calls, in f64."""

    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    scale: float = 0.0

    def add(self, reference: Array, actual: Array) -> None:
        wide: Any = reference.astype(np.float64)
        off: Any = actual.astype(np.float64) - wide
        self.signal += float((wide**2).sum())
        self.noise += float((off**2).sum())
        self.largest = max(self.largest, float(np.abs(off).max(initial=0)))
        self.scale = max(self.scale, float(np.abs(wide).max(initial=0)))

    def row(self, row: LayerRow) -> LayerRow:
        ratio = self.signal / self.noise if self.noise else math.inf
        sqnr = 10 * math.log10(ratio) if ratio else -math.inf
        return replace(row, sqnr=sqnr, max_error=self.largest, scale=self.scale)


def inputs_in_order(model: ImportedModel, call: Sequence[Array] | Mapping[str, Array]):
    """The inputs of a call in order, with the first values of the model's state behind them.

    Raises:
        InvalidArgumentError: There are others than the model has.
    """
    hidden = {state.input for state in model.state}
    names = [name for n, name in enumerate(model.inputs) if n not in hidden]
    given = call if isinstance(call, Mapping) else dict(zip(names, call, strict=False))
    if set(given) != set(names) or len(call) != len(names):
        raise InvalidArgumentError(
            f"calibration inputs are {sorted(given)}, the model has {', '.join(names)}"
        )
    return [np.asarray(given[name]) for name in names] + first_state(model.interface, model.weights)


@dataclass
class _Probe:
    """A program that also gives some values of `@main`."""

    model: ImportedModel
    names: list[str] = field(default_factory=list[str])
    arguments: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, function: FuncOp, values: Mapping[str, SSAValue]) -> None:
        last = function.body.block.last_op
        assert isinstance(last, ReturnOp)
        returned = list(last.operands)
        for name, value in values.items():
            if isinstance(value, BlockArgument):
                self.arguments[name] = value.index
            else:
                returned.append(value)
                self.names.append(name)
        last.operands = returned
        inputs = list(function.function_type.inputs)
        function.function_type = FunctionType.from_lists(inputs, [v.type for v in returned])

    def run(self, ctx: Context, inputs: Sequence[Sequence[Array]]):
        """The named values and the outputs of each call."""
        count = len(self.model.outputs)
        outputs = (*self.model.outputs, *(f"probe.{n}" for n in range(len(self.names))))
        set_names(main_of(self.model.module), self.model.inputs, outputs)
        watched = replace(self.model, outputs=outputs, state=())
        compiled = compile_imported(watched, ctx, RunOptions(None))
        for call in inputs:
            found = compiled.run(list(call))
            values = dict(zip(self.names, found[count:], strict=True))
            values |= {name: call[index] for name, index in self.arguments.items()}
            yield values, found[:count]


def _probe(model: ImportedModel, names: Sequence[str], *, results: bool) -> _Probe:
    """A probe of the layers' results, or of the activations that they get.

    A quantised program has the same layers in the same order.
    """
    copy = replace(model, module=model.module.clone())
    layers = layers_of(copy.module)
    values = [x.op.results[0] if results else x.op.operands[0] for x in layers]
    probe = _Probe(copy)
    probe.add(main_of(copy.module), dict(zip(names, values, strict=True)))
    return probe


def layer_inputs(
    model: ImportedModel, ctx: Context, inputs: Sequence[Sequence[Array]]
) -> dict[str, list[Array]]:
    """The activations that layers of the float program get, by layer, one array a call."""
    names = [layer.name for layer in layers_of(model.module)]
    found: dict[str, list[Array]] = {name: [] for name in names}
    for values, _ in _probe(model, names, results=False).run(ctx, inputs):
        for name, array in values.items():
            found[name].append(array)
    return found


def compare(
    floats: ImportedModel,
    quantised: ImportedModel,
    ctx: Context,
    inputs: Sequence[Sequence[Array]],
    rows: Sequence[LayerRow],
) -> QuantizeReport:
    """Run both programs on the same inputs; without inputs only sizes are reported."""
    outputs = [LayerRow(name, "output", 0) for name in floats.outputs]
    differences = {row.name: _Difference() for row in (*rows, *outputs)}
    names = [row.name for row in rows]
    both = [_probe(m, names, results=True).run(ctx, inputs) for m in (floats, quantised)]
    for (ours, results), (theirs, others) in zip(*both, strict=True) if inputs else ():
        for name, array in ours.items():
            differences[name].add(array, theirs[name])
        for name, a, b in zip(floats.outputs, results, others, strict=True):
            differences[name].add(a, b)
    measured = [differences[row.name].row(row) if inputs else row for row in (*rows, *outputs)]
    return QuantizeReport(
        tuple(measured[: len(rows)]), tuple(measured[len(rows) :]), len(inputs),
        _bytes(floats), _bytes(quantised),
    )  # fmt: skip


def _bytes(model: ImportedModel) -> int:
    """Bytes of the weights, 4-bit ones two to a byte."""
    return sum(
        array.size // 2 if array.dtype.name == "int4" else array.nbytes
        for array in model.weights.values()
    )
