"""Numbers of the program: sizes, values read from tensors, and arithmetic on them in Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import torch
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dims import Dim, Expr, symbol, symbols_of
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.ops import compare, elementwise, maths, rounding, select
from torsh_dialect.ops.shape import AssumeOp, BindOp
from torsh_dialect.types import element_type
from torsh_fx.importers.torch_ops.base import CONVERTERS, NodeBuilder, Scalar, converts
from torsh_fx.importers.torch_symbols import RELATIONS, relation_of

SYMBOLIC = frozenset({"aten._local_scalar_dense.default", "aten.item.default"})
"""Ops that define a symbol: their value is not folded away although it is a number."""


def bound(c: NodeBuilder, x: SSAValue) -> Any:
    """The number that a scalar tensor holds: an extent, or the tensor for floats and bools.

    An integer that may be negative and that is no size, stays a tensor too.
    """
    value = c.meta()
    if isinstance(value, torch.SymInt):
        if _may_be_negative(value) and _is_arithmetic_only(c.node):
            c.graph.shared.numbers.add(str(value))
            return c.cast(c.reshape(x, []), dtypes.i64)
        expr = c.graph.shared.dim(value)
        if isinstance(expr, Expr) and str(expr).isidentifier():
            bind_extent(c, x, expr)
        return expr
    if isinstance(value, torch.SymFloat | float):
        return c.cast(x, dtypes.f64)
    return c.cast(x, dtypes.i1) if isinstance(value, torch.SymBool | bool) else x


def entered(c: NodeBuilder, x: SSAValue) -> Any:
    """The number that a loop carries, for the graph that takes it.

    Torch has one symbol for it in all iterations; each use in extents binds one of its own.
    """
    shared, name = c.graph.shared, str(c.meta())
    if not name.isidentifier() or _is_arithmetic_only(c.node):
        shared.numbers |= {str(s) for s in c.meta().node.expr.free_symbols}
        return c.cast(c.reshape(x, []), dtypes.i64)
    shared.numbers.discard(name)
    extent = symbol(shared.symbol("carried"))
    shared.aliases[name] = extent
    bind_extent(c, x, extent)
    return extent


def bind_extent(c: NodeBuilder, x: SSAValue, extent: Expr) -> None:
    """From here on the symbol `extent` is the integer that x holds; checked at run time."""
    name = str(extent)
    c.graph.shared.known.add(name)
    low, high = c.graph.shared.bounds.get(name, (0, None))
    c.b(BindOp, c.cast(x, dtypes.i64), names=[name], low=low or None, high=high)


def _may_be_negative(value: torch.SymInt) -> bool:
    node: Any = cast(Any, value).node
    return bool(node.shape_env.bound_sympy(node.expr).lower < 0)


def _is_arithmetic_only(node: torch.fx.Node) -> bool:
    """Whether a number goes into arithmetic, checks and outputs only, not into extents."""
    for user in node.users:
        name = str(user.target)
        if user.op == "output" or name.startswith(CHECKS):
            continue
        value: Any = user.meta.get("val")
        if not isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            takes = [n for n, a in enumerate(user.args) if a is node]
            if not name.startswith(ARITHMETIC) or takes == [0]:
                return False
        elif not _is_arithmetic_only(user):
            return False
    return True


CHECKS = ("aten.sym_constrain_range", "aten._assert_scalar", "aten._assert_async")
ARITHMETIC = tuple(
    f"aten.{name}."
    for name in ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge", "remainder")
)
"""Ops that take a number beside a tensor."""


@converts(
    "sym_constrain_range_for_size", "sym_constrain_range", "_assert_tensor_metadata", "_print"
)
def _nothing(c: NodeBuilder, *arguments: Any, **options: Any) -> None:
    return None


@converts(
    "_assert_scalar",
    "_functional_assert_scalar",
    "_assert_async",
    "_assert_async.msg",
    "_functional_assert_async.msg",
)
def _assert(c: NodeBuilder, condition: Scalar, *_: Any, **__: Any) -> None:
    """What `torch._check` asks; of extents as a relation, of data as a number that is not 0."""
    source: Any = c.node.args[0]
    if _is_of_layout(source):
        return
    relation = _relation(c, source.meta.get("val") if isinstance(source, torch.fx.Node) else None)
    if relation is not None:
        left, kind, right = relation
        sides = {"left": dims_attribute([left]), "right": dims_attribute([right])}
        c.b(AssumeOp, c.tensor(0, dtypes.i64), relation=kind, **sides)
    elif isinstance(condition, SSAValue):
        holds = c.cast(truth(c, condition), dtypes.i64)
        name = c.graph.shared.symbol("checked")
        c.b(BindOp, holds, names=[name], low=1, high=1, condition=_asserted(c.node))


def _asserted(node: torch.fx.Node) -> str:
    """What an assertion says that does not hold: the user's words, else the condition."""
    source: Any = node.args[0]
    words = str(node.args[1]) if len(node.args) > 1 and node.args[1] else ""
    known = re.fullmatch(r"Runtime assertion failed for expression (.*) on node '.*'", words)
    if words and not known:
        return f"an assertion of the model does not hold: {words}"
    named = known[1] if known else f"the value of {source} ({source.target})"
    return f"an assertion of the model does not hold: {named} is false"


