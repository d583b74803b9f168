"""What source files mean, as digests: comments, docstrings and layout do not change them.

`docs/conformance.json` records, for each suite, the digest of the operators that it ran: the
classes of `torsh_dialect/ops` and the converters of its frontend. Where the sources give another
digest, the record is older than the last change of an operator. The digest is of the files, so that
a fresh clone, a shallow one and an unpacked archive without history all give the same answer.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parent.parent
OPERATORS = {
    "onnx": ("torsh_dialect/ops/*.py", "torsh_fx/importers/onnx*.py",
             "torsh_fx/importers/onnx_ops/*.py"),
    "torch": ("torsh_dialect/ops/*.py", "torsh_fx/importers/torch*.py",
              "torsh_fx/importers/torch_ops/*.py"),
}  # fmt: skip
"""Where the operators of a frontend are written."""

PRODUCT = ("torsh_dialect/**/*.py", "lowering/**/*.py", "torsh_fx/**/*.py",
           "tests/conformance/*.py", "tests/unit/robust/*.py")  # fmt: skip
"""What the result of a part depends on."""


def digest_of(patterns: Iterable[str], root: Path = ROOT) -> str:
    """Sixteen hexadecimal digits over the files that the patterns find.

    Raises:
        FileNotFoundError: A pattern finds none.
    """
    state = hashlib.sha256()
    for pattern in patterns:
        files = sorted(root.glob(pattern))
        if not files:
            raise FileNotFoundError(f"no file {pattern} in {root}")
        for file in files:
            text = file.read_text()
            meaning = meaning_of(text) if file.suffix == ".py" else text
            state.update(f"{file.relative_to(root).as_posix()}\0{meaning}\0".encode())
    return state.hexdigest()[:16]


def operators_digest(frontend: str, root: Path = ROOT) -> str:
    """The digest of the operators of a frontend."""
    return digest_of(OPERATORS[frontend], root)


@cache
def meaning_of(source: str) -> str:
    """A module's syntax tree as text, without docstrings; alike in all versions of Python."""
    return _text(ast.parse(source))


def _text(node: object) -> str:
    if isinstance(node, ast.AST):
        parts = [f"{name}={_text(value)}" for name, value in _fields(node)]
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(map(_text, cast('list[object]', node)))}]"
    return repr(node)


def _fields(node: ast.AST) -> Iterable[tuple[str, object]]:
    """Fields that say something: newer versions add fields, which are empty in older source."""
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = _without_docstrings(cast("list[ast.stmt]", value))
        if name not in ("ctx", "kind", "type_comment") and value not in (None, []):
            yield name, value


def _without_docstrings(body: list[ast.stmt]) -> list[ast.stmt]:
    """Without statements that are strings: docstrings of modules, classes, functions, names."""
    return [
        statement
        for statement in body
        if not (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
    ]
