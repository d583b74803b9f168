"""Memory in which tensors are aligned as they are in a mapped file."""

import numpy

from torsh_package.errors import LimitError
from torsh_package.tensors import ALIGNMENT


def aligned_buffer(size: int) -> memoryview:
    """Writable memory of `size` bytes at a multiple of 64; its content is undefined.

    Raises:
        LimitError: There is not that much memory.
    """
    try:
        store = numpy.empty(size + ALIGNMENT, numpy.uint8)
    except MemoryError:
        raise LimitError(
            f"no memory for {size} bytes; read the content in pieces instead"
        ) from None
    begin = -store.ctypes.data % ALIGNMENT
    return store[begin : begin + size].data


def aligned(data: memoryview) -> memoryview:
    """`data` itself if it begins at a multiple of 64, else a read-only copy that does."""
    if not len(data) or numpy.frombuffer(data, numpy.uint8).ctypes.data % ALIGNMENT == 0:
        return data
    copy = aligned_buffer(len(data))
    copy[:] = data
    return copy.toreadonly()
