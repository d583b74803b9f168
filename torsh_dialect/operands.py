"""Operands as ops are built with them: single, variadic or missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from xdsl.ir import Operation, SSAValue
from xdsl.irdl import AttrSizedOperandSegments, IRDLOperation, VarOperandDef

Operand: TypeAlias = "SSAValue | Operation | Sequence[SSAValue | Operation] | None"


def flattened(operands: Sequence[Operand]) -> tuple[list[SSAValue], tuple[int, ...]]:
    """All operands in order, and how many each of the declared ones has."""
    flat: list[SSAValue] = []
    sizes: list[int] = []
    for operand in operands:
        group = [] if operand is None else operand if isinstance(operand, Sequence) else [operand]
        flat.extend(SSAValue.get(value) for value in group)
        sizes.append(len(group))
    return flat, tuple(sizes)


def has_segments(cls: type[IRDLOperation]) -> bool:
    """Whether the op says how many operands belong to each of its variadic ones."""
    definition = cls.get_irdl_definition()
    several = sum(isinstance(d, VarOperandDef) for _, d in definition.operands) > 1
    return several and any(isinstance(o, AttrSizedOperandSegments) for o in definition.options)
