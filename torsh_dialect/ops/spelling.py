"""Numbers as strings, and the numbers that strings spell: computed by host functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import Attribute
from xdsl.irdl import operand_def, prop_def, result_def

from torsh_dialect.declare import op
from torsh_dialect.dtypes import DType, dtype_of, string
from torsh_dialect.errors import InputError, ShapeError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.quant import integer_range
from torsh_dialect.ops.reference import require_element
from torsh_dialect.ops.string import strings
from torsh_dialect.types import AnyTensor, dims_of, element_type, tensor


@op
class StringOfOp(TensorOp):
    """Numbers as strings: the shortest digits that read back as the number (numpy's `str`).

    C1: the operand is no string.

    %r = torsh.string_of %x : (tensor<2xf32>) -> tensor<2x!torsh.str>
    """

    name = "torsh.string_of"
    x = operand_def()
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        if element_type(self.x) == string:
            raise ShapeError("x is of strings, expected numbers (C1)")
        return (tensor(string, dims_of(self.x)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        x = args[0]
        return (strings([str(value) for value in x.reshape(-1)], x.shape),)


@op
class NumberOfOp(TensorOp):
    """The numbers that strings spell, in the element type `to`.

    Decimal and scientific notation, `inf` and `nan` with or without sign in upper or lower case,
    `true` and `false` likewise; white space around them is skipped. Towards zero for integers.

    C1: the operand is of strings. C2: `to` is a real number of whole bytes.

    %r = torsh.number_of %x {to = f32} : (tensor<2x!torsh.str>) -> tensor<2xf32>
    """

    name = "torsh.number_of"
    x = operand_def()
    to = prop_def(Attribute)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        require_element("x (C1)", self.x, string)
        row = dtype_of(self.to)
        if row.kind in ("string", "complex") or (row.bits < 8 and row.kind != "bool"):
            raise ShapeError(f"to is {row.name}, expected a real number of whole bytes (C2)")
        return (tensor(self.to, dims_of(self.x)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        x, row = args[0], dtype_of(self.to)
        values = [_number(text, row) for text in x.reshape(-1)]
        with np.errstate(over="ignore"):
            return (np.asarray(values).astype(row.numpy).reshape(x.shape),)


WORDS = {"true": 1, "false": 0}
"""Truth values as strings."""


def _number(text: str, row: DType) -> int | float:
    """The number that a string spells.

    Raises:
        InputError: It spells none, or none of an integer type `row`.
    """
    plain = text.strip().lower()
    value: int | float
    try:
        value = WORDS[plain] if plain in WORDS else int(plain)
    except ValueError:
        try:
            value = float(plain)
        except ValueError as error:
            raise InputError(f"the string {text!r} spells no number") from error
    if row.kind == "float":
        return float(value)
    if row.kind == "bool":
        return int(value != 0)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"the string {text!r} spells no number of {row.name}")
    low, high = integer_range(row)
    if not low <= int(value) <= high:
        raise InputError(f"the string {text!r} is outside of {row.name}'s {low}..{high}")
    return int(value)
