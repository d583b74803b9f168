"""docs/extending.md works as written: its blocks are one script, in a process and folder of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def test_the_blocks_run_in_order(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 6
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_places_that_the_page_names_exist():
    for path in re.findall(r"`((?:torsh_|lowering|tests|tools|docs)[\w./]*/[\w./]*)`", PAGE):
        pattern = path.replace("NAME", "*")
        assert list(ROOT.glob(pattern)), path
    for name, file in (
        ("EMITTERS", "lowering/cpu/templates/registry.py"),
        ("PASSES", "torsh_fx/pipeline.py"),
        ("REWRITES", "torsh_fx/pipeline.py"),
        ("class TemplateShell", "lowering/templates/shell.py"),
        ("MODERATE", "tests/unit/dialect/sample_data.py"),
    ):
        assert name in (ROOT / file).read_text(encoding="utf-8")


def test_command_lines_are_accepted():
    from tools.torsh import build_parser
    from tools.torsh_opt import build_parser as opt_parser

    lines = re.findall(r"^(?:\w+=\w+ )?(torsh(?:-opt)?) (.*?)(?:\s+#.*)?$", PAGE, re.MULTILINE)
    assert len(lines) >= 4
    for tool, rest in lines:
        (build_parser if tool == "torsh" else opt_parser)().parse_args(rest.split())
