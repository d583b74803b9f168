"""Runs a function of a package's code in a sandbox and prints its result.

torsh-package run m.torshpkg model:predict @x.npy

Arguments are JSON values; `@file.npy` is an array. Strict mode (the default) confines files,
network, processes, memory and time, and refuses to run where this machine cannot enforce all of
that; --capabilities shows what it can. Arrays in the result are printed, or written by --output.
Compiled models in packages are run by `torsh run`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from torsh_package.canonical_json import JsonValue
from torsh_package.code import Call, Mode, Sandbox, SandboxOptions, probe
from torsh_package.convert.foreign_zip import map_file
from torsh_package.convert.npz_file import read_npy, write_npz
from torsh_package.errors import InvalidArgumentError
from torsh_package.limits import MIB
from torsh_package.storage import LocalStorage

from ..arguments import real, whole
from . import FAILED, OK, USAGE, Output, add_load_arguments, open_package

MOST = 1 << 24
"""Of any limit: half a year in seconds, 16 TiB in MiB."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package", nargs="?")
    parser.add_argument("entry", nargs="?", help="module:function")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="JSON, or @file.npy")
    parser.add_argument("--capabilities", action="store_true", help="show what can be enforced")
    parser.add_argument("--mode", choices=[str(mode) for mode in Mode], default=str(Mode.STRICT))
    parser.add_argument(
        "--memory", type=whole(1, MOST), default=1024, metavar="MIB", help="address space"
    )
    parser.add_argument(
        "--cpu", type=whole(1, MOST), default=10, metavar="SECONDS", help="processor time"
    )
    parser.add_argument(
        "--wall", type=real(0.001, most=MOST), default=30.0, metavar="SECONDS", help="clock time"
    )
    parser.add_argument("--no-numpy", action="store_true", help="keep numpy out of the sandbox")
    parser.add_argument(
        "-o", "--output", metavar="FILE.npz", help="write arrays of the result there"
    )
    add_load_arguments(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    """Runs one call."""
    if args.capabilities:
        found = probe()
        enforced: dict[str, JsonValue] = dict(found.enforced(strict=True))
        out.result(
            {"strict": found.strict, "enforced": enforced, "reasons": list(found.reasons)},
            found.describe,
        )
        return OK if found.strict else FAILED
    if args.package is None or args.entry is None:
        print("torsh-package run: error: give PACKAGE and MODULE:FUNCTION", file=sys.stderr)
        return USAGE
    options = SandboxOptions(
        mode=Mode(args.mode),
        memory=args.memory * MIB,
        cpu_seconds=args.cpu,
        wall_seconds=args.wall,
        numpy=not args.no_numpy,
    )
    with open_package(args.package, args) as package:
        call = Call(package, args.entry, [_argument(text) for text in args.arguments])
        result = Sandbox(options).run_calls([call])
    if result.stderr:
        out.note(result.stderr.rstrip("\n"))
    arrays: dict[str, Any] = {}
    value = _printable(result.value, "result", arrays, keep=args.output is not None)
    if args.output is not None:
        target = Path(args.output)
        with LocalStorage(target.parent).create(target.name) as blob:
            blob.write(write_npz(arrays))
    text = result.stdout + (value if isinstance(value, str) else json.dumps(value))
    out.result({"result": value, "stdout": result.stdout, "stderr": result.stderr}, text)
    return OK


def _argument(text: str) -> object:
    if text.startswith("@"):
        array = read_npy(map_file(Path(text[1:])), entry=text[1:])
        if isinstance(array, str):
            raise InvalidArgumentError(f"holds {array}, not numbers", entry=text[1:])
        return array
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(
            f"argument {text[:80]!r} is no JSON ({error}); write text as '\"...\"'"
        ) from error


def _printable(value: Any, name: str, arrays: dict[str, Any], *, keep: bool) -> JsonValue:
    """The result as JSON; arrays go to `arrays` if they are kept, else they are written out."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(cast("Any", value))
        if keep:
            arrays[name] = array
            return f"{array.dtype} {list(array.shape)} in {name}"
        plain: JsonValue = (
            np.vectorize(str)(array).tolist() if array.dtype.kind == "c" else array.tolist()
        )
        return plain
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        return [_printable(item, f"{name}.{i}", arrays, keep=keep) for i, item in enumerate(items)]
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {k: _printable(v, f"{name}.{k}", arrays, keep=keep) for k, v in pairs.items()}
    return value
