"""The guards of an exported program: what its tracing decided by sizes of inputs.

`if x.shape[0] * x.shape[1] > 20:` leaves one branch in the program and the condition among its
guards, as Python of the inputs: `L['x'].size()[0]*L['x'].size()[1] > 20`. Torch's own module
asserts them at each call. Here they become relations of extents, which the program checks with
its inputs.

Torch also writes down what it asked to find out strides, which are no business of a compiled
program: whether sizes are 0 or 1, and whether results are contiguous. Where the trace still says
where a guard comes from, those are left out.
"""

from __future__ import annotations

import ast
import math
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias, cast

import sympy  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeGuardPythonPrinter
from torch.utils import _pytree as pytree
from torch.utils._sympy import functions

from torsh_dialect.dims import LARGEST_EXTENT, Bounds, Dim, bounds_of, maximum, minimum
from torsh_dialect.errors import UnsupportedError
from torsh_fx.importers.torch_symbols import relation_of

Relation: TypeAlias = tuple[Dim, str, Dim]
"""Left side, `eq`, `ne`, `le` or `lt`, right side."""

_torch: Any = functions
_sympy: Any = sympy
STRIDES = (
    "check_contiguous_sizes_strides",
    "is_contiguous",
    "are_strides_like_channels_last_or_false",
    "_is_non_overlapping_and_dense_or_false",
    "_collapse_view_helper",
)
"""Functions of torch that ask for strides alone."""
PROGRAMS = tuple(
    os.path.join(os.path.dirname(torch.__file__), part) for part in ("nn" + os.sep, "functional.py")
)
"""Parts of torch that are written as a user's model is: what they ask of sizes are decisions."""


def guards_of(ep: ExportedProgram) -> list[str]:
    """The guards that decide what a program computes, as Python, each once."""
    internal = _of_strides(ep)
    return [code for code in dict.fromkeys(cast(Any, ep)._guards_code) if code not in internal]


def _of_strides(ep: ExportedProgram) -> set[str]:
    """Guards that torch wrote down to find out strides; none for a program read from a file."""
    values = (node.meta.get("val") for node in ep.graph.nodes if node.op == "placeholder")
    sizes = (size for v in values if isinstance(v, torch.Tensor) for size in v.shape)
    symbolic: Any = next((size for size in sizes if isinstance(size, torch.SymInt)), None)
    if symbolic is None:
        return set()
    env = symbolic.node.shape_env
    named = env.var_to_sources
    known = [guard for guard in env.guards if guard.expr.free_symbols <= named.keys()]
    printer: Any = ShapeGuardPythonPrinter(named, operator.attrgetter("name"), named)
    return {printer.doprint(guard.expr) for guard in known if _is_of_strides(guard)}


def _is_of_strides(guard: Any) -> bool:
    place = guard.sloc.framework_loc
    file, function = getattr(place, "filename", ""), getattr(place, "name", "")
    if not file.startswith(os.path.dirname(torch.__file__)) or file.startswith(PROGRAMS):
        return False
    about = guard.expr.has(_torch.IsNonOverlappingAndDenseIndicator) or function in STRIDES
    return about or _is_of_zero_or_one(guard.expr)


def _is_of_zero_or_one(expr: Any) -> bool:
    """Whether it says that a size is not another, or none of 0 and 1."""
    if isinstance(expr, sympy.Ne):
        return True
    if not isinstance(expr, sympy.Gt | sympy.Ge | sympy.Lt | sympy.Le):
        return False
    least: Any = expr.lts if expr.lts.is_Integer else None
    return least is not None and int(least) <= (1 if isinstance(expr, sympy.Gt | sympy.Lt) else 2)


