"""All op files; importing this module fills `torsh_dialect.declare.OPS`."""

from torsh_dialect.ops import (
    activation,
    compare,
    constant,
    elementwise,
    logic,
    maths,
    rounding,
    select,
)

__all__ = [
    "activation",
    "compare",
    "constant",
    "elementwise",
    "logic",
    "maths",
    "rounding",
    "select",
]
