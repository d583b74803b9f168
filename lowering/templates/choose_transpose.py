"""The kernel of a `torsh.transpose` that moves the last axis: of matrices that it transposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Operation

from lowering.cpu.templates.transpose_params import Apart, TransposeParams, units
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
    rows, columns = _static(found.rows), _static(found.columns)
    params = TransposeParams(rows, columns, row.bytes, _apart(found))
    few = params.is_narrow(rows) or params.is_narrow(columns)
    if few and not params.interleaves and not params.separates:
        return None  # squares would be almost empty
    shell = TemplateShell(fused, op)
    shell.operand(op.x)
    shell.result()
    shell.extent(found.rows)
    shell.extent(found.columns)
    if params.apart is not None:
        for dim in (found.row_step, found.column_step, *(d for axis in found.axes for d in axis)):
            shell.extent(dim)
    high, wide = params.blocks()
    elements = min(high, static_or(found.rows, high)) * min(wide, static_or(found.columns, wide))
    cost = float(FLOPS_PER_ELEMENT * elements)
    batch = product(extent for extent, _, _ in found.axes)
    count = units(params, batch, found.rows, found.columns)
    return shell.finish("transpose", params, count, cost)


@dataclass(frozen=True)
class Matrices:
    """The matrices that a permutation transposes; steps count elements.

    Attributes:
        rows: Rows of each, an axis whose elements follow each other in the result.
        columns: Columns of each, an axis whose elements follow each other in the operand.
        row_step: From a row to the next in the operand.
        column_step: From a column to the next in the result.
        axes: `(extent, step in the operand, step in the result)` of each axis of matrices.
    """

    rows: Dim
    columns: Dim
    row_step: Dim
    column_step: Dim
    axes: tuple[tuple[Dim, Dim, Dim], ...]

    @property
    def is_packed(self) -> bool:
        """Whether the matrices follow each other, without gaps."""
        size = self.rows * self.columns
        apart = [axis for axis in self.axes if axis[1:] != (size, size)]
        return not apart and self.row_step == self.columns and self.column_step == self.rows


def _static(dim: Dim) -> int | None:
    return dim if isinstance(dim, int) else None


def _apart(found: Matrices) -> Apart | None:
    if found.is_packed:
        return None
    axes = tuple((_static(n), _static(a), _static(b)) for n, a, b in found.axes)
    return Apart(_static(found.row_step), _static(found.column_step), axes)


def _longest_last(axes: tuple[tuple[Dim, Dim, Dim], ...]) -> tuple[tuple[Dim, Dim, Dim], ...]:
    """Matrices have no order, and long runs along their last axis need the least counting."""
    return tuple(sorted(axes, key=lambda axis: static_or(axis[0], 1 << 62)))


def as_matrices(dims: Sequence[Dim], perm: Sequence[int]) -> Matrices | None:
    """The matrices that a permutation transposes; None where the last axis stays the last.

    Axes of extent 1 are left out: they may stand anywhere. Axes that stay together are one.
    """
    sizes = [dim for dim in dims if dim != 1]
    wide = [axis for axis, dim in enumerate(dims) if dim != 1]
    joined: list[list[int]] = []
    for axis in (wide.index(axis) for axis in perm if dims[axis] != 1):
        if joined and joined[-1][-1] == axis - 1:
            joined[-1].append(axis)
        else:
            joined.append([axis])
    if not joined or joined[-1][-1] == len(sizes) - 1:
        return None
    extents = [product(sizes[axis] for axis in axes) for axes in joined]
    source = [product(sizes[axes[-1] + 1 :]) for axes in joined]
    result = [product(extents[n + 1 :]) for n in range(len(joined))]
    last = next(n for n, axes in enumerate(joined) if axes[-1] == len(sizes) - 1)
    matrix = (last, len(joined) - 1)
    axes = [(extents[n], source[n], result[n]) for n in range(len(joined)) if n not in matrix]
    return Matrices(
        extents[-1], extents[last], source[-1], result[last], _longest_last(tuple(axes))
    )
