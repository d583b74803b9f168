"""Mutated ONNX models end in onnxruntime's result or a typed error; never a crash or a hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from robust_models import HERE, ROOT

COUNT = 150
TOLERANCE = 1e-4
"""Of the output's scale: mutations put numbers into exp and pow that magnify rounding."""


@pytest.fixture(scope="module")
def results() -> list[dict]:
    """One result for each mutated model."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(HERE / "robust_batch.py"), "0", str(COUNT)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=environ,
    )
    lines = done.stdout.splitlines()
    last = lines[-1] if lines else "nothing"
    assert done.returncode == 0, f"ended with {done.returncode} at {last}: {done.stderr[-3000:]}"
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_every_model_ends_well(results: list[dict]):
    assert [one["number"] for one in results] == list(range(COUNT))
    refused = [one for one in results if one["kind"] == "refused"]
    compared = [one for one in results if one["kind"] == "compared"]
    assert len(refused) > COUNT // 10
    assert len(compared) > COUNT // 10


def test_where_both_run_the_results_agree(results: list[dict]):
    far = [r for r in results if r["kind"] == "compared" and not r["distance"] <= TOLERANCE]
    assert not far


def test_errors_are_about_the_model(results: list[dict]):
    for one in results:
        if one["kind"] == "refused":
            text = one["text"]
            assert text, one
            assert "Traceback" not in text, one
            assert "object has no attribute" not in text, one
