"""What a result's type must agree on with the type that its operands imply."""

from __future__ import annotations

from xdsl.ir import Attribute
from xdsl.utils.exceptions import VerifyException

from torsh_dialect.dims import provably_different
from torsh_dialect.encodings import joined_device
from torsh_dialect.errors import DeviceError, ShapeError
from torsh_dialect.types import (
    device_of,
    dims_of,
    element_type,
    layout_of,
    rank_of,
    verify_tensor,
)


def check_result_type(given: Attribute, implied: Attribute) -> None:
    """Refuse a result type that provably differs from the inferred one.

    Raises:
        VerifyException: Element type, rank or an extent differs.
    """
    if given == implied:
        return
    try:
        differs = element_type(given) != element_type(implied) or rank_of(given) != rank_of(implied)
    except ShapeError:
        differs = True
    if differs or any(map(provably_different, dims_of(given), dims_of(implied))):
        raise VerifyException(f"result is {given}, but operands imply {implied}")
    _check_storage(given, implied)
    verify_tensor(given)  # pyright: ignore[reportArgumentType]


def _check_storage(given: Attribute, implied: Attribute) -> None:
    """Refuse another layout, or another device; none is any device."""
    try:
        joined_device(device_of(given), device_of(implied))
    except DeviceError:
        raise VerifyException(f"result is {given}, but operands imply {implied}") from None
    if layout_of(given) != layout_of(implied):
        raise VerifyException(f"result is {given}, but operands imply {implied}")
