"""Reading ONNX files: the message, and tensors with their data inside or beside it.

External data (onnx `external_data_helper`): `location` is a path relative to the model's folder.
It must lie in that folder after links are followed, and the file must hold all bytes asked for.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from lowering.runtime.views import view_at
from torsh_dialect.attributes import Array
from torsh_dialect.dtypes import dtype_of_numpy
from torsh_dialect.errors import ImportModelError, InvalidArgumentError
from torsh_fx.importers.onnx_outline import LARGE, outline
from torsh_fx.places import MappedFile, Place, read_aligned

if TYPE_CHECKING:
    from onnx import ModelProto, SparseTensorProto, TensorProto


def read_model(source: str | Path | bytes | ModelProto) -> tuple[ModelProto, Path | None, str]:
    """The model message, the folder of its external data and a name for messages.

    Raises:
        ImportModelError: The file cannot be read, or is no whole ONNX model.
    """
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    if isinstance(source, ModelProto):
        _require_graph(source, "the model")
        return source, None, source.graph.name or "the model"
    folder, name, data = None, "the model's bytes", source
    if isinstance(data, str | Path):
        path = Path(data)
        folder, name = path.resolve().parent, str(path)
        try:
            data = _message_in(path)
        except OSError as error:
            raise ImportModelError(f"cannot read {name}: {error.strerror or error}") from error
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise ImportModelError(
            f"{name} ({len(data)} bytes) is no ONNX model, or is damaged or cut off"
        ) from error
    _require_graph(model, name)
    return model, folder, name


def _message_in(path: Path) -> bytes:
    """The message in a file, without its large tensors where it is of the usual form."""
    if path.stat().st_size < LARGE:
        return path.read_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with memoryview(mapped) as data:
            found = outline(data, path.resolve().name)
        return found or mapped[:]


def _require_graph(model: ModelProto, name: str) -> None:
    if not model.HasField("graph") or not model.opset_import:
        raise ImportModelError(
            f"{name} is no whole ONNX model: it has no graph or names no operator set"
        )
    if (damaged := _damaged_text(model)) is not None:
        raise ImportModelError(f"{name} is damaged: {damaged!r} is not UTF-8")


def _damaged_text(message: Any) -> bytes | None:
    """The first text in a message that is not UTF-8, which protobuf hands out as bytes."""
    for field, value in message.ListFields():
        single = isinstance(value, str | bytes) or not hasattr(value, "__len__")
        values: Iterable[Any] = (value,) if single else value
        if field.type == field.TYPE_STRING:
            found = next((v for v in values if isinstance(v, bytes)), None)
        elif field.type == field.TYPE_MESSAGE:
            found = next((d for v in values if (d := _damaged_text(v)) is not None), None)
        else:
            continue
        if found is not None:
            return found
    return None


class TensorReader:
    """Gives the array of a tensor: the same one for the same message, as imports are tried again.

    Args:
        folder: Where external data is looked up; None where the model is no file.
        own: The model's file: data in it is copied, that of other files is mapped.
    """

    def __init__(self, folder: Path | None, own: Path | None = None):
        self._folder, self._own = folder, own
        self._arrays: dict[int, tuple[TensorProto, Array]] = {}  # a message kept keeps its id
        self._places: dict[int, Place] = {}
        self._files: set[Path] = set()
        self._mappings: dict[Path, Array] = {}

    def __call__(self, proto: TensorProto) -> Array:
        if id(proto) not in self._arrays:
            self._arrays[id(proto)] = (proto, self._decode(proto))
        return self._arrays[id(proto)][1]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files beside the model's own that were read."""
        return tuple(sorted(self._files - {self._own} if self._own else self._files))

    def places(self, weights: Mapping[str, Array]) -> dict[str, Place]:
        """Where the arrays among `weights` lie that are parts of files."""
        found = {name: self._places.get(id(array)) for name, array in weights.items()}
        return {name: place for name, place in found.items() if place is not None}

    def _mapped(self, path: Path) -> Array:
        """The bytes of a file, in one mapping for all tensors in it."""
        if path not in self._mappings:
            self._mappings[path] = MappedFile.open(path).content
        return self._mappings[path]

    def _decode(self, proto: TensorProto) -> Array:
        from onnx import TensorProto, numpy_helper

        if min(proto.dims, default=0) < 0:
            raise ImportModelError(
                f"the tensor {proto.name!r} has negative extents {list(proto.dims)}"
            )
        try:
            if proto.data_location == TensorProto.EXTERNAL:
                array, place, packed = _external(proto, self._folder, self._own, self._mapped)
                self._files.add(place.path)
                if not packed:
                    self._places[id(array)] = place
                return array
            return np.asarray(numpy_helper.to_array(proto))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ImportModelError(
                f"the tensor {proto.name!r} with dims {list(proto.dims)} is damaged: {error}"
            ) from error


