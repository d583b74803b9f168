"""`CompiledModule`: a compiled model as a callable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from lowering.runtime.executable import Executable, Program, RunOptions
from lowering.runtime.profile import Profile
from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.weights import WeightStore

if TYPE_CHECKING:
    from torsh_fx.importers.model import ImportedModel


@dataclass(frozen=True)
class CompileReport:
    """What a compilation did.

    Attributes:
        source_nodes: Nodes of the source graph.
        ops_before: Ops after import.
        ops_after: Ops (kernels and views) of `@main` after optimisation.
        kernels: Different kernels that were compiled.
        seconds: Wall time of each step by name.
    """

    source_nodes: int
    ops_before: int
    ops_after: int
    kernels: int
    seconds: Mapping[str, float]


class CompiledModule:
    """A compiled model. Call it with numpy arrays or torch tensors, by position or by name.

    Attributes:
        module: The program before optimisation (`@main` in the torsh dialect).
        optimised: The program as it was lowered.
        weights: The model's own weights.
        report: Times and counts of the compilation.
    """

    def __init__(
        self,
        imported: ImportedModel,
        optimised: ModuleOp,
        program: Program,
        report: CompileReport,
        options: RunOptions,
    ):
        self.imported = imported
        self.module = imported.module
        self.optimised = optimised
        self.program = program
        self.report = report
        self.executable = Executable(program, "main", options)

    @property
    def weights(self) -> WeightStore:
        """The model's own weights, before preparation."""
        return self.imported.weights

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self.executable.spec.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(spec.name for spec in self.executable.spec.outputs)

    def run(self, inputs: Sequence[Array] | Mapping[str, Array]) -> list[Array]:
        """Run on numpy arrays, in order or by name; returns the outputs in order.

        Raises:
            InputError: The inputs break the signature; the message names input and limit.
            ExecutionError: A run-time check failed, or memory ran out.
        """
        return self.executable.run(inputs)

    def run_into(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run on numpy arrays and write into the caller's outputs, without allocation."""
        self.executable.run_into(inputs, outputs)

    def save(self, path: str | Path) -> None:
        """Write the model as MLIR text, and its weights as `.safetensors` beside it.

        `torsh_fx.load(path)` compiles it again; the outputs have the same bytes.

        Args:
            path: A name that ends in `.mlir`.

        Raises:
            InvalidArgumentError: The name does not end in `.mlir`.
            OSError: A file cannot be written.
        """
        from torsh_fx.save import save

        save(self.imported, path)

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Run once, as a call does, and time every kernel.

        Returns:
            The times; `table()` shows them with the source ops of each kernel.
        """
        flat = self._flatten(args, kwargs)
        return self.executable.profile([_to_numpy(v) for v in flat])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on torch tensors or numpy arrays; the same kind comes back.

        A model of one output gives it alone, others a tuple in order; models from torch give
        the structure that the original gives.
        """
        flat = self._flatten(args, kwargs)
        from_torch = any(type(v).__module__.startswith("torch") for v in flat)
        outputs: list[Any] = self.run([_to_numpy(v) for v in flat])
        if from_torch:
            outputs = [_to_torch(v) for v in outputs]
        return self._unflatten(outputs)

    def _flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        if self.imported.in_spec is not None:
            from torsh_fx.importers.torch_call import flatten_inputs

            return flatten_inputs(self.imported, args, kwargs)
        names = self.input_names
        if unknown := [name for name in kwargs if name not in names[len(args) :]]:
            raise InvalidArgumentError(
                f"unexpected inputs {', '.join(unknown)}; the inputs are {', '.join(names)}"
            )
        missing = [name for name in names[len(args) :] if name not in kwargs]
        if missing or len(args) > len(names):
            raise InvalidArgumentError(
                f"{len(args) + len(kwargs)} inputs were given; needed: {', '.join(names)}"
            )
        return [*args, *(kwargs[name] for name in names[len(args) :])]

    def _unflatten(self, outputs: list[Any]) -> Any:
        if self.imported.out_spec is not None:
            from torsh_fx.importers.torch_call import unflatten_outputs

            return unflatten_outputs(self.imported, outputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _to_numpy(value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    if type(value).__module__.startswith("torch"):
        from torsh_fx.importers.torch_call import to_numpy

        return to_numpy(value)
    return np.asarray(value)


def _to_torch(value: Array) -> Any:
    from torsh_fx.importers.torch_call import to_torch

    return to_torch(value)
