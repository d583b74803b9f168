"""Every row of the list of hostile inputs has a test that carries its number.

The list came with the design of the format: rows 1-38 archives, 39-46 codecs, 47-62 manifests,
63-76 signatures, 77-86 encryption, 87-95 foreign models, 96-105 files and processes. Row 94 is
about TensorFlow models and comes with their importer; what follows 105 is about networks, which
this package does not use.

A test carries a number in its name (`test_35_...`, `test_row_77_...`), or in the name of a case
that it is parametrized with ("01 parent folder", "row 73: garbage").
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).parents[1]
ROWS = set(range(1, 106)) - {94}
FUNCTION = re.compile(r"test_(?:row_)?(\d{2,3})_")
CASE = re.compile(r"(?:row )?(\d{2,3}):? ")
COUNTED = re.compile(r"\d+ (?:bytes|seconds|bits|KiB|MiB)\b")


def parametrized(module: ast.Module) -> list[str]:
    """Keys of the tables of a module that some test is parametrized with."""
    used = {
        name.id
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.parametrize"
        for argument in node.args
        for name in ast.walk(argument)
        if isinstance(name, ast.Name)
    }
    tables: list[ast.Dict] = []
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id in used for target in targets):
                tables.append(node.value)
    return [
        key.value
        for table in tables
        for key in table.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]


def marked() -> dict[int, list[str]]:
    """Tests and cases by the number that they carry."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for path in sorted(FOLDER.rglob("test_*.py")):
        module = ast.parse(path.read_text("utf-8"))
        for node in module.body:
            if isinstance(node, ast.FunctionDef) and (match := FUNCTION.match(node.name)):
                found[int(match[1])].append(f"{path.name}::{node.name}")
        for key in parametrized(module):
            match = CASE.match(key)
            if match and not COUNTED.match(key):
                found[int(match[1])].append(f"{path.name}[{key}]")
    return found


def test_every_row_has_a_test() -> None:
    found = marked()
    assert sorted(ROWS - set(found)) == []
    assert sorted(set(found) - ROWS) == [], "a number that is not in the list"


def test_the_search_sees_what_is_there_and_no_more() -> None:
    found = marked()
    assert "test_hostile_zip.py[01 parent folder]" in found[1]
    assert "test_sign_dsse.py[row 74: 1e5 signatures]" in found[74]
    assert "test_save_robust.py::test_96_killed_at_any_time_leaves_a_whole_package" in found[96]
    assert parametrized(ast.parse("CASES = {'99 x': 1}\ndef test_a(): CASES")) == []
    assert not any("63 bytes" in name for names in found.values() for name in names)
