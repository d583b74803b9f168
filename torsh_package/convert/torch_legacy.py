"""Checkpoints from before torch 1.6: the stream of pickles, and the older tar archive.

Sources of the formats: `torch/serialization.py`, `_legacy_save` and `legacy_load`.
"""

import io
import struct
import tarfile

import numpy as np

from torsh_package.errors import ConversionError
from torsh_package.limits import Limits

from .arrays import Array, strided_view
from .checkpoint import Harvest, harvest
from .pickle_danger import refuse_dangerous
from .pickle_reader import PickleReader
from .pickle_values import PersistentRef, PickleDict, sequence_items
from .torch_tensors import Decoded, Storage, TensorDecoder, storage_dtype, storage_fields

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAX_NESTING = 4


def is_legacy_stream(head: bytes) -> bool:
    """Whether a file that starts with `head` (at least 32 bytes) is a stream of pickles."""
    return bool(head) and MAGIC.to_bytes(10, "little") in head[:32] and head[0] == 0x80


class LegacyStream:
    """The stream of pickles: magic, protocol, system, value, storage keys; then raw storages.

    Args:
        data: The whole file, uint8 `[n]`.
        entry: Name used in errors.
        limits: Parser limits.
        nesting: How many files of this format are around this one.
    """

    def __init__(self, data: Array, *, entry: str, limits: Limits, nesting: int = 0):
        if nesting > _MAX_NESTING:
            raise ConversionError(
                f"storages are nested more than {_MAX_NESTING} files deep", entry=entry
            )
        self._data = data
        self._entry = entry
        self._limits = limits
        self._nesting = nesting
        reader = PickleReader(data.data, entry=entry, limits=limits)
        if reader.load() != MAGIC or reader.load() != _PROTOCOL:
            raise ConversionError("is no torch checkpoint (bad magic number)", entry=entry)
        system = reader.load()
        if isinstance(system, PickleDict) and system.get("little_endian") is False:
            # torch writes the storages little-endian everywhere; only lengths could differ.
            raise ConversionError("was written on a big-endian machine", entry=entry)
        self.value = reader.load()
        keys = sequence_items(reader.load())
        refuse_dangerous(reader.globals, entry=entry)
        if keys is None:
            raise ConversionError("has no list of storages", entry=entry)
        self._storages = _read_storages(data, reader, keys, entry)

    def decoder(self) -> TensorDecoder:
        """A decoder over this file's storages."""
        return TensorDecoder(self.storage, self.nested, entry=self._entry)

    def storage(self, pid: object) -> Storage:
        """The storage with the persistent id `("storage", type, key, location, numel, view)`."""
        fields = storage_fields(pid)
        dtype, itemsize = storage_dtype(fields[1])
        key, numel = _text(fields[2]), fields[4]
        data = self._storages.get(key)
        if data is None or type(numel) is not int or data.nbytes != numel * itemsize:
            raise ConversionError(
                f"storage {key[:40]!r} does not have the size that its tensor says",
                entry=self._entry,
            )
        view = sequence_items(fields[5]) if len(fields) > 5 else None
        if view is not None:
            data = self._view(data, view, itemsize)
        return Storage(data, dtype)

    def _view(self, data: Array, view: list[object], itemsize: int) -> Array:
        offset, count = (view[1], view[2]) if len(view) == 3 else (None, None)
        if not isinstance(offset, int) or not isinstance(count, int) or min(offset, count) < 0:
            raise ConversionError("a storage view is malformed", entry=self._entry)
        if (offset + count) * itemsize > data.nbytes:
            raise ConversionError("a storage view leaves its storage", entry=self._entry)
        return data[offset * itemsize : (offset + count) * itemsize]

    def nested(self, raw: bytes) -> Storage:
        """The storage that another file of this format, inside a pickle, holds."""
        return nested_storage(
            raw, entry=self._entry, limits=self._limits, nesting=self._nesting + 1
        )

    def harvest(self, root: str | None) -> Harvest:
        """Name the tensors of the file."""
        return harvest(
            self.value,
            self.decoder(),
            root=root,
            entry=self._entry,
            depth=self._limits.pickle_depth,
            source_bytes=self._data.nbytes,
        )


