"""Compile a model: to text with weights, or to a folder that runs without the compiler.

    torsh compile model.onnx -o model.mlir
    torsh compile model.onnx -o model.program --target x86-64-v3 --dim batch=1:64

`-o NAME.mlir` writes the imported program as MLIR text, and its weights beside it as
NAME.safetensors. Any other name becomes a new folder of machine code, prepared weights and the
signature, which `lowering.runtime.load.load_program` runs with numpy alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .console import OK
from .model import StepsOnTerminal, add_model_arguments, compile_from, import_from
from .tables import time_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser)
    parser.add_argument("-o", "--output", required=True, help="NAME.mlir, or a new folder")


def run(args: argparse.Namespace) -> int:
    """Compile the model."""
    output = Path(args.output)
    with StepsOnTerminal(quiet=args.quiet) as watch:
        if output.suffix == ".mlir":
            from torsh_fx.save import save

            loaded = import_from(args, watch)
            with watch.step("save"):
                save(loaded.imported, output)
        else:
            from torsh_fx.ahead import write_program

            loaded, compiled = compile_from(args, watch)
            with watch.step("save"):
                write_program(compiled, output, loaded.ctx.target)
    if not args.quiet:
        steps = ", ".join(f"{name} {time_text(s)}" for name, s in watch.seconds.items())
        print(f"{output}: {steps}", file=sys.stderr)
    return OK
