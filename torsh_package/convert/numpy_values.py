"""numpy arrays out of the calls that a pickle names."""

import re

import numpy as np

from torsh_package.errors import ConversionError

from .arrays import Array, dense_view, element_count
from .pickle_values import GlobalName, PickleObject, sequence_items

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
_DTYPE = re.compile(r"[<>=|]?[biufc][0-9]{1,2}|bool|u?int(?:8|16|32|64)|float(?:16|32|64)")


def decode_array(value: PickleObject, *, entry: str | None) -> Array | str | None:
    """The array that `value` rebuilds, why it can't be had, or None when it is no array.

    Raises:
        ConversionError: when its shape does not fit its bytes.
    """
    callee = value.callee
    if not isinstance(callee, GlobalName):
        return None
    if callee.name == "_reconstruct" and callee.module in _MODULES:
        return _from_state(value, entry)
    if callee.name == "_frombuffer" and callee.module.startswith("numpy"):
        return _from_buffer(value.args, entry)
    return None


def _from_state(value: PickleObject, entry: str | None) -> Array | str:
    """`ndarray.__setstate__((version, shape, dtype, is_fortran, data))`."""
    state = sequence_items(value.state)
    if state is None or len(state) != 5:
        raise ConversionError("a numpy array has no state", entry=entry)
    _, shape, dtype, fortran, data = state
    return _build(shape, dtype, "F" if fortran is True else "C", data, entry)


def _from_buffer(args: list[object], entry: str | None) -> Array | str:
    """`_frombuffer(buffer, dtype, shape, order)` of protocol 5."""
    if len(args) != 4:
        raise ConversionError("a numpy array from a buffer needs 4 arguments", entry=entry)
    data, dtype, shape, order = args
    return _build(shape, dtype, "F" if order == "F" else "C", data, entry)


def _build(
    shape: object, dtype: object, order: str, data: object, entry: str | None
) -> Array | str:
    found = decode_dtype(dtype)
    if found is None:
        return "a numpy array of objects, strings or records"
    raw = raw_bytes(data)
    dims = sequence_items(shape)
    if raw is None or dims is None or not all(type(dim) is int for dim in dims):
        raise ConversionError("a numpy array's shape or data is malformed", entry=entry)
    sizes = [dim for dim in dims if isinstance(dim, int)]
    element_count(sizes, entry=entry)
    stored = sizes[::-1] if order == "F" else sizes
    array = dense_view(np.frombuffer(raw, np.uint8), found, stored, entry=entry)
    array = array.T if order == "F" else array
    return array.astype(found.newbyteorder("<"), copy=False)


def decode_dtype(value: object) -> np.dtype | None:
    """The plain numeric dtype of a pickled `numpy.dtype(...)`, or None."""
    if not isinstance(value, PickleObject) or not isinstance(value.callee, GlobalName):
        return None
    name = value.args[0] if value.args else None
    if value.callee != GlobalName("numpy", "dtype") or not isinstance(name, str):
        return None
    if not _DTYPE.fullmatch(name):
        return None
    state = sequence_items(value.state)
    order = state[1] if state is not None and len(state) > 1 else None
    try:
        found = np.dtype(name)
    except TypeError:
        return None
    return found.newbyteorder(">") if order == ">" else found.newbyteorder("<")


def raw_bytes(value: object) -> bytes | None:
    """Bytes as any protocol writes them (below 3 as latin-1 text with `_codecs.encode`)."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):  # a Python 2 str that happened to be ASCII
        return value.encode("ascii") if value.isascii() else None
    if isinstance(value, PickleObject) and value.callee == GlobalName("_codecs", "encode"):
        text = value.args[0] if value.args else None
        if isinstance(text, str) and value.args[1:] == ["latin1"]:
            try:
                return text.encode("latin1")
            except UnicodeEncodeError:
                return None
    if isinstance(value, PickleObject) and value.callee in _EMPTY_BYTES and not value.args:
        return b""
    return None


_EMPTY_BYTES = (GlobalName("builtins", "bytes"), GlobalName("__builtin__", "bytes"))