def _external(
    proto: TensorProto, folder: Path | None, own: Path | None, mapped: Callable[[Path], Array]
) -> tuple[Array, Place, bool]:
    """The array of a tensor, where its bytes lie, and whether these hold several elements each."""
    from onnx import TensorProto, helper, numpy_helper

    entries = {entry.key: entry.value for entry in proto.external_data}
    path = _confined(proto.name, entries.get("location", ""), folder)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(proto.data_type))
    dims = tuple(proto.dims)
    count = int(np.prod(dims, dtype=object)) if dims else 1
    packed = dtype_of_numpy(dtype).bits < 8 and dtype.kind != "b"
    needed = (count * dtype_of_numpy(dtype).bits + 7) // 8 if packed else count * dtype.itemsize
    offset = _number(proto.name, entries, "offset", 0)
    length = _number(proto.name, entries, "length", needed)
    if length != needed:
        raise ImportModelError(
            f"the tensor {proto.name!r} needs {needed} bytes, but its external data says {length}"
        )
    size = path.stat().st_size
    if offset + length > size:
        raise ImportModelError(
            f"the tensor {proto.name!r} lies at {offset}..{offset + length} of {path.name}, "
            f"which has {size} bytes: the file is cut off"
        )
    place = Place(path, offset)
    if count == 0:
        return np.empty(dims, dtype), place, packed
    what = f"the tensor {proto.name!r} in {path.name}"
    if path == own:
        content, offset = read_aligned(path, offset, length), 0
    else:
        content = mapped(path)
    if packed:
        raw = content[offset : offset + length].tobytes()
        whole = TensorProto(data_type=proto.data_type, dims=dims, raw_data=raw)
        return np.asarray(numpy_helper.to_array(whole)), place, True
    return view_at(content, offset, dtype, dims, what, ImportModelError), place, False


def _number(tensor: str, entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if not text.isdecimal():
        raise ImportModelError(f"the tensor {tensor!r}: {key} of its external data is {text!r}")
    return int(text)


def _confined(tensor: str, location: str, folder: Path | None) -> Path:
    """The file of external data.

    Raises:
        ImportModelError: It lies outside the model's folder, is missing, or there is no folder.
    """
    if folder is None:
        raise ImportModelError(
            f"the tensor {tensor!r} has external data at {location!r}, but the model was not "
            "read from a file; give its path"
        )
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if not location or posix.is_absolute() or windows.drive or windows.root or ".." in posix.parts:
        raise ImportModelError(
            f"the tensor {tensor!r}: external data at {location!r} is outside the model's folder"
        )
    path = folder / location
    try:
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ImportModelError(
            f"the tensor {tensor!r}: external data {location!r} cannot be read: {error}"
        ) from error
    if not real.is_relative_to(folder.resolve()) or not real.is_file():
        raise ImportModelError(
            f"the tensor {tensor!r}: external data {location!r} leads outside the model's folder"
        )
    return real


MOST_DENSE = 1 << 28
"""Most elements of a sparse tensor that is stored densely: a few bytes may ask for any number."""


def dense(proto: SparseTensorProto, load: Callable[[TensorProto], Array]) -> Array:
    """A sparse tensor as an array: zeros (or empty strings) where it has no value.

    The form is that of `SparseTensorProto` in onnx.proto: `values` [nnz], and `indices` either
    [nnz] into the flattened tensor or [nnz, rank]. Sorting is not required here.

    Raises:
        ImportModelError: An index or a shape breaks that form, or the tensor is too large.
    """
    name, dims = proto.values.name, tuple(proto.dims)
    values, indices = load(proto.values), load(proto.indices)
    count = int(np.prod(dims, dtype=object)) if dims else 1
    if min(dims, default=0) < 0 or count > MOST_DENSE:
        raise ImportModelError(
            f"the sparse tensor {name!r} with dims {list(dims)} would have {count:,} elements; "
            f"at most {MOST_DENSE:,} are stored densely"
        )
    forms = {(values.size,), (values.size, len(dims))}
    if values.ndim != 1 or indices.dtype != np.int64 or indices.shape not in forms:
        raise ImportModelError(
            f"the sparse tensor {name!r} of rank {len(dims)} is damaged: values {values.shape}, "
            f"indices {indices.dtype}{list(indices.shape)}"
        )
    limits = np.asarray([count] if indices.ndim == 1 else dims, np.int64)
    places = indices.astype(np.int64).reshape(values.size, len(limits))
    if ((places < 0) | (places >= limits)).any():
        raise ImportModelError(f"the sparse tensor {name!r} has indices outside {list(dims)}")
    found: Array = np.full(dims, "" if values.dtype.kind in "OUS" else 0, values.dtype)
    if indices.ndim == 1:
        found.reshape(-1)[places[:, 0]] = values
    else:
        found[tuple(places.T)] = values
    return found


def require_dtype(array: Array, name: str) -> None:
    """Refuse an array whose dtype the compiler does not know.

    Raises:
        ImportModelError: It does not.
    """
    try:
        dtype_of_numpy(array.dtype)
    except InvalidArgumentError as error:
        raise ImportModelError(f"the tensor {name!r}: {error.message}") from error
