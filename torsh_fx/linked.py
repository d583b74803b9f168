"""`LinkedModel`: what compiled models and models of packages have in common. Imports no compiler.

It owns the lifetime of what computes, the call, and the state that calls begin with. All that
goes at once when the model is closed, so that no call ever meets a half of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from lowering.runtime.contexts import Room
from lowering.runtime.executable import Executable, Inputs, Program
from lowering.runtime.signature import Array
from torsh_dialect.errors import ExecutionError, UnsupportedError
from torsh_fx.calls import as_numpy, as_torch, by_position, is_torch
from torsh_fx.interface import Interface, State
from torsh_fx.random import StateValues
from torsh_fx.session import Session, opened
from torsh_fx.written import run_writing


class Runnable(Protocol):
    """What computes all outputs of a model from all inputs, state among both. Thread-safe."""

    @property
    def in_place(self) -> tuple[tuple[int, int], ...]:
        """Pairs of an input and an output that may be the same memory in a call."""
        ...

    def run(self, inputs: Inputs) -> list[Array]:
        """Run on arrays, in order or by name; returns the outputs in order."""
        ...

    def run_keeping(self, inputs: Sequence[Array], rooms: Mapping[int, Room]) -> list[Array]:
        """As `run`; outputs in `rooms` are written where these say, given their extents."""
        ...


def closed() -> ExecutionError:
    """What everything that needs an open model raises when it is closed."""
    return ExecutionError("the model was closed; compile or load it again")


@dataclass(frozen=True)
class Held:
    """What an open model holds: what computes, and the state that calls begin with."""

    runnable: Runnable
    states: StateValues


class LinkedModel:
    """A model that can be called, with numpy arrays or torch tensors, by position or by name.

    Attributes:
        interface: All inputs and outputs, state among them.
    """

    def __init__(self, interface: Interface, runnable: Runnable, first: Sequence[Array]):
        """A model that is open.

        Args:
            interface: Its inputs and outputs.
            runnable: What computes.
            first: The first values of its states, in order of the inputs that take them.
        """
        self.interface = interface
        names = [one.name for one in interface.states]
        self._held: Held | None = Held(runnable, StateValues(names, first))

    @property
    def held(self) -> Held:
        """What computes, and the state that calls begin with.

        Raises:
            ExecutionError: The model is closed.
        """
        if self._held is None:
            raise closed()
        return self._held

    @property
    def executable(self) -> Executable:
        """The native entry.

        Raises:
            ExecutionError: The model is closed.
            UnsupportedError: Host functions run a part of the model.
        """
        runnable = self.held.runnable
        if not isinstance(runnable, Executable):
            raise UnsupportedError("host functions run a part of the model: it has no native entry")
        return runnable

    @property
    def program(self) -> Program:
        """The linked code with its weights; errors as of `executable`."""
        return self.executable.program

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: all but the description of the model is refused."""
        return self._held is None

    def close(self) -> None:
        """Free code, weights and memory of calls now, or when the last running call is done.

        They are freed without it when the last reference to the model goes. Afterwards all but
        the description of the model is refused; what a session or a bound call holds lives until
        that goes too.
        """
        self._held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of a call, in order; state is not among them."""
        return self.interface.user_inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs of a call, in order; state is not among them."""
        return self.interface.user_outputs

    @property
    def states(self) -> list[State]:
        """What the model keeps between calls, in order of the inputs that take it."""
        return self.interface.states

    @property
    def state_arrays(self) -> list[Array]:
        """The first values of the state, in order; of random numbers, where the last call ended."""
        return self.held.states.values

    @property
    def in_place(self) -> tuple[tuple[int, int], ...]:
        """Pairs of an input and an output that may be the same memory in a call."""
        return self.held.runnable.in_place

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on torch tensors or numpy arrays; the same kind comes back.

        A model of one output gives it alone, others a tuple in order; models from torch give
        the structure that the original gives. Arguments that the model writes have their new
        values then. A stateful model starts from its first state in every call; `session` keeps
        it. Only random numbers go on from call to call (`seed`).

        Raises:
            InvalidArgumentError: An input is missing, unknown, or too many.
            InputError: The inputs break the signature; the message names input and limit.
            ExecutionError: A run-time check failed, memory ran out, or the model is closed.
        """
        held, flat = self.held, self.flat_inputs(args, kwargs)

        def run(state: Sequence[Array]) -> tuple[list[Array], list[Array]]:
            found = run_writing(held.runnable, self.interface, [*flat, *state])
            return found, self._after(found)

        found = held.states.call(run)
        from_torch = any(map(is_torch, flat)) if flat else self.interface.out_spec is not None
        return self.structured([as_torch(value) for value in found] if from_torch else found)

    def run(self, inputs: Inputs) -> list[Array]:
        """Run on numpy arrays, in order or by name; returns the outputs in order.

        A stateful model takes and gives its state here, behind the inputs and outputs. Only the
        stream of random numbers may be left out: then it goes on as in a call, and is not given.

        Raises:
            InputError: The inputs break the signature; the message names input and limit.
            ExecutionError: A run-time check failed, memory ran out, or the model is closed.
        """
        held = self.held
        if not held.states.lacks_stream(inputs, len(self.interface.inputs)):
            return held.runnable.run(inputs)

        def run(state: Sequence[Array]) -> tuple[list[Array], list[Array]]:
            found = held.runnable.run(held.states.completed(inputs, state))
            return found[:-1], self._after(found)

        return held.states.call(run)

    def run_into(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run on numpy arrays and write into the caller's outputs, without allocation.

        Raises:
            InputError: The inputs break the signature.
            InvalidArgumentError: An output cannot be written; see `Executable.run_into`.
            ExecutionError: A run-time check failed, or the model is closed.
        """
        self.executable.run_into(inputs, outputs)

    def run_keeping(self, inputs: Sequence[Array], rooms: Mapping[int, Room]) -> list[Array]:
        """As `run` on all inputs; outputs in `rooms` are written where these say."""
        return self.held.runnable.run_keeping(inputs, rooms)

    def seed(self, seed: int | None = None) -> int:
        """Start the model's stream of random numbers again.

        Args:
            seed: 64 bits, negative or not; None takes one of the operating system. A model that
                was never seeded starts from torch's default, 67280421310721.

        Returns:
            The seed.

        Raises:
            InvalidArgumentError: The model draws no random numbers, or the seed has more bits.
            ExecutionError: The model is closed.
        """
        return self.held.states.seed(seed)

    def session(
        self,
        carried: Mapping[str, str] | None = None,
        first: Mapping[str, Any] | None = None,
    ) -> Session:
        """A sequence of calls that keeps the model's state from one to the next.

        Args:
            carried: Inputs that take an output of the call before, as `{input: output}`, e.g.
                `{"past_key": "present_key"}`. Calls of the session take the other inputs and
                give the other outputs, by position or name.
            first: First values of state by name; needed for `carried`, otherwise the model's own.

        Raises:
            InvalidArgumentError: A name is unknown, or a first value is missing.
            ExecutionError: The model is closed.
        """
        return opened(self, carried, first)

    def flat_inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The inputs of a call in order, as they were given.

        Raises:
            InvalidArgumentError: One is missing, unknown, or too many.
        """
        if self.interface.in_spec is not None:
            from torsh_fx.importers.torch_call import flatten_inputs

            return flatten_inputs(self.interface, args, kwargs)
        return by_position(self.input_names, args, kwargs)

    def flat_arrays(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Array]:
        """The inputs of a call as numpy arrays, in order."""
        return [as_numpy(value) for value in self.flat_inputs(args, kwargs)]

    def flat_outputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Array]:
        """The outputs of a call as numpy arrays, in order; from the first state, as `__call__`."""
        held, given = self.held, self.flat_arrays(args, kwargs)

        def run(state: Sequence[Array]) -> tuple[list[Array], list[Array]]:
            found = held.runnable.run([*given, *state])
            return found[: len(self.output_names)], self._after(found)

        return held.states.call(run)

    def structured(self, outputs: list[Any]) -> Any:
        """The result of a call from all outputs, in the structure that the source gives."""
        if self.interface.out_spec is not None:
            from torsh_fx.importers.torch_call import unflatten_outputs

            return unflatten_outputs(self.interface, outputs)
        users = outputs[: len(self.output_names)]
        return users[0] if len(users) == 1 else tuple(users)

    def _after(self, found: Sequence[Array]) -> list[Array]:
        """The states behind a call that gave these outputs."""
        return [found[one.output] for one in self.states]
