"""Which target description fits this machine."""

from __future__ import annotations

import platform
from functools import cache

from lowering.runtime.machine import NEEDED_FLAGS, machine_flags
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TARGETS, TargetInfo

BEST_FIRST = (
    "x86-64-v4-vnni", "x86-64-v4", "x86-64-v3-vnni", "x86-64-v3", "x86-64-v2", "aarch64",
)  # fmt: skip
"""The portable targets; a specific CPU model is only used when it is asked for by name."""


@cache
def host_target() -> TargetInfo:
    """The best target that this machine runs.

    Raises:
        InvalidArgumentError: The machine has none of the known instruction sets.
    """
    flags = machine_flags()
    arm = platform.machine() in ("aarch64", "arm64")
    for name in BEST_FIRST:
        if (name == "aarch64") == arm and NEEDED_FLAGS[name] <= flags:
            return TARGETS[name]
    raise InvalidArgumentError(
        f"no target fits this {platform.machine()} machine; known targets: {', '.join(TARGETS)}"
    )
