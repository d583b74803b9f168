"""Small files that are read whole and replaced whole: keys, trust stores, signatures, reports."""

import os
from pathlib import Path

from torsh_package.container.atomic import AtomicFile
from torsh_package.errors import LimitError, StorageError


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` beside `path`, make it durable, and rename it into place.

    Raises:
        StorageError: The file system refuses; the old file, if any, is still there.
    """
    with AtomicFile(path) as file:
        file.write(data)


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """A whole small file.

    Raises:
        StorageError: It cannot be read.
        LimitError: It is longer than `limit` bytes.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror}", entry=str(path)) from None
    if len(data) > limit:
        raise LimitError(f"longer than {limit} bytes", entry=str(path))
    return data
