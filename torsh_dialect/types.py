"""Tensor types: builtin `tensor<...>` with symbolic extents in a `#torsh.dims` encoding.

A static shape has no encoding; an extent is `?` exactly where the encoding has an expression:

    tensor<?x784xf32, #torsh.dims<[batch, 784]>>
    tensor<?xf32, #torsh.dims<["2*h + 1"]>>

Types are made by one interned factory, `tensor`, so equal types are nearly always one object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from xdsl.dialects.builtin import DYNAMIC_INDEX, NoneAttr, TensorType, UnrankedTensorType
from xdsl.ir import Attribute, Data, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from torsh_dialect.dims import Dim, Expr, parse_dim, symbol
from torsh_dialect.dtypes import Element, any_element
from torsh_dialect.errors import ShapeError

AnyTensor: TypeAlias = TensorType[Attribute]

MOST_ELEMENTS = 1 << 59
"""Most elements of a tensor, so that its bytes are counted in 64 bits at 16 bytes an element."""


@irdl_attr_definition
class DimsAttr(Data[tuple[Dim, ...]]):
    """The extents of a tensor that has symbolic ones: `#torsh.dims<[batch, 784]>`."""

    name = "torsh.dims"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[Dim, ...]:
        """Read `<[...]>`; anything but an integer or a bare symbol is a string."""
        with parser.in_angle_brackets():
            return tuple(
                parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _extent(parser))
            )

    def print_parameter(self, printer: Printer) -> None:
        """Write `<[...]>`."""
        with printer.in_angle_brackets():
            printer.print_string(f"[{', '.join(map(_spelled, self.data))}]")


def _extent(parser: AttrParser) -> Dim:
    if (number := parser.parse_optional_integer(allow_boolean=False)) is not None:
        return number
    if (name := parser.parse_optional_identifier()) is not None:
        return symbol(name)
    return parse_dim(parser.parse_str_literal("an extent"))


def _spelled(dim: Dim) -> str:
    text = str(dim)
    return text if text.isidentifier() or isinstance(dim, int) else f'"{text}"'


@irdl_attr_definition
class SequenceType(ParametrizedAttribute, TypeAttribute):
    """A sequence of values of one type (ONNX `seq(T)`)."""

    name = "torsh.seq"
    item: Attribute


@irdl_attr_definition
class OptionalType(ParametrizedAttribute, TypeAttribute):
    """A value or nothing (ONNX `optional(T)`)."""

    name = "torsh.opt"
    item: Attribute


@lru_cache(maxsize=65536)
def _tensor(element: Element, dims: tuple[Dim, ...]) -> AnyTensor:
    # As in numpy, an extent of 0 does not make the others' product harmless.
    count = math.prod(dim for dim in dims if isinstance(dim, int) and dim)
    if count > MOST_ELEMENTS:
        spelled = ", ".join(map(str, dims))
        raise ShapeError(f"a tensor of extents [{spelled}] has more than {MOST_ELEMENTS} elements")
    if all(isinstance(dim, int) for dim in dims):
        return TensorType(element, [dim for dim in dims if isinstance(dim, int)])
    shape = [dim if isinstance(dim, int) else DYNAMIC_INDEX for dim in dims]
    return TensorType(element, shape, DimsAttr(dims))


def tensor(element: Element, dims: Sequence[Dim]) -> AnyTensor:
    """The type of tensors of `element` with extents `dims`.

    Raises:
        ShapeError: An extent is negative, or the tensor has more than `MOST_ELEMENTS`.
    """
    if any(isinstance(dim, int) and dim < 0 for dim in dims):
        raise ShapeError(f"extents are never negative, got {list(dims)}")
    return _tensor(element, tuple(dims))


UNTYPED = any_element
"""The element type of a tensor before `infer-types`."""

untyped = UnrankedTensorType(UNTYPED)
"""The type of a value before `infer-types`: `tensor<*x!torsh.any>`."""


def is_typed(value: SSAValue) -> bool:
    """Whether the value's type is known: it is not `untyped`."""
    return not isinstance(value.type, UnrankedTensorType)


def tensor_type(value: SSAValue | Attribute) -> AnyTensor:
    """The tensor type of a value or type.

    Raises:
        ShapeError: It is no ranked tensor.
    """
    type = value.type if isinstance(value, SSAValue) else value
    if not isinstance(type, TensorType):
        raise ShapeError(f"expected a ranked tensor, got {type}")
    return type  # pyright: ignore[reportUnknownVariableType]


def dims_of(value: SSAValue | Attribute) -> tuple[Dim, ...]:
    """The extents of a tensor value or type."""
    type = tensor_type(value)
    if isinstance(type.encoding, DimsAttr):
        return type.encoding.data
    return tuple(type.get_shape())


def element_type(value: SSAValue | Attribute) -> Element:
    """The element type of a tensor value or type."""
    return tensor_type(value).element_type


def rank_of(value: SSAValue | Attribute) -> int:
    """The number of axes of a tensor value or type."""
    return len(dims_of(value))


def is_static(value: SSAValue | Attribute) -> bool:
    """Whether every extent is an integer."""
    return all(isinstance(dim, int) for dim in dims_of(value))


def verify_tensor(type: AnyTensor) -> None:
    """Check the canonical form: an encoding exactly where an extent is symbolic.

    Raises:
        VerifyException: The shape and the encoding disagree.
    """
    if isinstance(type.encoding, NoneAttr):
        if DYNAMIC_INDEX in type.get_shape():
            raise VerifyException(f"{type} has `?` without #torsh.dims to name the extent")
        return
    if not isinstance(type.encoding, DimsAttr):
        raise VerifyException(f"{type} has an encoding that is not #torsh.dims")
    dims = type.encoding.data
    shape = tuple(d if isinstance(d, int) else DYNAMIC_INDEX for d in dims)
    if shape != tuple(type.get_shape()) or not any(isinstance(d, Expr) for d in dims):
        raise VerifyException(f"{type}: the shape and #torsh.dims disagree")
