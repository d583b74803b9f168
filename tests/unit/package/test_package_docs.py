"""The code blocks of docs/package.md run, in order; its command lines name real verbs."""

import re
from pathlib import Path

import pytest

import torsh_package

PAGE = Path(torsh_package.__file__).parents[1] / "docs" / "package.md"


@pytest.mark.skipif(not PAGE.exists(), reason="documentation is not installed")
def test_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 6
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), scope)
    assert capsys.readouterr().out.endswith(" integrity\n")
    small, large = Path("small.torshpkg").stat(), Path("model.torshpkg").stat()
    assert small.st_size < 0.95 * large.st_size


@pytest.mark.skipif(not PAGE.exists(), reason="documentation is not installed")
def test_command_lines_name_real_verbs() -> None:
    from tools.torsh_package import build_parser

    lines = re.findall(r"^torsh-package (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(lines) == 6
    for line in lines:
        argv = line.split()
        assert build_parser(argv).parse_args(argv).verb == argv[0]
