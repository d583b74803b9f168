"""Mutated ONNX models end in onnxruntime's result or a typed error; never a crash or a hang.

Here hypothesis draws some, and shrinks those that do not; `tools/dev.py conformance` runs 500 by
number in a sample and 10,000 in a full run (`fuzz.py`), half of them of the ONNX backend tests.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from robust_changes import CHANGES
from robust_judge import Judge, Process, Verdict, compare
from robust_mutants import BYTES, Plan, mutant_of, plan_of
from robust_parents import OWN

SEEDS = st.integers(0, (1 << 31) - 1)
PLANS = st.builds(
    Plan,
    st.sampled_from(sorted(OWN)),
    st.lists(st.tuples(st.sampled_from([*sorted(CHANGES), BYTES]), SEEDS), min_size=1, max_size=3)
    .map(tuple),
    SEEDS,
)  # fmt: skip
COUNTS: Counter[str] = Counter()


@pytest.fixture(scope="module")
def judge():
    made = Judge()
    yield made
    made.close()


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(plan=PLANS)
def test_a_mutant_gives_the_same_result_or_one_typed_error(judge: Judge, plan: Plan):
    verdict = judge.judge(plan)
    COUNTS[verdict.kind] += 1
    assert verdict.good, f"{verdict.kind}: {verdict.text}"


def test_mutants_run_and_are_refused():
    """Else the test above would say nothing. It counts what hypothesis drew, so it runs after."""
    assert COUNTS["same"] >= 10
    assert COUNTS["refused"] >= 10


@pytest.mark.parametrize("name", sorted(OWN))
def test_models_that_are_not_changed_give_the_same_result(judge: Judge, name: str):
    assert judge.judge(Plan(name, ())) == Verdict("same")


def test_a_number_is_always_the_same_mutant():
    plans = [plan_of(n) for n in range(50)]
    assert [plan_of(n) for n in range(50)] == plans
    assert [Plan.of(plan.data()) for plan in plans] == plans
    assert [mutant_of(p).data() for p in plans] == [mutant_of(p).data() for p in plans]
    assert {name for plan in map(plan_of, range(2000)) for name, _ in plan.changes} == {
        *CHANGES,
        BYTES,
    }


def test_wrong_results_are_findings():
    one, other = np.ones(3, np.float32), np.array([1, 1, 1.01], np.float32)
    assert compare([one], [one], [one]) is None
    assert "differs by" in str(compare([one], [other], [other]))
    assert "rounding" in str(compare([one], [other], [one]))
    assert "not float64" in str(compare([one], [one.astype(np.float64)], [one]))


READY = """print('{"ready": 1}', flush=True); """


@pytest.mark.parametrize(
    ("script", "kind"),
    [("import os; input(); os._exit(9)", "crash"), ("import time; time.sleep(60)", "hang")],
)
def test_dead_and_silent_processes_are_findings(script: str, kind: str):
    process = Process(None, limit=1.0)
    process.command = ["-c", READY + script]
    assert process.ask({})["kind"] == kind
    process.close()
