"""Opens files below one folder and nowhere else: no `..`, no absolute path, no symbolic link."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from torsh_package.errors import ConversionError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.names import path_problem

from .arrays import Array
from .foreign_zip import map_descriptor

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_MAX_DEPTH = 16


class ConfinedFolder:
    """A folder that foreign names are resolved in.

    Args:
        path: The folder, as the user named it (may itself be reached through links).
        limits: `resources` bounds the number of files, `manifest_bytes` the size of small ones.
    """

    def __init__(self, path: Path, *, limits: Limits = DEFAULT_LIMITS):
        self.path = path
        self._limits = limits
        if not path.is_dir():
            raise ConversionError("is no folder", entry=str(path))

    def _fail(self, name: str, problem: str) -> ConversionError:
        return ConversionError(f"{name[:200]!r} {problem}", entry=str(self.path))

    def map(self, name: str) -> Array:
        """The bytes of the file `name` (with `/`), uint8 `[n]`, memory-mapped.

        Raises:
            ConversionError: when the name leaves the folder or crosses a link, or when it is
                missing or no regular file.
        """
        problem = path_problem(name.removeprefix("./"), self._limits)
        if problem is not None:
            raise self._fail(name, problem)
        *folders, last = name.removeprefix("./").split("/")
        if len(folders) > _MAX_DEPTH:
            raise self._fail(name, f"is nested deeper than {_MAX_DEPTH} folders")
        descriptors = [self._open(name, str(self.path), _DIRECTORY)]
        try:
            for folder in folders:
                flags = _DIRECTORY | _NO_LINK
                descriptors.append(self._open(name, folder, flags, descriptors[-1]))
            flags = os.O_RDONLY | _NO_LINK | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
            descriptors.append(self._open(name, last, flags, descriptors[-1]))
            return map_descriptor(descriptors[-1], f"{self.path}/{name}")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _open(self, name: str, part: str, flags: int, folder: int | None = None) -> int:
        try:
            return os.open(part, flags, dir_fd=folder)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._fail(
                name,
                f"cannot be opened: {reason} (symbolic links are not followed; "
                "copy the folder with its links resolved)",
            ) from error

    def read(self, name: str, limit: int | None = None) -> bytes:
        """A copy of a small file; at most `limit` bytes (the manifest limit)."""
        data = self.map(name)
        limit = self._limits.manifest_bytes if limit is None else limit
        if data.nbytes > limit:
            raise LimitError(f"{data.nbytes} bytes; the limit is {limit}", entry=name)
        return data.tobytes()

    def names(self) -> list[str]:
        """All regular files below the folder, sorted; hidden ones and links are left out."""
        found = sorted(self._walk(self.path, "", 0))
        if len(found) > self._limits.resources:
            raise LimitError(
                f"{len(found)} files; the limit is {self._limits.resources} (Limits.resources)",
                entry=str(self.path),
            )
        return found

    def links(self) -> list[str]:
        """Symbolic links directly below the folder."""
        with os.scandir(self.path) as entries:
            return sorted(entry.name for entry in entries if entry.is_symlink())

    def _walk(self, folder: Path, prefix: str, depth: int) -> Iterator[str]:
        if depth > _MAX_DEPTH:
            raise self._fail(prefix, f"is nested deeper than {_MAX_DEPTH} folders")
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    yield from self._walk(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)
                elif stat.S_ISREG(mode):
                    yield prefix + entry.name
