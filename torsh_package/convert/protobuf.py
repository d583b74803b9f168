"""Reads the protobuf wire format over a mapped file: fields only, no schema, bounded depth.

Source of the format: https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Iterator

import numpy as np

from torsh_package.errors import ConversionError, LimitError

from .arrays import Array

# Honest models keep long lists as packed bytes; these bound the work and memory of hostile ones.
MAX_FIELDS = 5_000_000
MAX_INTEGERS = 16_000_000

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Message:
    """The fields of one message, in stream order.

    Args:
        data: The bytes of the message, uint8 `[n]`.
        entry: Name used in errors.
    """

    def __init__(self, data: Array, entry: str):
        self.data = data
        self._view = data.data
        self._entry = entry

    def _error(self, message: str, at: int) -> ConversionError:
        return ConversionError(f"malformed protobuf: {message}", entry=self._entry, offset=at)

    def fields(self) -> Iterator[tuple[int, int, "int | Array"]]:
        """(field number, wire type, value): integers raw, everything with a length as bytes."""
        at, size, count = 0, len(self._view), 0
        while at < size:
            count += 1
            if count > MAX_FIELDS:
                raise LimitError(f"a message of over {MAX_FIELDS} fields", entry=self._entry)
            key, at = self._varint(at)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise self._error("field number 0", at)
            if wire == VARINT:
                value, at = self._varint(at)
                yield number, wire, value
            elif wire == BYTES:
                length, at = self._varint(at)
                if length > size - at:
                    raise self._error(f"a field of {length} bytes, {size - at} are left", at)
                yield number, wire, self.data[at : at + length]
                at += length
            elif wire in (FIXED32, FIXED64):
                width = 4 if wire == FIXED32 else 8
                if width > size - at:
                    raise self._error("truncated number", at)
                yield number, wire, self.data[at : at + width]
                at += width
            else:
                raise self._error(f"wire type {wire}", at)

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= len(self._view):
                raise self._error("truncated integer", at)
            byte = self._view[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at
        raise self._error("an integer of over 10 bytes", at)

    def messages(self, number: int) -> Iterator["Message"]:
        """All sub-messages in the field `number`."""
        for found, wire, value in self.fields():
            if found == number and wire == BYTES and not isinstance(value, int):
                yield Message(value, self._entry)

    def integers(self, number: int) -> list[int]:
        """A repeated integer field, packed or not, as signed 64-bit."""
        values: list[int] = []
        for found, wire, value in self.fields():
            if found != number:
                continue
            if isinstance(value, int):
                values.append(value)
            elif wire == BYTES:
                packed, at = Message(value, self._entry), 0
                while at < value.nbytes:
                    item, at = packed._varint(at)
                    values.append(item)
                    if len(values) > MAX_INTEGERS:
                        raise LimitError(
                            f"a list of over {MAX_INTEGERS} integers; write it as raw_data",
                            entry=self._entry,
                        )
        return [value - (1 << 64) if value >= 1 << 63 else value for value in values]

    def integer(self, number: int, default: int = 0) -> int:
        """The last value of an integer field."""
        values = self.integers(number)
        return values[-1] if values else default

    def text(self, number: int) -> str:
        """The last value of a string field; empty when absent."""
        raw = self.raw(number)
        return raw.tobytes().decode("utf-8", "replace") if raw is not None else ""

    def raw(self, number: int) -> Array | None:
        """The last value of a bytes field."""
        last: Array | None = None
        for found, wire, value in self.fields():
            if found == number and wire == BYTES and not isinstance(value, int):
                last = value
        return last

    def packed(self, number: int, code: str) -> Array | None:
        """A repeated float (`f`) or double (`d`) field, packed or not."""
        width = struct.calcsize(code)
        parts: list[Array] = []
        for found, _, value in self.fields():
            if found == number and not isinstance(value, int):
                if value.nbytes % width:
                    raise self._error(f"a packed field of {value.nbytes} bytes", 0)
                parts.append(value)
        if not parts:
            return None
        return np.concatenate(parts).view(np.dtype(f"<{code}"))
