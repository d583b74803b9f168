"""ZIP archives that torch writes: torch.save, TorchScript, torch.package, torch.export.

Layouts: `<root>/data.pkl` with `data/<key>` (torch.save); the same with `constants.pkl` and
`code/` (TorchScript); `<root>/.data/extern_modules` with `.data/<key>.storage` (torch.package);
`<root>/archive_format` with `data/weights/` (torch.export from 2.8, .pt2) or
`serialized_exported_program.json` (torch.export before).
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from torsh_package.errors import ConversionError
from torsh_package.limits import Limits
from torsh_package.requirement_syntax import DependencySpec

from .arrays import Array, little_endian
from .checkpoint import Harvest, Skipped, harvest
from .contents import Contents, PackageFormat
from .foreign_zip import ForeignZip
from .pickle_danger import refuse_dangerous
from .pickle_reader import PickleReader
from .torch_legacy import nested_storage
from .torch_tensors import Storage, TensorDecoder, storage_dtype, storage_fields

_KEY = re.compile(r"[A-Za-z0-9_.-]{1,200}", re.ASCII)


def archive_root(names: list[str]) -> str:
    """The folder that all entries lie in, with its slash; empty when there is none."""
    first = names[0].split("/", 1)[0] + "/" if names and "/" in names[0] else ""
    return first if first and all(name.startswith(first) for name in names) else ""


@dataclass(frozen=True)
class TorchArchive:
    """A torch ZIP archive.

    Args:
        archive: The open ZIP.
        root: Folder that all entries lie in, with its slash.
        limits: Parser limits.
    """

    archive: ForeignZip
    root: str
    limits: Limits

    @classmethod
    def over(cls, archive: ForeignZip, limits: Limits) -> "TorchArchive":
        """The archive with its root found."""
        return cls(archive, archive_root(list(archive.names())), limits)

    def has(self, name: str) -> bool:
        """Whether there is an entry `name` below the root."""
        return self.root + name in self.archive

    def text(self, name: str) -> str:
        """A short text entry, stripped."""
        raw = self.archive.read(self.root + name)
        return raw.decode("utf-8", "replace").strip()

    def relative(self) -> list[str]:
        """All names below the root."""
        return [name.removeprefix(self.root) for name in self.archive.names()]

    @property
    def byteorder(self) -> str:
        """`little` or `big`; archives from before torch 2.0 do not say and are little."""
        order = self.text("byteorder") if self.has("byteorder") else "little"
        if order not in ("little", "big"):
            raise ConversionError(f"byteorder is {order[:20]!r}", entry=self.archive.name)
        return order

    def pickle(
        self, name: str, storages: str, suffix: str = "", *, root: str | None = None
    ) -> Harvest:
        """Name the tensors of the pickle `name`, whose storage `key` is `storages + key + suffix`.

        Raises:
            UnsafePickleError: when the pickle names something dangerous.
            ConversionError: when it or a tensor is malformed.
        """
        label = f"{self.archive.name}:{self.root}{name}"
        data = self.archive.array(self.root + name)
        reader = PickleReader(data.data, entry=label, limits=self.limits)
        try:
            value = reader.load()
        finally:
            refuse_dangerous(reader.globals, entry=label)
        source = _Storages(self, storages, suffix, self.byteorder)
        decoder = TensorDecoder(source.load, source.nested, entry=label)
        return harvest(
            value,
            decoder,
            root=root,
            entry=label,
            depth=self.limits.pickle_depth,
            source_bytes=self.archive.size,
        )


class _Storages:
    """Storages of an archive, by key."""

    def __init__(self, archive: TorchArchive, prefix: str, suffix: str, byteorder: str):
        self._archive = archive
        self._prefix = archive.root + prefix
        self._suffix = suffix
        self._byteorder = byteorder
        self._known: dict[str, Array] = {}

    def load(self, pid: object) -> Storage:
        """The storage with the persistent id `("storage", type, key, location, numel)`."""
        fields = storage_fields(pid)
        dtype, itemsize = storage_dtype(fields[1])
        key = str(fields[2]) if type(fields[2]) is int else fields[2]  # torch.package: an integer
        numel = fields[4]
        label = self._archive.archive.name
        if not isinstance(key, str) or not _KEY.fullmatch(key) or ".." in key:
            raise ConversionError("a storage key is malformed", entry=label)
        if key not in self._known:
            data = self._archive.archive.array(f"{self._prefix}{key}{self._suffix}")
            if dtype is not None:
                data = little_endian(data, dtype, self._byteorder)
            elif self._byteorder == "big":
                raise ConversionError(
                    "an untyped storage of a big-endian machine cannot be converted", entry=label
                )
            self._known[key] = data
        data = self._known[key]
        if type(numel) is not int or data.nbytes != numel * itemsize:
            raise ConversionError(
                f"storage {key!r} has {data.nbytes} bytes; its tensor says {numel} elements "
                f"of {itemsize} bytes",
                entry=label,
            )
        return Storage(data, dtype)

    def nested(self, raw: bytes) -> Storage:
        """The storage inside the bytes of `torch.storage._load_from_bytes`."""
        return nested_storage(raw, entry=self._archive.archive.name, limits=self._archive.limits)


def read_checkpoint(archive: TorchArchive, root: str | None) -> Contents:
    """A `torch.save` file."""
    found = Contents(PackageFormat.PYTORCH, "torch.save (ZIP)")
    found.absorb(archive.pickle("data.pkl", "data/", root=root))
    return found


def read_torchscript(archive: TorchArchive, root: str | None) -> Contents:
    """A TorchScript file: parameters, constants, and the code as text."""
    found = Contents(PackageFormat.PYTORCH, "TorchScript")
    found.absorb(archive.pickle("data.pkl", "data/", root=root))
    if archive.has("constants.pkl"):
        constants = archive.pickle("constants.pkl", "constants/", root="")
        found.extra.update({f"constants.{name}": a for name, a in constants.weights.items()})
    for name in archive.relative():
        if name.startswith("code/") and name.endswith(".py"):
            text = archive.archive.read(archive.root + name).decode("utf-8", "replace")
            found.files[f"torchscript/{name}"] = text.encode()
        elif name.startswith("extra/"):
            found.files[f"torchscript/{name}"] = archive.archive.read(archive.root + name)
    found.notes.append("TorchScript code is kept as text; it is not run")
    return found


# Entries that describe the archive itself.
_BOOKKEEPING = ("byteorder", "version", ".data/version", ".data/serialization_id")


def read_torch_package(archive: TorchArchive, root: str | None) -> Contents:
    """A torch.package archive: pickles give tensors; sources, texts and binaries are kept."""
    found = Contents(PackageFormat.PYTORCH, "torch.package")
    names = [name for name in archive.relative() if name not in _BOOKKEEPING]
    pickles = [
        name for name in names if not name.startswith(".data/") and _is_pickle(archive, name)
    ]
    harvests = {name: archive.pickle(name, ".data/", ".storage", root=root) for name in pickles}
    with_tensors = [name for name, h in harvests.items() if h.weights]
    for name, harvested in harvests.items():
        several = len(with_tensors) > 1 and name in with_tensors
        stem = name.removesuffix(".pkl").replace("/", ".")
        found.absorb(harvested, f"{stem}." if several else "")
        found.files[f"original/{name}"] = archive.archive.read(archive.root + name)
    for name in names:
        if name.startswith(".data/") or name in harvests:
            continue
        raw = archive.archive.read(archive.root + name)
        if name.endswith(".py"):
            found.sources[name] = _source(raw, f"{archive.archive.name}:{name}")
        else:
            found.files[name] = raw
    _package_facts(archive, names, found)
    return found


def _is_pickle(archive: TorchArchive, name: str) -> bool:
    if name.endswith((".pkl", ".pickle")):
        return True
    head = archive.archive.array(archive.root + name)[:2].tobytes()
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _source(raw: bytes, label: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConversionError("a Python source is not UTF-8", entry=label) from error


def _package_facts(archive: TorchArchive, names: list[str], found: Contents) -> None:
    """Extern modules become dependencies; script modules are reported."""
    externs = archive.text(".data/extern_modules") if archive.has(".data/extern_modules") else ""
    found.dependencies += extern_dependencies(externs.split())
    if archive.has(".data/python_version"):
        found.environment["python_version"] = archive.text(".data/python_version")[:40]
    scripted = [name for name in names if name.startswith(".data/ts_code/")]
    if scripted:
        found.skipped.append(
            Skipped(scripted[0], "TorchScript module", "export it by torch.jit.save instead")
        )


# Import name -> distribution name, where they differ. Standard library modules give none.
_DISTRIBUTIONS: Mapping[str, str] = {
    "PIL": "pillow", "cv2": "opencv-python", "sklearn": "scikit-learn", "yaml": "pyyaml",
    "skimage": "scikit-image", "bs4": "beautifulsoup4", "attr": "attrs", "google": "protobuf",
}  # fmt: skip


def extern_dependencies(modules: list[str]) -> list[DependencySpec]:
    """Pip dependencies for the top-level packages of `modules`.

    They carry no versions: torch.package records none.
    """
    tops = {module.split(".", 1)[0] for module in modules}
    names = {_DISTRIBUTIONS.get(top, top) for top in tops if top not in sys.stdlib_module_names}
    return [DependencySpec(name, "", kind="pip").check() for name in sorted(names) if name]
