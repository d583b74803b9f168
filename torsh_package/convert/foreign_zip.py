"""Reads ZIP archives that others wrote: tolerant of their layout, not of lies.

Unlike our own container these may have gaps, comments and compressed entries. Refused are
duplicate or unsafe names, overlapping entries, sizes that are not there, encryption, and
contents that do not have their CRC.
"""

import io
import mmap
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from torsh_package.errors import ConversionError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, MIB, Limits
from torsh_package.names import path_problem

from .arrays import Array

_LOCAL_HEADER = 30
# Entries that expand to more than this may not do so by more than this ratio: weights do not.
_FREE_EXPANSION = 64 * MIB
_MAX_RATIO = 100


class ForeignZip:
    """A ZIP archive, memory-mapped.

    Args:
        source: Path, or the bytes of an archive inside another file (not copied).
        limits: `resources` bounds the number of entries, `manifest_bytes` what `read` copies.

    Raises:
        ConversionError: when the archive is malformed or inconsistent.
    """

    def __init__(self, source: Path | bytes | memoryview, *, limits: Limits = DEFAULT_LIMITS):
        self.name = source.name if isinstance(source, Path) else "<nested archive>"
        self._limits = limits
        if isinstance(source, Path):
            self._bytes = map_file(source)
        else:
            self._bytes = np.frombuffer(source, np.uint8)
        try:
            with zipfile.ZipFile(_Window(self._bytes)) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
            raise ConversionError(f"malformed ZIP: {error}", entry=self.name) from error
        if len(infos) > limits.resources:
            raise LimitError(
                f"{len(infos)} entries; the limit is {limits.resources} (Limits.resources)",
                entry=self.name,
            )
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            self._check_entry(info)
        self._check_overlap()

    def _check_entry(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        problem = None if info.is_dir() else path_problem(name, self._limits)
        if problem is None and info.orig_filename != name:
            problem = "holds a NUL or backslash"
        if problem is None and name in self._infos:
            problem = "is there twice"
        if problem is None and info.flag_bits & 0x41:
            problem = "is encrypted"
        if problem is None and info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = f"has compression method {info.compress_type}; 0 and 8 are known"
        if problem is None and info.compress_type == zipfile.ZIP_STORED:
            problem = None if info.file_size == info.compress_size else "has two sizes"
        if problem is None and info.file_size > max(
            _FREE_EXPANSION, info.compress_size * _MAX_RATIO
        ):
            problem = f"claims to expand {info.compress_size} bytes to {info.file_size}"
        if problem is not None:
            raise ConversionError(f"ZIP entry {name[:80]!r} {problem}", entry=self.name)
        self._infos[name] = info

    def _check_overlap(self) -> None:
        end = 0
        for info in sorted(self._infos.values(), key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise ConversionError(
                    f"ZIP entry {info.filename[:80]!r} overlaps another", entry=self.name
                )
            end = self._start(info) + info.compress_size
            if end > self._bytes.nbytes:
                raise ConversionError(
                    f"ZIP entry {info.filename[:80]!r} ends at byte {end} of {self._bytes.nbytes}",
                    entry=self.name,
                )

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Offset of the entry's data; its local header must name the same entry."""
        at = info.header_offset
        header = self._bytes[at : at + _LOCAL_HEADER].tobytes()
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise ConversionError(
                f"ZIP entry {info.filename[:80]!r} has no local header", entry=self.name
            )
        name_size, extra_size = struct.unpack_from("<HH", header, 26)
        name = self._bytes[at + _LOCAL_HEADER : at + _LOCAL_HEADER + name_size].tobytes()
        encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
        if name.decode(encoding, "replace") != info.orig_filename:
            raise ConversionError(
                f"ZIP entry {info.filename[:80]!r} has another name in its local header",
                entry=self.name,
            )
        return at + _LOCAL_HEADER + name_size + extra_size

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        return self._bytes.nbytes

    def names(self) -> Iterator[str]:
        """Names of all files, in archive order."""
        return (name for name, info in self._infos.items() if not info.is_dir())

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def size_of(self, name: str) -> int:
        """Bytes of an entry after decompression."""
        return self._info(name).file_size

    def _info(self, name: str) -> zipfile.ZipInfo:
        info = self._infos.get(name)
        if info is None:
            raise ConversionError(f"has no entry {name[:80]!r}", entry=self.name)
        return info

    def array(self, name: str) -> Array:
        """The bytes of an entry, uint8 `[n]`; a view of the mapped file where it is stored.

        Raises:
            ConversionError: when the bytes do not have their size or CRC.
        """
        info = self._info(name)
        start = self._start(info)
        raw = self._bytes[start : start + info.compress_size]
        if info.compress_type == zipfile.ZIP_DEFLATED:
            raw = np.frombuffer(self._inflate(raw, info), np.uint8)
        if zlib.crc32(raw.data) != info.CRC:
            raise ConversionError(
                "the bytes do not have their CRC-32; the file is damaged",
                entry=f"{self.name}:{name}",
            )
        return raw

    def _inflate(self, raw: Array, info: zipfile.ZipInfo) -> bytes:
        stream = zlib.decompressobj(-15)
        try:
            # One byte more than promised shows a lie without expanding it.
            data = stream.decompress(raw.data, info.file_size + 1)
        except zlib.error as error:
            raise ConversionError(
                f"damaged: {error}", entry=f"{self.name}:{info.filename}"
            ) from error
        if len(data) != info.file_size or not stream.eof:
            raise ConversionError(
                f"does not expand to its {info.file_size} bytes",
                entry=f"{self.name}:{info.filename}",
            )
        return data

    def read(self, name: str, limit: int | None = None) -> bytes:
        """A copy of the bytes of an entry of at most `limit` bytes (the manifest limit)."""
        limit = self._limits.manifest_bytes if limit is None else limit
        if self.size_of(name) > limit:
            raise LimitError(
                f"{self.size_of(name)} bytes; the limit is {limit}", entry=f"{self.name}:{name}"
            )
        return self.array(name).tobytes()


def map_file(path: Path) -> Array:
    """The bytes of a regular file as read-only uint8 `[n]`, memory-mapped.

    Raises:
        ConversionError: when it is missing, no regular file, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise ConversionError(f"cannot be read: {error.strerror}", entry=str(path)) from error
    try:
        return map_descriptor(descriptor, str(path))
    finally:
        os.close(descriptor)


def map_descriptor(descriptor: int, label: str) -> Array:
    """The same for an open file; the descriptor stays open."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ConversionError("is no regular file", entry=label)
    if status.st_size == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)


class _Window(io.RawIOBase):
    """A read-only file over an array, for `zipfile` to read the directory from."""

    def __init__(self, data: Array):
        self._data = data
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, self._data.nbytes)[whence]
        if base + offset < 0:
            raise ValueError("seek before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        end = None if size is None or size < 0 else self._at + size
        data = self._data[self._at : end].tobytes()
        self._at += len(data)
        return data
