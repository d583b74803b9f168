"""Run a model on inputs from files, or on random ones, and compare with another engine.

    torsh run model.onnx --compare onnxruntime
    torsh run model.onnx --input image=cat.npy -o outputs.npz
    torsh run model.mlir --size batch=8 --compare reference
    torsh run model.onnx --validate 16
    torsh run model.torshpkg --trust trust.json

Without -o a summary of the outputs is printed; with it, sequences and maps are written by item,
as `s[0]`. --compare ends with exit code 1 where an output
differs by more than --tolerance of its largest value. --validate compares with the source in
float64, beside the error that the source's own framework makes, and says PASS or FAIL.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowering.runtime.profile import Profile
from torsh_dialect.errors import InvalidArgumentError

from ..arguments import real, whole
from ..package_verbs import add_load_arguments, load_options
from ..tables import table
from .console import FAILED, OK, Answer, ended_by_interrupt, options_text, require_extension
from .inputs import add_input_arguments, inputs_of_arguments, random_inputs
from .model import (
    PACKAGE,
    Loaded,
    StepsOnTerminal,
    add_model_arguments,
    compile_from,
    inputs_of_loaded,
    threads_of,
)
from .peers import PEERS, peer_named
from .values import Part, difference, head_json, head_text, parts_of_values, type_text

if TYPE_CHECKING:
    from torsh_fx.compiled import CompiledModule
    from torsh_fx.validate import Validation

TOLERANCE = 1e-5
MISSING = "no such output"
OF_MODELS: dict[str, object] = {
    "compare": None,
    "validate": None,
    "dim": [],
    "disable_rewrite": [],
    "target": None,
    "numerics": "default",
}
"""Options that say nothing of a package, whose program is compiled, and their defaults."""
OF_PACKAGES = ("relaxed", "trust", "password_file", "identity")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser, ", or a .torshpkg package")
    add_input_arguments(parser)
    add_load_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE.npz", help="write the outputs by name")
    parser.add_argument("--compare", choices=PEERS, help="run it there too, and compare")
    parser.add_argument("--tolerance", type=real(), default=TOLERANCE, help="default: %(default)s")
    parser.add_argument(
        "--validate", type=whole(1), metavar="N", help="judge it over N random inputs, in float64"
    )
    parser.add_argument("--profile", action="store_true", help="show where the time goes")


def run(args: argparse.Namespace) -> int:
    """Run the model."""
    if args.output:
        require_extension(args.output, "npz")
    if Path(args.model).suffix == PACKAGE:
        return run_package(args)
    if given := [name for name in OF_PACKAGES if vars(args)[name]]:
        raise InvalidArgumentError(
            f"{options_text(given)}: only packages (NAME{PACKAGE}) have that"
        )
    with StepsOnTerminal(quiet=args.quiet) as watch:
        loaded, compiled = compile_from(args, watch)
        inputs = inputs_of_loaded(args, loaded)
        with watch.step("run"), ended_by_interrupt():
            outputs = compiled.run(inputs)
        theirs: Sequence[Any] | None = None
        if args.compare:
            with watch.step(f"run in {args.compare}"):
                theirs = peer_named(args.compare, loaded, threads_of(args))(inputs)
        verdict = validation(args, loaded, compiled) if args.validate else None
    names = loaded.imported.outputs
    answer = Answer(args.json, args.quiet)
    give_outputs(answer, args, parts_of_values(names, outputs))
    if args.profile:
        give_profile(answer, compiled.profile(*inputs))
    code = OK
    if theirs is not None:
        ours, others = parts_of_values(names, outputs), parts_of_values(names, theirs)
        code = compare(answer, args, ours, others)
    if verdict is not None:
        value = {"passed": verdict.passed, **asdict(verdict)}
        answer.part("validate", value, lambda: str(verdict))
        code = code if verdict.passed else FAILED
    answer.end()
    return code


def validation(args: argparse.Namespace, loaded: Loaded, compiled: CompiledModule) -> Validation:
    """The verdict over as many random inputs as `--validate` says."""
    seeds = range(args.seed, args.seed + args.validate)
    entry, sequences = loaded.signature.entry, loaded.signature.sequences
    sizes = dict(args.size)
    calls = [tuple(random_inputs(entry, s, sizes, args.integers, sequences)) for s in seeds]
    return compiled.validate(calls)


def give_outputs(answer: Answer, args: argparse.Namespace, parts: Mapping[str, Part]) -> None:
    """Write the outputs, or show them; with --quiet not beside something else that is shown."""
    rows = [
        {"name": name, "type": type_text(part), "values": head_json(part)}
        for name, part in parts.items()
    ]
    answer.value["outputs"] = rows
    if args.output:
        arrays = {name: part for name, part in parts.items() if not isinstance(part, str)}
        np.savez(Path(args.output), **arrays)  # pyright: ignore[reportArgumentType]
        return
    alone = not (args.compare or args.validate or args.profile)
    answer.part("outputs", rows, lambda: summary(parts), asked=alone)


def give_profile(answer: Answer, profile: Profile) -> None:
    """Show where the time goes; JSON gets every run of a kernel, in order."""
    runs = [
        {
            "kernel": run.kernel.name,
            "seconds": run.duration_ns / 1e9,
            "units": run.units,
            "sources": list(run.kernel.sources),
        }
        for run in profile.runs
    ]
    value = {"seconds": profile.total_ns / 1e9, "dropped": profile.dropped, "runs": runs}
    answer.part("profile", value, profile.table)


def summary(parts: Mapping[str, Part]) -> str:
    """One line an output: name, type and some values."""
    rows = [[name, type_text(part), head_text(part)] for name, part in parts.items()]
    return table([["output", "type", "values"], *rows])


def compare(
    answer: Answer,
    args: argparse.Namespace,
    ours: Mapping[str, Part],
    theirs: Mapping[str, Part],
) -> int:
    """Show how far outputs are apart; 1 where it is too far."""
    rows: list[dict[str, Any]] = []
    cells = [["output", "max difference", "of scale", ""]]
    for name in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(name, MISSING), theirs.get(name, MISSING)
        largest, scale = difference(a, b)
        relative = largest / (scale or 1.0)
        inexact = not isinstance(a, str) and a.dtype.kind in "fcV"
        agrees = relative <= (args.tolerance if inexact else 0.0)
        rows.append({"name": name, "difference": largest, "relative": relative, "agrees": agrees})
        word = "ok" if agrees else "DIFFERENT"
        if type_text(a) != type_text(b):
            word = f"DIFFERENT: {type_text(a)}, {args.compare} gives {type_text(b)}"
        cells.append([name, f"{largest:.3g}", f"{relative:.3g}", word])
    failed = not all(row["agrees"] for row in rows)
    verdict = "differs from" if failed else "agrees with"
    line = f"{verdict} {args.compare} (tolerance {args.tolerance:g} of each output's largest value)"
    value = {
        "engine": args.compare, "tolerance": args.tolerance, "agrees": not failed, "outputs": rows
    }  # fmt: skip
    answer.part("compare", value, lambda: f"{table(cells)}\n{line}")
    return FAILED if failed else OK


def run_package(args: argparse.Namespace) -> int:
    """Run a package's entry point `main`; neither the compiler nor a framework is loaded."""
    from torsh_fx.packaged import load_package

    given = [name for name, usual in OF_MODELS.items() if vars(args)[name] != usual]
    if given:
        raise InvalidArgumentError(
            f"{options_text(given)}: that needs the model that the package was made from; "
            "`torsh-package verify --replay` compares with its golden cases"
        )
    opening = load_options(args)
    model = load_package(
        args.model,
        threads=args.threads,
        mode=opening.mode,
        trust=opening.trust,
        password=opening.password,
        identities=opening.identities,
    )
    inputs = inputs_of_arguments(args, model.executable.spec)
    with ended_by_interrupt():
        outputs = model.run(inputs)
    answer = Answer(args.json, args.quiet)
    give_outputs(answer, args, parts_of_values(model.output_names, outputs))
    if args.profile:
        give_profile(answer, model.executable.profile(inputs))
    answer.end()
    return OK
