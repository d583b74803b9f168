"""Whole programs that were compiled from files, kept so that they load without the compiler.

An entry of the object cache (`lowering.cache`) holds, as JSON and a block of arrays: the
specification of the program and of what prepares its weights, the keys of their objects, how the
model is called, and where in the model's files its weights lie. Its key is made of the model
file's bytes, everything else that a compilation depends on, and the compiler's own files; other
files that were read are compared by digest. So an entry is used exactly where compiling again
would give the same program. What cannot be described this way is not kept, and compiled each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowering.cache import ObjectCache, default_directory, llvm_version
from lowering.runtime.abi import ALIGNMENT
from lowering.runtime.dtypes import numpy_dtype
from lowering.runtime.executable import Executable
from lowering.runtime.spec import ProgramSpec
from lowering.runtime.views import byte_count, view_at
from torsh_dialect.errors import ImportModelError
from torsh_fx.compiled import Compilation, CompiledModule, CompileReport, Origin, first_state
from torsh_fx.interface import Interface, State
from torsh_fx.linking import Code, Parts
from torsh_fx.places import MappedFile, Place, read_aligned

if TYPE_CHECKING:
    from lowering.runtime.executable import RunOptions
    from lowering.runtime.signature import Array
    from torsh_dialect.settings import Settings
    from torsh_dialect.target import TargetInfo
    from torsh_fx.importers.model import ImportedModel

MOST_BYTES = 32 << 20
"""Most bytes of arrays that an entry holds itself."""

LENGTH_BYTES = 8
LIBRARIES = ("xdsl", "onnx")
"""What an import depends on beside the compiler's own files."""

PACKAGES = ("torsh_dialect", "lowering", "torsh_fx")


@cache
def compiler_state() -> str:
    """What tells this compiler from any other: versions, and its files as they are now."""
    root = Path(__file__).parent.parent
    found: list[object] = [sys.version, np.__version__, llvm_version()]
    for name in LIBRARIES:
        spec = find_spec(name)
        found.append(spec and spec.origin and os.stat(spec.origin).st_mtime_ns)
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            status = file.stat()
            found.append((str(file.relative_to(root)), status.st_size, status.st_mtime_ns))
    return repr(found)


def is_extended() -> bool:
    """Whether the process has ops or converters that are not the compiler's own."""
    declared = sys.modules.get("torsh_dialect.declare")
    known = sys.modules.get("torsh_fx.importers.onnx_ops.node")
    ops = declared.OPS if declared else ()
    converters = known.CONVERTERS.values() if known else ()
    names = (getattr(one, "__module__", "") for one in (*ops, *converters))
    return any(name.partition(".")[0] not in PACKAGES for name in names)


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def slot_of(model: Any, target: TargetInfo, settings: Settings, dynamic_shapes: Any) -> Slot | None:
    """Where the program of a model is kept; None where it is not.

    Kept are programs of ONNX and MLIR files, compiled without debugging options and extensions.
    """
    if not isinstance(model, str | Path) or Path(model).suffix not in (".onnx", ".mlir"):
        return None
    if settings.verify_each or settings.dump_dir or settings.in_process or is_extended():
        return None
    path = Path(model)
    try:
        content = digest_of_file(path)
    except OSError:
        return None  # the importer says what is wrong
    disabled = sorted(settings.disabled_rewrites)  # a set has no order
    options = (asdict(settings) | {"disabled_rewrites": disabled}, dynamic_shapes)
    parts = (compiler_state(), path.suffix, content, repr(target), repr(options))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return Slot(path, content, key, target, settings, dynamic_shapes)


