"""Small files that are replaced whole or not at all: trust stores, signatures, reports."""

import contextlib
import os
import secrets
from pathlib import Path

from torsh_package.errors import LimitError, StorageError


def replace_file(path: str | os.PathLike[str], data: bytes, mode: int = 0o644) -> None:
    """Write `data` beside `path`, make it durable, and rename it into place.

    Raises:
        StorageError: The file system refuses; the old file, if any, is still there.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(f"cannot write: {error.strerror}", entry=str(path)) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
