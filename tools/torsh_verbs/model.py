"""The model argument of the verbs: options, import and compilation with progress."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lowering.cpu.host import host_target
from lowering.runtime.executable import RunOptions
from lowering.runtime.threads import thread_limit
from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TARGETS, target_named
from torsh_fx.compilation import compile_imported
from torsh_fx.compiler import Stopwatch
from torsh_fx.pipeline import REWRITES
from torsh_fx.sources import import_model, opened

from ..arguments import named_extents, whole
from .console import settings_of
from .inputs import inputs_of_arguments
from .signature import Signature, signature_of

if TYPE_CHECKING:
    from rich.status import Status

    from torsh_fx.compiled import CompiledModule
    from torsh_fx.importers.model import ImportedModel

PACKAGE = ".torshpkg"
"""How the names of packages end."""


def add_model_arguments(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Add the model and how to compile it; `also` says what else the verb takes."""
    parser.add_argument("model", help="a .onnx, .mlir or .pt2 (torch.export) file" + also)
    group = parser.add_argument_group("compilation")
    group.add_argument("--target", choices=TARGETS, help="the machine (default: this one)")
    group.add_argument("--threads", type=whole(1), metavar="N", help="most threads of a call")
    group.add_argument("--numerics", choices=("default", "strict", "fast"), default="default")
    group.add_argument(
        "--disable-rewrite", choices=REWRITES, action="append", default=[], help="may be repeated"
    )
    group.add_argument(
        "--dim",
        metavar="NAME=N|LOW:HIGH",
        type=named_extents,
        action="append",
        default=[],
        help="fix a symbolic extent of an ONNX model, or give it bounds",
    )
    group.add_argument("--no-cache", action="store_true", help="compile everything again")
    group.add_argument("--in-process", action="store_true", help="run LLVM here, for debugging")


@dataclass
class StepsOnTerminal(Stopwatch):
    """Times steps, and shows the current one where standard error is a terminal."""

    quiet: bool = False
    _status: Status | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self.quiet:
            from rich.console import Console

            self._status = Console(stderr=True).status("...")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Time and show a step."""
        if self._status is not None:
            self._status.update(name)
        with super().step(name):
            yield


@dataclass(frozen=True)
class Loaded:
    """A model and where it came from.

    Attributes:
        path: The file.
        ctx: Target and settings.
        imported: The program before optimisation.
        source: What was imported: the path, or the program that it holds.
    """

    path: Path
    ctx: Context
    imported: ImportedModel
    source: Any

    @property
    def signature(self) -> Signature:
        """What goes in and comes out."""
        return signature_of(self.imported)


def import_from(args: argparse.Namespace, watch: Stopwatch) -> Loaded:
    """Import the model that the arguments name.

    Raises:
        TorshError: The file is no model, or has something unknown.
        OSError: The file cannot be read.
    """
    path = Path(args.model)
    settings = settings_of(args.numerics, args.disable_rewrite, in_process=args.in_process)
    target = target_named(args.target) if args.target else host_target()
    ctx = Context(target=target, settings=settings)
    check_model_file(path)
    with watch.step("import"):
        source = opened(path)
        imported = import_model(source, ctx, dynamic_shapes=dict(args.dim) or None)
    return Loaded(path, ctx, imported, source)


def inputs_of_loaded(args: argparse.Namespace, loaded: Loaded) -> list[Any]:
    """The inputs that the arguments give, random where they give none."""
    signature = loaded.signature
    return inputs_of_arguments(args, signature.entry, signature.sequences)


def check_model_file(path: Path) -> None:
    """Refuse what cannot be imported, and say what can be done with it.

    Raises:
        InvalidArgumentError: It is a package, or a folder.
        OSError: It cannot be read.
    """
    if path.is_dir():
        raise InvalidArgumentError(
            f"{path} is a folder, not a model; `lowering.runtime.load.load_program` runs those "
            "that `torsh compile` writes"
        )
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\x03\x04" and path.suffix == PACKAGE
    if archive:
        raise InvalidArgumentError(
            f"{path} is a package: `torsh run` runs it, `torsh-package inspect` shows what is in "
            "it; here the model is needed that it was made from"
        )


def threads_of(args: argparse.Namespace) -> int:
    """The most threads of a call."""
    return thread_limit(args.threads, environ=os.environ).count


def compile_from(args: argparse.Namespace, watch: Stopwatch) -> tuple[Loaded, CompiledModule]:
    """Import and compile the model that the arguments name.

    Raises:
        TorshError: Something of the model cannot be read or compiled.
        OSError: The file cannot be read.
    """
    loaded = import_from(args, watch)
    options = RunOptions(threads_of(args))
    compiled = compile_imported(
        loaded.imported,
        loaded.ctx,
        options,
        cache=not args.no_cache,
        watch=watch,
        source=loaded.source,
    )
    return loaded, compiled
