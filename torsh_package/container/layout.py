"""The bytes of a canonical archive: a ZIP (APPNOTE 6.3.10) in which nothing is left to choose.

    [local header, name, extra, data]*  central directory  [Zip64 end]  end record

Names, sizes and CRCs determine every other byte. The reader makes the structure again with these
functions and compares, so there is no second way to write the same archive.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

LOCAL = struct.Struct("<4sHHHHHIIIHH")
CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
END = struct.Struct("<4sHHHHIIH")
END64 = struct.Struct("<4sQHHIIQQQQ")
LOCATOR = struct.Struct("<4sIQI")
ALIGN_HEAD = struct.Struct("<HHH")
LOCAL_SIGNATURE, CENTRAL_SIGNATURE = b"PK\x03\x04", b"PK\x01\x02"
END_SIGNATURE, END64_SIGNATURE, LOCATOR_SIGNATURE = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"

ZIP64_ID = 0x0001
ALIGN_ID = 0xD935  # what Android's zipalign uses
VERSION, VERSION64 = 20, 45
MADE_BY = 0x0314  # Unix, 2.0
UTF8_FLAG = 0x800
TIME, DATE = 0, 0x21  # 1980-01-01 00:00
ATTRIBUTES = 0o100644 << 16
MAX32, MAX16 = 0xFFFF_FFFF, 0xFFFF
# Room for the Zip64 extra is kept in every local header, so that a header has the same length
# whatever its data turns out to be, and can be written behind data of unknown size.
ZIP64_ROOM = 20


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One entry of an archive.

    Attributes:
        name: Archive path.
        header_offset: Where its local header begins.
        offset: Where its data begins.
        size: Bytes of data.
        crc32: CRC-32 of the data.
    """

    name: str
    header_offset: int
    offset: int
    size: int
    crc32: int


def data_offset(header_offset: int, name: bytes, alignment: int) -> int:
    """Where the data of an entry begins whose local header begins at `header_offset`."""
    least = header_offset + LOCAL.size + len(name) + ZIP64_ROOM + ALIGN_HEAD.size
    return -(-least // alignment) * alignment


def local_header(entry: ArchiveEntry, alignment: int) -> bytes:
    """The local header with name and extra, up to the data."""
    name = entry.name.encode("utf-8")
    big = entry.size >= MAX32
    zip64 = struct.pack("<HHQQ", ZIP64_ID, 16, entry.size, entry.size) if big else b""
    room = entry.offset - entry.header_offset - LOCAL.size - len(name) - len(zip64)
    pad = ALIGN_HEAD.pack(ALIGN_ID, room - 4, alignment) + bytes(room - ALIGN_HEAD.size)
    extra = zip64 + pad
    size = MAX32 if big else entry.size
    flags = 0 if entry.name.isascii() else UTF8_FLAG
    version = VERSION64 if big else VERSION
    head = LOCAL.pack(
        LOCAL_SIGNATURE, version, flags, 0, TIME, DATE, entry.crc32, size, size,
        len(name), len(extra),
    )  # fmt: skip
    return head + name + extra


def central_header(entry: ArchiveEntry) -> bytes:
    """The entry's record in the central directory."""
    name = entry.name.encode("utf-8")
    fields = b""
    if entry.size >= MAX32:
        fields += struct.pack("<QQ", entry.size, entry.size)
    if entry.header_offset >= MAX32:
        fields += struct.pack("<Q", entry.header_offset)
    extra = struct.pack("<HH", ZIP64_ID, len(fields)) + fields if fields else b""
    size = min(entry.size, MAX32)
    flags = 0 if entry.name.isascii() else UTF8_FLAG
    version = VERSION64 if fields else VERSION
    head = CENTRAL.pack(
        CENTRAL_SIGNATURE, MADE_BY, version, flags, 0, TIME, DATE, entry.crc32, size, size,
        len(name), len(extra), 0, 0, 0, ATTRIBUTES, min(entry.header_offset, MAX32),
    )  # fmt: skip
    return head + name + extra


def directory(entries: Iterable[ArchiveEntry], offset: int) -> bytes:
    """Central directory and end records for entries whose data ends at `offset`."""
    records = [central_header(entry) for entry in entries]
    central = b"".join(records)
    count, size = len(records), len(central)
    end64 = b""
    if count >= MAX16 or size >= MAX32 or offset >= MAX32:
        end64 = END64.pack(
            END64_SIGNATURE, 44, MADE_BY, VERSION64, 0, 0, count, count, size, offset
        ) + LOCATOR.pack(LOCATOR_SIGNATURE, 0, offset + size, 1)
    few = min(count, MAX16)
    end = END.pack(END_SIGNATURE, 0, 0, few, few, min(size, MAX32), min(offset, MAX32), 0)
    return central + end64 + end
