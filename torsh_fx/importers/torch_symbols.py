"""Symbolic sizes of torch (sympy expressions) as the dialect's extents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import sympy  # pyright: ignore[reportMissingTypeStubs]
import torch

from torsh_dialect.dims import Bounds, Dim, ceildiv, floordiv, maximum, minimum, modulo, symbol
from torsh_dialect.errors import UnsupportedError

FUNCTIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "FloorDiv": floordiv,
    "CleanDiv": floordiv,
    "CeilDiv": ceildiv,
    "Mod": modulo,
    "PythonMod": modulo,
    "Max": maximum,
    "Min": minimum,
}

ROUNDINGS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "TruncToInt": floordiv,
    "FloorToInt": floordiv,
    "floor": floordiv,
    "CeilToInt": ceildiv,
    "ceiling": ceildiv,
}
"""Floats as integers; what is cut is a quotient that is not negative."""
EXACT = ("Identity", "ToFloat")
SMALL = 4096
"""The largest numerator or denominator of a float; such times extents below 2**41 are exact."""


def dim_of(size: Any) -> Dim:
    """An int, SymInt or sympy expression as an extent.

    Raises:
        UnsupportedError: The expression uses a function that extents lack.
    """
    if isinstance(size, bool | int):
        return int(size)
    if isinstance(size, torch.SymInt):
        return dim_of(cast(Any, size).node.expr)
    return _expression(size)


def _expression(expr: Any) -> Dim:
    if expr.is_Integer:
        return int(expr)
    if expr.is_Symbol:
        return symbol(str(expr))
    name = type(expr).__name__
    if name in ROUNDINGS:
        over, under = _ratio(expr.args[0], negative=name != "TruncToInt")
        return over if under == 1 else ROUNDINGS[name](over, under)
    if name in EXACT:
        return _expression(expr.args[0])
    arguments = [_expression(argument) for argument in expr.args if not expr.is_Pow]
    if expr.is_Add or expr.is_Mul:
        total = arguments[0]
        for argument in arguments[1:]:
            total = total + argument if expr.is_Add else total * argument
        return total
    if expr.is_Pow or name == "PowByNatural":
        base, power = expr.args
        if power.is_Integer and 0 <= int(power) <= 8:
            total: Dim = 1
            for _ in range(int(power)):
                total = total * _expression(base)
            return total
    if name not in FUNCTIONS:
        raise UnsupportedError(f"the size expression {expr} uses {name}, which extents lack")
    result = arguments[0]
    for argument in arguments[1:]:
        result = FUNCTIONS[name](result, argument)
    return result


def _ratio(expr: Any, *, negative: bool) -> tuple[Dim, int]:
    """A float expression as the exact quotient of an extent and a positive number.

    Args:
        expr: What torch computes in f64.
        negative: Whether numbers below 0 may take part.
    """
    name = type(expr).__name__
    if name in EXACT:
        return _ratio(expr.args[0], negative=negative)
    if expr.is_Number:
        over, under = float(expr).as_integer_ratio()
        if max(abs(over), under) > SMALL:
            raise UnsupportedError(
                f"a size is a product with {float(expr)}, which floats round; give the size itself"
            )
        if over < 0 and not negative:
            raise UnsupportedError(f"a size with the negative term {float(expr)} is cut")
        return over, under
    if not (expr.is_Add or expr.is_Mul):
        return _expression(expr), 1
    total, divisor = _ratio(expr.args[0], negative=negative)
    for argument in expr.args[1:]:
        over, under = _ratio(argument, negative=negative)
        if expr.is_Mul:
            total, divisor = total * over, divisor * under
        else:
            total, divisor = total * under + over * divisor, divisor * under
    return total, divisor


def bounds_of_range(values: Any) -> Bounds:
    """The bounds of a `ValueRanges` of torch: no upper bound where it is an infinity."""
    low, high = values.lower, values.upper
    least = max(int(low), 0) if _is_number(low) else 0
    most = int(high) if _is_number(high) and int(high) < 2**62 else None
    return least, most


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, sympy.Integer) and value.is_finite is True)
