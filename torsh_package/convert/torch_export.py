"""torch.export archives (.pt2): weights as raw files with a JSON table, or as nested pickles."""

import numpy as np

from torsh_package.errors import ConversionError
from torsh_package.limits import Limits

from .arrays import Array, strided_view
from .checkpoint import Skipped
from .contents import Contents, PackageFormat
from .dtypes import EXPORT_DTYPES, TORCH_DTYPES
from .foreign_zip import ForeignZip
from .strict_json import JsonValue, load_object
from .torch_archive import TorchArchive

_OLD_PROGRAM = "serialized_exported_program.json"
_OLD_TENSORS = ("serialized_state_dict.pt", "serialized_state_dict.json")
_OLD_CONSTANTS = ("serialized_constants.pt", "serialized_constants.json")


def is_export(archive: TorchArchive) -> bool:
    """Whether the archive was written by `torch.export.save`."""
    return archive.has("archive_format") or archive.has(_OLD_PROGRAM)


def read_export(archive: TorchArchive, limits: Limits) -> Contents:
    """Weights, constants, and the program as JSON text.

    Raises:
        ConversionError: when the table of weights is malformed or forged.
    """
    if archive.has(_OLD_PROGRAM):
        return _read_old(archive, limits)
    found = Contents(PackageFormat.PYTORCH, "torch.export")
    for name in archive.relative():
        if name.startswith("models/") and name.endswith(".json"):
            found.files[f"export/{name}"] = archive.archive.read(archive.root + name)
            stem = name.removeprefix("models/").removesuffix(".json")
            _read_model(archive, stem, found, limits)
        elif name.startswith("data/aotinductor/"):
            found.skipped.append(Skipped(name, "native code", "compiled code is not taken over"))
        elif name.startswith("data/sample_inputs/"):
            found.skipped.append(Skipped(name, "sample inputs", "stays in the original"))
        elif name.startswith("extra/"):
            found.files[f"export/{name}"] = archive.archive.read(archive.root + name)
    return found


def _read_model(archive: TorchArchive, stem: str, found: Contents, limits: Limits) -> None:
    several = sum(1 for n in archive.relative() if n.startswith("models/")) > 1
    prefix = f"{stem}." if several else ""
    for kind, target in (("weights", found.weights), ("constants", found.extra)):
        name = f"data/{kind}/{stem}_{kind}_config.json"
        if not archive.has(name):
            continue
        raw = archive.archive.read(archive.root + name)
        table = load_object(raw, entry=name, limits=limits).get("config")
        if not isinstance(table, dict):
            raise ConversionError("has no table 'config'", entry=name)
        for tensor, row in table.items():
            array = _tensor(archive, kind, tensor, row, found)
            if array is not None:
                target[prefix + tensor] = array


def _tensor(
    archive: TorchArchive, kind: str, name: str, row: JsonValue, found: Contents
) -> Array | None:
    label = f"{archive.archive.name}:{name[:80]}"
    path = row.get("path_name") if isinstance(row, dict) else None
    meta = row.get("tensor_meta") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(path, str):
        raise ConversionError("its row in the table of weights is malformed", entry=label)
    if row.get("use_pickle") is not False or not isinstance(meta, dict):
        found.skipped.append(Skipped(name, "pickled constant", "stays in the original"))
        return None
    code = meta.get("dtype")
    dtype = EXPORT_DTYPES.get(code) if isinstance(code, int) else None
    if dtype is None:
        found.skipped.append(Skipped(name, "tensor", f"scalar type {code} has no equivalent"))
        return None
    sizes, strides = _dims(meta.get("sizes"), label), _dims(meta.get("strides"), label)
    offset = _dims([meta.get("storage_offset")], label)[0]
    data = archive.archive.array(f"{archive.root}data/{kind}/{path}")
    return strided_view(data, TORCH_DTYPES[dtype], offset, sizes, strides, entry=label)


def _dims(value: JsonValue, label: str) -> list[int]:
    """`[{"as_int": 3}, ...]` as integers; symbolic sizes of weights do not exist."""
    found: list[int] = []
    for item in value if isinstance(value, list) else [None]:
        number = item.get("as_int") if isinstance(item, dict) else None
        if not isinstance(number, int) or isinstance(number, bool):
            raise ConversionError("a size, stride or offset is no integer", entry=label)
        found.append(number)
    return found


def _read_old(archive: TorchArchive, limits: Limits) -> Contents:
    """The layout before torch 2.8: `torch.save` files inside the ZIP."""
    found = Contents(PackageFormat.PYTORCH, "torch.export (before 2.8)")
    found.files[f"export/{_OLD_PROGRAM}"] = archive.archive.read(archive.root + _OLD_PROGRAM)
    for names, target in ((_OLD_TENSORS, found.weights), (_OLD_CONSTANTS, found.extra)):
        for name in names:
            if archive.has(name) and archive.archive.size_of(archive.root + name):
                inner = np.ascontiguousarray(archive.archive.array(archive.root + name)).tobytes()
                nested = TorchArchive.over(ForeignZip(inner, limits=limits), limits)
                target.update(nested.pickle("data.pkl", "data/", root="").weights)
    return found
