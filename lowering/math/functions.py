"""The functions of the library by their C names, and how accurate each is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lowering.math import (
    airy,
    bessel,
    error,
    exponential,
    gamma,
    incomplete_gamma,
    logarithm,
    power,
    rounding,
    trigonometric,
)
from lowering.math.num import Num
from lowering.math.prim import V
from torsh_dialect.errors import UnsupportedError

Body = Callable[..., Num[Any]]


@dataclass(frozen=True)
class MathFunction:
    """One function of the library.

    Attributes:
        body: The formula, on operands of one float kind.
        arity: Number of operands.
        native: Whether f32 operands are computed in f32; else in f64 and rounded once.
        f32: Largest error in units in the last place for f32 results.
        f64: The same for f64 results.
        absolute: Whether errors count against 1 (or an envelope) where results are below it.
    """

    body: Body
    arity: int = 1
    native: bool = False
    f32: float = 0.51
    f64: float = 1.0
    absolute: bool = False


def _exact(body: Body, arity: int) -> MathFunction:
    return MathFunction(body, arity, native=True, f32=0.0, f64=0.0)


FUNCTIONS: dict[str, MathFunction] = {
    "exp": MathFunction(exponential.exp, native=True, f32=1.0, f64=1.0),
    "exp2": MathFunction(exponential.exp2, native=True, f32=1.0, f64=1.0),
    "expm1": MathFunction(exponential.expm1, native=True, f32=2.0, f64=2.0),
    "log": MathFunction(logarithm.log, native=True, f32=1.0, f64=1.0),
    "log2": MathFunction(logarithm.log2, native=True, f32=1.0, f64=1.0),
    "log10": MathFunction(logarithm.log10, native=True, f32=1.0, f64=1.0),
    "log1p": MathFunction(logarithm.log1p, native=True, f32=1.0, f64=1.0),
    "sin": MathFunction(trigonometric.sin, native=True, f32=1.0, f64=1.0),
    "cos": MathFunction(trigonometric.cos, native=True, f32=1.0, f64=1.0),
    "tan": MathFunction(trigonometric.tan, f64=2.0),
    "asin": MathFunction(trigonometric.asin, f64=1.1),
    "acos": MathFunction(trigonometric.acos, f64=1.0),
    "atan": MathFunction(trigonometric.atan, f64=2.0),
    "atan2": MathFunction(trigonometric.atan2, 2, f64=2.5),
    "sinh": MathFunction(exponential.sinh, f64=3.0),
    "cosh": MathFunction(exponential.cosh, f64=2.5),
    "tanh": MathFunction(exponential.tanh, native=True, f32=2.0, f64=3.0),
    "asinh": MathFunction(logarithm.asinh, f64=3.0),
    "acosh": MathFunction(logarithm.acosh, f64=3.0),
    "atanh": MathFunction(logarithm.atanh, f64=3.0),
    "sigmoid": MathFunction(exponential.sigmoid, native=True, f32=2.5, f64=2.5),
    "silu": MathFunction(exponential.silu, native=True, f32=3.0, f64=3.0),
    "softplus": MathFunction(logarithm.softplus, native=True, f32=2.0, f64=2.0),
    "gelu": MathFunction(error.gelu, native=True, f32=4.0, f64=4.0, absolute=True),
    "gelu_tanh": MathFunction(exponential.gelu_tanh, native=True, f32=4.0, f64=4.0, absolute=True),
    "erf": MathFunction(error.erf, native=True, f32=1.2, f64=1.0),
    "erfc": MathFunction(error.erfc, f64=4.0),
    "erfcx": MathFunction(error.erfcx, f64=4.0),
    "erfinv": MathFunction(error.erfinv, f64=4.0),
    "ndtr": MathFunction(error.ndtr, f64=4.0),
    "ndtri": MathFunction(error.ndtri, f64=4.0),
    "lgamma": MathFunction(gamma.lgamma, f64=4.0, absolute=True),
    "tgamma": MathFunction(gamma.gamma, f64=10.0),
    "digamma": MathFunction(gamma.digamma, f64=6.0, absolute=True),
    "zeta": MathFunction(gamma.zeta, 2, f64=16.0),
    "polygamma": MathFunction(gamma.polygamma, 2, f64=16.0),
    "pow": MathFunction(power.pow, 2, f64=1.0),
    "sqrt": MathFunction(power.square_root, native=True, f32=0.5, f64=0.5),
    "rsqrt": MathFunction(power.rsqrt, native=True, f32=1.5, f64=1.5),
    "cbrt": MathFunction(power.cbrt, f64=1.0),
    "hypot": MathFunction(power.hypot, 2, f64=1.0),
    "j0": MathFunction(bessel.j0, f64=5.0, absolute=True),
    "j1": MathFunction(bessel.j1, f64=5.0, absolute=True),
    "y0": MathFunction(bessel.y0, f64=5.0, absolute=True),
    "y1": MathFunction(bessel.y1, f64=5.0, absolute=True),
    "i0": MathFunction(bessel.i0, f64=4.0),
    "i1": MathFunction(bessel.i1, f64=4.0),
    "i0e": MathFunction(bessel.i0e, f64=4.0),
    "i1e": MathFunction(bessel.i1e, f64=4.0),
    "k0": MathFunction(bessel.k0, f64=5.0),
    "k1": MathFunction(bessel.k1, f64=5.0),
    "k0e": MathFunction(bessel.k0e, f64=5.0),
    "k1e": MathFunction(bessel.k1e, f64=5.0),
    "airy_ai": MathFunction(airy.airy_ai, f64=8.0, absolute=True),
    "igamma": MathFunction(incomplete_gamma.igamma, 2, f64=32.0, absolute=True),
    "igammac": MathFunction(incomplete_gamma.igammac, 2, f64=32.0, absolute=True),
    "floor": _exact(rounding.floor, 1),
    "ceil": _exact(rounding.ceil, 1),
    "trunc": _exact(rounding.trunc, 1),
    "rint": _exact(rounding.rint, 1),
    "copysign": _exact(rounding.copysign, 2),
    "nextafter": _exact(rounding.nextafter, 2),
    "fmod": _exact(rounding.fmod, 2),
    "mod": _exact(rounding.mod, 2),
    "remainder": _exact(rounding.remainder, 2),
    "fmin": _exact(rounding.fmin, 2),
    "fmax": _exact(rounding.fmax, 2),
    "minimum": _exact(rounding.minimum, 2),
    "maximum": _exact(rounding.maximum, 2),
}
"""Every function; `FUNCTIONS[name].f32` and `.f64` are bounds that tests measure."""


ACCURACY: dict[str, tuple[float, float]] = {
    name: (function.f32, function.f64) for name, function in FUNCTIONS.items()
}
"""Largest error of f32 and f64 results in units in the last place, by function."""


def accuracy_table() -> str:
    """The bounds as a Markdown table, for the documentation."""
    rows = ["| function | f32, ulp | f64, ulp | measured against |", "|---|---|---|---|"]
    for name, function in FUNCTIONS.items():
        scale = "max(1, result)" if function.absolute else "result"
        rows.append(f"| {name} | {function.f32:g} | {function.f64:g} | {scale} |")
    return "\n".join(rows) + "\n"


def call(name: str, *operands: Num[V]) -> Num[V]:
    """Apply the function `name` to operands of one float kind.

    Raises:
        UnsupportedError: There is no such function, or it takes another number of operands.
    """
    function = FUNCTIONS.get(name)
    if function is None or function.arity != len(operands):
        raise UnsupportedError(
            f"no function {name!r} of {len(operands)} operands in the maths library; "
            f"known: {', '.join(sorted(FUNCTIONS))}"
        )
    if operands[0].kind == "f32" and not function.native:
        return function.body(*(x.widen() for x in operands)).narrow()
    return function.body(*operands)
