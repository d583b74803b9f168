"""From a model's own weights to the prepared weights that its program reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lowering.runtime.executable import Executable
from lowering.runtime.spec import ProgramSpec
from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError
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

    def prepared(self, raw: Mapping[str, Array]) -> dict[str, Array]:
        """The program's weights, from the model's own."""
        arrays: dict[str, Array] = {**self.constants}
        if self.entry is not None:
            inputs = [np.asarray(raw[one.name], order="C") for one in self.entry.spec.inputs]
            names = [one.name for one in self.entry.spec.outputs]
            arrays.update(zip(names, self.entry.run(inputs), strict=True))
        return {
            one.name: arrays[one.name] if one.name in arrays else raw[one.name]
            for one in self.spec.weights
        }


def replaced(store: WeightStore, weights: Mapping[str, Array]) -> WeightStore:
    """A store with some arrays replaced by others of the same type.

    Raises:
        InvalidArgumentError: A name is unknown, or a dtype or shape differs; names them.
    """
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
