"""What `dev.py conformance` makes of result files, known gaps and the record of runs."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOLS = str(ROOT / "tools")


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """The modules of the command, with results, gaps and record in a folder of the test."""
    monkeypatch.syspath_prepend(TOOLS)
    for name in ("dev_digest", "dev_suites", "dev_record", "dev_conformance"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import dev_conformance
    import dev_record
    import dev_suites

    monkeypatch.setattr(dev_suites, "WORK", tmp_path)
    (tmp_path / "results").mkdir()
    rows = [{"suite": "torch-op", "reason": "no such op", "cases": ["b#1", "c#2"]}]
    (tmp_path / "gaps.json").write_text(json.dumps(rows))
    monkeypatch.setattr(dev_record, "GAPS", tmp_path / "gaps.json")
    monkeypatch.setattr(dev_record, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(dev_record, "PAGE", tmp_path / "page.md")
    return dev_conformance


def suite_of(name="torch-op"):
    import dev_suites

    return next(s for s in dev_suites.SUITE_LIST if s.name == name)


def with_results(results, part=0):
    suite = suite_of()
    suite.result(part).write_text(json.dumps({"results": results}))
    return suite


def samples(*found):
    return {"samples": [{"status": status, "msg": "why"} for status in found]}


def test_a_case_has_the_worst_status_of_its_samples(tools):
    results = {"a#0": samples("pass", "fail"), "b#1": samples("nondet", "pass"), "c#2": samples()}
    found = with_results(results).statuses(0)
    assert {name: status for name, (status, _) in found.items()} == {
        "a#0": "fail",
        "b#1": "pass",
        "c#2": "sample_error",
    }


def test_samples_of_modules_are_cases_of_their_own(tools):
    suite = suite_of("torch-module")
    rows = {"nn.A": samples("pass", "fail"), "nn.B": samples()}
    suite.result(0).write_text(json.dumps({"results": rows}))
    found = {name: status for name, (status, _) in suite.statuses(0).items()}
    assert found == {"nn.A/0": "pass", "nn.A/1": "fail", "nn.B": "sample_error"}


def test_surprises_are_unlisted_failures_and_listed_passes(tools):
    results = {
        "a#0": samples("crash"),
        "b#1": samples("pass"),
        "c#2": samples("unsupported"),
        "d#3": samples("export_error"),
        "e#4": samples("float64"),
    }
    suite = with_results(results)
    assert list(tools.surprises(suite, suite.statuses(0))) == [
        "torch-op a#0: crash: why",
        "torch-op b#1 passes; take it out of gaps.json (no such op)",
    ]


@pytest.mark.parametrize("results", [None, {}])
def test_a_suite_that_did_not_run_fails(tools, results):
    suite = suite_of() if results is None else with_results(results)
    with pytest.raises(SystemExit, match="PyTorch OpInfo, float32"):
        suite.statuses(0)


def test_a_runner_that_fails_ends_the_command_with_its_output(tools, monkeypatch):
    suite = suite_of()
    script = "import sys; print('no such suite'); sys.exit(3)"
    monkeypatch.setattr(type(suite), "command", lambda *_: [sys.executable, "-c", script])
    with pytest.raises(SystemExit, match=r"(?s)no such suite.*code 3"):
        tools.run_part(sys.executable, suite, 0, "sources")


def test_a_part_is_run_again_only_when_sources_changed(tools, monkeypatch):
    suite = suite_of()
    rows = json.dumps({"a#0": samples("pass")})
    script = f"open({str(suite.result(0))!r}, 'w').write({rows!r})"
    monkeypatch.setattr(type(suite), "command", lambda *_: [sys.executable, "-c", script])
    assert tools.is_done(suite, 0, "old") is None
    tools.run_part(sys.executable, suite, 0, "old")
    assert tools.is_done(suite, 0, "old") is not None
    assert tools.is_done(suite, 0, "new") is None


def test_parts_cover_every_row_once(tools):
    import dev_suites

    names = [f"op#{n}" for n in range(250)]
    for parts in (2, 5, 10):
        patterns = [dev_suites.by_number(part, parts)[1] for part in range(parts)]
        assert [sum(bool(re.search(p, n)) for p in patterns) for n in names] == [1] * 250
    patterns = [dev_suites.by_name(names, part, 7)[1] for part in range(7)]
    assert [sum(bool(re.search(p, name)) for p in patterns) for name in names] == [1] * 250


def test_a_sample_takes_every_part_in_turn(tools):
    for suite in (suite_of(), suite_of("hf"), suite_of("torch-hop")):
        options = tools.Options(sample=True)
        taken = {part for turn in range(20) for part in tools.parts_of(suite, options, turn)}
        assert taken == set(range(suite.parts))


def test_the_record_counts_and_explains(tools, monkeypatch):
    import dev_record
    import dev_suites

    results = {"a#0": samples("pass"), "b#1": samples("unsupported"), "d#3": samples("nondet")}
    suite = with_results(results)
    with_results({"e#4": samples("crash"), "f#5": samples("float64")}, part=1)
    entry = dev_record.entry_of(dev_suites.collect(suite, [0, 1], 120.0), "abc1234")
    dev_record.write_record({suite.name: entry})
    text = (dev_record.PAGE).read_text()
    peers = "654 export, 639 comparable"
    assert (
        f"| PyTorch OpInfo, float32 | 1 | + 1 | 4 | {peers} | abc1234, {entry.date} | 2 |" in text
    )
    assert "- 1: no such op" in text
    assert "- 1: not listed: crash" in text
    assert dev_record.read_record() == {suite.name: entry}


# -- the age of the record


def copied(tmp_path):
    """The operators' sources elsewhere, without any history."""
    for folder in ("torsh_dialect/ops", "torsh_fx/importers"):
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder)
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("file", "frontends"),
    [
        ("torsh_dialect/ops/reduce.py", {"onnx", "torch"}),
        ("torsh_fx/importers/onnx_ops/reduce.py", {"onnx"}),
        ("torsh_fx/importers/torch_ops/reduce.py", {"torch"}),
    ],
)
def test_a_change_of_an_operator_makes_the_record_old(tools, tmp_path, file, frontends):
    import dev_digest

    root = copied(tmp_path)
    before = {name: dev_digest.operators_digest(name, root) for name in dev_digest.OPERATORS}
    assert before == {name: dev_digest.operators_digest(name) for name in before}
    text = (root / file).read_text()
    (root / file).write_text(f"# a remark\n{text}\n\n\n# another one\n")
    assert {name: dev_digest.operators_digest(name, root) for name in before} == before
    (root / file).write_text(f"{text}\nCHANGED = 1\n")
    after = {name: dev_digest.operators_digest(name, root) for name in before}
    assert {name for name in before if before[name] != after[name]} == frontends


