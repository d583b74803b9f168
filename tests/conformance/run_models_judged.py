#!/usr/bin/env python3
"""`run_models.py`, and a second verdict on ONNX models whose stored outputs are not ours.

The stored outputs come from a framework that errs too. Where ours differ from them by more than the
tolerance, the model is run in float64 (`torsh_fx.wide` makes it, onnxruntime or `onnx.reference`
runs it, none of our code computes anything), and both are compared with that. The status is
`float64` where, for each output, our error is at most the stored one's: in its root mean square and
at its largest. Integers must be equal, NaN and infinities must stand where float64 has them.

Takes the arguments of `run_models.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

Arrays = list[Any]


@dataclass(frozen=True)
class Comparison:
    """Errors of one output over all its sets: ours, and those of the stored values."""

    ours_rms: float
    ours_most: float
    stored_rms: float
    stored_most: float

    @property
    def is_good(self) -> bool:
        return self.ours_rms <= self.stored_rms and self.ours_most <= self.stored_most

    def __str__(self) -> str:
        """Both errors."""
        return (
            f"error against float64: rms {self.ours_rms:.2g}, max {self.ours_most:.2g}; "
            f"of the stored output {self.stored_rms:.2g}, {self.stored_most:.2g}"
        )


def compared(ours: Sequence[Any], stored: Sequence[Any], exact: Sequence[Any]) -> Comparison | str:
    """One output over all sets; what is wrong, in words, where errors do not decide."""
    differences: list[list[np.ndarray]] = [[], []]
    for mine, theirs, wide in zip(ours, stored, exact, strict=True):
        a, b, e = np.asarray(mine), np.asarray(theirs), np.asarray(wide)
        if a.shape != b.shape or a.dtype != b.dtype or e.shape != b.shape:
            return f"{a.dtype}{list(a.shape)}, stored {b.dtype}{list(b.shape)}"
        if b.dtype.kind != "f":
            if not np.array_equal(a, b):
                return "integers differ"
            continue
        finite = np.isfinite(e)
        if not np.array_equal(a[~finite].astype(np.float64), e[~finite], equal_nan=True):
            return "NaN or infinities differ from float64's"
        for found, value in zip(differences, (a, b), strict=True):
            found.append(value[finite].astype(np.float64) - e[finite])
    errors = [np.concatenate([np.zeros(1), *found]) for found in differences]
    numbers = [(float(np.sqrt(np.mean(e**2))), float(np.abs(e).max())) for e in errors]
    return Comparison(*numbers[0], *numbers[1])


def judged(ours: list[Arrays], stored: list[Arrays], exact: list[Arrays]) -> dict[str, str]:
    """The status of a case; each argument holds the outputs of each set."""
    if not len(ours) == len(stored) == len(exact):
        return {"status": "fail", "msg": f"{len(ours)} sets, stored {len(stored)}"}
    if any(len(a) != len(b) for a, b in zip(ours, stored, strict=True)):
        return {"status": "fail", "msg": "other outputs than the stored ones"}
    texts: list[str] = []
    good = True
    for sets in zip(*(zip(*one, strict=True) for one in (ours, stored, exact)), strict=True):
        found = compared(*sets)
        good &= isinstance(found, Comparison) and found.is_good
        texts.append(str(found))
    return {"status": "float64" if good else "fail", "msg": " | ".join(texts)}


def stored_sets(file: str) -> tuple[list[Arrays], list[Arrays]]:
    """Inputs and outputs of each set of a case, as `run_models.py` names them."""
    data = np.load(file, allow_pickle=True)
    count = 1 + max((int(k[1:].split("_")[0]) for k in data.files if k[0] == "s"), default=-1)
    prefixes = [f"s{n}_" for n in range(count)] or [""]

    def arrays(prefix: str) -> Arrays:
        names = sorted(
            (k for k in data.files if k.startswith(prefix)), key=lambda k: int(k.split("_")[-1])
        )
        return [data[name] for name in names]

    return [arrays(f"{p}in_") for p in prefixes], [arrays(f"{p}out_") for p in prefixes]


def float64_run(model: str) -> Callable[[Arrays], Arrays]:
    """The model in float64; what runs it is found at the first call."""
    import onnx

    from torsh_fx.wide import wide_array, wide_onnx

    proto = wide_onnx(onnx.load(model))
    outputs = [value.name for value in proto.graph.output]
    stored = {tensor.name for tensor in proto.graph.initializer}
    names = [value.name for value in proto.graph.input if value.name not in stored]

    def by_runtime(feed: dict[str, Any]) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(outputs, feed)

    def by_reference(feed: dict[str, Any]) -> Any:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(proto).run(outputs, feed)

    def run(inputs: Arrays) -> Arrays:
        feed = {name: wide_array(x) for name, x in zip(names, inputs, strict=True)}
        with contextlib.suppress(Exception):  # it has few kernels for float64
            return by_runtime(feed)
        return by_reference(feed)

    return run


def write_outputs(target: str, model: str, data: str, file: str) -> None:
    """In a process of its own: compile, run every set under the guards, and store the outputs."""
    import onnx

    spec = importlib.util.spec_from_file_location("torsh_target", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.prepare(onnx.load(model))
    inputs, _ = stored_sets(data)
    found = {f"s{n}_out_{i}": y for n, xs in enumerate(inputs) for i, y in enumerate(run(list(xs)))}
    np.savez(file, **found)


def second_verdict(target: str, case: dict[str, Any]) -> dict[str, str]:
    """Judge a case by float64."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "ours.npz")
        command = [sys.executable, __file__, "--target", target]
        command += ["--outputs", case["file"], case["npz"], file]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return {"status": "fail", "msg": done.stderr[-300:]}
        _, ours = stored_sets(file)
    inputs, stored = stored_sets(case["npz"])
    run = float64_run(case["file"])
    return judged(ours, stored, [run(list(xs)) for xs in inputs])


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--target", required=True)
    made.add_argument("--json", type=Path)
    made.add_argument("--outputs", nargs=3, help=argparse.SUPPRESS)
    given, rest = made.parse_known_args()
    if given.outputs:
        write_outputs(given.target, *given.outputs)
        return 0
    if given.json is None:
        made.error("--json is needed")
    runner = [str(HERE / "run_models.py"), "--target", given.target, "--json", str(given.json)]
    code = subprocess.run([sys.executable, *runner, *rest]).returncode
    if code:
        return code
    from run_models import cases

    rows: dict[str, Any] = json.loads(given.json.read_text())
    for case in cases():
        row = rows.get(case["name"])
        if row and row["status"] == "fail" and case["fmt"] == "onnx":
            first, found = row["msg"], second_verdict(given.target, case)
            rows[case["name"]] = {**found, "first": first}
            print(f"{found['status']:14s} {case['name']:45s} {found['msg']}", flush=True)
    given.json.write_text(json.dumps(rows, indent=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
