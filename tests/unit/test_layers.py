"""Who may import whom: data flows one way through the folders."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("torsh_dialect", "lowering", "torsh_fx", "torsh_package", "tools", "torsh_tools")
IR = {"xdsl", "numpy", "ml_dtypes"}
PACKAGE = {
    "numpy", "ml_dtypes", "zstandard", "cryptography", "packaging", "resolvelib", "isal", "blake3",
}  # fmt: skip
ALLOWED = {
    "torsh_dialect": IR | {"torsh_dialect"},
    "lowering": IR | {"torsh_dialect", "lowering", "llvmlite"},
    "lowering/runtime": {"numpy", "ml_dtypes", "lowering", "llvmlite", "torsh_dialect"},
    "torsh_fx": IR | {"torsh_dialect", "lowering", "torsh_fx", "onnx", "google", "torch", "sympy"},
    "torsh_package": PACKAGE | {"torsh_package"},
}
"""Top-level packages beside the standard library that a folder's modules may import."""

RUNTIME_MODULES = {
    "torsh_dialect.errors",
    "torsh_dialect.dims",
    "lowering.runtime",
    "lowering.worker",
}
"""What the runtime may import of ours: it must run without the compiler."""

EXTRA = {
    "torsh_package": {"torch", "torsh_fx", "onnx", "llvmlite"},
    "torsh_fx": {"onnxruntime"},
}
"""Packages that a folder imports inside functions only, where a task needs them."""

FRAMEWORK_MODULES = ("torsh_fx/importers", "torsh_fx/backend.py", "torsh_fx/onnx_backend.py")
"""Where torch and onnx are imported: these modules are loaded when such a model is met."""

PACKAGE_MODULES = ("torsh_fx/packaged.py", "torsh_fx/packaging.py")
"""The only modules of the compiler that know packages."""


def imports(path):
    """(name, whether at the top level) of everything that a file imports at run time."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in inner) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) not in inner


def is_in(path, places):
    return any(path.is_relative_to(ROOT / place) for place in places)


def modules_of(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    nested = [other for other in ALLOWED if other.startswith(f"{folder}/")]
    return [f for f in files if not any(f.is_relative_to(ROOT / other) for other in nested)]


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_it_may(folder):
    allowed = ALLOWED[folder] | set(sys.stdlib_module_names)
    bad = []
    files = modules_of(folder)
    assert files
    for path in files:
        for name, top in imports(path):
            package = name.partition(".")[0]
            late = package in EXTRA.get(folder, ()) and not top
            packs = package == "torsh_package" and is_in(path, PACKAGE_MODULES)
            if package not in allowed and not late and not packs:
                bad.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not bad, "\n".join(bad)


def test_the_runtime_imports_no_part_of_the_compiler():
    bad = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of("lowering/runtime")
        for name, _ in imports(path)
        if name.partition(".")[0] in OURS
        and not any(name == one or name.startswith(f"{one}.") for one in RUNTIME_MODULES)
    ]
    assert not bad, "\n".join(bad)


LOADED = """
import sys
import lowering.runtime.load
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_loading_programs_takes_no_compiler():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"xdsl", "llvmlite", "onnx", "torch", "torsh_fx"} & set(done.stdout.split())


def test_the_runtime_loads_llvmlite_inside_functions_only():
    bad = [
        path.name
        for path in modules_of("lowering/runtime")
        for name, top in imports(path)
        if top and name.startswith("llvmlite")
    ]
    assert not bad


def test_frameworks_are_imported_by_importers_only():
    """Elsewhere in torsh_fx, torch and onnx are imported inside functions, when they are needed."""
    bad = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of("torsh_fx")
        if not is_in(path, FRAMEWORK_MODULES)
        for name, top in imports(path)
        if top and name.partition(".")[0] in ("torch", "onnx")
    ]
    assert not bad, "\n".join(bad)


IMPORT = """
import resource, sys, time
import numpy, ml_dtypes
import xdsl.dialects.builtin, xdsl.dialects.func, xdsl.parser, xdsl.pattern_rewriter
def spent():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
start = spent()
import torsh_fx
torsh_fx.compile
print(spent() - start, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_importing_torsh_fx_is_cheap_and_loads_no_framework():
    seconds = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True
        )
        first, *loaded = done.stdout.split()
        seconds.append(float(first))
        assert not {"torch", "onnx", "tensorflow", "onnxruntime"} & set(loaded)
    assert min(seconds) <= 0.5


def test_nothing_of_the_product_is_a_generic_top_level_name():
    """`tools/` is installed as torsh_tools: a package `tools` would hide users' own."""
    text = (ROOT / "pyproject.toml").read_text()
    assert 'torsh_tools = "tools"' in text
