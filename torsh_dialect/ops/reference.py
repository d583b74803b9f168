"""What the numpy references of several ops share: optional operands, precision, windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from xdsl.ir import Operation, SSAValue

from torsh_dialect.attributes import Array
from torsh_dialect.dims import Dim, conflict
from torsh_dialect.dtypes import DType, Element, dtype_of, dtype_of_numpy
from torsh_dialect.errors import ShapeError
from torsh_dialect.types import element_type

Real: TypeAlias = npt.NDArray[np.float64]
"""A floating-point array; for the type checker only, the dtype may be f32, f64 or complex."""

HALF = (
    "f16", "bf16", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0fnu", "f6e2m3fn",
    "f6e3m2fn", "f4e2m1fn",
)  # fmt: skip


def operands_by_value(op: Operation, args: Sequence[Array]) -> Callable[[SSAValue | None], Any]:
    """A look-up from an operand to its array; None for an optional operand that is missing."""
    table = dict(zip(op.operands, args, strict=True))
    return lambda value: None if value is None else table[value]


def wide(array: Array) -> Real:
    """The array in the precision that the reference computes in: f32 for half, else its own."""
    half = dtype_of_numpy(array.dtype).name in HALF
    return array.astype(np.float32) if half else array  # pyright: ignore[reportReturnType]


def precise(array: Array) -> Real:
    """The array in f64 if it is a real float, so that sums of products are good to the last bit."""
    real = dtype_of_numpy(array.dtype).kind == "float"
    return array.astype(np.float64) if real else array  # pyright: ignore[reportReturnType]


def narrow(result: Any, like: Array) -> Array:
    """Round a result once to the dtype of the operand `like`."""
    return np.asarray(result).astype(like.dtype)


def row_of(value: SSAValue) -> DType:
    """The dtype row of a tensor value."""
    return dtype_of(element_type(value))


def positions(*bounds: int) -> Any:
    """`numpy.arange`, whose type the checker does not know."""
    return np.arange(*bounds)  # pyright: ignore[reportUnknownMemberType]


def require_equal(what: str, a: Dim, b: Dim) -> None:
    """Refuse two extents that provably differ; where that is unknown, it is checked at run time.

    Raises:
        ShapeError: They do; the message starts with `what`.
    """
    if conflict(a, b):
        raise ShapeError(f"{what}: {a} and {b} differ")


def require_element(what: str, value: SSAValue, element: Element) -> None:
    """Refuse an operand whose element type is not `element`.

    Raises:
        ShapeError: It is another one.
    """
    if element_type(value) != element:
        raise ShapeError(f"{what} has element type {element_type(value)}, expected {element}")


def require_rank(what: str, rank: int, *allowed: int) -> None:
    """Refuse a rank that is not among `allowed`.

    Raises:
        ShapeError: It is not.
    """
    if rank not in allowed:
        raise ShapeError(f"{what} has rank {rank}, expected {' or '.join(map(str, allowed))}")
