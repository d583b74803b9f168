"""What `dev.py conformance` makes of result files and of the table of known gaps."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def conformance(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("dev_conformance", ROOT / "tools" / "dev_conformance.py")  # fmt: skip  # noqa: E501
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dev_conformance", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WORK", tmp_path)
    monkeypatch.setattr(module, "GAPS", tmp_path / "gaps.json")
    rows = [{"suite": "torch-op", "reason": "no such op", "cases": ["b#1", "c#2"]}]
    (tmp_path / "gaps.json").write_text(json.dumps(rows))
    return module


def suite_with(conformance, results):
    suite = next(s for s in conformance.SUITE_LIST if s.name == "torch-op")
    suite.result.write_text(json.dumps({"results": results}))
    return suite


def samples(*found):
    return {"samples": [{"status": status, "msg": "why"} for status in found]}


def test_a_case_has_the_worst_status_of_its_samples(conformance):
    results = {"a#0": samples("pass", "fail"), "b#1": samples("nondet", "pass"), "c#2": samples()}
    found = conformance.statuses(suite_with(conformance, results))
    assert {name: status for name, (status, _) in found.items()} == {
        "a#0": "fail",
        "b#1": "pass",
        "c#2": "sample_error",
    }


def test_surprises_are_unlisted_failures_and_listed_passes(conformance):
    results = {
        "a#0": samples("crash"),
        "b#1": samples("pass"),
        "c#2": samples("unsupported"),
        "d#3": samples("export_error"),
    }
    suite = suite_with(conformance, results)
    lines = list(conformance.surprises(suite, conformance.statuses(suite)))
    assert lines == [
        "torch-op a#0: crash: why",
        "torch-op b#1 passes; take it out of gaps.json (no such op)",
    ]


@pytest.mark.parametrize("results", [None, {}])
def test_a_suite_that_did_not_run_fails(conformance, results):
    suite = next(s for s in conformance.SUITE_LIST if s.name == "torch-op")
    if results is not None:
        suite_with(conformance, results)
    with pytest.raises(SystemExit, match="PyTorch OpInfo, float32"):
        conformance.statuses(suite)


def test_parts_cover_every_row_once(conformance):
    import re

    names = [f"op#{n}" for n in range(250)]
    parts = [conformance.torch_part(part)[1] for part in range(conformance.PARTS)]
    assert [sum(bool(re.search(p, name)) for p in parts) for name in names] == [1] * 250


def test_the_report_counts_and_explains(conformance):
    results = {"a#0": samples("pass"), "b#1": samples("unsupported"), "d#3": samples("nondet")}
    suite = suite_with(conformance, results)
    text = conformance.report({suite: conformance.statuses(suite)}, 120.0)
    assert "| PyTorch OpInfo, float32 | 1 | 2 | 654 export, 639 comparable |" in text
    assert "- 1: no such op" in text
    assert "2 minutes" in text


def test_every_suite_is_in_the_repository():
    for name in ("onnx/core_subset.json", "hf/archs.json", "real/manifest_onnx.json", "gaps.json"):
        assert json.loads((ROOT / "tests" / "conformance" / name).read_text()) is not None
