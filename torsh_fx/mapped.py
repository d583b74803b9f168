"""Giving back the memory of mapped files.

Pages of a mapped file that were read count as memory of the process until they are given back;
reading them again is a look into the system's page cache.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from lowering.runtime.signature import Array


def mapping_of(array: Array) -> mmap.mmap | None:
    """The read-only mapping of a file that an array is a view of, if it is one.

    Pages of a mapping that can be written may hold changes, so such are none of ours.
    """
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is None or not memoryview(base).readonly:
        return None
    return base


def mappings_of(arrays: Iterable[Array]) -> list[mmap.mmap]:
    """The different mappings of files that arrays are views of."""
    found = {id(m): m for array in arrays if (m := mapping_of(array)) is not None}
    return list(found.values())


def give_back(mappings: Iterable[mmap.mmap]) -> None:
    """Take the pages of read-only mappings out of the process; their contents stay readable."""
    for mapping in mappings:
        mapping.madvise(mmap.MADV_DONTNEED)
