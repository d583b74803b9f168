"""Symbols of a function: their bounds, and their values found from the shapes of arrays.

Bounds live in the function attribute `torsh.symbols = {batch = array<i64: 1, 1024>}`; without a
second number the symbol has no upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import DictionaryAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from torsh_dialect.attributes import integers, ints_of
from torsh_dialect.dims import Bounds, Dim, Expr, evaluate_dim, substitute
from torsh_dialect.errors import InputError, VerificationError

ATTRIBUTE = "torsh.symbols"


def set_symbols(function: FuncOp, bounds: Mapping[str, Bounds]) -> None:
    """Record the bounds of a function's symbols."""
    entries = {
        name: integers((low,) if high is None else (low, high))
        for name, (low, high) in sorted(bounds.items())
    }
    function.attributes[ATTRIBUTE] = DictionaryAttr(entries)


def symbols_in(function: FuncOp) -> dict[str, Bounds]:
    """The bounds of a function's symbols.

    Raises:
        VerificationError: The attribute holds something else than one or two numbers a symbol.
    """
    attribute = function.attributes.get(ATTRIBUTE)
    if attribute is None:
        return {}
    if not isinstance(attribute, DictionaryAttr):
        raise VerificationError(f"{ATTRIBUTE} is {attribute}, not a dictionary of bounds")
    return {name: _bounds(name, value) for name, value in attribute.data.items()}


def _bounds(name: str, value: Attribute) -> Bounds:
    numbers = ints_of(value)
    if len(numbers) not in (1, 2) or not 0 <= numbers[0] <= numbers[-1]:
        raise VerificationError(
            f"the bounds of symbol {name!r} are {value}: write array<i64: LOW> or "
            "array<i64: LOW, HIGH> with 0 <= LOW <= HIGH"
        )
    return numbers[0], numbers[1] if len(numbers) == 2 else None


def bind(dims: Sequence[Dim], shape: Sequence[int], values: dict[str, int], what: str) -> None:
    """Find values of symbols that make `dims` equal to `shape`, and add them to `values`.

    A symbol that has a value already must keep it. An expression with one unknown symbol is
    solved where it is linear in it.

    Raises:
        InputError: Rank or an extent differs; the message names `what`.
    """
    if len(dims) != len(shape):
        raise InputError(f"{what} has shape {list(shape)}, but rank {len(dims)} is expected")
    ordered = sorted(zip(dims, shape, strict=True), key=lambda pair: _unknowns(pair[0], values))
    for dim, extent in ordered:
        if isinstance(dim, Expr):
            _solve(dim, extent, values)
            if dim.symbols() - values.keys():
                continue
        expected = evaluate_dim(dim, values)
        if expected != extent:
            raise InputError(
                f"{what} has shape {list(shape)}: {dim} = {expected} is expected, not {extent}"
            )


def _unknowns(dim: Dim, values: Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return 0
    unknown = len(dim.symbols() - values.keys())
    return 2 * unknown - (len(dim.terms) == 1)


def _solve(dim: Expr, extent: int, values: dict[str, int]) -> None:
    unknown = dim.symbols() - values.keys()
    if len(unknown) != 1:
        return
    (name,) = unknown
    rest = substitute(dim, dict(values))
    at_zero, at_one, at_two = (evaluate_dim(rest, {name: n}) for n in (0, 1, 2))
    slope = at_one - at_zero
    linear = isinstance(rest, Expr) and all(len(m) <= 1 and not _calls(m) for m, _ in rest.terms)
    if linear and slope and at_two - at_one == slope and (extent - at_zero) % slope == 0:
        values[name] = (extent - at_zero) // slope


def _calls(monomial: tuple[object, ...]) -> bool:
    return any(getattr(atom, "arguments", ()) for atom in monomial)
