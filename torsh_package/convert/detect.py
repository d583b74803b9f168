"""Which format a file or folder has, by its content; extensions do not count."""

from pathlib import Path

from torsh_package.errors import ConversionError
from torsh_package.limits import DEFAULT_LIMITS, Limits

from .confined import ConfinedFolder
from .contents import PackageFormat
from .folders import is_huggingface
from .foreign_zip import ForeignZip, map_file
from .npz_file import MAGIC, is_npz
from .onnx_file import is_onnx
from .safetensors_file import is_safetensors
from .torch_archive import TorchArchive
from .torch_file import is_pickle, is_tar, torch_zip_kind
from .torch_legacy import is_legacy_stream


def detect_format(path: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> PackageFormat:
    """The format of `path`.

    Raises:
        ConversionError: when it is none that is known; the message says how it starts.
    """
    path = Path(path)
    if path.is_dir():
        return _detect_folder(path, limits)
    data = map_file(path)
    head = data[:512].tobytes()
    if head.startswith(b"PK\x03\x04"):
        return _detect_zip(path, limits)
    if is_legacy_stream(head) or is_tar(head) or is_pickle(data):
        return PackageFormat.PYTORCH
    if is_safetensors(head, data.nbytes):
        return PackageFormat.SAFETENSORS
    if head.startswith(MAGIC):
        return PackageFormat.NPZ
    if is_onnx(data):
        return PackageFormat.ONNX
    raise ConversionError(
        f"format not recognised (it starts with {head[:8].hex(' ') or 'nothing'}); known are "
        + ", ".join(PackageFormat),
        entry=str(path),
    )


def _detect_folder(path: Path, limits: Limits) -> PackageFormat:
    names = ConfinedFolder(path, limits=limits).names()
    if "MLmodel" in names:
        return PackageFormat.MLFLOW
    if is_huggingface(names):
        return PackageFormat.HUGGINGFACE
    raise ConversionError(
        "is a folder without MLmodel, and without config.json and weights", entry=str(path)
    )


def _detect_zip(path: Path, limits: Limits) -> PackageFormat:
    archive = ForeignZip(path, limits=limits)
    names = list(archive.names())
    if "manifest.json" in names:
        return PackageFormat.TORSH
    if is_npz(names):
        return PackageFormat.NPZ
    if torch_zip_kind(TorchArchive.over(archive, limits)) is not None:
        return PackageFormat.PYTORCH
    raise ConversionError(
        "is a ZIP of none of the known layouts (torch, npz, torshpkg)", entry=str(path)
    )
