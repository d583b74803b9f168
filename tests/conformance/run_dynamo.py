#!/usr/bin/env python3
"""`torch.compile` with a backend on shrunk transformers architectures, next to eager.

The models are those of `run_hf_arch.py` (random weights, no download). The target defines

    dynamo_backend: callable(GraphModule, example_inputs) -> callable(*inputs) -> outputs

Dynamo finds the graph breaks, not the backend: what breaks with the backend `eager` breaks with
inductor too (`--peer inductor` counts them with inductor itself, which takes minutes a model). A
backend adds breaks where it fails on a graph, and adds graphs where it makes Dynamo specialise.

Statuses: pass; fail (wrong values); breaks (graph breaks or graphs that the peer does not have);
error_run; timeout; crash; and, not counted, sample_error (the model does not run in eager mode).

    run_dynamo.py --list hf/archs.json --limit 30 --target target.py --json out.json
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import queue
import re
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import run_hf_arch  # noqa: E402
from run_torch_ops import Proc, load_target  # noqa: E402

TOLERANCE = 1e-4
"""Largest error of an output, relative to its largest magnitude."""


def runnable(model_type: str, class_name: str) -> tuple[Any, dict[str, Any], list[Any]]:
    """A model, its arguments and the eager outputs.

    Raises:
        RuntimeError: No configuration builds and runs.
    """
    import torch

    torch.manual_seed(0)
    reached: dict[str, Any] = {"status": "config"}
    sample = run_hf_arch.sample_of(model_type, class_name, [], reached)
    if sample is None:
        raise RuntimeError(f"{model_type}: {reached['status']}: {reached.get('msg', 'no class')}")
    return sample.module.m, sample.inputs, list(sample.ref)


def tensors(outputs: Any) -> list[Any]:
    """The tensors of a model's outputs, in order."""
    import torch
    from torch.utils import _pytree as pytree

    plain = tuple(outputs.values()) if hasattr(outputs, "values") else outputs
    return [x for x in pytree.tree_leaves(plain) if isinstance(x, torch.Tensor)]


def compiled(model: Any, inputs: dict[str, Any], backend: Any) -> tuple[list[Any], dict[str, int]]:
    """The outputs of the second call under `torch.compile`, and Dynamo's counts.

    The counts are the graphs, and the graph breaks by reason.
    """
    import torch
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    function = torch.compile(model, backend=backend)
    with torch.no_grad():
        function(**inputs)
        outputs = tensors(function(**inputs))
    counts = {f"break: {' '.join(k.split())[:120]}": v for k, v in counters["graph_break"].items()}
    return outputs, {"graphs": counters["stats"]["unique_graphs"], **counts}


def difference(got: list[Any], expected: list[Any]) -> str:
    """What is wrong with the outputs; empty where nothing is."""
    import torch

    if len(got) != len(expected):
        return f"{len(got)} outputs, expected {len(expected)}"
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"output {number}: {a.dtype}{tuple(a.shape)} for {b.dtype}{tuple(b.shape)}"
        if not b.is_floating_point():
            if not torch.equal(a, b):
                return f"output {number}: integers differ"
            continue
        if not torch.equal(torch.isfinite(a), torch.isfinite(b)):
            return f"output {number}: finite in other places"
        x, y = (torch.nan_to_num(v.double(), 0, 0, 0) for v in (a, b))
        error, scale = float((x - y).abs().max()) if x.numel() else 0.0, float(y.abs().max())
        if error > TOLERANCE * scale:
            return f"output {number}: error {error:.2e} at scale {scale:.2e}"
    return ""


def one(model_type: str, class_name: str, backend: Any, peer: str) -> dict[str, Any]:
    """The row of an architecture."""
    try:
        model, inputs, expected = runnable(model_type, class_name)
    except Exception as error:
        return {"status": "sample_error", "msg": str(error)[:300]}
    try:
        _, theirs = compiled(model, inputs, peer)
    except Exception as error:
        return {"status": "sample_error", "msg": f"{peer}: {type(error).__name__}: {error}"[:300]}
    try:
        start = time.monotonic()
        outputs, ours = compiled(model, inputs, backend)
        seconds = round(time.monotonic() - start, 1)
    except Exception as error:
        return {"status": "error_run", "msg": f"{type(error).__name__}: {error}"[:300]}
    row: dict[str, Any] = {"counts": ours, "peer": theirs, "t_compiled": seconds}
    if wrong := difference(outputs, expected):
        return {**row, "status": "fail", "msg": wrong}
    added = {name: count for name, count in ours.items() if count > theirs.get(name, 0)}
    if added:
        return {**row, "status": "breaks", "msg": str(added)}
    return {**row, "status": "pass"}


def worker(options: argparse.Namespace) -> None:
    """Answer lines `model_type class` with rows as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.filterwarnings("ignore")
    import logging

    logging.disable(logging.CRITICAL)
    import torch

    torch.set_num_threads(1)
    backend = load_target(options.target).dynamo_backend
    answers.write('{"ready": 1}\n')
    answers.flush()
    for line in sys.stdin:
        row = one(*line.split(), backend, options.peer)
        answers.write(json.dumps(row) + "\n")
        answers.flush()


def main() -> None:
    """Run the architectures of a list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--include", default="")
    parser.add_argument("--json")
    parser.add_argument("--peer", default="eager", help="whose graph breaks count")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    if options.worker:
        return worker(options)
    rows: list[dict[str, Any]] = json.loads(Path(options.list).read_text())
    names = [(row["model_type"], row["cls"]) for row in rows[: options.limit]]
    todo: queue.Queue[tuple[str, str]] = queue.Queue()
    for name in names:
        if re.search(options.include, name[0]):
            todo.put(name)
    found: dict[str, dict[str, Any]] = {}

    def work() -> None:
        process = Proc([sys.executable, str(HERE / "run_dynamo.py"), "--worker", *sys.argv[1:]])
        while not todo.empty():
            try:
                model_type, cls = todo.get_nowait()
            except queue.Empty:
                break
            row = process.ask(f"{model_type} {cls}", options.timeout)
            found[model_type] = row["samples"][0] if "samples" in row else row
        process.kill()

    threads = [threading.Thread(target=work) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(dict(collections.Counter(row["status"] for row in found.values())))
    if options.json:
        Path(options.json).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
