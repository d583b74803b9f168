"""Compares the tensors of two packages by value. Exit code 1 if some are not within tolerance.

torsh-package compare a.torshpkg b.torshpkg --rtol 1e-6
"""

import argparse

from torsh_package.compare import TensorComparison, compare_tensors

from ..arguments import real
from ..tables import table
from . import FAILED, OK, Output, ProgressBar, add_load_arguments, open_package


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument(
        "--rtol", type=real(), default=0.0, help="relative to the second package (default: 0)"
    )
    parser.add_argument("--atol", type=real(), default=0.0, help="absolute (default: 0)")
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Compares the tensors."""
    first, second = open_package(args.first, args), open_package(args.second, args)
    with ProgressBar(out, "comparing") as progress:
        found = compare_tensors(first, second, rtol=args.rtol, atol=args.atol, progress=progress)
    bad = [item for item in found if not item.equal]
    out.result(
        {"equal": not bad, "tensors": [item.to_json() for item in found]},
        lambda: _text(found, len(bad)),
    )
    return FAILED if bad else OK


def _text(found: list[TensorComparison], bad: int) -> str:
    rows = [
        (
            "ok" if item.equal else "DIFFERS",
            item.name,
            item.problem or f"max {item.max_abs:.3g}, rms {item.rms:.3g}",
        )
        for item in found
    ]
    return "\n".join([table(rows), f"{len(found)} tensors, {bad} not within tolerance"]).strip()
