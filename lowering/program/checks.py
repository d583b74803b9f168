"""The run-time checks of a program: what each status code means, for the user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from lowering.runtime.spec import CheckSpec
from torsh_dialect.dims import Dim

if TYPE_CHECKING:
    from lowering.program.relations import Relation

WORDS = {
    "eq": "equal",
    "ne": "differ from",
    "le": "be at most",
    "lt": "be below",
    "fits": "be 1 or equal",
}
"""How relations are said."""


@dataclass
class Checks:
    """A table of checks; code n + 1 is entry n.

    The error record holds the value that failed, the limit, and the code in word `CODE`. Codes
    that kernels use are the same in all programs.
    """

    CODE: ClassVar[int] = 3
    INDEX: ClassVar[int] = 1
    STEP: ClassVar[int] = 2
    PLACE: ClassVar[int] = 3
    PARAMETER: ClassVar[int] = 4

    specs: list[CheckSpec] = field(default_factory=list[CheckSpec])
    _codes: dict[CheckSpec, int] = field(default_factory=dict[CheckSpec, int])

    def __post_init__(self) -> None:
        message = "an index is {0}, outside of an axis of extent {1}"
        assert self.add("index", message) == self.INDEX
        assert self.add("execution", "the step of a range is 0") == self.STEP
        text = "a place is {0}, outside of {1} elements"
        assert self.add("execution", text) == self.PLACE
        text = "element {0} of a distribution's parameters is outside of their range"
        assert self.add("execution", text) == self.PARAMETER

    def add(self, kind: str, message: str, location: str = "") -> int:
        """The code of a check; equal checks have one code."""
        spec = CheckSpec(kind, message, location)
        if spec not in self._codes:
            self.specs.append(spec)
            self._codes[spec] = len(self.specs)
        return self._codes[spec]

    def input_extent(self, name: str, axis: int, dim: Dim) -> int:
        """An input's extent is not what it must be."""
        return self.add(
            "input", f"axis {axis} of input {name!r} has extent {{0}}; it must be {dim} = {{1}}"
        )

    def relation(self, relation: Relation, kind: str, location: str = "") -> int:
        """Two extents do not stand in the relation that an op needs."""
        left, right = (str(d).replace("{", "{{") for d in (relation.left, relation.right))
        text = f"{left} = {{0}} must {WORDS[relation.kind]} {right} = {{1}}"
        return self.add(kind, text, location)

    def below(self, name: str, location: str) -> int:
        """A value that becomes an extent is too small."""
        return self.add("execution", f"the extent {name} is {{0}}, below {{1}}", location)

    def above(self, name: str, location: str) -> int:
        """A value that becomes an extent is too large."""
        return self.add("execution", f"the extent {name} is {{0}}, above {{1}}", location)

    def broken(self, condition: str, location: str) -> int:
        """Data are not as the model asserts; the error repeats its words."""
        return self.add("execution", condition.replace("{", "{{").replace("}", "}}"), location)

    def memory(self) -> int:
        """The host has no more memory."""
        return self.add("execution", "out of memory: {0} bytes are not to be had")

    def uneven_stack(self) -> int:
        """A loop's iterations give values of different extents to be stacked."""
        return self.add("execution", "a loop stacks values of different extents: {0} after {1}")

    def lower_bound(self, name: str) -> int:
        """A symbol is below its bound."""
        return self.add("input", f"the extent {name} is {{0}}, below its bound {{1}}")

    def upper_bound(self, name: str) -> int:
        """A symbol is above its bound."""
        return self.add("input", f"the extent {name} is {{0}}, above its bound {{1}}")
