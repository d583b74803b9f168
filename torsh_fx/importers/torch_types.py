"""Torch dtypes and tensors as the dialect's element types and numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np
import torch

from torsh_dialect.attributes import Array
from torsh_dialect.dtypes import DType, Element, dtype_named
from torsh_dialect.encodings import Layout
from torsh_dialect.errors import InvalidArgumentError

NAMES: dict[torch.dtype, str] = {
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float8_e4m3fn: "f8e4m3fn",
    torch.float8_e4m3fnuz: "f8e4m3fnuz",
    torch.float8_e5m2: "f8e5m2",
    torch.float8_e5m2fnuz: "f8e5m2fnuz",
    torch.float8_e8m0fnu: "f8e8m0fnu",
    torch.bool: "bool",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint8: "ui8",
    torch.uint16: "ui16",
    torch.uint32: "ui32",
    torch.uint64: "ui64",
    torch.complex64: "c64",
    torch.complex128: "c128",
}
TORCH = {name: dtype for dtype, name in NAMES.items()}

_VIEWED: dict[torch.dtype, tuple[torch.dtype, type[np.generic]]] = {
    torch.bfloat16: (torch.int16, ml_dtypes.bfloat16),
    torch.float8_e4m3fn: (torch.uint8, ml_dtypes.float8_e4m3fn),
    torch.float8_e4m3fnuz: (torch.uint8, ml_dtypes.float8_e4m3fnuz),
    torch.float8_e5m2: (torch.uint8, ml_dtypes.float8_e5m2),
    torch.float8_e5m2fnuz: (torch.uint8, ml_dtypes.float8_e5m2fnuz),
    torch.float8_e8m0fnu: (torch.uint8, ml_dtypes.float8_e8m0fnu),
}
"""Dtypes that torch and numpy exchange by their bits only."""


def row_of_torch(dtype: torch.dtype) -> DType:
    """The dtype row of a torch dtype.

    Raises:
        InvalidArgumentError: The compiler has no such element type.
    """
    name = NAMES.get(dtype)
    if name is None:
        raise InvalidArgumentError(f"tensors of {dtype} are not supported; convert them first")
    return dtype_named(name)


def element_of(dtype: torch.dtype) -> Element:
    """The element type of a torch dtype.

    Raises:
        InvalidArgumentError: The compiler has no such element type.
    """
    return row_of_torch(dtype).element


CHANNELS_LAST = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
"""The layouts of torch's memory formats by rank (`torch.channels_last`, `channels_last_3d`)."""


def layout_of_tensor(tensor: torch.Tensor) -> Layout | None:
    """The order of a tensor's axes in memory, outermost first.

    None for a row-major tensor, and for one whose elements are apart from each other or shared.
    Symbolic sizes and strides count as in the example that they come from.
    """
    if tensor.layout != torch.strided:
        return None
    dims, strides = _numbers(tensor.shape), _numbers(tensor.stride())
    if dims is None or strides is None or 0 in dims:
        return None
    rank = len(dims)
    by_stride = tuple(sorted(range(rank), key=lambda axis: (-strides[axis], axis)))
    for order in (tuple(range(rank)), CHANNELS_LAST.get(rank, by_stride), by_stride):
        if _is_dense(dims, strides, order):
            return None if order == tuple(range(rank)) else order
    return None


def _numbers(sizes: Sequence[Any]) -> list[int] | None:
    """Sizes as numbers; symbols as they are in the example; None where that is not known."""
    found: list[int] = []
    for size in sizes:
        if isinstance(size, int):
            found.append(size)
        elif size.node.hint is None:
            return None
        else:
            found.append(int(size.node.hint))
    return found


def _is_dense(dims: Sequence[int], strides: Sequence[int], order: Layout) -> bool:
    """Whether the elements lie one after the other with the axes in this order."""
    step = 1
    for axis in reversed(order):
        if dims[axis] != 1 and strides[axis] != step:
            return False
        step *= dims[axis]
    return True


def device_name(device: torch.device) -> str | None:
    """The name of a device in types; None for one that the dialect does not know."""
    return str(device) if device.type in ("cuda", "cpu") else None


def to_numpy(tensor: torch.Tensor) -> Array:
    """A tensor's elements as a numpy array, shared where torch allows it.

    Raises:
        InvalidArgumentError: The tensor is sparse, quantised or of an unknown dtype.
    """
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise InvalidArgumentError(
            f"a tensor with layout {tensor.layout} cannot be used; give a dense one"
        )
    row_of_torch(tensor.dtype)
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype in _VIEWED:
        through, dtype = _VIEWED[tensor.dtype]
        return plain.view(through).numpy().view(dtype)
    return plain.numpy()


def to_torch(array: Array) -> torch.Tensor:
    """A numpy array as a tensor of the same dtype and layout.

    Shares memory where numpy's array is writable and dense.

    Raises:
        InvalidArgumentError: Torch has no such dtype.
    """
    if not array.flags.c_contiguous:
        order = sorted(range(array.ndim), key=lambda axis: (-array.strides[axis], axis))
        if (ordered := array.transpose(order)).flags.c_contiguous:
            return to_torch(ordered).permute([order.index(axis) for axis in range(array.ndim)])
    for dtype, (through, numpy) in _VIEWED.items():
        if array.dtype == np.dtype(numpy):
            bits = np.dtype(np.int16 if through == torch.int16 else np.uint8)
            plain = np.ascontiguousarray(array).reshape(array.shape)
            return cast(Any, torch).from_numpy(plain.view(bits).copy()).view(dtype)
    writable = array if array.flags.writeable and array.flags.c_contiguous else array.copy()
    try:
        return cast(Any, torch).from_numpy(writable)
    except TypeError as error:
        raise InvalidArgumentError(f"torch has no dtype for {array.dtype}") from error
