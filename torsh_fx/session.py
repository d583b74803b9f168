"""`Session`: calls of a compiled model that keep state from one to the next.

A session owns the memory of its state. Where the program reads a state for the last time before
it writes the next one (a cache that a scatter updates), both are the same memory and only what
changes is written. Elsewhere two buffers take turns, so that no call copies or allocates state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lowering.runtime.contexts import aligned_bytes
from lowering.runtime.signature import Array, Shape
from lowering.runtime.views import byte_count, view_at
from torsh_dialect.errors import ExecutionError, InvalidArgumentError
from torsh_fx.calls import as_numpy, as_torch, by_position, is_torch
from torsh_fx.random import STATE, seeded_like
from torsh_fx.written import write_back

if TYPE_CHECKING:
    from torsh_fx.linked import LinkedModel


@dataclass(frozen=True)
class Kept:
    """A state of a session: which output of a call becomes which input of the next.

    Attributes:
        name: The user's name of it.
        input: Position among all inputs.
        output: Position among all outputs.
        in_place: Whether both may be the same memory.
        first: The value of the first call.
    """

    name: str
    input: int
    output: int
    in_place: bool
    first: Array


class Cell:
    """The memory of one state, and spare memory for its next value."""

    def __init__(self, kept: Kept):
        self.kept = kept
        self._memory, self._spare = aligned_bytes(0), aligned_bytes(0)
        self.value = kept.first
        self.reset()

    def reset(self) -> None:
        """Hold the first value again."""
        first = self.kept.first
        if self._memory.nbytes < first.nbytes:
            self._memory = aligned_bytes(first.nbytes)
        self.value = _state_in(self._memory, first.shape, first.dtype)
        self.value[...] = first

    def room(self, shape: Shape) -> Array:
        """Memory for the next value, which has these extents."""
        if self.kept.in_place and shape == self.value.shape:
            return self.value
        size = byte_count(self.value.dtype, shape)
        if self._spare.nbytes < size:
            grows = size > self.value.nbytes > 0  # by a little in each call: the next ones fit too
            self._spare = aligned_bytes(max(size, 2 * self.value.nbytes) if grows else size)
        return _state_in(self._spare, shape, self.value.dtype)

    def keep(self, value: Array) -> None:
        """Hold the value that a call has left, in this cell's memory or not."""
        if value is not self.value and np.may_share_memory(value, self._spare):
            self._memory, self._spare = self._spare, self._memory
        self.value = value


def _state_in(memory: Array, shape: Shape, dtype: np.dtype[Any]) -> Array:
    return view_at(memory, 0, dtype, shape, "the memory of a state")


