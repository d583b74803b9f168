"""Linear algebra: factorisations by the dialect's routines, solvers composed of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import Dim, minimum
from torsh_dialect.dtypes import is_complex
from torsh_dialect.ops import linalg
from torsh_dialect.ops.complex import ComplexAbsOp, ConjOp
from torsh_dialect.ops.diagonal import DiagEmbedOp, DiagonalOp, TriangleOp
from torsh_dialect.ops.ldl import LdlOp, LdlSolveOp
from torsh_dialect.ops.maths import Log2Op
from torsh_dialect.ops.reduce import CountNonzeroOp, ProdOp
from torsh_dialect.ops.sort import SortOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, converts
from torsh_fx.importers.torch_ops.control import counted_loop
from torsh_fx.importers.torch_ops.elementwise import sign_of


def adjoint(c: NodeBuilder, x: SSAValue) -> SSAValue:
    """The conjugate transpose of the last two axes."""
    rank = rank_of(x)
    y = c.transpose(x, [*range(rank - 2), rank - 1, rank - 2])
    return c.b(ConjOp, y) if is_complex(element_type(x)) else y


turned = adjoint
"""`adjoint` where a parameter has that name."""


def transposed(c: NodeBuilder, x: SSAValue) -> SSAValue:
    """The transpose of the last two axes."""
    rank = rank_of(x)
    return c.transpose(x, [*range(rank - 2), rank - 1, rank - 2])


def triangle(c: NodeBuilder, x: SSAValue, *, upper: bool, k: int = 0) -> SSAValue:
    """The upper or lower triangle; zeros elsewhere."""
    return c.b(TriangleOp, x, upper=upper, k=dims_attribute([k]))


def diagonal(c: NodeBuilder, x: SSAValue) -> SSAValue:
    """The main diagonal of the last two axes."""
    return c.b(DiagonalOp, x, offset=0, axis1=rank_of(x) - 2, axis2=rank_of(x) - 1)


def identity(c: NodeBuilder, like: SSAValue) -> SSAValue:
    """A stack of identity matrices with the extents of a stack of square ones."""
    ones = c.full(1, dims_of(like)[:-1], element_type(like))
    return c.b(DiagEmbedOp, ones, offset=0, axis1=rank_of(like) - 2, axis2=rank_of(like) - 1)


def solved(
    c: NodeBuilder, x: SSAValue, b: SSAValue, *, upper: bool, unit: bool = False
) -> SSAValue:
    """Y with x y = b for triangular x."""
    return c.b(linalg.TriangularSolveOp, x, b, upper=upper, unit=unit or None)


@converts("cholesky", "linalg_cholesky_ex")
def _cholesky(c: NodeBuilder, x: SSAValue, upper: bool = False, **options: Any) -> Any:
    factor, status = c.b.all(linalg.CholeskyOp, x, upper=upper or None)
    return (factor, status) if "_ex" in str(c.node.target) else factor


@converts("cholesky_solve")
def _cholesky_solve(c: NodeBuilder, b: SSAValue, factor: SSAValue, upper: bool = False) -> SSAValue:
    if upper:
        return solved(c, factor, solved(c, adjoint(c, factor), b, upper=False), upper=True)
    return solved(c, adjoint(c, factor), solved(c, factor, b, upper=False), upper=True)


@converts("cholesky_inverse")
def _cholesky_inverse(c: NodeBuilder, factor: SSAValue, upper: bool = False) -> SSAValue:
    return _cholesky_solve(c, identity(c, factor), factor, upper)


def factored(c: NodeBuilder, x: SSAValue) -> tuple[SSAValue, SSAValue, SSAValue]:
    """L and U in one matrix, pivots and status."""
    lu, pivots, status = c.b.all(linalg.LuOp, x)
    return lu, pivots, status


@converts("linalg_lu_factor_ex")
def _lu_factor(
    c: NodeBuilder, x: SSAValue, *, pivot: bool = True, check_errors: bool = False
) -> Any:
    if not pivot:
        raise c.refuse("LU without pivoting")
    return factored(c, x)


def permutation(c: NodeBuilder, pivots: SSAValue, rows: Dim) -> SSAValue:
    """Where each row of P x comes from, after all exchanges."""
    *batch, count = dims_of(pivots)
    place = c.broadcast(c.iota(rows), [*batch, rows])
    others = c.sub(c.cast(pivots, dtypes.i64), 1)

    def exchanged(c: NodeBuilder, i: int | SSAValue, place: SSAValue) -> SSAValue:
        other, steps = column(c, others, i), c.iota(rows)
        here, there = column(c, place, i), c.take_along(place, other, len(batch))
        place = c.where(c.eq(steps, other), here, place)
        return c.where(c.eq(steps, i), there, place)

    return repeated(c, count, place, exchanged)


def column(c: NodeBuilder, x: SSAValue, i: int | SSAValue) -> SSAValue:
    """The i-th element of the last axis, which stays."""
    axis = rank_of(x) - 1
    return c.cut(x, axis, i, 1) if isinstance(i, int) else c.unsqueeze(c.take(x, i, axis), axis)


Step: TypeAlias = Callable[[NodeBuilder, "int | SSAValue", SSAValue], SSAValue]
"""One of a number of steps: its number and the value so far give the next value."""


def repeated(c: NodeBuilder, count: Dim, value: SSAValue, step: Step) -> SSAValue:
    """The value after steps 0, 1, ..., count - 1; a loop where their number is symbolic."""
    if isinstance(count, int):
        for i in range(count):
            value = step(c, i, value)
        return value

    def fill(builder: BlockBuilder, arguments: Sequence[SSAValue]) -> Sequence[SSAValue]:
        inner = NodeBuilder(builder, c.node, c.graph)
        return [inner.tensor(True, dtypes.i1), step(inner, *arguments)]

    return counted_loop(c, count, [value], fill)[0]


def _unpacked(c: NodeBuilder, lu: SSAValue) -> tuple[SSAValue, SSAValue]:
    rows, columns = dims_of(lu)[-2:]
    inner, axis = minimum(rows, columns), rank_of(lu) - 2
    below = c.slice(triangle(c, lu, upper=False, k=-1), axis + 1, 0, inner)
    ones = c.full(1, (*dims_of(lu)[:-2], inner), element_type(lu))
    unit = c.b(DiagEmbedOp, ones, offset=0, axis1=axis, axis2=axis + 1)
    if rows != inner:
        unit = c.pad(unit, axis, 0, rows - inner)
    return c.add(below, unit), c.slice(triangle(c, lu, upper=True), axis, 0, inner)


def _matrix_of(c: NodeBuilder, place: SSAValue, lu: SSAValue) -> SSAValue:
    """P with x = P L U, from where each row of P^T x comes."""
    axis = rank_of(place)
    hit = c.eq(c.unsqueeze(place, axis - 1), c.unsqueeze(c.iota(dims_of(place)[-1]), 1))
    return c.cast(hit, element_type(lu))


@converts("lu_unpack")
def _lu_unpack(
    c: NodeBuilder,
    lu: SSAValue,
    pivots: SSAValue,
    unpack_data: bool = True,
    unpack_pivots: bool = True,
) -> Any:
    empty = c.full(0, [0], element_type(lu))
    p = _matrix_of(c, permutation(c, pivots, dims_of(lu)[-2]), lu) if unpack_pivots else empty
    lower, upper = _unpacked(c, lu) if unpack_data else (empty, empty)
    return p, lower, upper


@converts("linalg_lu")
def _linalg_lu(c: NodeBuilder, x: SSAValue, *, pivot: bool = True) -> Any:
    lu, pivots, _ = _lu_factor(c, x, pivot=pivot)
    return _lu_unpack(c, lu, pivots)


def lu_solved(c: NodeBuilder, lu: SSAValue, pivots: SSAValue, b: SSAValue) -> SSAValue:
    """Y with x y = b from the factors of x."""
    place = permutation(c, pivots, dims_of(lu)[-2])
    rows = c.unsqueeze(place, rank_of(place))
    batch = dims_of(b)[:-2] if rank_of(b) >= rank_of(lu) else dims_of(lu)[:-2]
    b = c.broadcast(b, (*batch, *dims_of(b)[-2:]))
    moved = c.take_along(b, c.broadcast(rows, dims_of(b)), rank_of(b) - 2)
    return solved(c, lu, solved(c, lu, moved, upper=False, unit=True), upper=True)


def lu_solved_transposed(
    c: NodeBuilder, lu: SSAValue, pivots: SSAValue, b: SSAValue, *, conjugate: bool
) -> SSAValue:
    """Y with x^T y = b (x^H with `conjugate`) from the factors of x."""
    turned = adjoint(c, lu) if conjugate else transposed(c, lu)
    y = solved(c, turned, solved(c, turned, b, upper=False), upper=True, unit=True)
    place = permutation(c, pivots, dims_of(lu)[-2])
    _, back = c.b.all(SortOp, place, axis=rank_of(place) - 1)
    rows = c.broadcast(c.unsqueeze(back, rank_of(back)), dims_of(y))
    return c.take_along(y, rows, rank_of(y) - 2)


@converts("linalg_lu_solve")
def _lu_solve(
    c: NodeBuilder,
    lu: SSAValue,
    pivots: SSAValue,
    b: SSAValue,
    *,
    left: bool = True,
    adjoint: bool = False,
) -> SSAValue:
    if left:
        if adjoint:
            return lu_solved_transposed(c, lu, pivots, b, conjugate=True)
        return lu_solved(c, lu, pivots, b)
    if adjoint:
        return turned(c, lu_solved(c, lu, pivots, turned(c, b)))
    return transposed(c, lu_solved_transposed(c, lu, pivots, transposed(c, b), conjugate=False))


@converts("_linalg_solve_ex")
def _solve(
    c: NodeBuilder, x: SSAValue, b: SSAValue, *, left: bool = True, check_errors: bool = False
) -> Any:
    lu, pivots, status = factored(c, x if left else transposed(c, x))
    vector = rank_of(b) == 1 or (rank_of(b) == rank_of(x) - 1 and dims_of(b) == dims_of(x)[:-1])
    rows = c.unsqueeze(b, rank_of(b)) if vector else b if left else transposed(c, b)
    y = lu_solved(c, lu, pivots, rows)
    y = c.squeeze(y, rank_of(y) - 1) if vector else y if left else transposed(c, y)
    return y, lu, pivots, status


@converts("linalg_inv_ex", "inverse", "linalg_inv")
def _inverse(c: NodeBuilder, x: SSAValue, *, check_errors: bool = False) -> Any:
    lu, pivots, status = factored(c, x)
    y = lu_solved(c, lu, pivots, identity(c, x))
    return (y, status) if "_ex" in str(c.node.target) else y


def _exchanges(c: NodeBuilder, pivots: SSAValue, like: SSAValue) -> SSAValue:
    """The determinant of the row exchanges: 1 or -1."""
    moved = c.eq(c.cast(pivots, dtypes.i64), c.add(c.iota(dims_of(pivots)[-1]), 1))
    count = c.b(CountNonzeroOp, c.eq(c.cast(moved, dtypes.i64), 0), axes=[rank_of(pivots) - 1])
    return c.sub(c.like(1, like), c.cast_like(c.mul(c.remainder(count, 2), 2), like))


@converts("_linalg_det")
def _det(c: NodeBuilder, x: SSAValue) -> Any:
    lu, pivots, _ = factored(c, x)
    size = c.b(ProdOp, diagonal(c, lu), axes=[rank_of(x) - 2])
    return c.mul(size, _exchanges(c, pivots, size)), lu, pivots


@converts("_linalg_slogdet")
def _slogdet(c: NodeBuilder, x: SSAValue) -> Any:
    lu, pivots, _ = factored(c, x)
    line, axis = diagonal(c, lu), rank_of(x) - 2
    size = c.b(ComplexAbsOp, line) if is_complex(element_type(x)) else c.abs(line)
    logs = c.sum(c.log(size), [axis])
    sign = c.b(ProdOp, sign_of(c, line), axes=[axis])
    return c.mul(sign, _exchanges(c, pivots, sign)), logs, lu, pivots


@converts("linalg_qr")
def _qr(c: NodeBuilder, x: SSAValue, mode: str = "reduced") -> Any:
    q, r = c.b.all(linalg.QrOp, x, complete=(mode == "complete") or None)
    return (c.full(0, [0], element_type(x)) if mode == "r" else q), r


@converts("geqrf")
def _geqrf(c: NodeBuilder, x: SSAValue) -> Any:
    return c.b.all(linalg.QrReflectionsOp, x)


@converts("linalg_ldl_factor_ex")
def _ldl_factor(
    c: NodeBuilder, x: SSAValue, *, hermitian: bool = False, check_errors: bool = False
) -> Any:
    return c.b.all(LdlOp, x, hermitian=hermitian or None)


@converts("linalg_ldl_solve")
def _ldl_solve(
    c: NodeBuilder, x: SSAValue, pivots: SSAValue, b: SSAValue, *, hermitian: bool = False
) -> SSAValue:
    return c.b(LdlSolveOp, x, pivots, b, hermitian=hermitian or None)


@converts("_linalg_svd")
def _svd(
    c: NodeBuilder, x: SSAValue, full: bool = False, compute_uv: bool = True, *, driver: Any = None
) -> Any:
    u, s, vh = c.b.all(linalg.SvdOp, x, full=full or None)
    if compute_uv:
        return u, s, vh
    empty = c.full(0, [0], element_type(x))
    return empty, s, empty


@converts("_linalg_eigh")
def _eigh(c: NodeBuilder, x: SSAValue, uplo: str = "L", compute_v: bool = True) -> Any:
    values, vectors = c.b.all(linalg.EighOp, x, upper=(uplo.upper() == "U") or None)
    return values, vectors if compute_v else c.full(0, [0], element_type(x))


@converts("linalg_eig", "linalg_eigvals")
def _eig(c: NodeBuilder, x: SSAValue) -> Any:
    values, vectors = c.b.all(linalg.EigOp, x)
    return values if "eigvals" in str(c.node.target) else (values, vectors)


@converts("linalg_solve_triangular")
def _solve_triangular(
    c: NodeBuilder,
    x: SSAValue,
    b: SSAValue,
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
) -> SSAValue:
    if left:
        return solved(c, x, b, upper=upper, unit=unitriangular)
    y = solved(c, transposed(c, x), transposed(c, b), upper=not upper, unit=unitriangular)
    return transposed(c, y)


@converts("triangular_solve")
def _triangular_solve(
    c: NodeBuilder,
    b: SSAValue,
    x: SSAValue,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    side = transposed(c, x) if transpose else x
    return solved(c, side, b, upper=upper != transpose, unit=unitriangular), x


@converts("linalg_matrix_exp")
def _matrix_exp(c: NodeBuilder, x: SSAValue) -> SSAValue:
    """Taylor's polynomial of degree 18 of x / 2^s, squared s times, with the norm that it allows.

    The bounds of the norm are those of Bader, Blanes and Casas, "Computing the matrix exponential
    with an optimized Taylor polynomial approximation" (2019); squarings double the error.
    """
    rank, original = rank_of(x), x
    x = c.wide(x)
    size = c.b(ComplexAbsOp, x) if is_complex(element_type(x)) else c.abs(x)
    norm = c.max(c.sum(size, [rank - 2], keep=True), [rank - 1], keep=True)
    limit = 1.09 if element_type(norm) == dtypes.f64 else 3.01
    times = c.maximum(c.ceil(c.b(Log2Op, c.maximum(c.div(norm, limit), 1e-30))), 0.0)
    scale = c.cast(c.pow(c.like(0.5, times), times), element_type(x))
    small, unit = c.mul(x, scale), identity(c, x)
    y = unit
    for n in range(18, 0, -1):
        y = c.add(unit, c.matmul(c.mul(small, 1 / n), y))
    for k in range(40):
        y = c.where(c.gt(times, float(k)), c.matmul(y, y), y)
    return c.narrow(y, original)


@converts("linalg_pinv.atol_rtol_tensor")
def _pinv(
    c: NodeBuilder,
    x: SSAValue,
    *,
    atol: SSAValue | None = None,
    rtol: SSAValue | None = None,
    hermitian: bool = False,
) -> SSAValue:
    if hermitian:
        values, vectors = c.b.all(linalg.EighOp, x)
        u, s, vh = vectors, c.abs(values), adjoint(c, vectors)
        u = c.mul(u, c.cast(c.unsqueeze(sign_of(c, values), rank_of(values) - 1), element_type(x)))
    else:
        u, s, vh = c.b.all(linalg.SvdOp, x)
    element = element_type(s)
    rows, columns = dims_of(x)[-2:]
    eps = float(torch.finfo(c.meta().dtype).eps)
    longest = c.maximum(c.dim(rows), c.dim(columns))
    least = c.tensor(0.0, element) if atol is None else c.cast(atol, element)
    usual = c.mul(c.cast(longest, element), eps)
    if rtol is not None:
        usual = c.cast(rtol, element)
    elif atol is not None:
        usual = c.where(c.gt(least, 0.0), c.like(0.0, usual), usual)
    axis = rank_of(s) - 1
    top = c.max(s, [axis], keep=True)
    usual, least = (c.unsqueeze(v, rank_of(v)) if rank_of(v) else v for v in (usual, least))
    kept = c.gt(s, c.maximum(c.mul(top, usual), least))
    inverse = c.where(kept, c.div(c.like(1.0, s), c.where(kept, s, c.like(1.0, s))), c.like(0.0, s))
    scaled = c.mul(adjoint(c, vh), c.cast(c.unsqueeze(inverse, axis), element_type(x)))
    return c.matmul(scaled, adjoint(c, u))


@converts("_linalg_check_errors")
def _check_errors(c: NodeBuilder, *arguments: Any, **options: Any) -> None:
    """Torch raises where a matrix is singular; a compiled program gives what LAPACK gave."""
    return None


def reflected(
    c: NodeBuilder,
    vectors: SSAValue,
    factors: SSAValue,
    target: SSAValue,
    *,
    order: int,
    conjugate: bool,
) -> SSAValue:
    """Reflections I - tau v v^H applied from the left, the last first (or the first)."""
    axis, count = rank_of(vectors) - 1, dims_of(factors)[-1]
    below = triangle(c, vectors, upper=False, k=-1)
    ones = c.full(
        1, (*dims_of(vectors)[:-2], minimum(*dims_of(vectors)[-2:])), element_type(vectors)
    )
    unit = c.b(DiagEmbedOp, ones, offset=0, axis1=axis - 1, axis2=axis)
    rows, columns = dims_of(vectors)[-2:]
    if rows != columns:
        tall = rows - minimum(rows, columns)
        unit = c.pad(unit, axis - 1, 0, tall) if tall != 0 else c.pad(unit, axis, 0, columns - rows)
    lower = c.add(below, unit)

    def applied(c: NodeBuilder, i: int | SSAValue, target: SSAValue) -> SSAValue:
        if order < 0:
            i = int(str(count)) - 1 - i if isinstance(i, int) else c.sub(c.dim(count - 1), i)
        v = column(c, lower, i)
        tau = c.unsqueeze(column(c, factors, i), rank_of(factors))
        tau = c.b(ConjOp, tau) if conjugate and is_complex(element_type(tau)) else tau
        return c.sub(target, c.matmul(c.mul(v, tau), c.matmul(adjoint(c, v), target)))

    return repeated(c, count, target, applied)


@converts("linalg_householder_product", "orgqr")
def _householder(c: NodeBuilder, vectors: SSAValue, factors: SSAValue) -> SSAValue:
    rows, columns = dims_of(vectors)[-2:]
    axis = rank_of(vectors) - 2
    ones = c.full(1, (*dims_of(vectors)[:-2], columns), element_type(vectors))
    unit = c.b(DiagEmbedOp, ones, offset=0, axis1=axis, axis2=axis + 1)
    target = c.pad(unit, axis, 0, rows - columns)
    return reflected(c, vectors, factors, target, order=-1, conjugate=False)


@converts("ormqr")
def _ormqr(
    c: NodeBuilder,
    vectors: SSAValue,
    factors: SSAValue,
    other: SSAValue,
    left: bool = True,
    transpose: bool = False,
) -> SSAValue:
    """Q other, Q^H other, other Q or other Q^H, for Q of the reflections in `vectors`."""
    if left:
        order = 1 if transpose else -1
        return reflected(c, vectors, factors, other, order=order, conjugate=transpose)
    order = -1 if transpose else 1
    y = reflected(c, vectors, factors, adjoint(c, other), order=order, conjugate=not transpose)
    return adjoint(c, y)
