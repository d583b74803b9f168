"""Judges mutants: the compiler in one process, onnxruntime in another, and what both gave."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import numpy as np
from robust_models import HERE, ROOT
from robust_mutants import Plan

START_S, LIMIT_S = 120.0, 60.0
TOLERANCE = 1e-4
"""Of the output's scale, where the model magnifies rounding little."""

MAGNIFIED = 300.0
"""How many times the effect of a nudged input (1e-6) a difference may be."""

INTERNAL = ("Traceback", "object has no attribute", "NoneType", "not enough values to unpack",
            "too many values to unpack", "list index out of range", "positional argument",
            "not subscriptable", "unhashable", "has no len()")  # fmt: skip
"""Texts of Python's own errors, which say nothing to users."""


@dataclass(frozen=True)
class Verdict:
    """How a mutant ended.

    Attributes:
        kind: `same`, `refused`, `alone` (onnxruntime refuses it), `compiled` (its inputs cannot be
            drawn, or results are random), `theirs` (the reference evaluator agrees with us, not
            with onnxruntime), `ill` (rounding decides), `long` (onnxruntime does not end either:
            a mutant may ask for 2^30 iterations); and those that are findings: `wrong`, `untyped`,
            `unclear`, `crash`, `hang`.
        text: Details.
    """

    kind: str
    text: str = ""

    @property
    def good(self) -> bool:
        return self.kind in ("same", "refused", "alone", "compiled", "theirs", "ill", "long")


class Process:
    """A worker, started again when it dies or is silent for too long."""

    def __init__(self, corpus: Path | None, limit: float = LIMIT_S):
        self.command = [str(HERE / "robust_worker.py"), *([str(corpus)] if corpus else [])]
        self.limit = limit
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer, or how it failed to give one."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer tells
        return self._answer(self.limit)

    def _start(self) -> None:
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
                   "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip
        command = [sys.executable, *self.command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environ, start_new_session=True,
        )  # fmt: skip
        self._lines: Queue[str] = Queue()
        Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
        if "ready" not in self._answer(START_S):
            raise RuntimeError(f"{' '.join(command)} does not start")

    def _answer(self, limit: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=limit)
        except Empty:
            self.close()
            return {"kind": "hang", "text": f"no answer in {limit:g} s"}
        if line:
            return json.loads(line)
        code = self._process.wait() if self._process else None
        self.close()
        return {"kind": "crash", "text": f"the process ended with {code}"}

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def _read(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except ValueError:
        pass  # closed
    lines.put("")


@dataclass
class Judge:
    """Two processes, and the comparison of what they give."""

    corpus: Path | None = None
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="mutants")))

    def __post_init__(self) -> None:
        self._ours, self._theirs = Process(self.corpus), Process(self.corpus)

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()

    def judge(self, plan: Plan) -> Verdict:
        """How a mutant ends."""
        found, ours = self._ask(self._ours, plan, "ours")
        kind, text = found["kind"], found.get("text", "")
        if kind == "refused":
            unclear = not text or any(phrase in text for phrase in INTERNAL)
            return Verdict("unclear" if unclear else "refused", f"{found['error']}: {text}")
        if kind == "hang" and self._ask(self._theirs, plan, "onnxruntime")[0]["kind"] == "hang":
            return Verdict("long", text)
        if kind != "ran":
            return Verdict(kind, text)
        answer, theirs = self._ask(self._theirs, plan, "onnxruntime")
        if answer["kind"] != "ran":
            return Verdict("alone", answer.get("text", ""))
        difference = compare(ours, theirs[0], theirs[1])
        if difference is None:
            return Verdict("same")
        answer, third = self._ask(self._theirs, plan, "reference")
        if answer["kind"] == "ran":
            if compare(ours, third, third) is None:
                return Verdict("theirs", difference)
            difference += " (the reference evaluator differs from us too)"
        return Verdict("ill" if "rounding" in difference else "wrong", difference)

    def _ask(self, process: Process, plan: Plan, engine: str) -> tuple[dict[str, Any], list[Any]]:
        file = self.folder / f"{engine}.pkl"
        file.unlink(missing_ok=True)
        found = process.ask({"plan": plan.data(), "engine": engine, "file": str(file)})
        return found, pickle.loads(file.read_bytes()) if file.exists() else []


def compare(ours: list[Any], theirs: list[Any], nudged: list[Any]) -> str | None:
    """What differs, or None; `nudged` shows how far inputs that differ by rounding move results."""
    if len(ours) != len(theirs):
        return f"{len(ours)} outputs, not {len(theirs)}"
    for position, (a, b, c) in enumerate(zip(ours, theirs, nudged, strict=True)):
        with np.errstate(all="ignore"):
            text = _difference(a, b, c)
        if text:
            return f"output {position}: {text}"
    return None


def _difference(ours: Any, theirs: Any, nudged: Any) -> str | None:
    if theirs is None or ours is None:
        return None if theirs is None and ours is None else "one of both is no value"
    if isinstance(theirs, list):
        return compare(list(ours), theirs, nudged)
    a, b, c = np.asarray(ours), np.asarray(theirs), np.asarray(nudged)
    if b.dtype.kind in "OUS":
        return None if a.astype(str).tolist() == b.astype(str).tolist() else "strings differ"
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}"
    far, free = distance(a, b), distance(c, b)
    if far <= TOLERANCE or (a.dtype.itemsize < 4 and far <= 1e-2):
        return None
    if far <= MAGNIFIED * free:
        return f"differs by {far:.2g}; rounding of inputs moves it by {free:.2g}"
    return f"differs by {far:.2g} of its scale"


def distance(ours: np.ndarray, other: np.ndarray) -> float:
    """Greatest difference, relative to the scale of `other`; infinite where they are not alike."""
    if ours.shape != other.shape or ours.dtype != other.dtype:
        return float("inf")
    if other.dtype.kind in "iub":
        return 0.0 if (ours == other).all() else float("inf")
    wide = np.complex128 if other.dtype.kind == "c" else np.float64
    a, b = ours.astype(wide), other.astype(wide)
    finite = np.isfinite(a) & np.isfinite(b)
    if not ((a == b) | (np.isnan(a) & np.isnan(b)) | finite).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(b[finite]).max()), 1e-30)
    return float(np.abs(a - b)[finite].max()) / scale
