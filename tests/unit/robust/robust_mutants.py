"""Mutants: which model to start from and what to change, as plain data that names one model."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from robust_changes import CHANGES, flipped, nodes
from robust_parents import OWN, inputs_of, parent

BYTES = "flip_bytes"
"""The change that is made to the file, after all others."""

RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
     "Multinomial", "Dropout"}
)  # fmt: skip
"""Operators whose results no two runtimes share."""


@dataclass(frozen=True)
class Plan:
    """A mutant.

    Attributes:
        parent: Name of a model of `robust_parents`.
        changes: Names of changes with the seeds of their dice, in order.
        seed: Of its inputs.
    """

    parent: str
    changes: tuple[tuple[str, int], ...]
    seed: int = 0

    def data(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @staticmethod
    def of(data: Mapping[str, Any]) -> Plan:
        """From `data`."""
        return Plan(data["parent"], tuple((n, s) for n, s in data["changes"]), data["seed"])


def plan_of(number: int, corpus: Sequence[str] = ()) -> Plan:
    """Mutant `number`: half of them of our models, half of `corpus` where it is given."""
    dice = random.Random(number)
    own = sorted(OWN)
    chosen = dice.choice(corpus) if corpus and dice.random() < 0.5 else dice.choice(own)
    names = [*sorted(CHANGES), BYTES]
    count = dice.choice([1, 1, 1, 1, 2, 2, 3])
    changes = tuple((dice.choice(names), dice.randrange(1 << 31)) for _ in range(count))
    return Plan(chosen, changes, number)


@dataclass(frozen=True)
class Mutant:
    """A changed model.

    Attributes:
        model: The message; bytes where they are no ONNX file any more.
        inputs: By name; None where inputs of its types cannot be drawn.
    """

    model: onnx.ModelProto | bytes
    inputs: Mapping[str, Any] | None

    def data(self) -> bytes:
        """The file."""
        return self.model if isinstance(self.model, bytes) else self.model.SerializeToString()

    def is_random(self) -> bool:
        """Whether two runs may differ."""
        found = () if isinstance(self.model, bytes) else nodes(self.model)
        return any(node.op_type in RANDOM_OPS for node in found)


def mutant_of(plan: Plan, corpus: Path | None = None) -> Mutant:
    """The model of a plan."""
    start = parent(plan.parent, corpus)
    model, damaged = start.model, None
    for name, seed in plan.changes:
        dice = random.Random(seed)
        if name == BYTES:
            damaged = flipped(damaged or model.SerializeToString(), dice)
        elif damaged is None and nodes(model):
            CHANGES[name](model, dice)
    if damaged is not None:
        try:
            model = onnx.ModelProto.FromString(damaged)
        except (DecodeError, ValueError):
            return Mutant(damaged, None)
    try:
        return Mutant(model, inputs_of(model, start.inputs, plan.seed))
    except (UnicodeDecodeError, ValueError, TypeError):
        return Mutant(model, None)
