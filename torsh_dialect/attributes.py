"""Attributes of ops: cheap interned makers and typed readers.

Building an attribute costs 15-70 us in xDSL, so equal ones are made once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import (
    ArrayAttr,
    BoolAttr,
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    StringAttr,
)
from xdsl.ir import Attribute, Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from torsh_dialect.dims import Dim, Expr
from torsh_dialect.dtypes import dtype_named, dtype_of_numpy, f64, i32, i64
from torsh_dialect.errors import InvalidArgumentError, VerificationError
from torsh_dialect.types import DimsAttr

Array: TypeAlias = npt.NDArray[np.generic]
Sequences: TypeAlias = "Sequence[int] | Sequence[float] | Sequence[str] | Sequence[Dim]"
PropertyValue: TypeAlias = "Attribute | bool | int | float | str | Expr | Sequences | None"


@lru_cache(maxsize=4096)
def integer(value: int) -> IntegerAttr:
    """`value : i64`."""
    return IntegerAttr(value, i64)


@lru_cache(maxsize=4096)
def _real(bits: bytes) -> FloatAttr:
    return FloatAttr(struct.unpack("<d", bits)[0], f64)


def real(value: float) -> FloatAttr:
    """`value : f64`; interned by bits, so that -0.0 stays apart from 0.0."""
    return _real(struct.pack("<d", value))


@lru_cache(maxsize=4096)
def text(value: str) -> StringAttr:
    """A string attribute."""
    return StringAttr(value)


@lru_cache(maxsize=4096)
def integers(values: tuple[int, ...]) -> DenseArrayBase:
    """`array<i64: ...>`."""
    return DenseArrayBase.from_list(i64, values)


@lru_cache(maxsize=1024)
def segments(sizes: tuple[int, ...]) -> DenseArrayBase:
    """The `operandSegmentSizes` of an op with several variadic operands."""
    return DenseArrayBase.from_list(i32, sizes)


@lru_cache(maxsize=4096)
def _reals(bits: bytes) -> DenseArrayBase:
    return DenseArrayBase.from_list(f64, np.frombuffer(bits, np.float64).tolist())


TRUE, FALSE = BoolAttr.from_bool(True), BoolAttr.from_bool(False)


def attribute_of(value: PropertyValue) -> Attribute:
    """The attribute that a plain Python value stands for.

    A sequence of ints is `array<i64>`, of floats `array<f64>`, of strings an array of strings;
    a sequence with an `Expr` in it is `#torsh.dims`.

    Raises:
        InvalidArgumentError: No attribute stands for `value`.
    """
    match value:
        case Attribute():
            return value
        case bool():
            return TRUE if value else FALSE
        case int():
            return integer(value)
        case float():
            return real(value)
        case str():
            return text(value)
        case Expr():
            return DimsAttr((value,))
        case list() | tuple():
            return _array(tuple(value))
        case _:
            raise InvalidArgumentError(f"{value!r} cannot be an attribute of an op")


def _array(values: tuple[object, ...]) -> Attribute:
    if all(isinstance(v, int) for v in values):
        return integers(tuple(v for v in values if isinstance(v, int)))
    if all(isinstance(v, int | Expr) for v in values):
        return DimsAttr(tuple(v for v in values if isinstance(v, int | Expr)))
    if all(isinstance(v, str) for v in values):
        return ArrayAttr([text(v) for v in values if isinstance(v, str)])
    if all(isinstance(v, int | float) for v in values):
        return _reals(np.asarray(values, np.float64).tobytes())
    raise InvalidArgumentError(f"{values!r} cannot be an attribute of an op")


def names_attribute(names: Iterable[str]) -> ArrayAttr[StringAttr]:
    """An array of strings, which may be empty."""
    return ArrayAttr([text(name) for name in names])


def dims_attribute(dims: Sequence[Dim]) -> DimsAttr:
    """`#torsh.dims<[...]>` even where all extents are integers."""
    return DimsAttr(tuple(dims))


@irdl_attr_definition
class LiteralAttr(Data["Literal"]):
    """A small constant array: `#torsh.literal<"f32", [2], [1.0, -2.5]>`, or hex of its bytes."""

    name = "torsh.literal"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Literal:
        """Read `<dtype, shape, values>`."""
        with parser.in_angle_brackets():
            dtype = parser.parse_str_literal("a dtype")
            parser.parse_punctuation(",")
            square = parser.Delimiter.SQUARE
            shape = parser.parse_comma_separated_list(square, parser.parse_integer)
            parser.parse_punctuation(",")
            if (hexed := parser.parse_optional_str_literal()) is not None:
                return _checked(parser, dtype, tuple(shape), bytes.fromhex(hexed))
            values = parser.parse_comma_separated_list(square, lambda: parser.parse_number())
        array = np.asarray(values).astype(dtype_named(dtype).numpy)
        return _checked(parser, dtype, tuple(shape), array.tobytes())

    def print_parameter(self, printer: Printer) -> None:
        """Write `<dtype, shape, values>`."""
        with printer.in_angle_brackets():
            shape = ", ".join(map(str, self.data.shape))
            printer.print_string(f'"{self.data.dtype}", [{shape}], {self.data.spelled()}')


class Literal(tuple[str, tuple[int, ...], bytes]):
    """dtype name, shape and little-endian bytes of a constant; hashable, compared by bits."""

    __slots__ = ()

    @property
    def dtype(self) -> str:
        return self[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self[1]

    @property
    def data(self) -> bytes:
        return self[2]

    def array(self) -> Array:
        """The constant as a read-only numpy array."""
        return np.frombuffer(self.data, dtype_named(self.dtype).numpy).reshape(self.shape)

    def spelled(self) -> str:
        row = dtype_named(self.dtype)
        array = self.array().reshape(-1)
        plain = row.kind in ("int", "uint", "bool") or row.name in ("f16", "bf16", "f32", "f64")
        if plain and array.size <= 64:
            if row.kind in ("int", "uint", "bool"):
                return f"[{', '.join(str(int(v)) for v in array)}]"
            wide = array.astype(np.float64)
            if np.isfinite(wide).all():
                return f"[{', '.join(repr(float(v)) for v in wide)}]"
        return f'"{self.data.hex()}"'


def _checked(parser: AttrParser, dtype: str, shape: tuple[int, ...], data: bytes) -> Literal:
    count = 1
    for extent in shape:
        count *= extent
    if len(data) != count * dtype_named(dtype).bytes:
        parser.raise_error(f"a {dtype} literal of shape {list(shape)} has {count} values")
    return Literal((dtype, shape, data))


def literal(array: Array) -> LiteralAttr:
    """The literal attribute of a numpy array."""
    row = dtype_of_numpy(array.dtype)
    data = np.ascontiguousarray(array, row.numpy)
    return LiteralAttr(Literal((row.name, tuple(array.shape), data.tobytes())))


def _no(attribute: Attribute, what: str) -> VerificationError:
    """The error of an attribute of another kind, as text from elsewhere can have it."""
    return VerificationError(f"{str(attribute)[:80]} is no {what}")


def int_of(attribute: Attribute) -> int:
    """The value of an integer attribute."""
    if not isinstance(attribute, IntegerAttr):
        raise _no(attribute, "integer")
    return attribute.value.data


def float_of(attribute: Attribute) -> float:
    """The value of a float attribute."""
    if not isinstance(attribute, FloatAttr):
        raise _no(attribute, "float")
    return attribute.value.data


def bool_of(attribute: Attribute | None) -> bool:
    """The value of a bool attribute; False where there is none."""
    return attribute is not None and int_of(attribute) != 0


def str_of(attribute: Attribute) -> str:
    """The value of a string attribute."""
    if not isinstance(attribute, StringAttr):
        raise _no(attribute, "string")
    return attribute.data


def ints_of(attribute: Attribute) -> tuple[int, ...]:
    """The values of an integer array attribute."""
    if not isinstance(attribute, DenseArrayBase):
        raise _no(attribute, "array of integers")
    return tuple(int(v) for v in attribute.get_values())


def floats_of(attribute: Attribute) -> tuple[float, ...]:
    """The values of a float array attribute."""
    if not isinstance(attribute, DenseArrayBase):
        raise _no(attribute, "array of floats")
    return tuple(float(v) for v in attribute.get_values())


def strs_of(attribute: Attribute) -> tuple[str, ...]:
    """The values of an array of strings."""
    if not isinstance(attribute, ArrayAttr):
        raise _no(attribute, "list of strings")
    return tuple(str_of(v) for v in attribute)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def extents_of(attribute: Attribute) -> tuple[Dim, ...]:
    """The extents of a `#torsh.dims` or integer array attribute."""
    return attribute.data if isinstance(attribute, DimsAttr) else ints_of(attribute)
