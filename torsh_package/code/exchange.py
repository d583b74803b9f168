"""Values that cross the border of the sandbox: JSON with arrays and bytes beside it, no pickle."""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from torsh_package.errors import InvalidArgumentError, SandboxCodeError

_MAX_DEPTH = 32
_MAX_RANK = 64


@dataclass
class Blobs:
    """Raw parts of a message."""

    parts: list[bytes] = field(default_factory=list[bytes])

    def add(self, data: bytes) -> int:
        """Append; the index."""
        self.parts.append(data)
        return len(self.parts) - 1


def encode(value: object, blobs: Blobs, depth: int = 0) -> Any:
    """The JSON form of an argument.

    Raises:
        InvalidArgumentError: when `value` cannot enter the sandbox.
    """
    if depth > _MAX_DEPTH:
        raise InvalidArgumentError(f"an argument is nested deeper than {_MAX_DEPTH}")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": blobs.add(bytes(cast("bytes", value)))}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(cast("Any", value))
        if array.dtype.kind not in "biufc":
            raise InvalidArgumentError(f"an array of {array.dtype} cannot enter the sandbox")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        row = {"dtype": little.dtype.str, "code": array.dtype.char, "shape": list(array.shape)}
        return {"$array": blobs.add(little.tobytes()), **row}
    if isinstance(value, list | tuple):
        items = [encode(item, blobs, depth + 1) for item in cast("list[object]", value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value)
        if not all(isinstance(key, str) and not key.startswith("$") for key in pairs):
            raise InvalidArgumentError("a dict may have text keys that do not begin with $")
        return {str(key): encode(item, blobs, depth + 1) for key, item in pairs.items()}
    raise InvalidArgumentError(f"a {type(value).__name__} cannot enter the sandbox")


def decode(value: Any, blobs: list[bytes], depth: int = 0) -> Any:
    """The value of a result. It comes from untrusted code: everything is checked.

    Raises:
        SandboxCodeError: when it is malformed.
    """
    if depth > _MAX_DEPTH + 2:
        raise SandboxCodeError(f"the result is nested deeper than {_MAX_DEPTH}")
    if isinstance(value, list):
        return [decode(item, blobs, depth + 1) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if "$bytes" in fields:
        return _blob(fields["$bytes"], blobs)
    if "$tuple" in fields:
        return tuple(decode(fields["$tuple"], blobs, depth + 1))
    if "$array" in fields:
        return _array(fields, blobs)
    return {key: decode(item, blobs, depth + 1) for key, item in fields.items()}


def _blob(index: Any, blobs: list[bytes]) -> bytes:
    if type(index) is not int or not 0 <= index < len(blobs):
        raise SandboxCodeError("the result names a part that is not there")
    return blobs[index]


def _array(fields: dict[str, Any], blobs: list[bytes]) -> Any:
    raw, kind, shape = _blob(fields["$array"], blobs), fields.get("dtype"), fields.get("shape")
    try:
        dtype = np.dtype(str(kind)) if len(str(kind)) < 8 else None
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in "biufc" or not isinstance(shape, list):
        raise SandboxCodeError("an array in the result is malformed")
    dims = cast("list[Any]", shape)
    count = dtype.itemsize
    for dim in dims:
        if type(dim) is not int or dim < 0 or len(dims) > _MAX_RANK:
            raise SandboxCodeError("an array in the result has a malformed shape")
        count *= dim
    if count != len(raw):
        raise SandboxCodeError("an array in the result does not have the size of its shape")
    return np.frombuffer(raw, dtype).reshape(dims)
