"""Run a model on inputs from files, or on random ones, and compare with another engine.

    torsh run model.onnx --compare onnxruntime
    torsh run model.onnx --input image=cat.npy -o outputs.npz
    torsh run model.mlir --size batch=8 --compare reference
    torsh run model.onnx --validate 16
    torsh run model.torshpkg --trust trust.json

Without -o a summary of the outputs is printed. --compare ends with exit code 1 where an output
differs by more than --tolerance of its largest value. --validate compares with the source in
float64, beside the error that the source's own framework makes, and says PASS or FAIL.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError

from ..arguments import real, whole
from ..package_verbs import add_load_arguments, load_options
from ..tables import table
from .console import FAILED, OK, ended_by_interrupt, options_text, require_extension
from .inputs import add_input_arguments, inputs_of_arguments, random_inputs
from .model import (
    PACKAGE,
    Loaded,
    StepsOnTerminal,
    add_model_arguments,
    compile_from,
    threads_of,
)
from .peers import PEERS, difference, peer_named

if TYPE_CHECKING:
    from torsh_fx.compiled import CompiledModule
    from torsh_fx.validate import Validation

TOLERANCE = 1e-5
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
        inputs = inputs_of_arguments(args, loaded.entry)
        with watch.step("run"), ended_by_interrupt():
            outputs = compiled.run(inputs)
        theirs: Sequence[Array] | None = None
        if args.compare:
            with watch.step(f"run in {args.compare}"):
                theirs = peer_named(args.compare, loaded, threads_of(args))(inputs)
        verdict = validation(args, loaded, compiled) if args.validate else None
    names = loaded.imported.outputs
    if args.output:
        np.savez(Path(args.output), **dict(zip(names, outputs, strict=True)))  # pyright: ignore[reportArgumentType]
    elif not args.quiet:
        print(summary(names, outputs))
    if args.profile:
        print(compiled.profile(*inputs).table())
    code = OK if theirs is None else compare(args, names, outputs, theirs)
    if verdict is not None:
        print(verdict)
        code = code if verdict.passed else FAILED
    return code


def validation(args: argparse.Namespace, loaded: Loaded, compiled: CompiledModule) -> Validation:
    """The verdict over as many random inputs as `--validate` says."""
    seeds = range(args.seed, args.seed + args.validate)
    calls = [
        tuple(random_inputs(loaded.entry, seed, dict(args.size), args.integers)) for seed in seeds
    ]
    return compiled.validate(calls)


def summary(names: Sequence[str], outputs: Sequence[Array]) -> str:
    """One line an output: name, type and some values."""
    rows = [["output", "type", "values"]]
    for name, array in zip(names, outputs, strict=True):
        head = ", ".join(f"{value:.6g}" for value in array.reshape(-1)[:4].tolist())
        rest = ", ..." if array.size > 4 else ""
        rows.append([name, f"{array.dtype}{list(array.shape)}", f"{head}{rest}"])
    return table(rows)


def compare(
    args: argparse.Namespace,
    names: Sequence[str],
    ours: Sequence[Array],
    theirs: Sequence[Array],
) -> int:
    """Print how far outputs are apart; 1 where it is too far."""
    if len(ours) != len(theirs):
        print(f"DIFFERENT: {len(ours)} outputs, {args.compare} gives {len(theirs)}")
        return FAILED
    rows = [["output", "max difference", "of scale", ""]]
    failed = False
    for name, a, b in zip(names, ours, theirs, strict=True):
        largest, scale = difference(a, b)
        relative = largest / (scale or 1.0)
        fine = relative <= (args.tolerance if a.dtype.kind in "fcV" else 0.0)
        failed |= not fine
        rows.append([name, f"{largest:.3g}", f"{relative:.3g}", "ok" if fine else "DIFFERENT"])
    print(table(rows))
    verdict = "differs from" if failed else "agrees with"
    print(f"{verdict} {args.compare} (tolerance {args.tolerance:g} of each output's largest value)")
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
    if args.output:
        named = dict(zip(model.output_names, outputs, strict=True))
        np.savez(Path(args.output), **named)  # pyright: ignore[reportArgumentType]
    elif not args.quiet:
        print(summary(model.output_names, outputs))
    if args.profile:
        print(model.executable.profile(inputs).table())
    return OK
