"""Show what a model is and what became of it.

    torsh inspect model.onnx
    torsh inspect model.onnx --size batch=8 --svg model.svg
    torsh inspect model.onnx --ir optimised > optimised.mlir
    torsh inspect model.onnx --shapes

Prints the signature, a histogram of ops, the kernels with their source ops, the memory that a
call takes, and which rewrites changed values. --dot and --svg draw the optimised program.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import ModuleOp

from lowering.passes.prepare import function_named
from torsh_dialect.context import Context
from torsh_dialect.types import device_of, is_stored, layout_of
from torsh_fx.hosted import HostedModule
from torsh_fx.memory import memory_plan
from torsh_fx.pipeline import REWRITES, optimise
from torsh_fx.shapes import AxisFact, axis_facts, onnx_facts

from ..tables import size_text, table, time_text
from .console import OK, json_text
from .inputs import add_input_arguments
from .model import (
    Loaded,
    StepsOnTerminal,
    add_model_arguments,
    compile_from,
    import_from,
    inputs_of_loaded,
)

if TYPE_CHECKING:
    from torsh_fx.compiled import CompiledModule
    from torsh_fx.importers.model import ImportedModel

MOST_KERNELS = 40
"""Lines of kernels without --all."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("--all", action="store_true", help="list every kernel")
    parser.add_argument(
        "--shapes",
        action="store_true",
        help="print what the inputs' extents may be and which op decides; compiles nothing",
    )
    parser.add_argument("--dot", metavar="FILE", help="draw the optimised program, for Graphviz")
    parser.add_argument("--svg", metavar="FILE", help="draw the optimised program")
    parser.add_argument(
        "--ir", choices=("imported", "optimised"), help="print that program instead, as MLIR text"
    )


def run(args: argparse.Namespace) -> int:
    """Show the model."""
    if args.shapes:
        with StepsOnTerminal(quiet=args.quiet) as watch:
            loaded = import_from(args, watch)
        show_shapes(args, loaded)
        return OK
    with StepsOnTerminal(quiet=args.quiet) as watch:
        loaded, compiled = compile_from(args, watch)
        inputs = inputs_of_loaded(args, loaded)
        modules = [part.module for part in parts_of(compiled)]
        applied = [] if args.ir else value_changing_rewrites(modules, loaded.ctx)
    if args.dot or args.svg:
        from .picture import dot_text, svg_text

        for path, draw in ((args.dot, dot_text), (args.svg, svg_text)):
            if path:
                Path(path).write_text(draw(compiled.optimised), encoding="utf-8")
    if args.ir:
        print(compiled.module if args.ir == "imported" else compiled.optimised)
        return OK
    if args.json:
        print(json_text(inspected(loaded, compiled, inputs, applied)))
        return OK
    parts = [
        ("Signature", loaded.signature.text()),
        ("Ops", histogram_text(compiled)),
        ("Kernels", kernels_text(compiled, args.all)),
        ("Memory of a call", memory_text(compiled, inputs)),
        ("Rewrites that change values", rewrites_text(applied)),
        ("Compilation", steps_text(compiled)),
    ]
    print("\n\n".join(f"{title}\n{'-' * len(title)}\n{text}" for title, text in parts))
    return OK


def inspected(
    loaded: Loaded, compiled: CompiledModule, inputs: Sequence[Any], applied: Sequence[str]
) -> dict[str, Any]:
    """All of it for JSON; memory is in bytes, null where the host decides."""
    before, after = histogram(compiled.module), histogram(compiled.optimised)
    hosted = isinstance(compiled, HostedModule)
    memory = None if hosted else asdict(memory_plan(compiled, [array.shape for array in inputs]))
    return {
        "signature": loaded.signature.as_dict(),
        "ops": {
            name: {"imported": before[name], "optimised": after[name]}
            for name in sorted({*before, *after})
        },
        "kernels": [
            {"name": kernel.name, "sources": list(dict.fromkeys(kernel.sources))}
            for part in parts_of(compiled)
            for kernel in part.program.spec.kernels
        ],
        "host_ops": list(compiled.host_ops) if isinstance(compiled, HostedModule) else [],
        "memory": memory,
        "rewrites": list(applied),
        "seconds": compiled.report.seconds,
    }


def show_shapes(args: argparse.Namespace, loaded: Loaded) -> None:
    """Print every axis of the inputs: free, bounded, derived or fixed, and by what."""
    is_onnx = isinstance(loaded.source, Path) and loaded.source.suffix == ".onnx"
    facts = onnx_facts(loaded.source, loaded.ctx) if is_onnx else axis_facts(loaded.imported)
    if args.json:
        print(json_text({"axes": [asdict(fact) for fact in facts]}))
    else:
        print(shapes_text(facts) + storage_text(loaded.imported))


