"""`FormatConverter`: foreign files to packages."""

import json
import re
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

from torsh_package.errors import ConversionError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.lineage import Artifact, LineageRelation, record_origin
from torsh_package.manifest import ResourceType
from torsh_package.package import Package

from .checkpoint import Skipped
from .confined import ConfinedFolder
from .contents import Contents, PackageFormat, rename_tensors
from .detect import detect_format
from .folders import read_huggingface, read_mlflow
from .foreign_zip import ForeignZip, map_file
from .npz_file import MAGIC, read_npy, read_npz
from .onnx_file import read_onnx
from .report import ConversionReport
from .safetensors_file import read_safetensors
from .torch_file import read_torch

ENTRY_POINTS = "torsh_package.converters"
WEIGHTS = "weights"
EXTRA = "extra_tensors"
REPORT = "conversion_report.json"

ProgramConverter = Callable[[Path, Package], None]
"""Adds the program of a model; raises `ConversionError`, and adds nothing, where it cannot."""


class FormatConverter:
    """Makes packages out of foreign models. Nothing foreign is executed, imported or unpickled.

        package = FormatConverter().convert_from_pytorch("model.pt")
        package.save("model.torshpkg")

    The package holds `weights` (all tensors of the model), `extra_tensors` (optimizer states and
    the like, if any), the other entries of the original, its sources below `code/`, and
    `conversion_report.json`. The source is only read; its bytes are mapped, so leave it alone until
    the package has been saved.

    Args:
        name: Package name; made from the file name if None.
        version: Package version.
        root: Dotted path of the model inside a checkpoint; found by well-known keys if None.
        mapping: New names of tensors: whole names, or paths of modules (`rename_tensors`).
        embed_original: Whether to keep the source file as `original/...`; None keeps ONNX models.
        programs: Whether converters registered under the entry point
            `torsh_package.converters` may add a program.
        limits: Parser limits.

    Attributes:
        report: What the last conversion did.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        version: str = "1.0.0",
        root: str | None = None,
        mapping: Mapping[str, str] | None = None,
        embed_original: bool | None = None,
        programs: bool = True,
        limits: Limits = DEFAULT_LIMITS,
    ):
        self._name = name
        self._version = version
        self._root = root
        self._mapping = dict(mapping or {})
        self._embed = embed_original
        self._programs = programs
        self._limits = limits
        self.report: ConversionReport | None = None

    def convert(self, path: str | Path) -> Package:
        """Convert whatever `path` is, by its content.

        Raises:
            UnsafePickleError: when a pickle in it names something dangerous.
            ConversionError: when it is malformed or of no known format.
            LimitError: when it is over a limit.
        """
        return self._convert(Path(path), detect_format(path, limits=self._limits))

    def convert_from_pytorch(self, path: str | Path) -> Package:
        """Convert a torch.package, torch.save, TorchScript or torch.export file."""
        return self._expect(path, PackageFormat.PYTORCH)

    def convert_from_onnx(self, path: str | Path) -> Package:
        """Convert an ONNX model with its external data."""
        return self._expect(path, PackageFormat.ONNX)

    def convert_from_safetensors(self, path: str | Path) -> Package:
        """Convert a safetensors file."""
        return self._expect(path, PackageFormat.SAFETENSORS)

    def convert_from_npz(self, path: str | Path) -> Package:
        """Convert an `.npz` or `.npy` file."""
        return self._expect(path, PackageFormat.NPZ)

    def convert_from_huggingface(self, path: str | Path) -> Package:
        """Convert a Hugging Face model folder."""
        return self._expect(path, PackageFormat.HUGGINGFACE)

    def convert_from_mlflow(self, path: str | Path) -> Package:
        """Convert an MLflow model folder with a torch or ONNX flavour."""
        return self._expect(path, PackageFormat.MLFLOW)

    def _expect(self, path: str | Path, wanted: PackageFormat) -> Package:
        found = detect_format(path, limits=self._limits)
        if found is not wanted:
            raise ConversionError(
                f"holds {found}, not {wanted}; use convert() to go by content", entry=str(path)
            )
        return self._convert(Path(path), found)

    def _convert(self, path: Path, kind: PackageFormat) -> Package:
        if kind is PackageFormat.TORSH:
            raise ConversionError("is a torshpkg already; use Package.load", entry=str(path))
        contents = self._read(path, kind)
        if self._mapping:
            before = set(contents.weights)
            contents.weights = rename_tensors(contents.weights, self._mapping)
            renamed = len(set(contents.weights) - before)
            contents.notes.append(f"{renamed} tensors were renamed")
        report = ConversionReport.of(path, contents)
        report.environment["migration_tool"] = f"torsh {_own_version()}"
        report.environment["numpy_version"] = np.__version__
        package = Package(self._name or package_name(path), self._version, limits=self._limits)
        self._fill(package, contents)
        self._embed_original(package, path, contents)
        self._add_program(package, path, report)
        package.migrated_from = report.origin()
        package.add_resource(
            REPORT,
            json.dumps(report.to_json(), indent=1, sort_keys=True, ensure_ascii=False),
            ResourceType.Metadata,
            media_type="application/json",
        )
        _record_lineage(package, report)
        self.report = report
        return package

    def _read(self, path: Path, kind: PackageFormat) -> Contents:
        limits = self._limits
        match kind:
            case PackageFormat.PYTORCH:
                return read_torch(path, root=self._root, limits=limits)
            case PackageFormat.ONNX:
                return read_onnx(path, limits=limits)
            case PackageFormat.HUGGINGFACE:
                return read_huggingface(path, root=self._root, limits=limits)
            case PackageFormat.MLFLOW:
                return read_mlflow(path, root=self._root, limits=limits)
            case PackageFormat.SAFETENSORS:
                tensors, facts = read_safetensors(map_file(path), entry=path.name, limits=limits)
                return Contents(kind, "safetensors", weights=tensors, facts=dict(facts))
            case _:
                return _read_numpy(path, limits)

    def _fill(self, package: Package, contents: Contents) -> None:
        package.add_resource(WEIGHTS, contents.weights, ResourceType.ModelWeights)
        if contents.extra:
            package.add_resource(EXTRA, contents.extra, ResourceType.Data)
        for name, text in sorted(contents.sources.items()):
            package.add_source_file(name, text)
        for name, raw in sorted(contents.files.items()):
            kind = _resource_type(name)
            taken = package.has_resource(name) or name in (WEIGHTS, EXTRA, REPORT)
            package.add_resource(f"original/{name}" if taken else name, raw, kind)
        if contents.config and not package.has_resource("config"):
            text = json.dumps(contents.config, indent=1, sort_keys=True)
            package.add_resource("config", text, ResourceType.Config)
        for spec in contents.dependencies:
            package.add_dependency(spec)
        package.set_description(f"Converted from {contents.flavour}")

    def _embed_original(self, package: Package, path: Path, contents: Contents) -> None:
        wanted = contents.format is PackageFormat.ONNX if self._embed is None else self._embed
        if not wanted:
            return
        if path.is_dir():
            raise ConversionError(
                "embed_original works for single files; archive the folder yourself",
                entry=str(path),
            )
        # The mapped bytes, not the paths: what was checked is what is packed.
        files = {path.name: map_file(path)}
        folder = ConfinedFolder(path.absolute().parent, limits=self._limits)
        files |= {name: folder.map(name) for name in contents.companions}
        for name, data in files.items():
            package.add_resource(f"original/{name}", data.data, ResourceType.Binary)

    def _add_program(self, package: Package, path: Path, report: ConversionReport) -> None:
        if not self._programs:
            return
        for entry_point in metadata.entry_points(group=ENTRY_POINTS, name=str(report.format)):
            add: ProgramConverter = entry_point.load()
            try:
                add(path, package)
            except ConversionError as error:  # The weights are good without a program.
                report.notes.append(f"the package has no program: {error.message}")
                return
            report.program = entry_point.value
        if report.program is None:
            report.notes.append("the package has no program: no converter for it is installed")


def _read_numpy(path: Path, limits: Limits) -> Contents:
    data = map_file(path)
    if data[:6].tobytes() == MAGIC:
        array = read_npy(data, entry=path.name)
        if isinstance(array, str):
            skipped = [Skipped(path.name, "array", array)]
            return Contents(PackageFormat.NPZ, "npy", skipped=skipped)
        return Contents(PackageFormat.NPZ, "npy", weights={path.stem: array})
    tensors, skipped = read_npz(ForeignZip(path, limits=limits), limits)
    return Contents(PackageFormat.NPZ, "npz", weights=tensors, skipped=skipped)


def _resource_type(name: str) -> ResourceType:
    last = name.rsplit("/", 1)[-1]
    if last.endswith((".json", ".yaml", ".yml", ".toml")) or last == "MLmodel":
        return ResourceType.Config
    if last.startswith(("LICENSE", "NOTICE")):
        return ResourceType.License
    if last.endswith(".md"):
        return ResourceType.Documentation
    return ResourceType.Text if last.endswith(".txt") else ResourceType.Data


def package_name(path: Path) -> str:
    """A package name made from a file or folder name."""
    stem = path.name if path.is_dir() else path.stem
    cleaned = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-")[:100]
    return cleaned or "converted"


def _record_lineage(package: Package, report: ConversionReport) -> None:
    """What the package was made of and with which tools, as `dependencies/lineage.json`.

    It states the time of the conversion; for equal bytes set `SOURCE_DATE_EPOCH`.
    """
    # A file may have any name; the digest identifies it.
    name = report.source if report.source.isprintable() else ""
    record_origin(
        package,
        Artifact(name, f"sha256:{report.source_sha256}"),
        LineageRelation.ConvertedFrom,
        creator="torsh_package.FormatConverter",
        settings=report.environment,
        description=f"Converted from {report.flavour}",
    )


def _own_version() -> str:
    try:
        return metadata.version("torsh")
    except metadata.PackageNotFoundError:
        return "(source tree)"
