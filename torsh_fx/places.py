"""Where in a file the data of an array lies, so that it can be read again without its model."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lowering.runtime.contexts import address_of, aligned_bytes
from lowering.runtime.dtypes import numpy_dtype
from lowering.runtime.signature import Array, Shape
from lowering.runtime.views import view_at
from torsh_dialect.errors import ImportModelError
from torsh_fx.mapped import mapping_of


@dataclass(frozen=True)
class Place:
    """Bytes of a file: row-major elements without holes, from `offset` on."""

    path: Path
    offset: int


def place_of(array: Array, path: Path) -> Place | None:
    """The place of an array that is a contiguous view of the mapping of all of `path`."""
    mapping = mapping_of(array)
    if mapping is None or not array.flags.c_contiguous:
        return None
    base: Array = np.frombuffer(mapping, np.uint8)
    return Place(path, address_of(array) - address_of(base))


@dataclass(frozen=True)
class MappedFile:
    """A file whose arrays are views of its mapped pages."""

    path: Path
    content: Array

    @staticmethod
    def open(path: Path) -> MappedFile:
        """Map a file, which is not empty.

        Raises:
            OSError: It cannot be read.
            ValueError: It is empty.
        """
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return MappedFile(path, np.frombuffer(mapping, np.uint8))

    def view(self, offset: int, dtype: str, dims: Shape) -> Array:
        """The array at `offset`.

        Raises:
            ImportModelError: It does not lie in the file.
        """
        what = f"a weight in {self.path}"
        return view_at(self.content, offset, numpy_dtype(dtype), dims, what, ImportModelError)


def read_aligned(path: Path, offset: int, count: int) -> Array:
    """`count` bytes of a file, aligned as kernels want weights.

    Raises:
        ImportModelError: The file is shorter.
        OSError: It cannot be read.
    """
    array = aligned_bytes(count)
    rest = array.data
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while rest:
            read = file.readinto(rest)
            if not read:
                raise ImportModelError(f"{path} became shorter while it was read")
            rest = rest[read:]
    return array
