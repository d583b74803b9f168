"""Clean up: drop what nothing uses, compute each thing once, remove what does nothing.

Before:

    %t = torsh.transpose %x {permutation = array<i64: 1, 0>} : ...
    %u = torsh.transpose %t {permutation = array<i64: 1, 0>} : ...
    %d = torsh.relu %x : ...            (unused)

After: uses of %u use %x; the others are gone. Patterns never change a value.

Small integers that are known, like the extents of a static shape, become constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from torsh_dialect.attributes import Array, literal
from torsh_dialect.driver import Driver, erase_dead
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.kinds import DefinesSymbols, Random, TensorOp
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.passes.patterns import CANONICAL
from torsh_dialect.types import dims_of, element_type

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


def fold_known(module: ModuleOp) -> int:
    """Replace ops by constants where the integers in their result are known."""
    count = 0
    for op in list(module.walk()):
        array = known_integers(op)
        if array is None:
            continue
        constant = ConstantOp.make(value=literal(array), location=op.location)
        constant.results[0].name_hint = op.results[0].name_hint
        Rewriter.insert_op(constant, InsertPoint.before(op))
        op.results[0].replace_all_uses_with(constant.results[0])
        count += 1
    return count


def known_integers(op: Operation) -> Array | None:
    """The result of an op, if it is a small tensor of known integers."""
    if not isinstance(op, TensorOp) or isinstance(op, ConstantOp) or len(op.results) != 1:
        return None
    type = op.results[0].type
    if not isinstance(type, TensorType) or op.has_trait(DefinesSymbols) or not op.results[0].uses:
        return None
    dims, row = dims_of(type), dtype_of(element_type(type))  # pyright: ignore[reportUnknownArgumentType]
    if row.kind not in ("int", "uint") or not all(isinstance(d, int) for d in dims):
        return None
    contents = op.contents()
    if contents is None or not all(isinstance(value, int) for value in contents):
        return None
    wide = np.array(contents, object)
    try:
        array = wide.astype(row.numpy)
    except OverflowError:  # a sum or product that leaves the type wraps when it is computed
        return None
    return array.reshape(dims) if (array.astype(object) == wide).all() else None  # pyright: ignore


@dataclass(frozen=True)
class CanonicalizePass(ModulePass):
    """See the module docstring."""

    name = "canonicalize"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        changed = True
        while changed:
            erase_dead(op)
            changed = fold_known(op) > 0
            changed |= Driver([pattern() for pattern in CANONICAL]).run(op)
            for function in op.ops:
                for region in function.regions:
                    for block in region.blocks:
                        changed |= eliminate_common(block, {}) > 0
        erase_dead(op)
