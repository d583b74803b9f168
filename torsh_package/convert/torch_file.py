"""Tells the files that torch writes apart by content and reads each."""

from pathlib import Path

from torsh_package.errors import ConversionError
from torsh_package.limits import DEFAULT_LIMITS, Limits

from .arrays import Array
from .checkpoint import harvest
from .contents import Contents, PackageFormat
from .foreign_zip import ForeignZip, map_file
from .pickle_danger import refuse_dangerous
from .pickle_reader import PickleReader
from .torch_archive import (
    TorchArchive,
    read_checkpoint,
    read_torch_package,
    read_torchscript,
)
from .torch_export import is_export, read_export
from .torch_legacy import LegacyStream, LegacyTar, is_legacy_stream, nested_storage
from .torch_tensors import Storage, TensorDecoder

_TAR_MAGIC = b"ustar"


def is_tar(head: bytes) -> bool:
    """Whether a file that starts with `head` (at least 263 bytes) is a POSIX or GNU tar."""
    return head[257:262] == _TAR_MAGIC


def is_pickle(data: Array) -> bool:
    """Whether the bytes begin with PROTO 2-5 and end with STOP."""
    head = data[:2].tobytes()
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def torch_zip_kind(archive: TorchArchive) -> str | None:
    """`export`, `package`, `torchscript`, `checkpoint`, or None when torch did not write it."""
    if is_export(archive):
        return "export"
    if archive.has(".data/extern_modules"):
        return "package"
    if archive.has("data.pkl"):
        return "torchscript" if archive.has("constants.pkl") else "checkpoint"
    return None


def read_torch(path: Path, *, root: str | None = None, limits: Limits = DEFAULT_LIMITS) -> Contents:
    """Read any file that torch writes.

    Args:
        path: The file.
        root: Dotted path of the model inside a checkpoint; found by well-known keys if None.
        limits: Parser limits.

    Raises:
        UnsafePickleError: when a pickle in it names something dangerous.
        ConversionError: when it is malformed, or not written by torch.
    """
    data = map_file(path)
    head = data[:512].tobytes()
    if head.startswith(b"PK\x03\x04"):
        archive = TorchArchive.over(ForeignZip(path, limits=limits), limits)
        return _read_zip(archive, root, limits)
    if is_legacy_stream(head):
        found = Contents(PackageFormat.PYTORCH, "torch.save (before 1.6)")
        found.absorb(LegacyStream(data, entry=path.name, limits=limits).harvest(root))
        return found
    if is_tar(head):
        found = Contents(PackageFormat.PYTORCH, "torch.save (tar, before 0.2)")
        found.absorb(LegacyTar(data, entry=path.name, limits=limits).harvest(root))
        return found
    if is_pickle(data):
        return _read_plain_pickle(data, path.name, root, limits)
    raise ConversionError(
        f"is no file that torch writes (it starts with {head[:8].hex(' ')})", entry=path.name
    )


def _read_zip(archive: TorchArchive, root: str | None, limits: Limits) -> Contents:
    kind = torch_zip_kind(archive)
    match kind:
        case "export":
            return read_export(archive, limits)
        case "package":
            return read_torch_package(archive, root)
        case "torchscript":
            return read_torchscript(archive, root)
        case "checkpoint":
            return read_checkpoint(archive, root)
        case _:
            raise ConversionError(
                "is a ZIP without data.pkl, .data/extern_modules or archive_format: "
                "torch did not write it",
                entry=archive.archive.name,
            )


def _read_plain_pickle(data: Array, name: str, root: str | None, limits: Limits) -> Contents:
    """A bare pickle of arrays or tensors, as `pickle.dump` writes it."""
    reader = PickleReader(data.data, entry=name, limits=limits)
    try:
        value = reader.load()
    finally:
        refuse_dangerous(reader.globals, entry=name)

    def no_storage(_: object) -> Storage:
        raise ConversionError("a bare pickle has no storages", entry=name)

    def nested(raw: bytes) -> Storage:
        return nested_storage(raw, entry=name, limits=limits)

    found = Contents(PackageFormat.PYTORCH, "pickle")
    decoder = TensorDecoder(no_storage, nested, entry=name)
    found.absorb(
        harvest(
            value,
            decoder,
            root=root,
            entry=name,
            depth=limits.pickle_depth,
            source_bytes=data.nbytes,
        )
    )
    return found
