"""The `conformance` command of `dev.py`: outside test suites, known gaps, and their report.

Cases that fail are rows of `tests/conformance/gaps.json`, each with its reason. The command fails
where another case fails, where a listed one passes, and where a suite is missing or did not run.
Suites are run in parts; a part whose result is there, from the same sources, is not run again.
A full run records each suite in `docs/conformance.json` when its last part is done, and rewrites
`docs/conformance.md`. `--sample` runs one part of each suite, another one at every commit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev_digest import PRODUCT, digest_of
from dev_record import entry_of, read_record, stale, surprises, write_record
from dev_suites import CORPUS, GOOD, ROOT, SUITE_LIST, SUITES, WORK, Suite, collect

DAY = 86400
SECONDS_PER_PART = 60.0
"""Expected time of a part before one of its suite has run."""


@dataclass(frozen=True)
class Options:
    """What the command is asked for.

    Attributes:
        sample: One part of each suite, not all.
        part: Which one; None: the one that is due at this commit.
        suites: Names of the suites to run; empty: all.
        fresh: Run parts again that have results.
        check: Only tell whether the record is of the present operators.
    """

    sample: bool = False
    part: int | None = None
    suites: Sequence[str] = ()
    fresh: bool = False
    check: bool = False


@dataclass
class Progress:
    """How long parts took, and how long the rest will take.

    Attributes:
        left: Parts of each suite that are still to run.
        typical: Time of a part of each suite, where the record has it.
        seconds: Time of the parts of each suite that ran.
    """

    left: dict[str, int]
    typical: dict[str, float]
    seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def done(self, suite: Suite, seconds: float) -> None:
        """A part of the suite has ended."""
        self.left[suite.name] -= 1
        self.seconds.setdefault(suite.name, []).append(seconds)

    def minutes_left(self) -> float:
        """An estimate by the parts of each suite that ran, or else by the record."""
        total = 0.0
        for name, count in self.left.items():
            past = self.seconds.get(name, [self.typical.get(name, SECONDS_PER_PART)])
            total += count * sum(past) / len(past)
        return total / 60


def git(*arguments: str) -> str:
    """What git answers in the checkout; empty where there is no git or no history."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def commit() -> str:
    """The commit that is checked out, with `+` where files differ from it."""
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", ":!docs")
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{'+' if dirty else ''}"


def turn() -> int:
    """A number that grows by one at every commit; without the history, by time.

    A shallow clone knows the last commit only, whose time is taken; an archive has none, and
    takes the day.
    """
    if git("rev-parse", "--is-shallow-repository") == "false":
        return int(git("rev-list", "--count", "HEAD"))
    return int(git("log", "-1", "--format=%ct") or time.time() // DAY)


def parts_of(suite: Suite, options: Options, number: int) -> Sequence[int]:
    """The parts of a suite that are asked for."""
    return [number % suite.parts] if options.sample else range(suite.parts)


def is_done(suite: Suite, part: int, sources: str) -> float | None:
    """The seconds that a part took, where its result is there and from the same sources."""
    note = suite.result(part).with_suffix(".done")
    if not (note.exists() and suite.result(part).exists()):
        return None
    found = json.loads(note.read_text())
    return found["seconds"] if found["sources"] == sources else None


def run_part(python: str, suite: Suite, part: int, sources: str) -> float:
    """Run one part; its output goes to a file beside the result.

    Returns:
        The seconds it took.

    Raises:
        SystemExit: The runner failed (not: some of its cases), or wrote no result.
    """
    result = suite.result(part)
    result.parent.mkdir(parents=True, exist_ok=True)
    result.unlink(missing_ok=True)
    start = time.monotonic()
    with result.with_suffix(".log").open("w") as log:
        command = suite.command(python, part)
        code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log).returncode
    seconds = time.monotonic() - start
    if code != 0:
        tail = result.with_suffix(".log").read_text()[-2000:]
        raise SystemExit(f"{tail}\n{suite.title}, part {part}: its runner ended with code {code}")
    suite.statuses(part)
    result.with_suffix(".done").write_text(json.dumps({"sources": sources, "seconds": seconds}))
    return seconds


def prepare(python: str, suites: Sequence[Suite]) -> None:
    """Make what is not in the repository: the ONNX cases of the wheel, the trained models."""
    names = {suite.name for suite in suites}
    WORK.mkdir(parents=True, exist_ok=True)
    if names & {"onnx", "mutants"} and not (CORPUS / "index.json").exists():
        runner = str(SUITES / "run_onnx_backend.py")
        _must(python, runner, "--build-cache", "--cache", str(CORPUS))
    if "models" in names:
        path = f'PATH="{Path(python).parent}:$PATH"'
        _must("bash", "-c", f"{path} {SUITES / 'real' / 'fetch.sh'}")


def _must(*command: str) -> None:
    if code := subprocess.run(command, cwd=ROOT).returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {code}")


def chosen_suites(options: Options) -> list[Suite]:
    """The suites that are asked for, in the order of the table.

    Raises:
        SystemExit: A name stands for none.
    """
    known = {suite.name: suite for suite in SUITE_LIST}
    if unknown := set(options.suites) - set(known):
        raise SystemExit(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options.suites:
        return [known[name] for name in known if name in options.suites]
    return [suite for suite in SUITE_LIST if suite.sampled or not options.sample]


def conformance(python: str, options: Options) -> None:
    """Run suites, compare with the known gaps, and (where whole ones ran) write the report."""
    if options.check:
        return finish(stale(read_record()), "the record is of the present operators")
    suites = chosen_suites(options)
    prepare(python, suites)
    number = turn() if options.part is None else options.part
    todo = {suite: parts_of(suite, options, number) for suite in suites}
    sources = digest_of(PRODUCT)
    record = read_record()
    typical = {s.name: 60 * record[s.name].minutes / s.parts for s in suites if s.name in record}
    progress = Progress({suite.name: len(parts) for suite, parts in todo.items()}, typical)
    different: list[str] = []
    print(f"{sum(progress.left.values())} parts of {len(suites)} suites, turn {number}", flush=True)
    for suite, parts in todo.items():
        different += run_suite(python, suite, parts, sources, progress, fresh=options.fresh)
        if not options.sample:
            outcome = collect(suite, parts, sum(progress.seconds[suite.name]))
            write_record({**read_record(), suite.name: entry_of(outcome, commit())})
    finish(different, "conformance: all cases as listed")


def run_suite(
    python: str,
    suite: Suite,
    parts: Sequence[int],
    sources: str,
    progress: Progress,
    *,
    fresh: bool,
) -> list[str]:
    """Run the parts of a suite that have no result yet; what differs from the known gaps."""
    different: list[str] = []
    for part in parts:
        seconds = None if fresh else is_done(suite, part, sources)
        known = "known" if seconds is not None else "ran"
        if seconds is None:
            seconds = run_part(python, suite, part, sources)
        progress.done(suite, seconds)
        found = suite.statuses(part)
        passed = sum(status in GOOD for status, _ in found.values())
        new = list(surprises(suite, found))
        different += new
        print(
            f"{suite.title}, part {part} of {suite.parts}: {known}, {passed} of {len(found)} pass, "
            f"{len(new)} unexpected, {seconds:.0f} s; about {progress.minutes_left():.0f} minutes "
            "left",
            flush=True,
        )
        print("".join(f"  {line}\n" for line in new), end="", flush=True)
    return different


def finish(problems: Sequence[str], good: str) -> None:
    """Print problems, and end with code 1 where there are some."""
    print("\n".join(problems) or good)
    if problems:
        sys.exit(1)
