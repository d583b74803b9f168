"""Local files as a `Storage` (`torsh_package.protocols`)."""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from torsh_package.container.atomic import AtomicFile, file_tag, storage_errors
from torsh_package.errors import StorageError
from torsh_package.names import check_path


class LocalBlob:
    """An open local file."""

    def __init__(self, fd: int):
        self._fd = fd

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self._fd).st_size

    def fileno(self) -> int:
        """The descriptor, for mapping."""
        return self._fd

    def read_at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`, fewer only at the end."""
        parts: list[bytes] = []
        while count and (part := os.pread(self._fd, count, offset)):
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return b"".join(parts)


class LocalStorage:
    """Blobs as files below a folder.

    Args:
        root: The folder; it must exist.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self._root = Path(root)

    @contextmanager
    def open(self, key: str) -> Generator[LocalBlob]:
        """Opens a blob; a later replacement does not change what is read.

        Raises:
            StorageError: There is none, or it cannot be read.
        """
        path = self._path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StorageError(f"cannot be opened: {error.strerror}", entry=str(path)) from None
        try:
            yield LocalBlob(fd)
        finally:
            os.close(fd)

    def create(self, key: str, *, if_match: str | None = None) -> AtomicFile:
        """Replaces a blob atomically when the context ends without an error."""
        return AtomicFile(self._path(key), if_match=if_match)

    def tag(self, key: str) -> str:
        """A tag that changes whenever the blob is replaced; "" if there is none."""
        return file_tag(self._path(key))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that begin with `prefix`, sorted; temporary files are none."""
        found = (path for path in self._root.rglob("*") if path.is_file())
        keys = (path.relative_to(self._root).as_posix() for path in found)
        yield from sorted(k for k in keys if k.startswith(prefix) and "/." not in f"/{k}")

    def delete(self, key: str) -> None:
        """Removes a blob; it is no error if there is none."""
        path = self._path(key)
        with storage_errors(path):
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / check_path(key)
