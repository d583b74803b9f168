"""Factorisation of symmetric and Hermitian matrices that need not be positive, and its solver.

The method is that of Bunch and Kaufman (1977) as in LAPACK's sytf2 and hetf2, for the lower
triangle: x = P L D L^H P^T with D of blocks 1 x 1 and 2 x 2 (L^T for symmetric complex matrices).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import BoolAttr
from xdsl.irdl import operand_def, opt_prop_def, result_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of
from torsh_dialect.declare import op
from torsh_dialect.dims import broadcast_shapes, conflict
from torsh_dialect.errors import ShapeError
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.ops.linalg import OfMatrices
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor

ALPHA = (1 + 17**0.5) / 8
"""Bound on the growth of elements that decides between a pivot of 1 x 1 and of 2 x 2."""


@op
class LdlOp(OfMatrices):
    """L and D in the lower triangle of one matrix, zeros above, pivots, and a status.

    Only the lower triangle is read. Pivot k (i32) is the row from 1 that row k was exchanged
    with; two equal negative ones tell a block 2 x 2 of D, whose second row was exchanged. The
    status (i32) is 0, or the number of the first block that is 0. `hermitian` makes a difference
    for complex matrices only.
    C1: matrices of f32, f64 or complex numbers. C2: square.

    %ld, %p, %s = torsh.ldl %x : (tensor<3x3xf32>) -> (tensor<3x3xf32>, tensor<3xi32>, tensor<i32>)
    """

    name = "torsh.ldl"
    hermitian = opt_prop_def(BoolAttr)
    ld = result_def()
    pivots = result_def()
    status = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, _ = self.matrices(square=True)
        pivots = tensor(dtypes.i32, (*batch, rows))
        return (tensor(element_type(self.x), dims_of(self.x)), pivots, tensor(dtypes.i32, batch))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = np.tril(args[0].astype(_wide(args[0])))
        pivots = np.zeros(x.shape[:-1], np.int32)
        status = np.zeros(x.shape[:-2], np.int32)
        for place in np.ndindex(*x.shape[:-2]):
            status[place] = _factor(x[place], pivots[place], bool_of(self.hermitian))
        return (x, pivots, status)


@op
class LdlSolveOp(OfMatrices):
    """y with x y = b, from the factors and pivots that `torsh.ldl` gives for x; batches broadcast.

    C1: matrices of f32, f64 or complex numbers. C2: x is square, b has as many rows, and there
    is a pivot for each.

    %y = torsh.ldl_solve %ld, %p, %b : (tensor<3x3xf32>, tensor<3xi32>, tensor<3x2xf32>) -> tensor<3x2xf32>
    """  # noqa: E501

    name = "torsh.ldl_solve"
    x = operand_def()
    pivots = operand_def()
    b = operand_def()
    hermitian = opt_prop_def(BoolAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, _ = self.matrices(square=True)
        dims, pivots = dims_of(self.b), dims_of(self.pivots)
        if rank_of(self.b) < 2 or conflict(rows, dims[-2]) or len(pivots) != len(batch) + 1:
            raise ShapeError(f"C2: x is {self.x.type}, {self.pivots.type}, b is {self.b.type}")
        return (tensor(element_type(self.b), (*broadcast_shapes(batch, dims[:-2]), *dims[-2:])),)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, b = args[0].astype(_wide(args[0])), args[2].astype(_wide(args[0]))
        batch = np.broadcast_shapes(x.shape[:-2], b.shape[:-2])
        x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
        pivots = np.broadcast_to(args[1], (*batch, args[1].shape[-1]))
        y = np.broadcast_to(b, (*batch, *b.shape[-2:])).copy()
        for place in np.ndindex(*batch):
            order, lower, blocks = _unpacked(x[place], pivots[place], bool_of(self.hermitian))
            upper = lower.conj().T if bool_of(self.hermitian) else lower.T
            solve: Any = np.linalg.solve
            y[place][order] = solve(upper, solve(blocks, solve(lower, y[place][order])))
        return (y,)


def _wide(x: Any) -> Any:
    return np.complex128 if x.dtype.kind == "c" else np.float64


def _size(x: Any) -> Any:
    return np.abs(x.real) + np.abs(x.imag)


def _pivot(a: Any, k: int) -> tuple[int, int]:
    """The row to exchange and the extent of the pivot block at k."""
    own, below = _size(a[k, k]), _size(a[k + 1 :, k])
    if not below.size or own >= ALPHA * below.max():
        return k, 1
    row = k + 1 + int(np.argmax(below))
    beside = max([*_size(a[row, k:row]), *_size(a[row + 1 :, row])])
    if own >= ALPHA * below.max() * (below.max() / beside):
        return k, 1
    return (row, 1) if _size(a[row, row]) >= ALPHA * beside else (row, 2)


def _factor(a: Any, pivots: Any, hermitian: bool) -> int:
    """In place on the lower triangle, by way of the whole matrix."""
    if hermitian:
        np.fill_diagonal(a, a.diagonal().real)
    status, k, count = 0, 0, len(a)
    while k < count:
        row, extent = _pivot(a, k)
        last, rest = k + extent - 1, slice(k + extent, None)
        if row != last:
            part = np.tril(a[k:, k:], -1)
            whole = part + (part.conj() if hermitian else part).T + np.diag(a[k:, k:].diagonal())
            order = np.arange(count - k)
            order[[last - k, row - k]] = order[[row - k, last - k]]
            a[k:, k:] = np.tril(whole[np.ix_(order, order)])
        pivots[k : k + extent] = row + 1 if extent == 1 else -(row + 1)
        block = a[k : k + extent, k : k + extent]
        if not block.any():
            status = status or k + 1
        elif extent == 1 or count > k + 2:
            block = block + (np.tril(block, -1).conj() if hermitian else np.tril(block, -1)).T
            column = a[rest, k : k + extent]
            inverse: Any = np.linalg.inv
            factor = column @ inverse(block)
            a[rest, rest] -= np.tril(factor @ (column.conj() if hermitian else column).T)
            a[rest, k : k + extent] = factor
            if hermitian:
                np.fill_diagonal(a[rest, rest], a[rest, rest].diagonal().real)
        k += extent
    return status


def _unpacked(a: Any, pivots: Any, hermitian: bool) -> tuple[Any, Any, Any]:
    """The order of rows, the unit triangular factor in that order, and the block diagonal."""
    count = len(a)
    order, lower, blocks = np.arange(count), np.eye(count, dtype=a.dtype), np.zeros_like(a)
    k = 0
    while k < count:
        extent = 1 if pivots[k] > 0 else 2
        last, row = k + extent - 1, abs(int(pivots[k])) - 1
        for vector in (order, lower[:, :k]):
            vector[[last, row]] = vector[[row, last]]
        lower[k + extent :, k : k + extent] = a[k + extent :, k : k + extent]
        block = np.tril(a[k : k + extent, k : k + extent])
        other = np.tril(block, -1)
        blocks[k : k + extent, k : k + extent] = block + (other.conj() if hermitian else other).T
        k += extent
    return order, lower, blocks
