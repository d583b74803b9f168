"""Compile a model: to a package, to text with weights, or to a folder of machine code.

    torsh compile model.onnx -o model.torshpkg --targets x86-64-v3,x86-64-v4
    torsh compile model.onnx -o model.mlir
    torsh compile model.onnx -o model.program --target x86-64-v3 --dim batch=1:64

`-o NAME.torshpkg` writes one file with machine code for each target, prepared weights, the
program's text, and sample inputs with the outputs they give. `-o NAME.mlir` writes the imported
program as MLIR text, and its weights beside it as NAME.safetensors. Any other name becomes a new
folder of machine code, prepared weights and the signature, which
`lowering.runtime.load.load_program` runs with numpy alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..tables import time_text
from .console import OK
from .model import StepsOnTerminal, add_model_arguments, compile_from, import_from


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser)
    parser.add_argument(
        "-o", "--output", required=True, help="NAME.torshpkg, NAME.mlir, or a new folder"
    )
    parser.add_argument("--targets", help="targets of a package, comma-separated")
    parser.add_argument("--name", help="name of the package; the file's by default")
    parser.add_argument("--package-version", default="0.1.0", help="default: %(default)s")
    parser.add_argument(
        "--samples", type=int, default=1, help="random golden cases; default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    """Compile the model."""
    output = Path(args.output)
    with StepsOnTerminal(quiet=args.quiet) as watch:
        if output.suffix == ".mlir":
            from torsh_fx.save import save

            loaded = import_from(args, watch)
            with watch.step("save"):
                save(loaded.imported, output)
        elif output.suffix == ".torshpkg":
            _package(args, output, watch)
        else:
            from torsh_fx.ahead import write_program

            loaded, compiled = compile_from(args, watch)
            with watch.step("save"):
                write_program(compiled, output, loaded.ctx.target)
    if not args.quiet:
        steps = ", ".join(f"{name} {time_text(s)}" for name, s in watch.seconds.items())
        print(f"{output}: {steps}", file=sys.stderr)
    return OK


def _package(args: argparse.Namespace, output: Path, watch: StepsOnTerminal) -> None:
    """Write a package with code for all targets."""
    from lowering.cpu.host import host_target
    from torsh_dialect.target import target_named
    from torsh_fx.packaging import PackageOptions, build_package

    from .inputs import random_inputs

    loaded = import_from(args, watch)
    names = args.targets.split(",") if args.targets else [args.target or host_target().name]
    options = PackageOptions(
        args.name or output.stem.lower(), args.package_version, cases=args.samples
    )
    targets = [target_named(name) for name in names]
    with watch.step("compile"):
        package = build_package(
            loaded.imported, targets, options, random_inputs, loaded.ctx.settings
        )
    with watch.step("save"):
        package.save(output)
