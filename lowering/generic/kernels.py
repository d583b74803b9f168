"""Lowerings of ops that are a kernel of their own: they write whole buffers, not elements."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.ir import Operation

from lowering.kernel import Kernel
from torsh_dialect.kinds import TensorOp

WholeKernel = Callable[[Operation], Kernel]

WHOLE: dict[type[Operation], WholeKernel] = {}
"""Op classes whose kernel is built at once, with the op's operands and results as arguments."""


KINDS: dict[type[TensorOp], WholeKernel] = {}
"""The same for all classes of a kind."""


def whole_kernel(*classes: type[Operation]) -> Callable[[WholeKernel], WholeKernel]:
    """Register the kernel builder of some op classes."""

    def register(build: WholeKernel) -> WholeKernel:
        WHOLE.update(dict.fromkeys(classes, build))
        return build

    return register


def whole_kernel_of_kind(kind: type[TensorOp]) -> Callable[[WholeKernel], WholeKernel]:
    """Register the kernel builder of all op classes of a kind that have none of their own."""

    def register(build: WholeKernel) -> WholeKernel:
        KINDS[kind] = build
        return build

    return register


def whole_kernel_for(op: Operation) -> WholeKernel | None:
    """The builder of an op's kernel: its class's, or its kind's; None for ops by element."""
    own = WHOLE.get(type(op))
    if own is not None:
        return own
    return next((build for kind, build in KINDS.items() if isinstance(op, kind)), None)


def is_whole_kernel(op: Operation) -> bool:
    """Whether the op is lowered at once, by its own builder."""
    return whole_kernel_for(op) is not None
