"""Strict reading: an archive is accepted only in the one form that `ArchiveWriter` gives it.

Rules, in the order they are checked:
* the end record is the last 22 bytes, without comment; Zip64 records only where sizes need them;
* the directory lies right before it, within the limits, and its records agree with themselves;
* names are safe and do not clash; entries are regular, stored files;
* entries begin at byte 0, follow each other without gap or overlap, and end at the directory;
* local headers, directory and end records equal, byte for byte, those made from the names, sizes
  and CRCs (`torsh_package.container.layout`).
"""

from dataclasses import dataclass

from torsh_package.container import layout
from torsh_package.container.crc32 import crc32
from torsh_package.container.layout import MAX16, MAX32, ArchiveEntry
from torsh_package.container.source import ArchiveSource, Stability, open_bytes
from torsh_package.errors import ContainerError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.names import find_collision, path_problem


@dataclass(frozen=True)
class _End:
    count: int
    size: int
    offset: int


class ArchiveReader:
    """An archive that has been found canonical.

    Attributes:
        data: All bytes of the archive.
        entries: In the order of the archive.
        alignment: Multiple at which entry data begins.
        canonical: True; `RelaxedReader` has False.
    """

    canonical = True

    def __init__(self, data: memoryview, entries: tuple[ArchiveEntry, ...], alignment: int):
        self.data = data
        self.entries = entries
        self.alignment = alignment
        self._by_name = {entry.name: entry for entry in entries}

    @classmethod
    def open(
        cls,
        source: ArchiveSource,
        *,
        stable: Stability = "auto",
        limits: Limits = DEFAULT_LIMITS,
    ) -> "ArchiveReader":
        """Opens a path, bytes or a file descriptor (`container.source.open_bytes`).

        Raises:
            ContainerError: It is not a canonical archive.
            LimitError: A size or count is over `limits`.
            StorageError: It cannot be read.
        """
        return cls.parse(open_bytes(source, stable, limits), limits)

    @classmethod
    def parse(cls, data: memoryview, limits: Limits = DEFAULT_LIMITS) -> "ArchiveReader":
        """Checks the structure of an archive; no entry's data is read."""
        end = _end(data, limits)
        entries = _entries(data, end)
        _check_names(entries, limits)
        alignment = _check_locals(data, entries, end.offset)
        if bytes(data[end.offset :]) != layout.directory(entries, end.offset):
            raise ContainerError(
                "the directory is not in canonical form", entry=None, offset=end.offset
            )
        return cls(data, tuple(entries), alignment)

    @property
    def names(self) -> tuple[str, ...]:
        """Archive paths in order."""
        return tuple(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def entry(self, name: str) -> ArchiveEntry:
        """The entry called `name`; `ContainerError` if there is none."""
        found = self._by_name.get(name)
        if found is None:
            raise ContainerError("entry is missing from the archive", entry=name)
        return found

    def read(self, name: str) -> memoryview:
        """The stored bytes of an entry, without a copy and unverified."""
        entry = self.entry(name)
        return self.data[entry.offset : entry.offset + entry.size]

    def read_checked(self, name: str) -> memoryview:
        """The stored bytes of an entry whose CRC-32 is right (accidents, not attacks)."""
        data = self.read(name)
        if crc32(data) != self.entry(name).crc32:
            raise ContainerError("CRC-32 is wrong; the file is damaged", entry=name)
        return data


def _end(data: memoryview, limits: Limits) -> _End:
    at = len(data) - layout.END.size
    if at < 0 or bytes(data[at : at + 4]) != layout.END_SIGNATURE:
        raise ContainerError(
            "not an archive, truncated, or followed by other bytes (no end record at the end)",
            offset=max(at, 0),
        )
    _, disk, cd_disk, here, count, size, offset, comment = layout.END.unpack_from(data, at)
    if disk or cd_disk or comment:
        raise ContainerError("split archives and comments are not allowed", offset=at)
    if count == MAX16 or MAX32 in (size, offset):
        here, count, size, offset, at = _end64(data, at)
    if here != count or count > limits.resources + 16:
        raise LimitError(f"archive of {count} entries, limit {limits.resources + 16}", offset=at)
    if offset + size != at:
        raise ContainerError("the directory does not end at the end record", offset=at)
    if size > count * (layout.CENTRAL.size + limits.name_bytes + 32):
        raise LimitError(f"directory of {size} bytes for {count} entries", offset=offset)
    return _End(count, size, offset)


def _end64(data: memoryview, end: int) -> tuple[int, int, int, int, int]:
    at = end - layout.LOCATOR.size
    record = at - layout.END64.size
    if record < 0 or bytes(data[at : at + 4]) != layout.LOCATOR_SIGNATURE:
        raise ContainerError("Zip64 end record is missing", offset=max(at, 0))
    _, disk, offset, disks = layout.LOCATOR.unpack_from(data, at)
    if disk or disks != 1 or offset != record:
        raise ContainerError("Zip64 locator is wrong", offset=at)
    found = layout.END64.unpack_from(data, record)
    if found[0] != layout.END64_SIGNATURE or found[1] != 44 or found[4] or found[5]:
        raise ContainerError("Zip64 end record is wrong", offset=record)
    return found[6], found[7], found[8], found[9], record


def _entries(data: memoryview, end: _End) -> list[ArchiveEntry]:
    found: list[ArchiveEntry] = []
    at, stop, begin = end.offset, end.offset + end.size, 0
    for _ in range(end.count):
        if at + layout.CENTRAL.size > stop:
            raise ContainerError("the directory is truncated", offset=at)
        entry, at = _central(data, at, stop)
        if entry.header_offset != begin:
            raise ContainerError(
                "does not begin where the entry before it ends (gap, overlap or prefix)",
                entry=entry.name,
                offset=entry.header_offset,
            )
        begin = entry.offset + entry.size
        if begin > end.offset:
            raise ContainerError("data runs into the directory", entry=entry.name, offset=at)
        found.append(entry)
    if at != stop or begin != end.offset:
        raise ContainerError("bytes that belong to no entry", offset=begin)
    return found


def _central(data: memoryview, at: int, stop: int) -> tuple[ArchiveEntry, int]:
    (
        signature, made_by, _, flags, method, _, _, crc, packed, size,
        name_size, extra_size, comment, disk, _, attributes, header,
    ) = layout.CENTRAL.unpack_from(data, at)  # fmt: skip
    names = at + layout.CENTRAL.size
    extras = names + name_size
    following = extras + extra_size
    if signature != layout.CENTRAL_SIGNATURE or comment or disk or following > stop:
        raise ContainerError("damaged directory record", offset=at)
    name = _name(bytes(data[names:extras]), flags, at)
    _check_kind(name, flags, method, made_by, attributes, at)
    packed, size, header = _zip64(bytes(data[extras:following]), packed, size, header, name)
    if packed != size:
        raise ContainerError("stored and plain size differ", entry=name, offset=at)
    if header + layout.LOCAL.size > stop:
        raise ContainerError("header lies outside of the archive", entry=name, offset=at)
    alignment = _alignment(data, header, size)
    offset = layout.data_offset(header, name.encode("utf-8"), alignment)
    return ArchiveEntry(name, header, offset, size, crc), following


def _name(raw: bytes, flags: int, at: int) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ContainerError("an entry name is not UTF-8", offset=at) from None
    if not name.isascii() and not flags & layout.UTF8_FLAG:
        raise ContainerError("name is not marked as UTF-8", entry=name, offset=at)
    return name


def _check_kind(name: str, flags: int, method: int, made_by: int, attributes: int, at: int) -> None:
    if flags & 0x2041:
        raise ContainerError("ZIP encryption is not allowed", entry=name, offset=at)
    if flags & 0x8:
        raise ContainerError("data descriptors are not allowed", entry=name, offset=at)
    if flags & ~layout.UTF8_FLAG:
        raise ContainerError(f"flags {flags:#x} are not allowed", entry=name, offset=at)
    if method:
        raise ContainerError(
            f"compression method {method}: entries are stored; was the file zipped again? "
            "load it with mode='relaxed'",
            entry=name,
            offset=at,
        )
    if made_by == layout.MADE_BY and attributes >> 28 not in (0, 0o10):
        raise ContainerError("is not a regular file", entry=name, offset=at)


def _zip64(extra: bytes, packed: int, size: int, header: int, name: str) -> tuple[int, int, int]:
    wanted = [size == MAX32, packed == MAX32, header == MAX32]
    if not extra and not any(wanted):
        return packed, size, header
    length = 8 * sum(wanted)
    head = layout.ZIP64_ID.to_bytes(2, "little") + length.to_bytes(2, "little")
    if not length or extra[:4] != head or len(extra) != 4 + length:
        raise ContainerError("extra fields are not those of a canonical archive", entry=name)
    values = [int.from_bytes(extra[i : i + 8], "little") for i in range(4, len(extra), 8)]
    size = values.pop(0) if wanted[0] else size
    packed = values.pop(0) if wanted[1] else packed
    header = values.pop(0) if wanted[2] else header
    return packed, size, header


def _alignment(data: memoryview, header: int, size: int) -> int:
    """Alignment that a local header claims; whether that is true is checked afterwards."""
    name_size = int.from_bytes(data[header + 26 : header + 28], "little")
    at = header + layout.LOCAL.size + name_size + (layout.ZIP64_ROOM if size >= MAX32 else 0)
    value = int.from_bytes(data[at + 4 : at + 6], "little")
    if not 64 <= value <= 4096 or value & (value - 1):
        raise ContainerError("local header has no canonical alignment field", offset=header)
    return value


def _check_names(entries: list[ArchiveEntry], limits: Limits) -> None:
    for entry in entries:
        problem = path_problem(entry.name, limits)
        if problem:
            raise ContainerError(
                f"entry name {entry.name[:80]!r} {problem}", offset=entry.header_offset
            )
    clash = find_collision(entry.name for entry in entries)
    if clash:
        raise ContainerError(f"entry names {clash}")


def _check_locals(data: memoryview, entries: list[ArchiveEntry], end: int) -> int:
    if not entries:
        raise ContainerError("the archive is empty")
    first = _alignment(data, 0, entries[0].size)
    for entry in entries:
        made = layout.local_header(entry, first)
        if bytes(data[entry.header_offset : entry.offset]) != made:
            raise ContainerError(
                "local header differs from the directory, or is not in canonical form",
                entry=entry.name,
                offset=entry.header_offset,
            )
    return first
