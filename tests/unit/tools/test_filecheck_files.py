"""The FileCheck tests: one file per pass that shows when it fires, and a runner that can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.torsh_opt import main, split_chunks
from torsh_fx.pipeline import PASSES

ROOT = Path(__file__).resolve().parents[3]
TESTS = ROOT / "tests" / "filecheck"
LIT = Path(sys.executable).parent / "lit"


@pytest.fixture
def optimised(capsys, tmp_path):
    """The text that `torsh-opt` prints for a chunk."""

    def run(text, *args):
        path = tmp_path / "chunk.mlir"
        path.write_text(text)
        assert main([str(path), *args]) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_has_a_chunk_where_it_fires_and_one_where_it_does_not(name, optimised):
    path = TESTS / "passes" / f"{name}.mlir"
    text = path.read_text()
    assert f"-p {name}" in text
    changed = {optimised(chunk) != optimised(chunk, "-p", name) for _, chunk in split_chunks(text)}
    assert changed == {True, False}


def test_every_file_has_run_lines_of_known_tools():
    for path in TESTS.rglob("*.mlir"):
        lines = [line for line in path.read_text().splitlines() if line.startswith("// RUN: ")]
        assert lines, path
        assert all(line.removeprefix("// RUN: ").split()[0] == "torsh-opt" for line in lines), path


def lit(*args):
    return subprocess.run(
        [str(LIT), *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


RUN = "// RUN: torsh-opt %s | filecheck %s\n"
BODY = "// CHECK: func.func @f\nfunc.func @f() { func.return }\n"
GOOD = RUN + BODY
CASES = {
    "wrong_check.mlir": GOOD.replace("CHECK: func.func @f", "CHECK: func.func @g"),
    "tool_fails.mlir": GOOD.replace("func.return }", "func.retur }"),
    "first_fails.mlir": "// RUN: torsh-opt --no-such | torsh-opt %s\n" + BODY,
    "expected_failure_is_none.mlir": "// RUN: not torsh-opt %s\n" + BODY,
    "no_run_line.mlir": GOOD.replace("// RUN", "// RUM"),
}


@pytest.mark.parametrize("external", ["none", "all"])
def test_both_ways_to_run_tests_see_the_same_failures(tmp_path, external):
    cases = CASES if external == "none" else dict(list(CASES.items())[:2])
    for name, text in cases.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "good.mlir").write_text(GOOD)
    (tmp_path / "redirect.mlir").write_text(
        "// RUN: not torsh-opt %s > %t 2>&1\n// RUN: filecheck %s --input-file %t\n"
        "// CHECK: is not registered\nfunc.func @f() { func.retur }\n"
    )
    config = (
        (TESTS / "lit.cfg.py")
        .read_text()
        .replace("HERE = Path(__file__).resolve().parent", f"HERE = Path({str(TESTS)!r})")
    )
    (tmp_path / "lit.cfg.py").write_text(
        f"{config}\nconfig.test_source_root = {str(tmp_path)!r}\n"
        f"config.test_exec_root = {str(tmp_path / 'out')!r}\n"
    )
    done = lit("-v", "-j1", "--param", f"external={external}", tmp_path)
    verdicts = dict(
        reversed(line.split(" (")[0].split(": torsh :: "))
        for line in done.stdout.splitlines()
        if " :: " in line and line.split(":")[0] in ("PASS", "FAIL", "UNRESOLVED")
    )
    assert done.returncode == 1
    expected = dict.fromkeys(cases, "FAIL") | {"good.mlir": "PASS", "redirect.mlir": "PASS"}
    if "no_run_line.mlir" in cases:
        expected["no_run_line.mlir"] = "UNRESOLVED"
    assert verdicts == expected


def test_a_tenth_of_the_files_runs_externally_each_day(monkeypatch):
    sys.path.insert(0, str(TESTS))
    try:
        import in_process
    finally:
        sys.path.remove(str(TESTS))
    names = [f"passes/{n}.mlir" for n in range(300)]
    runner = in_process.InProcess()

    class Day(in_process.datetime.datetime):
        number = 0

        @classmethod
        def now(cls, tz=None):
            return cls.fromordinal(737000 + cls.number)

    monkeypatch.setattr(in_process.datetime, "datetime", Day)
    days = []
    for Day.number in range(in_process.SHARES):
        days.append({name for name in names if runner.is_external(name)})
    assert set.union(*days) == set(names)
    assert sum(map(len, days)) == len(names)
    assert all(10 <= len(day) <= 60 for day in days)
