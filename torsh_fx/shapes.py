"""What the extents of a model's inputs may be, and which op decides: free, bounded, derived, fixed.

The program is walked once with a symbol for every extent of an input, fixed ones too. Each op
infers its result types from them, and what it takes for granted of them (`dims.assumptions`) is
what it asks of the model's inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from lowering.program.checks import WORDS
from lowering.program.relations import Relation, relations
from lowering.program.run import assumed, location_of
from torsh_dialect.dims import (
    Bounds,
    Dim,
    assumptions,
    bounds_of,
    floordiv,
    provably_equal,
    substitute,
    symbol,
    symbols_of,
)
from torsh_dialect.errors import TorshError
from torsh_dialect.kinds import Composite, DefinesSymbols, TensorOp
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.shape import AssumeOp
from torsh_dialect.passes.expand_composites import RewriterBuilder
from torsh_dialect.types import dims_of, element_type, tensor
from torsh_fx.places_read import Constants, places_read

if TYPE_CHECKING:
    from onnx import ModelProto

    from torsh_dialect.context import Context
    from torsh_fx.importers.model import ImportedModel

FREE, BOUNDED, DERIVED, FIXED = "free", "bounded", "derived", "fixed"


@dataclass(frozen=True)
class AxisFact:
    """What an axis of an input, or a symbol of the data, may be.

    Attributes:
        name: The input, or empty for an extent that is found while the program runs.
        axis: The axis.
        extent: The extent as text, e.g. `batch`, `2*n`, `8`.
        kind: `free`, `bounded`, `derived` or `fixed`.
        reason: The bound, the relation, and the op with its place in the user's model.
    """

    name: str
    axis: int
    extent: str
    kind: str
    reason: str = ""


@dataclass(frozen=True)
class Demand:
    """A relation of extents that an op needs."""

    relation: Relation
    op: Operation

    @property
    def place(self) -> str:
        """The op, and where the user's model has it."""
        name = self.op.name.removeprefix("torsh.")
        where = location_of(self.op)
        return f"{name} at {where}" if where else name


def axis_facts(imported: ImportedModel) -> list[AxisFact]:
    """The facts of every axis of every input, then of extents that depend on data."""
    main = next(op for op in imported.module.ops if isinstance(op, FuncOp))
    names, own = _symbols_of_axes(main)
    demands = [*_demands(imported, names), *_stated(main)]
    own |= _settled(demands)
    users = [n for n, a in enumerate(main.args) if hasattr(a.type, "element_type")]
    facts: list[AxisFact] = []
    seen: dict[str, str] = {}
    for number in users:
        for axis, dim in enumerate(dims_of(main.args[number])):
            place = f"axis {axis} of {imported.inputs[number]}"
            fact = _fact(dim, names[number][axis], demands, own, imported.symbols, seen)
            facts.append(replace(fact, name=imported.inputs[number], axis=axis))
            seen.setdefault(str(dim), place)
    return [*facts, *_found(main, seen)]


def _symbols_of_axes(main: FuncOp) -> tuple[dict[int, list[Dim]], dict[str, int]]:
    """A symbolic extent for each axis of each argument; which of them stand for fixed ones."""
    names: dict[int, list[Dim]] = {}
    fixed: dict[str, int] = {}
    for number, argument in enumerate(main.args):
        if not hasattr(argument.type, "element_type"):
            continue
        names[number] = []
        for axis, dim in enumerate(dims_of(argument)):
            if isinstance(dim, int):
                fixed[f"axis_{number}_{axis}"] = dim
                dim = symbol(f"axis_{number}_{axis}")
            names[number].append(dim)
    return names, fixed


def _demands(imported: ImportedModel, names: Mapping[int, Sequence[Dim]]) -> list[Demand]:
    """What ops ask of the extents, with a symbol for every axis."""
    module, constants = imported.module.clone(), Constants(imported.weights)
    main = next(op for op in module.ops if isinstance(op, FuncOp))
    for number, dims in names.items():
        argument = main.args[number]
        _retype(argument, tensor(element_type(argument), dims))
    found: list[Demand] = []
    for op in list(main.body.block.ops):
        if isinstance(op, TensorOp) and not isinstance(op, YieldOp):
            found.extend(_of(op))
            found.extend(Demand(relation, op) for relation in places_read(op, constants))
            if isinstance(op, Composite):
                found.extend(_of_parts(op))
    return found


def _retype(value: SSAValue, type: Any) -> None:
    value._type = type  # pyright: ignore[reportPrivateUsage]


