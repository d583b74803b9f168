"""Latency of one-op programs with symbolic extents against those compiled for each size.

    python benchmarks/dynamic_ops.py --only matmul,conv --seconds 0.3 --limit 1.15

Each case is an ONNX model of one node, compiled once with its symbolic axes and once for each of
its sizes. Both run the same inputs in alternation, each turn for at least `dynamic.SHORTEST_S`; a
row shows the median of the paired ratios dynamic/static. Results are compared with the program of
the size, which must be equal to rounding, and with onnxruntime where it takes the case. Ends with
status 1 where results are wrong or a ratio is above the limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from dynamic import Clock, measure
from dynamic_cases import CASES, Case, Sizes

from lowering.cpu.jit import aligned

TOLERANCE = 2e-5
"""Largest difference from onnxruntime relative to the scale of the result; sums differ in order."""


PAGE = 4096
"""Bytes; what addresses have in common that are as far into their pages slows memory down."""


@dataclass(frozen=True)
class Row:
    """What was measured at one size; `error` against the peer is None where that refuses."""

    case: str
    size: Sizes
    static_us: float
    ratio: float
    quartiles: tuple[float, float]
    equal: bool
    difference: float
    error: float | None

    @property
    def is_right(self) -> bool:
        """Whether the results are those of the other program and of onnxruntime."""
        return self.difference <= TOLERANCE and (self.error is None or self.error <= TOLERANCE)


def difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of arrays relative to their scale; infinite where shapes differ."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return float("inf")
        if not a.size:
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return float("inf")
        a, b = np.nan_to_num(a), np.nan_to_num(b)
        worst = max(worst, float(np.abs(a - b).max()) / max(1e-6, float(np.abs(b).max())))
    return worst


def peer(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[Any] | None:
    """Results of onnxruntime; None where it does not take the model."""
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
        return session.run(None, inputs)
    except (states.Fail, states.InvalidArgument, states.InvalidGraph, states.NotImplemented,
            states.RuntimeException):  # fmt: skip
        return None


def reference(model: onnx.ModelProto, inputs: dict[str, Any]) -> list[Any] | None:
    """Results of the ONNX reference evaluator; None where it does not take the model."""
    from onnx.reference import ReferenceEvaluator

    try:
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, inputs)]
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError, TypeError):
        return None


def error_of(case: Case, inputs: dict[str, Any], found: Sequence[Any]) -> float | None:
    """The difference from onnxruntime, or from the reference evaluator.

    The latter decides where inputs are empty (of which onnxruntime leaves sums as the memory was)
    and where the two engines differ (it subtracts a mean late, so that an instance of one pixel
    loses digits). None where no engine takes the case.
    """
    model, expected = case.model(), None
    if all(array.size for array in inputs.values()):
        expected = peer(model, inputs)
    error = None if expected is None else difference(found, expected)
    if error is None or error > TOLERANCE:
        other = reference(model, inputs)
        error = error if other is None else difference(found, other)
    return error


def bound(case: Case, compiled: Any, arrays: Sequence[Any]) -> tuple[Callable[[], Any], list[Any]]:
    """A call, and its results: without lookups, unless extents depend on data.

    Results are aligned to pages: stores across lines of cache, or that end as addresses of loads
    do, take half as long again, so two programs would differ by where their results happen to be.
    """
    results = compiled.run(arrays)
    if case.data_dependent:
        return lambda: compiled.run(arrays), results
    outputs = [aligned(y.shape, y.dtype, PAGE) for y in results]
    return compiled.executable.bind(arrays, outputs), outputs


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quartiles of ratios."""
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def run_case(case: Case, threads: int, seconds: float, clock: Clock) -> Iterator[Row]:
    """Rows of all sizes of a case."""
    import torsh_fx.compiler as compiler

    whole = compiler.compile(case.model(), threads=threads)
    for size in case.sizes:
        inputs = case.inputs(size)
        arrays = list(inputs.values())
        own = compiler.compile(case.model(size), threads=threads)
        dynamic, a = bound(case, whole, arrays)
        static, b = bound(case, own, arrays)
        dynamic()
        static()
        error = error_of(case, inputs, a)
        times = measure(dynamic, static, seconds, clock) if seconds else ([1.0] * 3, [1.0] * 3)
        low, middle, high = quartiles([d / s for d, s in zip(*times, strict=True)])
        yield Row(
            case.name, size, statistics.median(times[1]) * 1e6, middle, (low, high),
            all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)),
            difference(a, b), error,
        )  # fmt: skip


def line(row: Row) -> str:
    """A row of the table."""
    size = " ".join(f"{k}={v}" for k, v in row.size.items())
    error = "-" if row.error is None else f"{row.error:.0e}"
    low, high = row.quartiles
    return (
        f"| {row.case} | {size} | {row.static_us:.2f} | {row.ratio:.3f} ({low:.3f}-{high:.3f}) "
        f"| {'equal' if row.equal else f'{row.difference:.0e}'} | {error} |"
    )


HEAD = "| case | size | static us | dynamic/static | bits | error |\n|---|---|---|---|---|---|"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="beginnings of names, comma-separated")
    parser.add_argument("--seconds", type=float, default=0.3, help="per size; 0 only compares")
    parser.add_argument("--limit", type=float, default=1.15, help="largest median ratio")
    parser.add_argument(
        "--cpu-time", action="store_true", help="compare processor time: on a machine in use"
    )
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    clock: Clock = time.process_time if options.cpu_time else time.perf_counter
    rows: list[Row] = []
    print(HEAD, flush=True)
    for case in CASES:
        if not case.name.startswith(tuple(options.only.split(","))):
            continue
        for row in run_case(case, options.threads, options.seconds, clock):
            rows.append(row)
            print(line(row), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps([vars(r) for r in rows], indent=1))
    slow = [r for r in rows if r.ratio > options.limit]
    wrong = [r for r in rows if not r.is_right]
    for title, found in ((f"above {options.limit}", slow), ("results differ", wrong)):
        for row in found:
            print(f"{title}: {line(row)}", file=sys.stderr)
    return int(bool(slow or wrong))


if __name__ == "__main__":
    sys.exit(main())