def _is_of_layout(value: Any) -> bool:
    """Whether a number comes from where torch keeps a tensor, which is nothing here."""
    if not isinstance(value, torch.fx.Node) or value.op != "call_function":
        return False
    if str(value.target).startswith(LAYOUT):
        return True
    number = isinstance(value.meta.get("val"), torch.SymInt | torch.SymBool)
    return number and any(map(_is_of_layout, value.args))


LAYOUT = ("aten.sym_storage_offset", "aten.sym_stride")


def _relation(c: NodeBuilder, said: Any) -> tuple[Dim, str, Dim] | None:
    """A comparison of extents that the program defines."""
    if not isinstance(said, torch.SymBool):
        return None
    expr: Any = cast(Any, said).node.expr
    if expr.func not in RELATIONS:
        return None
    lesser, kind, greater = relation_of(expr.func, *expr.args)
    try:
        left, right = c.graph.shared.dim(lesser), c.graph.shared.dim(greater)
    except UnsupportedError:  # it uses a function that extents lack; its value is a tensor
        return None
    names = symbols_of(left) | symbols_of(right)
    return (left, kind, right) if names <= c.graph.shared.known else None


ASSERTIONS = ("aten._assert_scalar", "aten._assert_async", "aten._functional_assert_")
"""Ops without a result that end the run."""


def _number(c: NodeBuilder, value: Scalar) -> SSAValue:
    """A Python number as a scalar tensor: i64, f64 or bool."""
    if isinstance(value, SSAValue):
        return value
    if isinstance(value, bool):
        return c.tensor(value, dtypes.i1)
    return c.tensor(value, dtypes.i64 if isinstance(value, int | Expr) else dtypes.f64)


def _both(c: NodeBuilder, a: Scalar, b: Scalar, real: bool = False) -> tuple[SSAValue, SSAValue]:
    x, y = _number(c, a), _number(c, b)
    if real or dtypes.f64 in (element_type(x), element_type(y)):
        return c.cast(x, dtypes.f64), c.cast(y, dtypes.f64)
    return x, y


def _binary(cls: Any, real: bool = False) -> Callable[..., SSAValue]:
    def convert(c: NodeBuilder, a: Scalar, b: Scalar) -> SSAValue:
        return c.b(cls, *_both(c, a, b, real))

    return convert


def _unary(cls: Any) -> Callable[..., SSAValue]:
    def convert(c: NodeBuilder, a: Scalar) -> SSAValue:
        return c.b(cls, c.cast(_number(c, a), dtypes.f64))

    return convert


for _name, _cls in {
    "add": elementwise.AddOp,
    "sub": elementwise.SubOp,
    "mul": elementwise.MulOp,
    "floordiv": elementwise.FloorDivOp,
    "mod": elementwise.RemainderOp,
    "pow": elementwise.PowOp,
    "lt": compare.LessOp,
    "le": compare.LessEqualOp,
    "gt": compare.GreaterOp,
    "ge": compare.GreaterEqualOp,
    "eq": compare.EqualOp,
    "ne": compare.NotEqualOp,
    "sym_max": select.MaximumOp,
    "sym_min": select.MinimumOp,
}.items():
    CONVERTERS[_name] = _binary(_cls)
CONVERTERS["truediv"] = _binary(elementwise.DivOp, real=True)
CONVERTERS["pow_by_natural"] = _binary(elementwise.PowOp)


def _neg(c: NodeBuilder, a: Scalar) -> SSAValue:
    return c.neg(_number(c, a))


def _float(c: NodeBuilder, a: Scalar) -> SSAValue:
    return c.cast(_number(c, a), dtypes.f64)


def _not(c: NodeBuilder, a: Scalar) -> SSAValue:
    return c.eq(c.cast(_number(c, a), dtypes.i64), 0)


def _and(c: NodeBuilder, a: Scalar, b: Scalar) -> SSAValue:
    return c.both(_number(c, a), _number(c, b))


def _or(c: NodeBuilder, a: Scalar, b: Scalar) -> SSAValue:
    return c.either(_number(c, a), _number(c, b))


def _choice(c: NodeBuilder, condition: Scalar, a: Scalar, b: Scalar) -> SSAValue:
    return c.where(truth(c, condition), *_both(c, a, b))


CONVERTERS.update(
    {
        "sym_ite": _choice,
        "neg": _neg,
        "sym_float": _float,
        "sym_not": _not,
        "and_": _and,
        "or_": _or,
    }
)
for _name, _cls in {
    "_sym_sqrt": maths.SqrtOp,
    "sqrt": maths.SqrtOp,
    "floor": rounding.FloorOp,
    "ceil": rounding.CeilOp,
    "trunc": rounding.TruncOp,
    "round": rounding.RoundOp,
    "log2": maths.Log2Op,
    "_sym_log2": maths.Log2Op,
}.items():
    CONVERTERS[f"math.{_name}"] = CONVERTERS[_name] = _unary(_cls)


def truth(c: NodeBuilder, value: Scalar) -> SSAValue:
    """A predicate as one bool of rank 0."""
    return c.cast(c.reshape(_number(c, value), []), dtypes.i1)


def size_or_tensor(c: NodeBuilder, value: Any) -> SSAValue:
    """An extent as a scalar tensor; a tensor as it is."""
    return c.tensor(cast("Scalar", value))
