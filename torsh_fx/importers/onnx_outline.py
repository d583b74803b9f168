"""An ONNX file without its large initializers, which then need to be copied once only.

Protobuf's parser copies every tensor, and `raw_data` copies it again. So large initializers of the
main graph are cut out of the message before it is parsed, and become external data that lies in
the model's own file. Wire format: https://protobuf.dev/programming-guides/encoding; field numbers:
onnx.proto, `ModelProto.graph` = 7, `GraphProto.initializer` = 5, `TensorProto.raw_data` = 9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
GRAPH, INITIALIZER = 7, 5
DIMS, DATA_TYPE, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 9, 13, 14
ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 10: 2, 11: 8, 16: 2}
"""By `TensorProto.DataType`, for those that are stored as numpy has them: FLOAT, UINT8, ..."""

LARGE = 1 << 16
"""Bytes of a tensor that is worth cutting out."""


class NotPlainError(Exception):
    """The message is not of the plain form that is outlined here; protobuf judges it."""


@dataclass(frozen=True)
class Field:
    """A field of a message: its number and type, where it begins, and where its content lies."""

    number: int
    wire: int
    begin: int
    start: int
    end: int


def outline(data: memoryview, location: str) -> bytes | None:
    """The bytes of a model whose large initializers are external data at `location`.

    Args:
        data: The whole file.
        location: What its folder calls it.

    Returns:
        A message; None where protobuf should read the file itself.
    """
    try:
        graphs = [f for f in fields(data, 0, len(data)) if f.number == GRAPH]
        if len(graphs) != 1 or graphs[0].wire != BYTES:
            return None
        (graph,) = graphs
        parts = list(_graph(data, graph, location))
    except (NotPlainError, IndexError):
        return None
    content = b"".join(parts)
    head = bytes(data[: graph.begin]) + tagged(GRAPH, BYTES) + varint(len(content))
    return b"".join([head, content, bytes(data[graph.end :])])


def _graph(data: memoryview, graph: Field, location: str) -> Iterator[bytes]:
    """The content of the graph, in pieces."""
    done = graph.start
    for field in fields(data, graph.start, graph.end):
        large = field.number == INITIALIZER and field.end - field.start >= LARGE
        tensor = _tensor(data, field, location) if large and field.wire == BYTES else None
        if tensor is not None:
            yield bytes(data[done : field.begin])
            yield tagged(INITIALIZER, BYTES) + varint(len(tensor)) + tensor
            done = field.end
    yield bytes(data[done : graph.end])


def _tensor(data: memoryview, tensor: Field, location: str) -> bytes | None:
    """A tensor whose `raw_data` became external; None where it cannot."""
    dims: list[int] = []
    kind, raw = 0, None
    rest: list[bytes] = []
    for field in fields(data, tensor.start, tensor.end):
        if field.number in (EXTERNAL_DATA, DATA_LOCATION) or (field.number == RAW_DATA and raw):
            return None
        if field.number == RAW_DATA:
            raw = field
            continue
        if field.number == DIMS:
            dims += _numbers(data, field)
        elif field.number == DATA_TYPE:
            (kind,) = _numbers(data, field)
        rest.append(bytes(data[field.begin : field.end]))
    if raw is None or kind not in ITEM_BYTES or min(dims, default=0) < 0:
        return None
    size = raw.end - raw.start
    if size != math.prod(dims) * ITEM_BYTES[kind]:
        return None
    entries = {"location": location, "offset": str(raw.start), "length": str(size)}
    for key, value in entries.items():
        rest.append(_bytes(EXTERNAL_DATA, _bytes(1, key.encode()) + _bytes(2, value.encode())))
    rest.append(tagged(DATA_LOCATION, VARINT) + varint(1))
    return b"".join(rest)


def fields(data: memoryview, start: int, end: int) -> Iterator[Field]:
    """The fields of a message.

    Raises:
        NotPlainError: They do not end where the message does, or have types of old.
    """
    place = start
    while place < end:
        begin = place
        tag, place = read_varint(data, place)
        wire = tag & 7
        first = place
        if wire == VARINT:
            _, place = read_varint(data, place)
        elif wire == BYTES:
            length, first = read_varint(data, place)
            place = first + length
        elif wire in (FIXED64, FIXED32):
            place += 8 if wire == FIXED64 else 4
        else:
            raise NotPlainError
        if place > end:
            raise NotPlainError
        yield Field(tag >> 3, wire, begin, first, place)


def _numbers(data: memoryview, field: Field) -> list[int]:
    """The numbers of a field, packed or single; negative ones stay large."""
    found: list[int] = []
    place = field.start
    while place < field.end:
        number, place = read_varint(data, place)
        found.append(number)
    if not found or max(found) >= 1 << 63:
        raise NotPlainError
    return found


def read_varint(data: memoryview, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the least significant first, and the place behind it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise NotPlainError


def varint(number: int) -> bytes:
    """The encoding that `read_varint` reads."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def tagged(number: int, wire: int) -> bytes:
    """The tag of a field."""
    return varint(number << 3 | wire)


def _bytes(number: int, content: bytes) -> bytes:
    return tagged(number, BYTES) + varint(len(content)) + content
