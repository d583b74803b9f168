"""Replacing a file as a whole: readers see the old one or the new one, never a part.

The new file is written beside the old one under a temporary name and locked while its writer
lives. `commit` brings it to disk, renames it, and brings the directory to disk. A writer that is
killed leaves its temporary file unlocked; the next writer of the same file removes it.
"""

import ctypes
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from torsh_package.errors import StorageError
from torsh_package.protocols import Buffer

WRITEBACK_BYTES = 8 << 20
"""Written bytes after which the disk begins with them: it works while the rest is made, and giving
it pages that were just touched takes a tenth of the processor time of one `fsync` of all."""

_SYNC_FILE_RANGE_WRITE = 2
_DIRECT = getattr(os, "O_DIRECT", 0)
_NO_DIRECT = (errno.EINVAL, errno.EOPNOTSUPP)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class AtomicFile:
    """A `BlobWriter` that becomes `path` when its context ends without an error.

    Args:
        path: File to replace or make. A symbolic link is replaced, not followed.
        if_match: Replace only if `file_tag(path)` still is this; "" for no file.
        durable: Bring file and directory to disk before the new name is seen.

    Raises:
        StorageError: No space, no permission, another writer came first, or `path` is a folder, a
            device or a pipe.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, if_match: str | None = None, durable: bool = True
    ):
        self._path = Path(path)
        self._if_match = if_match
        self._durable = durable
        self._fd = -1
        self._uncached = -1
        self._temporary = ""
        self._directory = -1
        self._waiting = 0

    def __enter__(self) -> Self:
        parent = self._path.parent
        with storage_errors(self._path):
            self._directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mode = self._present_mode()
                self._reap()
                self._create()
                if mode is not None:
                    os.fchmod(self._fd, mode)
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                with storage_errors(self._path):
                    self._commit()
        finally:
            if self._temporary:
                self._unlink(self._temporary)
            self._close()

    def write(self, data: Buffer, /) -> int:
        """Writes all of `data`."""
        view = memoryview(data).cast("B")
        size, done = len(view), 0
        with storage_errors(self._path):
            while done < size:
                done += os.write(self._fd, view[done:] if done else view)
        self._waiting += size
        if self._durable and self._waiting >= WRITEBACK_BYTES:
            begin_writeback(self._fd, self.tell() - self._waiting, self._waiting)
            self._waiting = 0
        return size

    def write_blocks(self, data: memoryview, offset: int) -> None:
        """Writes whole aligned blocks past the page cache, or else through it."""
        with storage_errors(self._path):
            if self._uncached < 0:
                self._uncached = self._open_uncached()
            while len(data):
                try:
                    done = os.pwrite(self._uncached, data, offset)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    done = os.pwrite(self._fd, data, offset)  # Its blocks are of another size.
                data, offset = data[done:], offset + done

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves the position."""
        return os.lseek(self._fd, offset, whence)

    def tell(self) -> int:
        """The position."""
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def truncate(self, size: int | None = None, /) -> int:
        """Cuts the file."""
        size = self.tell() if size is None else size
        with storage_errors(self._path):
            os.ftruncate(self._fd, size)
        return size

    def fileno(self) -> int:
        """The descriptor, open for reading too."""
        return self._fd

    def reserve(self, offset: int, size: int) -> None:
        """Takes space on the disk; where the file system cannot, writing will find out."""
        with storage_errors(self._path):
            reserve(self._fd, offset, size)

    @property
    def _prefix(self) -> str:
        return f".{self._path.name[:100]}.tmp-"

    def _create(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            name = f"{self._prefix}{os.getpid()}-{secrets.token_hex(8)}"
            # 0o666: the kernel applies the umask, so the file is as readable as any other.
            fd = os.open(name, flags, 0o666, dir_fd=self._directory)
            self._fd, self._temporary = fd, name
            _lock(fd, required=False)
            if os.fstat(fd).st_nlink:
                break
            os.close(fd)  # Another writer took it for left-over before it was locked.

    def _present_mode(self) -> int | None:
        """The permissions of the file that is to be replaced, if there is one."""
        try:
            old = os.stat(self._path.name, dir_fd=self._directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None
        if not (stat.S_ISREG(old) or stat.S_ISLNK(old)):
            raise StorageError("is no regular file; choose another name", entry=str(self._path))
        return stat.S_IMODE(old) if stat.S_ISREG(old) else None

    def _open_uncached(self) -> int:
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self._temporary, flags | _DIRECT, dir_fd=self._directory)
        except OSError as error:
            if error.errno not in _NO_DIRECT:
                raise
        return os.open(self._temporary, flags, dir_fd=self._directory)

    def _reap(self) -> None:
        """Removes temporary files of this target whose writers are dead."""
        for name in os.listdir(self._directory):
            if not name.startswith(self._prefix):
                continue
            with _ignoring(OSError):
                flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                fd = os.open(name, flags, dir_fd=self._directory)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=self._directory)
                finally:
                    os.close(fd)

    def _commit(self) -> None:
        if self._durable:
            os.fsync(self._fd)
        # The lock on the directory makes "compare the tag, then rename" one step.
        _lock(self._directory, required=self._if_match is not None)
        try:
            self._check_match()
            name = self._path.name
            os.rename(self._temporary, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            self._temporary = ""
        finally:
            with _ignoring(OSError):
                fcntl.flock(self._directory, fcntl.LOCK_UN)
        if self._durable:
            os.fsync(self._directory)

    def _check_match(self) -> None:
        if self._if_match is not None and file_tag(self._path) != self._if_match:
            raise StorageError(
                "was changed by another writer in the meantime; load it again",
                entry=str(self._path),
            )

    def _unlink(self, name: str) -> None:
        with _ignoring(OSError):
            os.unlink(name, dir_fd=self._directory)
        self._temporary = ""

    def _close(self) -> None:
        for fd in (self._fd, self._uncached, self._directory):
            if fd >= 0:
                os.close(fd)
        self._fd = self._uncached = self._directory = -1


def reserve(fd: int, offset: int, size: int) -> None:
    """Takes space on the disk for bytes of a file; it grows if they are behind its end.

    Raises:
        OSError: There is not as much. Where the file system cannot say, writing will find out.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    allocate = getattr(libc, "fallocate64", None)
    if allocate is None:
        return
    # Not os.posix_fallocate: where the file system cannot, that writes to every block.
    allocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if allocate(fd, 0, offset, size):
        code = ctypes.get_errno()
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(code, os.strerror(code))


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    begin = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if begin is not None:
        begin.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return begin


def begin_writeback(fd: int, offset: int, size: int) -> None:
    """Lets the disk begin with a part of a file; a hint, `fsync` alone says that it is there."""
    if (begin := _sync_file_range()) is not None:
        begin(fd, max(offset, 0), size, _SYNC_FILE_RANGE_WRITE)


def file_tag(path: str | os.PathLike[str]) -> str:
    """A tag that differs after every replacement of the file; "" if there is no file."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return ""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


@contextmanager
def storage_errors(path: str | os.PathLike[str]) -> Generator[None]:
    """Turns an `OSError` into a `StorageError` that names the file and what to do."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "; free some space, the old file is untouched",
            errno.EDQUOT: "; the disk quota is used up, the old file is untouched",
            errno.EACCES: "; write to another folder or change its permissions",
            errno.EROFS: "; write to another folder",
            errno.ENOENT: "; make the folder first",
        }
        hint = hints.get(error.errno or 0, "")
        raise StorageError(
            f"cannot be written: {error.strerror}{hint}", entry=os.fspath(path)
        ) from error


def _lock(fd: int, *, required: bool) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        if required or error.errno not in _NO_LOCKS:
            raise


@contextmanager
def _ignoring(kind: type[OSError]) -> Generator[None]:
    try:
        yield
    except kind:
        return
