"""From a model's own weights to the prepared weights that its program reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lowering.runtime.executable import Executable
from lowering.runtime.signature import Array
from lowering.runtime.spec import ProgramSpec
from torsh_dialect.errors import InvalidArgumentError
from torsh_fx.mapped import give_back, mappings_of

if TYPE_CHECKING:
    from torsh_dialect.weights import WeightStore


@dataclass(frozen=True)
class Preparation:
    """How weights are prepared: by running the compiled `@prepare`.

    Attributes:
        spec: The program whose weights these are.
        constants: Weights that the compiler made.
        entry: The compiled `@prepare`; None where nothing needs it.
    """

    spec: ProgramSpec
    constants: Mapping[str, Array]
    entry: Executable | None

    @property
    def types(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of the model's own weights, by name."""
        inputs, outputs = (), ()
        if self.entry is not None:
            inputs, outputs = self.entry.spec.inputs, self.entry.spec.outputs
        made = {*self.constants, *(one.name for one in outputs)}
        kept = {
            one.name: (one.dtype, one.dims) for one in self.spec.weights if one.name not in made
        }
        return kept | {one.name: (one.dtype, tuple(map(int, one.dims))) for one in inputs}

    def prepared(self, raw: Mapping[str, Array]) -> dict[str, Array]:
        """The program's weights, from the model's own.

        Where the model's own are mapped files, at most a part of one weight at a time is resident
        beside the prepared ones.
        """
        arrays: dict[str, Array] = {**self.constants}
        if self.entry is not None:
            inputs = [np.asarray(raw[one.name], order="C") for one in self.entry.spec.inputs]
            names = [one.name for one in self.entry.spec.outputs]
            arrays.update(zip(names, _run(self.entry, inputs), strict=True))
        return {
            one.name: arrays[one.name] if one.name in arrays else raw[one.name]
            for one in self.spec.weights
        }


def _run(entry: Executable, inputs: Sequence[Array]) -> list[Array]:
    mappings = mappings_of(inputs)
    if mappings:
        return entry.run_sliced(inputs, lambda: give_back(mappings))
    outputs = entry.run(inputs)
    entry.trim()  # its arena is as large as the largest weights, and seldom wanted again
    return outputs


def replaced(store: WeightStore, weights: Mapping[str, Array]) -> WeightStore:
    """A store with some arrays replaced by others of the same type.

    Raises:
        InvalidArgumentError: A name is unknown, or a dtype or shape differs; names them.
    """
    from torsh_dialect.weights import WeightStore

    for name, array in weights.items():
        if name not in store:
            known = ", ".join(list(store)[:8]) or "none"
            raise InvalidArgumentError(f"the model has no weight {name!r}; it has {known}")
        old = store[name]
        if array.dtype != old.dtype or array.shape != old.shape:
            raise InvalidArgumentError(
                f"the weight {name!r} is {array.dtype}{list(array.shape)}, expected "
                f"{old.dtype}{list(old.shape)}"
            )
    return WeightStore({**store.arrays, **weights})
