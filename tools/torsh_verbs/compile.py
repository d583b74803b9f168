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

from torsh_dialect.errors import InvalidArgumentError

from ..arguments import whole
from ..tables import time_text
from .console import OK, json_text, options_text
from .model import PACKAGE, StepsOnTerminal, add_model_arguments, compile_from, import_from

VERSION, SAMPLES = "0.1.0", 1
OF_PACKAGES = ("targets", "name", "package_version", "samples")
"""Options of packages alone."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser)
    parser.add_argument(
        "-o", "--output", required=True, help="NAME.torshpkg, NAME.mlir, or a new folder"
    )
    group = parser.add_argument_group("packages")
    group.add_argument(
        "--targets", metavar="NAME,...", help="machines to make code for, each one that runs here"
    )
    group.add_argument("--name", help="name of the package (default: made from the file's)")
    group.add_argument("--package-version", metavar="X.Y.Z", help=f"default: {VERSION}")
    group.add_argument(
        "--samples", type=whole(), metavar="N", help=f"random golden cases (default: {SAMPLES})"
    )


def run(args: argparse.Namespace) -> int:
    """Compile the model."""
    output = Path(args.output)
    check_options(args, output)
    with StepsOnTerminal(quiet=args.quiet) as watch:
        if output.suffix == ".mlir":
            from torsh_fx.save import save

            loaded = import_from(args, watch)
            with watch.step("save"):
                save(loaded.imported, output)
        elif output.suffix == PACKAGE:
            _package(args, output, watch)
        else:
            from torsh_fx.ahead import write_program

            loaded, compiled = compile_from(args, watch)
            with watch.step("save"):
                write_program(compiled, output, loaded.ctx.target)
    if args.json:
        print(json_text({"output": args.output, "seconds": watch.seconds}))
    elif not args.quiet:
        steps = ", ".join(f"{name} {time_text(s)}" for name, s in watch.seconds.items())
        print(f"{output}: {steps}", file=sys.stderr)
    return OK


def check_options(args: argparse.Namespace, output: Path) -> None:
    """Refuse, before the work is done, what cannot be written.

    Raises:
        InvalidArgumentError: An option is for packages, and the output is none; or what would
            become a folder is there.
    """
    if output.suffix == PACKAGE:
        return
    if given := [name for name in OF_PACKAGES if vars(args)[name] is not None]:
        raise InvalidArgumentError(
            f"{options_text(given)}: only packages have that; write -o NAME{PACKAGE}"
        )
    if output.suffix != ".mlir" and output.exists():
        raise InvalidArgumentError(f"-o {args.output} is there already: name a new folder")


def _package(args: argparse.Namespace, output: Path, watch: StepsOnTerminal) -> None:
    """Write a package with code for all targets."""
    from lowering.cpu.host import host_target
    from torsh_dialect.target import target_named
    from torsh_fx.packaging import PackageOptions, build_package, name_for
    from torsh_package.names import check_package_name, check_version

    from .inputs import random_inputs

    loaded = import_from(args, watch)
    names = args.targets.split(",") if args.targets else [args.target or host_target().name]
    options = PackageOptions(
        args.name or name_for(output),
        args.package_version or VERSION,
        cases=SAMPLES if args.samples is None else args.samples,
    )
    check_package_name(options.name)
    check_version(options.version)
    targets = [target_named(name) for name in dict.fromkeys(names)]
    with watch.step("compile"):
        package = build_package(
            loaded.imported, targets, options, random_inputs, loaded.ctx.settings
        )
    with watch.step("save"):
        package.save(output)
