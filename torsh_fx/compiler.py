"""`torsh_fx.compile`: from a model to a callable, in one function."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import ModuleOp

from lowering.cache import ObjectCache, default_directory
from lowering.codegen import CodeGenerator, CodegenSettings, CodegenUnit, host_unit
from lowering.cpu.host import host_target
from lowering.passes.outline_native import needs_host
from lowering.program.build import Lowered, lower_module
from lowering.runtime.executable import Executable, Program, RunOptions
from lowering.runtime.threads import thread_limit
from torsh_dialect.attributes import Array
from torsh_dialect.context import Context, Settings
from torsh_dialect.target import TargetInfo, target_named
from torsh_fx.compiled import CompiledModule, CompileReport
from torsh_fx.dump import Dump, environment_settings
from torsh_fx.pipeline import optimise
from torsh_fx.sources import import_model
from torsh_fx.weights import Preparation

if TYPE_CHECKING:
    from torsh_fx.importers.model import ImportedModel


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


@cache
def generator(in_process: bool, cached: bool) -> CodeGenerator:
    """The process-wide code generator (worker processes are shared by all compilations)."""
    cache_ = ObjectCache(default_directory(os.environ)) if cached else None
    return CodeGenerator(CodegenSettings(inprocess=in_process), cache_)


def compile(
    model: Any,
    example_inputs: Sequence[Any] | None = None,
    *,
    target: str | TargetInfo | None = None,
    dynamic_shapes: Any = None,
    settings: Settings | None = None,
    threads: int | None = None,
    flush_denormals: bool = False,
    cache: bool = True,
) -> CompiledModule:
    """Compile a model to native code.

    Args:
        model: An `nn.Module`, `ExportedProgram`, `GraphModule`, `onnx.ModelProto`, `FxGraph`, or
            the path of an ONNX or MLIR file.
        example_inputs: Inputs that an `nn.Module` or `GraphModule` is traced with, and that give
            inputs of an `FxGraph` without a type theirs.
        target: Name or description of the CPU; this machine's by default.
        dynamic_shapes: For torch: as `torch.export.export` takes it. For ONNX: extents or bounds
            by symbol name, e.g. `{"batch": (1, 64)}` or `{"batch": 1}`.
        settings: Numerics and debugging options; by default what the environment variables
            `TORSH_DUMP`, `TORSH_VERIFY_EACH` and `TORSH_INPROCESS` say.
        threads: Most threads of a call; container, affinity mask and `OMP_NUM_THREADS` and
            `TORSH_NUM_THREADS` limit it further.
        flush_denormals: Treat denormal numbers as zero during calls.
        cache: Keep compiled objects in the user's cache folder.

    Returns:
        The compiled model.

    Raises:
        UnsupportedError: The model has ops that the compiler does not know; lists all of them.
        ImportModelError: The model cannot be read.
        CodegenError: Code generation failed or was cancelled.
    """
    settings = settings or environment_settings(os.environ)
    watch = Stopwatch()
    described = target_named(target) if isinstance(target, str) else target or host_target()
    ctx = Context(target=described, settings=settings)
    with watch.step("import"):
        imported = import_model(model, ctx, example_inputs, dynamic_shapes)
    limit = thread_limit(threads, environ=os.environ)
    options = RunOptions(limit.count, flush_denormals)
    return compile_imported(imported, ctx, options, cache=cache, watch=watch, source=model)


def compile_imported(
    imported: ImportedModel,
    ctx: Context,
    options: RunOptions | None = None,
    *,
    cache: bool = True,
    watch: Stopwatch | None = None,
    source: Any = None,
) -> CompiledModule:
    """Compile an imported module; see `compile`. `source` is what `validate` compares with."""
    watch = watch or Stopwatch()
    ctx.weights = imported.weights
    if needs_host(imported.module):
        from torsh_fx.hosted import compile_hosted

        def part(native: ImportedModel) -> CompiledModule:
            return compile_imported(native, ctx, options, cache=cache)

        return compile_hosted(imported, ctx, part, source)
    optimised = imported.module.clone()
    dump = Dump.begin(ctx.settings, optimised, ctx.target)
    with watch.step("optimise"):
        optimise(optimised, ctx, dump.stage if dump else None)
    with watch.step("lower"):
        main, prepare = lower_module(optimised, ctx.target)
    compile_units = generator(ctx.settings.in_process, cache).compile
    if dump:
        dump.lowered([main, *([prepare] if prepare else ())], compile_units)
    with watch.step("generate code"):
        program, preparation = link(main, prepare, compile_units, imported.weights)
    report = CompileReport(
        len(imported.report.fates),
        count_ops(imported.module),
        count_ops(optimised),
        len(main.spec.kernels),
        watch.seconds,
    )
    options = options or RunOptions()
    return CompiledModule(
        imported, optimised, program, report, options, preparation, ctx.target, source
    )


def count_ops(module: ModuleOp) -> int:
    """Ops in the functions of a module, without those inside fused regions."""
    blocks = [b for function in module.ops for region in function.regions for b in region.blocks]
    return sum(len(list(block.ops)) for block in blocks)


def link(
    main: Lowered,
    prepare: Lowered | None,
    compile_units: Callable[[Sequence[CodegenUnit]], list[bytes]],
    raw: Mapping[str, Array],
) -> tuple[Program, Preparation]:
    """Generate code, prepare the weights by running `prepare`, and link."""
    pool = host_unit(main.units[0].target)
    host, *objects = compile_units([pool, *main.units, *(prepare.units if prepare else ())])
    own, others = objects[: len(main.units)], objects[len(main.units) :]
    entry = None
    if prepare is not None:
        entry = Executable(Program(prepare.spec, others, prepare.constants, host=host), "prepare")
    preparation = Preparation(main.spec, main.constants, entry)
    return Program(main.spec, own, preparation.prepared(raw), host=host), preparation
