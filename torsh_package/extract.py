"""Unpacking resources into a folder, where nothing outside of it can be touched.

Every component of a path is made and opened relative to the open folder before it, and symbolic
links are never followed, so neither names in the package nor links planted in the target lead
elsewhere. A file appears under its name only when its content is complete and verified.
"""

import errno
import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from torsh_package.container.atomic import reserve, storage_errors
from torsh_package.container.writer import RESERVE_FROM
from torsh_package.contents import PackageContents
from torsh_package.errors import StorageError
from torsh_package.names import check_path
from torsh_package.resource import Resource
from torsh_package.writing import Progress, watched

WRITE_BYTES = 256 << 10
"""Bytes of a write: all are at multiples of it, so larger ones would take the largest memory blocks
(`torsh_package.container.big.WRITE_BYTES`)."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(
    package: PackageContents,
    folder: str | os.PathLike[str],
    names: Sequence[str] | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes the plain bytes of resources to files in `folder`, which is made if needed.

    Args:
        package: Where the resources are.
        folder: Target; may itself be a symbolic link.
        names: Resources to write; all by default.
        overwrite: Replace files that are there.
        progress: Called with a resource's name, its bytes done and its bytes in all.

    Returns:
        Paths of the files, `folder/<name><extension>`.

    Raises:
        ResourceNotFoundError: A name is unknown; nothing was written.
        StorageError: A file exists, a link is in the way, or the file system refuses.
        PackageError: Some content is damaged; its file was not made.
    """
    chosen = [package.get_resource(name) for name in names or package.list_resources()]
    target = Path(folder)
    written: list[Path] = []
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for resource in chosen:
            path = check_path(f"{resource.name}{resource.extension}")
            with storage_errors(target / path):
                _write(root, path, resource, overwrite, progress)
            written.append(target / path)
    finally:
        os.close(root)
    return written


def _write(
    root: int, path: str, resource: Resource, overwrite: bool, progress: Progress | None
) -> None:
    *folders, name = path.split("/")
    with ExitStack() as stack:
        folder = root
        for part in folders:
            folder = _enter(folder, part)
            stack.callback(os.close, folder)
        temporary = f".{name[:100]}.tmp-{secrets.token_hex(8)}"
        try:
            _fill(folder, temporary, resource, progress)
            if overwrite:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                _publish(folder, temporary, name)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)


def _enter(folder: int, part: str) -> int:
    """Opens a subfolder, making it if needed."""
    with suppress(FileExistsError):
        os.mkdir(part, dir_fd=folder)
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except OSError as error:
        # A symbolic link gives ELOOP, or ENOTDIR where O_DIRECTORY is looked at first.
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise StorageError("is a link or a file, not a folder", entry=part) from error
        raise


def _fill(folder: int, name: str, resource: Resource, progress: Progress | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o666, dir_fd=folder)
    try:
        if resource.size >= RESERVE_FROM:
            reserve(fd, 0, resource.size)
        for piece in watched(resource.pieces(), resource.name, resource.size, progress):
            view = memoryview(piece)
            while len(view):
                view = view[os.write(fd, view[:WRITE_BYTES]) :]
    finally:
        os.close(fd)


def _publish(folder: int, temporary: str, name: str) -> None:
    """Gives a file its name unless there is one of that name (a link refuses, a rename not)."""
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise StorageError("exists; use overwrite to replace it", entry=name) from None
