"""Tensors out of the calls that a checkpoint's pickle names.

`torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)` and its relatives are
understood by name and rebuilt here over checked bytes; torch is never imported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from torsh_package.errors import ConversionError

from .arrays import Array, strided_view
from .dtypes import STORAGE_DTYPES, TORCH_DTYPES
from .numpy_values import decode_array
from .pickle_values import (
    GlobalName,
    PersistentRef,
    PickleObject,
    PickleSequence,
    mapping_pairs,
    sequence_items,
)

_MAX_WRAPPING = 16  # Parameter of a subclass of a subclass ...


@dataclass(frozen=True)
class Storage:
    """Raw bytes of a torch storage.

    Args:
        data: uint8 `[nbytes]`, little-endian.
        dtype: Element type, or None for an untyped storage.
    """

    data: Array
    dtype: np.dtype | None


@dataclass(frozen=True)
class Decoded:
    """A tensor as the arrays that hold it.

    Args:
        parts: Name suffix to array: `""` for a dense tensor, `.scale`, `.indices`, ... else.
        skipped: Why there are no (or not all) parts, if so.
    """

    parts: dict[str, Array]
    skipped: str | None = None


LoadStorage = Callable[[object], Storage]


class TensorDecoder:
    """Recognises and rebuilds tensors.

    Args:
        load_storage: Gives the storage behind a persistent id.
        load_nested: Gives the storage inside the bytes of `torch.storage._load_from_bytes`.
        entry: Name used in errors.
    """

    def __init__(
        self,
        load_storage: LoadStorage,
        load_nested: Callable[[bytes], Storage],
        *,
        entry: str | None = None,
    ):
        self._load_storage = load_storage
        self._load_nested = load_nested
        self._entry = entry
        self._known: dict[int, Decoded] = {}
        self._alive: list[object] = []  # keeps the ids in `_known` from being reused

    def decode(self, value: object, depth: int = 0) -> Decoded | None:
        """The tensor that `value` stands for, or None when it is none.

        Raises:
            ConversionError: when it is a tensor with forged sizes, strides or storage.
        """
        if not isinstance(value, PickleObject) or not isinstance(value.callee, GlobalName):
            return None
        known = self._known.get(id(value))
        if known is not None:
            return known
        rebuild = self._REBUILDERS.get(value.callee.dotted)
        if depth > _MAX_WRAPPING:
            raise self._error(f"tensors wrapped more than {_MAX_WRAPPING} deep")
        found = rebuild(self, value.args, depth) if rebuild else self._array(value)
        if found is not None:
            self._known[id(value)] = found
            self._alive.append(value)
        return found

    def _error(self, message: str) -> ConversionError:
        return ConversionError(message, entry=self._entry)

    def _array(self, value: PickleObject) -> Decoded | None:
        array = decode_array(value, entry=self._entry)
        if array is None:
            return None
        return Decoded({}, array) if isinstance(array, str) else Decoded({"": array})

    def _arg(self, args: list[object], index: int) -> object:
        if index >= len(args):
            raise self._error(f"a tensor is made from {len(args)} arguments; {index} is missing")
        return args[index]

    def _dims(self, value: object) -> list[int]:
        if isinstance(value, PickleObject) and _is(value.callee, "torch.Size") and value.args:
            value = value.args[0]
        items = sequence_items(value)
        if items is None or not all(type(item) is int for item in items):
            raise self._error("a tensor's size or stride is no tuple of integers")
        return [item for item in items if isinstance(item, int)]

    def _storage(self, value: object) -> Storage:
        if isinstance(value, PersistentRef):
            return self._load_storage(value.pid)
        if isinstance(value, PickleObject) and _is(value.callee, "torch.storage._load_from_bytes"):
            raw = value.args[0] if value.args else None
            if isinstance(raw, bytes):
                return self._load_nested(raw)
        raise self._error("a tensor's storage is no reference to one")

    # Each rebuilder takes the arguments of the torch function of the same name.

    def _strided(self, args: list[object], dtype: np.dtype | None = None) -> Array:
        storage = self._storage(self._arg(args, 0))
        dtype = dtype or storage.dtype
        if dtype is None:
            raise self._error("a tensor over an untyped storage names no dtype")
        offset = self._arg(args, 1)
        if type(offset) is not int:
            raise self._error("a tensor's storage offset is no integer")
        size, stride = self._dims(self._arg(args, 2)), self._dims(self._arg(args, 3))
        return strided_view(storage.data, dtype, offset, size, stride, entry=self._entry)

    def _tensor(self, args: list[object], _depth: int) -> Decoded:
        return Decoded({"": _with_flags(self._strided(args), args[6:7])})

    def _tensor_v3(self, args: list[object], _depth: int) -> Decoded:
        name = self._arg(args, 6)
        dtype = TORCH_DTYPES.get(name.name) if isinstance(name, GlobalName) else None
        if dtype is None:
            label = name.dotted if isinstance(name, GlobalName) else "unknown"
            return Decoded({}, f"dtype {label} has no equivalent")
        return Decoded({"": _with_flags(self._strided(args, dtype), args[7:8])})

    def _quantized(self, args: list[object], _depth: int) -> Decoded:
        parts = {"": self._strided(args)}
        quantizer = sequence_items(self._arg(args, 4)) or []
        names = ("", ".scale", ".zero_point", ".axis")
        for suffix, value in list(zip(names, quantizer, strict=False))[1:]:
            if isinstance(value, bool | int | float):
                parts[suffix] = np.asarray(value)
            elif (tensor := self.decode(value)) is not None:
                parts[suffix] = tensor.parts[""]
        if len(parts) < 3:
            return Decoded(parts, "quantizer parameters are of an unknown kind")
        return Decoded(parts)

    def _sparse(self, args: list[object], depth: int) -> Decoded:
        layout = _layout_name(self._arg(args, 0))
        names = _SPARSE_PARTS.get(layout)
        data = sequence_items(self._arg(args, 1))
        if names is None or data is None or len(data) <= len(names):
            return Decoded({}, f"sparse layout {layout!r} is unknown")
        parts: dict[str, Array] = {}
        for name, value in zip(names, data, strict=False):
            tensor = self.decode(value, depth + 1)
            if tensor is None or "" not in tensor.parts:
                raise self._error(f"the {name} of a sparse tensor are no tensor")
            parts[f".{name}"] = tensor.parts[""]
        parts[".shape"] = np.asarray(self._dims(data[len(names)]), np.int64)
        return Decoded(parts)

    def _wrapped(self, args: list[object], depth: int) -> Decoded | None:
        return self.decode(self._arg(args, 0), depth + 1)

    def _from_type(self, args: list[object], depth: int) -> Decoded | None:
        """`_rebuild_from_type_v2(function, type, arguments, state)`: calls `function`."""
        callee, arguments = self._arg(args, 0), sequence_items(self._arg(args, 2))
        if arguments is None:
            return None
        return self.decode(PickleObject(callee, arguments, 0), depth + 1)

    def _without_data(self, _args: list[object], _depth: int) -> Decoded:
        return Decoded({}, "a meta tensor has no data")

    def _bare_storage(self, args: list[object], _depth: int) -> Decoded | None:
        raw = self._arg(args, 0)
        if not isinstance(raw, bytes):
            return None
        storage = self._load_nested(raw)
        data = storage.data if storage.dtype is None else storage.data.view(storage.dtype)
        return Decoded({"": data})

    _REBUILDERS: ClassVar[
        dict[str, Callable[["TensorDecoder", list[object], int], Decoded | None]]
    ] = {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor_v3,
        "torch._utils._rebuild_qtensor": _quantized,
        "torch._utils._rebuild_sparse_tensor": _sparse,
        "torch._utils._rebuild_sparse_csr_tensor": _sparse,
        "torch._utils._rebuild_parameter": _wrapped,
        "torch._utils._rebuild_parameter_with_state": _wrapped,
        "torch._utils._rebuild_device_tensor_from_numpy": _wrapped,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": _wrapped,
        "torch._utils._rebuild_meta_tensor_no_storage": _without_data,
        "torch._tensor._rebuild_from_type_v2": _from_type,
        "torch.storage._load_from_bytes": _bare_storage,
        "torch.nn.parameter.Parameter": _wrapped,
        "torch.nn.Parameter": _wrapped,
    }


def _is(callee: object, dotted: str) -> bool:
    return isinstance(callee, GlobalName) and callee.dotted == dotted


def _with_flags(array: Array, metadata: list[object]) -> Array:
    """Apply the lazy conjugate and negative bits that torch keeps beside the data."""
    pairs = mapping_pairs(metadata[0]) if metadata else None
    flags = {key: value for key, value in pairs or () if isinstance(key, str)}
    if flags.get("conj") is True:
        array = np.conjugate(array)
    return np.negative(array) if flags.get("neg") is True else array


def _layout_name(value: object) -> str:
    if isinstance(value, PickleObject) and value.args and isinstance(value.args[0], str):
        return value.args[0].removeprefix("torch.")
    return value.name if isinstance(value, GlobalName) else ""


_SPARSE_PARTS = {
    "sparse_coo": ("indices", "values"),
    "sparse_csr": ("crow_indices", "col_indices", "values"),
    "sparse_csc": ("ccol_indices", "row_indices", "values"),
    "sparse_bsr": ("crow_indices", "col_indices", "values"),
    "sparse_bsc": ("ccol_indices", "row_indices", "values"),
}


def storage_dtype(kind: object) -> tuple[np.dtype | None, int]:
    """(dtype or None when untyped, bytes per element) of a pickled storage class.

    Raises:
        ConversionError: when it is no storage class that is known.
    """
    name = kind.name if isinstance(kind, GlobalName) else ""
    known = isinstance(kind, GlobalName) and kind.module in ("torch", "torch.cuda", "torch.storage")
    if known and name == "UntypedStorage":
        return None, 1
    if known and name in STORAGE_DTYPES:
        dtype = TORCH_DTYPES[STORAGE_DTYPES[name]]
        return dtype, dtype.itemsize
    label = kind.dotted if isinstance(kind, GlobalName) else "a computed value"
    raise ConversionError(f"{label} is no known storage type")


def storage_fields(pid: object) -> list[object]:
    """The fields of a `("storage", type, key, location, numel, ...)` persistent id."""
    fields = pid.items if isinstance(pid, PickleSequence) else []
    tag = fields[0] if fields else None
    if tag not in ("storage", b"storage") or len(fields) < 5:
        raise ConversionError("a persistent id names no storage")
    return fields
