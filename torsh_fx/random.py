"""States of random streams: what a model with random ops draws from, as plain arrays.

A model keeps its stream like any other state, under the name `STATE`. Two streams are known:

- `philox`: two ui64, the key (the seed) and the number of the next block of Philox4x32-10;
- `mt19937`: 628 ui32, the 624 words of the twister, how many of them are used up, and the normal
  number that torch keeps for its next draw: whether there is one, and its bits as f64.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.settings import StreamName

T = TypeVar("T")

STATE = "torsh.random"
"""The name of the state of a model's stream, and of the input and output that carry it."""

DEFAULT_SEED = 67280421310721
"""What a stream starts from until it is seeded: torch's own (`c10::detail`)."""

MT_WORDS, MT_STATE = 624, 628


def checked_stream(name: str) -> StreamName:
    """The name of a stream.

    Raises:
        InvalidArgumentError: There is none of this name.
    """
    for known in get_args(StreamName):
        if name == known:
            return known
    raise InvalidArgumentError(
        f"random={name!r} is no stream; give one of {', '.join(get_args(StreamName))}"
    )


def first_state(stream: StreamName, seed: int = DEFAULT_SEED) -> NDArray[Any]:
    """The state behind `torch.manual_seed(seed)`, or of a Philox stream with this key.

    Raises:
        InvalidArgumentError: The seed does not fit 64 bits.
    """
    word = _word(seed)
    if stream == "philox":
        return np.array([word, 0], np.uint64)
    state = np.zeros(MT_STATE, np.uint32)
    value = word & 0xFFFFFFFF
    for place in range(MT_WORDS):  # the generator's `init_genrand`
        state[place] = value
        value = (1812433253 * (value ^ (value >> 30)) + place + 1) & 0xFFFFFFFF
    state[MT_WORDS] = MT_WORDS
    return state


def seeded_like(state: NDArray[Any], seed: int) -> NDArray[Any]:
    """The first state of the same stream with another seed.

    Raises:
        InvalidArgumentError: The seed does not fit 64 bits.
    """
    return first_state("philox" if state.dtype == np.uint64 else "mt19937", seed)


class StateValues:
    """The first values of a model's states; of the stream, where the last call that drew ended.

    Calls of a model that draws run one after the other.

    Args:
        names: The names of the states, in order.
        values: Their values, in the same order.
    """

    def __init__(self, names: Sequence[str], values: Sequence[NDArray[Any]]):
        self._place = names.index(STATE) if STATE in names else None
        self._values = list(values)
        self._lock = Lock()

    @property
    def values(self) -> list[NDArray[Any]]:
        """The values as they are now, in order."""
        return list(self._values)

    def call(self, run: Callable[[Sequence[NDArray[Any]]], tuple[T, Sequence[NDArray[Any]]]]) -> T:
        """What `run` gives for the values, beside the values after it; the stream's are kept."""
        if self._place is None:
            return run(self._values)[0]
        with self._lock:
            result, after = run(self._values)
            self._values[self._place] = after[self._place]
        return result

    def lacks_stream(
        self, inputs: Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]], count: int
    ) -> bool:
        """Whether just the stream is left out of `count` inputs, of which it is the last."""
        if self._place is None or len(inputs) != count - 1:
            return False
        return not (isinstance(inputs, Mapping) and STATE in inputs)

    def completed(
        self,
        inputs: Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]],
        values: Sequence[NDArray[Any]],
    ) -> Sequence[NDArray[Any]] | Mapping[str, NDArray[Any]]:
        """Inputs that lack the stream, with that of `values`."""
        assert self._place is not None
        stream = values[self._place]
        if isinstance(inputs, Mapping):
            return {**inputs, STATE: stream}
        return [*inputs, stream]

    def seed(self, seed: int | None) -> int:
        """Start the stream again; by a seed of the operating system for None.

        Returns:
            The seed.

        Raises:
            InvalidArgumentError: The model draws no numbers, or the seed does not fit 64 bits.
        """
        if self._place is None:
            raise InvalidArgumentError("the model draws no random numbers, so it takes no seed")
        seed = secrets.randbits(64) if seed is None else seed
        with self._lock:
            self._values[self._place] = seeded_like(self._values[self._place], seed)
        return seed

    def replace(self, values: Sequence[NDArray[Any]]) -> None:
        """Begin with other values from now on, but go on with the stream."""
        with self._lock:
            self._values = [
                old if number == self._place else value
                for number, (old, value) in enumerate(zip(self._values, values, strict=True))
            ]


def _word(seed: int) -> int:
    """A seed as torch takes it: of 64 bits, negative ones as their two's complement."""
    if not -(2**63) <= seed < 2**64:
        raise InvalidArgumentError(f"the seed {seed} does not fit 64 bits; give -2**63 to 2**64-1")
    return seed % 2**64
