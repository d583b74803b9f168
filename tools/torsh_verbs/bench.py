"""Time a model in pairs against another engine, in one run.

    torsh bench model.onnx --against onnxruntime --threads 1
    torsh bench model.onnx --against onnxruntime --size batch=16 --seconds 5

Calls of both engines alternate in shuffled pairs, on equal inputs and as many threads. The ratio
is the median of the paired ratios, with the quartiles around it: above 1, ToRSh is faster.
Outputs are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torsh_dialect.errors import ExecutionError

from ..arguments import real
from ..tables import table, time_text
from .console import OK, Answer
from .inputs import add_input_arguments
from .model import (
    StepsOnTerminal,
    add_model_arguments,
    compile_from,
    inputs_of_loaded,
    threads_of,
)
from .peers import PEERS, peer_named
from .values import difference, parts_of_values

DIFFERENT = 1e-3
"""Of scale: engines that are further apart do not compute the same."""

FEWEST_PAIRS, WARM_UP = 5, 3


@dataclass(frozen=True)
class PairedTimes:
    """Seconds of calls that were made in pairs."""

    ours: Sequence[float]
    theirs: Sequence[float]

    def quartiles(self) -> tuple[float, float, float]:
        """Quartiles of the paired ratios theirs / ours; the middle one is the median."""
        ratios = np.asarray(self.theirs) / np.asarray(self.ours)
        low, middle, high = np.percentile(ratios, (25, 50, 75)).tolist()
        return low, middle, high


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("--against", choices=PEERS[:2], help="default: by the kind of file")
    parser.add_argument("--seconds", type=real(), default=3.0, help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Time the model."""
    with StepsOnTerminal(quiet=args.quiet) as watch:
        loaded, compiled = compile_from(args, watch)
        inputs = inputs_of_loaded(args, loaded)
        engine = args.against or ("torch" if loaded.path.suffix == ".pt2" else "onnxruntime")
        threads = threads_of(args)
        peer = peer_named(engine, loaded, threads)
        require_equal(loaded.imported.outputs, compiled.run(inputs), peer(inputs), engine)
        with watch.step("measure"):
            times = measure(lambda: compiled.run(inputs), lambda: peer(inputs), args.seconds)
    low, middle, high = times.quartiles()
    rows = [["engine", "median", "threads", "calls"]]
    for name, seconds in (("torsh", times.ours), (engine, times.theirs)):
        middle_time = time_text(float(np.median(seconds)))
        rows.append([name, middle_time, str(threads), str(len(seconds))])
    answer = Answer(args.json, args.quiet)
    seconds = {"torsh": times.ours, engine: times.theirs}
    medians = {name: float(np.median(each)) for name, each in seconds.items()}
    answer.value |= {"threads": threads, "calls": len(times.ours)}
    answer.part("median_seconds", medians, lambda: table(rows))
    ratio = {"of": f"{engine} / torsh", "median": middle, "quartiles": [low, high]}
    line = f"paired ratio {engine} / torsh: {middle:.2f} (quartiles {low:.2f} to {high:.2f})"
    answer.part("ratio", ratio, lambda: line)
    answer.end()
    return OK


def require_equal(
    names: Sequence[str], ours: Sequence[Any], theirs: Sequence[Any], engine: str
) -> None:
    """Refuse to time engines that do not compute the same.

    Raises:
        ExecutionError: An output differs.
    """
    mine, others = parts_of_values(names, ours), parts_of_values(names, theirs)
    if set(mine) != set(others):
        raise ExecutionError(f"the outputs are {', '.join(mine)}, {engine}'s {', '.join(others)}")
    for name, part in mine.items():
        largest, scale = difference(part, others[name])
        if largest > DIFFERENT * (scale or 1.0):
            raise ExecutionError(
                f"{name} differs from {engine}'s by {largest:.3g} at a scale of {scale:.3g}: "
                "times of different results say nothing; see `torsh run --compare`"
            )


def measure(
    ours: Callable[[], object], theirs: Callable[[], object], seconds: float
) -> PairedTimes:
    """Call both in pairs, in random order within a pair, for about so many seconds."""
    for _ in range(WARM_UP):
        ours()
        theirs()
    order = random.Random(0)
    times: dict[bool, list[float]] = {True: [], False: []}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[True]) < FEWEST_PAIRS:
        first = order.random() < 0.5
        for mine in (first, not first):
            start = time.perf_counter()
            (ours if mine else theirs)()
            times[mine].append(time.perf_counter() - start)
    return PairedTimes(times[True], times[False])