@dataclass(frozen=True)
class Guards:
    """Reads guards as relations of extents.

    Attributes:
        sizes: By input as guards spell it: its extents, or the number that it is.
        dim: An expression of torch's symbols as an extent.
        bounds: Of the symbols; what follows from them is left out.
    """

    sizes: Mapping[str, Any]
    dim: Callable[[Any], Dim]
    bounds: Mapping[str, Bounds]

    def relations(self, code: str) -> Iterator[Relation]:
        """What a guard asks.

        Raises:
            UnsupportedError: It asks for something that is no function of extents.
        """
        try:
            found = list(self._all(ast.parse(code, mode="eval").body))
        except (KeyError, TypeError, ValueError, UnsupportedError) as error:
            raise UnsupportedError(f"the guard {code} of the program cannot be checked") from error
        return (relation for relation in found if not self._follows(relation))

    def _follows(self, relation: Relation) -> bool:
        left, kind, right = relation
        low, high = bounds_of(right - left, self._limits)
        if kind in ("le", "lt"):
            return low is not None and low >= (kind == "lt")
        if kind == "eq":
            return low == high == 0
        return (low is not None and low > 0) or (high is not None and high < 0)

    @cached_property
    def _limits(self) -> dict[str, Bounds]:
        """The bounds of symbols, all of which have an end: some guards ask whether sizes fit."""
        return {
            name: (low, LARGEST_EXTENT if high is None else high)
            for name, (low, high) in self.bounds.items()
        }

    def _all(self, node: ast.expr) -> Iterator[Relation]:
        """The relations that all must hold."""
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            for value in node.values:
                yield from self._all(value)
        elif isinstance(node, ast.Compare):
            sides = [self._number(side) for side in (node.left, *node.comparators)]
            for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
                yield self._compared(*relation_of(type(op), left, right))
        else:
            yield self._truth(node), "eq", 1

    def _truth(self, node: ast.expr) -> Dim:
        """A condition as the extent 0 or 1."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return 1 - self._truth(node.operand)
        if isinstance(node, ast.BoolOp):
            both = isinstance(node.op, ast.And)
            total, *rest = map(self._truth, node.values)
            for value in rest:
                total = minimum(total, value) if both else maximum(total, value)
            return total
        if not isinstance(node, ast.Compare):
            raise KeyError(ast.unparse(node))
        total: Dim = 1
        for relation in self._all(node):
            total = minimum(total, _indicator(relation))
        return total

    def _compared(self, left: Any, kind: str, right: Any) -> Relation:
        """A relation of two of torch's expressions, of which one may be no integer."""
        if _is_fraction(left):
            over, kind, limit = self._compared(-right, kind, -left)
            return -limit, kind, -over
        if _is_fraction(right):
            over, under = _quotient(left)
            limit = Fraction(float(right)) * under
            if limit.denominator == 1:
                return self.dim(over), kind, int(limit)
            if kind in ("le", "lt"):
                return self.dim(over), "le", math.floor(limit)
            return 0, kind, 1  # no integer is it
        (over, under), (other, divisor) = _quotient(left), _quotient(right)
        return self.dim(over) * divisor, kind, self.dim(other) * under

    def _number(self, node: ast.expr) -> Any:
        """An expression as torch's own sympy has it."""
        if isinstance(node, ast.Constant):
            return _sympy.sympify(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._number(node.operand)
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](self._number(node.left), self._number(node.right))
        if isinstance(node, ast.Call) and not _is_size(node):
            return CALLS[ast.unparse(node.func)](*map(self._number, node.args))
        if isinstance(node, ast.Subscript) and _is_size(node.value):
            extents = self._input(cast(Any, node.value).func.value)
            return _sympy.sympify(extents[ast.literal_eval(node.slice)])
        return _sympy.sympify(self._input(node))

    def _input(self, node: ast.expr) -> Any:
        """The value of an input; of `**kwargs` guards name the dictionary too."""
        spelled = ast.unparse(node)
        if spelled not in self.sizes:
            spelled = re.sub(r"^L\['\w+'\](\['\w+'\])", r"L\1", spelled)
        return self.sizes[spelled]


def sizes_of(value: Any) -> Any:
    """The extents of a tensor, or a number, as sympy has them; sizes may be 0 here."""
    if isinstance(value, torch.Tensor):
        return tuple(map(sizes_of, value.shape))
    if not isinstance(value, torch.SymInt):
        return value
    expr = cast(Any, value).node.expr
    return expr.xreplace({s: _free(s.name) for s in expr.free_symbols})


def _free(name: str) -> Any:
    """A symbol of which no more is assumed than that it is a size."""
    return _sympy.Symbol(name, integer=True, nonnegative=True)


def spellings(names: tuple[str, ...], spec: pytree.TreeSpec) -> list[list[str]]:
    """How guards may spell each leaf of a call's arguments: `L['x']`, `L['args'][0]['key']`, ...

    Args:
        names: Of the arguments by position, as far as they are known.
        spec: The tree of positional and named arguments.
    """
    numbered = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    leaves = cast("list[tuple[Any, int]]", cast(Any, pytree).tree_leaves_with_path(numbered))
    found: list[list[str]] = [[] for _ in leaves]
    for path, leaf in leaves:
        first, rest = path[1], pytree.keystr(path[2:])
        if path[0].idx:
            name = str(first.key)
        else:
            name = names[int(first.idx)] if int(first.idx) < len(names) else ""
        variadic = re.fullmatch(r"(\w+)_(\d+)", name)
        found[leaf] = [f"L['flat_args'][{leaf}]", f"L[{name!r}]{rest}"]
        if variadic:
            found[leaf].append(f"L[{variadic[1]!r}][{variadic[2]}]{rest}")
    return found


def _same(value: Any) -> Any:
    return value


def _quotient(expr: Any) -> tuple[Any, int]:
    """A float expression as an integer one and the positive integer that divides it."""
    over, under = expr.replace(_torch.ToFloat, _same).as_numer_denom()
    if not under.is_Integer:
        raise ValueError(str(expr))
    return over, int(under)


def _is_fraction(expr: Any) -> bool:
    return bool(expr.is_Number) and not expr.is_Integer


def _is_size(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args
    ) and node.func.attr == "size"


def _indicator(relation: Relation) -> Dim:
    """1 where a relation holds, else 0."""
    left, kind, right = relation
    if kind in ("le", "lt"):
        return minimum(maximum(right - left + (kind == "le"), 0), 1)
    differs = minimum(maximum(left - right, right - left), 1)
    return differs if kind == "ne" else 1 - differs


OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: _torch.FloorDiv,
    ast.Mod: _torch.PythonMod,
    ast.Div: lambda a, b: a / b,
    ast.Pow: _torch.PowByNatural,
}
CALLS: dict[str, Callable[..., Any]] = {
    "max": _torch.Max,
    "min": _torch.Min,
    "float": _torch.ToFloat,
    "torch.sym_float": _torch.ToFloat,
    "math.trunc": _torch.TruncToInt,
    "math.floor": _torch.FloorToInt,
    "math.ceil": _torch.CeilToInt,
}
