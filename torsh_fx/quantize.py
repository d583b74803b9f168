"""Quantising a model: 8-bit layers with ranges from calibration or from each call, or 8- and
4-bit weights alone; and what that costs in accuracy, layer by layer.

    quantised = quantize(model, QuantizeOptions("static"), calibration=[{"x": batch}, ...])
    print(quantised.report.table())
    quantised.save("model-int8.mlir")

The result is an ordinary program with `quantize_linear` and `dequantize_linear` ops, which the
compiler puts on its integer kernels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from torsh_dialect.attributes import Array
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError, UnsupportedError
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.conv import ConvOp
from torsh_dialect.passes.canonicalize import CanonicalizePass
from torsh_dialect.passes.fold_batch_norm import FoldBatchNormPass
from torsh_dialect.weights import WeightStore
from torsh_fx.importers.model import ImportedModel
from torsh_fx.quantize_layers import (
    Layer,
    QuantisedWeight,
    Range,
    array_of,
    by_blocks,
    by_channel,
    depth_of,
    dequantised_weight,
    layers_of,
    quantised_activation,
    range_of,
)
from torsh_fx.quantize_report import (
    LayerRow,
    QuantizeReport,
    compare,
    inputs_in_order,
    layer_inputs,
)
from torsh_fx.sources import import_model

Mode = Literal["static", "dynamic", "weight-only"]
MODES: tuple[Mode, ...] = ("static", "dynamic", "weight-only")
Call = Sequence[Array] | Mapping[str, Array]
NO_LAYERS = "the model has no product or convolution of f32 by weights outside of control flow"


@dataclass(frozen=True)
class QuantizeOptions:
    """How a model is quantised.

    Attributes:
        mode: `static`: activations in 8 bits with ranges from calibration. `dynamic`: the range
            of each call. `weight-only`: 8- or 4-bit weights of matrix products, f32 activations.
        bits: Of weights; 4 in mode `weight-only` only.
        group_size: Weights with one scale, in mode `weight-only`; where it does not divide a
            product's depth, and for 0, there is one scale for each column.
        percentile: Part of calibration values, in percent, that a range holds; 100 for all.
        skip: Names of layers that stay in floats (`*` at the end stands for anything).
        minimum_sqnr: Layers whose result differs by more than this (signal to noise, dB) stay in
            floats; None keeps all quantised. Errors of layers before count.
    """

    mode: Mode = "static"
    bits: int = 8
    group_size: int = 32
    percentile: float = 100.0
    skip: tuple[str, ...] = ()
    minimum_sqnr: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidArgumentError(f"mode {self.mode!r}; use one of {', '.join(MODES)}")
        if self.bits not in (4, 8) or (self.bits == 4 and self.mode != "weight-only"):
            raise InvalidArgumentError(
                f"{self.bits} bits in mode {self.mode!r}; 8 always, 4 with weight-only"
            )
        if self.group_size < 0:
            raise InvalidArgumentError(f"group_size is {self.group_size}; give 0 or more")
        if not 50 < self.percentile <= 100:
            raise InvalidArgumentError(
                f"percentile is {self.percentile}; give more than 50 and at most 100"
            )
        if self.minimum_sqnr is not None and math.isnan(self.minimum_sqnr):
            raise InvalidArgumentError("minimum_sqnr is NaN; give a number of dB")

    def skips(self, name: str) -> bool:
        """Whether a layer stays in floats by name."""
        return any(_matches(name, one) for one in self.skip)


def _matches(name: str, pattern: str) -> bool:
    """Whether a layer is meant by an entry of `QuantizeOptions.skip`."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


@dataclass(frozen=True)
class QuantizedModel:
    """What `quantize` gives.

    Attributes:
        imported: The quantised program; `torsh_fx.compile` takes it.
        report: Accuracy by layer, and of the outputs.
        options: How it was made.
    """

    imported: ImportedModel
    report: QuantizeReport
    options: QuantizeOptions

    def save(self, path: str | Path) -> None:
        """Write `NAME.mlir` and its weights, or a package `NAME.torshpkg` for this machine.

        Raises:
            InvalidArgumentError: The name ends in neither.
            OSError: A file cannot be written.
        """
        if Path(path).suffix == ".torshpkg":
            from lowering.cpu.host import host_target
            from torsh_fx.compilation import compile_imported

            compile_imported(self.imported, Context(target=host_target())).save(path)
            return
        from torsh_fx.save import save

        save(self.imported, path)


