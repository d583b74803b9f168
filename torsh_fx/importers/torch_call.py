"""Calling an imported torch model: from call arguments to inputs, from outputs to its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torsh_dialect.errors import InputError
from torsh_fx.importers.model import ImportedModel
from torsh_fx.importers.torch_types import to_numpy, to_torch

__all__ = ["Leaf", "TorchCall", "flatten_inputs", "to_numpy", "to_torch", "unflatten_outputs"]


@dataclass(frozen=True)
class Leaf:
    """One leaf of a call's arguments or results.

    Attributes:
        position: Among the inputs or outputs of `@main`; None for a constant.
        constant: The value of a constant leaf.
        scalar: Whether the result is a Python number, not a tensor.
    """

    position: int | None
    constant: object = None
    scalar: bool = False


@dataclass(frozen=True)
class TorchCall:
    """How the arguments or results of a torch model flatten.

    Attributes:
        spec: Torch's tree of them.
        leaves: One for each leaf of the tree.
    """

    spec: pytree.TreeSpec
    leaves: tuple[Leaf, ...]


def flatten_inputs(
    model: ImportedModel, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[Any]:
    """The user inputs of `@main`, in order, from the arguments of a call.

    Raises:
        InputError: The arguments have another structure than those of the import, or a
            constant argument has another value.
    """
    call = model.in_spec
    assert isinstance(call, TorchCall)
    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
    if spec != call.spec:
        spec, leaves = _reordered(call.spec, args, kwargs, spec, leaves)
    inputs: list[Any] = [None] * sum(leaf.position is not None for leaf in call.leaves)
    for leaf, value in zip(call.leaves, leaves, strict=True):
        if leaf.position is not None:
            inputs[leaf.position] = value
        elif value != leaf.constant and not isinstance(value, torch.Tensor):
            raise InputError(
                f"an argument that was {leaf.constant!r} at import is {value!r} now; "
                "non-tensor arguments are fixed: import again with this value"
            )
    return inputs


def _reordered(
    expected: pytree.TreeSpec,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    given: pytree.TreeSpec,
    leaves: list[Any],
) -> tuple[pytree.TreeSpec, list[Any]]:
    """Keyword arguments in the order of the import."""
    names: list[str] = expected.children()[1].context or []
    if set(names) == set(kwargs):
        ordered = {name: kwargs[name] for name in names}
        leaves, given = pytree.tree_flatten((tuple(args), ordered))
    if given != expected:
        raise InputError(f"the call's arguments are {given}, the model was imported for {expected}")
    return given, leaves


def unflatten_outputs(model: ImportedModel, outputs: Sequence[Any]) -> Any:
    """The results of a call in the model's structure, from the outputs of `@main`."""
    call = model.out_spec
    assert isinstance(call, TorchCall)
    leaves: list[Any] = []
    for leaf in call.leaves:
        value: Any = leaf.constant if leaf.position is None else outputs[leaf.position]
        leaves.append(value.item() if leaf.scalar and leaf.position is not None else value)
    return pytree.tree_unflatten(leaves, call.spec)
