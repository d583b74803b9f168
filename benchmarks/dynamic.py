"""Latency of a program with symbolic extents against the program compiled for each size.

    python benchmarks/dynamic.py --models resnet50,bert_base_128 --seconds 1 --limit 1.15

Each zoo model is compiled once with every sensible axis symbolic, and once for each of its sizes.
Both run the same inputs in alternation; a row shows the median of the paired ratios
dynamic/static with its quartiles. Ends with status 1 where outputs differ beyond rounding or a
ratio is above the limit.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


Clock = Callable[[], float]


@dataclass(frozen=True)
class Axes:
    """The symbolic axes of a model's inputs and the sizes to run it at.

    Attributes:
        names: For each input, its symbolic axes: `{axis: (name, factor)}`; extents are multiples
            of `factor`.
        sizes: Values of the names.
        least: Least height and width: torch refuses images of which a window leaves a single row.
    """

    names: tuple[dict[int, tuple[str, int]], ...]
    sizes: tuple[dict[str, int], ...]
    least: int = 1


def images(*sizes: tuple[int, int, int], factor: int = 1, least: int = 1) -> Axes:
    """Batch, height and width of one input [N, C, H, W]."""
    axes = {0: ("batch", 1), 2: ("height", factor), 3: ("width", factor)}
    rows = tuple({"batch": n, "height": h, "width": w} for n, h, w in sizes)
    return Axes((axes,), rows, least)


def tokens(*sizes: tuple[int, int]) -> Axes:
    """Batch and length of one input [N, L]."""
    axes = {0: ("batch", 1), 1: ("length", 1)}
    return Axes((axes,), tuple({"batch": n, "length": m} for n, m in sizes))


CLASSIFIER = images((1, 224, 224), (3, 160, 192), (1, 97, 131), least=33)

AXES: dict[str, Axes] = {
    "resnet50": CLASSIFIER,
    "mobilenet_v2": CLASSIFIER,
    "efficientnet_b0": CLASSIFIER,
    "convnext_tiny": images((1, 224, 224), (3, 160, 192), factor=32),
    "unet_small": images((1, 256, 256), (2, 100, 132), factor=4),
    "vit_b16": Axes(({0: ("batch", 1)},), ({"batch": 1}, {"batch": 3})),
    "bert_base_128": tokens((1, 128), (1, 37), (3, 64)),
    "gpt2_prefill_128": tokens((1, 128), (1, 37), (3, 64)),
    "gpt2_decode_128": Axes(({}, {4: ("length", 1)}), tuple({"length": n} for n in (128, 31, 500))),
    "lstm_256": Axes(
        ({0: ("batch", 1), 1: ("length", 1)},),
        ({"batch": 1, "length": 100}, {"batch": 5, "length": 37}),
    ),
    "mlp_b64": Axes(({0: ("batch", 1)},), tuple({"batch": n} for n in (1, 7, 64, 257))),
    "audio_cnn": images((1, 98, 40), (4, 61, 40), least=4),
}
"""Models by name; `mlp_b1` is `mlp_b64` at batch 1."""


def dynamic_shapes(axes: Axes) -> tuple[dict[int, Any], ...]:
    """The axes as `torch.export` takes them: one symbol for each name; a batch may be empty."""
    from torch.export import Dim

    base: dict[str, Any] = {}
    for name, factor in (entry for row in axes.names for entry in row.values()):
        least = axes.least if name in ("height", "width") else int(name != "batch")
        base[name] = Dim(f"{name}_" if factor > 1 else name, min=least)
    return tuple(
        {axis: factor * base[name] if factor > 1 else base[name]
         for axis, (name, factor) in row.items()}
        for row in axes.names
    )  # fmt: skip


def resized(example: Any, axes: dict[int, tuple[str, int]], size: dict[str, int]) -> Any:
    """An input like `example` whose symbolic axes have other extents."""
    import torch

    shape = [size[axes[n][0]] if n in axes else d for n, d in enumerate(example.shape)]
    generator = torch.Generator().manual_seed(sum(shape))
    if example.is_floating_point():
        return torch.randn(shape, generator=generator)
    return torch.randint(0, 30000, shape, generator=generator)


@dataclass
class Pair:
    """One size of a model, bound in both programs."""

    dynamic: Any
    static: Any
    outputs: tuple[Sequence[Any], Sequence[Any]]

    def error(self) -> float:
        """The largest difference of the outputs relative to their scale."""
        import numpy as np

        self.dynamic()
        self.static()
        pairs = zip(*self.outputs, strict=True)
        return max(
            float(np.abs(a - b).max()) / max(float(np.abs(b).max()), 1e-30) for a, b in pairs
        )


def bound(compiled: Any, arrays: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A call without lookups, and the outputs that it writes."""
    import numpy as np

    outputs = [np.empty_like(y) for y in compiled.run(arrays)]
    return compiled.executable.bind(arrays, outputs), outputs


