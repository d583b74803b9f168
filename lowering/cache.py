"""Compiled objects on disk, shared by all processes of one user.

One file an entry: `MAGIC`, SHA-256 of key and object, length (u64, little endian), object. An entry
is believed only if its file is ours and no one else could write it, and its digest fits. Entries
appear by rename, so a reader never sees half of one, and no lock is needed. Nothing that goes wrong
here stops a compilation: a cache that cannot be read or written is as good as an empty one, and
`CacheStats` says so.
"""

import hashlib
import os
import stat
import struct
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torsh_dialect.errors import CacheError, InvalidArgumentError

_MAGIC = b"TORSHOBJ\x01\0\0\0"
_HEAD = struct.Struct("<12s32sQ")
_DEFAULT_BYTES = 1 << 30
_SLACK = 8


@cache
def llvm_version() -> str:
    """What tells the LLVM that generates code from others, without loading it.

    A wheel of llvmlite has LLVM inside; the library's size tells builds of one version apart.
    """
    import llvmlite

    folder = Path(llvmlite.__file__).parent / "binding"
    sizes = sorted(path.stat().st_size for path in folder.glob("*llvmlite*.*"))
    return f"llvmlite {llvmlite.__version__} of {sizes} bytes"


def cache_key(text: bytes, *options: str) -> str:
    """Hex SHA-256 of LLVM IR text, the options it is compiled with, and LLVM's version."""
    digest = hashlib.sha256()
    for part in (_MAGIC, llvm_version().encode(), *(option.encode() for option in options), text):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def default_directory(environ: Mapping[str, str]) -> Path:
    """Where objects are kept: `TORSH_CACHE_DIR`, the user's cache directory, or a private one.

    Works without HOME and for a user that the system does not know.
    """
    if chosen := environ.get("TORSH_CACHE_DIR"):
        return Path(chosen)
    if base := environ.get("XDG_CACHE_HOME"):
        return Path(base) / "torsh"
    home = environ.get("HOME")
    if home and os.access(home, os.W_OK):
        return Path(home) / ".cache" / "torsh"
    return Path(tempfile.gettempdir()) / f"torsh-{os.geteuid()}"


@dataclass
class CacheStats:
    """What happened since the cache was opened.

    Attributes:
        hits: Entries found.
        misses: Entries not there.
        refused: Entries that were there but damaged or not ours.
        failures: Entries that could not be written.
        last_problem: The newest reason for a refusal or failure.
    """

    hits: int = 0
    misses: int = 0
    refused: int = 0
    failures: int = 0
    last_problem: str = ""


class ObjectCache:
    """A bounded directory of compiled objects; the entries used longest ago go first.

    Args:
        directory: Made with mode 0700 if it is not there.
        max_bytes: Most bytes of all entries, reached from time to time by at most an eighth more.
    """

    def __init__(self, directory: Path, max_bytes: int = _DEFAULT_BYTES):
        if max_bytes <= 0:
            raise InvalidArgumentError(f"max_bytes is {max_bytes}; it must be positive")
        self.directory = directory
        self.max_bytes = max_bytes
        self.stats = CacheStats()
        self._written = max_bytes  # the first write looks at what is there

    def get(self, key: str) -> bytes | None:
        """The object named `key`, or None; a damaged or foreign entry is removed."""
        path = self._path(key)
        try:
            product = _read(path, key)
        except FileNotFoundError:
            self.stats.misses += 1
            return None
        except (OSError, CacheError) as error:
            self.stats.refused += 1
            self.stats.last_problem = str(error)
            with suppress(OSError):
                path.unlink()
            return None
        self.stats.hits += 1
        with suppress(OSError):
            os.utime(path)  # the age that eviction goes by
        return product

    def put(self, key: str, product: bytes) -> None:
        """Keep `product`; failing to is only counted."""
        try:
            self._make_directory()
            _write(self._path(key), key, product)
        except (OSError, CacheError) as error:
            self.stats.failures += 1
            self.stats.last_problem = str(error)
            return
        self._written += len(product)
        if self._written > self.max_bytes // _SLACK:
            self._written = 0
            self._evict()

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}.obj"

    def _make_directory(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(os.stat(self.directory, follow_symlinks=False), self.directory)

    def _evict(self) -> None:
        entries: list[tuple[float, int, str]] = []
        with suppress(OSError), os.scandir(self.directory) as found:
            for entry in found:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    entries.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                return
            with suppress(OSError):
                os.unlink(path)
            total -= size


def _check_owner(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid():
        raise CacheError(f"{path} belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheError(f"{path} can be written by others (mode {status.st_mode & 0o777:o})")


def _digest(key: str, product: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + product).digest()


def _read(path: Path, key: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise CacheError(f"{path} is not a regular file")
        _check_owner(status, path)
        data = stream.read()
    if len(data) < _HEAD.size:
        raise CacheError(f"{path} is cut short ({len(data)} bytes)")
    magic, digest, length = _HEAD.unpack_from(data)
    product = data[_HEAD.size :]
    if magic != _MAGIC or length != len(product) or digest != _digest(key, product):
        raise CacheError(f"{path} is damaged: its digest does not fit")
    return product


def _write(path: Path, key: str, product: bytes) -> None:
    head = _HEAD.pack(_MAGIC, _digest(key, product), len(product))
    file, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(head)
            stream.write(product)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
