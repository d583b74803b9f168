"""Orthogonal polynomials by their three-term recurrences; degrees are cut to whole numbers.

As in ATen, a degree that is negative, infinite or NaN gives 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute, SSAValue

from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import Expr, product
from torsh_dialect.dtypes import dtype_of, i1, i64
from torsh_dialect.ops.control import LoopOp
from torsh_dialect.ops.maths import SinOp
from torsh_dialect.ops.rounding import TruncOp
from torsh_dialect.types import dims_of
from torsh_fx.importers.torch_ops.base import NodeBuilder, Scalar, converts

UNROLLED, DEGREES = 64, 16
"""Degree up to which the steps stand in the code, one after the other: for a degree that is a
number, and for a tensor of degrees. A loop gives those above."""

NO_HERMITE = {4: 128, 8: 512}
"""By bytes of an element, the degree above which ATen's Hermite polynomials are NaN."""


@dataclass(frozen=True)
class Affine:
    """start + slope * n for a degree n."""

    start: float
    slope: float = 0.0

    def at(self, c: NodeBuilder, n: int | SSAValue) -> float | SSAValue:
        """The number for a degree that is known, else a scalar."""
        if isinstance(n, int) or not self.slope:
            return self.start + self.slope * (n if isinstance(n, int) else 0)
        return c.add(n if self.slope == 1 else c.mul(n, self.slope), self.start)


ONE, LESS = Affine(1.0), Affine(-1.0, 1.0)


@dataclass(frozen=True)
class Recurrence:
    """P(n) = ((times x + plus) P(n - 1) - back P(n - 2)) / by.

    Attributes:
        first: Factor and summand of x that give the polynomial of degree 1.
    """

    first: tuple[float, float]
    times: Affine
    plus: Affine = Affine(0.0)
    back: Affine = ONE
    by: Affine = ONE

    def start(self, c: NodeBuilder, x: SSAValue) -> SSAValue:
        """The polynomial of degree 1."""
        times, plus = self.first
        y = x if times == 1 else c.mul(x, times)
        return c.add(y, plus) if plus else y

    def step(
        self, c: NodeBuilder, x: SSAValue, n: int | SSAValue, p: SSAValue, q: SSAValue
    ) -> SSAValue:
        """That of degree n from those of n - 1 and n - 2."""
        factor = x if self.times == ONE else c.mul(x, self.times.at(c, n))
        if self.plus != Affine(0.0):
            factor = c.add(factor, self.plus.at(c, n))
        lower = q if self.back == ONE else c.mul(q, self.back.at(c, n))
        y = c.sub(c.mul(factor, p), lower)
        return y if self.by == ONE else c.div(y, self.by.at(c, n))


TWICE = Affine(2.0)
FAMILIES: dict[str, Recurrence] = {
    "chebyshev_polynomial_t": Recurrence((1.0, 0.0), TWICE),
    "chebyshev_polynomial_u": Recurrence((2.0, 0.0), TWICE),
    "chebyshev_polynomial_v": Recurrence((2.0, -1.0), TWICE),
    "chebyshev_polynomial_w": Recurrence((2.0, 1.0), TWICE),
    "hermite_polynomial_h": Recurrence((2.0, 0.0), TWICE, back=Affine(-2.0, 2.0)),
    "hermite_polynomial_he": Recurrence((1.0, 0.0), ONE, back=LESS),
    "laguerre_polynomial_l": Recurrence(
        (-1.0, 1.0), Affine(-1.0), Affine(-1.0, 2.0), LESS, Affine(0.0, 1.0)
    ),
    "legendre_polynomial_p": Recurrence(
        (1.0, 0.0), Affine(-1.0, 2.0), back=LESS, by=Affine(0.0, 1.0)
    ),
}


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
    element, dims = c.out_element(), c.out_dims()
    points = c.tensor(x, element)
    if name.startswith("shifted_"):
        points = c.sub(c.mul(points, 2.0), 1.0)
    points, name = c.broadcast(points, dims), name.removeprefix("shifted_")
    family, one = FAMILIES[name], c.broadcast(c.like(1.0, points), dims)
    if isinstance(degree, int | float) and degree <= UNROLLED:
        return _of_degree(c, family, points, int(degree), one)
    wanted = c.b(TruncOp, _degrees(c, degree, element))
    if not name.startswith("hermite"):
        return _of_degrees(c, family, points, wanted, one)
    most = float(NO_HERMITE.get(dtype_of(element).bytes, NO_HERMITE[4]))
    above = c.gt(wanted, most)
    some = c.where(above, c.like(0.0, wanted), wanted)
    return c.where(above, c.like(math.nan, points), _of_degrees(c, family, points, some, one))


def _degrees(c: NodeBuilder, degree: Scalar, element: Attribute) -> SSAValue:
    """Degrees as numbers of `element`; -1 for NaN and infinity, of which a loop has no end."""
    if isinstance(degree, Expr):
        return c.cast(c.dim(degree), element)
    given = c.tensor(degree, element)
    return c.where(c.lt(given, float(1 << 63)), given, c.like(-1.0, given))


def _of_degree(
    c: NodeBuilder, family: Recurrence, x: SSAValue, degree: int, one: SSAValue
) -> SSAValue:
    if degree < 1:
        return one if degree == 0 else c.mul(one, 0.0)
    before, value = one, family.start(c, x)
    for n in range(2, degree + 1):
        before, value = value, family.step(c, x, n, value, before)
    return value


def _of_degrees(
    c: NodeBuilder, family: Recurrence, x: SSAValue, wanted: SSAValue, one: SSAValue
) -> SSAValue:
    """The values of which each element has a degree of its own; below 0 they are 0."""
    dims = dims_of(x)
    values = [one, family.start(c, x)]
    result = c.where(c.eq(wanted, 0.0), one, c.mul(one, 0.0))
    for n in range(1, DEGREES + 1):
        if n > 1:
            values = [values[1], family.step(c, x, n, values[1], values[0])]
        result = c.where(c.eq(wanted, float(n)), values[1], result)

    def fill(builder: BlockBuilder, arguments: Sequence[SSAValue]) -> Sequence[SSAValue]:
        inner = NodeBuilder(builder, c.node, c.graph)
        done, before, last, found = arguments
        n = inner.cast_like(inner.add(done, DEGREES + 1), x)
        value = family.step(inner, x, n, last, before)
        found = inner.broadcast(inner.where(inner.eq(wanted, n), value, found), dims)
        return [inner.tensor(True, i1), last, value, found]

    every = c.reshape(wanted, (product(dims_of(wanted)),))
    highest = c.max(c.concat([every, c.reshape(c.like(DEGREES, every), (1,))], 0), [0])
    trips = c.sub(c.cast(highest, i64), DEGREES)
    carried = [*values, c.broadcast(result, dims)]
    region = c.region([trips.type, *(v.type for v in carried)], fill)
    first = c.tensor(True, i1)
    return c.loop(LoopOp, trips, first, carried, region, extent=None, scans=0)[-1]


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
