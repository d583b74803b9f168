"""Symbolic extents: integer expressions over named symbols, in one canonical form.

An extent (`Dim`) is an `int` or an `Expr`. An `Expr` is a polynomial with integer coefficients
over atoms; an atom is a symbol or one of the functions `floordiv`, `min`, `max`, `bcast`.
`ceildiv` and `mod` are written with `floordiv`, so equal values more often have equal forms.
Every symbol stands for an integer in 0..`LARGEST_EXTENT`.

    >>> n = symbol("n")
    >>> str((n * 2 + 4) * 3), (n * 6 + 4).floordiv(2) == n * 3 + 2
    ('6*n + 12', True)
"""

from __future__ import annotations

import ast
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

from torsh_dialect.errors import InvalidArgumentError, ShapeError

Dim: TypeAlias = "int | Expr"
Bounds: TypeAlias = "tuple[int, int | None]"
FUNCTIONS = ("floordiv", "min", "max", "bcast")

MOST_FACTORS, MOST_TERMS = 256, 4096
"""Of a product of expressions: a few squarings of shapes would fill the memory otherwise."""

LARGEST_EXTENT = 10**9 - 1
"""No symbol is larger, unless its bounds say so: checked when a program is called.

It makes `min(n, 10**9)`, which exporters write for "to the end", equal to `n`.
"""


class _Part:
    """An expression or an atom: part of many others, so its hash is found once."""

    def __getstate__(self) -> dict[str, object]:
        """Without the hash, which another process finds to be another one."""
        return {name: value for name, value in vars(self).items() if name != "_hash"}


@dataclass(frozen=True)
class Atom(_Part):
    """A symbol (`function` empty) or a function of two expressions."""

    name: str
    arguments: tuple[Dim, ...] = ()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.arguments))

    def __str__(self) -> str:
        """The atom as text that `parse_dim` reads."""
        return self._text

    @cached_property
    def _text(self) -> str:
        """Made once: terms are ordered by it."""
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(str(a) for a in self.arguments)})"


Monomial: TypeAlias = tuple[Atom, ...]


