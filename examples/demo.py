"""Compile a trained model, run it on real files, and put it beside onnxruntime.

    python examples/demo.py path/to/magika/models/.../model.onnx

The model tells the type of a file from its first and last bytes. It comes with the package
`magika`; `python3 tools/dev.py demo` fetches it and runs this file.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

import torsh_fx
from torsh_fx.memory import memory_plan

Array = npt.NDArray[np.generic]
ROOT = Path(__file__).resolve().parent.parent
FILES = [ROOT / "pyproject.toml", ROOT / "README.md", Path(__file__)]
PAIRS = 60
TOLERANCE = 1e-4
"""Of a probability: onnxruntime itself is up to 5e-5 away from the model in float64 here."""


def features(path: Path, config: dict[str, Any]) -> Array:
    """The bytes of a file as the model wants them: stripped, cut and padded at both ends."""
    data, pad = path.read_bytes(), config["padding_token"]
    block, begin, end = config["block_size"], config["beg_size"], config["end_size"]
    first = list(data[:block].lstrip()[:begin])
    last = list(data[-block:].rstrip()[-end:])
    return np.array([*first, *[pad] * (begin - len(first)), *[pad] * (end - len(last)), *last])


def paired_times(*calls: Callable[[], object]) -> list[list[float]]:
    """Seconds of calls that take turns in random order."""
    times: list[list[float]] = [[] for _ in calls]
    order = random.Random(0)
    for _ in range(PAIRS):
        for index in order.sample(range(len(calls)), len(calls)):
            start = time.perf_counter()
            calls[index]()
            times[index].append(time.perf_counter() - start)
    return times


def main(path: Path) -> None:
    """Print what the module's docstring promises."""
    config = json.loads((path.parent / "config.min.json").read_text())
    inputs = np.stack([features(file, config) for file in FILES]).astype(np.int32)

    start = time.perf_counter()
    model = torsh_fx.compile(path, threads=1)
    seconds = time.perf_counter() - start
    report = model.report
    print(f"source         {path.name} of {path.parent.name}, {report.source_nodes} nodes")
    print(f"ops            {report.ops_before} imported, {report.ops_after} optimised,", end=" ")
    print(f"{report.kernels} kernels")
    steps = ", ".join(f"{name} {s:.2f}" for name, s in report.seconds.items())
    print(f"compile time   {seconds:.2f} s ({steps})")
    plan = memory_plan(model, [inputs.shape])
    print(f"memory plan    weights {plan.weights / 2**20:.1f} MiB,", end=" ")
    print(f"arena {plan.arena / 2**20:.1f} MiB for a batch of {len(inputs)}")

    ours = model(inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    theirs = session.run(None, {model.input_names[0]: inputs})[0]
    for file, scores in zip(FILES, ours, strict=True):
        label = config["target_labels_space"][int(scores.argmax())]
        print(f"               {file.name} is {label} ({scores.max():.1%})")
    difference = np.abs(ours - theirs).max()
    print(f"max difference from onnxruntime: {difference:.2g}")

    feeds = {model.input_names[0]: inputs}
    own, other = paired_times(lambda: model(inputs), lambda: session.run(None, feeds))
    ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
    print(f"latency        {statistics.median(own) * 1e3:.2f} ms, onnxruntime", end=" ")
    print(f"{statistics.median(other) * 1e3:.2f} ms (1 thread; paired ratio {ratio:.2f})")
    if difference > TOLERANCE:
        sys.exit("the outputs differ from onnxruntime's")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
