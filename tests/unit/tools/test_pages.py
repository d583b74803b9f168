"""The pages made from the code are current, and what README shows works."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from torsh_dialect.context import Context
from torsh_dialect.declare import OPS
from torsh_dialect.parse import parse_module
from torsh_dialect.verify import verify_module

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate_pages", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["docs/dialect.md", "README.md"])
def test_page_is_current(generate, name):
    current = (ROOT / name).read_text() == generate.PAGES[name]()
    assert current, f"run python docs/generate.py: {name} is stale"


def test_every_op_has_a_section_with_its_example(generate):
    page = generate.dialect_page()
    for op in OPS:
        name = op.name.removeprefix("torsh.")
        section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert section, name
        assert f"torsh.{name}" in section or name == "yield", name


def test_the_example_of_the_types_is_sound(generate):
    (example,) = re.findall(r"```mlir\n(.*?)```", generate.TYPES, re.DOTALL)
    verify_module(parse_module(Context(), example))
    assert generate.TYPES in generate.dialect_page()


def test_the_example_of_the_readme_is_the_one_in_examples():
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    example = (ROOT / "examples" / "first_steps.py").read_text()
    assert example.partition('"""\n\n')[2] == block


def test_the_example_of_the_readme_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "first_steps.py"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "MatMul" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.mlir", "tiny.safetensors"}


def test_command_lines_of_the_readme_are_accepted():
    from tools.torsh import build_parser
    from tools.torsh_opt import build_parser as opt_parser

    readme = (ROOT / "README.md").read_text()
    lines = re.findall(r"^(torsh(?:-opt)?) (.*?)(?:\s+#.*)?$", readme, re.MULTILINE)
    assert len(lines) >= 7
    for tool, rest in lines:
        arguments = [part.strip("'") for part in rest.split()]
        (build_parser if tool == "torsh" else opt_parser)().parse_args(arguments)


def test_links_of_the_pages_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_folders_of_the_readme_exist():
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("## The folders")[2].partition("\n## ")[0]
    for folder in re.findall(r"`([a-z_/]+/)`", table):
        places = (ROOT / folder, *(path / folder for path in ROOT.iterdir() if path.is_dir()))
        assert any(place.is_dir() for place in places), folder