def test_a_new_file_makes_the_record_old_and_a_missing_folder_fails(tools, tmp_path):
    import dev_digest

    root = copied(tmp_path)
    before = dev_digest.operators_digest("onnx", root)
    (root / "torsh_dialect" / "ops" / "more.py").write_text("X = 1\n")
    assert dev_digest.operators_digest("onnx", root) != before
    shutil.rmtree(root / "torsh_dialect")
    with pytest.raises(FileNotFoundError, match="torsh_dialect"):
        dev_digest.operators_digest("onnx", root)


def test_docstrings_are_no_change_and_values_are(tools):
    import dev_digest

    one = dev_digest.meaning_of('def f(x):\n    """Says."""\n    return (x + 1)\n')
    assert one == dev_digest.meaning_of("def f(x):\n    # why\n    return x + 1")
    assert one != dev_digest.meaning_of("def f(x):\n    return x + 2")
    assert one != dev_digest.meaning_of("def f(x):\n    return x + 1.0")
    assert isinstance(ast.parse("x"), ast.AST)


def test_the_record_is_old_where_digests_differ_or_are_missing(tools):
    import dev_digest
    import dev_record

    suite = suite_of()
    now = dev_digest.operators_digest("torch")
    fresh = dev_record.Entry("2026-01-01", "abc", now, 1.0, [], {})
    old = dev_record.Entry("2026-01-01", "abc", "0" * 16, 1.0, [], {})
    assert dev_record.stale({suite.name: fresh}, [suite]) == []
    assert "have changed since the run at abc" in dev_record.stale({suite.name: old}, [suite])[0]
    assert "no full run is recorded" in dev_record.stale({}, [suite])[0]


def test_the_page_is_made_of_the_record():
    sys.path.insert(0, TOOLS)
    try:
        import dev_record
    finally:
        sys.path.remove(TOOLS)
    assert dev_record.PAGE.read_text() == dev_record.page(dev_record.read_record())


def test_every_suite_is_in_the_repository():
    for name in ("onnx/core_subset.json", "hf/archs.json", "real/manifest_onnx.json", "gaps.json"):
        assert json.loads((ROOT / "tests" / "conformance" / name).read_text()) is not None
