"""The `conformance` command of `dev.py`: outside test suites, known gaps, and their report.

Cases that fail are rows of `tests/conformance/gaps.json`, each with its reason. The command fails
where another case fails, where a listed one passes, and where a suite is missing or did not run.
A full run writes `docs/conformance.md`. `--sample` runs one part in `PARTS` of each suite, another
one at every commit, in a fixed order.
"""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUITES = ROOT / "tests" / "conformance"
WORK = ROOT / ".cache" / "conformance"
PAGE = ROOT / "docs" / "conformance.md"
GAPS = SUITES / "gaps.json"
PARTS = 10
OUTSIDE = frozenset({"sample_error", "nondet", "export_error"})
"""Statuses of cases that PyTorch itself cannot run twice alike, or cannot export."""


@dataclass(frozen=True)
class Suite:
    """One suite: how it is run, and what others reach.

    Attributes:
        name: Key in `gaps.json`, and stem of the result file.
        title: Title in the report.
        arguments: Runner and its arguments.
        peers: What others pass, as text.
        sampled: Whether `--sample` runs a part of it.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    peers: str
    sampled: bool = True

    @property
    def result(self) -> Path:
        """The runner's result file."""
        return WORK / f"{self.name}.json"

    def command(self, python: str, *more: str) -> list[str]:
        """The command line of its runner."""
        runner, *arguments = self.arguments
        target = ("--target", "tests/conformance/target.py", "--json", str(self.result))
        return [python, f"tests/conformance/{runner}", *target, *arguments, *more]


def _torch(name: str, title: str, peers: str, *arguments: str, sampled: bool = False) -> Suite:
    return Suite(f"torch-{name}", title, ("run_torch_ops.py", *arguments), peers, sampled)


OPS = ("--db", "op", "--samples", "1")
DTYPES = ("int64", "bool", "float64", "bfloat16", "complex64")

SUITE_LIST = (
    Suite(
        "onnx",
        "ONNX backend tests",
        ("run_onnx_backend.py", "--cache", str(WORK / "onnx-corpus")),
        "onnxruntime 1,795 (+12 by rounding) of 2,033; IREE 840 of 1,156; onnx-mlir 618",
    ),
    _torch("op", "PyTorch OpInfo, float32", "654 export, 639 comparable", *OPS, sampled=True),
    *(
        _torch(f"op-{dtype}", f"PyTorch OpInfo, {dtype}", "", *OPS, "--dtype", dtype)
        for dtype in DTYPES
    ),
    _torch("module", "PyTorch module_db", "306 samples export", "--db", "module"),
    _torch("hop", "PyTorch higher-order ops", "11 samples export", "--db", "hop", sampled=True),
    Suite(
        "hf",
        "transformers architectures",
        ("run_hf_arch.py", "--list", "tests/conformance/hf/archs.json"),
        "105 export",
        sampled=False,
    ),
    Suite(
        "models",
        "real ONNX models",
        ("run_models.py", "--what", "onnx"),
        "onnxruntime 13 of 13",
        sampled=False,
    ),
)

Statuses = dict[str, tuple[str, str]]
"""Status and message of each case."""


def statuses(suite: Suite) -> Statuses:
    """The cases of a result file; a torch op is one case, of the worst of its samples.

    Raises:
        SystemExit: The suite has no results.
    """
    if not suite.result.exists():
        sys.exit(f"{suite.title}: the runner wrote no results ({suite.result})")
    data: Any = json.loads(suite.result.read_text())
    rows: Mapping[str, Any] = data.get("results", data)
    if not rows:
        sys.exit(f"{suite.title}: no case ran")
    return {name: _status(row) for name, row in rows.items()}


def _status(row: Mapping[str, Any]) -> tuple[str, str]:
    if "samples" not in row:
        return row["status"], row.get("msg", "")
    found = [(s["status"], s.get("msg", "")) for s in row["samples"]]
    bad = [one for one in found if one[0] not in OUTSIDE | {"pass"}]
    good = [one for one in found if one[0] == "pass"]
    return (bad or good or found or [("sample_error", "no sample")])[0]


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
        if status != "pass" and case not in gaps:
            yield f"{suite.name} {case}: {status}: {message}"
        if status == "pass" and case in gaps:
            yield f"{suite.name} {case} passes; take it out of {GAPS.name} ({gaps[case]})"


