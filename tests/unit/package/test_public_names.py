"""The public names of `torsh_package`: all there, lazily, and known to type checkers."""

import ast
import importlib
from pathlib import Path

import pytest

import torsh_package
from torsh_package.errors import PackageError


@pytest.mark.parametrize("name", torsh_package.__all__)
def test_name_is_there(name: str) -> None:
    value = getattr(torsh_package, name)
    home = importlib.import_module(torsh_package._HOME[name])
    assert value is getattr(home, name)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(torsh_package.__file__).read_text("utf-8"))
    [block] = [
        node for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]  # fmt: skip
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == torsh_package._HOME


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = torsh_package.Nothing  # type: ignore[attr-defined]


def test_no_submodule_hides_a_public_name() -> None:
    """`import torsh_package.x` sets the attribute x: no public name may be a submodule's."""
    folder = Path(torsh_package.__file__).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not modules & set(torsh_package.__all__)


def test_error_tree() -> None:
    errors = [getattr(torsh_package, n) for n in torsh_package.__all__ if n.endswith("Error")]
    assert len(errors) > 15
    assert all(issubclass(error, PackageError) for error in errors)
    codes = [error.code for error in errors]
    assert len(set(codes)) == len(codes)
    error = PackageError("what", entry="e", offset=3)
    assert str(error) == "e: at byte 3: what"
    assert (error.message, error.entry, error.offset) == ("what", "e", 3)


def test_py_typed() -> None:
    assert (Path(torsh_package.__file__).parent / "py.typed").exists()
