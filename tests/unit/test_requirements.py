"""docs/requirements.md: every row is there, and what is done names a test that exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([SC]\d+) \|.*\| (done `([^`]+)`|open) \|$")
EXPECTED = {*(f"S{n}" for n in range(1, 218)), *(f"C{n}" for n in range(1, 12))}


def rows():
    lines = (ROOT / "docs" / "requirements.md").read_text().splitlines()
    found = [ROW.match(line) for line in lines if re.match(r"\| [SC]\d", line)]
    assert all(found)
    return [(match[1], match[3]) for match in found]


def test_every_requirement_has_one_row():
    numbers = [number for number, _ in rows()]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == EXPECTED


def test_what_is_done_names_a_test_that_exists():
    missing = []
    for number, test in rows():
        if test is None:
            continue
        file, _, function = test.partition("::")
        path = ROOT / file
        names = (
            {
                n.name
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.FunctionDef)
            }
            if path.exists()
            else set()
        )
        if function not in names:
            missing.append(f"{number}: {test}")
    assert not missing, "\n".join(missing)
