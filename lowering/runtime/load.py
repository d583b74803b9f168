"""Compiled programs on disk: written once, loaded with numpy alone.

A program is a folder with `program.json` (its `ProgramSpec`), `0.o`, `1.o`, ... (its objects),
`host.obj` (the thread pool) and `weights.bin` (prepared weights, each at a multiple of `ALIGNMENT`,
mapped into memory when loaded).
A container that stores the same three things elsewhere gives them as `ProgramParts`.
"""

import hashlib
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lowering.runtime.abi import ALIGNMENT
from lowering.runtime.dtypes import numpy_dtype
from lowering.runtime.executable import Program
from lowering.runtime.signature import Array
from lowering.runtime.spec import ProgramSpec, WeightSpec
from lowering.runtime.views import view_at
from torsh_dialect.errors import ExecutionError

Bytes: TypeAlias = "bytes | mmap.mmap | memoryview[int]"
_SPEC, _WEIGHTS, _HOST = "program.json", "weights.bin", "host.obj"


@dataclass(frozen=True)
class ProgramParts:
    """A compiled program in memory.

    Attributes:
        spec: What it is.
        objects: Relocatable objects.
        weights: The bytes of all weights, at the offsets that `spec` says; begins at a multiple of
            `ALIGNMENT` for zero-copy use.
        host: Object of the thread pool; empty to have it made when the program is loaded.
    """

    spec: ProgramSpec
    objects: tuple[bytes, ...]
    weights: Bytes = b""
    host: bytes = b""


def save_program(
    folder: Path,
    spec: ProgramSpec,
    objects: Sequence[bytes],
    weights: Mapping[str, Array],
    host: bytes = b"",
) -> ProgramSpec:
    """Write a program into a new folder; returns `spec` with offsets and digests of the weights.

    Raises:
        OSError: The folder is there already, or cannot be written.
    """
    folder.mkdir(parents=True)
    rows: list[WeightSpec] = []
    with open(folder / _WEIGHTS, "wb") as file:
        for row in spec.weights:
            data = np.ascontiguousarray(weights[row.name]).reshape(-1).view(np.uint8)
            file.write(bytes(-file.tell() % ALIGNMENT))
            digest = hashlib.sha256(data.data).hexdigest()
            rows.append(replace(row, offset=file.tell(), digest=digest))
            file.write(data.data)
    for number, data in enumerate(objects):
        (folder / f"{number}.o").write_bytes(data)
    spec = replace(spec, weights=tuple(rows))
    (folder / _HOST).write_bytes(host)
    (folder / _SPEC).write_text(spec.to_json())
    return spec


def read_parts(folder: Path) -> ProgramParts:
    """Read a folder that `save_program` wrote; the weights are mapped, not read.

    Raises:
        ExecutionError: A file is missing or damaged.
    """
    try:
        spec = ProgramSpec.from_json((folder / _SPEC).read_bytes())
        count = len(list(folder.glob("*.o")))
        objects = tuple((folder / f"{number}.o").read_bytes() for number in range(count))
        host = (folder / _HOST).read_bytes()
        with open(folder / _WEIGHTS, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise ExecutionError(f"{folder} holds no compiled program: {error}") from error
    return ProgramParts(spec, objects, weights, host)


def load_program(
    source: Path | str | ProgramParts,
    *,
    symbols: Mapping[str, int] | None = None,
    verify: bool = False,
) -> Program:
    """Link a compiled program. Imports neither xDSL nor torch nor onnx nor llvmlite.

    Args:
        source: A folder of `save_program`, or its contents from elsewhere.
        symbols: Addresses of the host symbols that the program needs.
        verify: Read all weights now and compare their digests.

    Raises:
        ExecutionError: Something is missing or damaged, or not for this machine.
        CodegenError: The objects do not link.
    """
    parts = source if isinstance(source, ProgramParts) else read_parts(Path(source))
    weights = weight_views(parts.spec.weights, parts.weights, verify=verify)
    return Program(parts.spec, parts.objects, weights, symbols, parts.host)


def weight_views(
    specs: Sequence[WeightSpec], data: Bytes, *, verify: bool = False
) -> dict[str, Array]:
    """Weights by name as read-only views of `data`, which they keep alive.

    Raises:
        ExecutionError: A weight lies outside of `data`, or its digest does not fit.
    """
    content: Array = np.frombuffer(data, np.uint8) if len(data) else np.zeros(0, np.uint8)
    views: dict[str, Array] = {}
    for spec in specs:
        dtype, what = numpy_dtype(spec.dtype), f"weight {spec.name!r}"
        view = view_at(content, spec.offset, dtype, spec.dims, what)
        stored = content[spec.offset : spec.offset + view.nbytes]
        if verify and hashlib.sha256(stored.data).hexdigest() != spec.digest:
            raise ExecutionError(f"{what} is damaged: its digest does not fit")
        view.flags.writeable = False
        views[spec.name] = view
    return views
