"""The memory that a call of a compiled model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lowering.runtime.abi import Word

if TYPE_CHECKING:
    from torsh_fx.compiled import CompiledModule


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a call with inputs of certain shapes takes, beside inputs and outputs.

    Attributes:
        weights: Prepared weights, shared by all calls.
        arena: All intermediates; kept for the next call.
        scratch: Of all threads together.
    """

    weights: int
    arena: int
    scratch: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.weights + self.arena + self.scratch


def memory_plan(compiled: CompiledModule, shapes: Sequence[tuple[int, ...]]) -> MemoryPlan:
    """What a call with inputs of such shapes takes.

    Raises:
        InputError: The shapes break the signature.
    """
    executable = compiled.executable
    rows = zip(executable.spec.inputs, shapes, strict=True)
    record = executable.new_context().record(tuple([one.shape_in_memory(s) for one, s in rows]))
    weights = compiled.program.weights
    return MemoryPlan(
        weights=sum(array.nbytes for array in weights.arrays) if weights else 0,
        arena=int(record.words[Word.ARENA_BYTES]),
        scratch=executable.spec.scratch_bytes * executable.threads,
    )
