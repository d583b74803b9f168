"""A lit format that runs RUN lines inside the lit worker: no process is started for a test.

The tools are called by their `main(argv)` with redirected streams, which takes milliseconds where
a Python process takes a second. The RUN lines stay plain shell: a tenth of the files, another
tenth every day, is run by lit's own shell. `lit --param external=all` runs all files so, and
`--param external=none` none.
"""

from __future__ import annotations

import datetime
import io
import os
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lit.formats
import lit.Test
import lit.TestRunner
from lit.ShCommands import Command, Pipeline
from lit.ShUtil import ShParser

Main = Callable[[Sequence[str]], int]
LINE_NUMBER = re.compile(r"^%dbg\([^)]*\)\s*")
"""What lit puts in front of a RUN line for its own messages."""

SHARES = 10
"""A file of so many runs externally on a given day."""


def torsh_opt(args: Sequence[str]) -> int:
    from tools.torsh_opt import main

    return main(args)


def torsh(args: Sequence[str]) -> int:
    from tools.torsh import main

    return main(args)


def filecheck(args: Sequence[str]) -> int:
    from filecheck.matcher import Matcher
    from filecheck.options import parse_argv_options

    return Matcher.from_opts(parse_argv_options(["filecheck", *args])).run()


TOOLS: dict[str, Main] = {"torsh-opt": torsh_opt, "torsh": torsh, "filecheck": filecheck}


@dataclass(frozen=True)
class Ran:
    code: int
    out: bytes
    err: str


class NeedsShellError(Exception):
    """The RUN line uses something that only lit's own shell runs."""


def call(main: Main, args: Sequence[str], given: bytes) -> Ran:
    """Run a tool with `given` as its standard input."""
    streams = [io.TextIOWrapper(io.BytesIO(b), "utf-8", newline="") for b in (given, b"", b"")]
    saved = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = streams
    try:
        code = main(args)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    finally:
        sys.stdin, sys.stdout, sys.stderr = saved
    for stream in streams[1:]:
        stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams[1:])
    return Ran(code, out, err.decode())


def run_command(command: Command, given: bytes) -> Ran:
    """Run one command of a pipeline, with its redirections."""
    args = list(command.args)
    negated = args[:1] == ["not"]
    name, *rest = args[1:] if negated else args
    if name not in TOOLS or not all(isinstance(a, str) for a in rest):
        raise NeedsShellError(name)
    merged, target = False, ""
    for (operator, *number), word in command.redirects:
        if (operator, *number) == (">&", 2) and word == "1":
            merged = True
        elif (operator, *number) == (">",):
            target = word
        else:
            raise NeedsShellError(operator)
    ran = call(TOOLS[name], rest, given)
    if negated:
        ran = Ran(int(ran.code == 0), ran.out, ran.err)
    if merged:
        ran = Ran(ran.code, ran.out + ran.err.encode(), "")
    if target:
        Path(target).write_bytes(ran.out)
        ran = Ran(ran.code, b"", ran.err)
    return ran


def run_pipeline(text: str) -> tuple[int, str]:
    """Run one RUN line; its exit code (that of the first command that fails) and its messages."""
    parsed = ShParser(text, pipefail=True).parse()
    if not isinstance(parsed, Pipeline):
        raise NeedsShellError(text)
    data, messages, code = b"", "", 0
    for command in parsed.commands:
        ran = run_command(command, data)
        data, messages = ran.out, messages + ran.err
        code = code or ran.code
    return code, messages + (data.decode(errors="replace") if code else "")


class InProcess(lit.formats.ShTest):
    """`ShTest`, but most files run inside this process."""

    def __init__(self, external: str = ""):
        super().__init__(execute_external=False)
        self.external = external

    def is_external(self, name: str) -> bool:
        """Whether the file is one that lit's own shell runs today."""
        if self.external:
            return self.external == "all"
        today = datetime.datetime.now(datetime.UTC).toordinal()
        return zlib.crc32(name.encode()) % SHARES == today % SHARES

    def execute(self, test, lit_config):
        if self.is_external("/".join(test.path_in_suite)):
            return super().execute(test, lit_config)
        script = lit.TestRunner.parseIntegratedTestScript(test)
        if isinstance(script, lit.Test.Result):
            return script
        folder, base = lit.TestRunner.getTempPaths(test)
        os.makedirs(folder, exist_ok=True)
        table = [
            row
            for row in lit.TestRunner.getDefaultSubstitutions(test, folder, base)
            if row not in test.config.substitutions
        ]
        lines = lit.TestRunner.applySubstitutions(script, table)
        for line in lines:
            text = LINE_NUMBER.sub("", line)
            try:
                code, messages = run_pipeline(text)
            except NeedsShellError:
                return super().execute(test, lit_config)
            if code:
                return lit.Test.FAIL, f"{text}\nexit code {code}\n{messages}"
        return lit.Test.PASS, ""
