"""Compare engines on the zoo, in pairs within one run.

    python benchmarks/run.py --threads 1 --engines torsh,onnxruntime --json out.json

Each model is loaded once in each engine; then rounds of one call each, in random order. A row
shows the median of the paired ratios peer/torsh (above 1: torsh is faster) with its quartiles. A
row fails when an engine's outputs are wrong, when torsh's executed FLOPs would exceed the measured
peak of the cores, or when its weights could not be read from memory in that time. Every thread
count runs in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


SETTLE_S = 0.08
"""Time of untimed calls before a timed one: threads of other engines spin on after theirs."""


LEAST_STREAM = 64 << 20
"""Bytes of weights from which on reading them is checked: fewer may stay in caches."""


def measure(calls: dict[str, object], seconds: float) -> dict[str, list[float]]:
    """Times of each engine, round by round: every round runs all engines in random order.

    An engine's turn is untimed calls for `SETTLE_S` seconds (at least two), then a timed one, so
    that it finds its cores and caches as if it were alone in the process.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    names, end = list(calls), time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[names[0]]) < 7:
        random.shuffle(names)
        for name in names:
            settled = time.perf_counter() + SETTLE_S
            calls[name]()
            calls[name]()
            while time.perf_counter() < settled:
                calls[name]()
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
        if len(times[names[0]]) >= 400:
            break
    return times


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def check(outputs, expected, name: str) -> float:
    """The largest error relative to the output's scale.

    Raises:
        SystemExit: It is over 1e-3: such an engine is not computing the model.
    """
    import numpy as np

    worst = 0.0
    for y, e in zip(outputs, expected, strict=True):
        worst = max(worst, float(np.abs(y - e).max()) / max(float(np.abs(e).max()), 1e-30))
    if not worst < 1e-3:
        raise SystemExit(f"{name}: outputs differ from torch eager by {worst:.1e} of their scale")
    return worst


def run_model(name: str, engines: list[str], threads: int, seconds: float, peak: float) -> dict:
    from engines import ENGINES, eager
    from physics import read_seconds
    from zoo import build, export_onnx

    model = build(name)
    row: dict = {"model": name, "threads": threads, "engines": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{name}.onnx")
        export_onnx(model, path)
        expected = [y.copy() for y in eager(model, path, threads).call()]
        prepared = {}
        for engine in engines:
            start = time.perf_counter()
            prepared[engine] = ENGINES[engine](model, path, threads)
            took = time.perf_counter() - start
            error = check(prepared[engine].call(), expected, f"{name} in {engine}")
            row["engines"][engine] = {"load_s": took, "error": error}
        gc.collect()
        times = measure({n: p.call for n, p in prepared.items()}, seconds)
    for engine, values in times.items():
        entry = row["engines"][engine]
        entry["median_ms"] = statistics.median(values) * 1e3
        if engine != "torsh":
            pairs = [b / a for a, b in zip(times["torsh"], values, strict=True)]
            entry["ratio"] = quartiles(pairs)
    fastest = min(times["torsh"])
    facts = prepared["torsh"].facts
    row["gflops"] = facts["flops"] / fastest / 1e9
    row["of_peak"] = facts["flops"] / fastest / (peak * threads)
    if facts["weight_bytes"] > LEAST_STREAM:
        row["of_bandwidth"] = read_seconds(facts["weight_bytes"], threads) / fastest
        if row["of_bandwidth"] > 1.1:
            raise SystemExit(f"{name}: faster than its weights can be read; the timing is wrong")
    if row["of_peak"] > 1.02:
        raise SystemExit(f"{name}: {row['of_peak']:.2f} of the measured peak; the timing is wrong")
    return row


def table(rows: list[dict], engines: list[str]) -> str:
    """A Markdown table: torsh's median, and each peer's paired ratio with its quartiles."""
    peers = [e for e in engines if e != "torsh"]
    lines = ["| model | threads | torsh ms | of peak | " + " | ".join(peers) + " |"]
    lines.append("|---" * (4 + len(peers)) + "|")
    for row in rows:
        cells = [f"{row['engines']['torsh']['median_ms']:.2f}", f"{row['of_peak']:.0%}"]
        for peer in peers:
            low, middle, high = row["engines"][peer]["ratio"]
            cells.append(f"{middle:.2f} ({low:.2f}-{high:.2f})")
        lines.append(f"| {row['model']} | {row['threads']} | " + " | ".join(cells) + " |")
    for peer in peers:
        ratios = [row["engines"][peer]["ratio"][1] for row in rows]
        mean = math.exp(statistics.fmean(math.log(r) for r in ratios))
        lines.append(f"\nGeometric mean of {peer}/torsh: **{mean:.2f}**, least {min(ratios):.2f}")
    return "\n".join(lines)


def plot(rows: list[dict], engines: list[str], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    peers = [e for e in engines if e != "torsh"]
    figure, axes = plt.subplots(figsize=(10, 0.45 * len(rows) * len(peers) / 2 + 2))
    for number, peer in enumerate(peers):
        middles = [row["engines"][peer]["ratio"][1] for row in rows]
        places = [n + number / (len(peers) + 1) for n in range(len(rows))]
        axes.barh(places, middles, 0.9 / (len(peers) + 1), label=peer)
    axes.set_yticks(range(len(rows)), [f"{r['model']} x{r['threads']}" for r in rows])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("time of the peer / time of torsh (paired median)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2", help="thread counts, e.g. 1,2")
    parser.add_argument("--engines", default="torsh,onnxruntime")
    parser.add_argument("--models", default="", help="names, comma-separated; all by default")
    parser.add_argument("--seconds", type=float, default=5.0, help="per model")
    parser.add_argument("--json", default="")
    parser.add_argument("--plot", default="", help="PNG or SVG file")
    parser.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    engines = options.engines.split(",")
    if options.child:
        child(options, engines)
        return
    rows: list[dict] = []
    for threads in map(int, options.threads.split(",")):
        command = [sys.executable, __file__, *sys.argv[1:], "--child", str(threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows += json.loads(done.stdout.splitlines()[-1])
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, paired\n")
    print(table(rows, engines))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1))
    if options.plot:
        plot(rows, engines, options.plot)


def child(options: argparse.Namespace, engines: list[str]) -> None:
    """All models with one thread count; prints the rows as one line of JSON."""
    from engines import limit_threads

    limit_threads(options.child)
    from physics import peak_flops
    from zoo import MODELS

    peak = peak_flops()
    rows: list[dict] = []
    for name in options.models.split(",") if options.models else MODELS:
        rows.append(run_model(name, engines, options.child, options.seconds, peak))
        print(table(rows[-1:], engines).splitlines()[2], file=sys.stderr, flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