def nested_storage(raw: bytes, *, entry: str, limits: Limits, nesting: int = 1) -> Storage:
    """The storage in the bytes of `torch.storage._load_from_bytes`: a file of this format."""
    label = entry if entry.endswith("(nested)") else f"{entry} (nested)"
    stream = LegacyStream(np.frombuffer(raw, np.uint8), entry=label, limits=limits, nesting=nesting)
    if not isinstance(stream.value, PersistentRef):
        raise ConversionError("a nested storage is none", entry=label)
    return stream.storage(stream.value.pid)


def _read_storages(
    data: Array, reader: PickleReader, keys: list[object], entry: str
) -> dict[str, Array]:
    """Raw bytes by key, in the order of `keys`."""
    itemsizes: dict[str, int] = {}
    for reference in reader.persistent:
        fields = sequence_items(reference.pid) or []
        if len(fields) > 4 and fields[0] in ("storage", b"storage"):
            itemsizes[_text(fields[2])] = storage_dtype(fields[1])[1]
    found: dict[str, Array] = {}
    at = reader.position
    for raw_key in keys:
        key = _text(raw_key)
        found[key], at = _counted(data, at, itemsizes.get(key, 1), entry)
    return found


def _counted(data: Array, at: int, itemsize: int, entry: str) -> tuple[Array, int]:
    """An int64 element count and the elements after it; also the offset behind them."""
    head = data[at : at + 8].tobytes()
    count = struct.unpack("<q", head)[0] if len(head) == 8 else -1
    start, end = at + 8, at + 8 + count * itemsize
    if count < 0 or end > data.nbytes:
        raise ConversionError(
            f"a storage of {count} elements of {itemsize} bytes is not there",
            entry=entry,
            offset=at,
        )
    return data[start:end], end


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    return str(value) if isinstance(value, str | int) else ""