class Session:
    """Calls of a model that keeps state: what one call leaves, the next one finds.

    Not thread-safe: use a session for each stream of calls.

    Args:
        model: The model.
        kept: Its states.
        flat: Whether calls take the inputs by name or position and give a plain array or tuple,
            without the carried ones, whatever structure the source's calls have.
    """

    def __init__(self, model: LinkedModel, kept: Sequence[Kept], *, flat: bool = False):
        self._model = model
        self._cells = [Cell(one) for one in kept]
        self._flat = flat
        self._torn = False

    @property
    def state(self) -> dict[str, Array]:
        """Copies of the state as it is now, by name."""
        return {cell.kept.name: cell.value.copy() for cell in self._cells}

    def set(self, state: Mapping[str, Any]) -> None:
        """Go on from other values, e.g. what `state` gave earlier.

        Raises:
            InvalidArgumentError: A name or dtype is not that of a state; nothing has changed then.
        """
        cells = {cell.kept.name: cell for cell in self._cells}
        values = {name: as_numpy(value) for name, value in state.items()}
        for name, value in values.items():
            if name not in cells:
                raise InvalidArgumentError(f"no state is called {name!r}; there are: {[*cells]}")
            if value.dtype != cells[name].value.dtype:
                raise InvalidArgumentError(
                    f"the state {name!r} is {cells[name].value.dtype}, not {value.dtype}"
                )
        for name, value in values.items():
            room = cells[name].room(value.shape)
            room[...] = value
            cells[name].keep(room)
        self._torn = self._torn and set(values) != set(cells)

    def seed(self, seed: int) -> None:
        """Start the session's stream of random numbers again; other state stays.

        Raises:
            InvalidArgumentError: The model draws no random numbers, or the seed has over 64 bits.
        """
        streams = [cell for cell in self._cells if cell.kept.name == STATE]
        if not streams:
            raise InvalidArgumentError("the model draws no random numbers, so it takes no seed")
        self.set({STATE: seeded_like(streams[0].value, seed)})

    def reset(self) -> None:
        """Go back to the first state."""
        for cell in self._cells:
            cell.reset()
        self._torn = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the model does, from the state that the last call left.

        Raises:
            InputError: The inputs break the signature; the state is as it was.
            ExecutionError: The model is closed; the state is as it was. Or a check failed while
                the program ran: state that is updated in place is undefined then, and calls are
                refused until `reset` or `set`.
        """
        runnable = self._model.held.runnable
        if self._torn:
            raise ExecutionError(
                "the last call of this session ended in an error after it may have written to "
                "the state; reset() the session, or set() the state"
            )
        given = self._arguments(args, kwargs)
        inputs = [as_numpy(value) for value in given]
        for cell in sorted(self._cells, key=lambda cell: cell.kept.input):
            inputs.insert(cell.kept.input, cell.value)
        try:
            found = runnable.run_keeping(inputs, {c.kept.output: c.room for c in self._cells})
        except ExecutionError:
            self._torn = any(cell.kept.in_place for cell in self._cells)
            raise
        for cell in self._cells:
            cell.keep(found[cell.kept.output])
        if not self._flat:
            write_back(given, found, self._model.interface.written)
        return self._results(found, any(map(is_torch, given)))

    def _arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        if not self._flat:
            return self._model.flat_inputs(args, kwargs)
        taken = {cell.kept.input for cell in self._cells}
        names = [n for i, n in enumerate(self._model.interface.inputs) if i not in taken]
        return by_position(names, args, kwargs)

    def _results(self, found: Sequence[Array], wants_torch: bool) -> Any:
        outputs = [as_torch(value) for value in found] if wants_torch else list(found)
        if not self._flat:
            return self._model.structured(outputs)
        taken = {cell.kept.output for cell in self._cells}
        left = [value for i, value in enumerate(outputs) if i not in taken]
        return left[0] if len(left) == 1 else tuple(left)


def carried(model: LinkedModel, pairs: Mapping[str, str], first: Mapping[str, Any]) -> list[Kept]:
    """States that a caller names: `{input: output}`, with the input's first values.

    Raises:
        InvalidArgumentError: A name is unknown, taken twice, or a first value is missing.
    """
    inputs, outputs = model.interface.inputs, model.interface.outputs
    for wanted, known, what in ((pairs, inputs, "input"), (pairs.values(), outputs, "output")):
        if unknown := [name for name in wanted if name not in known]:
            raise InvalidArgumentError(f"no {what} is called {unknown[0]!r}; there are: {known}")
    if len(set(pairs.values())) < len(pairs):
        raise InvalidArgumentError(f"two inputs are carried from one output: {dict(pairs)}")
    if missing := [name for name in pairs if name not in first]:
        raise InvalidArgumentError(
            f"the first value of {', '.join(missing)} is missing; give it as "
            f"session(carried=..., first={{{missing[0]!r}: array}})"
        )
    places = {name: (inputs.index(name), outputs.index(pairs[name])) for name in pairs}
    return [
        Kept(name, *place, place in model.in_place, as_numpy(first[name]))
        for name, place in places.items()
    ]


def opened(
    model: LinkedModel, carried_pairs: Mapping[str, str] | None, first: Mapping[str, Any] | None
) -> Session:
    """A session of a model; see `LinkedModel.session`.

    Raises:
        InvalidArgumentError: A name is unknown, or a first value is missing.
        ExecutionError: The model is closed.
    """
    own = model.state_arrays
    values, states = dict(first or {}), model.states
    if unknown := set(values) - {one.name for one in states} - set(carried_pairs or {}):
        raise InvalidArgumentError(f"no state is called {', '.join(sorted(unknown))}")
    kept = [
        Kept(
            one.name, one.input, one.output, (one.input, one.output) in model.in_place,
            as_numpy(values.get(one.name, array)),
        )
        for one, array in zip(states, own, strict=True)
    ]  # fmt: skip
    if carried_pairs is None:
        return Session(model, kept)
    return Session(model, [*kept, *carried(model, carried_pairs, values)], flat=True)
