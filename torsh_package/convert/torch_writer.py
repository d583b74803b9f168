"""Files that torch reads: `torch.save` archives (`weights_only=True` suffices) and torch.package.

The pickle is written opcode by opcode and names nothing but tensors and an ordered dict.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from torsh_package.errors import ConversionError

from .arrays import Array
from .dtypes import STORAGE_DTYPES, torch_name
from .safetensors_file import contiguous_bytes

_EPOCH = (1980, 1, 1, 0, 0, 0)
_ALIGNMENT = 64
_PADDING_ID = 0x4246  # "FB", as torch pads
_STORAGES = {dtype: name for name, dtype in STORAGE_DTYPES.items() if not name.startswith("Q")}
_EXTERNS = ("collections", "torch", "torch._utils", "torch.storage")


@dataclass
class _Emitter:
    """A pickle of protocol 2 in the making, and the storages it refers to."""

    integer_keys: bool
    out: bytearray = field(default_factory=lambda: bytearray(b"\x80\x02"))
    storages: list[Array] = field(default_factory=list[Array])
    known: dict[tuple[int, tuple[int, ...], str], int] = field(
        default_factory=dict[tuple[int, tuple[int, ...], str], int]
    )

    def text(self, value: str) -> None:
        raw = value.encode()
        self.out += b"X" + struct.pack("<I", len(raw)) + raw

    def integer(self, value: int) -> None:
        if -(1 << 31) <= value < 1 << 31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
            self.out += b"\x8a" + bytes([len(raw)]) + raw

    def name(self, module: str, name: str) -> None:
        self.out += f"c{module}\n{name}\n".encode()

    def integers(self, values: tuple[int, ...]) -> None:
        self.out += b"("
        for value in values:
            self.integer(value)
        self.out += b"t"

    def ordered_dict(self) -> None:
        self.name("collections", "OrderedDict")
        self.out += b")R"

    def storage_index(self, array: Array) -> int:
        """Arrays over the same memory share a storage, so that tied weights stay tied."""
        key = (array.ctypes.data, array.strides, array.dtype.str + str(array.shape))
        index = self.known.get(key) if array.size else None
        if index is None:
            index = len(self.storages)
            self.storages.append(array)
            self.known[key] = index
        return index

    def tensor(self, array: Array, label: str) -> None:
        try:
            dtype = torch_name(array.dtype)
        except KeyError as error:
            raise ConversionError(f"tensor {label[:80]!r}: torch has no {array.dtype}") from error
        typed = _STORAGES.get(dtype)
        self.name("torch._utils", "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3")
        self.out += b"(("
        self.text("storage")
        self.name("torch" if typed else "torch.storage", typed or "UntypedStorage")
        index = self.storage_index(array)
        if self.integer_keys:
            self.integer(index)
        else:
            self.text(str(index))
        self.text("cpu")
        self.integer(array.size if typed else array.nbytes)
        self.out += b"tQ"
        self.integer(0)
        self.integers(array.shape)
        self.integers(_dense(array.shape))
        self.out += b"\x89"
        self.ordered_dict()
        if not typed:
            self.name("torch", dtype)
        self.out += b"tR"


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    steps = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * max(shape[axis + 1], 1)
    return tuple(steps)


def _pickle(tensors: Mapping[str, Array], *, integer_keys: bool) -> _Emitter:
    emitter = _Emitter(integer_keys)
    emitter.ordered_dict()
    emitter.out += b"("
    for name in sorted(tensors):
        emitter.text(name)
        emitter.tensor(tensors[name], name)
    emitter.out += b"u."
    return emitter


def write_checkpoint(tensors: Mapping[str, Array], stem: str = "archive") -> bytes:
    """A file that `torch.load(path, weights_only=True)` reads as an ordered dict of tensors.

    Raises:
        ConversionError: when torch has no such dtype.
    """
    emitter = _pickle(tensors, integer_keys=False)
    entries = {"data.pkl": bytes(emitter.out), "byteorder": b"little", "version": b"3\n"}
    storages = {f"data/{index}": a for index, a in enumerate(emitter.storages)}
    return _archive(stem, entries, storages)


def write_torch_package(
    tensors: Mapping[str, Array],
    sources: Mapping[str, str],
    texts: Mapping[str, bytes],
    stem: str = "archive",
) -> bytes:
    """A torch.package archive: `PackageImporter(path).load_pickle("weights", "weights.pkl")`.

    Args:
        tensors: Tensors by name.
        sources: Python sources by path (`pkg/module.py`).
        texts: Further entries by path (`package/name`).
        stem: Folder inside the archive.

    Raises:
        ConversionError: when torch has no such dtype.
    """
    emitter = _pickle(tensors, integer_keys=True)
    entries = {
        "weights/weights.pkl": bytes(emitter.out),
        **{path: text.encode() for path, text in sources.items()},
        **texts,
        ".data/extern_modules": ("\n".join(_EXTERNS) + "\n").encode(),
        ".data/version": b"6\n",
        "byteorder": b"little",
    }
    storages = {f".data/{index}.storage": a for index, a in enumerate(emitter.storages)}
    return _archive(stem, entries, storages)


def _archive(stem: str, entries: Mapping[str, bytes], storages: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"{stem}/{name}", _EPOCH), data)
        for name, array in storages.items():
            info = zipfile.ZipInfo(f"{stem}/{name}", _EPOCH)
            start = buffer.tell() + 30 + len(info.filename.encode()) + 4
            padding = -start % _ALIGNMENT
            info.extra = struct.pack("<HH", _PADDING_ID, padding) + b"\0" * padding
            archive.writestr(info, contiguous_bytes(array))
    return buffer.getvalue()