@dataclass
class _Work:
    """A float program and a copy of it that is being quantised."""

    ctx: Context
    model: ImportedModel
    options: QuantizeOptions
    inputs: list[list[Array]]
    floats: set[str] = field(default_factory=set[str])
    ranges: dict[str, Range] = field(default_factory=dict[str, Range])

    def quantised(self) -> ImportedModel:
        """The program with all layers but `floats` quantised."""
        module = self.model.module.clone()
        store = WeightStore(dict(self.model.weights))
        layers = [one for one in layers_of(module) if self.wanted(one)]
        ranges = self._ranges()
        made: dict[tuple[SSAValue, object], SSAValue] = {}
        for layer in layers:
            block = layer.op.parent_block()
            assert block is not None
            b = BlockBuilder(block, layer.op, layer.op.location)
            weight = dequantised_weight(b, store, layer.name, self._weight(layer))
            if self.options.mode != "weight-only":
                key = (layer.op.operands[0], ranges.get(layer.name))
                if key not in made:
                    made[key] = quantised_activation(b, *key)
                layer.op.operands[0] = made[key]
            layer.op.operands[1] = weight
        CanonicalizePass().apply(self.ctx, module)
        _drop_unused(module, store)
        return replace(self.model, module=module, weights=store)

    def wanted(self, layer: Layer) -> bool:
        """Whether a layer is quantised in this mode."""
        kept = layer.name in self.floats or self.options.skips(layer.name)
        return not kept and not (
            self.options.mode == "weight-only" and isinstance(layer.op, ConvOp)
        )

    def _ranges(self) -> dict[str, Range]:
        """Ranges of the layers' inputs by name, in mode `static`; found once."""
        if self.options.mode == "static" and not self.ranges:
            found = layer_inputs(self.model, self.ctx, self.inputs)
            percentile = self.options.percentile
            self.ranges.update({n: range_of(arrays, percentile) for n, arrays in found.items()})
        return self.ranges

    def _weight(self, layer: Layer) -> QuantisedWeight:
        array = array_of(layer.op.operands[1], self.model.weights)
        if self.options.mode != "weight-only":
            return by_channel(array, layer.output_axis)
        depth, group = depth_of(layer), self.options.group_size
        bits = 8 if depth % 2 else self.options.bits
        block = group if group and depth % group == 0 and group % 2 == 0 else depth
        return by_blocks(array, 1 - layer.output_axis, block, bits)


def _drop_unused(module: ModuleOp, store: WeightStore) -> None:
    """Forget weights that the module no longer names."""
    used = {op.id.data for op in module.walk() if isinstance(op, WeightOp)}
    for name in set(store) - used:
        del store.arrays[name]


def quantize(
    model: Any,
    options: QuantizeOptions | None = None,
    calibration: Sequence[Call] = (),
    *,
    ctx: Context | None = None,
    dynamic_shapes: Any = None,
) -> QuantizedModel:
    """Quantise the products and convolutions by weights of a model.

    Args:
        model: What `torsh_fx.compile` takes, as it takes it.
        options: How.
        calibration: Inputs of some calls, in order or by name. Mode `static` takes ranges from
            them; in all modes the report compares floats and integers on them.
        ctx: Target and settings of the programs that are run; this machine's by default.
        dynamic_shapes: As `torsh_fx.compile` takes it.

    Raises:
        InvalidArgumentError: Mode `static` without calibration, or inputs that do not fit.
        UnsupportedError: There is no layer to quantise.
    """
    from lowering.cpu.host import host_target

    options = options or QuantizeOptions()
    if options.mode == "static" and not calibration:
        raise InvalidArgumentError(
            "mode 'static' takes the ranges of activations from calibration inputs; give some, "
            "or use mode 'dynamic'"
        )
    ctx = ctx or Context(target=host_target())
    imported = import_model(model, ctx, dynamic_shapes=dynamic_shapes)
    module = imported.module.clone()
    for change in (CanonicalizePass(), FoldBatchNormPass(), CanonicalizePass()):
        change.apply(ctx, module)
    floats = replace(imported, module=module)
    work = _Work(ctx, floats, options, [inputs_in_order(floats, call) for call in calibration])
    layers = layers_of(module)
    names = ", ".join(layer.name for layer in layers)
    if layers and (unused := [p for p in options.skip if not _any_matches(layers, p)]):
        said = ", ".join(unused)
        raise InvalidArgumentError(f"skip {said}: no layer has that name; there are: {names}")
    if not any(map(work.wanted, layers)):
        raise UnsupportedError(
            f"mode {options.mode!r} has no layer to quantise: "
            + (f"all of {names} stay in floats" if names else NO_LAYERS)
        )
    return _quantize(work)


def _any_matches(layers: Sequence[Layer], pattern: str) -> bool:
    return any(_matches(layer.name, pattern) for layer in layers)


def _quantize(work: _Work) -> QuantizedModel:
    """Quantise, and where a limit asks for it give layers back to floats and quantise again.

    The first layer under the limit goes first: those behind it inherit its error.
    """
    limit = work.options.minimum_sqnr
    while True:
        quantised = work.quantised()
        report = compare(work.model, quantised, work.ctx, work.inputs, _rows(work))
        bad = [r.name for r in report.layers if r.bits and limit is not None and r.sqnr < limit]
        if not bad:
            return QuantizedModel(quantised, report, work.options)
        work.floats.add(bad[0])
        if not any(map(work.wanted, layers_of(work.model.module))):
            raise UnsupportedError(f"no layer reaches {limit:g} dB; lower minimum_sqnr")


def _rows(work: _Work) -> list[LayerRow]:
    bits = work.options.bits
    return [
        LayerRow(layer.name, layer.kind, bits if work.wanted(layer) else 0)
        for layer in layers_of(work.model.module)
    ]
