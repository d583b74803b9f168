"""The bytes of an archive as one read-only memoryview: mapped, or copied where that is not safe.

A mapped file changes under its reader if somebody writes into it in place, after verification
too, and kills the reader (SIGBUS) if somebody cuts it. `ArchiveWriter` never does either (it
replaces files), so a file is mapped when nobody but its reader, or root, could; others are copied.
"""

import io
import mmap
import os
import stat
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from torsh_package.buffers import aligned
from torsh_package.errors import ContainerError, InvalidArgumentError, LimitError, StorageError
from torsh_package.limits import DEFAULT_LIMITS, Limits

Stability: TypeAlias = Literal["auto", "mmap", "copy"]
ArchiveSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | int | BinaryIO"
)


def open_bytes(
    source: ArchiveSource, stable: Stability = "auto", limits: Limits = DEFAULT_LIMITS
) -> memoryview:
    """All bytes of `source`.

    Args:
        source: Path, bytes, file descriptor (stays open, its position is not used), or binary
            file with a descriptor.
        stable: `mmap` maps files; `copy` reads them into memory; `auto` maps unless somebody
            else may write into the file.
        limits: Largest archive.

    Returns:
        Read-only view at a multiple of 64 (bytes are copied where they are not); it keeps the
        mapping alive as long as it is used.

    Raises:
        StorageError: The file cannot be opened or read.
        ContainerError: It is not a regular file, or empty.
        LimitError: It is too large.
    """
    if stable not in ("auto", "mmap", "copy"):
        raise InvalidArgumentError(f"stable={stable!r}: use auto, mmap or copy")
    if isinstance(source, bytes):
        return aligned(memoryview(source))
    if isinstance(source, bytearray | memoryview):
        return aligned(memoryview(bytes(source)))
    if isinstance(source, int):
        return _from_fd(source, f"file descriptor {source}", stable, limits)
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source), stable, limits)
    try:
        return _from_fd(source.fileno(), "file", stable, limits)
    except (AttributeError, io.UnsupportedOperation):
        raise InvalidArgumentError(
            f"a {type(source).__name__} cannot be read; give a path, bytes or a file descriptor"
        ) from None


def _from_path(path: Path, stable: Stability, limits: Limits) -> memoryview:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise StorageError("no such file", entry=str(path)) from None
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot be opened: {error}", entry=str(path)) from None
    try:
        return _from_fd(fd, str(path), stable, limits)
    finally:
        os.close(fd)


def _from_fd(fd: int, what: str, stable: Stability, limits: Limits) -> memoryview:
    try:
        status = os.fstat(fd)
    except OSError as error:
        raise StorageError(f"cannot be read: {error}", entry=what) from None
    if not stat.S_ISREG(status.st_mode):
        raise ContainerError("is not a regular file", entry=what)
    if status.st_size == 0:
        raise ContainerError("is empty", entry=what)
    if status.st_size > limits.entry_bytes:
        raise LimitError(f"{status.st_size} bytes, limit {limits.entry_bytes}", entry=what)
    try:
        if stable == "copy" or (stable == "auto" and _others_may_write(status)):
            return _read(fd, status.st_size, what)
        return memoryview(mmap.mmap(fd, status.st_size, access=mmap.ACCESS_READ))
    except (OSError, MemoryError) as error:
        raise StorageError(f"cannot be read: {error}", entry=what) from None


def _others_may_write(status: os.stat_result) -> bool:
    if status.st_uid not in (os.geteuid(), 0):
        return True
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _read(fd: int, size: int, what: str) -> memoryview:
    """Copies a file into anonymous memory (not a bytearray: its zeroing would cost a pass)."""
    target = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        target.madvise(mmap.MADV_HUGEPAGE)  # Page faults would take most of the time.
    view = memoryview(target)
    done = 0
    while done < size:
        count = os.preadv(fd, [view[done : done + (64 << 20)]], done)
        if not count:
            raise StorageError("became shorter while it was read", entry=what)
        done += count
    return view.toreadonly()