@dataclass(frozen=True)
class Slot:
    """Where the program of a file is kept.

    Attributes:
        path: The model.
        content: Digest of the model's bytes.
        key: Name of the entry.
        target: What it is compiled for.
        settings: How.
        dynamic_shapes: As `compile` takes it.
    """

    path: Path
    content: str
    key: str
    target: TargetInfo
    settings: Settings
    dynamic_shapes: Any

    def load(self, options: RunOptions) -> CompiledModule | None:
        """The compiled model, if the cache has all of it."""
        start, objects = time.perf_counter(), _objects()
        data = objects.get(self.key)
        if data is None:
            return None
        head, arrays = _decoded(data)
        folder = self.path.resolve().parent
        if any(not _is_same(folder / name, digest) for name, digest in head["files"].items()):
            return None
        found = {key: objects.get(key) for key in _keys(head)}
        code = {key: one for key, one in found.items() if one is not None}
        if len(code) < len(found):
            return None
        prepare = head["prepare"]
        parts = Parts(
            _code(head["main"], arrays, code),
            None if prepare is None else _code(prepare, arrays, code),
            code[head["host"]],
        )
        raw = self._weights(head["weights"], arrays)
        linked = parts.link(raw)
        interface = _interface(head["interface"])
        report = CompileReport(*head["report"], seconds={"load": time.perf_counter() - start})
        return CompiledModule(
            interface,
            Executable(linked.program, options=options),
            first_state(interface, raw),
            linked.use,
            Origin(report, self.target, self._compile, self.path),
        )

    def keep(
        self,
        parts: Parts,
        keys: Sequence[Sequence[str]],
        imported: ImportedModel,
        report: CompileReport,
    ) -> None:
        """Keep a program, where an entry can describe it.

        Args:
            parts: The program.
            keys: Keys in the object cache: of the thread pool, of `main`, and of `prepare`.
            imported: The model.
            report: Its counts are kept.
        """
        writer = _Writer()
        names = [*parts.raw_names, *(state.weight for state in imported.state)]
        folder = self.path.resolve().parent
        try:
            files = {
                str(file.resolve().relative_to(folder)): digest_of_file(file)
                for file in imported.files
            }
            head = {
                "files": files,
                "interface": asdict(imported.interface),
                "report": (
                    report.source_nodes, report.ops_before, report.ops_after, report.kernels
                ),
                "host": keys[0][0],
                "main": writer.code(parts.main, keys[1]),
                "prepare": writer.code(parts.prepare, keys[2]) if parts.prepare else None,
                "weights": {
                    name: writer.weight(imported.weights[name], imported.places.get(name), folder)
                    for name in dict.fromkeys(names)
                },
            }  # fmt: skip
            if writer.size <= MOST_BYTES and digest_of_file(self.path) == self.content:
                _objects().put(self.key, writer.encoded(head))
        except (OSError, ValueError):
            return  # a file went away or lies elsewhere: compiled each time

    def _weights(self, rows: Mapping[str, Any], arrays: Callable[[Any], Array]) -> dict[str, Array]:
        """The model's own weights, out of its files: the model's own file is copied from."""
        own = self.path.resolve()
        mapped: dict[str, MappedFile] = {}
        found: dict[str, Array] = {}
        for name, row in rows.items():
            if "at" in row:
                found[name] = arrays(row)
                continue
            file, dims = row["file"], tuple(row["dims"])
            if own.parent / file == own:
                kind = numpy_dtype(row["dtype"])
                content = read_aligned(own, row["offset"], byte_count(kind, dims))
                found[name] = view_at(content, 0, kind, dims, f"weight {name!r}")
                continue
            if file not in mapped:
                mapped[file] = MappedFile.open(own.parent / file)
            found[name] = mapped[file].view(row["offset"], row["dtype"], dims)
        return found

    def _compile(self) -> Compilation:
        """Import and optimise again, for those who want to look at the program."""
        from torsh_dialect.context import Context
        from torsh_fx.pipeline import optimise
        from torsh_fx.sources import import_model

        if not _is_same(self.path, self.content):
            raise ImportModelError(f"{self.path} is not what it was when it was loaded")
        ctx = Context(target=self.target, settings=self.settings)
        imported = import_model(self.path, ctx, None, self.dynamic_shapes)
        optimised = imported.module.clone()
        optimise(optimised, ctx)
        return Compilation(imported, optimised)


class _Writer:
    """Describes programs and weights, and collects the arrays that an entry holds itself."""

    def __init__(self) -> None:
        self.size = 0
        self._blocks: list[bytes] = []

    def code(self, code: Code, keys: Sequence[str]) -> dict[str, Any]:
        constants = {name: self.array(array) for name, array in code.constants.items()}
        return {"spec": code.spec.to_json(), "objects": [*keys], "constants": constants}

    def weight(self, array: Array, place: Place | None, folder: Path) -> dict[str, Any]:
        if place is None:
            return self.array(array)
        row = _type(array)
        file = str(place.path.resolve().relative_to(folder))
        return {**row, "file": file, "offset": place.offset}

    def array(self, array: Array) -> dict[str, Any]:
        row = {**_type(array), "at": self.size}
        self.size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        if self.size <= MOST_BYTES:
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).tobytes()
            self._blocks.append(data + bytes(-len(data) % ALIGNMENT))
        return row

    def encoded(self, head: Mapping[str, Any]) -> bytes:
        text = json.dumps(head).encode()
        return b"".join([len(text).to_bytes(LENGTH_BYTES, "little"), text, *self._blocks])


def _decoded(data: bytes) -> tuple[Any, Callable[[Any], Array]]:
    """The description in an entry, and a function that gives the arrays that it holds."""
    start = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    content: Array = np.frombuffer(data, np.uint8)[start:]

    def array(row: Any) -> Array:
        kind = numpy_dtype(row["dtype"])
        return view_at(content, row["at"], kind, tuple(row["dims"]), "an array of a cache entry")

    return json.loads(data[LENGTH_BYTES:start]), array


def _type(array: Array) -> dict[str, Any]:
    from torsh_dialect.dtypes import dtype_of_numpy

    return {"dtype": dtype_of_numpy(array.dtype).name, "dims": list(array.shape)}


def _keys(head: Any) -> list[str]:
    codes = [head["main"], *([head["prepare"]] if head["prepare"] else ())]
    return [head["host"], *(key for code in codes for key in code["objects"])]


def _code(row: Any, arrays: Callable[[Any], Array], objects: Mapping[str, bytes]) -> Code:
    constants = {name: arrays(one) for name, one in row["constants"].items()}
    spec = ProgramSpec.from_json(row["spec"])
    return Code(spec, [objects[key] for key in row["objects"]], constants)


def _interface(row: Any) -> Interface:
    return Interface(
        tuple(row["inputs"]),
        tuple(row["outputs"]),
        tuple(State(**state) for state in row["state"]),
        tuple((source, output) for source, output in row["written"]),
    )


def _objects() -> ObjectCache:
    return ObjectCache(default_directory(os.environ))


def _is_same(path: Path, digest: str) -> bool:
    try:
        return digest_of_file(path) == digest
    except OSError:
        return False
