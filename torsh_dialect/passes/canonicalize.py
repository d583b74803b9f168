"""Clean up: drop what nothing uses, compute each thing once, remove what does nothing.

Before:

    %t = torsh.transpose %x {permutation = array<i64: 1, 0>} : ...
    %u = torsh.transpose %t {permutation = array<i64: 1, 0>} : ...
    %d = torsh.relu %x : ...            (unused)

After: uses of %u use %x; the others are gone. Patterns never change a value.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass

from torsh_dialect.driver import Driver, erase_dead
from torsh_dialect.kinds import Random, TensorOp
from torsh_dialect.passes.patterns import CANONICAL

Key = tuple[type[Operation], tuple[SSAValue, ...], tuple[tuple[str, Attribute], ...]]


def eliminate_common(block: Block, known: dict[Key, Operation] | None = None) -> int:
    """Replace ops that equal an earlier one in the same or an enclosing block."""
    known = dict(known or {})
    count = 0
    for op in list(block.ops):
        if op.regions:
            for region in op.regions:
                for inner in region.blocks:
                    count += eliminate_common(inner, known)
            continue
        if not isinstance(op, TensorOp) or isinstance(op, Random) or not op.results:
            continue
        key: Key = (type(op), tuple(op.operands), tuple(sorted(op.properties.items())))  # pyright: ignore[reportArgumentType]
        earlier = known.setdefault(key, op)
        if earlier is not op:
            for old, new in zip(op.results, earlier.results, strict=True):
                old.replace_all_uses_with(new)
            op.detach()
            op.erase()
            count += 1
    return count


@dataclass(frozen=True)
class CanonicalizePass(ModulePass):
    """See the module docstring."""

    name = "canonicalize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        changed = True
        while changed:
            erase_dead(op)
            changed = Driver([pattern() for pattern in CANONICAL]).run(op)
            for function in op.ops:
                for region in function.regions:
                    for block in region.blocks:
                        changed |= eliminate_common(block, {}) > 0
        erase_dead(op)
