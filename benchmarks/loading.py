"""Time and memory from an ONNX file to the first result, for each engine in a process of its own.

    python benchmarks/loading.py --engines torsh,onnxruntime,openvino

A row has wall seconds of loading the file (for torsh: compiled with an empty cache, and loaded
when its program is in the cache) and of the first call, without and with the engine's imports; and
the growth of the process's peak memory over numpy's, in MiB, beside the file's size. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

CHILD = """
import json, sys, time
import numpy as np

def status(name):
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) for row in file if row.startswith(name)) / 1024

before, start = status("VmRSS"), time.perf_counter()
engine, path, inputs = sys.argv[1], sys.argv[2], np.load(sys.argv[3])
arrays = [inputs[name] for name in inputs.files]
if engine == "torsh":
    import torsh_fx
    compile = torsh_fx.compile
    imported = time.perf_counter()
    model = compile(path, threads=1)
    model.run(arrays)
elif engine == "onnxruntime":
    import onnxruntime
    imported = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session.run(None, dict(zip([one.name for one in session.get_inputs()], arrays)))
else:
    import openvino
    imported = time.perf_counter()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
             "INFERENCE_NUM_THREADS": 1}
    openvino.Core().compile_model(path, "CPU", hints).create_infer_request().infer(arrays)
end = time.perf_counter()
print(json.dumps([end - imported, end - start, status("VmHWM") - before]))
"""

Figures = tuple[float, float, float]
"""Seconds without imports, seconds with them, MiB."""


def run(engine: str, path: Path, inputs: Path, cache: str) -> Figures:
    """One process."""
    environ = {**os.environ, "TORSH_CACHE_DIR": cache, "OPENVINO_TELEMETRY": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, engine, path, inputs],
        capture_output=True, text=True, env=environ, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{engine} on {path.name}: {done.stderr[-2000:]}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def best(engine: str, path: Path, inputs: Path, cache: str, rounds: int) -> Figures:
    """The least of several processes, each figure for itself."""
    found = [run(engine, path, inputs, cache) for _ in range(rounds)]
    return tuple(min(column) for column in zip(*found, strict=True))


def measure(name: str, engines: list[str], folder: Path, rounds: int) -> dict[str, Figures]:
    """All figures of a model; torsh twice, as `compile` and `torsh`."""
    from zoo import build, export_onnx

    path, inputs = folder / f"{name}.onnx", folder / "inputs.npz"
    model = build(name)
    export_onnx(model, str(path))
    np.savez(inputs, *(x.numpy() for x in model.inputs))
    found: dict[str, Figures] = {"file": (0.0, 0.0, path.stat().st_size / 2**20)}
    with tempfile.TemporaryDirectory() as cache:
        for engine in engines:
            if engine == "torsh":
                found["compile"] = run(engine, path, inputs, cache)
            found[engine] = best(engine, path, inputs, cache, rounds)
    path.unlink()
    return found


def main() -> None:
    """Measure what the arguments ask for, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", default="torsh,onnxruntime,openvino")
    parser.add_argument("--models", default="", help="names, comma-separated; all by default")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each kind")
    options = parser.parse_args()
    from zoo import MODELS

    engines = options.engines.split(",")
    columns = ["compile" if one == "torsh" else "" for one in engines]
    shown = [c for pair in zip(columns, engines, strict=True) for c in pair if c]
    print("| model | file MiB |" + "".join(f" {c} s | MiB |" for c in shown))
    print("|---" * (2 + 2 * len(shown)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models.split(",") if options.models else MODELS:
            found = measure(name, engines, Path(folder), options.rounds)
            cells = "".join(
                f" {found[c][0]:.2f} ({found[c][1]:.2f}) | {found[c][2]:.0f} |" for c in shown
            )
            print(f"| {name} | {found['file'][2]:.0f} |{cells}", flush=True)


if __name__ == "__main__":
    main()
