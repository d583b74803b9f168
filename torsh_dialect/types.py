"""Tensor types: builtin `tensor<...>` with an encoding for what that cannot say.

A static shape has no encoding; an extent is `?` exactly where the encoding has an expression.
Layout and device, where they are not the default, are in the encoding too (`encodings.py`):

    tensor<?x784xf32, #torsh.dims<[batch, 784]>>
    tensor<?xf32, #torsh.dims<["2*h + 1"]>>
    tensor<1x3x8x8xf32, #torsh.tensor<layout = [0, 2, 3, 1], device = "cuda:0">>

Types are made by one interned factory, `tensor`, so equal types are nearly always one object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from xdsl.dialects.builtin import DYNAMIC_INDEX, NoneAttr, TensorType, UnrankedTensorType
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.utils.exceptions import VerifyException

from torsh_dialect.dims import Dim, Expr
from torsh_dialect.dtypes import Element, any_element
from torsh_dialect.encodings import DimsAttr as DimsAttr
from torsh_dialect.encodings import Layout, Storage, TensorAttr, layout_problem, require_device
from torsh_dialect.errors import ShapeError

AnyTensor: TypeAlias = TensorType[Attribute]

MOST_ELEMENTS = 1 << 59
"""Most elements of a tensor, so that its bytes are counted in 64 bits at 16 bytes an element."""


MOST_RANK = 64
"""Most axes of a tensor; neither numpy nor torch has tensors of more."""


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


@irdl_attr_definition
class MapType(ParametrizedAttribute, TypeAttribute):
    """Scalars by keys that are strings or integers (ONNX `map(K, V)`)."""

    name = "torsh.map"
    key: Attribute
    value: Attribute


@lru_cache(maxsize=65536)
def _tensor(element: Element, dims: tuple[Dim, ...]) -> AnyTensor:
    if len(dims) > MOST_RANK:
        raise ShapeError(f"a tensor of {len(dims)} axes: the most are {MOST_RANK}")
    # As in numpy, an extent of 0 does not make the others' product harmless.
    count = math.prod(dim for dim in dims if isinstance(dim, int) and dim)
    if count > MOST_ELEMENTS:
        spelled = ", ".join(map(str, dims))
        raise ShapeError(f"a tensor of extents [{spelled}] has more than {MOST_ELEMENTS} elements")
    if all(isinstance(dim, int) for dim in dims):
        return TensorType(element, [dim for dim in dims if isinstance(dim, int)])
    shape = [dim if isinstance(dim, int) else DYNAMIC_INDEX for dim in dims]
    return TensorType(element, shape, DimsAttr(dims))


@lru_cache(maxsize=65536)
def _stored(
    element: Element, dims: tuple[Dim, ...], layout: Layout | None, device: str | None
) -> AnyTensor:
    if layout is not None and (layout_problem(layout) or len(layout) != len(dims)):
        raise ShapeError(
            f"layout {list(layout)} is no order of the {len(dims)} axes of {list(dims)}"
        )
    if layout == tuple(range(len(dims))):
        layout = None
    plain = _tensor(element, dims)
    if layout is None and device is None:
        return plain
    named = None if isinstance(plain.encoding, NoneAttr) else dims
    storage = Storage(named, layout, None if device is None else require_device(device))
    return TensorType(element, plain.get_shape(), TensorAttr(storage))


def tensor(
    element: Element,
    dims: Sequence[Dim],
    layout: Sequence[int] | None = None,
    device: str | None = None,
) -> AnyTensor:
    """The type of tensors of `element` with extents `dims`.

    Args:
        element: The element type.
        dims: The extents.
        layout: The order of the axes in memory, outermost first; row-major by default.
        device: `cpu`, `cuda` or `cuda:N`; by default wherever the program is compiled for.

    Raises:
        ShapeError: An extent is negative, the tensor has more than `MOST_ELEMENTS` or `MOST_RANK`
            axes, or `layout` is no order of its axes.
        InvalidArgumentError: `device` names none.
    """
    if any(isinstance(dim, int) and dim < 0 for dim in dims):
        raise ShapeError(f"extents are never negative, got {list(dims)}")
    if layout is None and device is None:
        return _tensor(element, tuple(dims))
    return _stored(element, tuple(dims), None if layout is None else tuple(layout), device)


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
    found = tensor_type(value)
    encoding = found.encoding
    if type(encoding) is DimsAttr:  # `isinstance` asks `ABCMeta` where it does not hold: 100 ns
        return encoding.data
    if type(encoding) is TensorAttr and encoding.data.dims is not None:
        return encoding.data.dims
    return tuple(found.get_shape())


def layout_of(value: SSAValue | Attribute) -> Layout | None:
    """The order of the axes in memory, outermost first; None for row-major."""
    encoding = tensor_type(value).encoding
    return encoding.data.layout if isinstance(encoding, TensorAttr) else None


def device_of(value: SSAValue | Attribute) -> str | None:
    """The device of a tensor; None for wherever the program is compiled for."""
    encoding = tensor_type(value).encoding
    return encoding.data.device if isinstance(encoding, TensorAttr) else None


def is_stored(attribute: Attribute) -> bool:
    """Whether a type says a layout or a device."""
    return type(attribute) is TensorType and type(attribute.encoding) is TensorAttr  # pyright: ignore[reportUnknownMemberType]


def with_storage(type: Attribute, layout: Layout | None, device: str | None) -> AnyTensor:
    """A tensor type with another layout and device."""
    return tensor(element_type(type), dims_of(type), layout, device)


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
    """Check the canonical form: an encoding exactly where something is not the default.

    Raises:
        VerifyException: The shape and the encoding disagree.
    """
    encoding = type.encoding
    if not isinstance(encoding, NoneAttr | DimsAttr | TensorAttr):
        raise VerifyException(f"{type} has an encoding that is not #torsh.dims or #torsh.tensor")
    dims = encoding.data if isinstance(encoding, DimsAttr) else None
    if isinstance(encoding, TensorAttr):
        dims, layout = encoding.data.dims, encoding.data.layout
        if layout is not None and len(layout) != type.get_num_dims():
            raise VerifyException(f"{type}: the layout has {len(layout)} axes")
    if dims is None:
        if DYNAMIC_INDEX in type.get_shape():
            raise VerifyException(f"{type} has `?`, and no encoding that names the extent")
        return
    shape = tuple(d if isinstance(d, int) else DYNAMIC_INDEX for d in dims)
    if shape != tuple(type.get_shape()) or not any(isinstance(d, Expr) for d in dims):
        raise VerifyException(f"{type}: the shape and its encoding's extents disagree")