class LegacyTar:
    """The tar archive of torch 0.1.1 and before: entries `storages`, `tensors`, `pickle`.

    Args:
        data: The whole file, uint8 `[n]`.
        entry: Name used in errors.
        limits: Parser limits.
    """

    def __init__(self, data: Array, *, entry: str, limits: Limits):
        self._entry = entry
        self._limits = limits
        self._total = data.nbytes
        members = _tar_members(data, entry)
        missing = [name for name in ("storages", "tensors", "pickle") if name not in members]
        if missing:
            raise ConversionError(f"is a tar archive without {missing[0]!r}", entry=entry)
        self._storages = self._read_storages(members["storages"])
        self._tensors = self._read_tensors(members["tensors"])
        reader = PickleReader(members["pickle"].data, entry=entry, limits=limits)
        self.value = reader.load()
        refuse_dangerous(reader.globals, entry=entry)

    def _reader(self, data: Array) -> PickleReader:
        return PickleReader(data.data, entry=self._entry, limits=self._limits)

    def _load(self, reader: PickleReader) -> object:
        value = reader.load()
        refuse_dangerous(reader.globals, entry=self._entry)
        return value

    def _triple(self, reader: PickleReader) -> tuple[str, object, object]:
        items = sequence_items(self._load(reader))
        if items is None or len(items) != 3:
            raise ConversionError("a storage or tensor record is malformed", entry=self._entry)
        return _text(items[0]), items[1], items[2]

    def _count(self, reader: PickleReader) -> int:
        count = self._load(reader)
        if not isinstance(count, int) or not 0 <= count <= self._limits.tensors:
            raise ConversionError("a record count is malformed", entry=self._entry)
        return count

    def _read_storages(self, data: Array) -> dict[str, Storage]:
        reader = self._reader(data)
        found: dict[str, Storage] = {}
        for _ in range(self._count(reader)):
            key, _, kind = self._triple(reader)
            dtype, itemsize = storage_dtype(kind)
            raw, reader.position = _counted(data, reader.position, itemsize, self._entry)
            found[key] = Storage(raw, dtype)
        for view in sequence_items(self._load(reader)) or []:
            self._add_view(found, sequence_items(view) or [])
        return found

    def _add_view(self, found: dict[str, Storage], view: list[object]) -> None:
        """A storage `(key, root key, offset, elements)` that is part of another."""
        root = found.get(_text(view[1])) if len(view) == 4 else None
        offset, count = view[2:4] if len(view) == 4 else (None, None)
        if root is None or not isinstance(offset, int) or not isinstance(count, int):
            raise ConversionError("a storage view is malformed", entry=self._entry)
        size = root.dtype.itemsize if root.dtype is not None else 1
        start, end = offset * size, (offset + count) * size
        if min(offset, count) < 0 or end > root.data.nbytes:
            raise ConversionError("a storage view leaves its storage", entry=self._entry)
        found[_text(view[0])] = Storage(root.data[start:end], root.dtype)

    def _read_tensors(self, data: Array) -> dict[str, Array]:
        reader = self._reader(data)
        found: dict[str, Array] = {}
        for _ in range(self._count(reader)):
            key, storage_key, _ = self._triple(reader)
            storage = self._storages.get(_text(storage_key))
            if storage is None or storage.dtype is None:
                raise ConversionError("a tensor names an unknown storage", entry=self._entry)
            numbers, reader.position = _tensor_header(data, reader.position, self._entry)
            rank = len(numbers) // 2
            found[key] = strided_view(
                storage.data,
                storage.dtype,
                numbers[-1],
                numbers[:rank],
                numbers[rank : 2 * rank],
                entry=self._entry,
            )
        return found

    def harvest(self, root: str | None) -> Harvest:
        """Name the tensors of the file."""
        return harvest(
            self.value,
            _TarDecoder(self._tensors, self._entry),
            root=root,
            entry=self._entry,
            depth=self._limits.pickle_depth,
            source_bytes=self._total,
        )


class _TarDecoder(TensorDecoder):
    """Tensors are persistent ids themselves: the key in the `tensors` entry."""

    def __init__(self, tensors: dict[str, Array], entry: str):
        super().__init__(self._no_storage, self._no_storage, entry=entry)
        self._tensors = tensors

    def _no_storage(self, _: object) -> Storage:
        raise ConversionError("a tensor in a tar archive names a storage of its own")

    def decode(self, value: object, depth: int = 0) -> Decoded | None:
        if isinstance(value, PersistentRef):
            array = self._tensors.get(_text(value.pid))
            return Decoded({"": array}) if array is not None else None
        return super().decode(value, depth)


def _tensor_header(data: Array, at: int, entry: str) -> tuple[list[int], int]:
    """Sizes, strides and offset after an int32 rank and 4 unused bytes."""
    head = data[at : at + 8].tobytes()
    rank = struct.unpack_from("<i", head)[0] if len(head) == 8 else -1
    end = at + 8 + 8 * (2 * rank + 1)
    if not 0 <= rank <= 64 or end > data.nbytes:
        raise ConversionError(f"a tensor of rank {rank} is malformed", entry=entry, offset=at)
    return list(struct.unpack(f"<{2 * rank + 1}q", data[at + 8 : end].tobytes())), end


def _tar_members(data: Array, entry: str) -> dict[str, Array]:
    """Regular files of the archive; links, devices and unsafe names are left alone, unread."""
    found: dict[str, Array] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data.data), mode="r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not member.isreg() or name in found or member.sparse is not None:
                    continue
                found[name] = data[member.offset_data : member.offset_data + member.size]
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise ConversionError(f"malformed tar archive: {error}", entry=entry) from error
    return found
