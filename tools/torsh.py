"""`torsh`: compile, run, measure, quantise and look into models.

    torsh run model.onnx --compare onnxruntime
    torsh bench model.onnx --against onnxruntime
    torsh inspect model.onnx --svg model.svg
    torsh compile model.onnx -o model.mlir
    torsh quantize model.onnx -o model-int8.mlir --calibration images.npz
    torsh ops

Results go to standard output, progress and messages to standard error. With --quiet, progress,
remarks and confirmations are left out; what was asked for and errors never are.
Exit codes: 0 success, 1 an error or a difference, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .torsh_verbs.console import USAGE, guarded
from .verbs import shared_options, verb_parser

PROGRAM = "torsh"
VERBS = ("compile", "run", "bench", "inspect", "quantize", "ops")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser; with the name of a verb, only that one is loaded, which is faster."""
    shared = shared_options()
    return verb_parser(PROGRAM, __doc__, shared, f"{__package__}.torsh_verbs", VERBS, only)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = build_parser(argv[0] if argv else None).parse_args(argv)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else USAGE
    return guarded(PROGRAM, lambda: args.run(args), debug=args.debug, as_json=args.json)


if __name__ == "__main__":
    sys.exit(main())
