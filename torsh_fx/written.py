"""Arguments that a model writes: each call leaves their new values in the caller's memory.

Where the program may write the new value over the old one (`in_place`), both are the same memory
and only what changes is written; elsewhere the new value is copied when the call is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lowering.runtime.abi import ALIGNMENT
from lowering.runtime.signature import Array, Shape
from torsh_dialect.errors import InputError
from torsh_fx.calls import as_numpy, as_torch, is_torch

if TYPE_CHECKING:
    from torsh_fx.interface import Interface
    from torsh_fx.linked import Runnable

Pairs = Sequence[tuple[int, int]]
"""Inputs and the outputs that are their new values, by position."""


def run_writing(
    runnable: Runnable, interface: Interface, given: Sequence[Any], states: Pairs = ()
) -> list[Array]:
    """Run a model on tensors or arrays, and write those that it writes.

    Args:
        runnable: What computes.
        interface: Of the model.
        given: All inputs in order, state too.
        states: State that is written beside what the interface names.

    Returns:
        All outputs.

    Raises:
        InputError: The inputs break the signature, or one that is written is read-only or
            shares memory with another input: the program was compiled for separate ones.
        ExecutionError: A check failed while the program ran, or memory ran out.
    """
    arrays, pairs = [as_numpy(value) for value in given], [*interface.written, *states]
    if not pairs:
        return runnable.run(arrays)
    _check(interface.inputs, arrays, pairs)
    rooms: dict[int, Callable[[Shape], Array]] = {
        output: _room(arrays[source])
        for source, output in pairs
        if (source, output) in runnable.in_place and _is_usable(arrays[source])
    }
    found = runnable.run_keeping(arrays, rooms)
    write_back(given, found, pairs)
    return found


def write_back(given: Sequence[Any], found: Sequence[Array], pairs: Pairs) -> None:
    """Copy new values to the arguments that they belong to, but for those that are there."""
    for source, output in pairs:
        _write(given[source], as_numpy(given[source]), found[output])


def _room(array: Array) -> Callable[[Shape], Array]:
    def room(shape: Shape) -> Array:
        return array if array.shape == shape else np.empty(shape, array.dtype)

    return room


def _is_usable(array: Array) -> bool:
    """Whether a program can write into the array itself."""
    return array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0


def _check(names: Sequence[str], arrays: Sequence[Array], pairs: Pairs) -> None:
    for source, _ in pairs:
        if not arrays[source].flags.writeable:
            raise InputError(f"the model writes its input {names[source]}, which is read-only")
        for other, array in enumerate(arrays):
            if other != source and np.may_share_memory(array, arrays[source]):
                raise InputError(
                    f"the model writes its input {names[source]}, which shares memory with "
                    f"{names[other]}; give a copy of one of them"
                )


def _write(target: Any, array: Array, value: Array) -> None:
    if is_torch(target):
        import torch

        if _is_same(value, array):
            torch.autograd.graph.increment_version(target)
        else:
            target.detach().copy_(as_torch(value))
    elif not _is_same(value, array):
        array[...] = value


def _is_same(a: Array, b: Array) -> bool:
    """Whether two arrays are the same memory in the same order."""
    return a.__array_interface__ == b.__array_interface__