def shapes_text(facts: Sequence[AxisFact]) -> str:
    """The facts as a table."""
    rows = [["input", "axis", "extent", "", "reason"]]
    for fact in facts:
        axis = str(fact.axis) if fact.name else ""
        rows.append([fact.name, axis, fact.extent, fact.kind, fact.reason])
    return table(rows)


def storage_text(imported: ImportedModel) -> str:
    """Layouts and devices of the inputs that have one."""
    main = function_named(imported.module, "main")
    rows = [["input", "layout", "device"]]
    for name, value in zip(imported.inputs, main.args if main else (), strict=False):
        if is_stored(value.type):
            layout = layout_of(value)
            rows.append([name, str(list(layout)) if layout else "", device_of(value) or ""])
    return f"\n\n{table(rows)}" if len(rows) > 1 else ""


def histogram_text(compiled: CompiledModule) -> str:
    """How often each op stands in the program before and after optimisation."""
    before, after = histogram(compiled.module), histogram(compiled.optimised)
    order = sorted({*before, *after}, key=lambda name: (-before[name], -after[name], name))
    rows = [["op", "imported", "optimised"]]
    rows.extend([name, str(before[name] or ""), str(after[name] or "")] for name in order)
    rows.append(["total", str(before.total()), str(after.total())])
    return table(rows)


def histogram(module: ModuleOp) -> Counter[str]:
    """Ops by name, those in regions too."""
    ops = (op.name for op in module.walk() if op.name.startswith("torsh."))
    return Counter(name.removeprefix("torsh.") for name in ops)


def kernels_text(compiled: CompiledModule, everything: bool) -> str:
    """Kernels with the source ops that each computes."""
    kernels = [k for part in parts_of(compiled) for k in part.program.spec.kernels]
    shown = kernels if everything else kernels[:MOST_KERNELS]
    rows = [["kernel", "source ops"]]
    for kernel in shown:
        known = dict.fromkeys(kernel.sources)
        rows.append(
            [kernel.name, _shortened(", ".join(known)) if not everything else ", ".join(known)]
        )
    left = len(kernels) - len(shown)
    return table(rows) + (f"\nand {left} more; see --all" if left else "")


def parts_of(compiled: CompiledModule) -> Sequence[CompiledModule]:
    """The wholly native modules that the model consists of: itself, or those it walks."""
    return list(compiled.natives.values()) if isinstance(compiled, HostedModule) else [compiled]


def _shortened(text: str, width: int = 100) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def memory_text(compiled: CompiledModule, inputs: Sequence[Any]) -> str:
    """The memory of a call as a table."""
    if isinstance(compiled, HostedModule):
        return f"decided by the host, which runs: {', '.join(compiled.host_ops)}"
    memory = memory_plan(compiled, [array.shape for array in inputs])
    shapes = ", ".join(
        f"{name} {list(array.shape)}"
        for name, array in zip(compiled.imported.inputs, inputs, strict=True)
    )
    rows = [
        ["inputs", shapes],
        ["prepared weights", size_text(memory.weights)],
        ["arena", size_text(memory.arena)],
        ["thread scratch", size_text(memory.scratch)],
    ]
    return table(rows)


def value_changing_rewrites(modules: Sequence[ModuleOp], ctx: Context) -> list[str]:
    """The names of the rewrites that change these programs, each found by leaving it out."""
    allowed = [name for name in REWRITES if ctx.settings.allows(name)]
    full = _optimised_ops(modules, ctx) if allowed else []
    applied: list[str] = []
    for name in allowed:
        disabled = ctx.settings.disabled_rewrites | {name}
        settings = replace(ctx.settings, disabled_rewrites=disabled)
        without = Context(target=ctx.target, settings=settings, weights=ctx.weights)
        if _optimised_ops(modules, without) != full:
            applied.append(name)
    return applied


def _optimised_ops(modules: Sequence[ModuleOp], ctx: Context) -> list[object]:
    found: list[object] = []
    for original in modules:
        module = original.clone()
        optimise(module, ctx)
        for op in module.walk():
            found.append((op.name, sorted((k, str(v)) for k, v in op.properties.items())))
    return found


def rewrites_text(applied: Sequence[str]) -> str:
    """Each rewrite, and whether it was used."""
    rows = [
        [name, "applied" if name in applied else "not used", meaning]
        for name, meaning in REWRITES.items()
    ]
    return table(rows) + "\nswitch off with --disable-rewrite NAME, or all with --numerics strict"


def steps_text(compiled: CompiledModule) -> str:
    """Wall time of the steps of the compilation."""
    return table([[name, time_text(s)] for name, s in compiled.report.seconds.items()])