@dataclass(frozen=True)
class Expr(_Part):
    """A polynomial: pairs of monomial and non-zero coefficient, sorted; never a plain integer."""

    terms: tuple[tuple[Monomial, int], ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __str__(self) -> str:
        """The expression as text that `parse_dim` reads."""
        parts: list[str] = []
        for monomial, coefficient in self.terms:
            factors = [str(atom) for atom in monomial]
            if not factors or abs(coefficient) != 1:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            parts.append(f" {sign} " if parts else ("-" if coefficient < 0 else ""))
            parts.append("*".join(factors))
        return "".join(parts)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __add__(self, other: Dim) -> Dim:
        return _collect([*self.terms, *_terms(other)])

    def __radd__(self, other: int) -> Dim:
        return self + other

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + (-other)

    def __rsub__(self, other: int) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        _limit_product(self, other)
        return _collect((_sorted((*m, *n)), a * b) for m, a in self.terms for n, b in _terms(other))

    def __rmul__(self, other: int) -> Dim:
        return self * other

    def floordiv(self, other: Dim) -> Dim:
        """The quotient by `other`, rounded down."""
        return floordiv(self, other)

    def symbols(self) -> frozenset[str]:
        """The names of all symbols in the expression."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                if not atom.arguments:
                    found.add(atom.name)
                for argument in atom.arguments:
                    found |= symbols_of(argument)
        return frozenset(found)


def symbol(name: str) -> Expr:
    """The expression that is the symbol `name` alone.

    Raises:
        InvalidArgumentError: `name` is no identifier or is a function's name.
    """
    if not name.isidentifier() or name in (*FUNCTIONS, "ceildiv", "mod"):
        raise InvalidArgumentError(f"{name!r} cannot name a symbol; use an identifier")
    return Expr((((Atom(name),), 1),))


def symbols_of(dim: Dim) -> frozenset[str]:
    """The names of all symbols in `dim`; none for an integer."""
    return frozenset() if isinstance(dim, int) else dim.symbols()


def _limit_product(a: Expr, b: Dim) -> None:
    """Refuse a product of too many terms or factors to work with: `InvalidArgumentError`."""
    terms = len(a.terms) * len(_terms(b))
    factors = sum(max(len(m) for m, _ in _terms(dim)) for dim in (a, b))
    if terms > MOST_TERMS or factors > MOST_FACTORS:
        raise InvalidArgumentError(
            f"an extent is a product of {factors} factors in {terms} terms; at most "
            f"{MOST_FACTORS} and {MOST_TERMS} are allowed: give symbols their values"
        )


def _sorted(monomial: Monomial) -> Monomial:
    return tuple(sorted(monomial, key=str))


def _terms(dim: Dim) -> tuple[tuple[Monomial, int], ...]:
    return dim.terms if isinstance(dim, Expr) else (((), dim),)


def _collect(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in total.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    kept.sort(key=lambda term: (-len(term[0]), [str(a) for a in term[0]]))
    return Expr(tuple(kept))


def _function(name: str, *arguments: Dim) -> Expr:
    return Expr((((Atom(name, arguments),), 1),))


def product(dims: Iterable[Dim]) -> Dim:
    """The product of extents; 1 for none."""
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return result


def divide_exact(dividend: Dim, divisor: Dim) -> Dim | None:
    """The quotient where it is provably exact, None where it is not."""
    if isinstance(dividend, int) and isinstance(divisor, int):
        return dividend // divisor if divisor and dividend % divisor == 0 else None
    if dividend == divisor:
        return 1
    remainder, quotient = dividend, 0
    lead, coefficient = _terms(divisor)[0]
    for _ in range(len(_terms(dividend))):
        top = _divide_term(_terms(remainder)[0], (lead, coefficient))
        if top is None:
            return None
        quotient = quotient + top
        remainder = remainder - top * divisor
        if remainder == 0:
            return quotient
    return None


def _divide_term(term: tuple[Monomial, int], by: tuple[Monomial, int]) -> Dim | None:
    if by[1] == 0 or term[1] % by[1]:
        return None
    left = list(term[0])
    for atom in by[0]:
        if atom not in left:
            return None
        left.remove(atom)
    return _collect([(tuple(left), term[1] // by[1])])


def floordiv(a: Dim, b: Dim) -> Dim:
    """`a` divided by `b`, rounded down.

    Raises:
        ShapeError: `b` is 0.
    """
    if b == 0:
        raise ShapeError(f"division of the extent {a} by 0")
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    exact = divide_exact(a, b)
    if exact is not None:
        return exact
    if isinstance(b, int) and b < 0:
        return floordiv(-a, -b)
    if isinstance(b, int):
        whole = _collect((m, c // b) for m, c in _terms(a) if m and c % b == 0)
        rest = a - whole * b
        if whole != 0:
            return whole + floordiv(rest, b)
    return _function("floordiv", a, b)


def ceildiv(a: Dim, b: Dim) -> Dim:
    """`a` divided by `b`, rounded up."""
    return -floordiv(-a, b)


def modulo(a: Dim, b: Dim) -> Dim:
    """What `floordiv` leaves: has the sign of `b`."""
    return a - b * floordiv(a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two extents."""
    return _extremum("min", a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of two extents."""
    return _extremum("max", a, b)


def _extremum(name: str, a: Dim, b: Dim) -> Dim:
    low, high = bounds_of(a - b, {})
    if low is not None and low >= 0:
        return b if name == "min" else a
    if high is not None and high <= 0:
        return a if name == "min" else b
    return _function(name, *sorted((a, b), key=str))


def broadcast(a: Dim, b: Dim) -> Dim:
    """The extent of an axis under NumPy broadcasting: the one that is not 1.

    Raises:
        ShapeError: Both are known, differ, and neither is 1.
    """
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        raise ShapeError(f"extents {a} and {b} do not broadcast: they differ and neither is 1")
    if isinstance(a, int):
        return a
    if isinstance(b, int):
        return b
    return _function("bcast", *sorted((a, b), key=str))


def evaluate_dim(dim: Dim, values: Mapping[str, int]) -> int:
    """The number that `dim` is when symbols have `values`.

    Raises:
        InvalidArgumentError: A symbol of `dim` has no value.
    """
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        for atom in monomial:
            coefficient *= _evaluate_atom(atom, values)
        total += coefficient
    return total


def _evaluate_atom(atom: Atom, values: Mapping[str, int]) -> int:
    if not atom.arguments:
        if atom.name not in values:
            raise InvalidArgumentError(f"the symbol {atom.name!r} has no value")
        return values[atom.name]
    a, b = (evaluate_dim(argument, values) for argument in atom.arguments)
    if atom.name == "floordiv":
        return a // b
    if atom.name == "bcast":
        return b if a == 1 else a
    return min(a, b) if atom.name == "min" else max(a, b)


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with symbols replaced by other extents."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in monomial:
            term = term * _substitute_atom(atom, values)
        total = total + term
    return total


def _substitute_atom(atom: Atom, values: Mapping[str, Dim]) -> Dim:
    if not atom.arguments:
        return values.get(atom.name, symbol(atom.name))
    a, b = (substitute(argument, values) for argument in atom.arguments)
    return APPLY[atom.name](a, b)


APPLY = {
    "floordiv": floordiv,
    "ceildiv": ceildiv,
    "mod": modulo,
    "min": minimum,
    "max": maximum,
    "bcast": broadcast,
}


def bounds_of(dim: Dim, bounds: Mapping[str, Bounds]) -> tuple[int | None, int | None]:
    """Interval arithmetic: a lower and an upper bound of `dim`, None where unbounded.

    Args:
        dim: The extent.
        bounds: Bounds of symbols; a symbol that is missing lies in 0..`LARGEST_EXTENT`.
    """
    if isinstance(dim, int):
        return dim, dim
    low: int | None = 0
    high: int | None = 0
    for monomial, coefficient in dim.terms:
        term: tuple[int | None, int | None] = (coefficient, coefficient)
        for atom in monomial:
            term = _interval_product(term, _atom_bounds(atom, bounds))
        low = None if low is None or term[0] is None else low + term[0]
        high = None if high is None or term[1] is None else high + term[1]
    return low, high


def _interval_product(
    a: tuple[int | None, int | None], b: tuple[int | None, int | None]
) -> tuple[int | None, int | None]:
    if None not in (*a, *b):
        corners = [x * y for x in a for y in b if x is not None and y is not None]
        return min(corners), max(corners)
    if b[0] is not None and b[0] >= 0 and a[0] is not None and a[0] >= 0:
        return a[0] * b[0], None
    if b[0] is not None and b[0] >= 0 and a[1] is not None and a[1] <= 0:
        return None, a[1] * b[0]
    return None, None


def _atom_bounds(atom: Atom, bounds: Mapping[str, Bounds]) -> tuple[int | None, int | None]:
    if not atom.arguments:
        return bounds.get(atom.name, (0, LARGEST_EXTENT))
    (al, ah), (bl, bh) = (bounds_of(argument, bounds) for argument in atom.arguments)
    if atom.name == "min":
        low = None if al is None or bl is None else min(al, bl)
        return low, _least(ah, bh)
    if atom.name in ("max", "bcast"):
        high = None if ah is None or bh is None else max(ah, bh)
        low = _greatest(al, bl) if atom.name == "max" else _bcast_low(al, bl)
        return low, high
    if bl is not None and bl > 0 and bl == bh:
        return (None if al is None else al // bl), (None if ah is None else ah // bl)
    if al is not None and al >= 0 and bl is not None and bl > 0:
        return (0 if bh is None else al // bh), (None if ah is None else ah // bl)
    return None, None


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _greatest(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def _bcast_low(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else min(a, b)


def provably_equal(a: Dim, b: Dim) -> bool:
    """Whether `a` and `b` are equal for all values of their symbols."""
    return a == b or a - b == 0


def provably_different(a: Dim, b: Dim, bounds: Mapping[str, Bounds] | None = None) -> bool:
    """Whether no values of the symbols, within their bounds, make `a` and `b` equal."""
    low, high = bounds_of(a - b, bounds or {})
    return (low is not None and low > 0) or (high is not None and high < 0)


_assumed: ContextVar[list[tuple[Dim, Dim]] | None] = ContextVar("assumed", default=None)


def conflict(a: Dim, b: Dim) -> bool:
    """Whether two extents that must be equal provably are not; see `assumptions`."""
    if provably_different(a, b):
        return True
    found = _assumed.get()
    if found is not None and not provably_equal(a, b):
        found.append((a, b))
    return False


@contextmanager
def assumptions() -> Generator[list[tuple[Dim, Dim]]]:
    """Collects the pairs of extents that `conflict` found neither equal nor different meanwhile.

    They are what an op's `infer` takes for granted: checked when the program runs.
    """
    found: list[tuple[Dim, Dim]] = []
    token = _assumed.set(found)
    try:
        yield found
    finally:
        _assumed.reset(token)


@lru_cache(maxsize=4096)
def parse_dim(text: str) -> Dim:
    """Read an extent from text such as `batch`, `2*h + 1` or `floordiv(n, 2)`.

    Raises:
        InvalidArgumentError: The text is no such expression.
    """
    try:
        return _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, KeyError, RecursionError, MemoryError) as error:
        raise InvalidArgumentError(
            f"{text[:80]!r} is no extent; write integers, symbols, + - * // % and "
            "floordiv, ceildiv, mod, min, max, bcast"
        ) from error


def _read(node: ast.expr) -> Dim:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(node.value, bool):
            return value
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_read(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            return _binary(operator, _read(left), _read(right))
        case ast.Call(func=ast.Name(id=name), args=[a, b], keywords=[]):
            return APPLY[name](_read(a), _read(b))
        case _:
            raise ValueError(ast.dump(node)[:40])


def _binary(operator: ast.operator, a: Dim, b: Dim) -> Dim:
    match operator:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.FloorDiv():
            return floordiv(a, b)
        case ast.Mod():
            return modulo(a, b)
        case _:
            raise ValueError(type(operator).__name__)


def broadcast_shapes(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape that NumPy broadcasting gives; shorter shapes get leading axes of 1.

    Raises:
        ShapeError: Two extents of one axis differ and neither is 1.
    """
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Dim] = []
    for axis in range(rank):
        extent: Dim = 1
        for shape in shapes:
            position = axis - (rank - len(shape))
            if position >= 0:
                extent = broadcast(extent, shape[position])
        result.append(extent)
    return tuple(result)
