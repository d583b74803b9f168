"""Factorisations and solvers of stacks of matrices: routines of LAPACK, called by lowering.

The last two axes are a matrix, the others a batch. Results that are unique only up to signs or
phases (eigenvectors, singular vectors) are as LAPACK gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import BoolAttr
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, bool_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, broadcast_shapes, conflict, minimum
from torsh_dialect.dtypes import Element, is_complex
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Extern
from torsh_dialect.ops.complex import PART, WHOLE
from torsh_dialect.ops.half import rounded_once
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


class OfMatrices(Extern):
    """A routine whose first operand is a stack of matrices of f32, f64 or complex elements."""

    x = operand_def()

    def matrices(self, *, square: bool = False) -> tuple[tuple[Dim, ...], Dim, Dim]:
        """Batch extents, rows and columns.

        Raises:
            ShapeError: The operand holds no matrices, or none that are square.
        """
        dims = dims_of(self.x)
        if len(dims) < 2 or element_type(self.x) not in (*PART, *WHOLE):
            raise ShapeError(f"C1: {self.x.type} holds no matrices of f32, f64 or complex numbers")
        *batch, rows, columns = dims
        if square and conflict(rows, columns):
            raise ShapeError(f"C2: matrices of {rows} x {columns} are not square")
        return tuple(batch), rows, columns


def real_part(element: Element) -> Element:
    """The element type of magnitudes."""
    return PART[element] if is_complex(element) else element


@op
class CholeskyOp(OfMatrices):
    """The lower triangular factor L with x = L L^H (`upper`: U with x = U^H U), and a status.

    Only the triangle named is read. The status (i32) is 0, or the order of the leading minor
    that is not positive; the factor has no meaning then.
    C1: matrices of f32, f64 or complex numbers. C2: square.

    %r, %s = torsh.cholesky %x : (tensor<3x3xf32>) -> (tensor<3x3xf32>, tensor<i32>)
    """

    name = "torsh.cholesky"
    upper = opt_prop_def(BoolAttr)
    y = result_def()
    status = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, _, _ = self.matrices(square=True)
        return (tensor(element_type(self.x), dims_of(self.x)), tensor(dtypes.i32, batch))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        lower = np.tril(x) if not bool_of(self.upper) else np.swapaxes(np.triu(x), -1, -2).conj()
        y, status = np.zeros_like(x), np.zeros(x.shape[:-2], np.int32)
        for place in np.ndindex(*x.shape[:-2]):
            y[place], status[place] = _cholesky(lower[place])
        return (np.swapaxes(y, -1, -2).conj() if bool_of(self.upper) else y, status)


def _cholesky(a: Any) -> tuple[Any, int]:
    """Column by column, by definition; stops at the first pivot that is not positive."""
    factor = np.zeros(a.shape, np.complex128 if a.dtype.kind == "c" else np.float64)
    for j in range(len(a)):
        pivot = (a[j, j] - factor[j, :j] @ factor[j, :j].conj()).real
        if not pivot > 0:
            return factor, j + 1
        factor[j, j] = np.sqrt(pivot)
        rest = a[j + 1 :, j] - factor[j + 1 :, :j] @ factor[j, :j].conj()
        factor[j + 1 :, j] = rest / factor[j, j]
    return factor, 0


@op
class LuOp(OfMatrices):
    """L and U in one matrix with P x = L U (the unit diagonal of L is left out), pivots, status.

    Row i was exchanged with row pivots[i] (i32, from 1), in order. The status (i32) is 0, or the
    number of the first pivot that is 0.
    C1: matrices of f32, f64 or complex numbers.

    %lu, %p, %s = torsh.lu %x : (tensor<3x3xf32>) -> (tensor<3x3xf32>, tensor<3xi32>, tensor<i32>)
    """

    name = "torsh.lu"
    lu = result_def()
    pivots = result_def()
    status = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, columns = self.matrices()
        pivots = tensor(dtypes.i32, (*batch, minimum(rows, columns)))
        return (tensor(element_type(self.x), dims_of(self.x)), pivots, tensor(dtypes.i32, batch))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0].astype(np.complex128 if args[0].dtype.kind == "c" else np.float64)
        count = min(x.shape[-2:])
        pivots = np.zeros((*x.shape[:-2], count), np.int32)
        status = np.zeros(x.shape[:-2], np.int32)
        for place in np.ndindex(*x.shape[:-2]):
            status[place] = _eliminate(x[place], pivots[place])
        return (x, pivots, status)


def _eliminate(a: Any, pivots: Any) -> int:
    """Gaussian elimination in place with the largest magnitude as pivot."""
    status = 0
    for j in range(len(pivots)):
        size = np.abs(a[j:, j].real) + np.abs(a[j:, j].imag)
        best = j + int(np.argmax(size))
        pivots[j] = best + 1
        a[[j, best]] = a[[best, j]]
        if a[j, j] == 0:
            status = status or j + 1
            continue
        a[j + 1 :, j] /= a[j, j]
        a[j + 1 :, j + 1 :] -= np.outer(a[j + 1 :, j], a[j, j + 1 :])
    return status


@op
class QrOp(OfMatrices):
    """Q with orthonormal columns and R upper triangular, x = Q R.

    Q has min(m, n) columns, or m with `complete`.
    C1: matrices of f32, f64 or complex numbers.

    %q, %r = torsh.qr %x : (tensor<4x3xf32>) -> (tensor<4x3xf32>, tensor<3x3xf32>)
    """

    name = "torsh.qr"
    complete = opt_prop_def(BoolAttr)
    q = result_def()
    r = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, columns = self.matrices()
        inner = rows if bool_of(self.complete) else minimum(rows, columns)
        element = element_type(self.x)
        return (tensor(element, (*batch, rows, inner)), tensor(element, (*batch, inner, columns)))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        q, r = np.linalg.qr(x, "complete" if bool_of(self.complete) else "reduced")
        return (q, r)


@op
class QrReflectionsOp(OfMatrices):
    """R in the upper triangle and below it the reflections whose product is Q, and their factors.

    Reflection i is I - tau[i] v v^H, where v is 0 above place i, 1 at it and column i of the
    result below it; Q is their product in order, as of LAPACK's geqrf.
    C1: matrices of f32, f64 or complex numbers.

    %y, %t = torsh.qr_reflections %x : (tensor<4x3xf32>) -> (tensor<4x3xf32>, tensor<3xf32>)
    """

    name = "torsh.qr_reflections"
    y = result_def()
    taus = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, columns = self.matrices()
        element = element_type(self.x)
        taus = tensor(element, (*batch, minimum(rows, columns)))
        return (tensor(element, dims_of(self.x)), taus)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        turned, taus = np.linalg.qr(x, "raw")
        return (np.swapaxes(turned, -1, -2), taus)


@op
class SvdOp(OfMatrices):
    """U, S and V^H with x = U diag(S) V^H, S real and descending.

    With `full`, U and V^H are square; else they have min(m, n) columns and rows.
    C1: matrices of f32, f64 or complex numbers.

    %u, %s, %v = torsh.svd %x : (tensor<4x3xf32>) -> (tensor<4x3xf32>, tensor<3xf32>, tensor<3x3xf32>)
    """  # noqa: E501

    name = "torsh.svd"
    full = opt_prop_def(BoolAttr)
    u = result_def()
    s = result_def()
    vh = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, columns = self.matrices()
        count, element = minimum(rows, columns), element_type(self.x)
        left, right = (rows, columns) if bool_of(self.full) else (count, count)
        return (
            tensor(element, (*batch, rows, left)),
            tensor(real_part(element), (*batch, count)),
            tensor(element, (*batch, right, columns)),
        )

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        u, s, vh = np.linalg.svd(x, full_matrices=bool_of(self.full))
        return (u, s, vh)


@op
class EighOp(OfMatrices):
    """Eigenvalues, real and ascending, and eigenvectors (columns) of Hermitian matrices.

    Only the lower triangle is read, or the upper one with `upper`.
    C1: matrices of f32, f64 or complex numbers. C2: square.

    %w, %v = torsh.eigh %x : (tensor<3x3xf32>) -> (tensor<3xf32>, tensor<3x3xf32>)
    """

    name = "torsh.eigh"
    upper = opt_prop_def(BoolAttr)
    values = result_def()
    vectors = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, _ = self.matrices(square=True)
        element = element_type(self.x)
        values = tensor(real_part(element), (*batch, rows))
        return (values, tensor(element, dims_of(self.x)))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        values, vectors = np.linalg.eigh(x, "U" if bool_of(self.upper) else "L")
        return (values, vectors)


@op
class EigOp(OfMatrices):
    """Eigenvalues and eigenvectors (columns of length 1), complex.

    C1: matrices of f32, f64 or complex numbers. C2: square.

    %w, %v = torsh.eig %x : (tensor<3x3xf32>) -> (tensor<3xcomplex<f32>>, tensor<3x3xcomplex<f32>>)
    """

    name = "torsh.eig"
    values = result_def()
    vectors = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, _ = self.matrices(square=True)
        element = WHOLE.get(element_type(self.x), element_type(self.x))
        return (tensor(element, (*batch, rows)), tensor(element, dims_of(self.x)))

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        x: Any = args[0]
        values, vectors = np.linalg.eig(x)
        return (values, vectors)


@op
class TriangularSolveOp(OfMatrices):
    """y with x y = b for triangular x, of which only the triangle named is read.

    With `unit` the diagonal is taken as 1; batches broadcast.
    C1: matrices of f32, f64 or complex numbers. C2: x is square, b has as many rows.

    %r = torsh.triangular_solve %x, %b {upper = false} : (tensor<3x3xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
    """  # noqa: E501

    name = "torsh.triangular_solve"
    x = operand_def()
    b = operand_def()
    upper = prop_def(BoolAttr)
    unit = opt_prop_def(BoolAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        batch, rows, _ = self.matrices(square=True)
        dims = dims_of(self.b)
        if rank_of(self.b) < 2 or conflict(rows, dims[-2]):
            raise ShapeError(f"C2: x is {self.x.type}, b is {self.b.type}")
        return (tensor(element_type(self.b), (*broadcast_shapes(batch, dims[:-2]), *dims[-2:])),)

    @rounded_once
    def evaluate(self, *args: Array) -> Sequence[Array]:
        wide = np.complex128 if args[0].dtype.kind == "c" else np.float64
        x, b = args[0].astype(wide), args[1].astype(wide)
        batch = np.broadcast_shapes(x.shape[:-2], b.shape[:-2])
        x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
        y = np.broadcast_to(b, (*batch, *b.shape[-2:])).copy()
        count, upper = x.shape[-1], bool_of(self.upper)
        for i in range(count)[:: -1 if upper else 1]:
            done = slice(i + 1, None) if upper else slice(0, i)
            known = np.einsum("...k,...kj->...j", x[..., i, done], y[..., done, :])
            y[..., i, :] -= known
            if not bool_of(self.unit):
                y[..., i, :] /= x[..., i, i, None]
        return (y,)
