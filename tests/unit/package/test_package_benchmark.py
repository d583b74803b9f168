"""The benchmark of packages runs, small, and its memory row holds; and source code survives."""

import re
import subprocess
import sys
from pathlib import Path

from torsh_package import Package, ResourceType, Sandbox, SandboxOptions
from torsh_package.code import probe

ROOT = Path(__file__).resolve().parents[3]


def test_the_benchmark_prints_every_ratio_of_the_goals(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "package.py"
    done = subprocess.run(
        [sys.executable, str(script), "--megabytes", "8", "--rounds", "1", "--folder",
         str(tmp_path), "--stream-gigabytes", "0.5"],
        text=True, capture_output=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with_goal = re.findall(
        r"^(.+?) +(wall|cpu) +[\d.]+ +([\d.]+) +[\d.]+ +[\d.]+", done.stdout, re.M
    )
    named = {(name.strip(), clock, goal) for name, clock, goal in with_goal}
    for row in (
        ("open, nothing verified yet / safetensors load", "wall", "2.00"),
        ("load, all verified (sha256) / torch.load", "wall", "1.00"),
        ("save (sha256) / torch.save", "cpu", "1.30"),
        *(
            (f"{what} / {cipher} and write", "cpu", "2.00")
            for what in ("encrypt and save (sha256)", "load, decrypt, write (sha256)")
            for cipher in ("AES-256-GCM", "ChaCha20-Poly1305")
        ),
    ):
        assert row in named, done.stdout
    grown = re.search(r"memory growth over a stream of 0\.5 GB: (\d+) MiB", done.stdout)
    assert grown is not None
    assert int(grown[1]) <= 64


def test_bundled_code_survives_and_runs_only_when_told(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"try: open({str(mark)!r}, 'w')\nexcept OSError: pass\ndef f(x): return 2 * x\n"
    package = Package("m", "1.0.0")
    package.add_source_file("model", text)
    package.add_source_file("kernels/fast.rs", "fn main() {}", language="rust")
    package.save(tmp_path / "m.torshpkg")
    loaded = Package.load(tmp_path / "m.torshpkg")
    assert loaded.get_resource("code/model.py").text() == text
    assert loaded.get_resource("code/kernels/fast.rs").text() == "fn main() {}"
    assert loaded.get_resource("code/model.py").type is ResourceType.Source
    assert not mark.exists()
    assert "model" not in sys.modules
    mode = "strict" if probe().strict else "process"
    loaded.code = None
    assert Sandbox(SandboxOptions(mode=mode)).run(loaded, "model:f", 21) == 42
    assert mark.exists() is (mode == "process")