def _of(op: TensorOp) -> Iterator[Demand]:
    """What one op asks; its results get the types that follow."""
    try:
        with assumptions() as pairs:
            types = op.implied_types()
    except (TorshError, AssertionError, TypeError, ValueError):
        return  # needs the extents as they are; the types that follow stay what they were
    yield from (Demand(Relation(a, "eq", b), op) for a, b in pairs)
    for result, type in zip(op.results, types, strict=True):
        _retype(result, type)
    yield from (Demand(relation, op) for relation, _ in relations(op))


def _of_parts(op: Composite) -> Iterator[Demand]:
    """What the ops ask that a composite means, said of the composite: a norm's scale fixes axes."""
    block = op.parent_block()
    assert block is not None
    outside = set(block.ops)
    rewriter = PatternRewriter(op)
    with suppress(TorshError, AssertionError, TypeError, ValueError):
        # where a part needs an extent as it is, what the parts before it ask still holds
        op.expand(RewriterBuilder(rewriter))
    for part in [inner for inner in block.ops if inner not in outside]:
        if isinstance(part, AssumeOp):
            yield Demand(assumed(part), op)
        elif isinstance(part, TensorOp):
            yield from (Demand(relation, op) for relation, _ in relations(part))


def _settled(demands: Sequence[Demand]) -> dict[str, int]:
    """Symbols that ops ask to be a number."""
    found: dict[str, int] = {}
    for relation in (demand.relation for demand in demands):
        for name, value in ((relation.left, relation.right), (relation.right, relation.left)):
            if relation.kind == "eq" and isinstance(value, int) and str(name).isidentifier():
                found.setdefault(str(name), value)
    return found


def _stated(main: FuncOp) -> Iterator[Demand]:
    """What importers have written down as relations."""
    for op in main.walk():
        if isinstance(op, AssumeOp):
            yield Demand(assumed(op), op)


def _fact(
    dim: Dim,
    name: Dim,
    demands: Sequence[Demand],
    fixed: Mapping[str, int],
    bounds: Mapping[str, Bounds],
    seen: Mapping[str, str],
) -> AxisFact:
    if isinstance(dim, int):
        demand = _first(demands, str(name), fixed)
        least = _least(demands, str(name), fixed)
        reason = f"by {demand.place}" if demand else "declared so; no op asks for it"
        if demand is None and least is not None:
            reason = f"declared so; must be at least {least.relation.left} by {least.place}"
        return AxisFact("", 0, str(dim), FIXED, reason)
    text = str(dim)
    if text in seen:
        return AxisFact("", 0, text, DERIVED, f"equal to {seen[text]}")
    if not text.isidentifier():
        return AxisFact("", 0, text, DERIVED, _ranges(dim, bounds))
    forced = _first(demands, text, fixed, equal=True)
    if forced is not None:
        other = forced.relation.right if str(forced.relation.left) == text else forced.relation.left
        value = _value(other, {key: size for key, size in fixed.items() if key != text})
        kind = FIXED if isinstance(value, int) else DERIVED
        return AxisFact("", 0, text, kind, f"equal to {value} by {forced.place}")
    found = (_first(demands, text, fixed), _least(demands, text, fixed))
    reason = "; ".join(_asked(demand, fixed) for demand in found if demand is not None)
    reason = reason or _ranges(dim, bounds)
    return AxisFact("", 0, text, BOUNDED if reason else FREE, reason)


def _asked(demand: Demand, fixed: Mapping[str, int]) -> str:
    """A demand in words, and the op."""
    left, right = (_value(d, fixed) for d in (demand.relation.left, demand.relation.right))
    return f"{_said(left, demand.relation.kind, right)}, by {demand.place}"


def _said(left: Dim, kind: str, right: Dim) -> str:
    """A relation in words."""
    if kind == "fits" and str(right).startswith("bcast("):
        sides = " and ".join(sorted(symbols_of(right)))
        if str(right) == f"bcast({sides.replace(' and ', ', ')})":
            return f"{sides} must be equal, or one of them 1"
    if kind == "le" and isinstance(left, int):
        return f"{right} must be at least {left}"
    if kind == "eq" and (factor := _factor(left, right)) is not None:
        return f"{left} must be a multiple of {factor}"
    return f"{left} must {WORDS[kind]} {right}"


def _factor(left: Dim, right: Dim) -> int | None:
    """K where `right` is `k*floordiv(left, k)`."""
    found = re.match(r"(\d+)\*floordiv\(", str(right))
    if found is None:
        return None
    factor = int(found[1])
    return factor if provably_equal(factor * floordiv(left, factor), right) else None


