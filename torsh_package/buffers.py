"""Memory in which tensors are aligned as they are in a mapped file."""

import mmap
import os
from collections.abc import Generator
from contextlib import contextmanager

import numpy

from torsh_package.errors import LimitError, StorageError
from torsh_package.tensors import ALIGNMENT


def aligned_buffer(size: int, alignment: int = ALIGNMENT) -> memoryview:
    """Writable memory of `size` bytes at a multiple of `alignment`; its content is undefined.

    Raises:
        LimitError: There is not that much memory.
    """
    try:
        store = numpy.empty(size + alignment, numpy.uint8)
    except MemoryError:
        raise LimitError(
            f"no memory for {size} bytes; read the content in pieces instead"
        ) from None
    begin = -store.ctypes.data % alignment
    return store[begin : begin + size].data


class Recycler:
    """Buffers for pieces of a stream, each used again once nobody has a view of it any more.

    Fresh memory for every piece would cost more than the cipher: the kernel clears it page by page.
    """

    def __init__(self) -> None:
        self._stores: list[bytearray] = []

    def take(self, size: int) -> memoryview:
        """A buffer of `size` bytes whose content is undefined."""
        for store in self._stores:
            if len(store) >= size and _unseen(store):
                return memoryview(store)[:size]
        # Those that are too small go as soon as they are free.
        self._stores = [store for store in self._stores if len(store) >= size]
        self._stores.append(bytearray(size))
        return memoryview(self._stores[-1])[:size]


def _unseen(store: bytearray) -> bool:
    """Whether no view of a buffer exists: only then may its size change."""
    try:
        store.append(0)
    except BufferError:
        return False
    store.pop()
    return True


def aligned(data: memoryview) -> memoryview:
    """`data` itself if it begins at a multiple of 64, else a read-only copy that does."""
    if not len(data) or numpy.frombuffer(data, numpy.uint8).ctypes.data % ALIGNMENT == 0:
        return data
    copy = aligned_buffer(len(data))
    copy[:] = data
    return copy.toreadonly()


@contextmanager
def mapped(fd: int, offset: int, size: int) -> Generator[memoryview]:
    """A part of a file that is being written, to be read without a copy.

    Raises:
        StorageError: It cannot be mapped, or the file ends before.
    """
    begin = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    if os.fstat(fd).st_size < offset + size:
        raise StorageError("cannot be read back: it became shorter", offset=offset)
    try:
        found = mmap.mmap(fd, offset - begin + size, mmap.MAP_PRIVATE, mmap.PROT_READ, offset=begin)
    except OSError as error:
        raise StorageError(f"cannot be read back: {error.strerror}", offset=offset) from error
    # Unmapped when the last view of it goes, which is when the block's user forgets them.
    with memoryview(found) as whole, whole[offset - begin :] as part:
        yield part
