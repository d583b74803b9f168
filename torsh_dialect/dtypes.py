"""Element types: their names, numpy dtypes, sizes and classes, in one table.

A bool (`i1`) and every sub-byte type takes one byte in memory, as numpy and ml_dtypes store it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import ml_dtypes
import numpy as np
from xdsl.dialects.builtin import (
    BFloat16Type,
    ComplexType,
    Float16Type,
    Float32Type,
    Float64Type,
    IntegerType,
    Signedness,
)
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition

from torsh_dialect.errors import InvalidArgumentError

Element: TypeAlias = Attribute


@irdl_attr_definition
class Float8E4M3FNType(ParametrizedAttribute, TypeAttribute):
    """OCP FP8 E4M3: finite values and NaN, no infinity."""

    name = "torsh.f8E4M3FN"


@irdl_attr_definition
class Float8E4M3FNUZType(ParametrizedAttribute, TypeAttribute):
    """FP8 E4M3 with bias 8 and no negative zero."""

    name = "torsh.f8E4M3FNUZ"


@irdl_attr_definition
class Float8E5M2Type(ParametrizedAttribute, TypeAttribute):
    """OCP FP8 E5M2: IEEE-like, with infinities."""

    name = "torsh.f8E5M2"


@irdl_attr_definition
class Float8E5M2FNUZType(ParametrizedAttribute, TypeAttribute):
    """FP8 E5M2 with bias 16 and no negative zero."""

    name = "torsh.f8E5M2FNUZ"


@irdl_attr_definition
class Float8E8M0FNUType(ParametrizedAttribute, TypeAttribute):
    """Power-of-two scale of the OCP MX formats."""

    name = "torsh.f8E8M0FNU"


@irdl_attr_definition
class Float4E2M1FNType(ParametrizedAttribute, TypeAttribute):
    """OCP FP4 E2M1."""

    name = "torsh.f4E2M1FN"


@irdl_attr_definition
class Float6E2M3FNType(ParametrizedAttribute, TypeAttribute):
    """OCP FP6 E2M3: finite values only."""

    name = "torsh.f6E2M3FN"


@irdl_attr_definition
class Float6E3M2FNType(ParametrizedAttribute, TypeAttribute):
    """OCP FP6 E3M2: finite values only."""

    name = "torsh.f6E3M2FN"


@irdl_attr_definition
class AnyElementType(ParametrizedAttribute, TypeAttribute):
    """An element type that is not known yet; legal only before `infer-types`."""

    name = "torsh.any"


@irdl_attr_definition
class StringType(ParametrizedAttribute, TypeAttribute):
    """A UTF-8 string of any length; handled by host calls only."""

    name = "torsh.str"


@dataclass(frozen=True)
class DType:
    """What the compiler knows of an element type.

    Attributes:
        name: ToRSh's name, e.g. `f32`, `i64`, `ui8`, `bool`, `c64`.
        element: The xDSL type.
        numpy: The numpy (or ml_dtypes) dtype that holds it.
        kind: `float`, `int`, `uint`, `bool`, `complex` or `string`.
        bits: Significant bits of storage (4 for i4, though it takes a byte in memory).
    """

    name: str
    element: Element
    numpy: np.dtype[np.generic]
    kind: str
    bits: int

    @property
    def bytes(self) -> int:
        """Bytes that one element takes in memory."""
        return self.numpy.itemsize


f16, bf16, f32, f64 = Float16Type(), BFloat16Type(), Float32Type(), Float64Type()
i1, i4, i8, i16, i32, i64 = (IntegerType(n) for n in (1, 4, 8, 16, 32, 64))
ui4, ui8, ui16, ui32, ui64 = (IntegerType(n, Signedness.UNSIGNED) for n in (4, 8, 16, 32, 64))
i2, ui2 = IntegerType(2), IntegerType(2, Signedness.UNSIGNED)
c64, c128 = ComplexType(f32), ComplexType(f64)
f8e4m3fn, f8e4m3fnuz = Float8E4M3FNType(), Float8E4M3FNUZType()
f8e5m2, f8e5m2fnuz = Float8E5M2Type(), Float8E5M2FNUZType()
f8e8m0fnu, f4e2m1fn = Float8E8M0FNUType(), Float4E2M1FNType()
f6e2m3fn, f6e3m2fn = Float6E2M3FNType(), Float6E3M2FNType()
string, any_element = StringType(), AnyElementType()


def _row(name: str, element: Element, numpy: object, kind: str, bits: int) -> DType:
    return DType(name, element, np.dtype(numpy), kind, bits)  # pyright: ignore[reportArgumentType, reportCallIssue]


DTYPES: tuple[DType, ...] = (
    _row("f16", f16, np.float16, "float", 16),
    _row("bf16", bf16, ml_dtypes.bfloat16, "float", 16),
    _row("f32", f32, np.float32, "float", 32),
    _row("f64", f64, np.float64, "float", 64),
    _row("f8e4m3fn", f8e4m3fn, ml_dtypes.float8_e4m3fn, "float", 8),
    _row("f8e4m3fnuz", f8e4m3fnuz, ml_dtypes.float8_e4m3fnuz, "float", 8),
    _row("f8e5m2", f8e5m2, ml_dtypes.float8_e5m2, "float", 8),
    _row("f8e5m2fnuz", f8e5m2fnuz, ml_dtypes.float8_e5m2fnuz, "float", 8),
    _row("f8e8m0fnu", f8e8m0fnu, ml_dtypes.float8_e8m0fnu, "float", 8),
    _row("f4e2m1fn", f4e2m1fn, ml_dtypes.float4_e2m1fn, "float", 4),
    _row("f6e2m3fn", f6e2m3fn, ml_dtypes.float6_e2m3fn, "float", 6),
    _row("f6e3m2fn", f6e3m2fn, ml_dtypes.float6_e3m2fn, "float", 6),
    _row("bool", i1, np.bool_, "bool", 1),
    _row("i2", i2, ml_dtypes.int2, "int", 2),
    _row("i4", i4, ml_dtypes.int4, "int", 4),
    _row("i8", i8, np.int8, "int", 8),
    _row("i16", i16, np.int16, "int", 16),
    _row("i32", i32, np.int32, "int", 32),
    _row("i64", i64, np.int64, "int", 64),
    _row("ui2", ui2, ml_dtypes.uint2, "uint", 2),
    _row("ui4", ui4, ml_dtypes.uint4, "uint", 4),
    _row("ui8", ui8, np.uint8, "uint", 8),
    _row("ui16", ui16, np.uint16, "uint", 16),
    _row("ui32", ui32, np.uint32, "uint", 32),
    _row("ui64", ui64, np.uint64, "uint", 64),
    _row("c64", c64, np.complex64, "complex", 64),
    _row("c128", c128, np.complex128, "complex", 128),
    _row("str", string, np.object_, "string", 64),
)

_BY_ELEMENT = {row.element: row for row in DTYPES}
_BY_NAME = {row.name: row for row in DTYPES}
_BY_NUMPY = {row.numpy: row for row in DTYPES}


def dtype_of(element: Element) -> DType:
    """The row of an xDSL element type.

    Raises:
        InvalidArgumentError: No row has that type.
    """
    row = _BY_ELEMENT.get(element)
    if row is None:
        raise InvalidArgumentError(f"{element} is no element type of a tensor")
    return row


def dtype_named(name: str) -> DType:
    """The row called `name`.

    Raises:
        InvalidArgumentError: No row has that name; the message lists those there are.
    """
    row = _BY_NAME.get(name)
    if row is None:
        raise InvalidArgumentError(f"unknown dtype {name!r}; known: {', '.join(_BY_NAME)}")
    return row


@cache
def dtype_of_numpy(dtype: np.dtype[np.generic]) -> DType:
    """The row of a numpy dtype; strings of any width count as `str`.

    Raises:
        InvalidArgumentError: No row holds that dtype.
    """
    if dtype.kind in "US":
        return _BY_NAME["str"]
    row = _BY_NUMPY.get(dtype.newbyteorder("="))
    if row is None:
        raise InvalidArgumentError(f"arrays of {dtype} are not supported; convert them first")
    return row


def is_float(element: Element) -> bool:
    """Whether `element` is a real floating-point type."""
    return dtype_of(element).kind == "float"


def is_integer(element: Element) -> bool:
    """Whether `element` is a signed or unsigned integer type (not bool)."""
    return dtype_of(element).kind in ("int", "uint")


def is_complex(element: Element) -> bool:
    """Whether `element` is a complex type."""
    return dtype_of(element).kind == "complex"