def onnx_part(part: int) -> list[str]:
    """Arguments that select one part of the ONNX cases."""
    index: Any = json.loads((WORK / "onnx-corpus" / "index.json").read_text())
    names = [case["id"] for case in index["cases"]][part::PARTS]
    return ["--include", f"^({'|'.join(names)})$"]


def torch_part(part: int) -> list[str]:
    """Arguments that select one part of a PyTorch database: its rows end in their number."""
    return ["--include", rf"#\d*{part}$"]


def part_of_commit() -> int:
    """The part of the suites that is due at this commit."""
    count = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(count.stdout) % PARTS


def conformance(python: str, run: Callable[..., None], sample: bool) -> None:
    """Run the suites, compare with the known gaps, and (in a full run) write the report."""
    WORK.mkdir(parents=True, exist_ok=True)
    corpus = str(WORK / "onnx-corpus")
    if not (Path(corpus) / "index.json").exists():
        run(python, "tests/conformance/run_onnx_backend.py", "--build-cache", "--cache", corpus)
    if not sample:
        run("bash", "-c", f'PATH="{Path(python).parent}:$PATH" tests/conformance/real/fetch.sh')
    start = time.monotonic()
    part = part_of_commit()
    chosen = [suite for suite in SUITE_LIST if suite.sampled or not sample]
    found: dict[Suite, Statuses] = {}
    for suite in chosen:
        suite.result.unlink(missing_ok=True)
        select = (onnx_part(part) if suite.name == "onnx" else torch_part(part)) if sample else []
        run(*suite.command(python, *select), title=suite.title)
        found[suite] = statuses(suite)
    if not sample:
        PAGE.write_text(report(found, time.monotonic() - start))
    different = [line for suite in chosen for line in surprises(suite, found[suite])]
    print("\n".join(different) or "conformance: all cases as listed")
    if different:
        sys.exit(1)


def report(found: Mapping[Suite, Statuses], seconds: float) -> str:
    """The text of `docs/conformance.md`."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    lines = [
        "# Conformance",
        "",
        "Outside test suites, run with `python3 tools/dev.py conformance`. A case counts only if",
        "the native entry computes it: the ONNX reference evaluator, onnxruntime, torch kernels",
        "and our own numpy references are blocked while it runs (`tests/conformance/guards.py`).",
        "Strings, sequences and optional values are handled by host functions between native ones.",
        "",
        f"Last full run: {time.strftime('%Y-%m-%d')}, commit {commit}, {seconds / 60:.0f} minutes.",
        "",
        "| suite | passed | of | others |",
        "|---|---|---|---|",
    ]
    for suite, cases in found.items():
        lines.append(_row(suite.title, cases, suite.peers))
        if suite.name == "onnx":
            names: Sequence[str] = json.loads((SUITES / "onnx" / "core_subset.json").read_text())
            core = {name: cases[name] for name in names if name in cases}
            lines.append(_row("its core subset", core, "onnxruntime 1,635 (+12) of 1,721"))
            hosted = {name: cases[name] for name in _hosted(suite)}
            lines.append(_row("its cases that host functions run in part", hosted, ""))
    lines += ["", "## Cases that do not pass", ""]
    for suite, cases in found.items():
        gaps = known_gaps(suite.name)
        reasons = collections.Counter(
            gaps.get(case, f"not listed: {status}")
            for case, (status, _) in cases.items()
            if status != "pass" and status not in OUTSIDE
        )
        lines += [f"{suite.title}: {sum(reasons.values())}", ""]
        lines += [f"- {count}: {reason}" for reason, count in reasons.most_common()] + [""]
    return "\n".join(lines)


def _hosted(suite: Suite) -> list[str]:
    """ONNX cases with strings, sequences or optional values, which host functions handle."""
    rows: Mapping[str, Any] = json.loads(suite.result.read_text())["results"]
    kinds = {"string", "sequence", "optional"}
    return [name for name, row in rows.items() if kinds & set(row["tags"])]


def _row(title: str, cases: Statuses, peers: str) -> str:
    counts = collections.Counter(status for status, _ in cases.values())
    total = sum(count for status, count in counts.items() if status not in OUTSIDE)
    return f"| {title} | {counts['pass']:,} | {total:,} | {peers} |"
