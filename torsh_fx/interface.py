"""How a model is called: what a caller needs to know of it, without its program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """A value that a model keeps between calls: an extra input and an extra result.

    Attributes:
        name: The buffer's name in the source.
        input: Position among the arguments of `@main`.
        output: Position among the results of `@main` that hold its next value.
        weight: Name in the weight store of its initial value.
    """

    name: str
    input: int
    output: int
    weight: str


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a model.

    Attributes:
        inputs: Names of the arguments of `@main`, user inputs first, then state.
        outputs: Names of the results of `@main`, user outputs first, then state.
        state: Buffers that the model changes.
        written: User inputs that the model writes, each with the output that is its new value.
        in_spec: The source framework's description of how call arguments flatten to inputs.
        out_spec: Likewise for outputs.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    state: tuple[State, ...] = ()
    written: tuple[tuple[int, int], ...] = ()
    in_spec: object | None = None
    out_spec: object | None = None

    @property
    def states(self) -> list[State]:
        """The state, in order of the inputs that take it."""
        return sorted(self.state, key=lambda one: one.input)

    @property
    def user_inputs(self) -> tuple[str, ...]:
        """Names of the inputs of a call, in order, without state."""
        hidden = {state.input for state in self.state}
        return tuple(n for i, n in enumerate(self.inputs) if i not in hidden)

    @property
    def user_outputs(self) -> tuple[str, ...]:
        """Names of the outputs of a call, in order, without state."""
        hidden = {state.output for state in self.state}
        return tuple(n for i, n in enumerate(self.outputs) if i not in hidden)