def _first(
    demands: Sequence[Demand], name: str, fixed: Mapping[str, int], *, equal: bool = False
) -> Demand | None:
    """The first demand on a symbol; with `equal`, one that gives it the value of another.

    What holds for all values of the symbol, with the numbers of `fixed` ones, is no demand.
    """
    for demand in demands:
        if _is_least(demand) or not _is_asked(demand, name, fixed):
            continue
        sides = (demand.relation.left, demand.relation.right)
        if not equal or (demand.relation.kind == "eq" and name in map(str, sides)):
            return demand
    return None


def _least(demands: Sequence[Demand], name: str, fixed: Mapping[str, int]) -> Demand | None:
    """Of the numbers below which an extent must not be, the demand of the largest."""
    found = [d for d in demands if _is_least(d) and _is_asked(d, name, fixed)]
    return max(found, key=lambda demand: int(str(demand.relation.left)), default=None)


def _is_least(demand: Demand) -> bool:
    return demand.relation.kind == "le" and isinstance(demand.relation.left, int)


def _is_asked(demand: Demand, name: str, fixed: Mapping[str, int]) -> bool:
    """Whether a relation is about a symbol, and does not hold for all its values."""
    others = {other: value for other, value in fixed.items() if other != name}
    relation = demand.relation
    left, right = (substitute(side, others) for side in (relation.left, relation.right))
    if provably_equal(left, right) or (relation.kind == "fits" and left == 1):
        return False
    least, _ = bounds_of(right - left, {})
    if relation.kind == "le" and least is not None and least >= 0:
        return False
    return name in symbols_of(relation.left) | symbols_of(relation.right)


def _value(dim: Dim, fixed: Mapping[str, int]) -> Dim:
    """An extent with the numbers of fixed axes."""
    return substitute(dim, dict(fixed))


def _ranges(dim: Dim, bounds: Mapping[str, Bounds]) -> str:
    texts: list[str] = []
    for name in sorted(symbols_of(dim)):
        low, high = bounds.get(name, (0, None))
        if low > 1 or high is not None:
            texts.append(f"{name} in {low}..{'' if high is None else high}")
    return ", ".join(texts)


def _found(main: FuncOp, known: Mapping[str, str]) -> Iterator[AxisFact]:
    """Extents that ops find in the data."""
    seen = set(known)
    for op in main.walk():
        if not isinstance(op, TensorOp):
            continue
        for name in DefinesSymbols.named(op):
            if name not in seen:
                seen.add(name)
                place = Demand(Relation(0, "eq", 0), op).place
                yield AxisFact("", 0, name, DERIVED, f"from data, by {place}")


def freed_onnx(model: str | Path | bytes | ModelProto) -> ModelProto:
    """An ONNX model with a symbol for every extent of its inputs; fixed ones get a name each."""
    from torsh_fx.importers.onnx_load import read_model

    proto, _, _ = read_model(model)
    freed = type(proto)()
    freed.CopyFrom(proto)
    stored = {tensor.name for tensor in freed.graph.initializer}
    for number, value in enumerate(freed.graph.input):
        if value.name in stored or not value.type.HasField("tensor_type"):
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.dim_param:
                dim.dim_param = f"{FREED}_{number}_{axis}"
    return freed


FREED = "declared"
"""Begins the names that `freed_onnx` gives."""


def onnx_facts(model: str | Path | bytes | ModelProto, ctx: Context) -> list[AxisFact]:
    """The facts of an ONNX model as if it declared no number: what its nodes alone ask for.

    An axis of which the model declares a number that no node asks for is reported so: it could
    be symbolic. Where the nodes cannot be read without the numbers, these are taken as they are.
    """
    from torsh_fx.importers.onnx import import_onnx

    declared = axis_facts(import_onnx(model, ctx))
    proto = freed_onnx(model)
    try:
        freed = axis_facts(import_onnx(proto, ctx))
    except TorshError:
        return declared
    names = [value.name for value in proto.graph.input]

    def place(found: re.Match[str]) -> str:
        return f"axis {found[2]} of {names[int(found[1])]}"

    readable = (replace(f, reason=re.sub(rf"{FREED}_(\d+)_(\d+)", place, f.reason)) for f in freed)
    known = {(fact.name, fact.axis): fact for fact in readable}
    return [_declared(fact, known.get((fact.name, fact.axis))) for fact in declared]


def _declared(fact: AxisFact, freed: AxisFact | None) -> AxisFact:
    """What a declared number is for, from the facts of the model without it."""
    if fact.kind != FIXED or not fact.name or freed is None:
        return fact
    if freed.kind == FREE:
        return replace(fact, reason="declared so; no op asks for it")
    return replace(fact, reason=f"declared so; {freed.reason}")
