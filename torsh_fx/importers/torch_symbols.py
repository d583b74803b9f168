"""Symbolic sizes of torch (sympy expressions) as the dialect's extents."""

from __future__ import annotations

import ast
from collections.abc import Callable
from fractions import Fraction
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
QUOTIENTS = ("FloatTrueDiv", "IntTrueDiv")
SMALL = 4096
"""The largest numerator or denominator of a float; such times extents below 2**41 are exact."""


RELATIONS: dict[type, tuple[str, bool]] = {
    spelled: relation
    for both, relation in {
        (sympy.Eq, ast.Eq): ("eq", False),
        (sympy.Ne, ast.NotEq): ("ne", False),
        (sympy.Le, ast.LtE): ("le", False),
        (sympy.Lt, ast.Lt): ("lt", False),
        (sympy.Ge, ast.GtE): ("le", True),
        (sympy.Gt, ast.Gt): ("lt", True),
    }.items()
    for spelled in both
}
"""Comparisons of torch's expressions and of Python; whether their sides are exchanged."""


def relation_of(comparison: type, left: Any, right: Any) -> tuple[Any, str, Any]:
    """A comparison as left side, `eq`, `ne`, `le` or `lt`, right side."""
    kind, exchanged = RELATIONS[comparison]
    return (right, kind, left) if exchanged else (left, kind, right)


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
        over, under = _decimal_product(expr.args[0]) or _ratio(
            expr.args[0], negative=name != "TruncToInt"
        )
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


def _decimal_product(expr: Any) -> tuple[Dim, int] | None:
    """An extent times a positive factor such as 1.7, as a quotient that is rounded alike.

    Torch rounds the product in f64. Where the double lies within a 2**-54 of a fraction p / q, the
    product with n that is p n / q exactly becomes that integer; another lies 1 / q at least from
    any, which is more than rounding adds below 2**40.
    """
    if not expr.is_Mul or len(expr.args) != 2 or not expr.args[0].is_Float:
        return None
    factor = Fraction(float(expr.args[0]))
    near = factor.limit_denominator(SMALL)
    if near.numerator > SMALL or not 0 < abs(near - factor) <= near / 2**54:
        return None
    return _expression(expr.args[1]) * near.numerator, near.denominator


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
    if name in QUOTIENTS and expr.args[1].is_Number and float(expr.args[1]) > 0:
        over, under = _ratio(expr.args[0], negative=negative)
        times, by = _ratio(expr.args[1], negative=negative)
        assert isinstance(times, int)
        return over * by, under * times
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
