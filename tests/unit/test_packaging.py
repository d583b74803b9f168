"""What a wheel of this checkout holds."""

import tomllib
from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
TOP_LEVEL = {"torsh_dialect", "lowering", "torsh_fx", "torsh_package", "torsh_tools"}


def package_folders():
    """Folders with an `__init__.py` in the product, as import names."""
    for name in TOP_LEVEL:
        top = ROOT / SETUPTOOLS["package-dir"].get(name, name)
        for init in top.rglob("__init__.py"):
            inner = init.parent.relative_to(top).parts
            yield ".".join((name, *inner))


def test_every_package_folder_is_listed():
    assert sorted(SETUPTOOLS["packages"]) == sorted(package_folders())


def test_every_folder_of_modules_is_a_package():
    for name in TOP_LEVEL:
        top = ROOT / SETUPTOOLS["package-dir"].get(name, name)
        folders = {path.parent for path in top.rglob("*.py")}
        assert not [f for f in folders if not (f / "__init__.py").exists()]


def test_top_level_names_of_a_wheel(tmp_path, monkeypatch):
    """What setuptools would copy into a wheel, asked of setuptools itself."""
    monkeypatch.chdir(ROOT)
    options = {
        "script_name": "setup.py",
        "packages": SETUPTOOLS["packages"],
        "package_dir": SETUPTOOLS["package-dir"],
        "package_data": SETUPTOOLS["package-data"],
    }
    command = build_py(Distribution(options))
    command.ensure_finalized()
    command.build_lib = str(tmp_path)
    outputs = [
        Path(one).relative_to(tmp_path) for one in command.get_outputs(include_bytecode=False)
    ]
    assert {path.parts[0] for path in outputs} == TOP_LEVEL
    for name, files in SETUPTOOLS["package-data"].items():
        folder = Path(*name.split("."))
        assert {folder / file for file in files} <= set(outputs)


@pytest.mark.parametrize("script", PROJECT["project"]["scripts"])
def test_scripts_name_functions_that_are_there(script):
    module, _, function = PROJECT["project"]["scripts"][script].partition(":")
    path = ROOT / f"{module.replace('torsh_tools', 'tools').replace('.', '/')}.py"
    assert f"def {function}(" in path.read_text()


def test_torch_is_pinned():
    extras = PROJECT["project"]["optional-dependencies"]
    assert extras["torch"] == ["torch==2.13.0"]
    everything = [*PROJECT["project"]["dependencies"], *(d for one in extras.values() for d in one)]
    assert [
        d for d in everything if d.startswith("torch") and d[5:6] in ("", " ", "<", ">", "=")
    ] == ["torch==2.13.0"]
