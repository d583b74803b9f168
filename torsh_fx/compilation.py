"""From an imported model to native code: optimise, lower, generate code, link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import ModuleOp

from lowering.codegen import host_unit
from lowering.passes.outline_native import needs_host
from lowering.program.build import Lowered, lower_module
from lowering.runtime.executable import Executable, RunOptions
from torsh_dialect.context import Context
from torsh_fx.compiled import Compilation, CompiledModule, CompileReport, Origin, first_state
from torsh_fx.compiler import Stopwatch, generator
from torsh_fx.dump import Dump
from torsh_fx.linking import Code, Parts
from torsh_fx.pipeline import optimise
from torsh_fx.program_cache import Slot

if TYPE_CHECKING:
    from torsh_fx.importers.model import ImportedModel


def compile_imported(
    imported: ImportedModel,
    ctx: Context,
    options: RunOptions | None = None,
    *,
    cache: bool = True,
    watch: Stopwatch | None = None,
    source: Any = None,
    slot: Slot | None = None,
) -> CompiledModule:
    """Compile an imported module; see `compile`.

    Args:
        imported: The model.
        ctx: Target and settings; gets the model's weights.
        options: How calls run.
        cache: Keep compiled objects in the user's cache folder.
        watch: Gets the time of each step.
        source: What `validate` compares with.
        slot: Where the program is kept, if it is.
    """
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
    report = CompileReport(
        len(imported.report.fates),
        count_ops(imported.module),
        count_ops(optimised),
        len(main.spec.kernels),
        watch.seconds,
    )
    lowered = [main, *([prepare] if prepare else ())]
    compile_units = generator(ctx.settings.in_process, cache).compile
    if dump:
        dump.lowered(lowered, compile_units)
    with watch.step("generate code"):
        units = [[host_unit(ctx.target)], *(one.units for one in lowered)]
        objects = iter(compile_units([unit for group in units for unit in group]))
        (host,), *codes = [[next(objects) for _ in group] for group in units]
        parts = Parts(_code(main, codes[0]), _code(prepare, codes[1]) if prepare else None, host)
        linked = parts.link(imported.weights)
    if slot is not None:
        slot.keep(parts, [[unit.key() for unit in group] for group in units], imported, report)
    return CompiledModule(
        imported.interface,
        Executable(linked.program, options=options),
        first_state(imported.interface, imported.weights),
        linked.use,
        Origin(report, ctx.target, lambda: Compilation(imported, optimised), source),
    )


def _code(lowered: Lowered, objects: list[bytes]) -> Code:
    return Code(lowered.spec, objects, lowered.constants)


def count_ops(module: ModuleOp) -> int:
    """Ops in the functions of a module, without those inside fused regions."""
    blocks = [b for function in module.ops for region in function.regions for b in region.blocks]
    return sum(len(list(block.ops)) for block in blocks)
