"""Arrays in blocks of bytes: of files, packages, cache entries and sessions."""

import math
from typing import Any

import numpy as np

from lowering.runtime.signature import Array, Shape
from torsh_dialect.errors import ExecutionError, TorshError


def byte_count(dtype: np.dtype[Any], dims: Shape) -> int:
    """Bytes of a row-major array without holes."""
    return math.prod(dims) * dtype.itemsize


def view_at(
    content: Array,
    offset: int,
    dtype: np.dtype[Any],
    dims: Shape,
    what: str,
    error: type[TorshError] = ExecutionError,
) -> Array:
    """The row-major array at a byte offset, in place.

    Its elements may lie at any address: who gives it to a kernel takes `aligned_array` of it, or
    lets `Signature.usable` copy it.

    Args:
        content: The block, ui8[n].
        offset: Where the array begins, in bytes.
        dtype: Of its elements.
        dims: Its extents.
        what: Names block and array in a message.
        error: What is raised.

    Raises:
        TorshError: Of type `error`: an extent or the offset is negative, or the block ends before
            the array does.
    """
    end = offset + byte_count(dtype, dims)
    if min((offset, *dims)) < 0 or end > content.size:
        raise error(
            f"{what}: {dtype}{list(dims)} at bytes {offset}..{end} lies outside of the "
            f"{content.size} bytes there are: the data is damaged or cut short"
        )
    return content[offset:end].view(dtype).reshape(dims)
