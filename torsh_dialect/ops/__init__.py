"""All op files; importing this module fills `torsh_dialect.declare.OPS`."""

from torsh_dialect.ops import constant, elementwise

__all__ = ["constant", "elementwise"]
