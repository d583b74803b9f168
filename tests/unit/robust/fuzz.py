#!/usr/bin/env python3
"""Compiles and runs mutated ONNX models: `fuzz.py --first 0 --count 10000 --jobs 2`.

A mutant is good where it gives onnxruntime's result (run in another process), or one typed error
of the compiler; a crash, a hang, an untyped error, an unclear message or another result is not.
`--show N` prints mutant N, its verdict, and that of the mutant with fewer changes that fails alike.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import onnx  # noqa: E402
from robust_judge import Judge, Verdict  # noqa: E402
from robust_models import ROOT  # noqa: E402
from robust_mutants import Plan, mutant_of, plan_of  # noqa: E402
from robust_parents import corpus_names  # noqa: E402

CORPUS = ROOT / ".cache" / "conformance" / "onnx-corpus"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--first", type=int, default=0)
    made.add_argument("--count", type=int, default=500)
    made.add_argument("--jobs", type=int, default=2)
    made.add_argument("--json", type=Path, help="where to write the verdicts")
    made.add_argument("--own", action="store_true", help="mutants of our models only")
    made.add_argument("--show", type=int, metavar="N", help="print mutant N and its verdict")
    made.add_argument("--strict", action="store_true", help="exit with 1 where one is not good")
    return made


def smallest(judge: Judge, plan: Plan, verdict: Verdict) -> Plan:
    """The plan with as few of the changes as still give a verdict of the same kind."""
    for position in range(len(plan.changes) - 1, -1, -1):
        fewer = plan.changes[:position] + plan.changes[position + 1 :]
        candidate = Plan(plan.parent, fewer, plan.seed)
        if fewer and judge.judge(candidate).kind == verdict.kind:
            plan = candidate
    return plan


def show(number: int, names: list[str], corpus: Path | None) -> None:
    judge = Judge(corpus)
    plan = plan_of(number, names)
    verdict = judge.judge(plan)
    plan = smallest(judge, plan, verdict)
    mutant = mutant_of(plan, corpus)
    print(plan)
    if not isinstance(mutant.model, bytes):
        print(onnx.printer.to_text(mutant.model)[:6000])
    print(f"{verdict.kind}: {judge.judge(plan).text}")
    judge.close()


def judged(numbers: range, jobs: int, names: list[str], corpus: Path | None) -> dict[int, Verdict]:
    """The verdict of each mutant; each thread has two processes."""
    judges: SimpleQueue[Judge] = SimpleQueue()
    for _ in range(jobs):
        judges.put(Judge(corpus))
    found: dict[int, Verdict] = {}

    def one(number: int) -> None:
        judge = judges.get()
        try:
            found[number] = judge.judge(plan_of(number, names))
        finally:
            judges.put(judge)
        if not found[number].good:
            print(f"{number}: {found[number].kind}: {found[number].text[:400]}", flush=True)
        elif len(found) % 100 == 0:
            print(f"{len(found)} of {len(numbers)}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, numbers))
    for _ in range(jobs):
        judges.get().close()
    return found


def main() -> int:
    given = parser().parse_args()
    corpus = None if given.own or not (CORPUS / "index.json").exists() else CORPUS
    names = corpus_names(corpus) if corpus else []
    if given.show is not None:
        show(given.show, names, corpus)
        return 0
    start = time.monotonic()
    numbers = range(given.first, given.first + given.count)
    found = judged(numbers, given.jobs, names, corpus)
    counts = collections.Counter(verdict.kind for verdict in found.values())
    print(f"{dict(counts.most_common())} in {time.monotonic() - start:.0f} s")
    bad = sorted(n for n, verdict in found.items() if not verdict.good)
    print(f"{len(found) - len(bad)} of {len(found)} good; not good: {bad}")
    if given.json:
        rows = {
            f"mutant_{n:05}": {"status": "pass" if v.good else v.kind, "msg": v.text[:300]}
            for n, v in sorted(found.items())
        }
        given.json.write_text(json.dumps({"results": rows}))
    return 1 if given.strict and bad else 0


if __name__ == "__main__":
    sys.exit(main())
