"""Reading archives that were unpacked and zipped again, or whose structure others touched.

What a relaxed archive holds is as safe as a strict one, since the manifest's digests bind it; how
it holds it may differ: order, times, deflate, comments, other extra fields. Entries are copied
into memory, so nothing is mapped.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from torsh_package.container.layout import ArchiveEntry
from torsh_package.container.source import ArchiveSource, Stability, open_bytes
from torsh_package.errors import ContainerError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.names import find_collision, path_problem

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PIECE = 1 << 20
_FREE_BYTES = 256 << 20


class _Window(io.RawIOBase):
    """A memoryview as a seekable file, without a copy."""

    def __init__(self, data: memoryview):
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        base = (0, self._at, len(self._data))[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        part = self._data[self._at : self._at + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)


class RelaxedReader:
    """An archive that any ZIP tool may have made; its entries have safe names.

    Has the reading methods of `ArchiveReader`, so that both can be used alike.
    """

    canonical = False
    alignment = 0

    def __init__(self, contents: dict[str, memoryview], entries: tuple[ArchiveEntry, ...]):
        self._contents = contents
        self.entries = entries

    @classmethod
    def open(
        cls,
        source: ArchiveSource,
        *,
        stable: Stability = "auto",
        limits: Limits = DEFAULT_LIMITS,
    ) -> "RelaxedReader":
        """Opens a path, bytes or a file descriptor; raises as `ArchiveReader.open` does."""
        return cls.parse(open_bytes(source, stable, limits), limits)

    @classmethod
    def parse(cls, data: memoryview, limits: Limits = DEFAULT_LIMITS) -> "RelaxedReader":
        """Reads all entries into memory."""
        try:
            with zipfile.ZipFile(cast(io.BytesIO, io.BufferedReader(_Window(data)))) as archive:
                infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
                _check(infos, len(data), limits)
                contents = {info.filename: _read(archive, info, limits) for info in infos}
        except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
            raise ContainerError(f"not a ZIP archive that can be read: {error}"[:200]) from None
        except (zlib.error, struct.error, IndexError, RuntimeError, OSError) as error:
            raise ContainerError(f"damaged ZIP archive: {error}"[:200]) from None
        entries = tuple(
            ArchiveEntry(info.filename, info.header_offset, 0, info.file_size, info.CRC)
            for info in infos
        )
        return cls(contents, entries)

    @property
    def names(self) -> tuple[str, ...]:
        """Archive paths in the order of the directory."""
        return tuple(self._contents)

    def __contains__(self, name: str) -> bool:
        return name in self._contents

    def entry(self, name: str) -> ArchiveEntry:
        """The entry called `name`; `ContainerError` if there is none."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise ContainerError("entry is missing from the archive", entry=name)

    def read(self, name: str) -> memoryview:
        """The bytes of an entry."""
        if name not in self._contents:
            raise ContainerError("entry is missing from the archive", entry=name)
        return self._contents[name]

    def read_checked(self, name: str) -> memoryview:
        """The same: `zipfile` has checked the CRC-32."""
        return self.read(name)


def _check(infos: list[zipfile.ZipInfo], archive_size: int, limits: Limits) -> None:
    if len(infos) > limits.resources + 16:
        raise LimitError(f"archive of {len(infos)} entries, limit {limits.resources + 16}")
    for info in infos:
        # zipfile cuts names at NUL and changes separators; orig_filename is what is in the file.
        problem = path_problem(info.orig_filename, limits)
        if problem or info.filename != info.orig_filename:
            raise ContainerError(f"entry name {info.orig_filename[:80]!r} {problem}")
        kind = info.external_attr >> 28
        if info.create_system == 3 and kind not in (0, 0o10):
            raise ContainerError("is not a regular file", entry=info.filename)
        if info.flag_bits & 0x2041 or info.compress_type not in _METHODS:
            raise ContainerError(
                f"compression method {info.compress_type} or ZIP encryption is not allowed",
                entry=info.filename,
            )
        if info.file_size > limits.entry_bytes:
            raise LimitError(f"{info.file_size} bytes", entry=info.filename)
        if info.file_size > max(64 << 20, info.compress_size * limits.expansion_ratio):
            raise LimitError("expands over the ratio limit", entry=info.filename)
    total = sum(info.file_size for info in infos)
    if total > max(_FREE_BYTES, archive_size * limits.relaxed_ratio):
        raise LimitError(
            f"{archive_size} bytes would expand to {total}, over the ratio limit of "
            f"{limits.relaxed_ratio} for archives that were zipped again"
        )
    clash = find_collision(info.filename for info in infos)
    if clash:
        raise ContainerError(f"entry names {clash}")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits) -> memoryview:
    content = b"".join(_pieces(archive, info))
    if len(content) != info.file_size:
        raise ContainerError("size differs from the directory", entry=info.filename)
    return memoryview(content)


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    left = info.file_size
    with archive.open(info) as file:
        while left and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece
        if file.read(1):
            raise ContainerError("is longer than the directory says", entry=info.filename)
