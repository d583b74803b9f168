"""`encode` and `decode`: plain values and arrays as bytes, without pickle (guide B, `oxicode`).

    file   = "TORSHENC" version:u8=1 value
    value  = tag:u8 payload        integers and sizes as u64 little-endian
    0 None | 1 False | 2 True | 3 integer: size, two's complement | 4 float: f64
    5 text: size, UTF-8 | 6 bytes: size, bytes | 7 list: count, values | 8 tuple: count, values
    9 dict: count, (key text, value)* | 10 array: dtype text, rank, extents, size, row-major bytes

Decoding reads exactly what was written and refuses anything else; it makes no object but these.
"""

import struct
from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

from torsh_package.errors import CodecError, InvalidArgumentError, LimitError
from torsh_package.tensors import MAX_RANK, TensorEntry, byte_count, dtype_of, view

MAGIC = b"TORSHENC\x01"
MAX_DEPTH = 64
_U64 = struct.Struct("<Q")
_F64 = struct.Struct("<d")


@runtime_checkable
class HasState(Protocol):
    """A model: what it holds is its state dictionary."""

    def state_dict(self) -> Mapping[str, object]:
        """Parameters and buffers by name."""
        ...


def encode(value: object) -> bytes:
    """Bytes for a value.

    Args:
        value: None, bool, int, float, str, bytes, numpy array, or a list, tuple or dict (text
            keys) of such; or a model with `state_dict()`, of which the state is encoded.

    Raises:
        InvalidArgumentError: Something in it is of another type, or it is nested too deeply.
    """
    out = bytearray(MAGIC)
    _put(out, value, 0)
    return bytes(out)


def decode(data: bytes | bytearray | memoryview) -> object:
    """The value that `encode` was given; a model comes back as its state, a dict of arrays.

    Raises:
        CodecError: The bytes are damaged, truncated, or not from `encode`.
    """
    reader = _Reader(memoryview(data).cast("B"))
    if bytes(reader.take(len(MAGIC))) != MAGIC:
        raise CodecError("not encoded by torsh_package.encode (wrong magic number)")
    value = reader.value(0)
    if reader.at != len(reader.data):
        raise CodecError("bytes follow the encoded value", offset=reader.at)
    return value


def _put(out: bytearray, value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidArgumentError(f"value is nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, bool):
        out.append({None: 0, False: 1, True: 2}[value])
    elif isinstance(value, int):
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        _put_sized(out, 3, raw)
    elif isinstance(value, float):
        out.append(4)
        out += _F64.pack(value)
    elif isinstance(value, str):
        _put_sized(out, 5, _utf8(value))
    elif isinstance(value, bytes | bytearray | memoryview):
        _put_sized(out, 6, bytes(cast("bytes | bytearray", value)))
    elif isinstance(value, list | tuple):
        items = cast("list[object] | tuple[object, ...]", value)
        out.append(7 if isinstance(value, list) else 8)
        out += _U64.pack(len(items))
        for item in items:
            _put(out, item, depth + 1)
    else:
        _put_container(out, value, depth)


def _put_container(out: bytearray, value: object, depth: int) -> None:
    if isinstance(value, HasState):
        value = value.state_dict()
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        out.append(9)
        out += _U64.pack(len(items))
        for key, item in items.items():
            if not isinstance(key, str):
                raise InvalidArgumentError(f"dict key {key!r} is not text")
            raw = _utf8(key)
            out += _U64.pack(len(raw)) + raw
            _put(out, item, depth + 1)
        return
    array = _as_array(value)
    if array is None:
        raise InvalidArgumentError(
            f"a {type(value).__name__} cannot be encoded; use plain values, arrays, or a model "
            "with state_dict()"
        )
    import numpy

    dense = numpy.ascontiguousarray(array)
    name = dtype_of(dense).encode("ascii")
    shape = array.shape
    out.append(10)
    out += _U64.pack(len(name)) + name
    out += _U64.pack(len(shape)) + b"".join(_U64.pack(dim) for dim in shape)
    data = dense.astype(dense.dtype.newbyteorder("<"), copy=False).tobytes()
    out += _U64.pack(len(data)) + data


def _put_sized(out: bytearray, tag: int, raw: bytes) -> None:
    out.append(tag)
    out += _U64.pack(len(raw))
    out += raw


def _as_array(value: object) -> Any:
    """A numpy array for arrays and, by their own methods, for tensors; else None."""
    detach = getattr(value, "detach", None)
    if detach is not None:
        value = detach().cpu().numpy()
    return value if hasattr(value, "__array_interface__") else None


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgumentError("text holds a lone surrogate") from None


class _Reader:
    def __init__(self, data: memoryview):
        self.data = data
        self.at = 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise CodecError(f"truncated: {count} more bytes announced", offset=self.at)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        return _U64.unpack(self.take(8))[0]

    def text(self) -> str:
        try:
            return str(self.take(self.number()), "utf-8")
        except UnicodeDecodeError:
            raise CodecError("text is not UTF-8", offset=self.at) from None

    def value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise LimitError(f"value is nested deeper than {MAX_DEPTH}", offset=self.at)
        tag = self.take(1)[0]
        if tag <= 2:
            return (None, False, True)[tag]
        if tag == 3:
            return self.integer()
        if tag == 4:
            return _F64.unpack(self.take(8))[0]
        if tag == 5:
            return self.text()
        if tag == 6:
            return bytes(self.take(self.number()))
        if tag in (7, 8):
            items = [self.value(depth + 1) for _ in range(self.count(1))]
            return items if tag == 7 else tuple(items)
        if tag == 9:
            return self.mapping(depth)
        if tag == 10:
            return self.array()
        raise CodecError(f"unknown tag {tag}", offset=self.at - 1)

    def integer(self) -> int:
        raw = bytes(self.take(self.number()))
        value = int.from_bytes(raw, "little", signed=True)
        if len(raw) != value.bit_length() // 8 + 1:
            raise CodecError("integer is not in its shortest form", offset=self.at)
        return value

    def count(self, least: int) -> int:
        """A number of items of which each takes at least `least` bytes."""
        found = self.number()
        if found * least > len(self.data) - self.at:
            raise CodecError(f"truncated: {found} items announced", offset=self.at)
        return found

    def mapping(self, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        for _ in range(self.count(9)):
            key = self.text()
            if key in found:
                raise CodecError(f"duplicate key {key[:80]!r}", offset=self.at)
            found[key] = self.value(depth + 1)
        return found

    def array(self) -> object:
        from torsh_package.tensors import NUMPY_NAMES

        dtype = self.text()
        if dtype not in NUMPY_NAMES:
            raise CodecError(f"unknown dtype {dtype[:40]!r}", offset=self.at)
        rank = self.count(8)
        if rank > MAX_RANK:
            raise LimitError(f"array of rank {rank}, limit {MAX_RANK}", offset=self.at)
        shape = tuple(self.number() for _ in range(rank))
        size = self.number()
        if size != byte_count(dtype, shape):
            raise CodecError(f"array of shape {list(shape)} with {size} bytes", offset=self.at)
        return view(TensorEntry("", dtype, shape, 0, size), self.take(size)).copy()
