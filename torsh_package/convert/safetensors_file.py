"""The safetensors format: 8 bytes of header length, a JSON header, the tensors.

Stricter than the library, which takes the last of duplicate keys. Source of the format:
https://github.com/huggingface/safetensors, "Format".
"""

import json
from collections.abc import Iterator, Mapping

import numpy as np

from torsh_package.errors import ConversionError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, Limits

from . import strict_json
from .arrays import Array, dense_view
from .dtypes import SAFETENSORS_DTYPES, TORCH_DTYPES, torch_name

_MAX_HEADER = 100_000_000  # the library's own limit
_NAMES = {torch: name for name, torch in SAFETENSORS_DTYPES.items()}
_METADATA = "__metadata__"


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that starts with `head` looks like one."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= size - 8


def read_safetensors(
    data: Array, *, entry: str, limits: Limits = DEFAULT_LIMITS
) -> tuple[dict[str, Array], dict[str, str]]:
    """Tensors as views over `data` (uint8 `[n]`), and the metadata.

    Raises:
        ConversionError: when the header is malformed or ambiguous, or when tensors overlap, leave
            holes, or do not have the size that dtype and shape need.
    """
    length = int.from_bytes(data[:8].tobytes(), "little")
    if data.nbytes < 8 or length > min(_MAX_HEADER, data.nbytes - 8):
        raise ConversionError(f"a header of {length} bytes is not there", entry=entry)
    raw = data[8 : 8 + length].tobytes()
    if not raw.startswith(b"{"):
        raise ConversionError("the header does not start with '{'", entry=entry)
    header = strict_json.load_object(raw, entry=entry, limits=limits)
    metadata = _text_map(header.pop(_METADATA, {}), entry)
    if len(header) > limits.tensors:
        raise LimitError(f"{len(header)} tensors; the limit is {limits.tensors}", entry=entry)
    body = data[8 + length :]
    rows = [(*_offsets(name, row, entry), name, row) for name, row in header.items()]
    end = 0
    tensors: dict[str, Array] = {}
    for start, stop, name, row in sorted(rows, key=lambda row: (row[0], row[1])):
        if start != end:
            word = "overlaps" if start < end else "leaves a hole before"
            raise ConversionError(f"tensor {name[:80]!r} at {start} {word} byte {end}", entry=entry)
        end = stop
        if end > body.nbytes:
            raise ConversionError(
                f"tensor {name[:80]!r} ends at byte {end} of {body.nbytes}", entry=entry
            )
        tensors[name] = _tensor(body[start:stop], name, row, entry)
    if end != body.nbytes:
        raise ConversionError(f"{body.nbytes - end} bytes follow the last tensor", entry=entry)
    return tensors, metadata


def _text_map(value: strict_json.JsonValue, entry: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConversionError(f"{_METADATA} is no object", entry=entry)
    found = {key: text for key, text in value.items() if isinstance(text, str)}
    if len(found) != len(value):
        raise ConversionError(f"{_METADATA} holds something that is no text", entry=entry)
    return found


def _integers(value: strict_json.JsonValue) -> list[int] | None:
    if not isinstance(value, list):
        return None
    found = [item for item in value if isinstance(item, int) and not isinstance(item, bool)]
    return found if len(found) == len(value) and all(item >= 0 for item in found) else None


def _offsets(name: str, row: strict_json.JsonValue, entry: str) -> tuple[int, int]:
    offsets = _integers(row.get("data_offsets")) if isinstance(row, dict) else None
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ConversionError(f"tensor {name[:80]!r} has malformed data_offsets", entry=entry)
    return offsets[0], offsets[1]


def _tensor(data: Array, name: str, row: strict_json.JsonValue, entry: str) -> Array:
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise ConversionError(f"tensor {name[:80]!r} has missing or unknown fields", entry=entry)
    shape, kind = _integers(row["shape"]), row["dtype"]
    if shape is None or not isinstance(kind, str) or kind not in SAFETENSORS_DTYPES:
        raise ConversionError(
            f"tensor {name[:80]!r} has a malformed shape or the unknown dtype {str(kind)[:20]!r}",
            entry=entry,
        )
    dtype = TORCH_DTYPES[SAFETENSORS_DTYPES[kind]]
    return dense_view(data, dtype, shape, entry=f"{entry}:{name[:80]}")


def write_safetensors(
    tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """Pieces of a safetensors file; tensors by falling alignment, then name, as the library.

    Raises:
        ConversionError: when safetensors has no such dtype.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        array = tensors[name]
        try:
            kind = _NAMES[torch_name(array.dtype)]
        except KeyError as error:
            raise ConversionError(
                f"tensor {name[:80]!r}: safetensors has no dtype {array.dtype}"
            ) from error
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    yield len(raw).to_bytes(8, "little") + raw
    for name in order:
        yield contiguous_bytes(tensors[name])


def contiguous_bytes(array: Array) -> memoryview:
    """The elements in row-major order, little-endian."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data
