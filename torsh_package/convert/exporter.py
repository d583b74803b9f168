"""Packages and models to foreign files: safetensors, npz, torch.save, torch.package."""

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torsh_package.errors import ConversionError
from torsh_package.manifest import ResourceType
from torsh_package.package import Package
from torsh_package.storage import LocalStorage

from .arrays import Array
from .npz_file import write_npz
from .safetensors_file import write_safetensors
from .torch_writer import write_checkpoint, write_torch_package

_CODE = "code/"
_SUFFIXES = {".safetensors": "safetensors", ".npz": "npz", ".pt": "torch", ".pth": "torch"}


def tensors_of(package: Package, resource: str = "weights") -> Mapping[str, Array]:
    """The tensors of a resource, as views.

    Raises:
        ResourceNotFoundError: when there is no such resource.
        ConversionError: when it has no table of tensors.
    """
    found = package.get_resource(resource)
    if found.table is None:
        raise ConversionError("has no table of tensors; convert the original anew", entry=resource)
    import ml_dtypes  # noqa: F401  # pyright: ignore  # registers bfloat16 and float8 with numpy

    return dict(found.tensors)


def export_safetensors(package: Package, path: str | Path, resource: str = "weights") -> None:
    """Write the tensors of `resource` as safetensors.

    Raises:
        ConversionError: when safetensors has no such dtype (complex128).
        StorageError: when the file cannot be written; the old one stays.
    """
    tensors = tensors_of(package, resource)
    _replace(path, write_safetensors(tensors, {"format": "pt"}))


def export_npz(package: Package, path: str | Path, resource: str = "weights") -> None:
    """Write the tensors of `resource` as npz; raises as `export_safetensors` does."""
    _replace(path, [write_npz(tensors_of(package, resource))])


def export_checkpoint(package: Package, path: str | Path, resource: str = "weights") -> None:
    """Write the tensors of `resource` as `torch.save` does; `weights_only=True` reads it."""
    _replace(path, [write_checkpoint(tensors_of(package, resource))])


def export_torch_package(package: Package, path: str | Path, resource: str = "weights") -> None:
    """Write a torch.package archive with the tensors, the Python sources and the configurations.

    Read it by `PackageImporter(path).load_pickle("weights", "weights.pkl")`.
    """
    sources = {
        r.name.removeprefix(_CODE): r.text()
        for r in package.resources()
        if r.type is ResourceType.Source and r.name.startswith(_CODE) and r.name.endswith(".py")
    }
    texts = {
        r.name if "/" in r.name else f"resources/{r.name}": bytes(r.data)
        for r in package.resources()
        if r.type in (ResourceType.Config, ResourceType.Text, ResourceType.Documentation)
    }
    tensors = tensors_of(package, resource)
    _replace(path, [write_torch_package(tensors, sources, texts, Path(path).stem)])


def export(package: Package, path: str | Path, kind: str | None = None) -> None:
    """Write `package` as `kind`: safetensors, npz, torch or torch.package.

    Raises:
        ConversionError: when `kind` is unknown, or None and the extension says nothing.
    """
    writers = {
        "safetensors": export_safetensors,
        "npz": export_npz,
        "torch": export_checkpoint,
        "torch.package": export_torch_package,
    }
    kind = kind or _SUFFIXES.get(Path(path).suffix)
    if kind not in writers:
        raise ConversionError(
            f"cannot write {kind or Path(path).suffix or 'that'}; known are {', '.join(writers)}",
            entry=str(path),
        )
    writers[kind](package, path)


class HasStateDict(Protocol):
    """A `torch.nn.Module`, or anything with `state_dict()`."""

    def state_dict(self) -> Mapping[str, Any]:
        """Tensors by name."""
        ...


def module_tensors(module: HasStateDict) -> dict[str, Array]:
    """Parameters and buffers of a torch module as arrays over its own memory where it is on CPU.

    Names are those of `state_dict()`, so running statistics are there, unlike in
    `named_parameters()`. Tied weights share memory.

    Raises:
        ConversionError: when a tensor has a dtype or layout without an equivalent.
    """
    import numpy as np

    torch: Any = importlib.import_module("torch")  # by name: type checking works without torch

    from .dtypes import TORCH_DTYPES

    found: dict[str, Array] = {}
    for name, tensor in module.state_dict().items():
        dtype = TORCH_DTYPES.get(str(tensor.dtype).removeprefix("torch."))
        if dtype is None or tensor.layout is not torch.strided:
            raise ConversionError(f"{name}: {tensor.dtype}, {tensor.layout} has no equivalent")
        dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        if dtype.kind in "biufc":
            found[name] = dense.numpy()
        else:  # bfloat16 and float8, which torch does not hand to numpy
            raw: Array = dense.reshape(-1).view(torch.uint8).numpy()
            found[name] = np.asarray(raw.view(dtype)).reshape(tuple(tensor.shape))
    return found


def export_pytorch_weights(model: HasStateDict, path: str | Path) -> None:
    """Write the weights of a torch model as `.npz`, `.safetensors`, `.pt` or `.torshpkg`.

    Raises:
        ConversionError: when the extension is none of these, or a dtype does not fit.
    """
    tensors = module_tensors(model)
    match Path(path).suffix:
        case ".npz":
            _replace(path, [write_npz(tensors)])
        case ".safetensors":
            _replace(path, write_safetensors(tensors, {"format": "pt"}))
        case ".pt" | ".pth":
            _replace(path, [write_checkpoint(tensors)])
        case ".torshpkg":
            from .converter import package_name

            package = Package(package_name(Path(path)), "1.0.0")
            package.add_resource("weights", tensors, ResourceType.ModelWeights)
            package.save(path)
        case suffix:
            raise ConversionError(
                f"cannot write {suffix or 'a file without extension'}; "
                "use .npz, .safetensors, .pt or .torshpkg",
                entry=str(path),
            )


def _replace(path: str | Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write all pieces, then put the file in place at once."""
    target = Path(path)
    with LocalStorage(target.parent).create(target.name) as blob:
        for piece in pieces:
            blob.write(piece)
