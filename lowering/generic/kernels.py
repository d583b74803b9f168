"""Lowerings of ops that are a kernel of their own: they write whole buffers, not elements."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.ir import Operation

from lowering.kernel import Kernel

WholeKernel = Callable[[Operation], Kernel]

WHOLE: dict[type[Operation], WholeKernel] = {}
"""Op classes whose kernel is built at once, with the op's operands and results as arguments."""


def whole_kernel(*classes: type[Operation]) -> Callable[[WholeKernel], WholeKernel]:
    """Register the kernel builder of some op classes."""

    def register(build: WholeKernel) -> WholeKernel:
        WHOLE.update(dict.fromkeys(classes, build))
        return build

    return register


def is_whole_kernel(op: Operation) -> bool:
    """Whether the op is lowered at once, by its own builder."""
    return type(op) in WHOLE
