"""Arguments of a call: by position or by name, numpy arrays or torch tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from lowering.runtime.signature import Array
from torsh_dialect.errors import InvalidArgumentError


def by_position(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments in order of `names`.

    Raises:
        InvalidArgumentError: One is missing, unknown, or too many.
    """
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


class Items(list[Any]):
    """The items of a sequence, which no array stands for: `as_numpy` leaves it a list."""


def is_torch(value: object) -> bool:
    """Whether it is torch's; does not import torch."""
    return type(value).__module__.startswith("torch")


def as_numpy(value: Any) -> Array:
    """An array of what was given, in place where that is possible.

    `Items` stay a list and None stays nothing, as host functions take them.
    """
    if isinstance(value, np.ndarray | None):
        return cast("Array", value)
    if isinstance(value, Items):
        return cast("Array", [as_numpy(item) for item in value])
    if is_torch(value):
        from torsh_fx.importers.torch_types import to_numpy

        return to_numpy(value)
    return np.asarray(value)


def as_torch(value: Any) -> Any:
    """A tensor of an output, in place; of a sequence a list, and strings and maps as they are."""
    if isinstance(value, list):
        return [as_torch(item) for item in cast("list[Any]", value)]
    kind = getattr(value, "dtype", np.dtype(object)).kind  # maps and None have none
    if kind == "O":
        return value
    from torsh_fx.importers.torch_types import to_torch

    return to_torch(value)
