"""The record of conformance runs, `docs/conformance.json`, and the page that is made of it."""

from __future__ import annotations

import collections
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dev_digest import operators_digest
from dev_suites import (
    BY_FLOAT64,
    EXTRAS,
    GOOD,
    OUTSIDE,
    ROOT,
    SUITE_LIST,
    SUITES,
    Outcome,
    Statuses,
    Suite,
)

RECORD = ROOT / "docs" / "conformance.json"
PAGE = ROOT / "docs" / "conformance.md"
GAPS = SUITES / "gaps.json"
COMMAND = "python3 tools/dev.py conformance"


@dataclass(frozen=True)
class Row:
    """A line of the report.

    Attributes:
        title: Of which cases.
        passed: How many passed.
        total: How many count.
        peers: What others reach.
        by_float64: How many differ from stored outputs, and err less than these from float64.
    """

    title: str
    passed: int
    total: int
    peers: str
    by_float64: int = 0


@dataclass(frozen=True)
class Entry:
    """What one suite gave when it last ran whole.

    Attributes:
        date: Day of the run.
        commit: The commit, with `+` where files differed from it.
        operators: Digest of the operators that ran (`dev_digest`).
        minutes: Wall time of its parts; 0 where it was not measured.
        rows: The suite's row of the report, and rows over some of its cases.
        gaps: How many cases do not pass, by reason.
    """

    date: str
    commit: str
    operators: str
    minutes: float
    rows: list[Row]
    gaps: dict[str, int]


def known_gaps(suite: str) -> dict[str, str]:
    """Reason of each case of a suite that is known to fail."""
    rows: list[dict[str, Any]] = json.loads(GAPS.read_text())
    return {case: row["reason"] for row in rows if row["suite"] == suite for case in row["cases"]}


def surprises(suite: Suite, found: Statuses) -> Iterator[str]:
    """What differs from `gaps.json`."""
    gaps = known_gaps(suite.name)
    for case, (status, message) in sorted(found.items()):
        if status in OUTSIDE:
            continue
        if status not in GOOD and case not in gaps:
            yield f"{suite.name} {case}: {status}: {message}"
        if status in GOOD and case in gaps:
            yield f"{suite.name} {case} passes; take it out of {GAPS.name} ({gaps[case]})"


def entry_of(outcome: Outcome, commit: str) -> Entry:
    """The record of a suite's outcome, as of now."""
    suite, cases = outcome.suite, outcome.cases
    rows = [_row(suite.title, cases, suite.peers)]
    for extra in EXTRAS.get(suite.name, ()):
        names = extra.cases(outcome.rows)
        rows.append(_row(extra.title, {n: cases[n] for n in cases if n in names}, extra.peers))
    gaps = known_gaps(suite.name)
    reasons = collections.Counter(
        gaps.get(case, f"not listed: {status}")
        for case, (status, _) in cases.items()
        if status not in GOOD | OUTSIDE
    )
    return Entry(
        time.strftime("%Y-%m-%d"),
        commit,
        operators_digest(suite.frontend),
        round(outcome.seconds / 60, 1),
        rows,
        dict(reasons.most_common()),
    )


def _row(title: str, cases: Statuses, peers: str) -> Row:
    counts = collections.Counter(status for status, _ in cases.values())
    total = sum(count for status, count in counts.items() if status not in OUTSIDE)
    return Row(title, counts["pass"], total, peers, counts[BY_FLOAT64])


def read_record() -> dict[str, Entry]:
    """The entries by suite; empty where nothing was recorded yet."""
    if not RECORD.exists():
        return {}
    data: dict[str, Any] = json.loads(RECORD.read_text())
    return {name: _entry(**fields) for name, fields in data.items()}


def _entry(rows: list[dict[str, Any]], **fields: Any) -> Entry:
    return Entry(rows=[Row(**row) for row in rows], **fields)


def write_record(entries: Mapping[str, Entry]) -> None:
    """Write the record and the page; suites stand in the order of the table."""
    ordered = {s.name: entries[s.name] for s in SUITE_LIST if s.name in entries}
    data = {name: asdict(entry) for name, entry in ordered.items()}
    RECORD.write_text(json.dumps(data, indent=1) + "\n")
    PAGE.write_text(page(ordered))


def stale(entries: Mapping[str, Entry], suites: Sequence[Suite] = SUITE_LIST) -> list[str]:
    """Why the record is not of the present operators, a line for each suite."""
    lines: list[str] = []
    for suite in suites:
        entry = entries.get(suite.name)
        if entry is None:
            lines.append(f"{suite.title}: no full run is recorded; run {COMMAND}")
        elif entry.operators != operators_digest(suite.frontend):
            lines.append(
                f"{suite.title}: operators have changed since the run at {entry.commit}; "
                f"run {COMMAND}"
            )
    return lines


HEAD = f"""# Conformance

Outside test suites, run with `{COMMAND}`. A case counts only if
the native entry computes it: the ONNX reference evaluator, onnxruntime, torch kernels
and our own numpy references are blocked while it runs (`tests/conformance/guards.py`).
Strings, sequences and optional values are handled by host functions between native ones.
The mutated models are ours: an outcome counts where it is onnxruntime's result, or one typed
error of the compiler. Outputs stored with a model err too: where ours are not these within the
tolerance, the case is "by float64 reference" if our error against the model in float64 is at most
that of the stored outputs, root mean square and largest, for each output
(`tests/conformance/run_models_judged.py`).

`docs/conformance.json` holds these numbers with a digest of the operators that were run: of the
sources of `torsh_dialect/ops` and of the frontend's converters, without comments and docstrings.
`{COMMAND} --check` fails where the sources give another digest. An
interrupted run goes on where it stopped, as long as no source file has changed.
"""


def page(entries: Mapping[str, Entry]) -> str:
    """The text of `docs/conformance.md`."""
    lines = [HEAD]
    lines += [
        "| suite | passed | by float64 reference | of | others | run at | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries.values():
        when = (f"{entry.commit}, {entry.date}", f"{entry.minutes:g}" if entry.minutes else "")
        for row in entry.rows:
            second = f"+ {row.by_float64:,}" if row.by_float64 else ""
            cells = (row.title, f"{row.passed:,}", second, f"{row.total:,}", row.peers, *when)
            lines.append(f"| {' | '.join(cells)} |")
            when = ("", "")
    lines += ["", "## Cases that do not pass", ""]
    for entry in entries.values():
        lines += [f"{entry.rows[0].title}: {sum(entry.gaps.values())}", ""]
        if entry.gaps:
            lines += [*(f"- {count}: {reason}" for reason, count in entry.gaps.items()), ""]
    return "\n".join(lines)
