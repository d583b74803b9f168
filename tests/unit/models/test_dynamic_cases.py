"""The sweep of `benchmarks/dynamic_ops.py`, without its clock: one-op models of symbolic axes.

Oracles: onnxruntime (the reference evaluator where an input is empty), and the program compiled
for each size.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from dynamic_cases import CASES
from dynamic_ops import difference, run_case

CHOSEN = (
    "matmul/batch-mkn", "matmul/k-f64", "linear/rows-narrow", "qlinear-matmul/mkn",
    "conv3x3/nhw", "conv-integer/nhw", "conv-transpose/nhw", "average-pool/nhw", "softmax/nm",
    "layer-norm/nm", "add-maybe/nmpq", "tile/nm", "transpose/nm", "concat-cache/m",
    "attention-cache/bqk", "gru/tn", "nonzero/nm",
)  # fmt: skip
"""A case of each way to lower; the rest takes minutes."""


@pytest.mark.parametrize("name", CHOSEN)
def test_every_size_is_right(name: str) -> None:
    (case,) = (case for case in CASES if case.name == name)
    rows = list(run_case(case, 1, 0, time.perf_counter))
    assert [row.size for row in rows] == list(case.sizes)
    assert not [row for row in rows if not row.is_right]
    assert any(row.error is not None for row in rows), "no other engine takes the case"


def test_what_is_called_different() -> None:
    import numpy as np

    x = np.ones((2, 3), np.float32)
    assert difference([x], [x]) == 0
    assert difference([x], [x * 2]) == 0.5
    assert difference([x], [x[:1]]) == float("inf")
    assert difference([x], [x.astype(np.float64)]) == float("inf")
    assert difference([x], [x * np.nan]) == float("inf")
