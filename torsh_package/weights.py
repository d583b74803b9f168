"""Laying out arrays as one resource: aligned, sorted, every shared storage once."""

import sys
from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torsh_package.content import JoinedContent
from torsh_package.errors import InvalidArgumentError
from torsh_package.tensors import ALIGNMENT, TensorEntry, byte_count, dtype_of, row_major

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


class _Owners:
    """Tensors that own their storage, found by address."""

    def __init__(self) -> None:
        self._addresses: list[int] = []
        self._placed: list[tuple[TensorEntry, int]] = []

    def add(self, entry: TensorEntry, address: int, span: int) -> None:
        """Adds a tensor whose bytes lie at `address`."""
        at = bisect_right(self._addresses, address)
        self._addresses.insert(at, address)
        self._placed.insert(at, (entry, span))

    def around(self, address: int, span: int) -> tuple[TensorEntry, int] | None:
        """The last owner that begins at or before `address` and its address, if it reaches."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or address + span > self._addresses[at] + self._placed[at][1]:
            return None
        return self._placed[at][0], self._addresses[at]


def layout_tensors(
    arrays: "Mapping[str, Array]",
) -> tuple[tuple[TensorEntry, ...], JoinedContent]:
    """Table and plain bytes for named arrays.

    Arrays are sorted by name, so the order of the mapping does not matter. An array whose memory
    lies inside that of another becomes its alias; all else is stored row-major, each at a
    multiple of 64 bytes. Memory is not copied where it is row-major already: do not change the
    arrays before the package has been saved.

    Args:
        arrays: Arrays of any shape and of a dtype of `torsh_package.tensors.NUMPY_NAMES`.

    Raises:
        InvalidArgumentError: A dtype cannot be stored, or a name is empty.
    """
    owners = _Owners()
    entries: dict[str, TensorEntry] = {}
    parts: list[tuple[int, memoryview]] = []
    end = 0
    for name in _owners_first(arrays):
        array = arrays[name]
        if not name:
            raise InvalidArgumentError("a tensor has an empty name")
        alias = _alias(name, array, owners)
        if alias is not None:
            entries[name] = alias
            continue
        data = _row_major_bytes(array)
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        end = offset + len(data)
        shape = tuple(int(dim) for dim in array.shape)
        entry = TensorEntry(name, dtype_of(array), shape, offset, len(data))
        entries[name] = entry
        parts.append((offset, data))
        if array.flags.c_contiguous and array.size:
            owners.add(entry, int(array.ctypes.data), len(data))
    return tuple(entries[name] for name in sorted(entries)), JoinedContent(parts, end)


def _owners_first(arrays: "Mapping[str, Array]") -> list[str]:
    """Names in an order in which an array comes before all those inside of its memory."""
    return sorted(arrays, key=lambda name: (-_span(arrays[name]), name))


def _span(array: "Array") -> int:
    if array.flags.c_contiguous or not array.size:
        return array.nbytes
    return array.itemsize + sum(
        (dim - 1) * abs(step) for dim, step in zip(array.shape, array.strides, strict=True)
    )


def _alias(name: str, array: "Array", owners: _Owners) -> TensorEntry | None:
    if not array.size or any(step % array.itemsize for step in array.strides):
        return None
    dtype = dtype_of(array)
    address = int(array.ctypes.data)
    shape = tuple(int(dim) for dim in array.shape)
    strides = tuple(int(step) // array.itemsize for step in array.strides)
    if array.flags.c_contiguous:
        strides = row_major(shape)
    if not _storable(shape, strides):
        return None
    dense = None if strides == row_major(shape) else strides
    nbytes = byte_count(dtype, shape, dense)
    found = owners.around(address, nbytes)
    if found is None or found[0].dtype != dtype or (address - found[1]) % array.itemsize:
        return None
    owner, start = found
    offset = owner.offset + address - start
    return TensorEntry(name, dtype, shape, offset, nbytes, dense, owner.name)


def _storable(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether no two elements share a place, which the table's rules ask for."""
    span = 1
    for stride, dim in sorted((s, d) for s, d in zip(strides, shape, strict=True) if d > 1):
        if stride < span:
            return False
        span = stride * dim
    return True


def _row_major_bytes(array: "Array") -> memoryview:
    import numpy

    if array.dtype.byteorder == ">" or (array.dtype.isnative and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    dense = numpy.ascontiguousarray(array)
    return dense.reshape(-1).view(numpy.uint8).data.toreadonly()
