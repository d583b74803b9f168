"""Attributes as plain Python values: the inverse of `attributes.attribute_of`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from xdsl.dialects.builtin import (
    ArrayAttr,
    BoolAttr,
    DenseArrayBase,
    DictionaryAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    f64,
)
from xdsl.ir import Attribute

from torsh_dialect.attributes import (
    Array,
    LiteralAttr,
    attribute_of,
    floats_of,
    ints_of,
    literal,
    strs_of,
)
from torsh_dialect.dims import Expr
from torsh_dialect.types import DimsAttr

Value: TypeAlias = (
    bool
    | int
    | float
    | str
    | Expr
    | Array
    | list[int]
    | list[float]
    | list[str]
    | list[int | Expr]
    | Attribute
)
"""A plain value of an option; attributes that stand for no plain value stay as they are."""


def plain(attribute: Attribute) -> Value:
    """The plain value that `attribute` stands for, e.g. `[1, 1]` for `array<i64: 1, 1>`."""
    match attribute:
        case IntegerAttr():
            return attribute.value.data != 0 if attribute.type == _BOOL else attribute.value.data
        case FloatAttr():
            return attribute.value.data
        case StringAttr():
            return attribute.data
        case DenseArrayBase():
            real = attribute.elt_type == f64
            return list(floats_of(attribute)) if real else list(ints_of(attribute))
        case DimsAttr():
            return list(attribute.data)
        case LiteralAttr():
            return attribute.data.array()
        case ArrayAttr() if all(isinstance(v, StringAttr) for v in attribute):  # pyright: ignore[reportUnknownVariableType]
            return list(strs_of(attribute))  # pyright: ignore[reportUnknownArgumentType]
        case _:
            return attribute


_BOOL = BoolAttr.from_bool(True).type


def options_attribute(options: Mapping[str, Value]) -> DictionaryAttr | None:
    """A dictionary attribute of plain values; None where there are none.

    Raises:
        InvalidArgumentError: No attribute stands for a value.
    """
    if not options:
        return None
    return DictionaryAttr({name: _attribute(value) for name, value in options.items()})


def _attribute(value: Value) -> Attribute:
    if hasattr(value, "dtype"):
        return literal(value)  # pyright: ignore[reportArgumentType]
    return attribute_of(value)  # pyright: ignore[reportArgumentType]


def plain_options(attribute: DictionaryAttr | None) -> dict[str, Value]:
    """The plain values of a dictionary attribute."""
    return {} if attribute is None else {k: plain(v) for k, v in attribute.data.items()}
