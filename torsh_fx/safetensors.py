"""Reading and writing weights as safetensors files.

The format (version 0.x of huggingface/safetensors): u64 little-endian length of the header, the
header as JSON `{name: {"dtype", "shape", "data_offsets": [begin, end]}}`, then the bytes of all
tensors, row-major, without holes. Offsets count from the end of the header.

Element types that the format has no code for are stored as their bytes (`U8`); the entry
`__metadata__` then says `torsh.dtype.<name>: <dtype>`.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np

from lowering.runtime.views import byte_count, view_at
from torsh_dialect.attributes import Array
from torsh_dialect.dtypes import DTYPES, dtype_named, dtype_of_numpy
from torsh_dialect.errors import ImportModelError, InvalidArgumentError

LENGTH = struct.Struct("<Q")
MOST_HEADER_BYTES = 100_000_000
"""The format's own limit."""

ALIGNMENT = 64
"""The tensors' bytes begin at a multiple of this."""

METADATA = "__metadata__"
DTYPE_KEY = "torsh.dtype."
CODES = {
    "F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16", "I64": "i64", "I32": "i32",
    "I16": "i16", "I8": "i8", "U64": "ui64", "U32": "ui32", "U16": "ui16", "U8": "ui8",
    "BOOL": "bool", "F8_E4M3": "f8e4m3fn", "F8_E5M2": "f8e5m2", "C64": "c64",
}  # fmt: skip
_CODE_OF = {name: code for code, name in CODES.items()}
SPELLED_DTYPES = {d.name for d in DTYPES if d.kind != "string"} - set(CODES.values())
"""Element types that are stored as their bytes."""


def write_safetensors(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; the file appears whole or not at all.

    Raises:
        InvalidArgumentError: An array holds strings.
        OSError: The file cannot be written.
    """
    metadata: dict[str, str] = {"format": "torsh"}
    entries: dict[str, object] = {METADATA: metadata}
    ordered = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    offset = 0
    for name in ordered:
        dtype = dtype_of_numpy(arrays[name].dtype)
        if dtype.kind == "string":
            raise InvalidArgumentError(f"the weight {name!r} holds strings; it cannot be saved")
        shape = list(arrays[name].shape)
        code = _CODE_OF.get(dtype.name)
        if code is None:
            code, metadata[DTYPE_KEY + name] = "U8", dtype.name
            shape.append(dtype.bytes)
        size = arrays[name].size * dtype.bytes
        entries[name] = {"dtype": code, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-(LENGTH.size + len(header)) % ALIGNMENT)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(LENGTH.pack(len(header)) + header)
            for name in ordered:
                file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_safetensors(path: Path) -> dict[str, Array]:
    """The arrays of a file as read-only views of its mapped bytes.

    Raises:
        ImportModelError: The file is damaged, or not of the format.
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    if size < LENGTH.size:
        raise ImportModelError(f"{path} is no safetensors file: it has {size} bytes only")
    (length,) = LENGTH.unpack_from(data)
    start = LENGTH.size + length
    if length > MOST_HEADER_BYTES or start > size:
        raise ImportModelError(
            f"{path} is no safetensors file, or cut short: a header of {length} bytes in {size}"
        )
    header = _header(data[LENGTH.size : start], path)
    metadata = header.pop(METADATA, None)
    if metadata is not None and not isinstance(metadata, dict):
        raise ImportModelError(f"{path}: {METADATA} is no JSON object")
    dtypes = cast("dict[str, object]", metadata) if metadata else {}
    content = np.frombuffer(data, np.uint8, offset=start)
    arrays: dict[str, Array] = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(item[1])):
        view, begin, stop = _view(content, entry, dtypes.get(DTYPE_KEY + name), f"{path}: {name}")
        if begin != end:
            raise ImportModelError(f"{path}: {name} begins at byte {begin}, expected is {end}")
        arrays[name], end = view, stop
    if end != content.size:
        raise ImportModelError(f"{path}: {content.size - end} bytes belong to no tensor")
    return arrays


def _header(data: bytes, path: Path) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        header = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ImportModelError(f"{path}: the header is damaged: {error}") from None
    if not isinstance(header, dict):
        raise ImportModelError(f"{path}: the header is no JSON object")
    return cast("dict[str, object]", header)


def _offsets(entry: object) -> tuple[int, int]:
    match entry:
        case {"data_offsets": [int() as begin, int() as end]}:
            return begin, end
        case _:
            return -1, -1


def _view(content: Array, entry: object, spelled: object, what: str) -> tuple[Array, int, int]:
    row = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    code, dims, offsets = row.get("dtype"), row.get("shape"), row.get("data_offsets")
    if not (isinstance(code, str) and _are_extents(dims) and _are_extents(offsets)):
        raise ImportModelError(f"{what} has a damaged header entry")
    if len(offsets) != 2:
        raise ImportModelError(f"{what} has {len(offsets)} data offsets, not 2")
    begin, end = offsets
    if code not in CODES:
        raise ImportModelError(f"{what} has the unknown dtype {code!r}; known: {', '.join(CODES)}")
    dtype = dtype_named(CODES[code])
    if spelled is not None:
        if spelled not in SPELLED_DTYPES:
            raise ImportModelError(f"{what} has the unknown dtype {spelled!r}")
        dtype = dtype_named(str(spelled))
        if dims[-1:] != [dtype.bytes]:
            raise ImportModelError(f"{what} has {dims[-1:]} bytes an element, not {dtype.bytes}")
        dims = dims[:-1]
    count = byte_count(dtype.numpy, tuple(dims))
    if end - begin != count:
        raise ImportModelError(
            f"{what} lies at bytes {begin}..{end}, but {dtype.name}{dims} takes {count}"
        )
    view = view_at(content, begin, dtype.numpy, tuple(dims), what, ImportModelError)
    return view, begin, end


def _are_extents(value: object) -> TypeGuard[list[int]]:
    numbers = cast("list[object]", value) if isinstance(value, list) else [None]
    return all(type(n) is int and n >= 0 for n in numbers)
