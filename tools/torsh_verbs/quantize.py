"""Quantise a model to 8-bit layers, or its weights alone to 8 or 4 bits, and report the accuracy.

    torsh quantize model.onnx -o model-int8.mlir --calibration images.npz
    torsh quantize model.onnx -o model-int8.torshpkg --mode dynamic
    torsh quantize decoder.onnx -o decoder-int4.mlir --mode weight-only --bits 4 --group-size 32
    torsh quantize model.onnx -o model-int8.mlir --calibration images.npz --minimum-sqnr 30

A calibration file holds arrays by input name: one call, or several along an additional first
axis. Mode `static` takes the ranges of activations from it; in all modes the report compares the
float and the quantised program on it, layer by layer (on one random call where none is given).
SQNR is the ratio of a result's energy to that of its error. `torsh run` takes the output.

Exit code 1 where an output's SQNR is under --require-sqnr; the files are written all the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowering.runtime.spec import EntrySpec
from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError
from torsh_fx.quantize import MODES, QuantizedModel, QuantizeOptions, quantize

from ..arguments import decibels, real, whole
from ..tables import table
from .console import FAILED, OK, Answer, json_text, require_extension
from .inputs import add_input_arguments, read_inputs
from .model import Loaded, StepsOnTerminal, add_model_arguments, import_from, inputs_of_loaded


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("-o", "--output", required=True, help="NAME.mlir or NAME.torshpkg")
    group = parser.add_argument_group("quantisation")
    defaults = QuantizeOptions()
    group.add_argument("--mode", choices=MODES, default=defaults.mode, help="default: %(default)s")
    group.add_argument(
        "--bits", type=int, choices=(8, 4), default=defaults.bits, help="of weights; 4: weight-only"
    )
    group.add_argument(
        "--group-size", type=whole(), default=defaults.group_size, metavar="N",
        help="weights with one scale, weight-only; 0: a whole column (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--calibration", action="append", default=[], metavar="FILE.npz", help="may be repeated"
    )
    group.add_argument(
        "--percentile", type=real(50, most=100), default=defaults.percentile, metavar="P",
        help="part of calibration values that a range holds (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--skip", action="append", default=[], metavar="LAYER", help="stays in floats; NAME or PRE*"
    )
    group.add_argument(
        "--minimum-sqnr", type=decibels, metavar="DB", help="layers under it go back to floats"
    )
    group.add_argument(
        "--require-sqnr", type=decibels, metavar="DB", help="fail where an output is under it"
    )
    group.add_argument("--report", metavar="FILE.json", help="write the report there too")


def run(args: argparse.Namespace) -> int:
    """Quantise the model."""
    require_extension(args.output, "mlir", "torshpkg")
    if args.report:
        require_extension(args.report, "json")
    options = QuantizeOptions(
        args.mode, args.bits, args.group_size, args.percentile, tuple(args.skip), args.minimum_sqnr
    )
    with StepsOnTerminal(quiet=args.quiet) as watch:
        loaded = import_from(args, watch)
        calls = calibration_calls(args.calibration, loaded.signature.entry)
        if not calls and args.mode != "static":
            calls = [named_inputs(args, loaded)]
        with watch.step("quantise"):
            quantised = quantize(loaded.imported, options, calls, ctx=loaded.ctx)
        with watch.step("save"):
            quantised.save(args.output)
    report = quantised.report.as_dict()
    if args.report:
        Path(args.report).write_text(f"{json_text(report)}\n", encoding="utf-8")
    answer = Answer(args.json, args.quiet, {"output": args.output})
    random = not args.calibration
    answer.part("report", report, lambda: text_of(quantised, random=random), asked=False)
    answer.end()
    return verdict(quantised, args.require_sqnr)


def named_inputs(args: argparse.Namespace, loaded: Loaded) -> dict[str, Any]:
    """One call from --input and --inputs, random where nothing is given; state is left out."""
    hidden = {state.input for state in loaded.imported.state}
    arrays = inputs_of_loaded(args, loaded)
    names = loaded.imported.inputs
    return {n: a for i, (n, a) in enumerate(zip(names, arrays, strict=True)) if i not in hidden}


def calibration_calls(paths: Sequence[str], entry: EntrySpec) -> list[dict[str, Array]]:
    """The calls that calibration files hold.

    Raises:
        InvalidArgumentError: A file's arrays fit neither one call nor the same number of calls.
        ImportModelError: A file is damaged.
    """
    ranks = {spec.name: len(spec.dims) for spec in entry.inputs}
    calls: list[dict[str, Array]] = []
    for path in paths:
        arrays = read_inputs(path, [], list(ranks))
        if unknown := sorted(set(arrays) - set(ranks)):
            raise InvalidArgumentError(
                f"{path} holds {', '.join(unknown)}; the model has {', '.join(ranks)}"
            )
        extra = {array.ndim - ranks[name] for name, array in arrays.items()}
        if extra == {0}:
            calls.append(arrays)
            continue
        counts = {array.shape[0] for array in arrays.values() if array.ndim}
        if extra != {1} or len(counts) != 1:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise InvalidArgumentError(
                f"{path} holds {shapes or 'nothing'}: give one call, or all inputs of several "
                "along an additional first axis"
            )
        calls += [
            {name: np.ascontiguousarray(array[n]) for name, array in arrays.items()}
            for n in range(counts.pop())
        ]
    return calls


def text_of(quantised: QuantizedModel, *, random: bool) -> str:
    """The report for people."""
    lines = [table(quantised.report.rows()), quantised.report.summary()]
    if random:
        lines.append("measured on a random call: give --calibration for meaningful numbers")
    return "\n".join(lines)


def verdict(quantised: QuantizedModel, required: float | None) -> int:
    """1 where an output is under the limit."""
    bad = [row for row in quantised.report.outputs if required is not None and row.sqnr < required]
    for row in bad:
        print(
            f"output {row.name}: SQNR {row.sqnr:.1f} dB is under {required:g} dB", file=sys.stderr
        )
    return FAILED if bad else OK
