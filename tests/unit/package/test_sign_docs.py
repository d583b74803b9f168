"""docs/package-security.md is run as it stands; what it says of the command line exists."""

import re
import shlex
from pathlib import Path

import pytest

from tools.torsh_package import build_parser

PAGE = (Path(__file__).parents[3] / "docs" / "package-security.md").read_text("utf-8")


def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 8
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/package-security.md", "exec"), scope)
    assert (tmp_path / "secret.torshpkg").exists()


LINES = [line for line in PAGE.splitlines() if line.startswith("torsh-package ")]


@pytest.mark.parametrize("line", LINES)
def test_the_command_lines_of_the_page_are_accepted(line: str):
    argv = shlex.split(line)[1:]
    args = build_parser(argv).parse_args(argv)
    assert args.verb == line.split()[1]
