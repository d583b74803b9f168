"""Arrays over foreign bytes, with every extent checked before numpy sees it."""

from collections.abc import Sequence

import numpy as np

from torsh_package.errors import ConversionError
from torsh_package.limits import MIB

Array = np.ndarray[tuple[int, ...], np.dtype]

MAX_RANK = 64  # numpy's own limit
_EXPANSION = 1_100  # how far strides of 0 may blow up a storage that is larger than the floor
_EXPANSION_FLOOR = 64 * MIB


def element_count(shape: Sequence[int], *, entry: str | None = None) -> int:
    """Product of the extents.

    Raises:
        ConversionError: when an extent is negative, the rank over 64 or the product over 2^53.
    """
    if len(shape) > MAX_RANK:
        raise ConversionError(f"rank {len(shape)} is over {MAX_RANK}", entry=entry)
    if any(dim < 0 for dim in shape):
        raise ConversionError(f"shape {list(shape)[:8]} has a negative extent", entry=entry)
    count = 0 if 0 in shape else 1
    for dim in shape if count else ():
        count *= dim
        if count > 1 << 53:
            raise ConversionError("a shape has over 2^53 elements", entry=entry)
    return count


def dense_view(data: Array, dtype: np.dtype, shape: Sequence[int], *, entry: str | None) -> Array:
    """Row-major array over all of `data` (uint8 `[n]`); its size must fit exactly."""
    expected = element_count(shape, entry=entry) * dtype.itemsize
    if expected != data.nbytes:
        raise ConversionError(
            f"shape {list(shape)[:8]} of {dtype} needs {expected} bytes, found {data.nbytes}",
            entry=entry,
        )
    return _typed(data, dtype).reshape(tuple(shape))


def strided_view(
    data: Array,
    dtype: np.dtype,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    *,
    entry: str | None,
) -> Array:
    """Array of `shape` over the storage `data` (uint8 `[n]`); offset and strides in elements.

    Raises:
        ConversionError: when an element would lie outside `data`, a stride is negative, or the
            strides repeat so few bytes so often that writing the tensor out would be a bomb.
    """
    if len(shape) != len(strides):
        raise ConversionError(f"{len(shape)} extents but {len(strides)} strides", entry=entry)
    if offset < 0 or any(step < 0 for step in strides):
        raise ConversionError("a storage offset or stride is negative", entry=entry)
    count = element_count(shape, entry=entry)
    if count == 0:
        return np.empty(tuple(shape), dtype)
    last = offset + sum((dim - 1) * step for dim, step in zip(shape, strides, strict=True))
    if (last + 1) * dtype.itemsize > data.nbytes:
        raise ConversionError(
            f"shape {list(shape)[:8]}, strides {list(strides)[:8]} and offset {offset} of {dtype} "
            f"reach byte {(last + 1) * dtype.itemsize} of a storage of {data.nbytes}",
            entry=entry,
        )
    if count * dtype.itemsize > max(_EXPANSION_FLOOR, data.nbytes * _EXPANSION):
        raise ConversionError(
            f"shape {list(shape)[:8]} blows {data.nbytes} bytes up to {count * dtype.itemsize}",
            entry=entry,
        )
    flat = _typed(data[: data.nbytes // dtype.itemsize * dtype.itemsize], dtype)
    steps = tuple(step * dtype.itemsize for step in strides)
    return np.ndarray(tuple(shape), dtype, flat, offset * dtype.itemsize, steps)


def _typed(data: Array, dtype: np.dtype) -> Array:
    if dtype == np.bool_:
        # Any byte but 0 is true; numpy and compiled code expect exactly 1.
        return data if data.dtype == np.bool_ else data.view(np.uint8) != 0
    return data.view(dtype)


def little_endian(data: Array, dtype: np.dtype, byteorder: str) -> Array:
    """`data` (uint8 `[n]`) with the elements' bytes in little-endian order."""
    part = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
    if byteorder == "little" or part < 2:
        return data
    return np.ascontiguousarray(data.reshape(-1, part)[:, ::-1]).reshape(-1)
