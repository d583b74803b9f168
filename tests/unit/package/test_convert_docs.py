"""docs/package-migration.md is run as it stands; what it says of the command line exists."""

import re
import shlex
from pathlib import Path

import pytest

from tools.torsh_package import build_parser

PAGE = (Path(__file__).parents[3] / "docs" / "package-migration.md").read_text("utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("torsh-package ")]


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/package-migration.md", "exec"), scope)
    assert (tmp_path / "net.torshpkg").exists()


@pytest.mark.parametrize("line", LINES)
def test_the_command_lines_of_the_page_are_accepted(line: str) -> None:
    words = shlex.split(line)[1:]
    assert build_parser(words).parse_args(words).verb == words[0]


def test_the_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([a-z/.-]+)\)", PAGE)
    assert links
    assert all((Path(__file__).parents[3] / "docs" / link).exists() for link in links)
