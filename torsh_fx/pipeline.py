"""The passes in their order: one straight line from an imported module to fused kernels."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from torsh_dialect.context import Context

PASSES: dict[str, str] = {
    "place-on-host": "torsh_dialect.passes.place_on_host:PlaceOnHostPass",
    "materialize-layouts": "torsh_dialect.passes.materialize_layouts:MaterializeLayoutsPass",
    "canonicalize": "torsh_dialect.passes.canonicalize:CanonicalizePass",
    "infer-types": "torsh_dialect.passes.infer_types:InferTypesPass",
    "expand-calls": "torsh_dialect.passes.expand_calls:ExpandCallsPass",
    "relu-to-gelu": "torsh_dialect.passes.relu_to_gelu:ReluToGeluPass",
    "expand-composites": "torsh_dialect.passes.expand_composites:ExpandCompositesPass",
    "recognize": "torsh_dialect.passes.recognize:RecognizePass",
    "widen-halves": "lowering.passes.widen_halves:WidenHalvesPass",
    "fit-composites": "lowering.passes.fit_composites:FitCompositesPass",
    "fold-batch-norm": "torsh_dialect.passes.fold_batch_norm:FoldBatchNormPass",
    "recognize-quantized": "torsh_dialect.passes.recognize_quantized:RecognizeQuantizedPass",
    "schedule-integer": "lowering.passes.schedule_integer:ScheduleIntegerPass",
    "choose-layout": "lowering.passes.choose_layout:ChooseLayoutPass",
    "schedule": "lowering.passes.schedule:SchedulePass",
    "prepare": "lowering.passes.prepare:PreparePass",
    "update-slices": "lowering.passes.update_slices:UpdateSlicesPass",
    "split-joins": "lowering.passes.split_joins:SplitJoinsPass",
    "fuse": "lowering.passes.fuse:FusePass",
    "to-gpu": "lowering.passes.to_gpu:ToGpuPass",
    "outline-native": "lowering.passes.outline_native:OutlineNativePass",
}
"""Every pass by name: `module:Class`, imported when it is used."""

REWRITES: dict[str, str] = {
    "fold-batch-norm": "batch normalisation becomes part of the weights before it",
    "recognize": "attention and norms that are written out become one op each",
    "recognize-quantized": "contractions of dequantised integers sum integers, then scale",
    "weight-only": "products by dequantised weights scale the sums of blocks",
    "winograd": "3x3 convolutions of stride 1 as Winograd F(2, 3)",
}
"""Rewrites that change values by rounding, which `Settings` switches off by these names."""


def pass_named(name: str) -> type[ModulePass]:
    """The pass class of that name."""
    module, _, cls = PASSES[name].partition(":")
    return cast("type[ModulePass]", getattr(importlib.import_module(module), cls))


@dataclass(frozen=True)
class Stage:
    """A module after a pass; `name` is the pass."""

    name: str
    module: ModuleOp


def stages(ctx: Context) -> Iterator[ModulePass]:
    """The passes of a compilation, in order, with their options."""
    from lowering.passes.choose_layout import ChooseLayoutPass
    from lowering.passes.fit_composites import FitCompositesPass
    from lowering.passes.fuse import FusePass
    from lowering.passes.prepare import PreparePass
    from lowering.passes.schedule import SchedulePass
    from lowering.passes.schedule_integer import ScheduleIntegerPass
    from lowering.passes.split_joins import SplitJoinsPass
    from lowering.passes.update_slices import UpdateSlicesPass
    from lowering.passes.widen_halves import WidenHalvesPass
    from torsh_dialect.passes.canonicalize import CanonicalizePass
    from torsh_dialect.passes.fold_batch_norm import FoldBatchNormPass
    from torsh_dialect.passes.materialize_layouts import MaterializeLayoutsPass
    from torsh_dialect.passes.place_on_host import PlaceOnHostPass
    from torsh_dialect.passes.recognize import RecognizePass
    from torsh_dialect.passes.recognize_quantized import RecognizeQuantizedPass

    yield PlaceOnHostPass()
    yield MaterializeLayoutsPass()
    yield CanonicalizePass()
    yield RecognizeQuantizedPass()
    yield FoldBatchNormPass()
    yield ScheduleIntegerPass()
    yield RecognizePass()
    yield WidenHalvesPass()
    yield FitCompositesPass()
    yield CanonicalizePass()
    yield ChooseLayoutPass()
    yield CanonicalizePass()
    yield SchedulePass()
    yield UpdateSlicesPass()
    yield SplitJoinsPass()
    yield CanonicalizePass()
    yield PreparePass()
    yield FusePass()


def gpu_stages(ctx: Context) -> Iterator[ModulePass]:
    """The passes of a compilation for a GPU: the same regions, kernels by element."""
    from lowering.passes.fuse import FusePass
    from lowering.passes.to_gpu import ToGpuPass
    from torsh_dialect.passes.canonicalize import CanonicalizePass
    from torsh_dialect.passes.expand_composites import ExpandCompositesPass
    from torsh_dialect.passes.fold_batch_norm import FoldBatchNormPass
    from torsh_dialect.passes.materialize_layouts import MaterializeLayoutsPass

    yield MaterializeLayoutsPass()
    yield CanonicalizePass()
    yield FoldBatchNormPass()
    yield ExpandCompositesPass()
    yield CanonicalizePass()
    yield FusePass()
    yield ToGpuPass()


def optimise(
    module: ModuleOp, ctx: Context, observe: Callable[[Stage], None] | None = None
) -> None:
    """Run all passes on `module`.

    Args:
        module: An imported module; is changed.
        ctx: Weights, target and settings.
        observe: Called after every pass, e.g. to print the module.
    """
    for number in stages(ctx):
        number.apply(ctx, module)
        if ctx.settings.verify_each:
            module.verify()
        if observe:
            observe(Stage(number.name, module))
