"""What the registry says of every op, for the support table."""

from __future__ import annotations

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
    """

    name: str
    kind: str
    spelled: tuple[str, ...]
    lowering: str


def kinds() -> list[str]:
    """Names of the kinds that ops have."""
    return sorted({row.kind for row in support_rows()})


@cache
def support_rows() -> list[Row]:
    """A row for every op of the dialect, by kind and name."""
    rows = [
        Row(cls.name.removeprefix("torsh."), kind_of(cls), _spelled(cls), lowering_of(cls))
        for cls in OPS
    ]
    return sorted(rows, key=lambda row: (row.kind, row.name))


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


def importer_names() -> dict[str, list[str]]:
    """Operators that each importer reads; torch's only where torch is installed."""
    from torsh_fx.importers.onnx_graph import converters

    found = {"onnx": sorted(f"{d}::{n}" if d else n for d, n in converters())}
    try:
        from torsh_fx.importers.torch_ops import CONVERTERS
    except ImportError:
        return found
    spelled = {n for cls in OPS if issubclass(cls, TensorOp) for n in cls.SPELLED.torch}
    return found | {"torch": sorted({*CONVERTERS, *spelled})}
