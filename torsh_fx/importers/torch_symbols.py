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
    arguments = [_expression(argument) for argument in expr.args if not expr.is_Pow]
    name = type(expr).__name__
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
    if name in ("Identity", "ToFloat", "TruncToInt", "IntTrueDiv") and len(arguments) == 1:
        return arguments[0]
    if name in ("floor", "ceiling") or name not in FUNCTIONS:
        raise UnsupportedError(f"the size expression {expr} uses {name}, which extents lack")
    result = arguments[0]
    for argument in arguments[1:]:
        result = FUNCTIONS[name](result, argument)
    return result


def bounds_of_range(values: Any) -> Bounds:
    """The bounds of a `ValueRanges` of torch: no upper bound where it is an infinity."""
    low, high = values.lower, values.upper
    least = max(int(low), 0) if _is_number(low) else 0
    most = int(high) if _is_number(high) and int(high) < 2**62 else None
    return least, most


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, sympy.Integer) and value.is_finite is True)
