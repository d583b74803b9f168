"""What the registry says of every op, for the support table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from xdsl.ir import Operation
from xdsl.traits import IsTerminator

import lowering.generic.all_rules  # noqa: F401  # pyright: ignore[reportUnusedImport]
import torsh_dialect.ops  # noqa: F401  # pyright: ignore[reportUnusedImport]
from lowering.generic.evaluator import rule_of
from lowering.generic.kernels import KINDS, WHOLE
from lowering.templates.choose import CHOOSERS
from torsh_dialect.declare import OPS
from torsh_dialect.kinds import (
    Composite,
    Contract,
    Control,
    DataDependent,
    Elementwise,
    Extern,
    Gather,
    Movement,
    Random,
    Reduce,
    Scan,
    Scatter,
    Sort,
    TensorOp,
    Window,
)
from torsh_dialect.ops.call import CallOp
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.shape import BindOp

from .probe import taken_dtypes, takes_symbols

KINDS_OF_OPS: tuple[type[TensorOp], ...] = (
    Elementwise, Reduce, Scan, Contract, Window, Movement, Gather, Scatter, Sort, Composite,
    Control, DataDependent, Extern, Random,
)  # fmt: skip
"""The kinds of `torsh_dialect.kinds`; the first that fits counts."""


HOST_TYPE = "!torsh."
"""How the example of an op shows that it takes sequences, optional values or strings."""


@dataclass(frozen=True)
class Row:
    """An op in the support table.

    Attributes:
        name: Without the dialect's prefix.
        kind: The kind that its class derives from.
        spelled: Other frameworks' names that convert one to one.
        lowering: What makes native code of it; `-` where nothing does.
        dtypes: Names of the element types that its data may have; empty where it has no data.
        dynamic: Whether all extents may be symbols; None where it has none.
    """

    name: str
    kind: str
    spelled: tuple[str, ...]
    lowering: str
    dtypes: tuple[str, ...]
    dynamic: bool | None


def kinds() -> list[str]:
    """Names of the kinds that ops have."""
    return sorted(set(map(kind_of, OPS)))


@cache
def support_rows() -> list[Row]:
    """A row for every op of the dialect, by kind and name."""
    rows = [
        Row(
            cls.name.removeprefix("torsh."),
            kind_of(cls),
            _spelled(cls),
            lowering_of(cls),
            () if is_internal(cls) else taken_dtypes(cls),
            takes_symbols(cls),
        )
        for cls in OPS
    ]
    return sorted(rows, key=lambda row: (row.kind, row.name))


def is_internal(cls: type[Operation]) -> bool:
    """Whether only passes of `lowering` make the op, for templates with their own types."""
    return cls.name.startswith(("torsh.packed_", "torsh.strided_", "torsh.winograd_"))


GROUPS = {
    "float": ("f16", "bf16", "f32", "f64"),
    "float8/6/4": (
        *("f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0fnu"),
        *("f6e2m3fn", "f6e3m2fn", "f4e2m1fn"),
    ),
    "bool": ("bool",),
    "int": ("i8", "i16", "i32", "i64"),
    "uint": ("ui8", "ui16", "ui32", "ui64"),
    "int4/2": ("i2", "i4", "ui2", "ui4"),
    "complex": ("c64", "c128"),
}
"""Short words for all of some element types."""


def short(names: Iterable[str]) -> str:
    """Element types by groups where all of a group are there, else one by one."""
    left, parts = set(names), list[str]()
    if left == {name for group in GROUPS.values() for name in group}:
        return "all"
    for word, group in GROUPS.items():
        if left >= set(group):
            parts.append(word)
        else:
            parts += [name for name in group if name in left]
    return ", ".join(parts)


def kind_of(cls: type[Operation]) -> str:
    """The kind of an op class; `Other` where it has none."""
    return next((kind.__name__ for kind in KINDS_OF_OPS if issubclass(cls, kind)), "Other")


def lowering_of(cls: type[Operation]) -> str:
    """Which part of `lowering` makes native code of an op class."""
    if cls in CHOOSERS:
        return "template"
    if issubclass(cls, ConstantOp | WeightOp):
        return "data"
    if issubclass(cls, BindOp | CallOp) or cls.has_trait(IsTerminator):
        return "structure"
    if issubclass(cls, Composite):
        return "expansion"
    if issubclass(cls, Control):
        return "native control flow"
    if cls in WHOLE or issubclass(cls, tuple(KINDS)):
        return "whole kernel"
    if rule_of(cls) is not None or issubclass(cls, Movement):
        return "elements"
    return "host function" if HOST_TYPE in (cls.__doc__ or "") else "-"


def _spelled(cls: type[Operation]) -> tuple[str, ...]:
    if not issubclass(cls, TensorOp):
        return ()
    names = cls.SPELLED
    pairs = (("onnx", names.onnx), ("torch", names.torch), ("tf", names.tensorflow))
    return tuple(f"{where}:{name}" for where, group in pairs for name in group)


@dataclass(frozen=True)
class Operator:
    """An operator of another framework.

    Attributes:
        name: Its name there.
        op: The op that it converts to one to one; empty where a converter builds several.
        elements: The kinds of elements that it takes, in words: of the op, else (ONNX) of its
            inputs by its own specification, which the importer checks; empty where nothing says it.
        dynamic: Whether all extents may be symbols, in a word.
    """

    name: str
    op: str
    elements: str
    dynamic: str


def operators(framework: str) -> list[Operator]:
    """The operators that an importer reads, by name."""
    rows = {row.name: row for row in support_rows()}
    one_to_one = {name: row for row in rows.values() for name in row.spelled}
    return [
        _operator(framework, name, one_to_one.get(f"{framework}:{name}"))
        for name in importer_names().get(framework, [])
    ]


def _operator(framework: str, name: str, row: Row | None) -> Operator:
    if row is not None:
        return Operator(name, row.name, short(row.dtypes), dynamic_word(row.dynamic))
    return Operator(name, "", _specified(name) if framework == "onnx" else "", "as its ops")


def dynamic_word(dynamic: bool | None) -> str:
    """`yes` or `no`; empty where an op has no extents."""
    return {True: "yes", False: "no", None: ""}[dynamic]


def _specified(name: str) -> str:
    """The kinds of elements of an ONNX operator's inputs, in its newest version."""
    from onnx import defs

    from torsh_fx.importers.onnx_signature import signature

    domain, _, operator = name.rpartition("::")
    version = defs.onnx_opset_version() if not domain else 1 << 30
    form = signature(domain, operator, version)
    each = form.kinds if form else ()
    return "; ".join(
        "any" if len(kinds) in (0, 6) else " or ".join(sorted(kinds)) for kinds in each
    )


def importer_names() -> dict[str, list[str]]:
    """Operators that each importer reads; torch's only where torch is installed."""
    from torsh_fx.importers.onnx_graph import converters

    found = {"onnx": sorted(f"{d}::{n}" if d else n for d, n in converters())}
    try:
        from torsh_fx.importers.torch_ops import CONVERTERS
    except ImportError:
        return found
    spelled = {n for cls in OPS if issubclass(cls, TensorOp) for n in cls.SPELLED.torch}
    names = (n for n in {*CONVERTERS, *spelled} if not n.startswith("torsh."))  # our own ops
    return found | {"torch": sorted(names)}
