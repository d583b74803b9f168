"""docs/package-distribution.md runs, in order; the example of a migration runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import torsh_package
from tools.torsh_package import main

ROOT = Path(torsh_package.__file__).parents[1]
PAGE = ROOT / "docs" / "package-distribution.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").write_bytes(b"weights")
    blocks = re.findall(r"```(python|sh)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "sh", "python", "sh"]
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), {})
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "torsh-package"
            assert main(arguments) == 0, line
    data = bytearray(Path("net-1.0.0.torshpkg").read_bytes())
    data[200] ^= 1
    Path("net-1.0.0.torshpkg").write_bytes(data)
    assert main(["verify", "net-1.0.0.torshpkg", "--trust", "trust.json"]) == 1


def test_the_example_runs(tmp_path: Path) -> None:
    script = ROOT / "examples" / "package_migration.py"
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, text=True, timeout=200, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "audit records, intact" in done.stdout
    assert (tmp_path / "net.torshpkg").exists()
