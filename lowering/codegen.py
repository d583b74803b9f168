"""Compile LLVM IR text in worker processes, in parallel, with limits, through the object cache.

The parent's side of `lowering.worker`. A crash of LLVM, a time-out or a broken memory limit is a
`CodegenError` that names the module; the caller's process is never at risk.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from lowering import worker
from lowering.cache import ObjectCache, cache_key
from lowering.runtime.abi import ABI_VERSION
from lowering.runtime.elf import check_undefined
from lowering.runtime.pool_ir import HOST_CODEGEN, HOST_IMPORTS, host_text
from lowering.runtime.threads import thread_limit
from lowering.worker_pool import WorkerLimits, WorkerPool
from torsh_dialect.errors import CodegenError
from torsh_dialect.target import TargetInfo


@dataclass(frozen=True)
class CodegenSettings:
    """How code is generated; none of these changes a byte of the result.

    Attributes:
        workers: Most processes at once; 0 takes what the container and the mask allow.
        timeout_s: Seconds one module may take.
        memory_bytes: Bytes one worker may allocate.
        idle_s: Seconds after which an idle worker exits.
        inprocess: Run LLVM in this process, for debugging (`TORSH_INPROCESS=1`): a crash kills it.
    """

    workers: int = 0
    timeout_s: float = 300.0
    memory_bytes: int = 4 << 30
    idle_s: float = 30.0
    inprocess: bool = False


@dataclass(frozen=True)
class CodegenUnit:
    """One LLVM module to compile.

    Attributes:
        name: How errors and progress call it.
        text: LLVM IR text, without triple and data layout.
        target: The machine to compile for.
        passes: Speed level 0..3 of LLVM's pass pipeline (0 for templates, 2 for generic loops).
        codegen: Level 0..3 of instruction selection.
        emit: `object`, `asm` or `llvm`.
        host_symbols: Symbols beyond memcpy, memset and memmove that the object may import.
    """

    name: str
    text: str
    target: TargetInfo
    passes: int = 0
    codegen: int = 2
    emit: str = "object"
    host_symbols: tuple[str, ...] = ()

    def request(self) -> worker.Request:
        """The request that the worker process gets."""
        return worker.Request(
            self.name,
            self.target.triple,
            self.target.cpu,
            self.target.features,
            self.passes,
            self.codegen,
            self.emit,
        )

    def key(self) -> str:
        """The name of the result in the object cache (hex digest)."""
        request = self.request()
        options = (str(request.passes), str(request.codegen), request.emit)
        target = (request.triple, request.cpu, request.features)
        return cache_key(self.text.encode(), *target, *options, f"abi{ABI_VERSION}")


def host_unit(target: TargetInfo) -> CodegenUnit:
    """The thread pool and call wrapper for a target: every program needs their object to run.

    Raises:
        UnsupportedError: There is no pool for the target.
    """
    return CodegenUnit(
        "thread pool",
        host_text(target.triple),
        replace(target, cpu="", features=""),
        codegen=HOST_CODEGEN,
        host_symbols=tuple(sorted(HOST_IMPORTS)),
    )


@cache
def shared_generator(
    settings: CodegenSettings, cache_directory: Path | None = None
) -> "CodeGenerator":
    """The process's generator for these settings, so that compilations share warm workers."""
    return CodeGenerator(settings, ObjectCache(cache_directory) if cache_directory else None)


class CodeGenerator:
    """Compiles units in a pool of worker processes that it owns. Thread-safe.

    Args:
        settings: Limits and the number of processes.
        cache: Where objects are kept between runs; None compiles every time.
    """

    def __init__(self, settings: CodegenSettings | None = None, cache: ObjectCache | None = None):
        self.settings = settings or CodegenSettings()
        self.cache = cache
        limits = WorkerLimits(
            self.settings.timeout_s, self.settings.memory_bytes, self.settings.idle_s
        )
        self._pool = WorkerPool(self.settings.workers or thread_limit().count, limits)

    def compile(
        self,
        units: Sequence[CodegenUnit],
        *,
        cancel: threading.Event | None = None,
        deadline: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[bytes]:
        """The products of `units`, in their order.

        Args:
            units: Modules; equal ones are compiled once.
            cancel: Setting it ends the compilation within 0.1 s.
            deadline: `time.monotonic()` at which the whole compilation is given up.
            progress: Called with how many units are done, and of how many.

        Raises:
            CodegenError: LLVM refused or crashed on a unit, a limit was reached, it was
                cancelled, or an object imports a symbol that is not allowed.
        """
        keys = [unit.key() for unit in units]
        products: dict[str, bytes] = {}
        missing: dict[str, CodegenUnit] = {}
        for key, unit in zip(keys, units, strict=True):
            if key in products or key in missing:
                continue
            found = self.cache.get(key) if self.cache else None
            if found is None:
                missing[key] = unit
            else:
                products[key] = found
        total = len(products) + len(missing)

        def finished(key: str, product: bytes) -> None:
            unit = missing[key]
            if unit.emit == "object":
                check_undefined(product, unit.name, unit.host_symbols)
            products[key] = product
            if self.cache:
                self.cache.put(key, product)
            if progress:
                progress(len(products), total)

        if progress:
            progress(len(products), total)
        generate = self._generate_here if self.settings.inprocess else self._generate
        generate(missing, finished, cancel, deadline)
        return [products[key] for key in keys]

    def close(self) -> None:
        """End the worker processes; a later `compile` starts new ones."""
        self._pool.close()

    def _generate(
        self,
        missing: dict[str, CodegenUnit],
        finished: Callable[[str, bytes], None],
        cancel: threading.Event | None,
        deadline: float | None,
    ) -> None:
        longest_first = sorted(missing, key=lambda key: -len(missing[key].text))
        jobs = {
            key: (
                missing[key].name,
                worker.encode_request(missing[key].request(), missing[key].text.encode()),
            )
            for key in longest_first
        }
        self._pool.run(jobs, finished, cancel or threading.Event(), deadline)

    @staticmethod
    def _generate_here(
        missing: dict[str, CodegenUnit],
        finished: Callable[[str, bytes], None],
        cancel: threading.Event | None,
        deadline: float | None,
    ) -> None:
        worker.initialize_llvm()
        for key, unit in missing.items():
            if cancel and cancel.is_set():
                raise CodegenError(f"compilation was cancelled before {unit.name!r}")
            if deadline is not None and time.monotonic() > deadline:
                raise CodegenError(f"compilation ran out of time before {unit.name!r}")
            try:
                finished(key, worker.generate(unit.request(), unit.text))
            except RuntimeError as error:
                raise CodegenError(f"LLVM refused module {unit.name!r}: {error}") from None
