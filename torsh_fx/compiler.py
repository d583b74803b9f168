"""`torsh_fx.compile`: from a model to a callable, in one function.

Nothing here loads the compiler before it is needed: a file that was compiled before is linked
without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lowering.cpu.host import host_target
from lowering.runtime.executable import RunOptions
from lowering.runtime.threads import thread_limit
from torsh_dialect.settings import Settings, environment_settings
from torsh_dialect.target import TargetInfo, target_named
from torsh_fx.program_cache import slot_of
from torsh_fx.random import checked_stream

if TYPE_CHECKING:
    from lowering.codegen import CodeGenerator
    from torsh_fx.compiled import CompiledModule


@dataclass
class Stopwatch:
    """Wall time of named steps, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def step(self, name: str):
        """Add the time of the `with` body to step `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def generator(in_process: bool, cached: bool) -> CodeGenerator:
    """The process's code generator (worker processes are shared by all compilations)."""
    from lowering.cache import default_directory
    from lowering.codegen import CodegenSettings, shared_generator

    directory = default_directory(os.environ) if cached else None
    return shared_generator(CodegenSettings(inprocess=in_process), directory)


def compile(
    model: Any,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: str | TargetInfo | None = None,
    dynamic_shapes: Any = None,
    settings: Settings | None = None,
    random: str | None = None,
    threads: int | None = None,
    flush_denormals: bool = False,
    cache: bool = True,
) -> CompiledModule:
    """Compile a model to native code.

    Args:
        model: An `nn.Module`, `ExportedProgram`, `GraphModule`, `onnx.ModelProto`, `FxGraph`, or
            the path of an ONNX, MLIR or `torch.export.save` (`.pt2`) file.
        example_inputs: Inputs that an `nn.Module` or `GraphModule` is traced with, and that give
            inputs of an `FxGraph` without a type theirs.
        target: Name or description of the CPU; this machine's by default.
        dynamic_shapes: For torch: as `torch.export.export` takes it. For ONNX: extents or bounds
            by symbol name, e.g. `{"batch": (1, 64)}` or `{"batch": 1}`.
        settings: Numerics and debugging options; by default what the environment variables
            `TORSH_DUMP`, `TORSH_VERIFY_EACH` and `TORSH_INPROCESS` say.
        random: The stream that random ops draw from, instead of what `settings` say: `philox`, or
            `mt19937` for the numbers that eager torch draws on the CPU. `seed` of the result
            starts it again.
        threads: Most threads of a call; container, affinity mask and `OMP_NUM_THREADS` and
            `TORSH_NUM_THREADS` limit it further.
        flush_denormals: Treat denormal numbers as zero during calls.
        cache: Keep compiled programs of files, and compiled objects, in the user's cache folder.
            What is there of this compiler and for the same bytes is not compiled again.

    Returns:
        The compiled model.

    Raises:
        UnsupportedError: The model has ops that the compiler does not know; lists all of them.
        ImportModelError: The model cannot be read.
        CodegenError: Code generation failed or was cancelled.
        InvalidArgumentError: `random` names no stream.
    """
    settings = settings or environment_settings(os.environ)
    if random is not None:
        settings = replace(settings, random=checked_stream(random))
    described = target_named(target) if isinstance(target, str) else target or host_target()
    limit = thread_limit(threads, environ=os.environ)
    options = RunOptions(limit.count, flush_denormals)
    slot = slot_of(model, described, settings, dynamic_shapes) if cache else None
    if slot is not None and (kept := slot.load(options)) is not None:
        return kept
    from torsh_dialect.context import Context
    from torsh_fx.compilation import compile_imported
    from torsh_fx.sources import import_model, opened

    watch, model = Stopwatch(), opened(model)
    ctx = Context(target=described, settings=settings)
    with watch.step("import"):
        imported = import_model(model, ctx, example_inputs, dynamic_shapes)
    return compile_imported(
        imported, ctx, options, cache=cache, watch=watch, source=model, slot=slot
    )
