"""Calling an imported torch model: from call arguments to inputs, from outputs to its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torsh_dialect.errors import InputError
from torsh_fx.importers.torch_types import to_numpy, to_torch
from torsh_fx.interface import Interface

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
        names: Of arguments, those by position first.
    """

    spec: pytree.TreeSpec
    leaves: tuple[Leaf, ...]
    names: tuple[str, ...] = ()


def flatten_inputs(model: Interface, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The user inputs of `@main`, in order, from the arguments of a call.

    Raises:
        InputError: The arguments have another structure than those of the import, or a
            constant argument has another value.
    """
    call = model.in_spec
    assert isinstance(call, TorchCall)
    arranged = _arranged(call, args, kwargs)
    leaves, spec = pytree.tree_flatten(arranged)
    if spec != call.spec:
        raise InputError(f"the call's arguments are {spec}, the model was imported for {call.spec}")
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


def _arranged(
    call: TorchCall, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by position and by name as the import had them.

    What the import had by name stays so: an exported program does not know its place.
    """
    positional = call.spec.children()[0].num_children
    by_name: list[str] = call.spec.children()[1].context or []
    names = [*call.names[:positional], *by_name]
    given = {**dict(zip(names[:positional], args, strict=False)), **kwargs}
    lost = len(given) < len(args) + len(kwargs)
    if lost or len(call.names) < positional or set(given) != set(names):
        return tuple(args), dict(kwargs)  # as it stands: the structures are compared
    return tuple(given[n] for n in names[:positional]), {n: given[n] for n in by_name}


def unflatten_outputs(model: Interface, outputs: Sequence[Any]) -> Any:
    """The results of a call in the model's structure, from the outputs of `@main`."""
    call = model.out_spec
    assert isinstance(call, TorchCall)
    leaves: list[Any] = []
    for leaf in call.leaves:
        value: Any = leaf.constant if leaf.position is None else outputs[leaf.position]
        leaves.append(value.item() if leaf.scalar and leaf.position is not None else value)
    return pytree.tree_unflatten(leaves, call.spec)
