"""Orthogonal polynomials by their three-term recurrences; degrees are cut to whole numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

from xdsl.ir import SSAValue

from torsh_dialect.dims import Expr
from torsh_dialect.ops.maths import SinOp
from torsh_dialect.ops.rounding import TruncOp
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts

DEGREES = 64
"""Highest degree that a tensor of degrees may ask for; above it the result is NaN."""

Step = Callable[[NodeBuilder, SSAValue, int, SSAValue, SSAValue], SSAValue]


def _chebyshev(c: NodeBuilder, x: SSAValue, n: int, p: SSAValue, q: SSAValue) -> SSAValue:
    return c.sub(c.mul(c.mul(x, 2.0), p), q)


def _hermite_h(c: NodeBuilder, x: SSAValue, n: int, p: SSAValue, q: SSAValue) -> SSAValue:
    return c.sub(c.mul(c.mul(x, 2.0), p), c.mul(q, 2.0 * (n - 1)))


def _hermite_he(c: NodeBuilder, x: SSAValue, n: int, p: SSAValue, q: SSAValue) -> SSAValue:
    return c.sub(c.mul(x, p), c.mul(q, float(n - 1)))


def _laguerre(c: NodeBuilder, x: SSAValue, n: int, p: SSAValue, q: SSAValue) -> SSAValue:
    left = c.mul(c.sub(c.like(2.0 * n - 1, x), x), p)
    return c.div(c.sub(left, c.mul(q, float(n - 1))), float(n))


def _legendre(c: NodeBuilder, x: SSAValue, n: int, p: SSAValue, q: SSAValue) -> SSAValue:
    return c.div(c.sub(c.mul(c.mul(x, 2.0 * n - 1), p), c.mul(q, float(n - 1))), float(n))


FAMILIES: dict[str, tuple[Step, Callable[[NodeBuilder, SSAValue], SSAValue]]] = {
    "chebyshev_polynomial_t": (_chebyshev, lambda c, x: x),
    "chebyshev_polynomial_u": (_chebyshev, lambda c, x: c.mul(x, 2.0)),
    "chebyshev_polynomial_v": (_chebyshev, lambda c, x: c.sub(c.mul(x, 2.0), 1.0)),
    "chebyshev_polynomial_w": (_chebyshev, lambda c, x: c.add(c.mul(x, 2.0), 1.0)),
    "hermite_polynomial_h": (_hermite_h, lambda c, x: c.mul(x, 2.0)),
    "hermite_polynomial_he": (_hermite_he, lambda c, x: x),
    "laguerre_polynomial_l": (_laguerre, lambda c, x: c.sub(c.like(1.0, x), x)),
    "legendre_polynomial_p": (_legendre, lambda c, x: x),
}
"""The step from degrees n - 1 and n - 2 to n, and the polynomial of degree 1."""


@converts(
    *(
        f"special_{shift}{name}{form}"
        for name in FAMILIES
        for shift in (("", "shifted_") if "chebyshev" in name else ("",))
        for form in ("", ".n_scalar", ".x_scalar")
    )
)
def _polynomial(c: NodeBuilder, x: Scalar, degree: Scalar) -> SSAValue:
    name = str(c.node.target).split(".")[1].removeprefix("special_")
    element = c.out_element()
    points = c.tensor(x, element)
    if name.startswith("shifted_"):
        points = c.sub(c.mul(points, 2.0), 1.0)
    step, first = FAMILIES[name.removeprefix("shifted_")]
    dims = c.out_dims()
    points = c.broadcast(points, dims)
    known = degree if isinstance(degree, int | float) else None
    if isinstance(degree, Expr):
        raise c.refuse("a polynomial of symbolic degree")
    highest = DEGREES if known is None else int(known)
    values = [c.broadcast(c.like(1.0, points), dims), first(c, points)]
    for n in range(2, highest + 1):
        values.append(step(c, points, n, values[-1], values[-2]))
    if known is not None:
        return values[int(known)] if int(known) >= 0 else c.full(0.0, dims, element)
    wanted = c.b(TruncOp, c.tensor(degree, element))
    result = c.where(c.lt(wanted, 0.0), c.like(0.0, points), c.like(math.nan, points))
    result = c.broadcast(result, dims)
    for n, value in enumerate(values):
        result = c.where(c.eq(wanted, float(n)), value, result)
    return result


@converts("special_spherical_bessel_j0")
def _spherical_j0(c: NodeBuilder, x: SSAValue) -> SSAValue:
    """sin(x) / x; its series 1 - x^2/6 + x^4/120 - x^6/5040 near 0; 0 at infinity."""
    x = c.finished(x)
    square = c.mul(x, x)
    series = c.like(1.0, x)
    for factor in (42.0, 20.0, 6.0):
        series = c.sub(c.like(1.0, x), c.mul(c.div(square, factor), series))
    safe = c.where(c.eq(x, 0), c.like(1.0, x), x)
    value = c.where(c.lt(c.abs(x), 0.5), series, c.div(c.b(SinOp, safe), safe))
    return c.where(c.eq(c.abs(x), math.inf), c.like(0.0, x), value)
