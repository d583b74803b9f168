"""Special functions that are formulas of others."""

from __future__ import annotations

import math
from collections.abc import Callable

from xdsl.ir import SSAValue

from torsh_dialect.ops import bessel, rounding, select, special
from torsh_dialect.ops.special import Special
from torsh_fx.importers.torch_ops.base import CONVERTERS, NodeBuilder, converts


@converts("logit")
def _logit(c: NodeBuilder, x: SSAValue, eps: float | None = None) -> SSAValue:
    x = c.finished(x)
    if eps is not None:
        x = c.b(select.ClampOp, x, c.like(eps, x), c.like(1 - eps, x))
    return c.log(c.div(x, c.sub(c.like(1, x), x)))


@converts("polygamma")
def _polygamma(c: NodeBuilder, n: int, x: SSAValue) -> SSAValue:
    return c.b(special.PolygammaOp, c.finished(x), n=n)


@converts("mvlgamma")
def _mvlgamma(c: NodeBuilder, x: SSAValue, p: int) -> SSAValue:
    x = c.finished(x)
    total = c.like(p * (p - 1) / 4 * math.log(math.pi), x)
    for j in range(p):
        total = c.add(total, c.b(special.LgammaOp, c.sub(x, j / 2)))
    return total


def _without_limit(cls: type[Special]) -> Callable[[NodeBuilder, SSAValue], SSAValue]:
    """A converter: NaN at infinities, where torch evaluates its series."""

    def convert(c: NodeBuilder, x: SSAValue) -> SSAValue:
        x = c.finished(x)
        return c.where(c.b(rounding.IsInfOp, x), c.like(math.nan, x), c.b(cls, x))

    return convert


for _cls in (bessel.I0Op, bessel.I1Op, bessel.J0Op, bessel.J1Op, bessel.Y0Op, bessel.Y1Op):
    for _name in _cls.SPELLED.torch:
        CONVERTERS[_name] = _without_limit(_cls)

converts("special_airy_ai")(_without_limit(bessel.AiryOp))


@converts("special_ndtr")
def _ndtr(c: NodeBuilder, x: SSAValue) -> SSAValue:
    x = c.finished(x)
    return c.mul(c.b(special.ErfcOp, c.mul(x, -math.sqrt(0.5))), 0.5)


@converts("deg2rad")
def _deg2rad(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.mul(c.finished(x), math.pi / 180)


@converts("rad2deg")
def _rad2deg(c: NodeBuilder, x: SSAValue) -> SSAValue:
    return c.mul(c.finished(x), 180 / math.pi)
