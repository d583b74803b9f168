"""The table of outside test suites: how each is run, cut into parts, and what others reach.

A suite is one entry of `SUITE_LIST`; everything else (parts, known gaps, report) follows from it.
A runner takes `--json FILE` besides its own arguments and writes there
`{"results": {case: {"status", "msg"}}}`, or the inner mapping alone; a case may hold `samples`,
a list of such rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUITES = ROOT / "tests" / "conformance"
WORK = ROOT / ".cache" / "conformance"
CORPUS = WORK / "onnx-corpus"
BY_FLOAT64 = "float64"
"""Status of cases that differ from stored outputs, and err less than these from float64."""
GOOD = frozenset({"pass", BY_FLOAT64})
OUTSIDE = frozenset({"sample_error", "nondet", "export_error"})
"""Statuses of cases that the source framework itself cannot run twice alike, or cannot export."""

Select = Callable[[int, int], "list[str]"]
"""From a part and the number of parts to the runner's arguments that select it."""

Statuses = dict[str, tuple[str, str]]
"""Status and message of each case."""


@dataclass(frozen=True)
class Suite:
    """One suite.

    Attributes:
        name: Key in `gaps.json` and in the record, and stem of result files.
        title: Title in the report.
        runner: Script below `tests/`, and its arguments.
        select: Arguments that select one part.
        frontend: The importer that it goes through: `onnx` or `torch`.
        parts: Into how many parts a full run is cut; `--sample` runs one of them.
        peers: What others pass, as text.
        sampled: Whether `--sample` runs a part of it.
        apart: Whether each sample of a row is a case, instead of the row.
    """

    name: str
    title: str
    runner: tuple[str, ...]
    select: Select
    frontend: str
    parts: int = 10
    peers: str = ""
    sampled: bool = True
    apart: bool = False

    def result(self, part: int) -> Path:
        """The runner's result file of a part."""
        return WORK / "results" / f"{self.name}.{part}.json"

    def command(self, python: str, part: int) -> list[str]:
        """The command line that runs a part."""
        script, *arguments = self.runner
        chosen = ("--json", str(self.result(part)), *self.select(part, self.parts))
        return [python, f"tests/{script}", *arguments, *chosen]

    def statuses(self, part: int) -> Statuses:
        """The cases of a part; a torch op is the worst of its samples, unless these stand apart.

        Raises:
            SystemExit: The part has no results.
        """
        file = self.result(part)
        if not file.exists():
            raise SystemExit(f"{self.title}: the runner wrote no results ({file})")
        data: Any = json.loads(file.read_text())
        rows: Mapping[str, Any] = data.get("results", data)
        if not rows:
            raise SystemExit(f"{self.title}: no case ran ({file})")
        cases = (
            (f"{name}{end}", row) for name, whole in rows.items() for end, row in self._each(whole)
        )
        return {name: _status(row) for name, row in cases}

    def _each(self, row: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """The cases of a row, and how their names end."""
        if self.apart and row.get("samples"):
            return [(f"/{n}", sample) for n, sample in enumerate(row["samples"])]
        return [("", row)]


def _status(row: Mapping[str, Any]) -> tuple[str, str]:
    if "samples" not in row:
        return row["status"], row.get("msg", "")
    found = [(s["status"], s.get("msg", "")) for s in row["samples"]]
    bad = [one for one in found if one[0] not in OUTSIDE | GOOD]
    good = [one for one in found if one[0] == "pass"]
    return (bad or good or found or [("sample_error", "no sample")])[0]


# -- selecting parts


def by_number(part: int, parts: int) -> list[str]:
    """Of a PyTorch database: its rows end in their number."""
    digits = "".join(str(d) for d in range(10) if d % parts == part)
    return ["--include", rf"#\d*[{digits}]$"]


def by_name(names: Sequence[str], part: int, parts: int) -> list[str]:
    """Every `parts`-th of some names."""
    return ["--include", f"^({'|'.join(names[part::parts])})$"]


def _onnx(part: int, parts: int) -> list[str]:
    index: Any = json.loads((CORPUS / "index.json").read_text())
    return by_name([case["id"] for case in index["cases"]], part, parts)


def _archs(part: int, parts: int) -> list[str]:
    listed: Any = json.loads((SUITES / "hf" / "archs.json").read_text())
    return by_name([row["model_type"] for row in listed], part, parts)


def _dynamo(part: int, parts: int) -> list[str]:
    listed: Any = json.loads((SUITES / "hf" / "archs.json").read_text())[:DYNAMO_ARCHS]
    return by_name([row["model_type"] for row in listed], part, parts)


def whole(part: int, parts: int) -> list[str]:
    """A suite that is not cut."""
    return []


DYNAMO_ARCHS = 30
"""The first architectures of the list, which `torch.compile` is tried on."""

MUTANTS_PER_PART = 500
MUTANT_PARTS = 20


def _mutants(part: int, parts: int) -> list[str]:
    return ["--first", str(part * MUTANTS_PER_PART), "--count", str(MUTANTS_PER_PART)]


# -- the suites

TARGET = ("--target", "tests/conformance/target.py")
JOBS = ("--jobs", "2")
DATABASE = ("conformance/run_torch_ops.py", *TARGET, *JOBS, "--samples", "1")
ARCHS = ("--list", "tests/conformance/hf/archs.json")
DTYPES = ("int64", "bool", "float64", "bfloat16", "complex64")


def _torch(
    name: str, title: str, *arguments: str, parts: int = 10, peers: str = "", apart: bool = False
) -> Suite:
    runner = (*DATABASE, *arguments)
    select = by_number if parts > 1 else whole
    return Suite(f"torch-{name}", title, runner, select, "torch", parts, peers, apart=apart)


@dataclass(frozen=True)
class Extra:
    """A row of the report over some cases of a suite.

    Attributes:
        title: Title in the report.
        cases: From the suite's raw rows to the names of the cases.
        peers: What others pass, as text.
    """

    title: str
    cases: Callable[[Mapping[str, Any]], set[str]]
    peers: str = ""


def _core(rows: Mapping[str, Any]) -> set[str]:
    return set(json.loads((SUITES / "onnx" / "core_subset.json").read_text())) & set(rows)


def _hosted(rows: Mapping[str, Any]) -> set[str]:
    kinds = {"string", "sequence", "optional"}
    return {name for name, row in rows.items() if kinds & set(row.get("tags", ()))}


EXTRAS: Mapping[str, tuple[Extra, ...]] = {
    "onnx": (
        Extra("its core subset", _core, "onnxruntime 1,635 (+12) of 1,721"),
        Extra("its cases that host functions run in part", _hosted),
    )
}
"""Further rows of the report, by suite."""

ONNX_PEERS = "onnxruntime 1,795 (+12 by rounding) of 2,033; IREE 840 of 1,156; onnx-mlir 618"

SUITE_LIST = (
    Suite(
        "onnx",
        "ONNX backend tests",
        ("conformance/run_onnx_backend.py", *TARGET, *JOBS, "--cache", str(CORPUS)),
        _onnx,
        "onnx",
        peers=ONNX_PEERS,
    ),
    _torch("op", "PyTorch OpInfo, float32", "--db", "op", peers="654 export, 639 comparable"),
    *(
        _torch(f"op-{dtype}", f"PyTorch OpInfo, {dtype}", "--db", "op", "--dtype", dtype)
        for dtype in DTYPES
    ),
    _torch(
        "module",
        "PyTorch module_db, up to 4 samples a module",
        *("--db", "module", "--samples", "4"),
        parts=1,
        peers="306 samples export",
        apart=True,
    ),
    _torch("hop", "PyTorch higher-order ops", "--db", "hop", parts=1, peers="11 samples export"),
    Suite(
        "torch-examples",
        "torch.export's own examples",
        ("conformance/run_export_examples.py", *TARGET),
        whole,
        "torch",
        parts=1,
        peers="35 export",
    ),
    Suite(
        "hf",
        "transformers architectures",
        ("conformance/run_hf_arch.py", *TARGET, *JOBS, *ARCHS),
        _archs,
        "torch",
        peers="105 export",
    ),
    Suite(
        "dynamo",
        f"torch.compile on the first {DYNAMO_ARCHS} of them",
        ("conformance/run_dynamo.py", *TARGET, *JOBS, *ARCHS),
        _dynamo,
        "torch",
        peers="Dynamo alone makes one graph of each",
    ),
    Suite(
        "models",
        "real ONNX models",
        ("conformance/run_models_judged.py", *TARGET, "--what", "onnx"),
        whole,
        "onnx",
        parts=1,
        peers="onnxruntime 13 of 13",
        sampled=False,
    ),
    Suite(
        "mutants",
        "mutated ONNX models",
        ("unit/robust/fuzz.py", *JOBS),
        _mutants,
        "onnx",
        parts=MUTANT_PARTS,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What a suite gave, over the parts that ran.

    Attributes:
        suite: Which.
        cases: Status and message of each case.
        rows: The runner's rows.
        seconds: Wall time of its parts.
    """

    suite: Suite
    cases: Statuses
    rows: Mapping[str, Any]
    seconds: float = 0.0


def collect(suite: Suite, parts: Sequence[int], seconds: float = 0.0) -> Outcome:
    """The results of some parts of a suite as one."""
    cases: Statuses = {}
    rows: dict[str, Any] = {}
    for part in parts:
        cases |= suite.statuses(part)
        data: Any = json.loads(suite.result(part).read_text())
        rows |= data.get("results", data)
    return Outcome(suite, cases, rows, seconds)
