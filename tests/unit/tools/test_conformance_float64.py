"""The second verdict of `run_models_judged.py`: it must be able to fail."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).parents[3]
MODEL = """<ir_version: 8, opset_import: ["" : 18]> g (float[n] x, int64[k] i) => (float[n] y, int64[k] j) {
 half = Constant<value_float=0.5>() z = Mul(x, half) y = Log(z) j = Neg(i) }"""  # noqa: E501
TARGET = """
import numpy as np
def prepare(model):
    def run(inputs):
        y = np.log(inputs[0].astype(np.float64) * 0.5).astype(np.float32)
        {fault}
        return [y, -inputs[1]]
    return run
"""


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "conformance"))
    monkeypatch.delitem(sys.modules, "run_models_judged", raising=False)
    return importlib.import_module("run_models_judged")


EXACT = np.linspace(0.1, 3, 50)
STORED = (EXACT + 1e-3 * np.sin(np.arange(50))).astype(np.float32)


def verdict(judge, ours, stored=STORED, exact=EXACT) -> str:
    return judge.judged([[ours]], [[stored]], [[exact]])["status"]


def changed(place: int, by: float) -> np.ndarray:
    ours = EXACT.astype(np.float32)
    ours[place] += by
    return ours


def test_errors_up_to_the_stored_ones_are_good(judge):
    assert verdict(judge, EXACT.astype(np.float32)) == "float64"
    assert verdict(judge, STORED) == "float64"
    assert verdict(judge, changed(3, 0.9e-3)) == "float64"


@pytest.mark.parametrize(
    "ours",
    [
        changed(3, 1.1e-3),  # the largest error is above the stored output's
        EXACT.astype(np.float32) + np.float32(0.9e-3),  # its root mean square is
        changed(3, np.nan),
        changed(3, np.inf),
        EXACT,  # float64 is another dtype
        EXACT.astype(np.float32)[:-1],
    ],
    ids=["largest", "rms", "nan", "inf", "dtype", "shape"],
)
def test_a_planted_fault_fails(judge, ours):
    assert verdict(judge, ours) == "fail"


def test_infinities_of_the_model_must_be_there(judge):
    exact, stored, ours = EXACT.copy(), STORED.copy(), EXACT.astype(np.float32)
    for array in (exact, stored, ours):
        array[7] = -np.inf
    assert verdict(judge, ours, stored, exact) == "float64"
    assert verdict(judge, EXACT.astype(np.float32), stored, exact) == "fail"


def test_integers_and_counts_must_be_equal(judge):
    ones = np.ones(3, np.int64)
    assert verdict(judge, ones, ones, ones) == "float64"
    assert verdict(judge, ones + 1, ones, ones) == "fail"
    assert judge.judged([[ones]], [[ones, ones]], [[ones, ones]])["status"] == "fail"
    assert judge.judged([[ones]], [[ones], [ones]], [[ones], [ones]])["status"] == "fail"


@pytest.mark.parametrize(
    ("fault", "status"), [("pass", "float64"), ("y[2] += 0.01", "fail"), ("y[2] = 1 / 0", "fail")]
)
def test_a_whole_case(judge, tmp_path, fault, status):
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    (tmp_path / "target.py").write_text(TARGET.format(fault=fault))
    x, i = np.linspace(1, 2, 5, dtype=np.float32), np.arange(3)
    y = np.log(x * 0.5) + np.float32(1e-3)
    np.savez(tmp_path / "data.npz", s0_in_0=x, s0_in_1=i, s0_out_0=y, s0_out_1=-i)
    case = {"file": str(tmp_path / "model.onnx"), "npz": str(tmp_path / "data.npz")}
    assert judge.second_verdict(str(tmp_path / "target.py"), case)["status"] == status
