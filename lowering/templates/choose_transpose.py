"""The kernel of a `torsh.transpose` that exchanges two groups of axes."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation

from lowering.cpu.templates.transposed import TransposeParams, units
from lowering.kernel import Kernel
from lowering.templates.shell import TemplateShell, is_alone, static_or
from torsh_dialect.attributes import ints_of
from torsh_dialect.dims import Dim, product
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.movement import TransposeOp
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type

FLOPS_PER_ELEMENT = 4
"""What moving an element costs in operations, for the choice of threads."""


def transposed(fused: FusedOp, op: Operation, target: TargetInfo) -> Kernel | None:
    """A transposition of matrices, alone in its region."""
    assert isinstance(op, TransposeOp)
    del target
    row = dtype_of(element_type(op.x))
    found = as_matrices(dims_of(op.x), ints_of(op.perm))
    moves = row.bits == 8 * row.bytes and row.bytes <= 8 and row.kind != "complex"
    if not is_alone(fused, op.x) or found is None or not moves:
        return None
    batch, rows, columns = found
    params = TransposeParams(
        rows if isinstance(rows, int) else None,
        columns if isinstance(columns, int) else None,
        row.bytes,
    )
    shell = TemplateShell(fused, op)
    shell.operand(op.x)
    shell.result()
    shell.extent(rows)
    shell.extent(columns)
    high, wide = params.blocks()
    elements = min(high, static_or(rows, high)) * min(wide, static_or(columns, wide))
    cost = float(FLOPS_PER_ELEMENT * elements)
    return shell.finish("transpose", params, units(params, batch, rows, columns), cost)


def as_matrices(dims: Sequence[Dim], perm: Sequence[int]) -> tuple[Dim, Dim, Dim] | None:
    """`(batch, rows, columns)` of the matrices that a permutation transposes; None if it doesn't.

    Axes of extent 1 are left out: they may stand anywhere.
    """
    wide = [axis for axis, dim in enumerate(dims) if dim != 1]
    order = [wide.index(axis) for axis in perm if dims[axis] != 1]
    kept = next((n for n, axis in enumerate(order) if n != axis), len(order))
    rest = order[kept:]
    if len(rest) < 2:
        return None
    middle = rest[0]
    if rest != [*range(middle, len(order)), *range(kept, middle)]:
        return None
    sizes = [dims[axis] for axis in wide]
    return product(sizes[:kept]), product(sizes[kept:middle]), product(sizes[middle:])