SHORTEST_S = 0.002
"""A timed turn repeats its call for at least this long."""


def measure(
    first: Callable[[], None], second: Callable[[], None], seconds: float, clock: Clock
) -> tuple[list[float], list[float]]:
    """Times of a call of each, in turns of random order, each after an untimed call."""
    calls, times = (first, second), (list[float](), list[float]())
    start = clock()
    first()
    repeats = max(1, math.ceil(SHORTEST_S / max(clock() - start, 1e-6)))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 7:
        for number in random.sample((0, 1), 2):
            call = calls[number]
            call()
            start = clock()
            for _ in range(repeats):
                call()
            times[number].append((clock() - start) / repeats)
    return times


def run_model(name: str, threads: int, seconds: float, clock: Clock) -> list[dict[str, Any]]:
    """Rows of all sizes of a model."""
    import numpy as np
    from run import quartiles
    from zoo import build

    import torsh_fx.compiler as compiler

    model, axes = build(name), AXES[name]
    whole = compiler.compile(
        model.module, model.inputs, dynamic_shapes=dynamic_shapes(axes), threads=threads
    )
    rows: list[dict[str, Any]] = []
    for size in axes.sizes:
        inputs = [resized(x, a, size) for x, a in zip(model.inputs, axes.names, strict=True)]
        arrays = [np.ascontiguousarray(x.numpy()) for x in inputs]
        own = compiler.compile(model.module, tuple(inputs), threads=threads)
        (dynamic, a), (static, b) = bound(whole, arrays), bound(own, arrays)
        pair = Pair(dynamic, static, (a, b))
        error = pair.error()
        times = measure(dynamic, static, seconds, clock)
        ratios = [d / s for d, s in zip(*times, strict=True)]
        rows.append(
            {
                "model": name,
                "size": size,
                "threads": threads,
                "error": error,
                "static_ms": statistics.median(times[1]) * 1e3,
                "ratio": quartiles(ratios),
            }
        )
        print(table(rows[-1:]).splitlines()[2], file=sys.stderr, flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, and the geometric mean of the ratios."""
    lines = ["| model | size | static ms | dynamic/static | error |", "|---|---|---|---|---|"]
    for row in rows:
        low, middle, high = row["ratio"]
        size = " ".join(f"{k}={v}" for k, v in row["size"].items())
        lines.append(
            f"| {row['model']} | {size} | {row['static_ms']:.2f} "
            f"| {middle:.3f} ({low:.3f}-{high:.3f}) | {row['error']:.0e} |"
        )
    middles = [row["ratio"][1] for row in rows]
    mean = math.exp(statistics.fmean(math.log(m) for m in middles))
    lines.append(f"\nGeometric mean **{mean:.3f}**, largest {max(middles):.3f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", default="", help="names, comma-separated; all by default")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="per size; all models take about 5 minutes"
    )
    parser.add_argument("--limit", type=float, default=1.15, help="largest median ratio")
    parser.add_argument(
        "--cpu-time", action="store_true", help="compare processor time: on a machine in use"
    )
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    from engines import limit_threads

    limit_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    rows: list[dict[str, Any]] = []
    for name in options.models.split(",") if options.models else AXES:
        rows += run_model(name, options.threads, options.seconds, clock)
    print(table(rows))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1))
    slow = [r for r in rows if r["ratio"][1] > options.limit]
    wrong = [r for r in rows if not r["error"] < 1e-3]
    for row in slow:
        print(f"above {options.limit}: {row['model']} {row['size']}", file=sys.stderr)
    for row in wrong:
        print(f"outputs differ: {row['model']} {row['size']}", file=sys.stderr)
    return int(bool(slow or wrong))


if __name__ == "__main__":
    sys.exit(main())
